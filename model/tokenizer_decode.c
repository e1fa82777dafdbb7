/* Ids back to text, by the decoder's steps over the list of tokens, as in tokenizers. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/unicode.h"

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
        int byte = character_byte(utf8_next(text + at, length - at, &used));
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

static void add_replaced(Text *out, const char *text, size_t length, const char *from, const char *to) {
    size_t size = strlen(from);
    for (size_t at = 0; at < length;) {
        if (at + size <= length && !memcmp(text + at, from, size)) {
            text_add_string(out, to);
            at += size;
        } else {
            text_add(out, text + at++, 1);
        }
    }
}

static void add_stripped(Text *out, const char *text, size_t length, const DecoderStep *step) {
    size_t size = strlen(step->from), start = 0, end = length;
    for (int64_t i = 0; i < step->start && start + size <= end && !memcmp(text + start, step->from, size); i++)
        start += size;
    for (int64_t i = 0; i < step->stop && end >= start + size && !memcmp(text + end - size, step->from, size); i++)
        end -= size;
    text_add(out, text + start, end - start);
}

/* The byte of a token <0xNN>, or -1. */
static int fallback_byte(const char *text, size_t length) {
    static const char HEX[] = "0123456789ABCDEFabcdef";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    if (!strchr(HEX, text[3]) || !strchr(HEX, text[4])) return -1;
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

static bool decode_step(const DecoderStep *step, const Tokens *in, Tokens *out, Error *err) {
    if (step->kind == DECODE_BYTES) return decode_bytes(in, out, err);
    if (step->kind == DECODE_BYTE_FALLBACK) return decode_fallback(in, out, err);
    bool ok = true;
    for (size_t i = 0; ok && i < in->count; i++) {
        const char *text = in->text.data + start_of(in, i);
        size_t length = in->ends[i] - start_of(in, i);
        switch (step->kind) {
        case DECODE_REPLACE:
            add_replaced(&out->text, text, length, step->from, step->to);
            break;
        case DECODE_STRIP:
            add_stripped(&out->text, text, length, step);
            break;
        case DECODE_METASPACE:
            add_replaced(&out->text, text, length, step->from, i == 0 && !step->keep_first ? "" : " ");
            break;
        default:
            text_add(&out->text, text, length);
            break;
        }
        if (step->kind != DECODE_FUSE) ok = end_token(out, err);
    }
    return ok && (step->kind != DECODE_FUSE || end_token(out, err));
}

static bool is_special(const Tokenizer *tokenizer, int32_t id) {
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id == id) return tokenizer->added[i].special;
    return false;
}

static bool collect(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Tokens *tokens,
                    Error *err) {
    for (size_t i = 0; i < count; i++) {
        int32_t id = ids[i];
        if (id < 0 || id >= tokenizer->size || !tokenizer->tokens[id]) continue; /* as tokenizers passes over them */
        if (skip_special && is_special(tokenizer, id)) continue;
        if (tokenizer->decoder_count == 0 && tokens->count > 0) text_add_string(&tokens->text, " ");
        text_add_string(&tokens->text, tokenizer->tokens[id]);
        if (!end_token(tokens, err)) return false;
    }
    return true;
}

char *tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Error *err) {
    Tokens tokens = {0};
    bool ok = collect(tokenizer, ids, count, skip_special, &tokens, err);
    for (int s = 0; ok && s < tokenizer->decoder_count; s++) {
        Tokens next = {0};
        ok = decode_step(&tokenizer->decoder[s], &tokens, &next, err);
        tokens_free(&tokens);
        tokens = next;
    }
    char *text = ok ? text_finish(&tokens.text, err) : NULL;
    tokens_free(&tokens);
    return text;
}
