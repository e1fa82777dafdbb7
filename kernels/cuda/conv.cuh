/* The kernels that convolutions are made of; conv.cu chooses. Each takes the whole packed batch in one launch. */
#ifndef SEMOLLM_KERNELS_CUDA_CONV_CUH
#define SEMOLLM_KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/eight.cuh"

/* bf16, kernel · cin <= 16: written at the speed of memory, whatever the number of channels. */
bool conv_is_narrow(const Device *dev, const ConvArgs *a);
bool conv_narrow(Device *dev, const ConvArgs *a, Error *err);

/* bf16, cin a multiple of 8, x without gaps: a product of matrices on tensor cores. */
bool conv_is_tiled(const Device *dev, const ConvArgs *a);
bool conv_tiled(Device *dev, const ConvArgs *a, Error *err);

/* bf16, groups of 48 or 64 channels: WavLM's. */
bool pos_conv_is_tiled(const Device *dev, const PosConvArgs *a);
bool pos_conv_tiled(Device *dev, const PosConvArgs *a, Error *err);

/* Where the fragment of a 16×8 result has channel `c` of 32: in four such fragments that lie at these places of
 * the weight's rows, a lane holds eight channels side by side, which it stores at once. */
static __device__ __forceinline__ int fragment_place(int c) { return c % 8 / 2 * 8 + c / 8 * 2 + c % 2; }

#endif
