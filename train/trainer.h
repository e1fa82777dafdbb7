/* Private to train/: a run while it trains. */
#ifndef SEMOLLM_TRAIN_TRAINER_H
#define SEMOLLM_TRAIN_TRAINER_H

#include <stdio.h>

#include "train/checkpoint.h"
#include "train/feed.h"
#include "train/log.h"
#include "train/loop.h"
#include "train/stop.h"

typedef struct Trainer {
    Run *run;
    const TrainOptions *options;
    Examples train, validation;
    FeatureCache train_cache, validation_cache;
    Steps steps;
    StepPlan plan, ahead, validation_plan;
    SpeechLimits limits; /* of the largest micro-batches, validation's too */
    int64_t sent;        /* the position up to which the feed was sent */
    Feed feed, validation_feed;
    Batch batch;
    Optimizer optimizer;
    AdamwSegment *segments; /* one a parameter */
    double *norm;           /* device, F64 */
    TrainState state;
    RunLog log;
    Stopper stopper;
    void *words;          /* room for a message of each rank */
    bool stop;            /* a rank was asked to */
    FILE *lines;          /* for the user: stderr, but of rank 0 alone */
    double began, before; /* clock when this process began to train; seconds spent by earlier ones */
} Trainer;

typedef struct StepResult {
    double loss, grad_norm, lr;
    bool skipped;
} StepResult;

/* Whether the encoder's output is kept, so that a step has no waveforms. */
bool trainer_caches(const Trainer *trainer);

bool trainer_optimizer(Trainer *trainer, Error *err); /* the optimizer's memory */
bool trainer_plan(Trainer *trainer, Error *err);      /* the model's, for that micro-batch */

/* Runs the planned step forward and backward. `see` (may be null) gets each micro-batch after it ran. */
typedef bool SeeBatch(void *context, const Batch *batch, Error *err);
bool trainer_gradients(Trainer *trainer, StepResult *result, SeeBatch *see, void *context, Error *err);

/* Clips and updates; a loss or norm that is not finite leaves the weights alone. */
bool trainer_update(Trainer *trainer, StepResult *result, Error *err);

/* Adds up the loss over the ranks and hears whether any of them was asked to stop. */
bool ranks_meet(Trainer *trainer, double *loss, Error *err);

/* Whether all ranks train the same and hold the same weights and moments after the same step. */
bool ranks_compare(Trainer *trainer, Error *err);

/* Loss per response token of the validation split. */
bool trainer_validate(Trainer *trainer, double *loss, Error *err);

#endif
