#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/unicode.h"

static const size_t FILE_BYTES_MAX = (size_t)256 << 20;

/* ---- GPT-2's alphabet: printable bytes stand for themselves, the rest for 256, 257, ... in order ---- */

static bool stands_for_itself(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

int32_t byte_character(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 32) return 256 + byte;
    return byte == 173 ? 256 + 67 : 256 + 33 + byte - 127; /* 127 .. 160, then 173 */
}

int character_byte(int32_t character) {
    if (character >= 0 && character < 256) return stands_for_itself(character) ? character : -1;
    int32_t order = character - 256;
    if (order >= 0 && order <= 32) return order;
    if (order >= 33 && order <= 66) return order - 33 + 127;
    return order == 67 ? 173 : -1;
}

/* ---- opening ---- */

Tokenizer *tokenizer_open(const char *folder, Error *err) {
    Tokenizer *tokenizer = memory_new(1, sizeof *tokenizer, err);
    if (!tokenizer) return NULL;
    tokenizer->path = path_join(folder, "tokenizer.json", err);
    json_t *json = tokenizer->path ? json_read_file(tokenizer->path, FILE_BYTES_MAX, err) : NULL;
    bool ok = json && tokenizer_load(tokenizer, json, err);
    json_decref(json);
    if (ok) return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    for (int32_t i = 0; tokenizer->tokens && i < tokenizer->size; i++) free(tokenizer->tokens[i]);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        free(tokenizer->added[i].content);
        free(tokenizer->added[i].match);
    }
    for (int i = 0; i < tokenizer->normalizer_count; i++) {
        free(tokenizer->normalizer[i].from);
        free(tokenizer->normalizer[i].to);
    }
    for (int i = 0; i < tokenizer->split_count; i++) {
        regex_close(tokenizer->splits[i].regex);
        free(tokenizer->splits[i].replacement);
    }
    for (int i = 0; i < tokenizer->decoder_count; i++) {
        free(tokenizer->decoder[i].from);
        free(tokenizer->decoder[i].to);
    }
    free(tokenizer->tokens);
    free(tokenizer->slots);
    free(tokenizer->merges);
    free(tokenizer->added);
    free(tokenizer->path);
    free(tokenizer);
}

int32_t tokenizer_id(const Tokenizer *tokenizer, const char *token) {
    return tokenizer_find(tokenizer, token, strlen(token));
}

int32_t tokenizer_size(const Tokenizer *tokenizer) { return tokenizer->size; }

bool ids_add(Ids *ids, int32_t id, Error *err) {
    if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
    ids->items[ids->count++] = id;
    return true;
}

void ids_free(Ids *ids) {
    free(ids->items);
    *ids = (Ids){0};
}

/* ---- normalising ---- */

static bool normalize_step(const NormalizerStep *step, const Text *in, Text *out, Error *err) {
    if (step->kind == NORMALIZE_NFC) return unicode_nfc(in->data, in->length, out, err);
    if (step->kind == NORMALIZE_PREPEND) {
        if (in->length) text_add_string(out, step->to);
        text_add(out, in->data, in->length);
        return true;
    }
    size_t size = strlen(step->from);
    for (size_t at = 0; at < in->length;) {
        bool found = at + size <= in->length && !memcmp(in->data + at, step->from, size);
        if (found)
            text_add_string(out, step->to);
        else
            text_add(out, in->data + at, 1);
        at += found ? size : 1;
    }
    return true;
}

bool tokenizer_normalize(const Tokenizer *tokenizer, const char *text, size_t length, Text *out, Error *err) {
    Text now = {0};
    text_add(&now, text, length);
    bool ok = true;
    for (int s = 0; ok && s < tokenizer->normalizer_count; s++) {
        Text next = {0};
        text_add(&next, "", 0);
        ok = !now.failed && normalize_step(&tokenizer->normalizer[s], &now, &next, err);
        text_free(&now);
        now = next;
    }
    if (ok) text_add(out, now.data, now.length);
    if (now.failed || out->failed) ok = fail(err, "out of memory while normalising a text");
    text_free(&now);
    return ok;
}

/* ---- encoding ---- */

/* A text with the bytes where added tokens may be read from; null `special`: everywhere. */
typedef struct Stretch {
    const char *text;
    size_t length;
    const bool *special;
} Stretch;

static bool all_special(const Stretch *stretch, size_t at, size_t length) {
    for (size_t i = 0; stretch->special && i < length; i++)
        if (!stretch->special[at + i]) return false;
    return true;
}

static bool word_before(const Stretch *stretch, size_t at) {
    if (at == 0) return false;
    size_t start = at - 1, used;
    while (start > 0 && ((unsigned char)stretch->text[start] & 0xC0) == 0x80) start--;
    return unicode_word(utf8_next(stretch->text + start, at - start, &used));
}

static bool word_after(const Stretch *stretch, size_t at) {
    size_t used;
    return at < stretch->length && unicode_word(utf8_next(stretch->text + at, stretch->length - at, &used));
}

/* The longest added token of this kind at `at`. */
static const AddedToken *added_at(const Tokenizer *tokenizer, const Stretch *stretch, size_t at, bool normalized) {
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const AddedToken *token = &tokenizer->added[i];
        if (token->normalized != normalized || token->match_length == 0 || token->match_length > stretch->length - at ||
            token->match[0] != stretch->text[at] || memcmp(token->match, stretch->text + at, token->match_length) != 0)
            continue;
        if (all_special(stretch, at, token->match_length)) return token;
    }
    return NULL;
}

static size_t spaces_before(const Stretch *stretch, size_t at, size_t least) {
    size_t used;
    while (at > least) {
        size_t start = at - 1;
        while (start > least && ((unsigned char)stretch->text[start] & 0xC0) == 0x80) start--;
        if (!unicode_space(utf8_next(stretch->text + start, at - start, &used))) break;
        at = start;
    }
    return at;
}

static size_t spaces_after(const Stretch *stretch, size_t at) {
    size_t used;
    while (at < stretch->length && unicode_space(utf8_next(stretch->text + at, stretch->length - at, &used)))
        at += used;
    return at;
}

/* The next added token from `from`: its id and bytes [*start, *end), or -1 and both at the end. */
static int32_t next_added(const Tokenizer *tokenizer, const Stretch *stretch, size_t from, bool normalized,
                          size_t *start, size_t *end) {
    for (size_t at = from; at < stretch->length;) {
        const AddedToken *token = added_at(tokenizer, stretch, at, normalized);
        if (!token) {
            at++;
            continue;
        }
        size_t after = at + token->match_length;
        if (token->single_word && (word_before(stretch, at) || word_after(stretch, after))) {
            at = after;
            continue;
        }
        *start = token->lstrip ? spaces_before(stretch, at, from) : at;
        *end = token->rstrip ? spaces_after(stretch, after) : after;
        return token->id;
    }
    *start = *end = stretch->length;
    return -1;
}

/* Between the added tokens of the raw text: the normalised text, cut at those that are looked for in it. */
static bool encode_normalized(const Tokenizer *tokenizer, const Stretch *raw, bool first, Ids *ids, Error *err) {
    Text text = {0}, prefix = {0};
    bool *special = NULL, ok = tokenizer_normalize(tokenizer, raw->text, raw->length, &text, err);
    if (ok && raw->special && (special = memory_new(text.length, 1, err)) == NULL) ok = false;
    /* Which bytes are special follows the text through the normaliser by the lengths of its beginnings. */
    for (size_t at = 0, done = 0; ok && raw->special && at < raw->length;) {
        size_t end = at;
        while (end < raw->length && raw->special[end] == raw->special[at]) end++;
        prefix.length = 0;
        ok = tokenizer_normalize(tokenizer, raw->text, end, &prefix, err);
        size_t reach = end == raw->length || prefix.length > text.length ? text.length : prefix.length;
        for (; ok && done < reach; done++) special[done] = raw->special[at];
        at = end;
    }
    Stretch stretch = {text.data ? text.data : "", text.length, special};
    for (size_t at = 0; ok && at < stretch.length;) {
        size_t start, end;
        int32_t id = next_added(tokenizer, &stretch, at, true, &start, &end);
        if (start > at)
            ok = tokenizer_pretokenize(tokenizer, stretch.text + at, start - at, first && at == 0, ids, err);
        if (ok && id >= 0) ok = ids_add(ids, id, err);
        at = end;
    }
    free(special);
    text_free(&prefix);
    text_free(&text);
    return ok;
}

static bool encode_stretch(const Tokenizer *tokenizer, const Stretch *stretch, Ids *ids, Error *err) {
    for (size_t at = 0; at < stretch->length;) {
        size_t start, end;
        int32_t id = next_added(tokenizer, stretch, at, false, &start, &end);
        Stretch between = {stretch->text + at, start - at, stretch->special ? stretch->special + at : NULL};
        if (start > at && !encode_normalized(tokenizer, &between, at == 0, ids, err)) return false;
        if (id >= 0 && !ids_add(ids, id, err)) return false;
        at = end;
    }
    return true;
}

bool tokenizer_encode(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, Ids *ids, Error *err) {
    Text text = {0};
    for (size_t i = 0; i < count; i++) text_add(&text, pieces[i].text, pieces[i].length);
    if (text.failed) {
        text_free(&text);
        return fail(err, "out of memory for a text to tokenise");
    }
    size_t valid = utf8_valid(text.data ? text.data : "", text.length);
    bool ok = valid == text.length || fail(err, "the text is not UTF-8: byte %zu of %zu", valid + 1, text.length);
    bool *special = ok ? memory_new(text.length, 1, err) : NULL;
    ok = ok && special;
    for (size_t i = 0, at = 0; ok && i < count; at += pieces[i++].length)
        if (pieces[i].length) memset(special + at, pieces[i].special, pieces[i].length);
    Stretch stretch = {text.data, text.length, special};
    ok = ok && encode_stretch(tokenizer, &stretch, ids, err);
    free(special);
    text_free(&text);
    return ok;
}
