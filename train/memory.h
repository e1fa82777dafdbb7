/* What a run takes of its device's memory, found by putting its model and its largest micro-batch to a device that
 * plans (kernels/plan.h): what is said is what will be allocated. */
#ifndef SEMOLLM_TRAIN_MEMORY_H
#define SEMOLLM_TRAIN_MEMORY_H

#include "train/run.h"

typedef struct MemoryPlan {
    Device *dev;
    SpeechLlm *model; /* a twin of the run's, with nothing in it */
    SpeechLimits limits;
    size_t trainable, moments; /* weights with their gradients and copies; AdamW's */
    size_t bytes;              /* in all */
} MemoryPlan;

bool memory_plan_open(MemoryPlan *plan, const Run *run, const SpeechLimits *limits, Error *err);
void memory_plan_close(MemoryPlan *plan);

enum { MEMORY_TOKENS_MAX = 1 << 17 }; /* of a micro-batch that is tried */

/* Tokens of the largest micro-batch of clips like the planned that takes at most `bytes`; 0: none. What scratch
 * larger ones would have wanted is counted, so that it may be a little more. */
int64_t memory_plan_largest(MemoryPlan *plan, size_t bytes);

/* A table of it. `whole` lists every activation too. */
bool memory_plan_print(MemoryPlan *plan, bool whole, FILE *out, Error *err);

/* How it fits what `dev` has, where that can be told, of which the run may hold its weights already. What does not
 * fit a GPU is an error that says what would. */
bool memory_plan_check(MemoryPlan *plan, Device *dev, bool loaded, FILE *out, Error *err);

#endif
