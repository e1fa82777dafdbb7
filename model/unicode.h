/* Unicode as the `tokenizers` library sees it. Its parts carry tables of different ages: Oniguruma's
 * classes are Unicode 16, Rust's is_numeric 17, and its NFC is Unicode 9, while the installed PCRE2 and
 * utf8proc have whatever their version brought (14 and 15 in Debian 12). The differences are spelled
 * out in unicode_ranges.c (made by tests/oracle/unicode_ranges.py). */
#ifndef SEMOLLM_MODEL_UNICODE_H
#define SEMOLLM_MODEL_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/* The code point at `text` and its bytes in *used; -1 for malformed UTF-8, *used then being the
 * longest prefix of a well-formed sequence (at least 1), which decoders replace by one U+FFFD. */
int32_t utf8_next(const char *text, size_t length, size_t *used);

/* Offset of the first malformed byte, or `length` where there is none. */
size_t utf8_valid(const char *text, size_t length);

void utf8_add(Text *text, int32_t code_point);

bool unicode_space(int32_t code_point);   /* White_Space */
bool unicode_word(int32_t code_point);    /* \w of Rust's regex: alphabetic, marks, digits, connectors, joiners */
bool unicode_numeric(int32_t code_point); /* Rust's char::is_numeric */

bool unicode_nfc(const char *text, size_t length, Text *out, Error *err);

/* ---- tables ---- */

typedef struct UnicodeRange {
    int32_t low, high;
} UnicodeRange;

typedef struct UnicodeCategoryRange {
    int32_t low, high;
    char category[3];
} UnicodeCategoryRange;

/* Assigned after Unicode 14, up to 16, with their general category, sorted. */
extern const UnicodeCategoryRange UNICODE_NEWER[];
extern const size_t UNICODE_NEWER_COUNT;

/* Numeric in Unicode 17 but not in 14, sorted. */
extern const UnicodeRange UNICODE_NEWER_NUMERIC[];
extern const size_t UNICODE_NEWER_NUMERIC_COUNT;

/* Combining or (de)composing since after Unicode 9: NFC leaves them where they are, sorted. */
extern const UnicodeRange UNICODE_NFC_INERT[];
extern const size_t UNICODE_NFC_INERT_COUNT;

#endif
