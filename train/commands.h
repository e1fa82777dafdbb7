/* Commands of this layer that have a file of their own. Private to train/. */
#ifndef SEMOLLM_TRAIN_COMMANDS_H
#define SEMOLLM_TRAIN_COMMANDS_H

#include "base/options.h"

bool command_annotate(int argc, char **argv, Error *err);

#endif
