/* The commands of eval/, each in its own file. */
#ifndef SEMOLLM_EVAL_COMMANDS_H
#define SEMOLLM_EVAL_COMMANDS_H

#include "base/options.h"

bool command_eval(int argc, char **argv, Error *err);
bool command_explain(int argc, char **argv, Error *err);
bool command_export(int argc, char **argv, Error *err);

#endif
