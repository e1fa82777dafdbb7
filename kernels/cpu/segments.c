/* Statistics over the rows of a segment: norms over time, means. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

/* Rows are worked on in chunks whatever the number of threads, so that sums come out the same. */
enum { CHUNK = 512, FEW = 32 };

static int64_t chunks_of(const SegmentNormArgs *a) { return (a->segments.longest + CHUNK - 1) / CHUNK; }

static size_t moments_of(const SegmentNormArgs *a) {
    return (size_t)(a->segments.count * chunks_of(a) * 2 * a->x.cols);
}

/* Sums and sums of squares of each chunk in double, then scale and middle of each segment. */
size_t cpu_segment_norm_scratch(const SegmentNormArgs *a) {
    return moments_of(a) * sizeof(double) + (size_t)(a->segments.count * 2 * a->x.cols) * sizeof(float);
}

/* Of x - origin, so that a large mean does not drown the variance; in float over a few rows at a time,
 * a few channels that stay in the cache, and in double over these. */
static void chunk_moments(Tensor x, const float *origin, int64_t first, int64_t end, double *sum, double *square) {
    enum { CHANNELS = 512 };
    float s[CHANNELS], q[CHANNELS];
    for (int64_t c0 = 0; c0 < x.cols; c0 += CHANNELS) {
        int64_t width = least(CHANNELS, x.cols - c0);
        for (int64_t c = c0; c < c0 + width; c++) sum[c] = square[c] = 0.0;
        for (int64_t r0 = first; r0 < end; r0 += FEW) {
            memset(s, 0, sizeof s);
            memset(q, 0, sizeof q);
            for (int64_t r = r0; r < least(end, r0 + FEW); r++) {
                const float *row = row_of(x, r) + c0, *from = origin + c0;
#pragma omp simd
                for (int64_t c = 0; c < width; c++) {
                    float v = row[c] - from[c];
                    s[c] += v;
                    q[c] += v * v;
                }
            }
            for (int64_t c = 0; c < width; c++) sum[c0 + c] += (double)s[c], square[c0 + c] += (double)q[c];
        }
    }
}

/* From the moments of its chunks, how a segment's channels are scaled and where their middle is. */
static void segment_affine(const SegmentNormArgs *a, int64_t first, int64_t rows, const double *moments, float *scale,
                           float *middle) {
    int64_t width = a->x.cols;
    const float *origin = row_of(a->x, first);
    for (int64_t c = 0; c < width; c++) {
        double sum = 0.0, square = 0.0;
        for (int64_t i = 0; i * CHUNK < rows; i++) {
            sum += moments[2 * i * width + c];
            square += moments[(2 * i + 1) * width + c];
        }
        double mean = sum / (double)rows, variance = square / (double)rows - mean * mean;
        middle[c] = (float)(mean + (double)origin[c]);
        scale[c] = (float)((double)floats(a->gamma)[c] / sqrt((variance > 0.0 ? variance : 0.0) + (double)a->eps));
    }
}

static void apply_affine(const SegmentNormArgs *a, int64_t first, int64_t end, const float *scale,
                         const float *middle) {
    const float *beta = floats(a->beta);
    for (int64_t r = first; r < end; r++) {
        const float *x = row_of(a->x, r);
        float *y = row_of(a->y, r);
#pragma omp simd
        for (int64_t c = 0; c < a->x.cols; c++) y[c] = (x[c] - middle[c]) * scale[c] + beta[c];
        row_activate(y, y, a->x.cols, a->act);
    }
}

bool cpu_segment_norm(Device *dev, const SegmentNormArgs *a, Error *err) {
    double *moments = device_scratch(dev, cpu_segment_norm_scratch(a), err);
    if (!moments) return fail_in(err, "segment_norm");
    float *affine = (float *)(moments + moments_of(a));
    int64_t chunks = chunks_of(a), width = a->x.cols;
    const int32_t *cu = a->segments.host, *counted = a->counted.host;
#pragma omp parallel if (a->x.rows * width > PARALLEL_FROM)
    {
#pragma omp for collapse(2) schedule(static)
        for (int32_t s = 0; s < a->segments.count; s++)
            for (int64_t i = 0; i < chunks; i++) {
                double *part = moments + (s * chunks + i) * 2 * width;
                int64_t first = cu[s] + i * CHUNK, end = least(cu[s] + counted[s + 1] - counted[s], first + CHUNK);
                if (first < end) chunk_moments(a->x, row_of(a->x, cu[s]), first, end, part, part + width);
            }
#pragma omp for schedule(static)
        for (int32_t s = 0; s < a->segments.count; s++) {
            float *scale = affine + s * 2 * width;
            if (cu[s] < cu[s + 1])
                segment_affine(a, cu[s], counted[s + 1] - counted[s], moments + s * chunks * 2 * width, scale,
                               scale + width);
        }
#pragma omp for collapse(2) schedule(static)
        for (int32_t s = 0; s < a->segments.count; s++)
            for (int64_t i = 0; i < chunks; i++) {
                const float *scale = affine + s * 2 * width;
                int64_t first = cu[s] + i * CHUNK, end = least(cu[s + 1], first + CHUNK);
                if (first < end) apply_affine(a, first, end, scale, scale + width);
            }
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
