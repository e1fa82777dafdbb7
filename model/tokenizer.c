#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

static const size_t FILE_LIMIT = (size_t)256 << 20;

/* ---- opening ---- */

static int32_t token_named(const Tokenizer *tokenizer, const json_t *json) {
    const char *name = json_string_value(json_is_object(json) ? json_object_get(json, "content") : json);
    return name ? tokenizer_id(tokenizer, name) : -1;
}

/* eos_token of tokenizer_config.json. The file is not needed, so a bad one is as good as none. */
static int32_t find_eos(const Tokenizer *tokenizer, const char *folder) {
    char *path = path_join(folder, "tokenizer_config.json", NULL);
    json_t *config = path ? json_read_file(path, 16 << 20, NULL) : NULL;
    int32_t eos = token_named(tokenizer, json_object_get(config, "eos_token"));
    json_decref(config);
    free(path);
    return eos;
}

static bool load(Tokenizer *tokenizer, const char *path, Error *err) {
    json_t *root = json_read_file(path, FILE_LIMIT, err);
    if (!root) return false;
    bool done = json_is_object(root) || fail(err, "expected a JSON object");
    done = done && tokenizer_load_model(tokenizer, root, err) && tokenizer_load_pipeline(tokenizer, root, err) &&
           tokenizer_load_added(tokenizer, root, err);
    json_decref(root);
    return done || fail_in(err, "%s", path);
}

Tokenizer *tokenizer_open(const char *folder, Error *err) {
    Tokenizer *tokenizer = memory_new(1, sizeof *tokenizer, err);
    char *path = tokenizer ? path_join(folder, "tokenizer.json", err) : NULL;
    bool done = path && load(tokenizer, path, err);
    free(path);
    if (done) {
        tokenizer->eos = find_eos(tokenizer, folder);
        return tokenizer;
    }
    tokenizer_close(tokenizer);
    return NULL;
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    for (size_t i = 0; i < tokenizer->normalizer_count; i++) {
        pattern_free(tokenizer->normalizers[i].pattern);
        free(tokenizer->normalizers[i].content);
    }
    for (size_t i = 0; i < tokenizer->pre_tokenizer_count; i++) pattern_free(tokenizer->pre_tokenizers[i].pattern);
    for (size_t i = 0; i < tokenizer->decoder_count; i++) {
        pattern_free(tokenizer->decoders[i].pattern);
        free(tokenizer->decoders[i].content);
    }
    free(tokenizer->normalizers);
    free(tokenizer->pre_tokenizers);
    free(tokenizer->decoders);
    free(tokenizer->added_by_id);
    added_free(&tokenizer->added);
    bpe_free(&tokenizer->bpe);
    free(tokenizer);
}

int32_t tokenizer_id(const Tokenizer *tokenizer, const char *token) {
    for (size_t i = 0; i < tokenizer->added.count; i++)
        if (strcmp(tokenizer->added.items[i].content, token) == 0) return tokenizer->added.items[i].id;
    return bpe_id(&tokenizer->bpe, token, strlen(token));
}

int32_t tokenizer_size(const Tokenizer *tokenizer) { return tokenizer->size; }

int32_t tokenizer_eos(const Tokenizer *tokenizer) { return tokenizer->eos; }

void ids_free(Ids *ids) {
    free(ids->items);
    *ids = (Ids){0};
}

/* ---- encoding ----
 * As in tokenizers: added tokens are cut out of the raw text, what lies between is normalized, added
 * tokens that want it are cut out of that, and the rest is split and merged. */

typedef struct Encoding {
    const Tokenizer *tokenizer;
    bool continued;
    Ids *ids;
    Text normalized, beginning;
    AddedMatches raw_matches, matches;
    Spans spans, inner, moved; /* where added tokens may stand: in the text, in a stretch of it, normalized */
    Splits splits;
    BpeWork work;
    Error *err;
} Encoding;

static void encoding_free(Encoding *e) {
    text_free(&e->normalized);
    text_free(&e->beginning);
    free(e->raw_matches.items);
    free(e->matches.items);
    free(e->spans.items);
    free(e->inner.items);
    free(e->moved.items);
    splits_free(&e->splits);
    bpe_work_free(&e->work);
}

static bool add_span(Spans *spans, size_t start, size_t end, Error *err) {
    if (start >= end) return true;
    if (spans->count && spans->items[spans->count - 1].end == start) {
        spans->items[spans->count - 1].end = end;
        return true;
    }
    if (!memory_grow(&spans->items, spans->count, &spans->capacity, sizeof *spans->items, err)) return false;
    spans->items[spans->count++] = (Span){start, end};
    return true;
}

static bool add_id(Ids *ids, int32_t id, Error *err) {
    if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
    ids->items[ids->count++] = id;
    return true;
}

/* Normalized text between added tokens. */
static bool encode_plain(Encoding *e, const char *text, size_t length, bool first) {
    Splits *splits = &e->splits;
    splits->count = splits->text.length = 0;
    if (!memory_grow(&splits->items, 0, &splits->capacity, sizeof *splits->items, e->err)) return false;
    text_add(&splits->text, text, length);
    if (splits->text.failed) return fail(e->err, "out of memory for a text of %zu bytes", length);
    splits->items[splits->count++] = (Split){0, length, first};
    if (!pre_tokenize(e->tokenizer, e->continued, splits, e->err)) return false;
    for (size_t i = 0; i < splits->count; i++) {
        const Split *split = &splits->items[i];
        if (!bpe_encode(&e->tokenizer->bpe, &e->work, splits->text.data + split->start, split->end - split->start,
                        e->ids, e->err))
            return false;
    }
    return true;
}

/* Where `inner` came to lie when the text was normalized: a place in it is as far as its beginning is
 * long, where that beginning stays one. A span of which that cannot be said is left out. */
static bool move_spans(Encoding *e, const char *text, size_t length, bool continued) {
    const Spans *inner = &e->inner;
    e->moved.count = 0;
    if (inner->count == 1 && inner->items[0].start == 0 && inner->items[0].end == length)
        return add_span(&e->moved, 0, e->normalized.length, e->err);
    for (size_t i = 0; i < inner->count; i++) {
        size_t ends[2] = {inner->items[i].start, inner->items[i].end};
        bool known = true;
        for (int k = 0; known && k < 2; k++) {
            if (!normalize(e->tokenizer, text, ends[k], continued, &e->beginning, e->err)) return false;
            known = e->beginning.length <= e->normalized.length &&
                    memcmp(e->beginning.data, e->normalized.data, e->beginning.length) == 0;
            ends[k] = e->beginning.length;
        }
        if (known && !add_span(&e->moved, ends[0], ends[1], e->err)) return false;
    }
    return true;
}

/* Raw text between added tokens. */
static bool encode_between(Encoding *e, const char *text, size_t length, bool first) {
    const AddedTokens *added = &e->tokenizer->added;
    bool continued = first && e->continued;
    if (!normalize(e->tokenizer, text, length, continued, &e->normalized, e->err)) return false;
    e->matches.count = 0;
    if (added->normalized_count && (!move_spans(e, text, length, continued) ||
                                    !added_find(added->normalized, added->normalized_count, e->normalized.data,
                                                e->normalized.length, &e->moved, &e->matches, e->err)))
        return false;
    size_t from = 0;
    for (size_t i = 0; i <= e->matches.count; i++) {
        const AddedMatch *match = i < e->matches.count ? &e->matches.items[i] : NULL;
        size_t end = match ? match->start : e->normalized.length;
        if (end > from && !encode_plain(e, e->normalized.data + from, end - from, first && from == 0)) return false;
        if (match && !add_id(e->ids, match->token->id, e->err)) return false;
        if (match) from = match->end;
    }
    return true;
}

/* The parts of spans that lie within start..end, counted from start. */
static bool cut_spans(Encoding *e, size_t start, size_t end) {
    e->inner.count = 0;
    for (size_t i = 0; i < e->spans.count; i++) {
        Span span = e->spans.items[i];
        if (span.start < start) span.start = start;
        if (span.end > end) span.end = end;
        if (span.start < span.end && !add_span(&e->inner, span.start - start, span.end - start, e->err)) return false;
    }
    return true;
}

static bool encode_text(Encoding *e, const char *text, size_t length) {
    const AddedTokens *added = &e->tokenizer->added;
    if (!added_find(added->plain, added->plain_count, text, length, &e->spans, &e->raw_matches, e->err)) return false;
    size_t from = 0;
    for (size_t i = 0; i <= e->raw_matches.count; i++) {
        const AddedMatch *match = i < e->raw_matches.count ? &e->raw_matches.items[i] : NULL;
        size_t end = match ? match->start : length;
        if (end > from && (!cut_spans(e, from, end) || !encode_between(e, text + from, end - from, from == 0)))
            return false;
        if (match && !add_id(e->ids, match->token->id, e->err)) return false;
        if (match) from = match->end;
    }
    return true;
}

static bool encode_pieces(Encoding *e, const TextPiece *pieces, size_t count) {
    Text text = {0};
    bool done = true;
    text_add(&text, "", 0);
    for (size_t i = 0; done && i < count; i++) {
        size_t start = text.length;
        text_add(&text, pieces[i].text, pieces[i].length);
        if (pieces[i].special) done = add_span(&e->spans, start, start + pieces[i].length, e->err);
    }
    if (done && text.failed) done = fail(e->err, "out of memory for a text to be tokenized");
    size_t valid = done ? utf8_valid(text.data, text.length) : 0;
    if (done && valid < text.length) done = fail(e->err, "the text is not UTF-8 at its byte %zu", valid + 1);
    done = done && encode_text(e, text.data, text.length);
    text_free(&text);
    return done;
}

static bool encode(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, bool continued, Ids *ids,
                   Error *err) {
    Encoding e = {.tokenizer = tokenizer, .continued = continued, .ids = ids, .err = err};
    bool done = encode_pieces(&e, pieces, count);
    encoding_free(&e);
    return done;
}

bool tokenizer_encode(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, Ids *ids, Error *err) {
    return encode(tokenizer, pieces, count, false, ids, err);
}

bool tokenizer_encode_continued(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, Ids *ids,
                                Error *err) {
    return encode(tokenizer, pieces, count, true, ids, err);
}
