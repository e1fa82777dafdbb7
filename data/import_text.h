/* Text files that come with a corpus, a line at a time, and pairs of texts to be looked up. Private to data/. */
#ifndef SEMOLLM_DATA_IMPORT_TEXT_H
#define SEMOLLM_DATA_IMPORT_TEXT_H

#include "base/base.h"

typedef struct TextFile {
    const char *name;
    char *text, *at;
    size_t line; /* of the line read last, from 1 */
} TextFile;

/* The file must be UTF-8 without NUL and without lines of more than a million bytes; or, where `otherwise` names an
 * encoding of iconv's, that; a byte order mark of UTF-16 is honoured. */
bool text_open(TextFile *file, const char *path, const char *otherwise, Error *err);
char *text_line(TextFile *file); /* without its line break; null at the end */
void text_close(TextFile *file);

/* The first byte that is not UTF-8; `size` where all is. */
size_t text_bad_byte(const char *text, size_t size);

/* Cuts `text` at `separator` into at most `most` fields, blanks around each dropped; how many there are (more than
 * `most` count as most + 1). */
int text_split(char *text, char separator, char **fields, int most);

/* A copy with U+0080..U+009F as what Windows-1252 means by them: text that was once taken for Latin-1. */
char *text_from_c1(const char *text, Error *err);

typedef struct TextPair {
    char *key, *value;
} TextPair;

typedef struct TextPairs {
    TextPair *items;
    size_t count, capacity;
} TextPairs;

bool pairs_add(TextPairs *pairs, const char *key, const char *value, Error *err);
void pairs_sort(TextPairs *pairs);                               /* before the first look-up */
const char *pairs_find(const TextPairs *pairs, const char *key); /* null where there is none */
void pairs_free(TextPairs *pairs);

#endif
