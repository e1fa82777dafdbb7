/* The ground floor: errors, memory, files, audio, HTTP, JSON, YAML, random numbers, progress, options. */
#ifndef SEMOLLM_BASE_BASE_H
#define SEMOLLM_BASE_BASE_H

#include "base/arena.h"
#include "base/audio.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/file.h"
#include "base/http.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/retry.h"
#include "base/rng.h"
#include "base/shipped.h"

#endif
