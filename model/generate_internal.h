/* What greedy search, sampling, beams and ranking share; private to them. */
#ifndef SEMOLLM_MODEL_GENERATE_INTERNAL_H
#define SEMOLLM_MODEL_GENERATE_INTERNAL_H

#include "model/decoder.h"
#include "model/generate.h"

/* log Σ exp of a row of logits. */
double log_sum_exp(const float *logits, int count);

/* Marks in seen[vocab] the ids that the repetition penalty falls on before anything is generated. */
void mark_prompt(const Prompts *prompts, int prompt, bool *seen, int vocab);

/* What transformers' processors do to a row of scores: the penalty on seen ids, no stop before min_new. */
void process_scores(float *scores, int vocab, const bool *seen, const GenerateOptions *options, int generated);

bool is_stop(const GenerateOptions *options, int32_t id);

/* generate() for prompts first .. first + count - 1 by beam search; `room` holds beams · count rows of
 * logits. */
bool beam_wave(DecoderSession *session, const Prompts *prompts, int first, int count, const GenerateOptions *options,
               float *room, Generated *results, Error *err);

#endif
