/* The gated unit, of one element; and alone (elementwise.cu), where swiglu.cu does it together with LoRA's products. */
#ifndef SEMOLLM_KERNELS_CUDA_SWIGLU_CUH
#define SEMOLLM_KERNELS_CUDA_SWIGLU_CUH

#include "kernels/cuda/functions.cuh"

/* gate, up and dy become dgate, dup and y. */
static __device__ __forceinline__ void gated_gradients(float *gate, float *up, float *dy) {
    float sigma = sigmoid(*gate), silu = *gate * sigma, d = *dy, y = silu * *up;
    *gate = d * *up * (sigma + silu * (1.0f - sigma));
    *up = d * silu;
    *dy = y;
}

bool gated_unit(Device *dev, Tensor gate, Tensor up, Tensor y, Error *err);

/* dgate and dup of `a`, and the forward's product y where it is present. */
bool gated_unit_backward(Device *dev, const SwigluBackwardArgs *a, Tensor y, Error *err);

#endif
