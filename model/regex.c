#include "model/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "model/unicode.h"

enum { PATTERN_MAX = 10000, MATCH_LIMIT = 50000000, HEAP_LIMIT_KIB = 262144 };

struct Regex {
    pcre2_code *code;
    pcre2_match_context *limits;
    char where[120];
};

static const char WHITE_SPACE[] = "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}"
                                  "\\x{202F}\\x{205F}\\x{3000}";

/* A class member: \p{L} and what joined that category since. */
static void add_category(Text *out, const char *name, size_t length) {
    text_addf(out, "\\p{%.*s}", (int)length, name);
    for (size_t i = 0; i < UNICODE_NEWER_COUNT; i++)
        if (length <= 2 && strncmp(UNICODE_NEWER[i].category, name, length) == 0)
            text_addf(out, "\\x{%X}-\\x{%X}", (unsigned)UNICODE_NEWER[i].low, (unsigned)UNICODE_NEWER[i].high);
}

/* One escape at `at` (a backslash); returns the bytes read, 0 for one that cannot be had. */
static size_t translate_escape(const char *at, bool in_class, Text *out) {
    const char *open = in_class ? "" : "[", *close = in_class ? "" : "]";
    if (at[1] == 's') {
        text_addf(out, "%s%s%s", open, WHITE_SPACE, close);
        return 2;
    }
    if (at[1] == 'S') {
        if (in_class) return 0;
        text_addf(out, "[^%s]", WHITE_SPACE);
        return 2;
    }
    const char *end = at[1] == 'p' && at[2] == '{' ? strchr(at, '}') : NULL;
    if (end && at[3] != '^') {
        text_add_string(out, open);
        add_category(out, at + 3, (size_t)(end - at - 3));
        text_add_string(out, close);
        return (size_t)(end - at) + 1;
    }
    text_add(out, at, at[1] ? 2 : 1);
    return at[1] ? 2 : 1;
}

static bool translate(const char *pattern, Text *out) {
    bool in_class = false;
    for (const char *at = pattern; *at;) {
        if (*at == '\\') {
            size_t used = translate_escape(at, in_class, out);
            if (!used) return false;
            at += used;
            continue;
        }
        if (*at == '[' && !in_class) {
            in_class = true;
            text_add(out, at++, 1);
            if (*at == '^') text_add(out, at++, 1);
            if (*at == ']') text_add(out, at++, 1);
            continue;
        }
        if (*at == ']') in_class = false;
        text_add(out, at++, 1);
    }
    return true;
}

static bool compile(Regex *regex, const char *pattern, Error *err) {
    Text translated = {0};
    if (strlen(pattern) > PATTERN_MAX) return fail(err, "%s: a pattern of over %d bytes", regex->where, PATTERN_MAX);
    if (!translate(pattern, &translated)) {
        text_free(&translated);
        return fail(err, "%s: \\S inside a class cannot be read", regex->where);
    }
    char *text = text_finish(&translated, err);
    if (!text) return false;
    int problem;
    PCRE2_SIZE offset;
    regex->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &problem, &offset, NULL);
    free(text);
    if (!regex->code) {
        PCRE2_UCHAR message[200];
        pcre2_get_error_message(problem, message, sizeof message);
        return fail(err, "%s: the pattern cannot be compiled: %s", regex->where, (const char *)message);
    }
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without it the interpreter does the same */
    regex->limits = pcre2_match_context_create(NULL);
    if (!regex->limits) return fail(err, "out of memory for a pattern");
    pcre2_set_match_limit(regex->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(regex->limits, HEAP_LIMIT_KIB);
    return true;
}

Regex *regex_open(const char *pattern, const char *where, Error *err) {
    Regex *regex = memory_new(1, sizeof *regex, err);
    if (!regex) return NULL;
    snprintf(regex->where, sizeof regex->where, "%s", where);
    if (compile(regex, pattern, err)) return regex;
    regex_close(regex);
    return NULL;
}

void regex_close(Regex *regex) {
    if (!regex) return;
    pcre2_match_context_free(regex->limits);
    pcre2_code_free(regex->code);
    free(regex);
}

static int match_at(const Regex *regex, const char *text, size_t length, size_t from, pcre2_match_data *data) {
    int found = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, data, regex->limits);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        found = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                            regex->limits);
    return found;
}

bool regex_find(const Regex *regex, const char *text, size_t length, size_t from, size_t *start, size_t *end,
                Error *err) {
    *start = *end = length;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (!data) return fail(err, "out of memory while matching a pattern");
    int found = 0;
    while (from < length) {
        found = match_at(regex, text, length, from, data);
        if (found < 0) break;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
        if (span[0] < span[1]) {
            *start = span[0];
            *end = span[1];
            break;
        }
        size_t used;
        if (span[0] >= length) break;
        utf8_next(text + span[0], length - span[0], &used);
        from = span[0] + used;
    }
    pcre2_match_data_free(data);
    if (found >= 0 || found == PCRE2_ERROR_NOMATCH) return true;
    return fail(err, "%s: the pattern takes too much work on a text of %zu bytes (PCRE2 error %d)", regex->where,
                length, found);
}

char *regex_escape(const char *literal, Error *err) {
    Text out = {0};
    for (const char *at = literal; *at; at++) {
        if (strchr("\\^$.[]|()?*+{}#- ", *at)) text_add(&out, "\\", 1);
        text_add(&out, at, 1);
    }
    return text_finish(&out, err);
}
