#include "model/transfer.h"

#include <assert.h>
#include <string.h>

enum { PIECE = 1 << 12 }; /* floats */

void floats_narrow(DType dtype, void *values, size_t count) {
    for (size_t i = 0; dtype != DTYPE_F32 && i < count; i++) { /* a half never lies past the float it came from */
        float value;
        memcpy(&value, (char *)values + 4 * i, sizeof value);
        uint16_t half = dtype == DTYPE_BF16 ? f32_to_bf16(value) : f32_to_f16(value);
        memcpy((char *)values + 2 * i, &half, sizeof half);
    }
}

bool floats_upload(Device *dev, Tensor to, const float *from, Error *err) {
    assert(to.ld == to.cols || to.rows <= 1);
    size_t count = (size_t)(to.rows * to.cols);
    if (to.dtype == DTYPE_F32) return device_upload(dev, to.data, from, count * sizeof *from, err);
    for (size_t at = 0; at < count; at += PIECE) {
        float piece[PIECE];
        size_t some = count - at < PIECE ? count - at : PIECE;
        memcpy(piece, from + at, some * sizeof *piece);
        floats_narrow(to.dtype, piece, some);
        if (!device_upload(dev, (char *)to.data + 2 * at, piece, 2 * some, err)) return false;
    }
    return true;
}

/* Halves arrive in the lower half of their place and are widened from its end. */
bool floats_download(Device *dev, Tensor from, float *to, Error *err) {
    assert(from.ld == from.cols || from.rows <= 1);
    size_t count = (size_t)(from.rows * from.cols);
    if (!device_download(dev, to, from.data, count * dtype_size(from.dtype), err)) return false;
    for (size_t i = count; from.dtype != DTYPE_F32 && i-- > 0;) {
        uint16_t half;
        memcpy(&half, (char *)to + 2 * i, sizeof half);
        float value = from.dtype == DTYPE_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
        memcpy(to + i, &value, sizeof value);
    }
    return true;
}
