/* What train/ and eval/ may include of the data. */
#ifndef SEMOLLM_DATA_DATA_H
#define SEMOLLM_DATA_DATA_H

#include "data/features.h"
#include "data/levels.h"
#include "data/loader.h"
#include "data/manifest.h"
#include "data/response.h"
#include "data/shards.h"

/* Commands: synth, import, features, annotate, shard. */
extern const Command DATA_COMMANDS[]; /* ended by a null name */

#endif
