/* Rotary positions. A thread turns the same few frequencies of several heads of a row, both halves of each, so
 * that x is read and written once and the table's row is read once for all these heads. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256, TOGETHER = 2, ENOUGH_THREADS = 1 << 16 };

struct Rope {
    void *x;
    const int32_t *position;
    const float *table;
    int64_t rows, ld, positions, table_ld;
    int heads, half;
    int parts, groups; /* vectors of half a head; threads that share a vector's heads */
    float sign;
};

/* cos and sin of a row's frequencies; NaN for a position that the table has not. */
template <int WIDTH>
static __device__ __forceinline__ void angles(const Rope &r, int64_t row, int c, float *cosine, float *sine) {
    int32_t position = r.position[row];
    bool there = position >= 0 && position < r.positions;
    const float *table = r.table + (there ? position : 0) * r.table_ld + c;
#pragma unroll
    for (int i = 0; i < WIDTH; i += WIDTH == 1 ? 1 : 4) {
        load_some<WIDTH == 1 ? 1 : 4>(cosine + i, table + i, 4);
        load_some<WIDTH == 1 ? 1 : 4>(sine + i, table + r.half + i, 4);
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        cosine[i] = there ? cosine[i] : bits_float(0x7fffffffu);
        sine[i] = r.sign * sine[i];
    }
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) rope_kernel(Rope r) {
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= r.rows * r.groups * r.parts) return;
    Place place = place_of(item, r.groups * r.parts);
    int group = (int)place.vector / r.parts, c = (int)place.vector % r.parts * WIDTH;
    T *x = (T *)r.x + place.row * r.ld + c;
    float cosine[WIDTH], sine[WIDTH], low[TOGETHER][WIDTH], high[TOGETHER][WIDTH];
    angles<WIDTH>(r, place.row, c, cosine, sine);
    for (int first = group; first < r.heads; first += TOGETHER * r.groups) {
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            int head = first + t * r.groups;
            if (head >= r.heads) break;
            load_some<WIDTH>(low[t], x + (int64_t)head * 2 * r.half, WIDTH);
            load_some<WIDTH>(high[t], x + (int64_t)head * 2 * r.half + r.half, WIDTH);
        }
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            int head = first + t * r.groups;
            if (head >= r.heads) break;
            float turned[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; i++) turned[i] = low[t][i] * cosine[i] - high[t][i] * sine[i];
            store_some<WIDTH>(x + (int64_t)head * 2 * r.half, turned, WIDTH);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) turned[i] = high[t][i] * cosine[i] + low[t][i] * sine[i];
            store_some<WIDTH>(x + (int64_t)head * 2 * r.half + r.half, turned, WIDTH);
        }
    }
}

template <typename T, int WIDTH> static bool turn(Device *dev, Error *err, Rope r) {
    r.parts = r.half / WIDTH;
    int64_t threads = r.rows * r.parts;
    r.groups = 1;
    while (r.groups * TOGETHER < r.heads && threads * r.groups < ENOUGH_THREADS) r.groups++;
    return launch(dev, err, "rope", rope_kernel<T, WIDTH>, blocks_for(threads * r.groups, THREADS), dim3(THREADS), 0,
                  r);
}

extern "C" bool cuda_rope(Device *dev, const RopeArgs *a, Error *err) {
    Rope r = {};
    r.x = a->x.data, r.rows = a->x.rows, r.ld = a->x.ld;
    r.position = a->position;
    r.table = (const float *)a->table.data, r.positions = a->table.rows, r.table_ld = a->table.ld;
    r.heads = a->heads, r.half = a->dim / 2;
    r.sign = a->inverse ? -1.0f : 1.0f;
    bool vectors = rows_aligned(a->x, 16) && rows_aligned(a->table, 16);
    if (dev->dtype == DTYPE_BF16)
        return vectors && r.half % 8 == 0 ? turn<bf16, 8>(dev, err, r) : turn<bf16, 1>(dev, err, r);
    return vectors && r.half % 4 == 0 ? turn<float, 4>(dev, err, r) : turn<float, 1>(dev, err, r);
}

extern "C" size_t cuda_rope_scratch(const Device *, const RopeArgs *) { return 0; }
