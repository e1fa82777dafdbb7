/* What the entry points of operations ask of a profile that has begun. Private to kernels/. */
#ifndef SEMOLLM_KERNELS_PROFILE_IMPL_H
#define SEMOLLM_KERNELS_PROFILE_IMPL_H

#include "kernels/device.h"

bool profile_op_begin(Device *dev, const char *op, Error *err); /* `op`: the same address at every call */
bool profile_op_end(Device *dev, Error *err);

#endif
