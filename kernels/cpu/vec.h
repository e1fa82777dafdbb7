/* Vectors of floats through the compilers' vector extension, and the elementary functions that libm
 * has in scalar form only, written so that a `#pragma omp simd` loop around them vectorises. */
#ifndef SEMOLLM_KERNELS_CPU_VEC_H
#define SEMOLLM_KERNELS_CPU_VEC_H

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

/* erf within 3e-7: a rational approximation on [-4, 4], ±1 outside to that accuracy. */
static inline float vec_erf(float x) {
    float z = x > 4.0f ? 4.0f : x < -4.0f ? -4.0f : x;
    float s = z * z;
    float p = -2.72614225801306e-10f;
    p = p * s + 2.77068142495902e-08f;
    p = p * s + -2.10102402082508e-06f;
    p = p * s + -5.69250639462346e-05f;
    p = p * s + -7.34990630326855e-04f;
    p = p * s + -2.95459980854025e-03f;
    p = p * s + -1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * s + -2.13374055278905e-04f;
    q = q * s + -1.68282697438203e-03f;
    q = q * s + -7.37332916720468e-03f;
    q = q * s + -1.42647390514189e-02f;
    return z * p / q;
}

static inline float vec_gelu(float x) { return 0.5f * x * (1.0f + vec_erf(x * 0.70710678f)); }

/* Φ(x) + x·φ(x). */
static inline float vec_gelu_slope(float x) {
    return 0.5f * (1.0f + vec_erf(x * 0.70710678f)) + x * 0.39894228f * vec_exp(-0.5f * x * x);
}

static inline float vec_sigmoid(float x) { return 1.0f / (1.0f + vec_exp(-x)); }

#endif
