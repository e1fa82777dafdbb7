/* Work on single rows of floats, shared by the ops. */
#ifndef SEMOLLM_KERNELS_CPU_ROWS_H
#define SEMOLLM_KERNELS_CPU_ROWS_H

#include "kernels/cpu/vec.h"
#include "kernels/ops.h"

static inline float row_dot(const float *a, const float *b, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static inline float row_sum(const float *a, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i];
    return sum;
}

/* In lanes by hand: a reduction by maximum is not vectorised by every compiler. n > 0. */
static inline float row_max(const float *a, int64_t n) {
    enum { LANES = 16 };
    float lane[LANES], most = a[0];
    int64_t i = 0;
    for (int l = 0; l < LANES; l++) lane[l] = a[0];
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++) lane[l] = a[i + l] > lane[l] ? a[i + l] : lane[l];
    for (; i < n; i++) most = a[i] > most ? a[i] : most;
    for (int l = 0; l < LANES; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

/* y += alpha · x */
static inline void row_add(float *y, float alpha, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

static inline void row_scale(float *y, float alpha, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] *= alpha;
}

/* y = act(x); y may be x. */
static inline void row_activate(float *y, const float *x, int64_t n, Activation act) {
    if (act == ACT_GELU) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = vec_gelu(x[i]);
    } else if (act == ACT_RELU) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
    } else if (y != x) {
        memcpy(y, x, (size_t)n * sizeof *y);
    }
}

/* y = act(y + bias) over rows `ld` apart; bias may be null. Run by the calling thread. */
void rows_finish(float *y, int64_t ld, int64_t rows, int64_t cols, const float *bias, Activation act);

/* sum[c] += Σ_r x[r, c], in the same order for any number of threads. */
void rows_sum_columns(Tensor x, float *sum);

/* y = dropout(x); y may be x. */
void rows_dropout(Tensor y, Tensor x, const Dropout *d);

#endif
