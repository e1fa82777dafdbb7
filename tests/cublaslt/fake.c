#include "tests/cublaslt/fake.h"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dtype.h"

/* The emulator's, whose header is no friend of the toolkit's. */
cudaError_t emu_enqueue_host(void (*call)(void *state), const void *state, size_t bytes, cudaStream_t stream);

Fake fake;

typedef struct Layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
} Layout;

typedef struct Product {
    int32_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
} Product;

static void *made(size_t bytes) {
    void *object = calloc(1, bytes);
    if (!object) abort();
    fake.live++;
    return object;
}

static cublasStatus_t destroyed(void *object) {
    free(object);
    fake.live--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = made(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroyed(handle); }

size_t cublasLtGetVersion(void) { return 130099; }

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "another status";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *to, cublasComputeType_t compute, cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    Product *p = made(sizeof *p);
    p->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    *to = (cublasLtMatmulDesc_t)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) { return destroyed(product); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    Product *p = (Product *)product;
    void *to = attribute == CUBLASLT_MATMUL_DESC_TRANSA         ? (void *)&p->transpose_a
               : attribute == CUBLASLT_MATMUL_DESC_TRANSB       ? (void *)&p->transpose_b
               : attribute == CUBLASLT_MATMUL_DESC_EPILOGUE     ? (void *)&p->epilogue
               : attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? (void *)&p->bias
                                                                : NULL;
    if (!to || bytes != (to == (void *)&p->bias ? sizeof p->bias : 4)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *to, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
    if (!rows || !cols || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    Layout *layout = made(sizeof *layout);
    *layout = (Layout){type, rows, cols, ld};
    *to = (cublasLtMatrixLayout_t)layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroyed(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *to) {
    *to = made(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroyed(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
    (void)preference, (void)attribute, (void)value;
    return bytes == (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4) ? CUBLAS_STATUS_SUCCESS
                                                                                    : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t found[], int *count) {
    (void)handle, (void)product, (void)a, (void)b, (void)c, (void)d, (void)preference;
    fake.guesses++;
    *count = 0;
    if (fake.clueless) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int id = FAKE_FIRST; id <= FAKE_LAST && *count < most; id++) {
        cublasLtMatmulHeuristicResult_t *result = &found[(*count)++];
        memset(result, 0, sizeof *result);
        result->algo.data[0] = (uint64_t)id;
        result->algo.data[7] = UINT64_MAX;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulHeuristicResult_t *result) {
    (void)handle, (void)product, (void)a, (void)b, (void)c, (void)d;
    memset(result, 0, sizeof *result);
    bool known =
        algorithm->data[0] >= FAKE_FIRST && algorithm->data[0] <= FAKE_LAST && algorithm->data[7] == UINT64_MAX;
    return known && !fake.damaged ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* A product under way. */
typedef struct Work {
    Product product;
    Layout a, b, c, d;
    float alpha, beta;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    uint64_t algorithm;
} Work;

static float at(const void *data, const Layout *layout, uint64_t row, uint64_t col) {
    size_t place = (size_t)col * (size_t)layout->ld + row;
    return layout->type == CUDA_R_16BF ? bf16_to_f32(((const uint16_t *)data)[place]) : ((const float *)data)[place];
}

static float element(const Work *w, uint64_t i, uint64_t j) {
    bool ta = w->product.transpose_a == CUBLAS_OP_T, tb = w->product.transpose_b == CUBLAS_OP_T;
    uint64_t inner = ta ? w->a.rows : w->a.cols;
    double sum = 0.0;
    for (uint64_t k = 0; k < inner; k++)
        sum += (double)(ta ? at(w->a_data, &w->a, k, i) : at(w->a_data, &w->a, i, k)) *
               (double)(tb ? at(w->b_data, &w->b, j, k) : at(w->b_data, &w->b, k, j));
    sum *= (double)w->alpha;
    if (w->beta != 0.0f) sum += (double)(w->beta * at(w->c_data, &w->c, i, j));
    if (w->product.epilogue & CUBLASLT_EPILOGUE_BIAS) sum += (double)at(w->product.bias, &w->d, i, 0);
    return (float)(w->product.epilogue & CUBLASLT_EPILOGUE_RELU && sum < 0.0 ? 0.0 : sum);
}

static void work(void *state) {
    const Work *w = state;
    if (w->algorithm != FAKE_FASTEST) usleep(3000);
    for (uint64_t j = 0; j < w->d.cols; j++)
        for (uint64_t i = 0; i < w->d.rows; i++) {
            float value = element(w, i, j);
            size_t place = (size_t)j * (size_t)w->d.ld + i;
            if (w->d.type == CUDA_R_16BF)
                ((uint16_t *)w->d_data)[place] = f32_to_bf16(value);
            else
                ((float *)w->d_data)[place] = value;
        }
}

/* Whether op(a) is [d's rows, k] and op(b) [k, d's columns], and c like d: d itself, as described, or elsewhere. */
static bool conforms(const Work *w) {
    bool ta = w->product.transpose_a == CUBLAS_OP_T, tb = w->product.transpose_b == CUBLAS_OP_T;
    bool alike = w->c.type == w->d.type && w->c.rows == w->d.rows && w->c.cols == w->d.cols;
    return alike && (w->c_data != w->d_data || w->c.ld == w->d.ld) && (ta ? w->a.cols : w->a.rows) == w->d.rows &&
           (tb ? w->b.rows : w->b.cols) == w->d.cols && (ta ? w->a.rows : w->a.cols) == (tb ? w->b.cols : w->b.rows) &&
           w->a.type == w->b.type;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    Work w = {.product = *(Product *)product,
              .a = *(Layout *)a_layout,
              .b = *(Layout *)b_layout,
              .c = *(Layout *)c_layout,
              .d = *(Layout *)d_layout,
              .alpha = *(const float *)alpha,
              .beta = *(const float *)beta,
              .a_data = a,
              .b_data = b,
              .c_data = c,
              .d_data = d,
              .algorithm = algorithm->data[0]};
    fake.products++;
    if (!handle || (c == d && c_layout != d_layout) || !workspace || workspace_bytes != 32 << 20 || !conforms(&w))
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((int)w.algorithm == fake.refused) return CUBLAS_STATUS_NOT_SUPPORTED;
    return emu_enqueue_host(work, &w, sizeof w, stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
}
