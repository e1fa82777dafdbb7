/* `train --dump`: a step's inputs, weights and gradients as safetensors, for replay in PyTorch. */
#ifndef SEMOLLM_TRAIN_DUMP_H
#define SEMOLLM_TRAIN_DUMP_H

#include "train/trainer.h"

/* Writes DIR/config.json; `steps` is the run's length, which its learning rates depend on. */
bool dump_config(const Run *run, int64_t steps, const char *folder, Error *err);

/* Runs the planned step's gradients and writes DIR/step-K.safetensors. */
bool dump_step(Trainer *trainer, const char *folder, StepResult *result, Error *err);

#endif
