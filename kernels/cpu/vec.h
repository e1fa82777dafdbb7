/* Vectors of floats through the compilers' vector extension, and the elementary functions that libm
 * has in scalar form only, written so that a `#pragma omp simd` loop around them vectorises. */
#ifndef SEMOLLM_KERNELS_CPU_VEC_H
#define SEMOLLM_KERNELS_CPU_VEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VEC = 16 };
#elif defined(__AVX__)
enum { VEC = 8 };
#else
enum { VEC = 4 };
#endif

typedef float Vec __attribute__((vector_size(VEC * sizeof(float)), aligned(4), may_alias));

static inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* e^x within 2 ulp for x in [-87.3, 88]; 0 below, e^88 above, NaN for NaN. */
static inline float vec_exp(float x) {
    float clamped = x > 88.0f ? 88.0f : x < -87.3f ? -87.3f : x;
    float shifted = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum rounds to an integer */
    float n = shifted - 12582912.0f;
    float r = clamped - n * 0.693359375f;
    r += n * 2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23; /* the low bits of `shifted` hold n */
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.3f ? 0.0f : p * power;
}

/* ln x within 2 ulp or 1e-7 for normal x > 0. */
static inline float vec_log(float x) {
    uint32_t bits, half;
    memcpy(&bits, &x, sizeof bits);
    half = (bits & 0x7fffffu) | 0x3f000000u; /* the mantissa, in [0.5, 1) */
    float m, exponent = (float)((int32_t)(bits >> 23) - 126);
    memcpy(&m, &half, sizeof m);
    bool low = m < 0.70710678f;
    exponent = low ? exponent - 1.0f : exponent;
    m = low ? m + m - 1.0f : m - 1.0f;
    float z = m * m, p = 7.0376836292e-2f;
    p = p * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z + exponent * -2.12194440e-4f - 0.5f * z;
    return m + p + exponent * 0.693359375f;
}

/* Sine and cosine of `turns` · 2π for turns in [0, 1], within 1.5e-7. */
static inline void vec_sincos_turn(float turns, float *sine, float *cosine) {
    float shifted = turns * 4.0f + 12582912.0f, quarter = shifted - 12582912.0f;
    float r = (turns * 4.0f - quarter) * 1.57079633f, z = r * r;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * r + r;
    float c =
        ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    uint32_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    float along = quadrant & 1u ? c : s, across = quadrant & 1u ? s : c;
    *sine = quadrant & 2u ? -along : along;
    *cosine = (quadrant + 1u) & 2u ? -across : across;
}

/* erf within 4e-7: x·P(x²)/Q(x²), fitted to 2e-9 for |x| <= 3.9, constant beyond. */
static inline float vec_erf(float x) {
    float z = x > 3.9f ? 3.9f : x < -3.9f ? -3.9f : x;
    float s = z * z;
    float p = -1.26765336e-08f;
    p = p * s + 4.58639352e-06f;
    p = p * s + 3.75896721e-04f;
    p = p * s + 3.83500662e-03f;
    p = p * s + 5.42210080e-02f;
    p = p * s + 1.85106635e-01f;
    p = p * s + 1.12837923f;
    float q = 6.21848594e-05f;
    q = q * s + 1.29964098e-03f;
    q = q * s + 1.54197477e-02f;
    q = q * s + 1.13844946e-01f;
    q = q * s + 4.97379899e-01f;
    q = q * s + 1.0f;
    return z * p / q;
}

/* Within 2.5e-7 · |x|. */
static inline float vec_gelu(float x) {
    float half = 0.5f * x;
    return half + half * vec_erf(x * 0.70710678f);
}

/* Φ(x) + x·φ(x). */
static inline float vec_gelu_slope(float x) {
    return 0.5f + 0.5f * vec_erf(x * 0.70710678f) + x * 0.39894228f * vec_exp(-0.5f * x * x);
}

static inline float vec_sigmoid(float x) { return 1.0f / (1.0f + vec_exp(-x)); }

#endif
