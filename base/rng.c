#include "base/rng.h"

#include <math.h>

Philox philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (Philox){{c0, c1, c2, c3}};
}

float rng_uniform(uint32_t word) {
    /* 24 bits, the most a float holds evenly, centred in their interval. */
    float uniform = ((float)(word >> 8) + 0.5f) * 0x1p-24f;
    return uniform < 1.0f ? uniform : 0x1.fffffep-1f; /* the last half has no bit left and rounds up */
}

void rng_normal_pair(uint32_t a, uint32_t b, float *first, float *second) {
    float radius = sqrtf(-2.0f * logf(rng_uniform(a)));
    float angle = 6.28318530717958647692f * rng_uniform(b);
    *first = radius * cosf(angle);
    *second = radius * sinf(angle);
}

Rng rng_stream(uint64_t key, uint32_t place, uint32_t sample, uint32_t step) {
    return (Rng){.key = key, .place = place, .sample = sample, .step = step};
}

uint32_t rng_next(Rng *rng) {
    if (rng->index % 4 == 0) rng->block = philox(rng->key, rng->index / 4, rng->place, rng->sample, rng->step);
    return rng->block.word[rng->index++ % 4];
}

uint32_t rng_below(Rng *rng, uint32_t bound) {
    uint32_t reject = (0u - bound) % bound; /* 2^32 mod bound: values under it would be drawn too often */
    uint32_t word;
    do word = rng_next(rng);
    while (word < reject);
    return word % bound;
}

void rng_permutation(Rng *rng, uint32_t *order, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = rng_below(rng, i), last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}
