/* The steps that an estimate looks at: their clips, in micro-batches, as one of `gpus` ranks takes them. Of a run's
 * own data where that can be read; else assumed. */
#ifndef SEMOLLM_TRAIN_ESTIMATE_STEPS_H
#define SEMOLLM_TRAIN_ESTIMATE_STEPS_H

#include "train/steps.h"

enum { ASSUMED_PROMPT = 50, ASSUMED_ANSWER = 60, ASSUMED_CUES = 30 }; /* tokens */

typedef struct PlannedClip {
    int64_t samples;
    int32_t tokens, answer; /* tokens: prompt, speech rows and answer */
} PlannedClip;

typedef struct MicroBatch {
    size_t first, count; /* among the clips */
} MicroBatch;

typedef struct PlannedSteps {
    PlannedClip *clips;
    size_t clip_count, clip_capacity;
    MicroBatch *groups;
    size_t group_count, group_capacity;
    int steps;           /* looked at */
    int64_t total;       /* of the run; 0: not known */
    int64_t tokens;      /* of all ranks, in the steps looked at */
    SpeechLimits limits; /* of the largest micro-batches */
} PlannedSteps;

/* `examples` null: assumed clips. */
bool planned_steps(PlannedSteps *steps, const Run *run, const Examples *examples, int gpus, Error *err);
void planned_steps_free(PlannedSteps *steps);

/* A micro-batch of zeros with these sizes. Its arrays are good until the next call. */
typedef struct PlannedBatch {
    int64_t *wave_start;
    float *wave, *prosody;
    void *features;
    int32_t *sample, *cu_tokens, *ids, *labels;
} PlannedBatch;

bool planned_batch(PlannedBatch *batch, const PlannedSteps *steps, const MicroBatch *group, const Run *run,
                   SpeechBatch *view, Error *err);
void planned_batch_free(PlannedBatch *batch);

#endif
