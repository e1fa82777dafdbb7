/* The functions that activations and gates are made of. */
#ifndef SEMOLLM_KERNELS_CUDA_FUNCTIONS_CUH
#define SEMOLLM_KERNELS_CUDA_FUNCTIONS_CUH

#include "kernels/cuda/kernel.cuh"

static const float LOG2_E = 1.44269504f;

static __device__ __forceinline__ float exp_fast(float x) { return exp2_fast(x * LOG2_E); }

static __device__ __forceinline__ float sigmoid(float x) { return reciprocal_fast(1.0f + exp_fast(-x)); }

/* erf within 5e-7: x·P(x²)/Q(x²), fitted for |x| <= 3.9, constant beyond. */
static __device__ __forceinline__ float erf_fast(float x) {
    float z = x > 3.9f ? 3.9f : x < -3.9f ? -3.9f : x; /* NaN stays */
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
    return z * p * reciprocal_fast(q);
}

/* x·Φ(x) of a finite x within 3e-7·|x| by one special function: Φ(-z) is 2 to the power of a polynomial in z, fitted on 0..6 so that
 * the greatest error of Φ is least. From there to 15 it goes on falling, and further on would rise again. */
static __device__ __forceinline__ float gelu(float x) {
    float z = fminf(fabsf(x), 15.0f), p = 1.91739400e-05f;
    p = p * z - 6.58596924e-04f;
    p = p * z + 7.75438221e-03f;
    p = p * z - 5.29653503e-02f;
    p = p * z - 4.59060282e-01f;
    p = p * z - 1.15112209f;
    p = p * z - 0.999999702f;
    return fmaxf(x, 0.0f) - fabsf(x) * exp2_fast(p);
}

/* Φ(x) + x·φ(x). */
static __device__ __forceinline__ float gelu_slope(float x) {
    return 0.5f + 0.5f * erf_fast(x * 0.70710678f) + x * 0.39894228f * exp_fast(-0.5f * x * x);
}

template <int ACT> static __device__ __forceinline__ float activate(float x) {
    if (ACT == ACT_GELU) return gelu(x);
    if (ACT == ACT_RELU) return x < 0.0f ? 0.0f : x;
    return x;
}

template <int ACT> static __device__ __forceinline__ float activation_slope(float x) {
    if (ACT == ACT_GELU) return gelu_slope(x);
    if (ACT == ACT_RELU) return x > 0.0f ? 1.0f : 0.0f;
    return 1.0f;
}

#endif
