/* What the models may include: views, the device, every operation,
 * softmax on the host. */
#ifndef SEMOLLM_KERNELS_KERNELS_H
#define SEMOLLM_KERNELS_KERNELS_H

#include "kernels/comm.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/plan.h"
#include "kernels/profile.h"
#include "kernels/softmax.h"
#include "kernels/tensor.h"

#endif
