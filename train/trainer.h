/* Private to train/: a run while it trains. */
#ifndef SEMOLLM_TRAIN_TRAINER_H
#define SEMOLLM_TRAIN_TRAINER_H

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
    StepPlan plan;
    Feed feed, validation_feed;
    Batch batch;
    Optimizer optimizer;
    AdamwSegment *segments; /* one a parameter */
    double *norm;           /* device, F64 */
    TrainState state;
    RunLog log;
    Stopper stopper;
    double began, before; /* clock when this process began to train; seconds spent by earlier ones */
} Trainer;

typedef struct StepResult {
    double loss, grad_norm, lr;
    bool skipped;
} StepResult;

/* Whether the encoder's output is kept, so that a step has no waveforms. */
bool trainer_caches(const Trainer *trainer);

SpeechLimits trainer_limits(const Trainer *trainer); /* of the largest micro-batch */

bool trainer_optimizer(Trainer *trainer, Error *err); /* the optimizer's memory */
bool trainer_plan(Trainer *trainer, Error *err);      /* the model's, for that micro-batch */

/* Runs the planned step forward and backward. `see` (may be null) gets each micro-batch after it ran. */
typedef bool SeeBatch(void *context, const Batch *batch, Error *err);
bool trainer_gradients(Trainer *trainer, StepResult *result, SeeBatch *see, void *context, Error *err);

/* Clips and updates; a loss or norm that is not finite leaves the weights alone. */
bool trainer_update(Trainer *trainer, StepResult *result, Error *err);

/* Loss per response token of the validation split. */
bool trainer_validate(Trainer *trainer, double *loss, Error *err);

#endif
