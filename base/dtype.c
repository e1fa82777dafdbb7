#include "base/dtype.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} TYPES[DTYPE_COUNT] = {
    [DTYPE_F32] = {"F32", 4}, [DTYPE_F16] = {"F16", 2}, [DTYPE_BF16] = {"BF16", 2}, [DTYPE_I32] = {"I32", 4},
    [DTYPE_I64] = {"I64", 8}, [DTYPE_U8] = {"U8", 1},   [DTYPE_F64] = {"F64", 8},
};

size_t dtype_size(DType dtype) { return TYPES[dtype].size; }

const char *dtype_name(DType dtype) { return TYPES[dtype].name; }

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0) return float_of_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    float magnitude = (float)mantissa * 0x1p-24f; /* zero and subnormals */
    return sign ? -magnitude : magnitude;
}

uint16_t f32_to_f16(float value) {
    uint32_t bits = bits_of_float(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to infinity */
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the rounded half in the low bits */
        uint32_t rounded = bits_of_float(float_of_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
        return (uint16_t)(sign | rounded);
    }
    uint32_t odd = (magnitude >> 13) & 1u;
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfffu + odd) >> 13));
}

float bf16_to_f32(uint16_t brain) { return float_of_bits((uint32_t)brain << 16); }

uint16_t f32_to_bf16(float value) {
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void floats_from(DType dtype, const void *source, float *out, size_t count) {
    if (dtype == DTYPE_F32) {
        memcpy(out, source, count * sizeof *out);
        return;
    }
    assert(dtype == DTYPE_F16 || dtype == DTYPE_BF16);
    const unsigned char *bytes = source;
    for (size_t i = 0; i < count; i++) {
        uint16_t word;
        memcpy(&word, bytes + 2 * i, sizeof word);
        out[i] = dtype == DTYPE_F16 ? f16_to_f32(word) : bf16_to_f32(word);
    }
}
