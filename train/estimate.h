/* What a run would take on a GPU that is not there: `semollm train CONFIG --estimate h100,8`. The run's own step is
 * put to a device that plans (kernels/plan.h), so that what is counted is what would run; model folders need no more
 * than config.json, and the data may be missing. */
#ifndef SEMOLLM_TRAIN_ESTIMATE_H
#define SEMOLLM_TRAIN_ESTIMATE_H

#include "base/base.h"

/* `machine`: a name of configs/machines or a file like those, then perhaps a comma and how many GPUs. */
bool estimate(const char *config, const Texts *overrides, const char *machine, FILE *out, Error *err);

#endif
