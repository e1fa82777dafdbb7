/* The parts of a tokenizer: vocabulary, added tokens, normaliser, pre-tokenizer, BPE, decoder. */
#ifndef SEMOLLM_MODEL_TOKENIZER_INTERNAL_H
#define SEMOLLM_MODEL_TOKENIZER_INTERNAL_H

#include "model/regex.h"
#include "model/tokenizer.h"

enum { STEPS_MAX = 8, TOKEN_ID_MAX = 1 << 24 };

typedef struct AddedToken {
    char *content;
    char *match; /* what is looked for: the content, normalised where `normalized` */
    size_t match_length;
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
} AddedToken;

typedef enum NormalizerKind { NORMALIZE_NFC, NORMALIZE_PREPEND, NORMALIZE_REPLACE } NormalizerKind;

typedef struct NormalizerStep {
    NormalizerKind kind;
    char *from, *to;
} NormalizerStep;

typedef enum SplitKind { SPLIT_REGEX, SPLIT_DIGITS, SPLIT_BYTES, SPLIT_METASPACE } SplitKind;
typedef enum PrependScheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } PrependScheme;

typedef struct SplitStep {
    SplitKind kind;
    Regex *regex;      /* SPLIT_REGEX; of SPLIT_BYTES: GPT-2's, or null */
    bool invert;       /* SPLIT_REGEX: what lies between matches is the match */
    bool removed;      /* SPLIT_REGEX: matches are dropped, else isolated */
    bool individual;   /* SPLIT_DIGITS: each digit alone */
    bool prefix_space; /* SPLIT_BYTES */
    PrependScheme scheme;
    bool split;        /* SPLIT_METASPACE */
    char *replacement; /* SPLIT_METASPACE */
} SplitStep;

typedef enum DecoderKind {
    DECODE_BYTES,
    DECODE_REPLACE,
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_METASPACE
} DecoderKind;

typedef struct DecoderStep {
    DecoderKind kind;
    char *from, *to;     /* REPLACE; STRIP and METASPACE: the character in `from` */
    int64_t start, stop; /* STRIP */
    bool keep_first;     /* METASPACE: prepend_scheme never */
} DecoderStep;

typedef struct Merge { /* a slot of the merge table; rank < 0: empty */
    int32_t left, right, rank, made;
} Merge;

struct Tokenizer {
    char *path;
    char **tokens; /* [size], null where no token has the id */
    int32_t size;
    int32_t *slots; /* hash of token texts to ids, -1: empty */
    size_t slot_count;
    Merge *merges;
    size_t merge_slots;
    AddedToken *added; /* longest match first */
    size_t added_count;
    NormalizerStep normalizer[STEPS_MAX];
    int normalizer_count;
    SplitStep splits[STEPS_MAX];
    int split_count;
    DecoderStep decoder[STEPS_MAX];
    int decoder_count;
    int32_t unknown; /* -1: none */
    bool fuse_unknown, byte_fallback, ignore_merges;
    int32_t byte_ids[256]; /* of <0xNN>; -1 */
};

bool tokenizer_load(Tokenizer *tokenizer, const json_t *json, Error *err);

/* Applies the normaliser to a text; the result is added to `out`. */
bool tokenizer_normalize(const Tokenizer *tokenizer, const char *text, size_t length, Text *out, Error *err);

/* Splits a stretch between added tokens and appends its ids. `first`: it begins the whole text. */
bool tokenizer_pretokenize(const Tokenizer *tokenizer, const char *text, size_t length, bool first, Ids *ids,
                           Error *err);

/* Byte-pair encoding of one word. */
bool tokenizer_merge(const Tokenizer *tokenizer, const char *word, size_t length, Ids *ids, Error *err);

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *token, size_t length); /* -1: no such token */
const Merge *tokenizer_find_merge(const Tokenizer *tokenizer, int32_t left, int32_t right);
bool ids_add(Ids *ids, int32_t id, Error *err);

/* GPT-2's alphabet: the character that stands for each byte, and back (-1: for none). */
int32_t byte_character(unsigned char byte);
int character_byte(int32_t character);

#endif
