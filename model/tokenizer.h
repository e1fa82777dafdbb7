/* Tokenizers from a Hugging Face folder's tokenizer.json: byte-level BPE (Qwen, Llama-3, SmolLM2) and
 * SentencePiece-style BPE with byte fallback (Llama-2, Vicuna, TinyLlama). Ids equal those of the
 * `tokenizers` library. A tokenizer is read-only after opening and may be shared by threads. */
#ifndef SEMOLLM_MODEL_TOKENIZER_H
#define SEMOLLM_MODEL_TOKENIZER_H

#include "base/base.h"

typedef struct Tokenizer Tokenizer;

typedef struct Ids {
    int32_t *items;
    size_t count, capacity;
} Ids;

Tokenizer *tokenizer_open(const char *folder, Error *err);
void tokenizer_close(Tokenizer *tokenizer);

/* A stretch of text. Special tokens written in it are recognised where `special`, as in a template;
 * in text that comes from data they are ordinary characters. */
typedef struct TextPiece {
    const char *text;
    size_t length;
    bool special;
} TextPiece;

/* Appends the ids of the pieces, read as one text (merges may cross pieces), to `ids`. No token is
 * added that the text does not hold. */
bool tokenizer_encode(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, Ids *ids, Error *err);

/* The same for text that goes on after other text: what tokenizers put before a text (SentencePiece's ▁)
 * is left away, so that a prompt and its answer, tokenized apart, give the ids they have together. */
bool tokenizer_encode_continued(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, Ids *ids,
                                Error *err);

/* Text of the ids, as tokenizers' decode; malformed UTF-8 becomes U+FFFD as there. Ids beyond the
 * vocabulary show nothing. */
char *tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Error *err);

/* The same, added to `text`, null characters included. */
bool tokenizer_decode_text(const Tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special, Text *text,
                           Error *err);

int32_t tokenizer_id(const Tokenizer *tokenizer, const char *token); /* -1: no such token */
int32_t tokenizer_size(const Tokenizer *tokenizer);                  /* highest id + 1 */
int32_t tokenizer_eos(const Tokenizer *tokenizer);                   /* of tokenizer_config.json; -1: not known */

void ids_free(Ids *ids);

#endif
