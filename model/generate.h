/* Generation and ranking over a decoder session's KV cache. */
#ifndef SEMOLLM_MODEL_GENERATE_H
#define SEMOLLM_MODEL_GENERATE_H

#include "base/base.h"
#include "kernels/kernels.h"

typedef struct GenerateOptions {
    int max_new, min_new;
    int beams;                /* 1: no beam search */
    float temperature;        /* 0: greedy */
    float top_p;              /* 1: all */
    float repetition_penalty; /* 1: none; as transformers' processor */
    uint64_t seed;
    const int32_t *stop; /* ids that end an answer */
    int stop_count;
} GenerateOptions;

typedef struct Generated {
    int32_t *ids; /* without the stop token; free() it */
    int count;
    bool stopped;          /* false: cut at max_new */
    double log_likelihood; /* of the tokens chosen, under the model */
} Generated;

typedef struct Candidate {
    const int32_t *ids;
    int count;
} Candidate;

typedef struct DecoderSession DecoderSession;

/* Prompts as packed rows of embeddings in device memory (ids through decoder_embed, speech rows from
 * the adapter). */
typedef struct Prompts {
    Tensor embeddings; /* [cu[count], d] */
    int count;
    const int32_t *cu;     /* [count + 1], host */
    const int32_t *ids;    /* [cu[count]], host, -1 at speech rows: what the repetition penalty sees besides
                              generated tokens. Null: generated tokens alone */
    const int32_t *sample; /* [count], host: keys of sampling; null: 0 .. count - 1 */
} Prompts;

GenerateOptions generate_options_default(void); /* greedy, 128 new tokens, no stop ids */

/* Answers in results[count], to be freed with generated_free. Uses the session's slots from 0 on, so many
 * prompts at a time as slots / beams allow. Greedy, sampling and beam search (no early stopping, length
 * penalty 1) choose as transformers' generate does. */
bool generate(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, Generated *results,
              Error *err);
void generated_free(Generated *results, int count);

/* scores[p · candidates + c] = log-likelihood of candidate c as the continuation of prompt p; an empty
 * candidate scores 0. */
bool rank_candidates(DecoderSession *session, const Prompts *prompts, const Candidate *candidates, int candidate_count,
                     double *scores, Error *err);

#endif
