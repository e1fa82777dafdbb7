/* Learning rates over a run. */
#ifndef SEMOLLM_TRAIN_SCHEDULE_H
#define SEMOLLM_TRAIN_SCHEDULE_H

#include "train/config.h"

/* What the peak rate is multiplied with at step 1 .. total: a linear rise to 1 at step `warmup`, then the
 * schedule, which is 1 at its first step and would reach 0 one step past the last. */
double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total);

#endif
