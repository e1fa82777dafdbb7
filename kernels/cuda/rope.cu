/* Rotary positions. A thread turns the same few frequencies of up to four heads of a row, both halves of each, so that
 * x is read and written once and the table's row once for these heads. All of x is asked for before the table, which
 * cannot be until the position is known. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256, TOGETHER = 4 };

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
static __device__ __forceinline__ void angles(const Rope &r, int32_t position, int c, float *cosine, float *sine) {
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
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x, items = r.rows * r.groups * r.parts;
    int heads = item < items ? r.heads : 0;
    Place place = place_of(item < items ? item : 0, r.groups * r.parts);
    int group = (int)place.vector / r.parts, c = (int)place.vector % r.parts * WIDTH, step = 2 * r.half * r.groups;
    int32_t position = r.position[place.row];
    T *x = (T *)r.x + place.row * r.ld + 2 * r.half * group + c;
    Raw<T, WIDTH> raw[TOGETHER][2];
#pragma unroll
    for (int t = 0; t < TOGETHER; t++)
        if (group + t * r.groups < heads) take(raw[t][0], x + t * step), take(raw[t][1], x + t * step + r.half);
    ISSUE_FIRST(); /* x's reads before the table's, which wait for the position */
    float cosine[WIDTH], sine[WIDTH];
    angles<WIDTH>(r, position, c, cosine, sine);
#pragma unroll
    for (int t = 0; t < TOGETHER; t++) {
        if (group + t * r.groups >= heads) break;
        float low[WIDTH], high[WIDTH], turned[WIDTH];
        unpack(low, raw[t][0]), unpack(high, raw[t][1]);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) turned[i] = low[i] * cosine[i] - high[i] * sine[i];
        put<WIDTH>(x + t * step, turned);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) turned[i] = high[i] * cosine[i] + low[i] * sine[i];
        put<WIDTH>(x + t * step + r.half, turned);
    }
}

template <typename T, int WIDTH> static bool turn(Device *dev, Error *err, Rope r) {
    r.parts = r.half / WIDTH;
    r.groups = (r.heads + TOGETHER - 1) / TOGETHER;
    return launch(dev, err, "rope", rope_kernel<T, WIDTH>, blocks_for(r.rows * r.parts * r.groups, THREADS),
                  dim3(THREADS), 0, r);
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
