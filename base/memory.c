#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *memory_new(size_t count, size_t size, Error *err) {
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) fail(err, "out of memory: %zu elements of %zu bytes could not be had", count, size);
    return memory;
}

bool memory_grow(void *items, size_t count, size_t *capacity, size_t size, Error *err) {
    if (count < *capacity) return true;
    void **array = items;
    size_t wanted = *capacity ? 2 * *capacity : 16, bytes;
    if (wanted < *capacity || __builtin_mul_overflow(wanted, size, &bytes))
        return fail(err, "out of memory: an array of %zu elements cannot grow", *capacity);
    void *grown = realloc(*array, bytes);
    if (!grown) return fail(err, "out of memory: %zu bytes could not be had", bytes);
    *array = grown;
    *capacity = wanted;
    return true;
}

char *text_copy(const char *text, Error *err) {
    char *copy = strdup(text);
    if (!copy) fail(err, "out of memory: a text of %zu bytes could not be copied", strlen(text));
    return copy;
}

char *text_format(Error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        text = NULL;
        fail(err, "out of memory while formatting a text");
    }
    va_end(args);
    return text;
}

/* Bytes of the character at `at`; 0: it is none (RFC 3629: no overlong form, no surrogate, none past U+10FFFF). */
static size_t utf8_length(const unsigned char *at) {
    static const struct {
        unsigned char first, last, low, high; /* of the first byte, of the second */
        size_t length;
    } FORMS[] = {{0x01, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
                 {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
                 {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}};
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        if (*at < FORMS[i].first || *at > FORMS[i].last) continue;
        size_t length = FORMS[i].length;
        if (length > 1 && (at[1] < FORMS[i].low || at[1] > FORMS[i].high)) return 0;
        for (size_t k = 2; k < length; k++)
            if ((at[k] & 0xC0) != 0x80) return 0;
        return length;
    }
    return 0;
}

void text_make_utf8(char *text) {
    while (*text) {
        size_t length = utf8_length((const unsigned char *)text);
        if (length == 0) *text = '?';
        text += length ? length : 1;
    }
}

static bool reserve(Text *text, size_t extra) {
    if (text->failed) return false;
    size_t needed = text->length + extra + 1;
    if (needed <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 128;
    while (capacity < needed) capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void text_add(Text *text, const char *bytes, size_t count) {
    if (!reserve(text, count)) return;
    if (count) memcpy(text->data + text->length, bytes, count);
    text->length += count;
    text->data[text->length] = '\0';
}

void text_add_string(Text *text, const char *string) { text_add(text, string, strlen(string)); }

void text_addf(Text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) text->failed = true;
    if (length >= 0 && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

char *text_finish(Text *text, Error *err) {
    text_add(text, "", 0);
    if (text->failed) {
        text_free(text);
        fail(err, "out of memory while building a text");
        return NULL;
    }
    char *data = text->data;
    *text = (Text){0};
    return data;
}

void text_free(Text *text) {
    free(text->data);
    *text = (Text){0};
}
