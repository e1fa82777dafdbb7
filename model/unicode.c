#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

int32_t utf8_next(const char *text, size_t length, size_t *used) {
    const unsigned char *at = (const unsigned char *)text;
    unsigned char lead = at[0];
    *used = 1;
    if (lead < 0x80) return lead;
    if (lead < 0xC2 || lead > 0xF4) return -1;
    size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    int32_t code_point = lead & (0x7F >> size);
    for (; *used < size; ++*used) {
        if (*used == length || at[*used] < low || at[*used] > high) return -1;
        code_point = code_point << 6 | (at[*used] & 0x3F);
        low = 0x80, high = 0xBF;
    }
    return code_point;
}

size_t utf8_valid(const char *text, size_t length) {
    size_t at = 0, used;
    while (at < length && utf8_next(text + at, length - at, &used) >= 0) at += used;
    return at;
}

void utf8_add(Text *text, int32_t code_point) {
    utf8proc_uint8_t bytes[4];
    text_add(text, (const char *)bytes, (size_t)utf8proc_encode_char(code_point, bytes));
}

static bool within(const UnicodeRange *ranges, size_t count, int32_t code_point) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code_point > ranges[middle].high)
            low = middle + 1;
        else if (code_point < ranges[middle].low)
            high = middle;
        else
            return true;
    }
    return false;
}

bool unicode_space(int32_t c) {
    return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Alphabetic is letters, letter numbers, marks and these enclosed letters, which are symbols. */
static const UnicodeRange ENCLOSED_LETTERS[] = {
    {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};

bool unicode_word(int32_t c) {
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || within(ENCLOSED_LETTERS, 4, c);
    }
}

bool unicode_numeric(int32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO ||
           within(UNICODE_NEWER_NUMERIC, UNICODE_NEWER_NUMERIC_COUNT, c);
}

/* ---- NFC ----
 * utf8proc's own reordering is quadratic in the length of a run of marks, and knows newer ones than
 * tokenizers does; so its parts are put together here. */

static bool inert(int32_t c) { return c >= 0x7FD && within(UNICODE_NFC_INERT, UNICODE_NFC_INERT_COUNT, c); }

static int combining_class(int32_t c) { return c < 0x300 || inert(c) ? 0 : utf8proc_get_property(c)->combining_class; }

static size_t decompose(const char *text, size_t length, int32_t *points, size_t room) {
    size_t count = 0, used;
    for (size_t at = 0; at < length; at += used) {
        int32_t c = utf8_next(text + at, length - at, &used);
        if (c < 0xC0 || inert(c)) {
            points[count++] = c;
            continue;
        }
        int boundary = 0;
        utf8proc_ssize_t size = utf8proc_decompose_char(c, points + count, (utf8proc_ssize_t)(room - count),
                                                        UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (size < 0) return SIZE_MAX;
        count += (size_t)size;
    }
    return count;
}

/* Stable counting sort of one run of marks by combining class. */
static void sort_marks(int32_t *points, size_t count, int32_t *spare) {
    size_t place[257] = {0};
    for (size_t i = 0; i < count; i++) place[combining_class(points[i]) + 1]++;
    for (int k = 1; k < 257; k++) place[k] += place[k - 1];
    for (size_t i = 0; i < count; i++) spare[place[combining_class(points[i])]++] = points[i];
    memcpy(points, spare, count * sizeof *points);
}

static void reorder(int32_t *points, size_t count, int32_t *spare) {
    for (size_t i = 0; i < count; i++) {
        if (!combining_class(points[i])) continue;
        size_t end = i + 1;
        while (end < count && combining_class(points[end])) end++;
        if (end - i > 1) sort_marks(points + i, end - i, spare);
        i = end - 1;
    }
}

static bool compose(int32_t *points, size_t count, Text *out) {
    for (size_t i = 0; i < count; i++) {
        size_t end = i;
        while (end < count && !inert(points[end])) end++;
        utf8proc_ssize_t size =
            utf8proc_normalize_utf32(points + i, (utf8proc_ssize_t)(end - i), UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (size < 0) return false;
        for (size_t k = 0; k < (size_t)size; k++) utf8_add(out, points[i + k]);
        if (end < count) utf8_add(out, points[end]);
        i = end;
    }
    return true;
}

bool unicode_nfc(const char *text, size_t length, Text *out, Error *err) {
    size_t plain = 0; /* everything under U+0300 is as it should be */
    while (plain < length && (unsigned char)text[plain] < 0xCC) plain++;
    if (plain == length) {
        text_add(out, text, length);
        return true;
    }
    /* The longest canonical decompositions: 3 code points of 2 bytes, 4 of 3. */
    size_t room = 2 * length + 4;
    int32_t *points = memory_new(room, 2 * sizeof *points, err);
    if (!points) return false;
    size_t count = decompose(text, length, points, room);
    bool done = count != SIZE_MAX;
    if (done) {
        reorder(points, count, points + room);
        done = compose(points, count, out);
    }
    free(points);
    return done || fail(err, "a text of %zu bytes could not be brought into NFC", length);
}
