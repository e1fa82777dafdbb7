/* Private to train/: classes and splits of a run's data. */
#ifndef SEMOLLM_TRAIN_SPLITS_H
#define SEMOLLM_TRAIN_SPLITS_H

#include "train/run.h"

/* The class list: of the config, or every emotion of the shards (data.labels applied), sorted. */
bool classes_make(Run *run, Error *err);

/* class_of and the three splits. Held-out names that match nothing are an error, and so is a speaker in
 * both test and training unless allowed. */
bool splits_make(Run *run, Error *err);

/* Classes × splits, and how many samples belong to no class. */
void splits_print(const Run *run, FILE *out);

/* What training needs: a training split that holds every class. */
bool splits_check(const Run *run, Error *err);

#endif
