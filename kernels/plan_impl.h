/* What ops.c and device.c hand to a planning device. Private to kernels/. */
#ifndef SEMOLLM_KERNELS_PLAN_IMPL_H
#define SEMOLLM_KERNELS_PLAN_IMPL_H

#include "kernels/device_impl.h"
#include "kernels/op_list.h"
#include "kernels/plan.h"

#define DECLARE(Name, name) bool plan_##name(Device *dev, const Name##Args *a, Error *err);
OP_LIST(DECLARE)
#undef DECLARE

void plan_close(struct Plan *plan);
void *plan_alloc(Device *dev, size_t bytes, Error *err);
void plan_free(Device *dev, void *memory);

#endif
