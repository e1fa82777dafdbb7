/* What cuBLASLt does on a GPU, for the emulator: products in fp32 as the CPU device makes them, of bf16 or fp32,
 * enqueued like a kernel. */
#include <stdlib.h>

extern "C" {
#include "base/memory.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cuda/cuda.h"
}

extern "C" bool cuda_gemms_open(Device *dev, Error *err) {
    (void)dev, (void)err;
    return true;
}

extern "C" void cuda_gemms_close(Device *dev) { (void)dev; }

extern "C" char *cuda_device_algorithms(const Device *dev, Error *err) {
    (void)dev;
    return text_copy("{}", err);
}

extern "C" bool cuda_device_use_algorithms(Device *dev, const char *json, bool *fits, Error *err) {
    (void)dev, (void)json, (void)err;
    *fits = true;
    return true;
}

/* rows × cols of a matrix, dense and in fp32. */
static float *widened(const void *from, DType dtype, int64_t rows, int64_t cols, int64_t ld) {
    float *to = (float *)malloc((size_t)(rows * cols) * sizeof *to);
    for (int64_t r = 0; to && r < rows; r++)
        floats_from(dtype, (const char *)from + (size_t)(r * ld) * dtype_size(dtype), to + r * cols, (size_t)cols);
    return to;
}

static void finish(const CudaGemm *g, const float *product) {
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            float value = product[i * g->n + j];
            if (g->act == ACT_RELU && value < 0.0f) value = 0.0f;
            if (g->c_dtype == DTYPE_BF16)
                ((uint16_t *)g->c)[i * g->ldc + j] = f32_to_bf16(value);
            else
                ((float *)g->c)[i * g->ldc + j] = value;
        }
    }
}

static void multiply(void *state) {
    const CudaGemm *g = (const CudaGemm *)state;
    float *a =
        g->transpose_a ? widened(g->a, g->dtype, g->k, g->m, g->lda) : widened(g->a, g->dtype, g->m, g->k, g->lda);
    float *b =
        g->transpose_b ? widened(g->b, g->dtype, g->n, g->k, g->ldb) : widened(g->b, g->dtype, g->k, g->n, g->ldb);
    float *c = g->beta != 0.0f ? widened(g->residual, g->c_dtype, g->m, g->n, g->ld_residual)
                               : (float *)calloc((size_t)(g->m * g->n), sizeof *c);
    float *bias = g->bias ? widened(g->bias, g->c_dtype, 1, g->n, g->n) : NULL;
    if (!a || !b || !c || (g->bias && !bias)) abort();
    for (int64_t i = 0; i < g->m * g->n; i++) c[i] = g->beta * c[i] + (bias ? bias[i % g->n] : 0.0f);
    Gemm product = {};
    product.transpose_a = g->transpose_a, product.transpose_b = g->transpose_b;
    product.m = g->m, product.n = g->n, product.k = g->k;
    product.alpha = g->alpha, product.beta = 1.0f;
    product.a = a, product.b = b, product.c = c;
    product.lda = g->transpose_a ? g->m : g->k, product.ldb = g->transpose_b ? g->k : g->n, product.ldc = g->n;
    if (!gemm(&product, NULL)) abort();
    finish(g, c);
    free(a), free(b), free(c), free(bias);
}

extern "C" bool cuda_product(Device *dev, const CudaGemm *g, Error *err) {
    return cuda_ok(emu_enqueue_host(multiply, g, sizeof *g, cuda_stream(dev)), "cublasLtMatmul", err);
}
