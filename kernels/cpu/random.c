/* Dropout and noise, keyed by what a row is. The generator runs in lanes; its words are philox()'s. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { LANES = 16 };

/* word[w][l] is word w of block first + l. */
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

static inline float uniform_of(uint32_t word) { /* rng_uniform, in line; words fit an int once shifted */
    float uniform = ((float)(int32_t)(word >> 8) + 0.5f) * 0x1p-24f;
    return uniform < 1.0f ? uniform : 0x1.fffffep-1f;
}

static void row_dropout(float *y, const float *x, int64_t cols, const Dropout *d, int64_t row) {
    float scale = 1.0f / (1.0f - d->p), p = d->p;
    uint64_t first = (uint64_t)(uint32_t)d->position[row] * (uint64_t)cols, block = first / 4;
    int64_t c = -(int64_t)(first % 4); /* column of the block's first word; the row may begin inside a block */
    for (; c < cols; c += 4 * LANES, block += LANES) {
        uint32_t word[4][LANES];
        float factor[4 * LANES];
        philox_lanes(d, (uint32_t)d->sample[row], (uint32_t)block, word);
        for (int w = 0; w < 4; w++) {
#pragma omp simd
            for (int l = 0; l < LANES; l++) factor[4 * l + w] = uniform_of(word[w][l]) >= p ? scale : 0.0f;
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

bool cpu_dropout(Device *dev, const DropoutArgs *a, Error *err) {
    (void)dev, (void)err;
    if (a->dropout.p > 0.0f) {
        rows_dropout(a->y, a->x, &a->dropout);
        return true;
    }
    for (int64_t r = 0; r < a->x.rows; r++) row_activate(row_of(a->y, r), row_of(a->x, r), a->x.cols, ACT_NONE);
    return true;
}

/* rng_normal_pair over lanes: words `pair` and `pair` + 1 of each block. */
static void normal_lanes(uint32_t word[4][LANES], int pair, float *normal) {
#pragma omp simd
    for (int l = 0; l < LANES; l++) {
        float radius = sqrtf(-2.0f * vec_log(uniform_of(word[pair][l]))), sine, cosine;
        vec_sincos_turn(uniform_of(word[pair + 1][l]), &sine, &cosine);
        normal[4 * l + pair] = radius * cosine;
        normal[4 * l + pair + 1] = radius * sine;
    }
}

static void row_noise(float *y, const float *x, int64_t cols, const NoiseArgs *a, int64_t row) {
    const Dropout *key = &a->key;
    uint64_t first = (uint64_t)(uint32_t)key->position[row] * (uint64_t)cols, block = first / 4;
    for (int64_t c = -(int64_t)(first % 4); c < cols; c += 4 * LANES, block += LANES) {
        uint32_t word[4][LANES];
        float normal[4 * LANES];
        philox_lanes(key, (uint32_t)key->sample[row], (uint32_t)block, word);
        normal_lanes(word, 0, normal);
        normal_lanes(word, 2, normal);
        int64_t begin = c < 0 ? -c : 0, end = least(4 * LANES, cols - c);
#pragma omp simd
        for (int64_t i = begin; i < end; i++) y[c + i] = x[c + i] + a->sigma * normal[i];
    }
}

bool cpu_noise(Device *dev, const NoiseArgs *a, Error *err) {
    (void)dev, (void)err;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM / 8)
    for (int64_t r = 0; r < a->x.rows; r++) row_noise(row_of(a->y, r), row_of(a->x, r), a->x.cols, a, r);
    return true;
}
