/* Samples become packed batches: prompt ids, speech rows, answers and which tokens bear loss.
 *
 *     Batch batch = {0};
 *     batch_clear(&batch);
 *     for each: batch_add(&batch, run, &clip, NULL, err);     a prompt to be answered
 *     SpeechBatch view = batch_view(&batch);  speech_llm_generate(run->model, &view, ...);
 *     batch_free(&batch);
 */
#ifndef SEMOLLM_TRAIN_BATCH_H
#define SEMOLLM_TRAIN_BATCH_H

#include "train/run.h"

typedef struct Clip { /* what the model is given of a sample; owns nothing */
    int32_t id;       /* key of dropout and noise */
    const Utterance *utterance;
    const float *wave;    /* null where features are given */
    int64_t samples;      /* the wave's length, also where features stand for it */
    const void *features; /* as speech_llm_encode gives them */
    const float *prosody; /* [frames, channels] or null */
} Clip;

/* A loader's sample as a clip, cut to run_clip_samples. */
Clip clip_of(const Run *run, const Sample *sample);

typedef struct Batch {
    int count;
    int64_t *wave_start; /* [count + 1] */
    float *wave, *prosody;
    unsigned char *features;
    int32_t *sample, *cu_tokens, *ids, *labels;
    size_t sample_capacity, wave_capacity, feature_capacity, prosody_capacity, token_capacity;
    int64_t frames, responses, rows; /* responses: tokens that bear loss; rows: speech rows */
    int64_t longest;                 /* samples of the longest clip */
    bool has_wave, has_features, has_prosody, has_labels;
} Batch;

void batch_clear(Batch *batch); /* keeps its memory */
void batch_free(Batch *batch);

/* Adds a clip's prompt, and with `answer` (its ids, the end-of-turn token included) a training example.
 * All clips of a batch come with answers or all without. A clip shorter than the encoder's receptive
 * field is an error that names it. */
bool batch_add(Batch *batch, const Run *run, const Clip *clip, const Ids *answer, Error *err);

/* The batch for the model; valid until the next batch_clear or batch_add. */
SpeechBatch batch_view(const Batch *batch);
SpeechLimits batch_limits(const Batch *batch);

/* Raises each of `limits` to at least `other`. */
void limits_raise(SpeechLimits *limits, const SpeechLimits *other);

/* Prints a sample of the batch: decoded prompt, speech rows, and the tokens that bear loss. */
bool batch_show(const Batch *batch, int index, const Run *run, FILE *out, Error *err);

#endif
