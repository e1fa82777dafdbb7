/* The kernels that convolutions are made of; conv.cu chooses. Each takes the whole packed batch in one launch. */
#ifndef SEMOLLM_KERNELS_CUDA_CONV_CUH
#define SEMOLLM_KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/eight.cuh"

/* bf16, kernels of at most 16: written at the speed of memory, whatever the number of channels. */
bool conv_is_narrow(const Device *dev, const ConvArgs *a);
bool conv_narrow(Device *dev, const ConvArgs *a, Error *err);
bool conv_narrow_norms(const ConvArgs *a); /* over the channels, too: where a block has all of a row's */

/* bf16, groups of 48 or 64 channels: WavLM's. */
bool pos_conv_is_tiled(const Device *dev, const PosConvArgs *a);
bool pos_conv_tiled(Device *dev, const PosConvArgs *a, Error *err);

#endif
