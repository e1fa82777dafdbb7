/* Samples in training order, read ahead by threads. The order is a pure function of (seed, epoch, the shards' index),
 * wherever the shards lie and whoever reads them, so a run can be resumed at any position. */
#ifndef SEMOLLM_DATA_LOADER_H
#define SEMOLLM_DATA_LOADER_H

#include "data/shards.h"

typedef enum Sampling { SAMPLING_NATURAL, SAMPLING_BALANCED } Sampling;

typedef struct LoaderOptions {
    const uint32_t *chosen; /* sample indexes this loader draws from (a split) */
    size_t chosen_count;
    bool shuffle;
    int shuffle_shards;     /* how many shards' samples are mixed at a time; 0: all */
    Sampling sampling;      /* balanced: every class equally often; an epoch keeps its length */
    const int32_t *classes; /* [chosen_count] of each chosen sample, for balanced; null: by emotion */
    uint64_t seed;
    int threads, ahead;  /* ahead: samples in flight, bounds memory */
    int prosody;         /* channels to compute per frame, 0 none (features_prosody) */
    bool audio;          /* false: only the utterance (description input, cached features) */
    int64_t max_samples; /* longer clips are cut to this; 0: never */
} LoaderOptions;

typedef struct Sample {
    uint32_t index; /* in the shards: the sample id of dropout keys */
    const Utterance *utterance;
    Audio audio;
    float *prosody; /* [prosody_frames, channels] */
    int64_t prosody_frames;
} Sample;

/* Which of the chosen stands at each position of `epoch`: order[chosen_count] holds places in `chosen`. */
bool order_make(const Shards *shards, const LoaderOptions *options, uint32_t epoch, uint32_t *order, Error *err);

/* Bytes of the shards that an order has in use at a time, those that come next included. */
int64_t order_room(const Shards *shards, const LoaderOptions *options);

typedef struct Loader Loader;

Loader *loader_open(const Shards *shards, const LoaderOptions *options, Error *err);
void loader_close(Loader *loader);

/* Starts (again) with the samples `indexes[0..count)`, in this order. */
bool loader_start(Loader *loader, const uint32_t *indexes, size_t count, Error *err);

/* The next one; free with sample_free. Fails past the end and on a damaged sample. */
bool loader_next(Loader *loader, Sample *sample, Error *err);
void sample_free(Sample *sample);

#endif
