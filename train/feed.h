/* Where examples' audio or features come from: a loader that reads ahead, or the encoder's cached output. */
#ifndef SEMOLLM_TRAIN_FEED_H
#define SEMOLLM_TRAIN_FEED_H

#include <stdatomic.h>

#include "train/steps.h"

/* The frozen encoder's output, as the device stores it, and the prosody channels of every example, in host
 * memory. */
typedef struct FeatureCache {
    unsigned char *features;
    float *prosody;
    int64_t *first; /* [count + 1] frames before each example */
} FeatureCache;

size_t cache_bytes(const Run *run, const Examples *examples);
/* Where `stop` comes to be set, ends before it is full; it is of no use then. */
bool cache_fill(FeatureCache *cache, Run *run, const Examples *examples, const atomic_bool *stop, Error *err);
void cache_free(FeatureCache *cache);

typedef struct Feed {
    const Run *run;
    const Examples *examples;
    Steps *steps; /* null: the examples' own order */
    const FeatureCache *cache;
    Loader *loader;    /* null with a cache and for input: description */
    uint32_t *ahead;   /* [count] */
    int64_t next, end; /* positions the loader is at and was started up to */
} Feed;

/* `steps` null: positions are places in `examples`. `cache` may be null. */
bool feed_open(Feed *feed, const Run *run, const Examples *examples, Steps *steps, const FeatureCache *cache,
               Error *err);
void feed_close(Feed *feed);

/* Adds the example at `position` to the batch. Rising positions are read ahead. */
bool feed_add(Feed *feed, int64_t position, Batch *batch, Error *err);

#endif
