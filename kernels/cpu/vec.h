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

/* Φ(x) = (1 + erf(x/√2)) / 2 within 1.5e-7, and in the lower tail down to -5 within 1e-4 of its value:
 * near 0 an odd polynomial for erf, else the exponential of a polynomial for erfc. */
static inline float vec_normal_cdf(float x) {
    float z = x * 0.70710678f, t = z < 0.0f ? -z : z, s = z * z;
    t = t > 9.2f ? 9.2f : t; /* erfc is below the smallest float from here on */
    float r = -1.72853470e-5f * t + 3.83197126e-4f;
    r = r * (t * t) + (-3.88396438e-3f * t + 2.42546219e-2f);
    r = r * t + -1.06777877e-1f;
    r = r * t + -6.34846687e-1f;
    r = r * t + -1.28717512e-1f;
    r = r * t - t;
    float tail = 0.5f * vec_exp(r);
    float p = -5.96761703e-4f;
    p = p * s + 4.99119423e-3f;
    p = p * s + -2.67681349e-2f;
    p = p * s + 1.12819925e-1f;
    p = p * s + -3.76125336e-1f;
    p = p * s + 1.28379166e-1f;
    float near = 0.5f + 0.5f * (p * z + z);
    float far = z > 0.0f ? 1.0f - tail : tail;
    return s < 0.86f ? near : far;
}

static inline float vec_gelu(float x) { return x * vec_normal_cdf(x); }

/* Φ(x) + x·φ(x). */
static inline float vec_gelu_slope(float x) { return vec_normal_cdf(x) + x * 0.39894228f * vec_exp(-0.5f * x * x); }

static inline float vec_sigmoid(float x) { return 1.0f / (1.0f + vec_exp(-x)); }

#endif
