#include "data/import_text.h"

#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { LINE_LIMIT = 1000000 };
static const size_t FILE_LIMIT = (size_t)256 << 20;

/* Replaces the text by what `encoding` makes of it. */
static bool decode(TextFile *file, size_t *size, const char *encoding, Error *err) {
    iconv_t converter = iconv_open("UTF-8", encoding);
    if (converter == (iconv_t)-1) return fail(err, "%s: this system cannot read the encoding %s", file->name, encoding);
    char *from = file->text, *made = memory_new(3 * *size + 1, 1, err),
         *to = made; /* 2 bytes give at most 4 of UTF-8 */
    size_t left = *size, room = 3 * *size;
    bool done = made && iconv(converter, &from, &left, &to, &room) != (size_t)-1 && left == 0;
    if (made && !done) {
        fail(err, "%s: byte %zu is not text in the encoding %s", file->name, *size - left, encoding);
        free(made);
    }
    iconv_close(converter);
    if (!done) return false;
    free(file->text);
    file->text = made;
    *size = (size_t)(to - made);
    made[*size] = '\0';
    return true;
}

static size_t lines_before(const char *text, size_t at) {
    size_t count = 0;
    for (size_t i = 0; i < at; i++) count += text[i] == '\n';
    return count;
}

size_t text_bad_byte(const char *text, size_t size) {
    size_t at = 0;
    while (at < size) {
        utf8proc_int32_t character;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &character);
        if (used <= 0) break;
        at += (size_t)used;
    }
    return at;
}

static bool check(const TextFile *file, size_t size, Error *err) {
    size_t bad = text_bad_byte(file->text, size);
    if (bad < size) return fail(err, "%s line %zu: not valid UTF-8", file->name, lines_before(file->text, bad) + 1);
    if (memchr(file->text, '\0', size)) return fail(err, "%s: holds NUL bytes; it is not a text file", file->name);
    for (size_t at = 0, line = 1; at < size; line++) {
        const char *end = memchr(file->text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - file->text) - at : size - at;
        if (length > LINE_LIMIT)
            return fail(err, "%s line %zu: has %zu bytes, more than the %d a line may have", file->name, line, length,
                        LINE_LIMIT);
        at += length + 1;
    }
    return true;
}

static bool starts(const TextFile *file, size_t size, const char *mark) {
    return size >= strlen(mark) && memcmp(file->text, mark, strlen(mark)) == 0;
}

bool text_open(TextFile *file, const char *path, const char *otherwise, Error *err) {
    size_t size = 0;
    *file = (TextFile){.name = path, .text = file_read(path, FILE_LIMIT, &size, err)};
    if (!file->text) return false;
    bool done = true;
    if (otherwise && (starts(file, size, "\xFF\xFE") || starts(file, size, "\xFE\xFF")))
        done = decode(file, &size, "UTF-16", err);
    else if (otherwise && text_bad_byte(file->text, size) < size)
        done = decode(file, &size, otherwise, err);
    done = done && check(file, size, err);
    if (!done) {
        text_close(file);
        return false;
    }
    file->at = file->text + (starts(file, size, "\xEF\xBB\xBF") ? 3 : 0);
    return true;
}

char *text_line(TextFile *file) {
    if (!*file->at) return NULL;
    char *line = file->at;
    size_t length = strcspn(line, "\n");
    file->at = line + length + (line[length] == '\n');
    line[length] = '\0';
    if (length && line[length - 1] == '\r') line[length - 1] = '\0';
    file->line++;
    return line;
}

void text_close(TextFile *file) {
    free(file->text);
    *file = (TextFile){0};
}

static char *trimmed(char *text) {
    text += strspn(text, " \t\r");
    for (size_t length = strlen(text); length && strchr(" \t\r", text[length - 1]); length--) text[length - 1] = '\0';
    return text;
}

int text_split(char *text, char separator, char **fields, int most) {
    for (int count = 0;; count++) {
        char *end = strchr(text, separator);
        if (count == most) return most + 1;
        if (end) *end = '\0';
        fields[count] = trimmed(text);
        if (!end) return count + 1;
        text = end + 1;
    }
}

/* What Windows-1252 has at 0x80..0x9F; 0 where nothing. */
static const utf8proc_int32_t C1[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                        0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                        0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                        0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

char *text_from_c1(const char *text, Error *err) {
    Text made = {0};
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F) {
            utf8proc_uint8_t bytes[4];
            utf8proc_int32_t meant = C1[at[1] - 0x80];
            if (meant) text_add(&made, (const char *)bytes, (size_t)utf8proc_encode_char(meant, bytes));
            at++;
        } else {
            text_add(&made, (const char *)at, 1);
        }
    }
    return text_finish(&made, err);
}

bool pairs_add(TextPairs *pairs, const char *key, const char *value, Error *err) {
    if (!memory_grow(&pairs->items, pairs->count, &pairs->capacity, sizeof *pairs->items, err)) return false;
    TextPair *pair = &pairs->items[pairs->count++];
    *pair = (TextPair){text_copy(key, err), text_copy(value, err)};
    return pair->key && pair->value;
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const TextPair *)a)->key, ((const TextPair *)b)->key);
}

void pairs_sort(TextPairs *pairs) {
    if (pairs->count) qsort(pairs->items, pairs->count, sizeof *pairs->items, by_key);
}

static int key_against(const void *key, const void *pair) { return strcmp(key, ((const TextPair *)pair)->key); }

const char *pairs_find(const TextPairs *pairs, const char *key) {
    const TextPair *found =
        pairs->count ? bsearch(key, pairs->items, pairs->count, sizeof *pairs->items, key_against) : NULL;
    return found ? found->value : NULL;
}

void pairs_free(TextPairs *pairs) {
    for (size_t i = 0; i < pairs->count; i++) {
        free(pairs->items[i].key);
        free(pairs->items[i].value);
    }
    free(pairs->items);
    *pairs = (TextPairs){0};
}
