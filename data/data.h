/* What train/ and eval/ may include of the data. */
#ifndef SEMOLLM_DATA_DATA_H
#define SEMOLLM_DATA_DATA_H

#include "data/annotate.h"
#include "data/features.h"
#include "data/levels.h"
#include "data/loader.h"
#include "data/manifest.h"
#include "data/response.h"
#include "data/shards.h"
#include "data/teacher.h"

/* Commands: synth, import, features, shard. */
extern const Command DATA_COMMANDS[]; /* ended by a null name */

#endif
