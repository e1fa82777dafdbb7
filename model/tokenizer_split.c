#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

/* ---- GPT-2's printable stand-ins for bytes ---- */

static bool stands_for_itself(unsigned byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* The others in order: 0-32, 127-160, 173. */
static int32_t stand_in(unsigned byte) {
    if (stands_for_itself(byte)) return (int32_t)byte;
    unsigned rank = byte <= 32 ? byte : byte <= 160 ? 33 + byte - 127 : 67;
    return (int32_t)(256 + rank);
}

int byte_level_byte(int32_t c) {
    if (c < 0) return -1;
    if (c < 256) return stands_for_itself((unsigned)c) ? (int)c : -1;
    if (c > 256 + 67) return -1;
    int rank = (int)c - 256;
    return rank <= 32 ? rank : rank < 67 ? rank - 33 + 127 : 173;
}

void byte_level_add(Text *out, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int32_t c = stand_in((unsigned char)bytes[i]);
        char pair[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        if (c < 0x80)
            text_add(out, &bytes[i], 1);
        else
            text_add(out, pair, 2);
    }
}

/* ---- splitting ---- */

typedef struct Splitting {
    const PreTokenizer *step;
    bool continued;
    Cuts cuts;
    Splits *out;
    Error *err;
} Splitting;

void splits_free(Splits *splits) {
    text_free(&splits->text);
    free(splits->items);
    *splits = (Splits){0};
}

/* Adds bytes start..end of `text` as a split; an empty one is none. */
static bool add_split(Splitting *s, const char *text, size_t start, size_t end, bool first) {
    Splits *out = s->out;
    if (start == end) return true;
    if (!memory_grow(&out->items, out->count, &out->capacity, sizeof *out->items, s->err)) return false;
    out->items[out->count++] = (Split){out->text.length, out->text.length + end - start, first};
    text_add(&out->text, text + start, end - start);
    return true;
}

static bool add_cuts(Splitting *s, const char *text, bool first, bool drop_matches) {
    for (size_t i = 0; i < s->cuts.count; i++) {
        const Cut *cut = &s->cuts.items[i];
        if (drop_matches && cut->match) continue;
        if (!add_split(s, text, cut->start, cut->end, first && cut->start == 0)) return false;
    }
    return true;
}

/* Joins neighbours where both are matches, or neither is. */
static void join_contiguous(Cuts *cuts) {
    size_t kept = 0;
    bool previous = false;
    for (size_t i = 0; i < cuts->count; i++) {
        Cut cut = cuts->items[i];
        if (kept && cut.match == previous)
            cuts->items[kept - 1].end = cut.end;
        else
            cuts->items[kept++] = cut;
        previous = cut.match;
    }
    cuts->count = kept;
}

/* A match joins the stretch before it, unless that is itself a match. */
static void join_previous(Cuts *cuts) {
    size_t kept = 0;
    bool previous = false;
    for (size_t i = 0; i < cuts->count; i++) {
        Cut cut = cuts->items[i];
        if (kept && cut.match && !previous)
            cuts->items[kept - 1].end = cut.end;
        else
            cuts->items[kept++] = cut;
        previous = cut.match;
    }
    cuts->count = kept;
}

/* The same from the other end. */
static void join_next(Cuts *cuts) {
    size_t kept = cuts->count;
    bool previous = false;
    for (size_t i = cuts->count; i-- > 0;) {
        Cut cut = cuts->items[i];
        if (kept < cuts->count && cut.match && !previous)
            cuts->items[kept].start = cut.start;
        else
            cuts->items[--kept] = cut;
        previous = cut.match;
    }
    if (cuts->count) memmove(cuts->items, cuts->items + kept, (cuts->count - kept) * sizeof *cuts->items);
    cuts->count -= kept;
}

static bool add_behaved(Splitting *s, const char *text, bool first, SplitBehavior behavior) {
    switch (behavior) {
    case SPLIT_REMOVED:
        return add_cuts(s, text, first, true);
    case SPLIT_ISOLATED:
        break;
    case SPLIT_CONTIGUOUS:
        join_contiguous(&s->cuts);
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        join_previous(&s->cuts);
        break;
    case SPLIT_MERGED_WITH_NEXT:
        join_next(&s->cuts);
        break;
    }
    return add_cuts(s, text, first, false);
}

static bool split_pattern(Splitting *s, const char *text, size_t length, bool first) {
    if (!pattern_cuts(s->step->pattern, text, length, &s->cuts, s->err)) return false;
    for (size_t i = 0; s->step->invert && i < s->cuts.count; i++) s->cuts.items[i].match = !s->cuts.items[i].match;
    return add_behaved(s, text, first, s->step->behavior);
}

static bool split_digits(Splitting *s, const char *text, size_t length, bool first) {
    size_t from = 0, used;
    s->cuts.count = 0;
    for (size_t at = 0; at < length; at += used) {
        if (!unicode_numeric(utf8_next(text + at, length - at, &used))) continue;
        if (from < at && !cuts_add(&s->cuts, from, at, false, s->err)) return false;
        if (!cuts_add(&s->cuts, at, at + used, true, s->err)) return false;
        from = at + used;
    }
    if (from < length && !cuts_add(&s->cuts, from, length, false, s->err)) return false;
    return add_behaved(s, text, first, s->step->behavior);
}

/* The bytes of splits from `begin` on, rewritten as their stand-ins. */
static bool map_bytes(Splitting *s, size_t begin) {
    Splits *out = s->out;
    if (begin == out->count) return true;
    size_t start = out->items[begin].start, length = out->text.length - start;
    char *raw = memory_new(length, 1, s->err);
    if (!raw) return false;
    memcpy(raw, out->text.data + start, length);
    out->text.length = start;
    for (size_t i = begin; i < out->count; i++) {
        Split *split = &out->items[i];
        const char *bytes = raw + (split->start - start);
        size_t count = split->end - split->start;
        split->start = out->text.length;
        byte_level_add(&out->text, bytes, count);
        split->end = out->text.length;
    }
    free(raw);
    return true;
}

static bool split_byte_level(Splitting *s, const char *text, size_t length, bool first) {
    Text prefixed = {0};
    size_t begin = s->out->count;
    if (s->step->add_prefix_space && text[0] != ' ' && !(first && s->continued)) {
        text_add(&prefixed, " ", 1);
        text_add(&prefixed, text, length);
        text = prefixed.data;
        length = prefixed.length;
    }
    bool done = !prefixed.failed || fail(s->err, "out of memory while splitting a text of %zu bytes", length);
    if (done && s->step->pattern)
        done = pattern_cuts(s->step->pattern, text, length, &s->cuts, s->err) && add_cuts(s, text, first, false);
    else if (done)
        done = add_split(s, text, 0, length, first);
    text_free(&prefixed);
    return done && !s->out->text.failed && map_bytes(s, begin);
}

static bool split_metaspace(Splitting *s, const char *text, size_t length, bool first) {
    const PreTokenizer *step = s->step;
    size_t mark = strlen(step->replacement);
    bool prepend = step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && first);
    bool begins = text[0] == ' ' || (length >= mark && memcmp(text, step->replacement, mark) == 0);
    Text marked = {0};
    if (prepend && !begins && !(first && s->continued)) text_add(&marked, step->replacement, mark);
    for (size_t i = 0; i < length; i++) {
        bool space = text[i] == ' ';
        text_add(&marked, space ? step->replacement : &text[i], space ? mark : 1);
    }
    bool done = !marked.failed || fail(s->err, "out of memory while splitting a text of %zu bytes", length);
    if (done && step->split)
        done = pattern_cuts(step->pattern, marked.data, marked.length, &s->cuts, s->err) &&
               add_behaved(s, marked.data, first, SPLIT_MERGED_WITH_NEXT);
    else if (done)
        done = add_split(s, marked.data, 0, marked.length, first);
    text_free(&marked);
    return done;
}

static bool split_once(Splitting *s, const char *text, size_t length, bool first) {
    switch (s->step->kind) {
    case PRE_SPLIT:
        return split_pattern(s, text, length, first);
    case PRE_DIGITS:
        return split_digits(s, text, length, first);
    case PRE_BYTE_LEVEL:
        return split_byte_level(s, text, length, first);
    case PRE_METASPACE:
        return split_metaspace(s, text, length, first);
    }
    return true;
}

bool pre_tokenize(const Tokenizer *tokenizer, bool continued, Splits *splits, Error *err) {
    Splits in = {0};
    Splitting s = {.continued = continued, .out = splits, .err = err};
    bool done = true;
    for (size_t i = 0; done && i < tokenizer->pre_tokenizer_count; i++) {
        Splits last = *splits;
        *splits = in;
        in = last;
        splits->count = splits->text.length = 0;
        s.step = &tokenizer->pre_tokenizers[i];
        for (size_t k = 0; done && k < in.count; k++) {
            const Split *split = &in.items[k];
            done = split_once(&s, in.text.data + split->start, split->end - split->start, split->first);
        }
    }
    splits_free(&in);
    free(s.cuts.items);
    if (done && splits->text.failed) done = fail(err, "out of memory while splitting a text");
    return done;
}
