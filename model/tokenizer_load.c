/* tokenizer.json into a Tokenizer. What it does not understand it refuses by name. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "model/tokenizer_internal.h"

/* GPT-2's pattern, which the ByteLevel pre-tokenizer splits by. */
static const char GPT2_PATTERN[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static size_t table_size(size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return slots;
}

static size_t token_slot(const Tokenizer *tokenizer, const char *token, size_t length) {
    size_t mask = tokenizer->slot_count - 1, at = (size_t)XXH3_64bits(token, length) & mask;
    for (; tokenizer->slots[at] >= 0; at = (at + 1) & mask) {
        const char *held = tokenizer->tokens[tokenizer->slots[at]];
        if (strlen(held) == length && !memcmp(held, token, length)) break;
    }
    return at;
}

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *token, size_t length) {
    return tokenizer->slots[token_slot(tokenizer, token, length)];
}

static size_t merge_slot(const Tokenizer *tokenizer, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = tokenizer->merge_slots - 1, at = (size_t)XXH3_64bits(&key, sizeof key) & mask;
    while (tokenizer->merges[at].rank >= 0 &&
           (tokenizer->merges[at].left != left || tokenizer->merges[at].right != right))
        at = (at + 1) & mask;
    return at;
}

const Merge *tokenizer_find_merge(const Tokenizer *tokenizer, int32_t left, int32_t right) {
    const Merge *merge = &tokenizer->merges[merge_slot(tokenizer, left, right)];
    return merge->rank < 0 ? NULL : merge;
}

/* ---- vocabulary ---- */

static bool has_nul(const json_t *string) { return strlen(json_string_value(string)) != json_string_length(string); }

static bool put_token(Tokenizer *tokenizer, const char *text, int32_t id, Error *err) {
    size_t slot = token_slot(tokenizer, text, strlen(text));
    if (tokenizer->slots[slot] == id) return true; /* an added token that is in the vocabulary as well */
    if (tokenizer->slots[slot] >= 0)
        return fail(err, "%s: the token \"%s\" has two ids, %d and %d", tokenizer->path, text, tokenizer->slots[slot],
                    id);
    if (tokenizer->tokens[id])
        return fail(err, "%s: the id %d has two tokens, \"%s\" and \"%s\"", tokenizer->path, id, tokenizer->tokens[id],
                    text);
    tokenizer->tokens[id] = text_copy(text, err);
    if (!tokenizer->tokens[id]) return false;
    tokenizer->slots[slot] = id;
    return true;
}

static bool id_of(const Tokenizer *tokenizer, const json_t *value, const char *token, int32_t *id, Error *err) {
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= TOKEN_ID_MAX)
        return fail(err, "%s: the token \"%s\" must have an id between 0 and %d", tokenizer->path, token,
                    TOKEN_ID_MAX - 1);
    *id = (int32_t)number;
    return true;
}

/* Highest id + 1 and the number of tokens of vocabulary and added tokens. */
static bool measure(Tokenizer *tokenizer, json_t *vocab, const json_t *added, size_t *count, Error *err) {
    const char *token;
    json_t *value;
    size_t i;
    int32_t id = 0;
    *count = json_object_size(vocab) + json_array_size(added);
    json_object_foreach(vocab, token, value) {
        if (!id_of(tokenizer, value, token, &id, err)) return false;
        if (id >= tokenizer->size) tokenizer->size = id + 1;
    }
    json_array_foreach(added, i, value) {
        const char *content = NULL;
        if (!json_is_object(value)) return fail(err, "%s: added_tokens[%zu] must be an object", tokenizer->path, i);
        if (!json_get_string(value, "content", &content, tokenizer->path, err)) return false;
        if (!id_of(tokenizer, json_object_get(value, "id"), content, &id, err)) return false;
        if (!content[0]) return fail(err, "%s: added_tokens[%zu] is empty", tokenizer->path, i);
        if (id >= tokenizer->size) tokenizer->size = id + 1;
    }
    /* Ids may have gaps, but a table of mostly gaps is a damaged file's. */
    if ((size_t)tokenizer->size > 8 * *count + 65536)
        return fail(err, "%s: ids go up to %d for %zu tokens", tokenizer->path, tokenizer->size - 1, *count);
    return true;
}

static bool load_vocabulary(Tokenizer *tokenizer, json_t *vocab, const json_t *added, Error *err) {
    size_t count, i;
    if (!measure(tokenizer, vocab, added, &count, err)) return false;
    tokenizer->slot_count = table_size(count);
    tokenizer->tokens = memory_new((size_t)tokenizer->size, sizeof *tokenizer->tokens, err);
    tokenizer->slots = memory_new(tokenizer->slot_count, sizeof *tokenizer->slots, err);
    if (!tokenizer->tokens || !tokenizer->slots) return false;
    memset(tokenizer->slots, 0xff, tokenizer->slot_count * sizeof *tokenizer->slots);
    const char *token;
    json_t *value;
    json_object_foreach(vocab, token,
                        value) if (!put_token(tokenizer, token, (int32_t)json_integer_value(value), err)) return false;
    json_array_foreach(added, i, value) {
        const char *content = json_string_value(json_object_get(value, "content"));
        if (!put_token(tokenizer, content, (int32_t)json_integer_value(json_object_get(value, "id")), err))
            return false;
    }
    for (int b = 0; b < 256; b++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        tokenizer->byte_ids[b] = tokenizer_find(tokenizer, name, (size_t)length);
    }
    return true;
}

/* A merge as "a b" or ["a", "b"]. */
static bool merge_parts(const json_t *entry, const char **left, size_t *left_length, const char **right) {
    if (json_is_string(entry) && !has_nul(entry)) {
        *left = json_string_value(entry);
        const char *space = strchr(*left, ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        *left_length = (size_t)(space - *left);
        *right = space + 1;
    } else if (json_array_size(entry) == 2 && json_is_string(json_array_get(entry, 0)) &&
               json_is_string(json_array_get(entry, 1))) {
        *left = json_string_value(json_array_get(entry, 0));
        *left_length = strlen(*left);
        *right = json_string_value(json_array_get(entry, 1));
    } else {
        return false;
    }
    return *left_length > 0 && **right;
}

static bool load_merge(Tokenizer *tokenizer, const json_t *entry, int32_t rank, Text *joined, Error *err) {
    const char *left, *right;
    size_t left_length;
    if (!merge_parts(entry, &left, &left_length, &right))
        return fail(err, "%s: model.merges[%d] must be two tokens, \"a b\" or [\"a\", \"b\"]", tokenizer->path, rank);
    joined->length = 0;
    text_add(joined, left, left_length);
    text_add_string(joined, right);
    if (joined->failed) return fail(err, "out of memory while reading merges");
    Merge merge = {tokenizer_find(tokenizer, left, left_length), tokenizer_find(tokenizer, right, strlen(right)), rank,
                   tokenizer_find(tokenizer, joined->data, joined->length)};
    if (merge.left < 0 || merge.right < 0 || merge.made < 0)
        return fail(err, "%s: model.merges[%d] (\"%.*s\" with \"%s\") names a token that is not in the vocabulary",
                    tokenizer->path, rank, (int)left_length, left, right);
    tokenizer->merges[merge_slot(tokenizer, merge.left, merge.right)] = merge; /* of a repeated one the last counts */
    return true;
}

static bool load_merges(Tokenizer *tokenizer, const json_t *merges, Error *err) {
    if (!json_is_array(merges)) return fail(err, "%s: model.merges must be an array", tokenizer->path);
    tokenizer->merge_slots = table_size(json_array_size(merges));
    tokenizer->merges = memory_new(tokenizer->merge_slots, sizeof *tokenizer->merges, err);
    if (!tokenizer->merges) return false;
    for (size_t i = 0; i < tokenizer->merge_slots; i++) tokenizer->merges[i].rank = -1;
    Text joined = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(merges); i++)
        ok = load_merge(tokenizer, json_array_get(merges, i), (int32_t)i, &joined, err);
    text_free(&joined);
    return ok;
}

static bool load_model(Tokenizer *tokenizer, const json_t *json, const json_t *added, Error *err) {
    json_t *model = json_object_get(json, "model"), *vocab = json_object_get(model, "vocab");
    const char *type = "BPE", *unknown = NULL, *prefix = "", *suffix = "", *where = tokenizer->path;
    double dropout = 0;
    if (!json_is_object(model)) return fail(err, "%s: \"model\" must be an object", where);
    if (!json_string_or(model, "type", &type, where, err)) return false;
    if (strcmp(type, "BPE") != 0) return fail(err, "%s: a %s model; only BPE can be read", where, type);
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return fail(err, "%s: model.vocab must be an object of tokens and ids", where);
    if (!json_string_or(model, "unk_token", &unknown, where, err) ||
        !json_string_or(model, "continuing_subword_prefix", &prefix, where, err) ||
        !json_string_or(model, "end_of_word_suffix", &suffix, where, err) ||
        !json_number_or(model, "dropout", &dropout, where, err) ||
        !json_bool_or(model, "fuse_unk", &tokenizer->fuse_unknown, where, err) ||
        !json_bool_or(model, "byte_fallback", &tokenizer->byte_fallback, where, err) ||
        !json_bool_or(model, "ignore_merges", &tokenizer->ignore_merges, where, err))
        return false;
    if (prefix[0] || suffix[0]) return fail(err, "%s: a BPE with affixes of words cannot be read", where);
    if (dropout != 0) return fail(err, "%s: BPE dropout cannot be had", where);
    if (!load_vocabulary(tokenizer, vocab, added, err)) return false;
    tokenizer->unknown = unknown ? tokenizer_find(tokenizer, unknown, strlen(unknown)) : -1;
    if (unknown && tokenizer->unknown < 0)
        return fail(err, "%s: unk_token \"%s\" is not in the vocabulary", where, unknown);
    return load_merges(tokenizer, json_object_get(model, "merges"), err);
}

/* ---- normaliser, pre-tokenizer, decoder: one step or a Sequence of them ---- */

typedef bool (*LoadStep)(Tokenizer *tokenizer, const json_t *step, const char *type, const char *where, Error *err);

static bool load_steps(Tokenizer *tokenizer, const json_t *json, const char *list, const char *where, LoadStep load,
                       Error *err) {
    if (!json || json_is_null(json)) return true;
    const char *type = NULL;
    if (!json_get_string(json, "type", &type, where, err)) return false;
    if (strcmp(type, "Sequence") != 0) return load(tokenizer, json, type, where, err);
    const json_t *steps = json_object_get(json, list);
    if (!json_is_array(steps)) return fail(err, "%s: \"%s\" must be an array", where, list);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        if (!json_get_string(step, "type", &type, where, err) || !load(tokenizer, step, type, where, err)) return false;
    }
    return true;
}

static bool too_many(const char *where, Error *err) { return fail(err, "%s: more than %d steps", where, STEPS_MAX); }

static bool copy_member(const json_t *object, const char *key, char **copy, const char *where, Error *err) {
    const char *value;
    return json_get_string(object, key, &value, where, err) && (*copy = text_copy(value, err)) != NULL;
}

static bool load_normalizer(Tokenizer *tokenizer, const json_t *json, const char *type, const char *where, Error *err) {
    if (tokenizer->normalizer_count == STEPS_MAX) return too_many(where, err);
    NormalizerStep *step = &tokenizer->normalizer[tokenizer->normalizer_count++];
    step->kind = NORMALIZE_NFC;
    if (!strcmp(type, "NFC")) return true;
    if (!strcmp(type, "Prepend")) {
        step->kind = NORMALIZE_PREPEND;
        return copy_member(json, "prepend", &step->to, where, err);
    }
    if (strcmp(type, "Replace") != 0) return fail(err, "%s: a %s step cannot be had", where, type);
    step->kind = NORMALIZE_REPLACE;
    if (!copy_member(json_object_get(json, "pattern"), "String", &step->from, where, err) ||
        !copy_member(json, "content", &step->to, where, err))
        return false;
    return step->from[0] || fail(err, "%s: Replace of nothing", where);
}

static bool load_regex_split(SplitStep *step, const json_t *json, const char *where, Error *err) {
    const json_t *pattern = json_object_get(json, "pattern");
    const char *text = NULL, *behavior = NULL;
    step->kind = SPLIT_REGEX;
    if (!json_string_or(pattern, "Regex", &text, where, err) ||
        !json_get_string(json, "behavior", &behavior, where, err) ||
        !json_bool_or(json, "invert", &step->invert, where, err))
        return false;
    step->removed = !strcmp(behavior, "Removed");
    if (!step->removed && strcmp(behavior, "Isolated") != 0)
        return fail(err, "%s: a split's behavior must be Isolated or Removed, found \"%s\"", where, behavior);
    if (text) return (step->regex = regex_open(text, where, err)) != NULL;
    if (!json_get_string(pattern, "String", &text, where, err)) return false;
    char *escaped = regex_escape(text, err);
    if (escaped) step->regex = regex_open(escaped, where, err);
    free(escaped);
    return step->regex != NULL;
}

static bool load_metaspace(const json_t *json, char **replacement, PrependScheme *scheme, bool *split,
                           const char *where, Error *err) {
    const char *name = NULL;
    bool prefix = true;
    if (!copy_member(json, "replacement", replacement, where, err) ||
        !json_string_or(json, "prepend_scheme", &name, where, err) ||
        !json_bool_or(json, "add_prefix_space", &prefix, where, err) || !json_bool_or(json, "split", split, where, err))
        return false;
    if (!(*replacement)[0]) return fail(err, "%s: Metaspace's replacement is empty", where);
    *scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER; /* older files have the flag alone */
    if (name && !strcmp(name, "first"))
        *scheme = PREPEND_FIRST;
    else if (name && !strcmp(name, "never"))
        *scheme = PREPEND_NEVER;
    else if (name && !strcmp(name, "always"))
        *scheme = PREPEND_ALWAYS;
    else if (name)
        return fail(err, "%s: prepend_scheme must be always, first or never, found \"%s\"", where, name);
    return true;
}

static bool load_split(Tokenizer *tokenizer, const json_t *json, const char *type, const char *where, Error *err) {
    if (tokenizer->split_count == STEPS_MAX) return too_many(where, err);
    SplitStep *step = &tokenizer->splits[tokenizer->split_count++];
    if (!strcmp(type, "Split")) return load_regex_split(step, json, where, err);
    if (!strcmp(type, "Digits")) {
        step->kind = SPLIT_DIGITS;
        return json_bool_or(json, "individual_digits", &step->individual, where, err);
    }
    if (!strcmp(type, "Metaspace")) {
        step->kind = SPLIT_METASPACE;
        step->split = true;
        return load_metaspace(json, &step->replacement, &step->scheme, &step->split, where, err);
    }
    if (strcmp(type, "ByteLevel") != 0) return fail(err, "%s: a %s step cannot be had", where, type);
    bool use_regex = true;
    step->kind = SPLIT_BYTES;
    step->prefix_space = true;
    if (!json_bool_or(json, "add_prefix_space", &step->prefix_space, where, err) ||
        !json_bool_or(json, "use_regex", &use_regex, where, err))
        return false;
    return !use_regex || (step->regex = regex_open(GPT2_PATTERN, where, err)) != NULL;
}

static bool load_decoder(Tokenizer *tokenizer, const json_t *json, const char *type, const char *where, Error *err) {
    if (tokenizer->decoder_count == STEPS_MAX) return too_many(where, err);
    DecoderStep *step = &tokenizer->decoder[tokenizer->decoder_count++];
    step->kind = DECODE_BYTES;
    if (!strcmp(type, "ByteLevel")) return true;
    step->kind = DECODE_BYTE_FALLBACK;
    if (!strcmp(type, "ByteFallback")) return true;
    step->kind = DECODE_FUSE;
    if (!strcmp(type, "Fuse")) return true;
    if (!strcmp(type, "Replace")) {
        step->kind = DECODE_REPLACE;
        return copy_member(json_object_get(json, "pattern"), "String", &step->from, where, err) &&
               copy_member(json, "content", &step->to, where, err) &&
               (step->from[0] || fail(err, "%s: Replace of nothing", where));
    }
    if (!strcmp(type, "Strip")) {
        step->kind = DECODE_STRIP;
        return copy_member(json, "content", &step->from, where, err) &&
               (step->from[0] || fail(err, "%s: Strip of nothing", where)) &&
               json_int_or(json, "start", 0, INT32_MAX, &step->start, where, err) &&
               json_int_or(json, "stop", 0, INT32_MAX, &step->stop, where, err);
    }
    if (strcmp(type, "Metaspace") != 0) return fail(err, "%s: a %s step cannot be had", where, type);
    PrependScheme scheme;
    bool split;
    step->kind = DECODE_METASPACE;
    if (!load_metaspace(json, &step->from, &scheme, &split, where, err)) return false;
    step->keep_first = scheme == PREPEND_NEVER;
    return true;
}

/* ---- added tokens ---- */

static int longest_first(const void *a, const void *b) {
    const AddedToken *x = a, *y = b;
    return x->match_length > y->match_length ? -1 : x->match_length < y->match_length;
}

static bool load_added_token(Tokenizer *tokenizer, const json_t *json, Error *err) {
    AddedToken *token = &tokenizer->added[tokenizer->added_count];
    const char *where = tokenizer->path;
    if (!json_bool_or(json, "special", &token->special, where, err) ||
        !json_bool_or(json, "normalized", &token->normalized, where, err) ||
        !json_bool_or(json, "lstrip", &token->lstrip, where, err) ||
        !json_bool_or(json, "rstrip", &token->rstrip, where, err) ||
        !json_bool_or(json, "single_word", &token->single_word, where, err))
        return false;
    tokenizer->added_count++;
    token->id = (int32_t)json_integer_value(json_object_get(json, "id"));
    token->content = text_copy(json_string_value(json_object_get(json, "content")), err);
    if (!token->content) return false;
    Text match = {0};
    if (!token->normalized)
        text_add_string(&match, token->content);
    else if (!tokenizer_normalize(tokenizer, token->content, strlen(token->content), &match, err)) {
        text_free(&match);
        return false;
    }
    token->match_length = match.length;
    token->match = text_finish(&match, err);
    return token->match != NULL;
}

static bool load_added(Tokenizer *tokenizer, const json_t *added, Error *err) {
    tokenizer->added = memory_new(json_array_size(added), sizeof *tokenizer->added, err);
    if (!tokenizer->added) return false;
    for (size_t i = 0; i < json_array_size(added); i++)
        if (!load_added_token(tokenizer, json_array_get(added, i), err)) return false;
    if (tokenizer->added_count)
        qsort(tokenizer->added, tokenizer->added_count, sizeof *tokenizer->added, longest_first);
    return true;
}

bool tokenizer_load(Tokenizer *tokenizer, const json_t *json, Error *err) {
    const json_t *added = json_object_get(json, "added_tokens");
    if (!json_is_object(json)) return fail(err, "%s: must hold a JSON object", tokenizer->path);
    if (added && !json_is_array(added)) return fail(err, "%s: \"added_tokens\" must be an array", tokenizer->path);
    char *where = text_format(err, "%s: normalizer", tokenizer->path);
    char *splits = text_format(err, "%s: pre_tokenizer", tokenizer->path);
    char *decoder = text_format(err, "%s: decoder", tokenizer->path);
    bool ok = where && splits && decoder && load_model(tokenizer, json, added, err) &&
              load_steps(tokenizer, json_object_get(json, "normalizer"), "normalizers", where, load_normalizer, err) &&
              load_steps(tokenizer, json_object_get(json, "pre_tokenizer"), "pretokenizers", splits, load_split, err) &&
              load_steps(tokenizer, json_object_get(json, "decoder"), "decoders", decoder, load_decoder, err) &&
              load_added(tokenizer, added, err);
    free(where);
    free(splits);
    free(decoder);
    return ok;
}
