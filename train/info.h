#ifndef SEMOLLM_TRAIN_INFO_H
#define SEMOLLM_TRAIN_INFO_H

#include "train/run.h"

bool info(const char *path, Error *err);   /* of a model folder, run, shard folder or checkpoint, to stdout */
bool verify(const char *path, Error *err); /* of a shard folder, run or checkpoint */

#endif
