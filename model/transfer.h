/* Numbers between the host's floats and a device that may store halves, a bounded piece at a time. */
#ifndef SEMOLLM_MODEL_TRANSFER_H
#define SEMOLLM_MODEL_TRANSFER_H

#include "kernels/kernels.h"

/* `to` and `from` are F32, F16 or BF16 and without gaps between rows. */
bool floats_upload(Device *dev, Tensor to, const float *from, Error *err);
bool floats_download(Device *dev, Tensor from, float *to, Error *err);

/* `count` floats to halves in place, rounded to nearest even; F32 stays. */
void floats_narrow(DType dtype, void *values, size_t count);

#endif
