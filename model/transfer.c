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

/* Halves lie in the lower half of their place. Its upper half of floats needs none of the room that they are read
 * from, so threads can widen those together; then the upper half of what is left. */
static void widen(DType dtype, float *values, size_t count) {
    for (size_t end = count, begin; end > 0; end = begin) {
        begin = end > 1 ? (end + 1) / 2 : 0;
        size_t pieces = (end - begin + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static) if (pieces > 16)
        for (size_t p = 0; p < pieces; p++) {
            size_t at = begin + p * PIECE, some = end - at < PIECE ? end - at : PIECE;
            floats_from(dtype, (char *)values + 2 * at, values + at, some);
        }
    }
}

bool floats_download(Device *dev, Tensor from, float *to, Error *err) {
    assert(from.ld == from.cols || from.rows <= 1);
    size_t count = (size_t)(from.rows * from.cols);
    if (!device_download(dev, to, from.data, count * dtype_size(from.dtype), err)) return false;
    if (from.dtype != DTYPE_F32) widen(from.dtype, to, count);
    return true;
}
