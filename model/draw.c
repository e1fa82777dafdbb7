#include "model/draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { ROWS = 1024 }; /* drawn at once */

static const float DEVIATION = 0.02f;

/* Rows of a tensor from number `first` on: ids tell tensors apart, positions rows. */
static bool draw(Device *dev, Tensor rows, int32_t *table, int32_t number, int64_t first, uint64_t seed, Error *err) {
    int32_t host[2 * ROWS];
    for (int i = 0; i < ROWS; i++) {
        host[i] = number;
        host[ROWS + i] = (int32_t)first + i;
    }
    NoiseArgs args = {.x = rows, .y = rows, .sigma = DEVIATION};
    args.key = (Dropout){.seed = seed, .place = PLACE_INIT, .sample = table, .position = table + ROWS};
    return device_upload(dev, table, host, sizeof host, err) && op_noise(dev, &args, err) && device_wait(dev, err);
}

bool draw_weights(Device *dev, Tensor t, uint64_t seed, int32_t number, Error *err) {
    int32_t *table = device_alloc(dev, 2 * ROWS * sizeof *table, err);
    bool ok = table != NULL;
    for (int64_t first = 0; ok && first < t.rows; first += ROWS) {
        int64_t count = t.rows - first < ROWS ? t.rows - first : ROWS;
        ok = draw(dev, tensor_rows(t, first, count), table, number, first, seed, err);
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
