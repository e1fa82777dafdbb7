/* The training loop of a run. */
#ifndef SEMOLLM_TRAIN_LOOP_H
#define SEMOLLM_TRAIN_LOOP_H

#include "train/run.h"

typedef struct TrainOptions {
    bool resume, dry_run, show_batch;
    const char *dump; /* folder, or null: stop after dump_steps, each step's inputs and gradients written there */
    int64_t dump_steps;
    const char *estimate; /* a machine to plan for, or null */
    DeviceChoice device;  /* in place of the config's where it names something */
} TrainOptions;

/* Trains what `config` says. */
bool train(const char *config, const Texts *overrides, const TrainOptions *options, Error *err);

#endif
