/* The gated unit alone, element by element (elementwise.cu); swiglu.cu does it together with LoRA's products. */
#ifndef SEMOLLM_KERNELS_CUDA_SWIGLU_CUH
#define SEMOLLM_KERNELS_CUDA_SWIGLU_CUH

#include "kernels/cuda/kernel.cuh"

bool gated_unit(Device *dev, Tensor gate, Tensor up, Tensor y, Error *err);

/* dgate and dup of `a`, and the forward's product y where it is present. */
bool gated_unit_backward(Device *dev, const SwigluBackwardArgs *a, Tensor y, Error *err);

#endif
