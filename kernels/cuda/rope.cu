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
    float cosine[WIDTH], sine[WIDTH];
    angles<WIDTH>(r, place.row, c, cosine, sine);
    for (int first = group; first < r.heads; first += TOGETHER * r.groups) {
        Raw<T, WIDTH> raw[TOGETHER][2];
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            T *head = x + (int64_t)(first + t * r.groups) * 2 * r.half;
            if (first + t * r.groups < r.heads) take(raw[t][0], head), take(raw[t][1], head + r.half);
        }
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            if (first + t * r.groups >= r.heads) break;
            T *head = x + (int64_t)(first + t * r.groups) * 2 * r.half;
            float low[WIDTH], high[WIDTH], turned[WIDTH];
            unpack(low, raw[t][0]), unpack(high, raw[t][1]);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) turned[i] = low[i] * cosine[i] - high[i] * sine[i];
            put<WIDTH>(head, turned);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) turned[i] = high[i] * cosine[i] + low[i] * sine[i];
            put<WIDTH>(head + r.half, turned);
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
