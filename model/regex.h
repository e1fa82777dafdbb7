/* Regular expressions as Oniguruma reads those of tokenizer.json, run by PCRE2: \s is Unicode's
 * White_Space (PCRE2's holds U+180E as well), and categories hold the characters assigned since the
 * Unicode version that PCRE2 brings. */
#ifndef SEMOLLM_MODEL_REGEX_H
#define SEMOLLM_MODEL_REGEX_H

#include "base/base.h"

typedef struct Regex Regex;

/* `where` names the pattern's place in errors. Safe to use from several threads once made. */
Regex *regex_open(const char *pattern, const char *where, Error *err);
void regex_close(Regex *regex);

/* The first match at or after `from` in valid UTF-8: *start < *end, or both `length` where there is
 * none. Empty matches are passed over. Fails where the pattern needs more work than is reasonable. */
bool regex_find(const Regex *regex, const char *text, size_t length, size_t from, size_t *start, size_t *end,
                Error *err);

/* The pattern that matches `literal` itself; free() it. */
char *regex_escape(const char *literal, Error *err);

#endif
