/* Dropout and noise within kernels, keyed by what a row is (Dropout in ops.h). The words are philox()'s, and
 * so the masks are the CPU device's bit for bit. */
#ifndef SEMOLLM_KERNELS_CUDA_RANDOM_CUH
#define SEMOLLM_KERNELS_CUDA_RANDOM_CUH

#include "kernels/cuda/kernel.cuh"

/* A Dropout's key, of rows of `cols` elements. */
struct RandomKey {
    uint32_t key0, key1, place, step;
    const int32_t *sample, *position;
    int64_t cols;
};

struct DropoutMask {
    RandomKey key;
    uint32_t threshold; /* an element is kept where its word is at least this */
    float scale;        /* of what is kept */
};

/* A row's part of the counter: its sample, and the number of its first element. */
struct RandomRow {
    uint32_t sample;
    uint64_t first;
};

static inline RandomKey random_key(const Dropout *d, int64_t cols) {
    return RandomKey{(uint32_t)d->seed, (uint32_t)(d->seed >> 32), d->place, d->step, d->sample, d->position, cols};
}

/* The least word whose uniform is not below p: uniforms never fall as words grow. */
static inline uint32_t least_word_kept(float p) {
    uint32_t low = 0, high = (1u << 24) - 1; /* of a word's upper 24 bits, which alone count */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (rng_uniform(middle << 8) >= p)
            high = middle;
        else
            low = middle + 1;
    }
    return low << 8;
}

/* Keeps everything where p = 0, at a dropout's expense: better not to ask. */
static inline DropoutMask dropout_mask(const Dropout *d, int64_t cols) {
    return DropoutMask{random_key(d, cols), least_word_kept(d->p), 1.0f / (1.0f - d->p)};
}

static __device__ __forceinline__ RandomRow random_row(const RandomKey &key, int64_t row) {
    return RandomRow{(uint32_t)key.sample[row], (uint64_t)(uint32_t)key.position[row] * (uint64_t)key.cols};
}

/* philox(seed, block, place, sample, step). */
static __device__ __forceinline__ void random_words(uint32_t word[4], const RandomKey &key, uint32_t sample,
                                                    uint32_t block) {
    uint32_t c0 = block, c1 = key.place, c2 = sample, c3 = key.step, k0 = key.key0, k1 = key.key1;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

/* Of twelve, those from number `shift` of 0..3 come first: a row may begin inside a block of four. */
template <typename W> static __device__ __forceinline__ void shift_words(W word[12], int shift) {
#pragma unroll
    for (int i = 0; i < 11; i++) word[i] = shift & 1 ? word[i + 1] : word[i];
#pragma unroll
    for (int i = 0; i < 10; i++) word[i] = shift & 2 ? word[i + 2] : word[i];
}

/* The words of columns c .. c+7 are the first eight; the rest is room. */
static __device__ __forceinline__ void random_words8(uint32_t word[12], const RandomKey &key, const RandomRow &row,
                                                     int64_t c) {
    uint64_t element = row.first + (uint64_t)c;
    uint32_t block = (uint32_t)(element / 4);
    int shift = (int)(element % 4);
    random_words(word, key, row.sample, block);
    random_words(word + 4, key, row.sample, block + 1);
    if (!shift) return;
    random_words(word + 8, key, row.sample, block + 2);
    shift_words(word, shift);
}

/* What dropout multiplies columns c .. c+7 of a row by: 0 or the scale. */
static __device__ __forceinline__ void dropout_factor8(float factor[8], const DropoutMask &mask, const RandomRow &row,
                                                       int64_t c) {
    uint32_t word[12];
    random_words8(word, mask.key, row, c);
#pragma unroll
    for (int i = 0; i < 8; i++) factor[i] = word[i] >= mask.threshold ? mask.scale : 0.0f;
}

/* Element `at` of a block of four, without indexing registers. */
template <typename W> static __device__ __forceinline__ W pick(const W word[4], int at) {
    return at < 2 ? (at == 0 ? word[0] : word[1]) : (at == 2 ? word[2] : word[3]);
}

/* The same of one column. */
static __device__ __forceinline__ float dropout_factor(const DropoutMask &mask, const RandomRow &row, int64_t c) {
    uint64_t element = row.first + (uint64_t)c;
    uint32_t word[4];
    random_words(word, mask.key, row.sample, (uint32_t)(element / 4));
    return pick(word, (int)(element % 4)) >= mask.threshold ? mask.scale : 0.0f;
}

/* rng_uniform. */
static __device__ __forceinline__ float uniform_of(uint32_t word) {
    float uniform = ((float)(int32_t)(word >> 8) + 0.5f) * 0x1p-24f;
    return uniform < 1.0f ? uniform : 0x1.fffffep-1f;
}

/* Sine and cosine of `turns` · 2π for turns in [0, 1], within 1.5e-7. */
static __device__ __forceinline__ void sincos_turn(float turns, float *sine, float *cosine) {
    float shifted = turns * 4.0f + 12582912.0f, quarter = shifted - 12582912.0f; /* 1.5 · 2^23 rounds it */
    float r = (turns * 4.0f - quarter) * 1.57079633f, z = r * r;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * r + r;
    float c = ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    uint32_t quadrant = float_bits(shifted);
    float along = quadrant & 1u ? c : s, across = quadrant & 1u ? s : c;
    *sine = quadrant & 2u ? -along : along;
    *cosine = (quadrant + 1u) & 2u ? -across : across;
}

/* Four standard normals from a block's words, as rng_normal_pair. */
static __device__ __forceinline__ void normals_of(float normal[4], const uint32_t word[4]) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        float radius = sqrtf(-2.0f * logf(uniform_of(word[i]))), sine, cosine;
        sincos_turn(uniform_of(word[i + 1]), &sine, &cosine);
        normal[i] = radius * cosine;
        normal[i + 1] = radius * sine;
    }
}

static __device__ __forceinline__ void random_normals(float normal[4], const RandomKey &key, uint32_t sample,
                                                      uint32_t block) {
    uint32_t word[4];
    random_words(word, key, sample, block);
    normals_of(normal, word);
}

/* Columns c .. c+7 are the first eight; the rest is room. */
static __device__ __forceinline__ void noise8(float normal[12], const RandomKey &key, const RandomRow &row, int64_t c) {
    uint64_t element = row.first + (uint64_t)c;
    uint32_t block = (uint32_t)(element / 4);
    int shift = (int)(element % 4);
    random_normals(normal, key, row.sample, block);
    random_normals(normal + 4, key, row.sample, block + 1);
    if (!shift) return;
    random_normals(normal + 8, key, row.sample, block + 2);
    shift_words(normal, shift);
}

static __device__ __forceinline__ float noise1(const RandomKey &key, const RandomRow &row, int64_t c) {
    uint64_t element = row.first + (uint64_t)c;
    float normal[4];
    random_normals(normal, key, row.sample, (uint32_t)(element / 4));
    return pick(normal, (int)(element % 4));
}

#endif
