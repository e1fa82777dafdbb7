/* Matrix products with what follows them. */
#include "kernels/cuda/functions.cuh"
#include "kernels/cuda/rows.cuh"

/* ---- c = act(beta · residual + bias), where no product's epilogue does it ---- */

enum { FINISH_THREADS = 256 };

template <typename T, int WIDTH, int ACT>
static __global__ void finish_kernel(T *c, int64_t ldc, const T *residual, int64_t ld, int64_t rows, int64_t cols,
                                     float beta, const T *bias) {
    int64_t vectors = (cols + WIDTH - 1) / WIDTH, item = (int64_t)blockIdx.x * FINISH_THREADS + threadIdx.x;
    if (item >= rows * vectors) return;
    Place place = place_of(item, vectors);
    int64_t first = place.vector * WIDTH;
    int count = cols - first < WIDTH ? (int)(cols - first) : WIDTH;
    float v[WIDTH], add[WIDTH]; /* without beta what residual holds may be anything */
    load_some<WIDTH>(v, residual + place.row * ld + first, beta != 0.0f ? count : 0);
    load_some<WIDTH>(add, bias + first, bias ? count : 0);
    for (int i = 0; i < WIDTH; i++) v[i] = activate<ACT>(beta * v[i] + add[i]);
    store_some<WIDTH>(c + place.row * ldc + first, v, count);
}

template <typename T, int WIDTH> static bool finish_wide(Device *dev, const CudaGemm *g, Error *err) {
    dim3 grid = blocks_for(g->m * ((g->n + WIDTH - 1) / WIDTH), FINISH_THREADS);
    void (*kernel)(T *, int64_t, const T *, int64_t, int64_t, int64_t, float, const T *) =
        g->act == ACT_GELU   ? finish_kernel<T, WIDTH, ACT_GELU>
        : g->act == ACT_RELU ? finish_kernel<T, WIDTH, ACT_RELU>
                             : finish_kernel<T, WIDTH, ACT_NONE>;
    return launch(dev, err, "finish_kernel", kernel, grid, FINISH_THREADS, 0, (T *)g->c, g->ldc, (const T *)g->residual,
                  g->ld_residual, g->m, g->n, g->beta, (const T *)g->bias);
}

template <typename T> static bool finish(Device *dev, const CudaGemm *g, Error *err) {
    Tensor c = {g->c, g->c_dtype, g->m, g->n, g->ldc};
    Tensor residual = {(void *)g->residual, g->c_dtype, g->m, g->n, g->ld_residual};
    bool aligned = rows_aligned(c, 16) && rows_aligned(residual, 16) && (uintptr_t)g->bias % 16 == 0;
    return aligned ? finish_wide<T, 8>(dev, g, err) : finish_wide<T, 1>(dev, g, err);
}

/* ---- products ---- */

extern "C" bool cuda_gemm(Device *dev, const CudaGemm *g, Error *err) {
    if (!g->m || !g->n) return true;
    CudaGemm product = *g, rest = *g;
    bool bias_later = g->bias && (!g->k || (uintptr_t)g->bias % 16 != 0);
    bool act_later =
        g->act != ACT_NONE && (!g->k || bias_later || g->act == ACT_GELU); /* cuBLASLt's GELU is not erf's */
    if (bias_later) product.bias = NULL;
    if (act_later) product.act = ACT_NONE;
    if (g->k && !cuda_product(dev, &product, err)) return false;
    if (g->k && !bias_later && !act_later) return true;
    if (g->k) rest.beta = 1.0f, rest.residual = g->c, rest.ld_residual = g->ldc;
    if (!bias_later) rest.bias = NULL;
    return g->c_dtype == DTYPE_BF16 ? finish<bf16>(dev, &rest, err) : finish<float>(dev, &rest, err);
}

extern "C" size_t cuda_matmul_scratch(const Device *dev, const MatmulArgs *a) {
    (void)dev, (void)a;
    return 0;
}

extern "C" bool cuda_matmul(Device *dev, const MatmulArgs *a, Error *err) {
    CudaGemm g = {};
    g.transpose_a = a->transpose_a, g.transpose_b = a->transpose_b;
    g.m = a->c.rows, g.n = a->c.cols, g.k = a->transpose_a ? a->a.rows : a->a.cols;
    g.alpha = a->alpha, g.beta = a->beta;
    g.dtype = a->a.dtype, g.c_dtype = a->c.dtype;
    g.a = a->a.data, g.b = a->b.data, g.residual = g.c = a->c.data, g.bias = a->bias.data;
    g.lda = a->a.ld, g.ldb = a->b.ld, g.ld_residual = g.ldc = a->c.ld;
    g.act = a->act;
    return cuda_gemm(dev, &g, err) || fail_in(err, "matmul");
}
