/* Views of device memory. A Tensor never owns; whoever laid out the arena does. */
#ifndef SEMOLLM_KERNELS_TENSOR_H
#define SEMOLLM_KERNELS_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

/* Row-major rows × cols; element (r, c) is data[r * ld + c]. data null: absent. */
typedef struct Tensor {
    void *data;
    DType dtype;
    int64_t rows, cols, ld;
} Tensor;

static inline Tensor tensor_of(void *data, DType dtype, int64_t rows, int64_t cols) {
    return (Tensor){.data = data, .dtype = dtype, .rows = rows, .cols = cols, .ld = cols};
}

static inline bool tensor_present(Tensor t) { return t.data != NULL; }

/* `count` rows from row `first`. */
static inline Tensor tensor_rows(Tensor t, int64_t first, int64_t count) {
    t.data = (char *)t.data + (size_t)(first * t.ld) * dtype_size(t.dtype);
    t.rows = count;
    return t;
}

/* `count` columns from column `first`, keeping ld. */
static inline Tensor tensor_cols(Tensor t, int64_t first, int64_t count) {
    t.data = (char *)t.data + (size_t)first * dtype_size(t.dtype);
    t.cols = count;
    return t;
}

/* A batch of sequences laid end to end: segment s is rows cu[s] .. cu[s+1]-1. Segments may be empty. */
typedef struct Packed {
    int32_t count;
    const int32_t *host;   /* [count + 1], cu_seqlens in host memory */
    const int32_t *device; /* the same in device memory (equal to host on the CPU device) */
    int64_t total, longest;
} Packed;

/* Fills total and longest from `cu`, which both pointers then share (CPU) until uploaded. */
static inline Packed packed_of(const int32_t *cu, int32_t count) {
    Packed p = {.count = count, .host = cu, .device = cu, .total = cu[count]};
    for (int32_t s = 0; s < count; s++)
        if (cu[s + 1] - cu[s] > p.longest) p.longest = cu[s + 1] - cu[s];
    return p;
}

#endif
