/* What a Device holds. Private to kernels/. */
#ifndef SEMOLLM_KERNELS_DEVICE_IMPL_H
#define SEMOLLM_KERNELS_DEVICE_IMPL_H

#include "kernels/device.h"

struct Device {
    DeviceKind kind;
    DType dtype;
    int threads;
    char *scratch;
    size_t scratch_bytes;
    float *tiles;            /* CPU: TILE_FLOATS for each thread, for blocks that an op works on */
    size_t block_shared;     /* CUDA: bytes of shared memory that a block can have */
    struct CudaDevice *cuda; /* CUDA: streams, staging, chosen algorithms */
    struct Plan *plan;       /* a planning device's: it stands for one of `kind` and holds nothing */
    struct Profile *profile; /* while operations are timed */
};

/* The device's scratch where at least `bytes` of it were reserved; null and an error otherwise. */
void *device_scratch(const Device *dev, size_t bytes, Error *err);

#endif
