/* Element types of tensors, in memory and in files. */
#ifndef SEMOLLM_BASE_DTYPE_H
#define SEMOLLM_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum DType { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I32, DTYPE_I64, DTYPE_U8, DTYPE_F64, DTYPE_COUNT } DType;

size_t dtype_size(DType dtype);      /* bytes of one element */
const char *dtype_name(DType dtype); /* safetensors' name: "F32", "BF16", "I64", ... */

/* IEEE half and bfloat16 to and from float; rounding to nearest even, NaN stays NaN. */
float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value);
float bf16_to_f32(uint16_t brain);
uint16_t f32_to_bf16(float value);

/* Converts `count` elements of a file's F32, F16 or BF16 data (any alignment) to float. */
void floats_from(DType dtype, const void *source, float *out, size_t count);

#endif
