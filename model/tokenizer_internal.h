/* The parts of a tokenizer: added tokens, normalizers, pre-tokenizers, the BPE model, decoders. Text is
 * checked to be UTF-8 at the door; everything in here may rely on that. */
#ifndef SEMOLLM_MODEL_TOKENIZER_INTERNAL_H
#define SEMOLLM_MODEL_TOKENIZER_INTERNAL_H

#include "model/tokenizer.h"
#include "model/unicode.h"

/* ---- patterns (tokenizer_pattern.c): a literal, or Oniguruma's regex run by PCRE2 ---- */

typedef struct Pattern Pattern;

Pattern *pattern_literal(const char *literal, Error *err);
Pattern *pattern_regex(const char *regex, const char *where, Error *err);
void pattern_free(Pattern *pattern);

/* Consecutive stretches that cover a text, each a match of the pattern or what lies between. */
typedef struct Cut {
    size_t start, end;
    bool match;
} Cut;

typedef struct Cuts {
    Cut *items;
    size_t count, capacity;
} Cuts;

bool cuts_add(Cuts *cuts, size_t start, size_t end, bool match, Error *err);
bool pattern_cuts(const Pattern *pattern, const char *text, size_t length, Cuts *cuts, Error *err); /* refills cuts */

/* A text with every match replaced is added to `out`. */
bool pattern_replace(const Pattern *pattern, const char *content, const char *text, size_t length, Text *out,
                     Error *err);

/* ---- normalizers (tokenizer_normalize.c) ---- */

typedef enum NormalizerKind { NORMALIZER_NFC, NORMALIZER_PREPEND, NORMALIZER_REPLACE } NormalizerKind;

typedef struct Normalizer {
    NormalizerKind kind;
    Pattern *pattern;
    char *content;
} Normalizer;

/* Replaces `out`. With `continued` nothing is put before the text. */
bool normalize(const Tokenizer *tokenizer, const char *text, size_t length, bool continued, Text *out, Error *err);

/* ---- pre-tokenizers (tokenizer_split.c) ---- */

typedef enum PreTokenizerKind { PRE_SPLIT, PRE_DIGITS, PRE_BYTE_LEVEL, PRE_METASPACE } PreTokenizerKind;
typedef enum SplitBehavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_CONTIGUOUS,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT
} SplitBehavior;
typedef enum PrependScheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } PrependScheme;

typedef struct PreTokenizer {
    PreTokenizerKind kind;
    SplitBehavior behavior; /* Split, Digits */
    bool invert;            /* Split */
    Pattern *pattern;       /* Split; ByteLevel's own or null; Metaspace's replacement */
    bool add_prefix_space;  /* ByteLevel */
    bool split;             /* Metaspace */
    PrependScheme prepend;  /* Metaspace */
    char replacement[8];    /* Metaspace: one character */
} PreTokenizer;

typedef struct Split {
    size_t start, end;
    bool first; /* it begins where the whole text does */
} Split;

typedef struct Splits {
    Text text;
    Split *items;
    size_t count, capacity;
} Splits;

/* `splits` holds one split with the text; it is rewritten. With `continued` nothing is put before the
 * first split. */
bool pre_tokenize(const Tokenizer *tokenizer, bool continued, Splits *splits, Error *err);
void splits_free(Splits *splits);

void byte_level_add(Text *out, const char *bytes, size_t count); /* each byte's printable stand-in */
int byte_level_byte(int32_t code_point);                         /* and back; -1: stands for none */

/* ---- added tokens (tokenizer_added.c) ---- */

typedef struct AddedToken {
    char *content;
    char *form; /* content as the normalizer leaves it where `normalized`; else the same text */
    size_t form_length;
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
    bool skipped; /* by decoding without special tokens */
} AddedToken;

typedef struct AddedTokens {
    AddedToken *items;
    size_t count, capacity;
    const AddedToken **plain, **normalized; /* sorted by form */
    size_t plain_count, normalized_count;
} AddedTokens;

/* Where added tokens may be recognised. */
typedef struct Span {
    size_t start, end;
} Span;

typedef struct Spans {
    Span *items;
    size_t count, capacity;
} Spans;

typedef struct AddedMatch {
    const AddedToken *token;
    size_t start, end;
} AddedMatch;

typedef struct AddedMatches {
    AddedMatch *items;
    size_t count, capacity;
} AddedMatches;

bool added_index(AddedTokens *added, Error *err); /* after all have been added */
bool added_find(const AddedToken *const *tokens, size_t count, const char *text, size_t length, const Spans *spans,
                AddedMatches *matches, Error *err);
void added_free(AddedTokens *added);

/* ---- the model (tokenizer_bpe.c) ---- */

typedef struct VocabItem {
    char *text; /* null: the id is free */
    size_t length;
} VocabItem;

typedef struct MergeRule {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank; /* UINT32_MAX: the slot is free */
    int32_t result;
} MergeRule;

typedef struct Bpe {
    VocabItem *items; /* by id */
    size_t item_count, item_capacity;
    int32_t *slots; /* hash of texts → id, -1 free */
    size_t slot_mask;
    MergeRule *rules; /* hash of pairs */
    size_t rule_mask;
    int32_t letters[0x400]; /* ids of the first characters alone, -1: none */
    int32_t bytes[256];     /* ids of <0x00> ... <0xFF>, -1: none */
    int32_t unknown;
    bool has_unknown, fuse_unknown, byte_fallback, ignore_merges;
} Bpe;

bool bpe_reserve(Bpe *bpe, size_t tokens, size_t merges, Error *err); /* once, before filling */
bool bpe_add(Bpe *bpe, const char *text, int64_t id, Error *err);
bool bpe_add_merge(Bpe *bpe, const char *left, size_t left_length, const char *right, size_t right_length,
                   uint32_t rank, Error *err);
void bpe_finish(Bpe *bpe); /* fills the tables of characters and bytes */
int32_t bpe_id(const Bpe *bpe, const char *text, size_t length);
void bpe_free(Bpe *bpe);

typedef struct BpeSymbol {
    int32_t id, previous, next;
    uint32_t length; /* 0: merged into its left neighbour */
} BpeSymbol;

typedef struct BpeMerge {
    uint32_t rank, place;
    int32_t result;
} BpeMerge;

typedef struct BpeWork {
    BpeSymbol *symbols;
    size_t symbol_count, symbol_capacity;
    BpeMerge *heap;
    size_t heap_count, heap_capacity;
} BpeWork;

bool bpe_encode(const Bpe *bpe, BpeWork *work, const char *text, size_t length, Ids *ids, Error *err);
void bpe_work_free(BpeWork *work);

/* ---- decoders (tokenizer_decode.c) ---- */

typedef enum DecoderKind {
    DECODER_BYTE_LEVEL,
    DECODER_REPLACE,
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE,
    DECODER_STRIP,
    DECODER_METASPACE
} DecoderKind;

typedef struct Decoder {
    DecoderKind kind;
    Pattern *pattern;    /* Replace */
    char *content;       /* Replace */
    int32_t character;   /* Strip, Metaspace */
    int64_t start, stop; /* Strip */
    bool drop_first;     /* Metaspace: the first token's replacements vanish */
} Decoder;

/* ---- the whole ---- */

struct Tokenizer {
    Bpe bpe;
    AddedTokens added;
    const AddedToken **added_by_id; /* [size], null where none */
    int32_t size;
    Normalizer *normalizers;
    size_t normalizer_count, normalizer_capacity;
    PreTokenizer *pre_tokenizers;
    size_t pre_tokenizer_count, pre_tokenizer_capacity;
    Decoder *decoders;
    size_t decoder_count, decoder_capacity;
    bool has_decoder;
    int32_t eos;
};

bool tokenizer_load_model(Tokenizer *tokenizer, const json_t *root, Error *err);    /* tokenizer_load.c */
bool tokenizer_load_added(Tokenizer *tokenizer, const json_t *root, Error *err);    /* after the other two */
bool tokenizer_load_pipeline(Tokenizer *tokenizer, const json_t *root, Error *err); /* tokenizer_pipeline.c */

#endif
