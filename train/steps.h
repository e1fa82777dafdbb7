/* Which examples make which step: a pure function of config, seed and data. Positions count through one
 * epoch's order after another without end; a step takes the next ones, in micro-batches. */
#ifndef SEMOLLM_TRAIN_STEPS_H
#define SEMOLLM_TRAIN_STEPS_H

#include "train/examples.h"

typedef struct Steps {
    const Run *run;
    const Examples *examples;
    LoaderOptions order_options;
    uint32_t *chosen; /* [count] samples of the examples */
    int32_t *classes;
    uint32_t *order;     /* of `epoch` */
    int64_t epoch;       /* -1: none yet */
    int64_t end;         /* the position after the last; INT64_MAX where steps are counted instead */
    int64_t total;       /* steps */
    SpeechLimits limits; /* of the largest micro-batches of the whole run */
} Steps;

/* One step's micro-batches: groups[g] examples each, one after the other from `position`. */
typedef struct StepPlan {
    int64_t position, clips, responses, tokens;
    int64_t *groups;
    size_t group_count, capacity;
} StepPlan;

/* Walks through the whole run once, for its number of steps and the largest of everything. */
bool steps_open(Steps *steps, const Run *run, const Examples *examples, Error *err);
void steps_close(Steps *steps);

/* The example at a position; null on failure. Cheap within an epoch. */
const Example *steps_example(Steps *steps, int64_t position, Error *err);

bool steps_plan(Steps *steps, int64_t position, StepPlan *plan, Error *err);
void step_plan_free(StepPlan *plan);

/* How many of `count` examples from `first` on fit into one micro-batch; for validation, which keeps order. */
size_t examples_group(const Run *run, const Examples *examples, size_t first);

/* Raises `limits` to what these examples take together. */
void examples_limits(const Examples *examples, size_t first, size_t count, SpeechLimits *limits);

#endif
