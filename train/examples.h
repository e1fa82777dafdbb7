/* A split as training examples: which stretch of which sample, and the ids of its answer. */
#ifndef SEMOLLM_TRAIN_EXAMPLES_H
#define SEMOLLM_TRAIN_EXAMPLES_H

#include "train/batch.h"

typedef struct Example {
    uint32_t sample; /* in the shards */
    int32_t id;      /* key of dropout and noise: the sample, and for its later pieces a number past all samples */
    int64_t start, samples; /* of the clip; start is a multiple of the encoder's hop */
    int32_t class;
    int32_t tokens; /* prompt, speech rows and answer */
    Ids answer;
} Example;

typedef struct Examples {
    Example *items;
    size_t count, capacity;
    size_t replaced; /* explanations rewritten, as they were made from other levels */
    size_t cut;      /* clips longer than data.max_seconds */
} Examples;

/* Clips longer than data.max_seconds are cut, split or refused as the config says; a clip shorter than the
 * encoder's receptive field is an error that names it. */
bool examples_make(Examples *examples, const Run *run, const Split *split, Error *err);
void examples_free(Examples *examples);

/* The example's stretch of a loaded sample. */
Clip example_clip(const Example *example, const Run *run, const Sample *sample);

#endif
