/* Controls take away what the scores should come from; they must then fall to chance. */
#ifndef SEMOLLM_EVAL_CONTROL_H
#define SEMOLLM_EVAL_CONTROL_H

#include "train/train.h"

typedef enum Control {
    CONTROL_NONE,
    CONTROL_PERMUTE,   /* audio permuted among the clips so that classes meet as often as by chance */
    CONTROL_NOISE,     /* Gaussian noise of one level, as long as the permuted clip: a clip's own length tells */
    CONTROL_UNTRAINED, /* the adapter and LoRA as they were initialised */
    CONTROL_COUNT
} Control;
extern const char *const CONTROL_NAMES[CONTROL_COUNT]; /* "none", "permute", "noise", "untrained" */

/* Which sample's audio each clip of the split is given: its own, or a permuted one.
 * order [split->count], indexes in the shards. */
bool control_order(const Run *run, const Split *split, Control control, uint32_t *order, Error *err);

/* Puts noise of one level in the place of the speech, its prosody channels included. */
bool control_noise(Sample *sample, int channels, Error *err);

#endif
