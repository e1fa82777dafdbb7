/* How much scratch an op wants reserved on a device. */
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"
#ifdef SEMOLLM_CUDA
#include "kernels/cuda/cuda.h"
#define ON_CUDA(name)                                                                                                  \
    if (dev->kind == DEVICE_CUDA) return cuda_##name##_scratch(dev, a);
#else
#define ON_CUDA(name)
#endif

#define SCRATCH(Name, name)                                                                                            \
    size_t name##_scratch(const Device *dev, const Name##Args *a) {                                                    \
        (void)dev;                                                                                                     \
        ON_CUDA(name)                                                                                                  \
        return cpu_##name##_scratch(a);                                                                                \
    }
OP_LIST(SCRATCH)
