/* What eval/ may include of training: a run's resolved config, its model, its splits and batches. */
#ifndef SEMOLLM_TRAIN_TRAIN_H
#define SEMOLLM_TRAIN_TRAIN_H

#include "data/data.h"
#include "model/model.h"
#include "train/batch.h"
#include "train/config.h"
#include "train/run.h"

/* Commands: annotate, train, verify, info. */
extern const Command TRAIN_COMMANDS[]; /* ended by a null name */

#endif
