/* Statistics over the rows of a segment: norms over time, means. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { CHANNELS = 64, CHUNK = 64 };

/* Sums in float over a few rows at a time and in double over these, of x - x[0] so that a large mean
 * does not drown the variance. */
static void channel_moments(const float *x, int64_t ld, int64_t rows, int64_t width, double *mean, double *variance) {
    double sum[CHANNELS] = {0}, square[CHANNELS] = {0};
    float origin[CHANNELS];
    memcpy(origin, x, (size_t)width * sizeof *x);
    for (int64_t first = 0; first < rows; first += CHUNK) {
        float s[CHANNELS] = {0}, q[CHANNELS] = {0};
        int64_t end = least(rows, first + CHUNK);
        for (int64_t r = first; r < end; r++) {
            const float *row = x + r * ld;
#pragma omp simd
            for (int64_t c = 0; c < width; c++) {
                float v = row[c] - origin[c];
                s[c] += v;
                q[c] += v * v;
            }
        }
        for (int64_t c = 0; c < width; c++) sum[c] += (double)s[c], square[c] += (double)q[c];
    }
    for (int64_t c = 0; c < width; c++) {
        double m = sum[c] / (double)rows, v = square[c] / (double)rows - m * m;
        mean[c] = m + (double)origin[c];
        variance[c] = v > 0.0 ? v : 0.0;
    }
}

static void normalise_channels(const SegmentNormArgs *a, int64_t first, int64_t rows, int64_t c0) {
    int64_t width = least(CHANNELS, a->x.cols - c0);
    double mean[CHANNELS], variance[CHANNELS];
    float scale[CHANNELS], middle[CHANNELS];
    const float *beta = floats(a->beta) + c0;
    channel_moments(row_of(a->x, first) + c0, a->x.ld, rows, width, mean, variance);
    for (int64_t c = 0; c < width; c++) {
        scale[c] = (float)((double)floats(a->gamma)[c0 + c] / sqrt(variance[c] + (double)a->eps));
        middle[c] = (float)mean[c];
    }
    for (int64_t r = first; r < first + rows; r++) {
        const float *x = row_of(a->x, r) + c0;
        float *y = row_of(a->y, r) + c0;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) y[c] = (x[c] - middle[c]) * scale[c] + beta[c];
        row_activate(y, y, width, a->act);
    }
}

bool cpu_segment_norm(Device *dev, const SegmentNormArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t blocks = (a->x.cols + CHANNELS - 1) / CHANNELS;
#pragma omp parallel for collapse(2) schedule(dynamic) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int32_t s = 0; s < a->segments.count; s++)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t first = a->segments.host[s], rows = a->segments.host[s + 1] - first;
            if (rows) normalise_channels(a, first, rows, b * CHANNELS);
        }
    return true;
}

static void normalise_wave(const WaveNormArgs *a, int64_t first, int64_t rows) {
    double sum = 0.0, square = 0.0;
    for (int64_t r = 0; r < rows; r++) sum += (double)*row_of(a->x, first + r);
    double mean = sum / (double)rows;
    for (int64_t r = 0; r < rows; r++) {
        double v = (double)*row_of(a->x, first + r) - mean;
        square += v * v;
    }
    double rstd = 1.0 / sqrt(square / (double)rows + 1e-7);
    for (int64_t r = 0; r < rows; r++)
        *row_of(a->y, first + r) = (float)(((double)*row_of(a->x, first + r) - mean) * rstd);
}

bool cpu_wave_norm(Device *dev, const WaveNormArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(dynamic) if (a->x.rows > PARALLEL_FROM)
    for (int32_t s = 0; s < a->segments.count; s++) {
        int64_t first = a->segments.host[s], rows = a->segments.host[s + 1] - first;
        if (rows) normalise_wave(a, first, rows);
    }
    return true;
}

bool cpu_segment_mean(Device *dev, const SegmentMeanArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(dynamic) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int32_t s = 0; s < a->segments.count; s++) {
        int64_t first = a->segments.host[s], end = a->segments.host[s + 1];
        float *y = row_of(a->y, s);
        memset(y, 0, (size_t)a->y.cols * sizeof *y);
        for (int64_t r = first; r < end; r++) row_add(y, 1.0f, row_of(a->x, r), a->y.cols);
        if (end > first) row_scale(y, 1.0f / (float)(end - first), a->y.cols);
    }
    return true;
}

bool cpu_segment_mean_backward(Device *dev, const SegmentMeanBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(dynamic) if (a->dx.rows * a->dx.cols > PARALLEL_FROM)
    for (int32_t s = 0; s < a->segments.count; s++) {
        int64_t first = a->segments.host[s], end = a->segments.host[s + 1];
        const float *dy = row_of(a->dy, s);
        float share = end > first ? 1.0f / (float)(end - first) : 0.0f;
        for (int64_t r = first; r < end; r++) {
            float *dx = row_of(a->dx, r);
#pragma omp simd
            for (int64_t c = 0; c < a->dx.cols; c++) dx[c] = dy[c] * share;
        }
    }
    return true;
}
