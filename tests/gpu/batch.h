/* A made-up batch of clips of 1 to 15 s, each with a prompt, speech and an answer. */
#ifndef SEMOLLM_TESTS_GPU_BATCH_H
#define SEMOLLM_TESTS_GPU_BATCH_H

#include "model/speech_llm.h"
#include "tests/gpu/bench.h"

enum { BATCH_CLIPS_MOST = 4096 };

typedef struct MadeBatch {
    int64_t wave_start[BATCH_CLIPS_MOST + 1];
    int32_t cu_tokens[BATCH_CLIPS_MOST + 1], sample[BATCH_CLIPS_MOST];
    float *wave;
    void *features; /* the encoder's output, in place of waveforms; null: none */
    int32_t *ids, *labels;
    int clips;
    int64_t responses, longest;
} MadeBatch;

/* As many clips as fit `tokens`, `shorter` times as short as bench_samples says; at most `clips`. */
static inline void batch_make(MadeBatch *b, const SpeechLlm *model, int64_t tokens, int clips, int shorter, int vocab) {
    Rng rng = rng_stream(7, 0, 0, 0);
    memset(b, 0, sizeof *b);
    b->ids = calloc((size_t)tokens, sizeof *b->ids);
    b->labels = calloc((size_t)tokens, sizeof *b->labels);
    if (!b->ids || !b->labels) exit(1);
    while (b->clips < clips) {
        int64_t samples = bench_samples(b->clips) / shorter, rows = speech_llm_rows(model, samples);
        int64_t at = b->cu_tokens[b->clips], count = BENCH_PROMPT + rows + BENCH_ANSWER;
        if (at + count > tokens) break;
        for (int64_t t = 0; t < count; t++) {
            bool speech = t >= BENCH_PROMPT && t < BENCH_PROMPT + rows, answer = t >= BENCH_PROMPT + rows;
            b->ids[at + t] = speech ? -1 : (int32_t)(rng_next(&rng) % (uint32_t)vocab);
            b->labels[at + t] = answer ? b->ids[at + t] : -100;
        }
        b->sample[b->clips] = b->clips;
        b->wave_start[b->clips + 1] = b->wave_start[b->clips] + samples;
        b->cu_tokens[++b->clips] = (int32_t)(at + count);
        b->responses += BENCH_ANSWER;
        if (samples > b->longest) b->longest = samples;
    }
    size_t samples = (size_t)b->wave_start[b->clips];
    b->wave = malloc((samples + 1) * sizeof *b->wave);
    if (!b->wave) exit(1);
    for (size_t i = 0; i < samples; i++) b->wave[i] = 0.2f * (rng_uniform(rng_next(&rng)) - 0.5f);
}

static inline SpeechBatch batch_seen(const MadeBatch *b) {
    return (SpeechBatch){.count = b->clips,
                         .wave_start = b->wave_start,
                         .wave = b->features ? NULL : b->wave,
                         .features = b->features,
                         .sample = b->sample,
                         .cu_tokens = b->cu_tokens,
                         .ids = b->ids,
                         .labels = b->labels};
}

static inline SpeechLimits batch_size(const MadeBatch *b) {
    return (SpeechLimits){.clips = b->clips,
                          .samples = b->wave_start[b->clips],
                          .tokens = b->cu_tokens[b->clips],
                          .responses = b->responses,
                          .longest = b->longest,
                          .features = b->features != NULL};
}

static inline void batch_forget(MadeBatch *b) {
    free(b->wave);
    free(b->features);
    free(b->ids);
    free(b->labels);
}

#endif
