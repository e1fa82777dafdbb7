#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

bool cpu_matmul(Device *dev, const MatmulArgs *a, Error *err) {
    (void)dev;
    int64_t m = a->c.rows, n = a->c.cols, k = a->transpose_a ? a->a.rows : a->a.cols;
    Gemm g = {.transpose_a = a->transpose_a,
              .transpose_b = a->transpose_b,
              .m = m,
              .n = n,
              .k = k,
              .alpha = a->alpha,
              .beta = a->beta,
              .a = floats(a->a),
              .b = floats(a->b),
              .c = floats(a->c),
              .lda = a->a.ld,
              .ldb = a->b.ld,
              .ldc = a->c.ld};
    if (!gemm(&g, err)) return fail_in(err, "matmul");
    const float *bias = floats(a->bias);
    if (!bias && a->act == ACT_NONE) return true;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_FROM)
    for (int64_t r = 0; r < m; r++) rows_finish(row_of(a->c, r), a->c.ld, 1, n, bias, a->act);
    return true;
}
