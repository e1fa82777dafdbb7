#include "kernels/cpu/rows.h"

#include "base/rng.h"
#include "kernels/cpu/cpu.h"

void rows_finish(float *y, int64_t ld, int64_t rows, int64_t cols, const float *bias, Activation act) {
    for (int64_t r = 0; r < rows; r++, y += ld) {
        if (bias) row_add(y, 1.0f, bias, cols);
        row_activate(y, y, cols, act);
    }
}

void rows_sum_columns(Tensor x, float *sum) {
    enum { BLOCK = 64 };
#pragma omp parallel for schedule(static) if (x.rows * x.cols > PARALLEL_FROM)
    for (int64_t c = 0; c < x.cols; c += BLOCK) {
        int64_t width = least(BLOCK, x.cols - c);
        float part[BLOCK] = {0};
        for (int64_t r = 0; r < x.rows; r++) row_add(part, 1.0f, row_of(x, r) + c, width);
        row_add(sum + c, 1.0f, part, width);
    }
}

void row_dropout(float *y, const float *x, int64_t cols, const Dropout *d, int64_t row) {
    float scale = 1.0f / (1.0f - d->p);
    uint64_t first = (uint64_t)(uint32_t)d->position[row] * (uint64_t)cols;
    uint32_t sample = (uint32_t)d->sample[row];
    Philox block = {{0}};
    for (int64_t c = 0; c < cols; c++) {
        uint64_t e = first + (uint64_t)c;
        if (c == 0 || e % 4 == 0) block = philox(d->seed, (uint32_t)(e / 4), d->place, sample, d->step);
        y[c] = rng_uniform(block.word[e % 4]) >= d->p ? x[c] * scale : 0.0f;
    }
}

void rows_dropout(Tensor y, Tensor x, const Dropout *d) {
#pragma omp parallel for schedule(static) if (x.rows * x.cols > PARALLEL_FROM / 8)
    for (int64_t r = 0; r < x.rows; r++) row_dropout(row_of(y, r), row_of(x, r), x.cols, d, r);
}
