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

/* The generator over LANES blocks of one row at once: the same words as philox(), lane by lane. */
enum { LANES = 16 };

static void philox_lanes(const Dropout *d, uint32_t sample, uint32_t first, uint32_t word[4][LANES]) {
    uint32_t k0 = (uint32_t)d->seed, k1 = (uint32_t)(d->seed >> 32);
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    for (uint32_t l = 0; l < LANES; l++) c0[l] = first + l, c1[l] = d->place, c2[l] = sample, c3[l] = d->step;
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(word[0], c0, sizeof c0);
    memcpy(word[1], c1, sizeof c1);
    memcpy(word[2], c2, sizeof c2);
    memcpy(word[3], c3, sizeof c3);
}

void row_dropout(float *y, const float *x, int64_t cols, const Dropout *d, int64_t row) {
    float scale = 1.0f / (1.0f - d->p), p = d->p;
    uint64_t first = (uint64_t)(uint32_t)d->position[row] * (uint64_t)cols, block = first / 4;
    int64_t c = -(int64_t)(first % 4); /* column of the block's first word; the row may begin inside a block */
    for (; c < cols; c += 4 * LANES, block += LANES) {
        uint32_t word[4][LANES];
        float factor[4 * LANES];
        philox_lanes(d, (uint32_t)d->sample[row], (uint32_t)block, word);
        for (int w = 0; w < 4; w++) {
#pragma omp simd
            for (int l = 0; l < LANES; l++) { /* rng_uniform(word) >= p, in line */
                float uniform = ((float)(int32_t)(word[w][l] >> 8) + 0.5f) * 0x1p-24f;
                factor[4 * l + w] = uniform >= p ? scale : 0.0f;
            }
        }
        int64_t begin = c < 0 ? -c : 0, end = least(4 * LANES, cols - c);
#pragma omp simd
        for (int64_t i = begin; i < end; i++) y[c + i] = x[c + i] * factor[i];
    }
}

void rows_dropout(Tensor y, Tensor x, const Dropout *d) {
#pragma omp parallel for schedule(static) if (x.rows * x.cols > PARALLEL_FROM / 8)
    for (int64_t r = 0; r < x.rows; r++) row_dropout(row_of(y, r), row_of(x, r), x.cols, d, r);
}
