/* Elementwise operations and rotary positions. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

bool cpu_activation(Device *dev, const ActivationArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->x.rows; r++) row_activate(row_of(a->y, r), row_of(a->x, r), a->x.cols, a->act);
    return true;
}

static void row_activate_backward(float *dx, const float *x, const float *dy, int64_t n, Activation act) {
    if (act == ACT_GELU) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * vec_gelu_slope(x[i]);
    } else if (act == ACT_RELU) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = x[i] > 0.0f ? dy[i] : 0.0f;
    } else if (dx != dy) {
        memcpy(dx, dy, (size_t)n * sizeof *dx);
    }
}

bool cpu_activation_backward(Device *dev, const ActivationBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->x.rows; r++)
        row_activate_backward(row_of(a->dx, r), row_of(a->x, r), row_of(a->dy, r), a->x.cols, a->act);
    return true;
}

bool cpu_add(Device *dev, const AddArgs *a, Error *err) {
    (void)dev, (void)err;
    float alpha = a->alpha, beta = a->beta;
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->y.rows; r++) {
        const float *x = row_of(a->a, r), *b = row_of(a->b, r);
        float *y = row_of(a->y, r);
#pragma omp simd
        for (int64_t c = 0; c < a->y.cols; c++) y[c] = alpha * x[c] + beta * b[c];
    }
    return true;
}

static void convert_row(char *y, DType to, const char *x, DType from, int64_t n) {
    for (int64_t c = 0; c < n; c++) {
        float value = from == DTYPE_F32 ? ((const float *)x)[c] : bf16_to_f32(((const uint16_t *)x)[c]);
        if (to == DTYPE_F32)
            ((float *)y)[c] = value;
        else
            ((uint16_t *)y)[c] = f32_to_bf16(value);
    }
}

bool cpu_convert(Device *dev, const ConvertArgs *a, Error *err) {
    (void)dev, (void)err;
    size_t from = dtype_size(a->x.dtype), to = dtype_size(a->y.dtype);
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->y.rows; r++)
        convert_row((char *)a->y.data + (size_t)(r * a->y.ld) * to, a->y.dtype,
                    (const char *)a->x.data + (size_t)(r * a->x.ld) * from, a->x.dtype, a->y.cols);
    return true;
}

static void rotate(float *x, const float *cosine, const float *sine, int64_t half, float sign) {
#pragma omp simd
    for (int64_t c = 0; c < half; c++) {
        float low = x[c], high = x[half + c], s = sign * sine[c];
        x[c] = low * cosine[c] - high * s;
        x[half + c] = high * cosine[c] + low * s;
    }
}

bool cpu_rope(Device *dev, const RopeArgs *a, Error *err) {
    (void)dev;
    for (int64_t r = 0; r < a->x.rows; r++)
        if (a->position[r] < 0 || a->position[r] >= a->table.rows)
            return fail(err, "rope: row %lld has position %d, the table has %lld: the sequence is longer than planned",
                        (long long)r, a->position[r], (long long)a->table.rows);
    int64_t half = a->dim / 2;
    float sign = a->inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->x.rows; r++) {
        const float *table = row_of(a->table, a->position[r]);
        for (int h = 0; h < a->heads; h++) rotate(row_of(a->x, r) + h * a->dim, table, table + half, half, sign);
    }
    return true;
}
