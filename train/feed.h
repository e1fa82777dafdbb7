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
/* Where `stop` comes to be set, on whichever rank, *stopped comes to be, and the cache is of no use. */
bool cache_fill(FeatureCache *cache, Run *run, const Examples *examples, const atomic_bool *stop, bool *stopped,
                Error *err);
void cache_free(FeatureCache *cache);

typedef struct Feed {
    const Run *run;
    const Examples *examples;
    const FeatureCache *cache;
    Loader *loader;    /* null with a cache and for input: description */
    uint32_t *samples; /* of the examples sent for */
    size_t capacity;
} Feed;

/* `cache` may be null. */
bool feed_open(Feed *feed, const Run *run, const Examples *examples, const FeatureCache *cache, Error *err);
void feed_close(Feed *feed);

/* Sends for these examples, which feed_add is then to be given in this order: they are read ahead. */
bool feed_send(Feed *feed, const Example *const *examples, size_t count, Error *err);

/* Adds the example to the batch. */
bool feed_add(Feed *feed, const Example *example, Batch *batch, Error *err);

#endif
