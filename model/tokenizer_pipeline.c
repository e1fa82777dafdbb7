/* normalizer, pre_tokenizer and decoder of tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

enum { STEP_LIMIT = 32 };

static const char GPT2_REGEX[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* One step, or a Sequence of them under `members`, each handed to `load`. */
typedef bool (*LoadStep)(Tokenizer *tokenizer, const json_t *step, const char *type, const char *where, Error *err);

static bool load_steps(Tokenizer *tokenizer, const json_t *step, const char *members, const char *where, int depth,
                       LoadStep load, Error *err) {
    const char *type;
    if (!json_is_object(step)) return fail(err, "%s: expected an object or null", where);
    if (!json_get_string(step, "type", &type, where, err)) return false;
    if (strcmp(type, "Sequence") != 0) return load(tokenizer, step, type, where, err);
    const json_t *list = json_object_get(step, members);
    if (!json_is_array(list)) return fail(err, "%s.%s: expected an array", where, members);
    if (depth > 4 || json_array_size(list) > STEP_LIMIT) return fail(err, "%s: too many steps", where);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *inner = text_format(err, "%s.%s[%zu]", where, members, i);
        bool done = inner && load_steps(tokenizer, json_array_get(list, i), members, inner, depth + 1, load, err);
        free(inner);
        if (!done) return false;
    }
    return true;
}

static bool refuse_type(const char *type, const char *where, Error *err) {
    return fail(err, "%s.type \"%.60s\" is not supported", where, type);
}

/* {"String": ...} or {"Regex": ...} */
static Pattern *load_pattern(const json_t *step, const char *where, Error *err) {
    const json_t *pattern = json_object_get(step, "pattern");
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if ((literal && *literal) && !regex) return pattern_literal(literal, err);
    if ((regex && *regex) && !literal) return pattern_regex(regex, where, err);
    fail(err, "%s.pattern: expected {\"String\": text} or {\"Regex\": text}, not empty", where);
    return NULL;
}

static char *load_text(const json_t *step, const char *key, const char *where, Error *err) {
    const char *text;
    return json_get_string(step, key, &text, where, err) ? text_copy(text, err) : NULL;
}

/* A member that is one character. */
static bool load_character(const json_t *step, const char *key, const char **text, int32_t *character,
                           const char *where, Error *err) {
    size_t used = 0;
    if (!json_get_string(step, key, text, where, err)) return false;
    *character = **text ? utf8_next(*text, strlen(*text), &used) : -1;
    return (*character >= 0 && !(*text)[used]) || fail(err, "%s.%s: expected one character", where, key);
}

/* ---- normalizer ---- */

static bool load_normalizer(Tokenizer *t, const json_t *step, const char *type, const char *where, Error *err) {
    if (!memory_grow(&t->normalizers, t->normalizer_count, &t->normalizer_capacity, sizeof *t->normalizers, err))
        return false;
    Normalizer *normalizer = &t->normalizers[t->normalizer_count++];
    *normalizer = (Normalizer){.kind = NORMALIZER_NFC};
    if (strcmp(type, "NFC") == 0) return true;
    if (strcmp(type, "Prepend") == 0) {
        normalizer->kind = NORMALIZER_PREPEND;
        return (normalizer->content = load_text(step, "prepend", where, err)) != NULL;
    }
    if (strcmp(type, "Replace") == 0) {
        normalizer->kind = NORMALIZER_REPLACE;
        return (normalizer->pattern = load_pattern(step, where, err)) &&
               (normalizer->content = load_text(step, "content", where, err));
    }
    return refuse_type(type, where, err);
}

/* ---- pre_tokenizer ---- */

static bool load_split(PreTokenizer *pre, const json_t *step, const char *where, Error *err) {
    static const char *const names[] = {"Removed", "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *behavior;
    pre->kind = PRE_SPLIT;
    if (!(pre->pattern = load_pattern(step, where, err))) return false;
    if (!json_get_string(step, "behavior", &behavior, where, err)) return false;
    for (int i = 0; i < 5; i++)
        if (strcmp(behavior, names[i]) == 0) {
            pre->behavior = (SplitBehavior)i;
            return json_get_bool(step, "invert", &pre->invert, where, err);
        }
    return fail(err, "%s.behavior \"%.60s\" is not known", where, behavior);
}

static bool load_byte_level(PreTokenizer *pre, const json_t *step, const char *where, Error *err) {
    bool use_regex = true;
    pre->kind = PRE_BYTE_LEVEL;
    if (!json_get_bool(step, "add_prefix_space", &pre->add_prefix_space, where, err) ||
        !json_bool_or(step, "use_regex", &use_regex, where, err))
        return false;
    return !use_regex || (pre->pattern = pattern_regex(GPT2_REGEX, where, err));
}

static bool load_digits(PreTokenizer *pre, const json_t *step, const char *where, Error *err) {
    bool individual = false;
    pre->kind = PRE_DIGITS;
    if (!json_get_bool(step, "individual_digits", &individual, where, err)) return false;
    pre->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return true;
}

/* Older files say add_prefix_space where newer ones have prepend_scheme. */
static bool load_prepend_scheme(const json_t *step, PrependScheme *scheme, const char *where, Error *err) {
    static const char *const names[] = {"always", "first", "never"};
    const char *name = "always";
    bool prefix = true;
    if (!json_string_or(step, "prepend_scheme", &name, where, err) ||
        !json_bool_or(step, "add_prefix_space", &prefix, where, err))
        return false;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *scheme = (PrependScheme)i;
            return prefix || *scheme == PREPEND_NEVER ||
                   fail(err, "%s: add_prefix_space false contradicts prepend_scheme \"%s\"", where, name);
        }
    return fail(err, "%s.prepend_scheme \"%.60s\" is not known", where, name);
}

static bool load_metaspace(PreTokenizer *pre, const json_t *step, const char *where, Error *err) {
    const char *replacement;
    int32_t character;
    pre->kind = PRE_METASPACE;
    pre->split = true;
    if (!load_character(step, "replacement", &replacement, &character, where, err)) return false;
    snprintf(pre->replacement, sizeof pre->replacement, "%s", replacement);
    return (pre->pattern = pattern_literal(replacement, err)) && json_bool_or(step, "split", &pre->split, where, err) &&
           load_prepend_scheme(step, &pre->prepend, where, err);
}

static bool load_pre_tokenizer(Tokenizer *t, const json_t *step, const char *type, const char *where, Error *err) {
    if (!memory_grow(&t->pre_tokenizers, t->pre_tokenizer_count, &t->pre_tokenizer_capacity, sizeof *t->pre_tokenizers,
                     err))
        return false;
    PreTokenizer *pre = &t->pre_tokenizers[t->pre_tokenizer_count++];
    *pre = (PreTokenizer){.kind = PRE_SPLIT};
    if (strcmp(type, "Split") == 0) return load_split(pre, step, where, err);
    if (strcmp(type, "Digits") == 0) return load_digits(pre, step, where, err);
    if (strcmp(type, "ByteLevel") == 0) return load_byte_level(pre, step, where, err);
    if (strcmp(type, "Metaspace") == 0) return load_metaspace(pre, step, where, err);
    return refuse_type(type, where, err);
}

/* ---- decoder ---- */

static bool load_strip(Decoder *decoder, const json_t *step, const char *where, Error *err) {
    const char *content;
    decoder->kind = DECODER_STRIP;
    return load_character(step, "content", &content, &decoder->character, where, err) &&
           json_get_int(step, "start", 0, INT32_MAX, &decoder->start, where, err) &&
           json_get_int(step, "stop", 0, INT32_MAX, &decoder->stop, where, err);
}

static bool load_decoder(Tokenizer *t, const json_t *step, const char *type, const char *where, Error *err) {
    if (!memory_grow(&t->decoders, t->decoder_count, &t->decoder_capacity, sizeof *t->decoders, err)) return false;
    Decoder *decoder = &t->decoders[t->decoder_count++];
    *decoder = (Decoder){.kind = DECODER_FUSE};
    if (strcmp(type, "Fuse") == 0) return true;
    if (strcmp(type, "Strip") == 0) return load_strip(decoder, step, where, err);
    if (strcmp(type, "ByteLevel") == 0) decoder->kind = DECODER_BYTE_LEVEL;
    if (strcmp(type, "ByteFallback") == 0) decoder->kind = DECODER_BYTE_FALLBACK;
    if (decoder->kind != DECODER_FUSE) return true;
    if (strcmp(type, "Replace") == 0) {
        decoder->kind = DECODER_REPLACE;
        return (decoder->pattern = load_pattern(step, where, err)) &&
               (decoder->content = load_text(step, "content", where, err));
    }
    if (strcmp(type, "Metaspace") == 0) {
        PrependScheme scheme = PREPEND_ALWAYS;
        const char *replacement;
        decoder->kind = DECODER_METASPACE;
        if (!load_character(step, "replacement", &replacement, &decoder->character, where, err) ||
            !load_prepend_scheme(step, &scheme, where, err))
            return false;
        decoder->drop_first = scheme != PREPEND_NEVER;
        return true;
    }
    return refuse_type(type, where, err);
}

bool tokenizer_load_pipeline(Tokenizer *tokenizer, const json_t *root, Error *err) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre_tokenizer = json_object_get(root, "pre_tokenizer");
    const json_t *decoder = json_object_get(root, "decoder");
    tokenizer->has_decoder = decoder && !json_is_null(decoder);
    if (normalizer && !json_is_null(normalizer) &&
        !load_steps(tokenizer, normalizer, "normalizers", "normalizer", 0, load_normalizer, err))
        return false;
    if (pre_tokenizer && !json_is_null(pre_tokenizer) &&
        !load_steps(tokenizer, pre_tokenizer, "pretokenizers", "pre_tokenizer", 0, load_pre_tokenizer, err))
        return false;
    return !tokenizer->has_decoder || load_steps(tokenizer, decoder, "decoders", "decoder", 0, load_decoder, err);
}
