/* Private to train/: the encoder's output, kept on disk from one run to the next. */
#ifndef SEMOLLM_TRAIN_CACHE_FILE_H
#define SEMOLLM_TRAIN_CACHE_FILE_H

#include "train/feed.h"

/* Where the output for these examples lies, or will: its name is the hash of all that it depends on, which is the
 * encoder's files, how its output is taken and stored, the shards' index and each example's stretch of audio. What
 * was made of anything else has another name, so that it is never taken for this. free() it. */
char *cache_file_path(Run *run, const Examples *examples, Error *err);

/* Fills features and prosody, for which there is room. False: there is no such file, or what it holds is not what was
 * written, which is said; the encoder makes it anew. */
bool cache_file_load(FeatureCache *cache, const Run *run, const Examples *examples, const char *path);

bool cache_file_save(const FeatureCache *cache, const Run *run, const Examples *examples, const char *path, Error *err);

#endif
