/* Ids back to text, by the decoder's steps over the list of tokens, as in tokenizers. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

/* Tokens in turn, each a span of one text. */
typedef struct Tokens {
    Text text;
    size_t *ends;
    size_t count, capacity;
} Tokens;

static void tokens_free(Tokens *tokens) {
    text_free(&tokens->text);
    free(tokens->ends);
    *tokens = (Tokens){0};
}

static size_t start_of(const Tokens *tokens, size_t i) { return i ? tokens->ends[i - 1] : 0; }

/* Ends the token whose text was added since the last. */
static bool end_token(Tokens *tokens, Error *err) {
    if (tokens->text.failed) return fail(err, "out of memory while decoding");
    if (!memory_grow(&tokens->ends, tokens->count, &tokens->capacity, sizeof *tokens->ends, err)) return false;
    tokens->ends[tokens->count++] = tokens->text.length;
    return true;
}

/* Malformed UTF-8 becomes U+FFFD, one for each longest part of a sequence. */
static void add_lossy(Text *out, const char *bytes, size_t length) {
    size_t used;
    for (size_t at = 0; at < length; at += used) {
        if (utf8_next(bytes + at, length - at, &used) < 0)
            utf8_add(out, 0xFFFD);
        else
            text_add(out, bytes + at, used);
    }
}

/* A token of GPT-2's alphabet as bytes; one with any other character as it stands. */
static void add_token_bytes(Text *out, const char *text, size_t length) {
    size_t mark = out->length, used;
    for (size_t at = 0; at < length; at += used) {
        int byte = byte_level_byte(utf8_next(text + at, length - at, &used));
        if (byte < 0) {
            out->length = mark;
            text_add(out, text, length);
            return;
        }
        char c = (char)byte;
        text_add(out, &c, 1);
    }
}

static bool decode_bytes(const Tokens *in, Tokens *out, Error *err) {
    Text bytes = {0};
    for (size_t i = 0; i < in->count; i++)
        add_token_bytes(&bytes, in->text.data + start_of(in, i), in->ends[i] - start_of(in, i));
    bool ok = !bytes.failed || fail(err, "out of memory while decoding");
    if (ok) add_lossy(&out->text, bytes.data, bytes.length);
    text_free(&bytes);
    return ok && end_token(out, err);
}

/* A token without leading and trailing characters of the step's kind, `start` and `stop` of them at most. */
static void add_stripped(Text *out, const char *text, size_t length, const Decoder *step) {
    Text mark = {0};
    utf8_add(&mark, step->character);
    size_t size = mark.length, start = 0, end = length;
    for (int64_t i = 0; i < step->start && start + size <= end && !memcmp(text + start, mark.data, size); i++)
        start += size;
    for (int64_t i = 0; i < step->stop && end >= start + size && !memcmp(text + end - size, mark.data, size); i++)
        end -= size;
    text_add(out, text + start, end - start);
    text_free(&mark);
}

/* Metaspace: the replacement becomes a space, or nothing in the first token where one was prepended. */
static void add_spaced(Text *out, const char *text, size_t length, const Decoder *step, bool drop) {
    size_t used;
    for (size_t at = 0; at < length; at += used) {
        if (utf8_next(text + at, length - at, &used) != step->character)
            text_add(out, text + at, used);
        else if (!drop)
            text_add(out, " ", 1);
    }
}

/* The byte of a token <0xNN>, or -1. */
static int fallback_byte(const char *text, size_t length) {
    static const char HEX[] = "0123456789ABCDEFabcdef";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    if (!text[3] || !strchr(HEX, text[3]) || !text[4] || !strchr(HEX, text[4])) return -1;
    char digits[3] = {text[3], text[4], 0};
    return (int)strtol(digits, NULL, 16);
}

/* A run of byte tokens is text where it is well-formed as a whole, else one U+FFFD a byte. */
static bool end_bytes(Text *bytes, Tokens *out, Error *err) {
    if (bytes->length == 0) return true;
    if (utf8_valid(bytes->data, bytes->length) == bytes->length) {
        text_add(&out->text, bytes->data, bytes->length);
    } else {
        for (size_t i = 0; i < bytes->length; i++) utf8_add(&out->text, 0xFFFD);
    }
    bytes->length = 0;
    return end_token(out, err);
}

static bool decode_fallback(const Tokens *in, Tokens *out, Error *err) {
    Text bytes = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < in->count; i++) {
        const char *text = in->text.data + start_of(in, i);
        size_t length = in->ends[i] - start_of(in, i);
        int byte = fallback_byte(text, length);
        char c = (char)byte;
        if (byte >= 0) {
            text_add(&bytes, &c, 1);
            continue;
        }
        ok = end_bytes(&bytes, out, err);
        text_add(&out->text, text, length);
        ok = ok && end_token(out, err);
    }
    ok = ok && end_bytes(&bytes, out, err);
    text_free(&bytes);
    return ok;
}

static bool decode_token(const Decoder *step, const char *text, size_t length, bool first, Text *out, Error *err) {
    switch (step->kind) {
    case DECODER_REPLACE:
        return pattern_replace(step->pattern, step->content, text, length, out, err);
    case DECODER_STRIP:
        add_stripped(out, text, length, step);
        return true;
    case DECODER_METASPACE:
        add_spaced(out, text, length, step, first && step->drop_first);
        return true;
    default:
        text_add(out, text, length);
        return true;
    }
}

static bool decode_step(const Decoder *step, const Tokens *in, Tokens *out, Error *err) {
    if (step->kind == DECODER_BYTE_LEVEL) return decode_bytes(in, out, err);
    if (step->kind == DECODER_BYTE_FALLBACK) return decode_fallback(in, out, err);
    bool fuse = step->kind == DECODER_FUSE;
    for (size_t i = 0; i < in->count; i++) {
        size_t start = start_of(in, i);
        if (!decode_token(step, in->text.data + start, in->ends[i] - start, i == 0, &out->text, err)) return false;
        if (!fuse && !end_token(out, err)) return false;
    }
    return !fuse || end_token(out, err);
}

/* What a token shows: an added one as the normalizer left it, as that is what the decoder undoes. */
static const char *shown(const Tokenizer *tokenizer, int32_t id, size_t *length) {
    const AddedToken *added = tokenizer->added_by_id[id];
    if (added) {
        *length = added->form_length;
        return added->form;
    }
    if ((size_t)id >= tokenizer->bpe.item_count) return NULL;
    *length = tokenizer->bpe.items[id].length;
    return tokenizer->bpe.items[id].text;
}

/* Ids that stand for nothing (a model may have more rows than its tokenizer has tokens) show nothing. */
static bool collect(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Tokens *tokens,
                    Error *err) {
    text_add(&tokens->text, "", 0);
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        if (ids[i] < 0) return fail(err, "a token id must not be negative, found %d", ids[i]);
        const char *text = ids[i] < tokenizer->size ? shown(tokenizer, ids[i], &length) : NULL;
        if (!text || (skip_special && tokenizer->added_by_id[ids[i]] && tokenizer->added_by_id[ids[i]]->skipped))
            continue;
        if (!tokenizer->has_decoder && tokens->count > 0) text_add(&tokens->text, " ", 1);
        text_add(&tokens->text, text, length);
        if (!end_token(tokens, err)) return false;
    }
    return true;
}

bool tokenizer_decode_text(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Text *text,
                           Error *err) {
    Tokens tokens = {0};
    bool done = collect(tokenizer, ids, count, skip_special, &tokens, err);
    for (size_t i = 0; done && i < tokenizer->decoder_count; i++) {
        Tokens next = {0};
        text_add(&next.text, "", 0);
        done = decode_step(&tokenizer->decoders[i], &tokens, &next, err);
        tokens_free(&tokens);
        tokens = next;
    }
    if (done) text_add(text, tokens.text.data, tokens.text.length);
    if (done && text->failed) done = fail(err, "out of memory while decoding");
    tokens_free(&tokens);
    return done;
}

char *tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Error *err) {
    Text text = {0};
    if (tokenizer_decode_text(tokenizer, ids, count, skip_special, &text, err)) return text_finish(&text, err);
    text_free(&text);
    return NULL;
}
