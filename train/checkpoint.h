/* Checkpoints: RUN/checkpoints/step-N/ with PEFT's two files, speech_adapter.safetensors,
 * optimizer.safetensors and state.json. They appear whole or not at all. */
#ifndef SEMOLLM_TRAIN_CHECKPOINT_H
#define SEMOLLM_TRAIN_CHECKPOINT_H

#include "train/run.h"

/* All that a run needs to go on, besides weights and optimizer. */
typedef struct TrainState {
    int64_t step;     /* done */
    int64_t position; /* in the endless order of samples */
    int64_t skipped, skipped_in_row;
    int64_t tokens;
    double best_loss; /* NAN before the first validation */
    int64_t best_step, stale;
    double seconds; /* spent training */
    int64_t log_bytes, event_bytes;
    uint64_t shards_hash, config_hash;
} TrainState;

/* AdamW's moments, flat as the parameters, on the device. */
typedef struct Optimizer {
    float *m, *v;
} Optimizer;

bool checkpoint_save(const Run *run, const Optimizer *optimizer, const TrainState *state, Error *err);
bool checkpoint_load(Run *run, const char *folder, Optimizer *optimizer, TrainState *state, Error *err);

/* "best", "last", "step-120", a folder, or null for best, else last; free() it. */
char *checkpoint_find(const char *run_folder, const char *name, Error *err);

/* The newest checkpoint's folder, or null without an error where there is none. */
char *checkpoint_last(const char *run_folder, Error *err);

/* Points `best` at a step's checkpoint. */
bool checkpoint_mark_best(const char *run_folder, int64_t step, Error *err);

/* Removes all but the newest `keep`, the best, and what a killed save left. */
bool checkpoint_prune(const char *run_folder, int64_t keep, int64_t best_step, Error *err);

/* Every file there, of the size and hash in state.json. */
bool checkpoint_verify(const char *folder, Error *err);
bool checkpoint_is(const char *folder);

/* state.json alone. */
bool checkpoint_state(const char *folder, TrainState *state, Error *err);

#endif
