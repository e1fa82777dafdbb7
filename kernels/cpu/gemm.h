/* Matrix products of the CPU device. */
#ifndef SEMOLLM_KERNELS_CPU_GEMM_H
#define SEMOLLM_KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/tensor.h"

/* c = alpha · op(a)·op(b) + beta · c, row-major; beta 0 does not read c. */
typedef struct Gemm {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
} Gemm;

/* With the threads of the device, or in a parallel region with the calling thread alone. */
bool gemm(const Gemm *g, Error *err);

/* The same of F32 tensors (matmul.c). */
bool multiply(Tensor a, bool transpose_a, Tensor b, bool transpose_b, float alpha, float beta, Tensor c, Error *err);

/* A product of blocks that lie in the calling thread's cache. Element (i, k) of a is
 * a[i·a_row + k·a_col], so that a may be transposed or a view of overlapping rows. Rows of b and c are
 * read and written up to the next multiple of VEC columns. With `taps`, the sum of as many such
 * products, each with a and b that much further on. */
typedef struct TileProduct {
    int m, n, k;
    const float *a, *b;
    float *c;
    ptrdiff_t a_row, a_col, ldb, ldc;
    bool accumulate;
    int taps; /* 0: one */
    ptrdiff_t a_tap, b_tap;
} TileProduct;

void tile_product(const TileProduct *p);

/* to[c·ld + r] = from[r·from_ld + c]: a [rows, cols] block transposed; columns rows .. padded-1 of
 * `to` are zeroed. */
void tile_transpose(float *to, ptrdiff_t ld, const float *from, ptrdiff_t from_ld, int rows, int cols, int padded);

#endif
