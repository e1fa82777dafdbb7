/* Which examples make which step: a pure function of config, seed and data. Positions count through one
 * epoch's order after another without end; a step takes the next ones, in micro-batches. */
#ifndef SEMOLLM_TRAIN_STEPS_H
#define SEMOLLM_TRAIN_STEPS_H

#include "train/deal.h"
#include "train/examples.h"

/* Which of how many ranks computes; one alone is {0, 1}. */
typedef struct Share {
    int rank, ranks;
} Share;

typedef struct Steps {
    const Run *run;
    const Examples *examples;
    Share share;
    LoaderOptions order_options;
    uint32_t *chosen; /* [count] samples of the examples */
    int32_t *classes;
    int64_t *load;       /* [ranks] room for dealing */
    uint32_t *order;     /* of `epoch` */
    int64_t epoch;       /* -1: none yet */
    int64_t end;         /* the position after the last; INT64_MAX where steps are counted instead */
    int64_t total;       /* steps */
    SpeechLimits limits; /* of the largest micro-batches of the whole run, whichever rank's */
} Steps;

/* One step: the same examples whatever the ranks, and those of them that are this rank's, in micro-batches. */
typedef struct StepPlan {
    int64_t position, clips, responses, tokens; /* of all ranks */
    const Example **all;
    Dealt *dealt; /* [clips] both */
    const Example **own;
    int64_t *groups; /* groups[g] of `own` each, one after the other */
    size_t own_count, group_count;
    size_t all_capacity, dealt_capacity, own_capacity, group_capacity;
} StepPlan;

/* Walks through the whole run once, for its number of steps and the largest of everything. */
bool steps_open(Steps *steps, const Run *run, const Examples *examples, Share share, Error *err);
void steps_close(Steps *steps);

/* The example at a position; null on failure. Cheap within an epoch. */
const Example *steps_example(Steps *steps, int64_t position, Error *err);

bool steps_plan(Steps *steps, int64_t position, StepPlan *plan, Error *err);
void step_plan_free(StepPlan *plan);

/* All of a split as one step, for validation; `limits` is raised to the largest micro-batch of any rank. */
bool split_plan(const Run *run, const Examples *examples, Share share, StepPlan *plan, SpeechLimits *limits,
                Error *err);

#endif
