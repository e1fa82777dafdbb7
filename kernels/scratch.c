/* How much scratch, or spare room beside its operands, an op wants on a device. */
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

/* Rows stay aligned to a sector of memory, and the products' terms to what tensor cores take at a time. */
enum { TAIL_STEP = 16 };

int64_t linear_tail(const Device *dev, int64_t rank) {
    return device_kind(dev) == DEVICE_CUDA ? (rank + TAIL_STEP - 1) / TAIL_STEP * TAIL_STEP : 0;
}
