/* Operations that move rows: gathering, scattering, stacking, mixing layers. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

static bool indices_fit(const char *op, const int32_t *index, int64_t count, int64_t rows, Error *err) {
    for (int64_t i = 0; i < count; i++)
        if (index[i] >= rows)
            return fail(err, "%s: index %d of row %lld is past the %lld rows there are", op, index[i], (long long)i,
                        (long long)rows);
    return true;
}

bool cpu_gather_rows(Device *dev, const GatherRowsArgs *a, Error *err) {
    (void)dev;
    if (!indices_fit("gather_rows", a->index, a->y.rows, a->x.rows, err)) return false;
    size_t bytes = (size_t)a->y.cols * sizeof(float);
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int64_t i = 0; i < a->y.rows; i++) {
        if (a->index[i] < 0)
            memset(row_of(a->y, i), 0, bytes);
        else
            memcpy(row_of(a->y, i), row_of(a->x, a->index[i]), bytes);
    }
    return true;
}

bool cpu_scatter_rows(Device *dev, const ScatterRowsArgs *a, Error *err) {
    (void)dev;
    if (!indices_fit("scatter_rows", a->index, a->x.rows, a->y.rows, err)) return false;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int64_t i = 0; i < a->x.rows; i++) {
        if (a->index[i] < 0) continue;
        float *y = row_of(a->y, a->index[i]);
        if (a->accumulate)
            row_add(y, 1.0f, row_of(a->x, i), a->x.cols);
        else
            memcpy(y, row_of(a->x, i), (size_t)a->x.cols * sizeof *y);
    }
    return true;
}

/* Frame f of a segment of `length` from row `first` into (or, past the end, zeros). */
static void stack_one(const StackFramesArgs *a, float *to, int64_t row, bool inside) {
    int64_t h = a->x.cols, p = tensor_present(a->side) ? a->side.cols : 0;
    if (!inside) {
        memset(to, 0, (size_t)(h + p) * sizeof *to);
        return;
    }
    memcpy(to, row_of(a->x, row), (size_t)h * sizeof *to);
    if (p) memcpy(to + h, row_of(a->side, row), (size_t)p * sizeof *to);
}

bool cpu_stack_frames(Device *dev, const StackFramesArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t frame = a->y.cols / a->k;
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int32_t s = 0; s < a->rows.count; s++) {
        int64_t first = a->frames.host[s], end = a->frames.host[s + 1];
        for (int64_t r = a->rows.host[s]; r < a->rows.host[s + 1]; r++)
            for (int j = 0; j < a->k; j++) {
                int64_t from = first + (r - a->rows.host[s]) * a->k + j;
                stack_one(a, row_of(a->y, r) + j * frame, from, from < end);
            }
    }
    return true;
}

bool cpu_stack_frames_backward(Device *dev, const StackFramesBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t h = a->dx.cols, frame = h + a->side;
#pragma omp parallel for schedule(static) if (a->dx.rows * h > PARALLEL_FROM)
    for (int32_t s = 0; s < a->frames.count; s++) {
        int64_t first = a->frames.host[s], end = a->frames.host[s + 1];
        for (int64_t f = 0; f < end - first; f++) {
            const float *from = row_of(a->dy, a->rows.host[s] + f / a->k) + (f % a->k) * frame;
            memcpy(row_of(a->dx, first + f), from, (size_t)h * sizeof(float));
        }
    }
    return true;
}

static void softmax_of(const float *weight, int count, double *share) {
    double most = (double)weight[0], sum = 0.0;
    for (int i = 1; i < count; i++) most = fmax(most, (double)weight[i]);
    for (int i = 0; i < count; i++) sum += share[i] = exp((double)weight[i] - most);
    for (int i = 0; i < count; i++) share[i] /= sum;
}

bool cpu_layer_mix(Device *dev, const LayerMixArgs *a, Error *err) {
    (void)dev, (void)err;
    double share[LAYER_MIX_MAX];
    softmax_of(floats(a->weight), a->count, share);
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->y.rows; r++) {
        float *y = row_of(a->y, r);
        memset(y, 0, (size_t)a->y.cols * sizeof *y);
        for (int i = 0; i < a->count; i++) row_add(y, (float)share[i], row_of(a->state[i], r), a->y.cols);
    }
    return true;
}

bool cpu_layer_mix_backward(Device *dev, const LayerMixBackwardArgs *a, Error *err) {
    (void)dev, (void)err;
    double share[LAYER_MIX_MAX], along[LAYER_MIX_MAX], mean = 0.0;
    softmax_of(floats(a->weight), a->count, share);
#pragma omp parallel for schedule(static) if (a->dy.rows * a->dy.cols > PARALLEL_FROM)
    for (int i = 0; i < a->count; i++) {
        double sum = 0.0;
        for (int64_t r = 0; r < a->dy.rows; r++)
            sum += (double)row_dot(row_of(a->dy, r), row_of(a->state[i], r), a->dy.cols);
        along[i] = sum;
    }
    for (int i = 0; i < a->count; i++) mean += share[i] * along[i];
    for (int i = 0; i < a->count; i++) floats(a->dweight)[i] += (float)(share[i] * (along[i] - mean));
    return true;
}
