/* What greedy search, sampling, beams and ranking share; private to them. */
#ifndef SEMOLLM_MODEL_GENERATE_INTERNAL_H
#define SEMOLLM_MODEL_GENERATE_INTERNAL_H

#include "model/decoder.h"
#include "model/generate.h"

/* Marks in seen[vocab] the ids that the repetition penalty falls on before anything is generated. */
void mark_prompt(const Prompts *prompts, int prompt, bool *seen, int vocab);

/* Whether process_scores may change scores of an answer of so many tokens. */
bool processes_scores(const GenerateOptions *options, int generated);

/* What transformers' processors do to a row of scores: the penalty on seen ids, no stop before min_new. */
void process_scores(float *scores, int vocab, const bool *seen, const GenerateOptions *options, int generated);

bool is_stop(const GenerateOptions *options, int32_t id);

/* generate() by beam search. */
bool beam_search(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, Generated *results,
                 Error *err);

#endif
