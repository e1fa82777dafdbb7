/* Where the time of a stretch of operations goes: each operation's own, as the device's clock has it. */
#ifndef SEMOLLM_KERNELS_PROFILE_H
#define SEMOLLM_KERNELS_PROFILE_H

#include <stdint.h>

#include "kernels/device.h"

enum { PROFILE_OPS_MOST = 64 };

typedef struct ProfiledOp {
    const char *op;
    int64_t calls;
    double seconds; /* of all calls together */
} ProfiledOp;

/* From here on operations are timed, without being waited for. Not while operations are recorded. */
bool profile_begin(Device *dev, Error *err);

/* Ends it, successful or not, and waits. `times` has room for PROFILE_OPS_MOST: those called, the longest first. */
bool profile_end(Device *dev, ProfiledOp *times, int *count, Error *err);

#endif
