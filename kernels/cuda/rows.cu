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
    float value[EACH][WIDTH];
    Place place[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (first + e * THREADS >= items) break;
        place[e] = place_of(first + e * THREADS, m.vectors);
        int64_t from = m.index[place[e].row], c = place[e].vector * WIDTH;
        if (from >= 0 && from < m.spread_rows) {
            load_some<WIDTH>(value[e], (const T *)m.spread + from * m.spread_ld + c,
                             (int)min(m.cols - c, (int64_t)WIDTH));
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[e][i] = from < 0 ? 0.0f : bits_float(0x7fffffffu);
        }
    }
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (first + e * THREADS >= items) break;
        int64_t c = place[e].vector * WIDTH;
        store_some<WIDTH>((T *)m.packed + place[e].row * m.packed_ld + c, value[e],
                          (int)min(m.cols - c, (int64_t)WIDTH));
    }
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) scatter_kernel(Moves m, bool accumulate) {
    int64_t first = (int64_t)blockIdx.x * (EACH * THREADS) + threadIdx.x, items = m.rows * m.vectors;
    float value[EACH][WIDTH], before[EACH][WIDTH];
    T *to[EACH] = {};
    int count[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (first + e * THREADS >= items) break;
        Place place = place_of(first + e * THREADS, m.vectors);
        int64_t row = m.index[place.row], c = place.vector * WIDTH;
        if (row < 0 || row >= m.spread_rows) continue;
        to[e] = (T *)m.spread + row * m.spread_ld + c;
        count[e] = (int)min(m.cols - c, (int64_t)WIDTH);
        load_some<WIDTH>(value[e], (const T *)m.packed + place.row * m.packed_ld + c, count[e]);
        if (accumulate) load_some<WIDTH>(before[e], to[e], count[e]);
    }
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (!to[e]) continue;
#pragma unroll
        for (int i = 0; i < WIDTH && accumulate; i++) value[e][i] += before[e][i];
        store_some<WIDTH>(to[e], value[e], count[e]);
    }
}

static Moves moves_of(const int32_t *index, Tensor packed, Tensor spread) {
    return Moves{index, packed.data, spread.data, packed.rows, packed.cols, 0, packed.ld, spread.ld, spread.rows};
}

template <typename T, int WIDTH> static bool gather(Device *dev, Error *err, Moves m) {
    m.vectors = (m.cols + WIDTH - 1) / WIDTH;
    return launch(dev, err, "gather_rows", gather_kernel<T, WIDTH>, blocks_for(m.rows * m.vectors, EACH * THREADS),
                  dim3(THREADS), 0, m);
}

template <typename T, int WIDTH> static bool scatter(Device *dev, Error *err, Moves m, bool accumulate) {
    m.vectors = (m.cols + WIDTH - 1) / WIDTH;
    return launch(dev, err, "scatter_rows", scatter_kernel<T, WIDTH>, blocks_for(m.rows * m.vectors, EACH * THREADS),
                  dim3(THREADS), 0, m, accumulate);
}

extern "C" bool cuda_gather_rows(Device *dev, const GatherRowsArgs *a, Error *err) {
    Moves m = moves_of(a->index, a->y, a->x);
    bool vectors = rows_aligned(a->x, 16) && rows_aligned(a->y, 16);
    if (dev->dtype == DTYPE_BF16) return vectors ? gather<bf16, 8>(dev, err, m) : gather<bf16, 1>(dev, err, m);
    return vectors ? gather<float, 4>(dev, err, m) : gather<float, 1>(dev, err, m);
}

extern "C" bool cuda_scatter_rows(Device *dev, const ScatterRowsArgs *a, Error *err) {
    Moves m = moves_of(a->index, a->x, a->y);
    bool vectors = rows_aligned(a->x, 16) && rows_aligned(a->y, 16), add = a->accumulate;
    if (dev->dtype == DTYPE_BF16)
        return vectors ? scatter<bf16, 8>(dev, err, m, add) : scatter<bf16, 1>(dev, err, m, add);
    return vectors ? scatter<float, 4>(dev, err, m, add) : scatter<float, 1>(dev, err, m, add);
}

extern "C" size_t cuda_gather_rows_scratch(const Device *, const GatherRowsArgs *) { return 0; }
extern "C" size_t cuda_scatter_rows_scratch(const Device *, const ScatterRowsArgs *) { return 0; }
