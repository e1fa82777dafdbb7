/* Host memory whose sizes come from outside: overflow and exhaustion are errors, not crashes. */
#ifndef SEMOLLM_BASE_MEMORY_H
#define SEMOLLM_BASE_MEMORY_H

#include <stddef.h>

#include "base/error.h"

/* `count` zeroed elements of `size` bytes, to be freed with free(); null and an error if they
 * cannot be had. A count of zero gives a pointer that may be freed. */
void *memory_new(size_t count, size_t size, Error *err);

/* Makes room for one more element in a growing array: `*items` holds `count` of `*capacity`. */
bool memory_grow(void *items, size_t count, size_t *capacity, size_t size, Error *err);

char *text_copy(const char *text, Error *err);
__attribute__((format(printf, 2, 3))) char *text_format(Error *err, const char *format, ...);

/* Bytes that are no UTF-8, such as a character cut in two, become "?". */
void text_make_utf8(char *text);

/* A growing string, always null-terminated once anything was added. Running out of memory sets
 * `failed` and drops what follows; text_finish reports it. */
typedef struct Text {
    char *data;
    size_t length, capacity;
    bool failed;
} Text;

void text_add(Text *text, const char *bytes, size_t count);
void text_add_string(Text *text, const char *string);
__attribute__((format(printf, 2, 3))) void text_addf(Text *text, const char *format, ...);
char *text_finish(Text *text, Error *err); /* hands the string over; null on failure */
void text_free(Text *text);

#endif
