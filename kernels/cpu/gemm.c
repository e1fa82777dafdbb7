#include "kernels/cpu/gemm.h"

#include <oneapi/dnnl/dnnl.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

/* Nothing to add up: only beta is left of the product. */
static void scale_only(const Gemm *g) {
    for (int64_t r = 0; r < g->m; r++) {
        float *c = g->c + r * g->ldc;
        if (g->beta == 0.0f)
            memset(c, 0, (size_t)g->n * sizeof *c);
        else
            row_scale(c, g->beta, g->n);
    }
}

bool gemm(const Gemm *g, Error *err) {
    if (g->m == 0 || g->n == 0) return true;
    if (g->k == 0) {
        scale_only(g);
        return true;
    }
    dnnl_status_t status = dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', g->m, g->n, g->k,
                                      g->alpha, g->a, g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
    if (status == dnnl_success) return true;
    return fail(err, "oneDNN refused a product of [%lld, %lld] and [%lld, %lld] with status %d", (long long)g->m,
                (long long)g->k, (long long)g->k, (long long)g->n, (int)status);
}
