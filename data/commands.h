/* The commands of this layer; each explains itself with --help. */
#ifndef SEMOLLM_DATA_COMMANDS_H
#define SEMOLLM_DATA_COMMANDS_H

#include "base/options.h"

bool command_synth(int argc, char **argv, Error *err);
bool command_import(int argc, char **argv, Error *err);
bool command_features(int argc, char **argv, Error *err);
bool command_shard(int argc, char **argv, Error *err);
bool command_report(int argc, char **argv, Error *err);

#endif
