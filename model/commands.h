/* The commands of model/, each in its own file. */
#ifndef SEMOLLM_MODEL_COMMANDS_H
#define SEMOLLM_MODEL_COMMANDS_H

#include "base/options.h"

bool command_convert(int argc, char **argv, Error *err);
bool command_encode(int argc, char **argv, Error *err);
bool command_logits(int argc, char **argv, Error *err);
bool command_tokenize(int argc, char **argv, Error *err);

#endif
