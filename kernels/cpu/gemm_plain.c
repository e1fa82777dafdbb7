/* gemm without oneDNN, for builds that have none (make LEAN=1): right, and fast enough to compare with. */
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

enum { COLS = 512, TERMS = 128 }; /* of b that stay in the cache while rows of c pass by */

/* op(b), [k, n], where b is stored the other way round. */
static float *turn(const Gemm *g, Error *err) {
    float *b = memory_new((size_t)(g->k * g->n), sizeof *b, err);
    if (!b) return NULL;
#pragma omp parallel for
    for (int64_t j = 0; j < g->n; j++)
        for (int64_t i = 0; i < g->k; i++) b[i * g->n + j] = g->b[j * g->ldb + i];
    return b;
}

static void begin_row(float *c, float beta, int64_t n) {
    if (beta == 0.0f)
        memset(c, 0, (size_t)n * sizeof *c);
    else
        row_scale(c, beta, n);
}

static void add_block(const Gemm *g, const float *b, int64_t ldb, int64_t row, int64_t col, int64_t term) {
    int64_t cols = g->n - col < COLS ? g->n - col : COLS, terms = g->k - term < TERMS ? g->k - term : TERMS;
    float *c = g->c + row * g->ldc + col;
    for (int64_t i = term; i < term + terms; i++) {
        float a = g->alpha * (g->transpose_a ? g->a[i * g->lda + row] : g->a[row * g->lda + i]);
        const float *from = b + i * ldb + col;
        for (int64_t j = 0; j < cols; j++) c[j] += a * from[j];
    }
}

bool gemm(const Gemm *g, Error *err) {
    if (g->m == 0 || g->n == 0) return true;
    float *turned = g->transpose_b && g->k ? turn(g, err) : NULL;
    if (g->transpose_b && g->k && !turned) return false;
    const float *b = turned ? turned : g->b;
    int64_t ldb = turned ? g->n : g->ldb;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < g->m; row++) {
        begin_row(g->c + row * g->ldc, g->beta, g->n);
        for (int64_t col = 0; col < g->n; col += COLS)
            for (int64_t term = 0; term < g->k; term += TERMS) add_block(g, b, ldb, row, col, term);
    }
    free(turned);
    return true;
}
