#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

bool multiply(Tensor a, bool transpose_a, Tensor b, bool transpose_b, float alpha, float beta, Tensor c, Error *err) {
    Gemm g = {.transpose_a = transpose_a,
              .transpose_b = transpose_b,
              .m = c.rows,
              .n = c.cols,
              .k = transpose_a ? a.rows : a.cols,
              .alpha = alpha,
              .beta = beta,
              .a = floats(a),
              .lda = a.ld,
              .b = floats(b),
              .ldb = b.ld,
              .c = floats(c),
              .ldc = c.ld};
    return gemm(&g, err);
}

bool cpu_matmul(Device *dev, const MatmulArgs *a, Error *err) {
    (void)dev;
    int64_t m = a->c.rows, n = a->c.cols;
    if (!multiply(a->a, a->transpose_a, a->b, a->transpose_b, a->alpha, a->beta, a->c, err))
        return fail_in(err, "matmul");
    const float *bias = floats(a->bias);
    if (!bias && a->act == ACT_NONE) return true;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_FROM)
    for (int64_t r = 0; r < m; r++) rows_finish(row_of(a->c, r), a->c.ld, 1, n, bias, a->act);
    return true;
}
