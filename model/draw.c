#include "model/draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { ROWS = 1024, COLS_MOST = 1 << 16 }; /* of a stretch that is drawn at once */

static const float DEVIATION = 0.02f;

/* Stretch number `stretch`, [rows, cols]: sample ids tell stretches apart, positions their rows. */
static bool draw(Device *dev, Tensor x, int32_t *table, int32_t stretch, uint64_t seed, Error *err) {
    int32_t host[2 * ROWS];
    for (int i = 0; i < ROWS; i++) {
        host[i] = stretch;
        host[ROWS + i] = i;
    }
    NoiseArgs args = {.x = x, .y = x, .sigma = DEVIATION};
    args.key = (Dropout){.seed = seed, .place = PLACE_INIT, .sample = table, .position = table + ROWS};
    return device_upload(dev, table, host, sizeof host, err) && op_noise(dev, &args, err) && device_wait(dev, err);
}

bool draw_weights(Device *dev, void *memory, size_t bytes, uint64_t seed, Error *err) {
    const DType dtype = device_dtype(dev);
    int64_t left = (int64_t)(bytes / dtype_size(dtype));
    int32_t *table = device_alloc(dev, 2 * ROWS * sizeof *table, err);
    bool ok = table != NULL;
    char *at = memory;
    for (int32_t stretch = 0; ok && left > 0; stretch++) {
        int64_t cols = left / ROWS < COLS_MOST ? left / ROWS : COLS_MOST, rows = cols ? ROWS : 1;
        if (!cols) cols = left;
        ok = draw(dev, tensor_of(at, dtype, rows, cols), table, stretch, seed, err);
        at += (size_t)(rows * cols) * dtype_size(dtype);
        left -= rows * cols;
    }
    device_free(dev, table);
    return ok;
}

bool draw_ones(Device *dev, Tensor t, Error *err) {
    static const float one = 1;
    const uint16_t half = f32_to_bf16(one);
    const size_t count = (size_t)(t.rows * t.cols), size = dtype_size(t.dtype);
    char *host = memory_new(count, size, err);
    for (size_t i = 0; host && i < count; i++) memcpy(host + i * size, size == 2 ? (const void *)&half : &one, size);
    bool ok = host && device_upload(dev, t.data, host, count * size, err) && device_wait(dev, err);
    free(host);
    return ok;
}
