/* Ops that have no kernel yet say so. */
#include "kernels/cuda/cuda.h"

#define MISSING(Name, name)                                                                                            \
    __attribute__((weak)) bool cuda_##name(Device *dev, const Name##Args *a, Error *err) {                             \
        (void)dev, (void)a;                                                                                            \
        return fail(err, "%s: not on the CUDA device yet", #name);                                                     \
    }                                                                                                                  \
    __attribute__((weak)) size_t cuda_##name##_scratch(const Device *dev, const Name##Args *a) {                       \
        (void)dev, (void)a;                                                                                            \
        return 0;                                                                                                      \
    }
OP_LIST(MISSING)
