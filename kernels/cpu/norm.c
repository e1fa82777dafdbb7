/* LayerNorm and RMSNorm over rows, forward and backward. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

static float row_variance(const float *s, float mean, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < n; c++) sum += (s[c] - mean) * (s[c] - mean);
    return sum / (float)n;
}

bool cpu_layer_norm(Device *dev, const LayerNormArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t n = a->x.rows, d = a->x.cols;
    const float *gamma = floats(a->gamma), *beta = floats(a->beta);
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_FROM)
    for (int64_t r = 0; r < n; r++) {
        const float *s = row_of(a->x, r);
        float mean = row_sum(s, d) / (float)d;
        float rstd = 1.0f / sqrtf(row_variance(s, mean, d) + a->eps);
        float *y = row_of(a->y, r);
#pragma omp simd
        for (int64_t c = 0; c < d; c++) y[c] = (s[c] - mean) * rstd * gamma[c] + beta[c];
        row_activate(y, y, d, a->act);
        if (tensor_present(a->mean)) floats(a->mean)[r] = mean;
        if (tensor_present(a->rstd)) floats(a->rstd)[r] = rstd;
    }
    return true;
}

/* dgamma and dbeta in blocks of columns, so that the order of adding never depends on the threads. */
static void layer_norm_parameters(const LayerNormBackwardArgs *a) {
    enum { BLOCK = 64 };
    int64_t n = a->dy.rows, d = a->dy.cols;
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_FROM)
    for (int64_t c0 = 0; c0 < d; c0 += BLOCK) {
        int64_t width = least(BLOCK, d - c0);
        float scale[BLOCK] = {0}, shift[BLOCK] = {0};
        for (int64_t r = 0; r < n; r++) {
            const float *dy = row_of(a->dy, r) + c0, *s = row_of(a->x, r) + c0;
            float mean = floats(a->mean)[r], rstd = floats(a->rstd)[r];
#pragma omp simd
            for (int64_t c = 0; c < width; c++) {
                scale[c] += dy[c] * ((s[c] - mean) * rstd);
                shift[c] += dy[c];
            }
        }
        if (tensor_present(a->dgamma)) row_add(floats(a->dgamma) + c0, 1.0f, scale, width);
        if (tensor_present(a->dbeta)) row_add(floats(a->dbeta) + c0, 1.0f, shift, width);
    }
}

bool cpu_layer_norm_backward(Device *dev, const LayerNormBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t n = a->dy.rows, d = a->dy.cols;
    if (tensor_present(a->dgamma) || tensor_present(a->dbeta)) layer_norm_parameters(a); /* dx may overwrite dy */
    if (!tensor_present(a->dx)) return true;
    const float *gamma = floats(a->gamma);
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_FROM)
    for (int64_t r = 0; r < n; r++) {
        const float *dy = row_of(a->dy, r), *s = row_of(a->x, r);
        float mean = floats(a->mean)[r], rstd = floats(a->rstd)[r];
        float plain = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : plain, along)
        for (int64_t c = 0; c < d; c++) {
            float g = dy[c] * gamma[c];
            plain += g;
            along += g * ((s[c] - mean) * rstd);
        }
        plain /= (float)d;
        along /= (float)d;
        float *dx = row_of(a->dx, r);
        const float *bypass = tensor_present(a->residual_grad) ? row_of(a->residual_grad, r) : NULL;
#pragma omp simd
        for (int64_t c = 0; c < d; c++) {
            float g = rstd * (dy[c] * gamma[c] - plain - (s[c] - mean) * rstd * along);
            dx[c] = bypass ? g + bypass[c] : g;
        }
    }
    return true;
}

bool cpu_rms_norm(Device *dev, const RmsNormArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t n = a->x.rows, d = a->x.cols, width = d / a->groups;
    const float *gamma = floats(a->gamma);
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_FROM)
    for (int64_t r = 0; r < n; r++) {
        const float *s = row_of(a->x, r);
        float *y = row_of(a->y, r);
        for (int g = 0; g < a->groups; g++, s += width, y += width) {
            float rstd = 1.0f / sqrtf(row_dot(s, s, width) / (float)width + a->eps);
#pragma omp simd
            for (int64_t c = 0; c < width; c++) y[c] = s[c] * rstd * gamma[c];
            if (tensor_present(a->rstd)) row_of(a->rstd, r)[g] = rstd;
        }
    }
    return true;
}

static void rms_norm_parameters(const RmsNormBackwardArgs *a) {
    enum { BLOCK = 64 };
    int64_t n = a->dy.rows, width = a->dy.cols / a->groups;
#pragma omp parallel for schedule(static) if (n * a->dy.cols > PARALLEL_FROM)
    for (int64_t c0 = 0; c0 < width; c0 += BLOCK) {
        int64_t part = least(BLOCK, width - c0);
        float scale[BLOCK] = {0};
        for (int64_t r = 0; r < n; r++) {
            for (int g = 0; g < a->groups; g++) {
                const float *dy = row_of(a->dy, r) + g * width + c0, *s = row_of(a->x, r) + g * width + c0;
                float rstd = row_of(a->rstd, r)[g];
#pragma omp simd
                for (int64_t c = 0; c < part; c++) scale[c] += dy[c] * (s[c] * rstd);
            }
        }
        row_add(floats(a->dgamma) + c0, 1.0f, scale, part);
    }
}

static void rms_norm_gradient(const RmsNormBackwardArgs *a, int64_t r, int g) {
    int64_t width = a->dy.cols / a->groups, at = g * width;
    const float *dy = row_of(a->dy, r) + at, *s = row_of(a->x, r) + at, *gamma = floats(a->gamma);
    const float *bypass = tensor_present(a->residual_grad) ? row_of(a->residual_grad, r) + at : NULL;
    float *dx = row_of(a->dx, r) + at, rstd = row_of(a->rstd, r)[g];
    float along = 0.0f;
#pragma omp simd reduction(+ : along)
    for (int64_t c = 0; c < width; c++) along += dy[c] * gamma[c] * s[c];
    along *= rstd * rstd / (float)width;
    if (bypass) {
#pragma omp simd
        for (int64_t c = 0; c < width; c++) dx[c] = rstd * (dy[c] * gamma[c] - s[c] * along) + bypass[c];
    } else {
#pragma omp simd
        for (int64_t c = 0; c < width; c++) dx[c] = rstd * (dy[c] * gamma[c] - s[c] * along);
    }
}

bool cpu_rms_norm_backward(Device *dev, const RmsNormBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
    if (tensor_present(a->dgamma)) rms_norm_parameters(a); /* dx may overwrite dy */
    if (!tensor_present(a->dx)) return true;
#pragma omp parallel for schedule(static) if (a->dy.rows * a->dy.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->dy.rows; r++)
        for (int g = 0; g < a->groups; g++) rms_norm_gradient(a, r, g);
    return true;
}
