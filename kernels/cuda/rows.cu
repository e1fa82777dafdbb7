/* Gathering and scattering rows. An index past the rows there are is a programmer's mistake that the CPU device
 * names; here it must not reach foreign memory: a gathered row is NaN, a scattered one goes nowhere. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256, EACH = 2 };

/* Row i of `packed` and row index[i] of `spread`. */
struct Moves {
    const int32_t *index;
    void *packed, *spread;
    int64_t rows, cols, vectors, packed_ld, spread_ld, spread_rows;
};

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) gather_kernel(Moves m) {
    int64_t first = (int64_t)blockIdx.x * (EACH * THREADS) + threadIdx.x, items = m.rows * m.vectors;
    Raw<T, WIDTH> raw[EACH];
    Place place[EACH];
    int32_t from[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        place[e] = place_of(first + e * THREADS, m.vectors);
        from[e] = first + e * THREADS < items ? m.index[place[e].row] : -1;
    }
#pragma unroll
    for (int e = 0; e < EACH; e++)
        if (from[e] >= 0 && from[e] < m.spread_rows)
            take(raw[e], (const T *)m.spread + from[e] * m.spread_ld + place[e].vector * WIDTH);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (first + e * THREADS >= items) return;
        float value[WIDTH];
        unpack(value, raw[e]);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            if (from[e] < 0) value[i] = 0.0f;
            if (from[e] >= m.spread_rows) value[i] = bits_float(0x7fffffffu);
        }
        put<WIDTH>((T *)m.packed + place[e].row * m.packed_ld + place[e].vector * WIDTH, value);
    }
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) scatter_kernel(Moves m, bool accumulate) {
    int64_t first = (int64_t)blockIdx.x * (EACH * THREADS) + threadIdx.x, items = m.rows * m.vectors;
    Raw<T, WIDTH> raw[EACH], before[EACH] = {};
    T *to[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        Place place = place_of(first + e * THREADS, m.vectors);
        bool there = first + e * THREADS < items;
        int32_t row = there ? m.index[place.row] : -1;
        to[e] = row < 0 || row >= m.spread_rows ? NULL : (T *)m.spread + row * m.spread_ld + place.vector * WIDTH;
        if (there) take(raw[e], (const T *)m.packed + place.row * m.packed_ld + place.vector * WIDTH);
    }
#pragma unroll
    for (int e = 0; e < EACH; e++)
        if (to[e] && accumulate) take(before[e], to[e]);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (!to[e]) continue;
        float value[WIDTH], sum[WIDTH];
        unpack(value, raw[e]), unpack(sum, before[e]);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum[i] = accumulate ? sum[i] + value[i] : value[i];
        put<WIDTH>(to[e], sum);
    }
}

static Moves moves_of(const int32_t *index, Tensor packed, Tensor spread) {
    return Moves{index, packed.data, spread.data, packed.rows, packed.cols, 0, packed.ld, spread.ld, spread.rows};
}

template <typename T, int WIDTH> static bool gather(Device *dev, Error *err, Moves m) {
    m.vectors = m.cols / WIDTH;
    return launch(dev, err, "gather_rows", gather_kernel<T, WIDTH>, blocks_for(m.rows * m.vectors, EACH * THREADS),
                  dim3(THREADS), 0, m);
}

template <typename T, int WIDTH> static bool scatter(Device *dev, Error *err, Moves m, bool accumulate) {
    m.vectors = m.cols / WIDTH;
    return launch(dev, err, "scatter_rows", scatter_kernel<T, WIDTH>, blocks_for(m.rows * m.vectors, EACH * THREADS),
                  dim3(THREADS), 0, m, accumulate);
}

extern "C" bool cuda_gather_rows(Device *dev, const GatherRowsArgs *a, Error *err) {
    Moves m = moves_of(a->index, a->y, a->x);
    bool vectors = rows_vectors(a->x) && rows_vectors(a->y);
    if (dev->dtype == DTYPE_BF16) return vectors ? gather<bf16, 8>(dev, err, m) : gather<bf16, 1>(dev, err, m);
    return vectors ? gather<float, 4>(dev, err, m) : gather<float, 1>(dev, err, m);
}

extern "C" bool cuda_scatter_rows(Device *dev, const ScatterRowsArgs *a, Error *err) {
    Moves m = moves_of(a->index, a->x, a->y);
    bool vectors = rows_vectors(a->x) && rows_vectors(a->y), add = a->accumulate;
    if (dev->dtype == DTYPE_BF16)
        return vectors ? scatter<bf16, 8>(dev, err, m, add) : scatter<bf16, 1>(dev, err, m, add);
    return vectors ? scatter<float, 4>(dev, err, m, add) : scatter<float, 1>(dev, err, m, add);
}

extern "C" size_t cuda_gather_rows_scratch(const Device *, const GatherRowsArgs *) { return 0; }
extern "C" size_t cuda_scatter_rows_scratch(const Device *, const ScatterRowsArgs *) { return 0; }
