/* Writing pages of HTML. Whatever comes from data goes through html_text, between tags or inside a quoted attribute, so
 * that it can never become markup or script. A page is well-formed XML too: any XML parser can check that. Private to
 * data/. */
#ifndef SEMOLLM_DATA_HTML_H
#define SEMOLLM_DATA_HTML_H

#include "base/base.h"

/* Escapes markup and quotes; what no page may hold (control characters, bytes that are not UTF-8) becomes U+FFFD. Null
 * writes nothing. html_text_most ends with an ellipsis after `most` characters. */
void html_text(FILE *out, const char *text);
void html_text_most(FILE *out, const char *text, size_t most);

void html_count(FILE *out, int64_t count);                /* 1,440 */
void html_decimal(FILE *out, double value, int decimals); /* with a true minus; a dash where there is none */
void html_base64(FILE *out, const unsigned char *data, size_t size);

#endif
