/* From a stretch of text to words: the pre-tokenizer's steps, each splitting what the last one left. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/unicode.h"

typedef struct Span {
    size_t start, length;
} Span;

/* Words laid end to end in one text. */
typedef struct Words {
    Text text;
    Span *spans;
    size_t count, capacity;
} Words;

static void words_free(Words *words) {
    text_free(&words->text);
    free(words->spans);
    *words = (Words){0};
}

static bool add_word(Words *words, const char *text, size_t length, Error *err) {
    if (length == 0) return true;
    if (!memory_grow(&words->spans, words->count, &words->capacity, sizeof *words->spans, err)) return false;
    words->spans[words->count++] = (Span){words->text.length, length};
    text_add(&words->text, text, length);
    return !words->text.failed || fail(err, "out of memory while splitting a text");
}

static bool split_regex(const SplitStep *step, const Regex *regex, const char *text, size_t length, Words *out,
                        Error *err) {
    for (size_t at = 0; at < length;) {
        size_t start, end;
        if (!regex_find(regex, text, length, at, &start, &end, err)) return false;
        bool keep_between = !step->removed || !step->invert, keep_match = !step->removed || step->invert;
        if (keep_between && !add_word(out, text + at, start - at, err)) return false;
        if (keep_match && !add_word(out, text + start, end - start, err)) return false;
        at = end;
    }
    return true;
}

static bool split_digits(const SplitStep *step, const char *text, size_t length, Words *out, Error *err) {
    size_t from = 0, used;
    bool in_digits = false;
    for (size_t at = 0; at < length; at += used) {
        bool digit = unicode_numeric(utf8_next(text + at, length - at, &used));
        if (at > from && (digit != in_digits || (digit && step->individual))) {
            if (!add_word(out, text + from, at - from, err)) return false;
            from = at;
        }
        in_digits = digit;
    }
    return add_word(out, text + from, length - from, err);
}

static bool add_bytes(const char *text, size_t length, Words *out, Error *err) {
    Text mapped = {0};
    for (size_t i = 0; i < length; i++) utf8_add(&mapped, byte_character((unsigned char)text[i]));
    bool ok = !mapped.failed || fail(err, "out of memory while splitting a text");
    ok = ok && add_word(out, mapped.data, mapped.length, err);
    text_free(&mapped);
    return ok;
}

static bool split_bytes(const SplitStep *step, const char *text, size_t length, Words *out, Error *err) {
    Text spaced = {0};
    if (step->prefix_space && text[0] != ' ') text_add_string(&spaced, " ");
    text_add(&spaced, text, length);
    bool ok = !spaced.failed || fail(err, "out of memory while splitting a text");
    if (ok && !step->regex) ok = add_bytes(spaced.data, spaced.length, out, err);
    for (size_t at = 0; ok && step->regex && at < spaced.length;) {
        size_t start, end;
        ok = regex_find(step->regex, spaced.data, spaced.length, at, &start, &end, err);
        if (ok && start > at) ok = add_bytes(spaced.data + at, start - at, out, err);
        if (ok && end > start) ok = add_bytes(spaced.data + start, end - start, out, err);
        at = end;
    }
    text_free(&spaced);
    return ok;
}

static bool split_metaspace(const SplitStep *step, const char *text, size_t length, bool first, Words *out,
                            Error *err) {
    size_t mark = strlen(step->replacement);
    Text replaced = {0};
    bool starts = text[0] == ' ' || (length >= mark && !memcmp(text, step->replacement, mark));
    if (!starts && (step->scheme == PREPEND_ALWAYS || (step->scheme == PREPEND_FIRST && first)))
        text_add_string(&replaced, step->replacement);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ')
            text_add_string(&replaced, step->replacement);
        else
            text_add(&replaced, text + i, 1);
    }
    bool ok = !replaced.failed || fail(err, "out of memory while splitting a text");
    size_t from = 0;
    for (size_t at = 1; ok && step->split && at + mark <= replaced.length; at++) {
        if (memcmp(replaced.data + at, step->replacement, mark) != 0) continue;
        ok = add_word(out, replaced.data + from, at - from, err);
        from = at;
    }
    ok = ok && add_word(out, replaced.data + from, replaced.length - from, err);
    text_free(&replaced);
    return ok;
}

static bool apply(const SplitStep *step, const char *text, size_t length, bool first, Words *out, Error *err) {
    switch (step->kind) {
    case SPLIT_REGEX:
        return split_regex(step, step->regex, text, length, out, err);
    case SPLIT_DIGITS:
        return split_digits(step, text, length, out, err);
    case SPLIT_BYTES:
        return split_bytes(step, text, length, out, err);
    case SPLIT_METASPACE:
        return split_metaspace(step, text, length, first, out, err);
    }
    return false;
}

bool tokenizer_pretokenize(const Tokenizer *tokenizer, const char *text, size_t length, bool first, Ids *ids,
                           Error *err) {
    Words words = {0};
    bool ok = add_word(&words, text, length, err);
    for (int s = 0; ok && s < tokenizer->split_count; s++) {
        Words next = {0};
        for (size_t i = 0; ok && i < words.count; i++)
            ok = apply(&tokenizer->splits[s], words.text.data + words.spans[i].start, words.spans[i].length,
                       first && i == 0, &next, err);
        words_free(&words);
        words = next;
    }
    for (size_t i = 0; ok && i < words.count; i++)
        ok = tokenizer_merge(tokenizer, words.text.data + words.spans[i].start, words.spans[i].length, ids, err);
    words_free(&words);
    return ok;
}
