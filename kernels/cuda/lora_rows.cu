/* LoRA's inner rows x·Aᵀ where they are all that is wanted of x, which may be a gated unit's product that is made and
 * stored on the way.
 *
 * A block takes 16 · MT whole rows, and its warps take turns at their columns, 32 at a time, the next ones under way
 * meanwhile. A lane loads 16 bytes of a row, and of A's rows, as they lie: that k of the fragments then means other
 * columns is the same for both. The warps' sums meet in shared memory once. */
#include "kernels/cuda/lora_walk.cuh"

template <int NT, bool GATED> struct RowTiles { /* of 16 rows, as registers allow; and where their sums lie */
    enum {
        COUNT = NT <= 2 && !GATED ? 4 : 2,
        SUM_ROW = NT * 4 + 4,                     /* floats: even columns, or odd ones */
        PLANE = WARPS * 16 * COUNT * SUM_ROW + 16 /* of either, so that no two lanes meet in a bank */
    };
};

/* A's rows end to end in bf16 [Σr, ld], small enough for 32 bits to count its elements. */
struct PackedA {
    const bf16 *data;
    int ld;
};

static __device__ __forceinline__ uint4 masked16(uint4 raw, const DropoutMask &mask, int64_t row, int64_t column) {
    float v[8], factor[8];
    Eight<bf16> eight;
    eight.part[0] = raw;
    unpack8(v, eight);
    dropout_factor8(factor, mask, random_row(mask.key, row), column);
#pragma unroll
    for (int c = 0; c < 8; c++) v[c] *= factor[c];
    pack8(eight, v);
    return eight.part[0];
}

/* Where rows come from: x; or gate and up, and x is where their product goes. */
struct RowSource {
    bf16 *x;
    const bf16 *gate, *up;
    int64_t ld, ldgate, ldup;
};

/* What a lane has on the way of them. */
template <int MT, bool GATED> struct Fetched { uint4 x[MT][2], up[GATED ? MT : 1][2]; };

/* 16 bytes of each of a lane's rows, of which `rows` follow `from`. */
template <int MT>
static __device__ __forceinline__ void load_rows(uint4 (*x)[2], const bf16 *from, int64_t ld, int rows, bool inside) {
#pragma unroll
    for (int at = 0; at < 2 * MT; at++)
        x[at / 2][at % 2] = inside && 8 * at < rows ? load16(from + 8 * at * ld) : make_uint4(0, 0, 0, 0);
}

template <int MT, bool GATED>
static __device__ __forceinline__ void fetch(Fetched<MT, GATED> &to, const RowSource &from, int64_t row, int column,
                                             int rows, bool inside) {
    if (GATED) {
        load_rows<MT>(to.x, from.gate + row * from.ldgate + column, from.ldgate, rows, inside);
        load_rows<MT>(to.up, from.up + row * from.ldup + column, from.ldup, rows, inside);
    } else {
        load_rows<MT>(to.x, from.x + row * from.ld + column, from.ld, rows, inside);
    }
}

static __device__ __forceinline__ uint4 gated16(uint4 gate, uint4 up) {
    float g[8], u[8];
    Eight<bf16> eight;
    eight.part[0] = gate;
    unpack8(g, eight);
    eight.part[0] = up;
    unpack8(u, eight);
#pragma unroll
    for (int c = 0; c < 8; c++) g[c] = g[c] * sigmoid(g[c]) * u[c];
    pack8(eight, g);
    return eight.part[0];
}

/* x of what has come; the product is stored. */
template <int MT, bool GATED>
static __device__ __forceinline__ void take_rows(uint4 (*x)[2], const Fetched<MT, GATED> &from, const RowSource &source,
                                                 int64_t row, int column, int rows, bool inside) {
#pragma unroll
    for (int at = 0; at < 2 * MT; at++) {
        x[at / 2][at % 2] = from.x[at / 2][at % 2];
        if (!GATED) continue;
        x[at / 2][at % 2] = gated16(x[at / 2][at % 2], from.up[at / 2][at % 2]);
        if (inside && 8 * at < rows) store16(source.x + (row + 8 * at) * source.ld + column, x[at / 2][at % 2]);
    }
}

/* sum += 32 columns of x times those of A's rows, inner columns 8 · begin to 8 · end of the pass. */
template <int NT, int MT>
static __device__ __forceinline__ void multiply_rows(float (*sum)[NT][4], const uint4 (*x)[2], const Walk<bf16> &k,
                                                     const PackedA &a, int column, int j, int begin, int end) {
    const bf16 *from = a.data + column;
#pragma unroll
    for (int nt = 0; nt < NT; nt++, j += 8) {
        if (nt < begin || nt >= end) continue;
        uint4 b = make_uint4(0, 0, 0, 0);
        if (column < a.ld && j < k.lora.rank) b = load16(from + j * a.ld);
        const uint32_t first[2] = {b.x, b.y}, second[2] = {b.z, b.w};
#pragma unroll
        for (int mt = 0; mt < MT; mt++) {
            const uint4 upper = x[mt][0], lower = x[mt][1];
            const uint32_t left[4] = {upper.x, lower.x, upper.y, lower.y};
            const uint32_t right[4] = {upper.z, lower.z, upper.w, lower.w};
            mma_16816(sum[mt][nt], left, first);
            mma_16816(sum[mt][nt], right, second);
        }
    }
}

/* The same of x as each part's dropout leaves it. */
template <int NT, int MT>
static __device__ __forceinline__ void multiply_masked(float (*sum)[NT][4], const uint4 (*x)[2], const Walk<bf16> &k,
                                                       const PackedA &a, int64_t row, int column, int j, int pass) {
    for (int i = 0; i < LINEAR_PARTS; i++) {
        const LoraPart &p = k.lora.part[i];
        int begin = (p.first - pass) / 8, end = (p.first + p.rank - pass) / 8;
        if (!p.rank || end <= 0 || begin >= NT) continue;
        uint4 kept[MT][2];
#pragma unroll
        for (int at = 0; at < 2 * MT; at++) {
            kept[at / 2][at % 2] = x[at / 2][at % 2];
            if (p.drops && row + 8 * at < k.rows)
                kept[at / 2][at % 2] = masked16(kept[at / 2][at % 2], p.mask, row + 8 * at, column);
        }
        multiply_rows<NT, MT>(sum, kept, k, a, column, j, begin, end);
    }
}

/* Grid: rows, passes of 8 · NT inner columns. */
template <int NT, bool DROPS, bool GATED>
static __global__ void __launch_bounds__(THREADS, DROPS || NT > 6 || (GATED && NT > 4) ? 1 : 2)
    inner_rows_kernel(Walk<bf16> k, RowSource source, PackedA a, Inner<bf16> to) {
    typedef RowTiles<NT, GATED> At;
    constexpr int MT = At::COUNT, ROW = At::SUM_ROW, PLANE = At::PLANE, STEP = 32;
    float *sums = (float *)shared_memory(); /* [2 planes, WARPS, 16 · MT, ROW] */
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, pass = (int)blockIdx.y * NT * 8;
    int64_t first = (int64_t)blockIdx.x * 16 * MT, row = first + lane / 4;
    int column = warp * STEP + lane % 4 * 8, rows = k.rows - row < 16 * MT ? (int)(k.rows - row) : 16 * MT;
    float sum[MT][NT][4] = {};
    uint4 x[MT][2];
    Fetched<MT, GATED> next;
    fetch(next, source, row, column, rows, column < a.ld);
    for (int begin = 0; begin < a.ld; begin += WARPS * STEP, column += WARPS * STEP) {
        take_rows(x, next, source, row, column, rows, column < a.ld);
        fetch(next, source, row, column + WARPS * STEP, rows, column + WARPS * STEP < a.ld);
        if (DROPS)
            multiply_masked<NT, MT>(sum, x, k, a, row, column, pass + lane / 4, pass);
        else
            multiply_rows<NT, MT>(sum, x, k, a, column, pass + lane / 4, 0, NT);
    }
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            float *upper = sums + (warp * 16 * MT + 16 * mt + lane / 4) * ROW + 4 * nt + lane % 4;
            upper[0] = sum[mt][nt][0], upper[PLANE] = sum[mt][nt][1];
            upper[8 * ROW] = sum[mt][nt][2], upper[8 * ROW + PLANE] = sum[mt][nt][3];
        }
    __syncthreads();
    int cols = inner_cols(to, k.lora.rank) - pass;
    if (cols > 8 * NT && pass + 8 * NT < k.lora.rank) cols = 8 * NT; /* what is past the last pair is the last pass's */
    for (int item = (int)threadIdx.x; item < 16 * MT * cols; item += THREADS) {
        int r = item / cols, j = item % cols;
        float total = 0.0f;
        for (int w = 0; w < WARPS && j < 8 * NT; w++) total += sums[(w * 16 * MT + r) * ROW + j / 2 + j % 2 * PLANE];
        if (first + r < k.rows) put_inner_element(to, first + r, pass + j, k.lora.rank, total);
    }
}

/* ---- launching ---- */

/* What a launch needs beside its grid. */
struct RowsCall {
    Walk<bf16> walk;
    RowSource source;
    PackedA a;
    Inner<bf16> to;
};

template <int NT, bool GATED> static bool rows_of(Device *dev, const RowsCall &c, Error *err) {
    typedef RowTiles<NT, GATED> At;
    dim3 grid = blocks_for(c.walk.rows, 16 * At::COUNT);
    grid.y = (unsigned)((c.walk.lora.rank + 8 * NT - 1) / (8 * NT));
    size_t shared = 2 * At::PLANE * sizeof(float);
    if (c.walk.lora.drops)
        return LAUNCH(dev, err, (inner_rows_kernel<NT, true, GATED>), grid, THREADS, shared, c.walk, c.source, c.a,
                      c.to);
    return LAUNCH(dev, err, (inner_rows_kernel<NT, false, GATED>), grid, THREADS, shared, c.walk, c.source, c.a, c.to);
}

/* A gated unit's product is made in one pass alone. */
template <int NT> static bool rows_of(Device *dev, const RowsCall &c, Error *err) {
    return c.source.gate ? rows_of<NT, true>(dev, c, err) : rows_of<NT, false>(dev, c, err);
}

bool inner_by_rows(Device *dev, const Walk<bf16> &k, const Skinny *s, void *scratch, Error *err) {
    RowsCall c = {k, RowSource(), PackedA{(const bf16 *)scratch, (int)k.cols}, inner_of<bf16>(s)};
    c.source.x = (bf16 *)s->large.data, c.source.ld = s->large.ld;
    c.source.gate = (const bf16 *)s->gate.data, c.source.ldgate = s->gate.ld;
    c.source.up = (const bf16 *)s->up.data, c.source.ldup = s->up.ld;
    if (!pack_a(dev, &k.lora, tensor_of(scratch, DTYPE_BF16, k.lora.rank, k.cols), err)) return false;
    switch (tiles_across(k.lora.rank)) {
    case 2:
        return rows_of<2>(dev, c, err);
    case 4:
        return rows_of<4>(dev, c, err);
    case 6:
        return rows_of<6>(dev, c, err);
    default:
        return rows_of<8>(dev, c, err);
    }
}
