/* model and added_tokens of tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

enum { ID_LIMIT = 1 << 22, TOKEN_LIMIT = 1 << 16 };

static const json_t *object_member(const json_t *object, const char *key, const char *where, Error *err) {
    const json_t *member = json_object_get(object, key);
    if (json_is_object(member)) return member;
    fail(err, "%s: expected an object \"%s\"", where, key);
    return NULL;
}

static bool load_vocab(Bpe *bpe, json_t *vocab, Error *err) {
    const char *text;
    json_t *id;
    json_object_foreach(vocab, text, id) {
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value >= ID_LIMIT)
            return fail(err, "model.vocab: the id of \"%.60s\" must be an integer from 0 to %d", text, ID_LIMIT - 1);
        if (strlen(text) > TOKEN_LIMIT) return fail(err, "model.vocab: a token of %zu bytes is too long", strlen(text));
        if (!bpe_add(bpe, text, value, err)) return false;
    }
    return true;
}

/* "left right" */
static bool load_merge_text(Bpe *bpe, const char *text, uint32_t rank, Error *err) {
    const char *space = strchr(text, ' ');
    if (!space || strchr(space + 1, ' '))
        return fail(err, "model.merges[%u]: expected two tokens with a space between, found \"%.60s\"", rank, text);
    return bpe_add_merge(bpe, text, (size_t)(space - text), space + 1, strlen(space + 1), rank, err);
}

static bool load_merge(Bpe *bpe, const json_t *merge, uint32_t rank, Error *err) {
    if (json_is_string(merge)) return load_merge_text(bpe, json_string_value(merge), rank, err);
    const char *left = json_string_value(json_array_get(merge, 0));
    const char *right = json_string_value(json_array_get(merge, 1));
    if (!json_is_array(merge) || json_array_size(merge) != 2 || !left || !right)
        return fail(err, "model.merges[%u]: expected \"left right\" or [\"left\", \"right\"]", rank);
    return bpe_add_merge(bpe, left, strlen(left), right, strlen(right), rank, err);
}

static bool load_merges(Bpe *bpe, const json_t *merges, Error *err) {
    uint32_t rank = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        bool version = json_is_string(merge) && strncmp(json_string_value(merge), "#version", 8) == 0;
        if (!version && !load_merge(bpe, merge, rank++, err)) return false;
    }
    return true;
}

static bool refuse_filled(const json_t *model, const char *key, Error *err) {
    const char *value = "";
    if (!json_string_or(model, key, &value, "model", err)) return false;
    return !*value || fail(err, "model.%s is \"%s\"; only tokenizers without it are supported", key, value);
}

static bool load_unknown(Bpe *bpe, const json_t *model, Error *err) {
    const char *unknown = NULL;
    if (!json_string_or(model, "unk_token", &unknown, "model", err)) return false;
    if (!unknown) return true;
    bpe->has_unknown = true;
    bpe->unknown = bpe_id(bpe, unknown, strlen(unknown));
    return bpe->unknown >= 0 || fail(err, "model.unk_token \"%s\" is not in model.vocab", unknown);
}

static bool check_type(const json_t *model, Error *err) {
    const char *type = "BPE";
    double dropout = 0;
    if (!json_string_or(model, "type", &type, "model", err)) return false;
    if (strcmp(type, "BPE") != 0) return fail(err, "model.type is \"%s\"; only \"BPE\" is supported", type);
    if (!json_number_or(model, "dropout", &dropout, "model", err)) return false;
    if (dropout != 0) return fail(err, "model.dropout is %g; only tokenizers without it are supported", dropout);
    return refuse_filled(model, "continuing_subword_prefix", err) && refuse_filled(model, "end_of_word_suffix", err);
}

bool tokenizer_load_model(Tokenizer *tokenizer, const json_t *root, Error *err) {
    Bpe *bpe = &tokenizer->bpe;
    const json_t *model = object_member(root, "model", "tokenizer.json", err);
    if (!model || !check_type(model, err)) return false;
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_object(vocab)) return fail(err, "model.vocab: expected an object of tokens and ids");
    if (!json_is_array(merges)) return fail(err, "model.merges: expected an array");
    if (!bpe_reserve(bpe, json_object_size(vocab), json_array_size(merges), err)) return false;
    if (!load_vocab(bpe, vocab, err) || !load_merges(bpe, merges, err)) return false;
    bpe_finish(bpe);
    return json_bool_or(model, "fuse_unk", &bpe->fuse_unknown, "model", err) &&
           json_bool_or(model, "byte_fallback", &bpe->byte_fallback, "model", err) &&
           json_bool_or(model, "ignore_merges", &bpe->ignore_merges, "model", err) && load_unknown(bpe, model, err);
}

/* ---- added tokens ---- */

static bool load_flags(AddedToken *token, const json_t *json, const char *where, Error *err) {
    return json_get_bool(json, "special", &token->special, where, err) &&
           json_get_bool(json, "normalized", &token->normalized, where, err) &&
           json_get_bool(json, "lstrip", &token->lstrip, where, err) &&
           json_get_bool(json, "rstrip", &token->rstrip, where, err) &&
           json_get_bool(json, "single_word", &token->single_word, where, err);
}

/* The text to look for, and with it what decoding shows. */
static bool load_form(const Tokenizer *tokenizer, AddedToken *token, Error *err) {
    Text form = {0};
    bool done = true;
    if (token->normalized)
        done = normalize(tokenizer, token->content, strlen(token->content), false, &form, err);
    else
        text_add_string(&form, token->content);
    token->form_length = form.length;
    if (!done || !(token->form = text_finish(&form, err))) {
        text_free(&form);
        return false;
    }
    return true;
}

/* As tokenizers does, a token keeps the id the vocabulary gives it, and others are numbered on from its
 * end; a file whose own numbers say otherwise contradicts itself. */
static bool check_id(const Tokenizer *tokenizer, const AddedToken *token, int32_t *next, const char *where,
                     Error *err) {
    int32_t known = bpe_id(&tokenizer->bpe, token->content, strlen(token->content));
    int32_t expected = known >= 0 ? known : (*next)++;
    if (token->id == expected) return true;
    return fail(err, "%s: \"%s\" has id %d where the vocabulary leads to %d", where, token->content, token->id,
                expected);
}

static bool load_added(Tokenizer *tokenizer, const json_t *json, const char *where, int32_t *next, Error *err) {
    AddedTokens *added = &tokenizer->added;
    const char *content;
    int64_t id;
    if (!json_is_object(json)) return fail(err, "%s: expected an object", where);
    if (!json_get_string(json, "content", &content, where, err) ||
        !json_get_int(json, "id", 0, ID_LIMIT - 1, &id, where, err))
        return false;
    if (!*content || strlen(content) > TOKEN_LIMIT)
        return fail(err, "%s.content: a token of %zu bytes makes no sense", where, strlen(content));
    if (!memory_grow(&added->items, added->count, &added->capacity, sizeof *added->items, err)) return false;
    AddedToken *token = &added->items[added->count++];
    *token = (AddedToken){.id = (int32_t)id};
    if (!(token->content = text_copy(content, err)) || !load_flags(token, json, where, err)) return false;
    return check_id(tokenizer, token, next, where, err) && load_form(tokenizer, token, err);
}

static bool is_special(const AddedTokens *added, const char *text) {
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i].special && strcmp(added->items[i].content, text) == 0) return true;
    return false;
}

static bool index_ids(Tokenizer *tokenizer, Error *err) {
    AddedTokens *added = &tokenizer->added;
    tokenizer->size = (int32_t)tokenizer->bpe.item_count;
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i].id >= tokenizer->size) tokenizer->size = added->items[i].id + 1;
    tokenizer->added_by_id = memory_new((size_t)tokenizer->size, sizeof *tokenizer->added_by_id, err);
    if (!tokenizer->added_by_id) return false;
    for (size_t i = 0; i < added->count; i++) {
        AddedToken *token = &added->items[i];
        token->skipped = strcmp(token->form, token->content) == 0 ? token->special : is_special(added, token->form);
        if (tokenizer->added_by_id[token->id]) return fail(err, "added_tokens: id %d stands there twice", token->id);
        tokenizer->added_by_id[token->id] = token;
    }
    return true;
}

bool tokenizer_load_added(Tokenizer *tokenizer, const json_t *root, Error *err) {
    const json_t *tokens = json_object_get(root, "added_tokens");
    if (tokens && !json_is_null(tokens) && !json_is_array(tokens)) return fail(err, "added_tokens: expected an array");
    size_t known = 0;
    for (size_t i = 0; i < tokenizer->bpe.item_count; i++) known += tokenizer->bpe.items[i].text != NULL;
    int32_t next = (int32_t)known;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        char where[48];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        if (!load_added(tokenizer, json_array_get(tokens, i), where, &next, err)) return false;
    }
    return added_index(&tokenizer->added, err) && index_ids(tokenizer, err);
}
