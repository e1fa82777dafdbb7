/* An op's scratch, taken apart in order. While only its size is wanted the parts lie at an address that is nobody's. */
#ifndef SEMOLLM_KERNELS_CUDA_CARVE_CUH
#define SEMOLLM_KERNELS_CUDA_CARVE_CUH

#include "kernels/cuda/kernel.cuh"

enum { SCRATCH_ALIGNMENT = 256 };

struct Carve {
    char *at;
    size_t used;
};

static inline Carve carve_from(char *scratch) {
    return Carve{scratch ? scratch : (char *)(uintptr_t)SCRATCH_ALIGNMENT, 0};
}

static inline void *carve(Carve *c, size_t bytes) {
    void *to = c->at + c->used;
    c->used += (bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
    return to;
}

static inline Tensor carve_tensor(Carve *c, DType dtype, int64_t rows, int64_t cols) {
    return tensor_of(carve(c, (size_t)(rows * cols) * dtype_size(dtype)), dtype, rows, cols);
}

#endif
