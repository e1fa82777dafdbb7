/* Convolutions over many channels as one product on tensor cores: row t of the first matrix is the window of
 * kernel · cin values that starts at stride·t of x. Windows overlap in memory, so that nothing is unfolded. */
#include "kernels/cuda/conv.cuh"

/* A block of four warps makes 128 rows by 128 channels, a warp 64 by 64; 32 terms of the sums at a time come
 * through four stages of shared memory. */
enum { TILE = 128, DEPTH = 32, STAGES = 4, THREADS = 128, OCTETS = DEPTH / 8, LOADS = TILE * OCTETS / THREADS };

struct ConvTiled {
    const bf16 *x, *weight, *bias;
    bf16 *y;
    const int32_t *from, *to; /* the segments of x and y */
    int64_t rows, x_ld, weight_ld, y_ld;
    int segments, cin, cout, depth, stride, act;
    bool whole; /* y and the bias can be accessed 16 bytes at a time */
};

/* Octet `octet` of row `row` of a stage: eight consecutive rows lie in different banks. */
static __device__ __forceinline__ int tile_place(int row, int octet) {
    return row * DEPTH + (octet ^ (row / 2 % OCTETS)) * 8;
}

/* What a thread copies of every stage: its octet of LOADS rows of each matrix. */
struct TileSource {
    const bf16 *x[LOADS], *weight;
    bool x_live[LOADS];
    int channels; /* of the weight's rows from this one on */
};

static __device__ __forceinline__ TileSource tile_source(const ConvTiled &a, int64_t row, int channel) {
    TileSource s;
    int r = (int)threadIdx.x / OCTETS;
    for (int i = 0; i < LOADS; i++) {
        int64_t t = row + r + i * (THREADS / OCTETS);
        s.x_live[i] = t < a.rows;
        s.x[i] = a.x;
        if (!s.x_live[i]) continue;
        int segment = segment_of(a.to, a.segments, t);
        s.x[i] += (a.from[segment] + (t - a.to[segment]) * a.stride) * a.x_ld;
    }
    s.channels = a.cout - channel - r;
    s.weight = a.weight + (s.channels > 0 ? (int64_t)(channel + r) * a.weight_ld : 0);
    return s;
}

static __device__ __forceinline__ void tile_copy(const ConvTiled &a, const TileSource &s, bf16 *stage, int k0) {
    int r = (int)threadIdx.x / OCTETS, octet = (int)threadIdx.x % OCTETS, k = k0 + 8 * octet, step = THREADS / OCTETS;
    bool inside = k < a.depth;
    int64_t at = k;
    if (a.x_ld != a.cin) at += k / a.cin * (a.x_ld - a.cin); /* a window with gaps between its rows */
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        copy_async16(stage + tile_place(r + i * step, octet), s.x[i] + at, inside && s.x_live[i]);
    stage += TILE * DEPTH;
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        copy_async16(stage + tile_place(i * step + fragment_place(r), octet), s.weight + i * step * a.weight_ld + k,
                     inside && i * step < s.channels);
}

/* sum[m][n] += the 16 rows m by 8 channels n of the warp's part, over a stage. */
static __device__ __forceinline__ void tile_multiply(float sum[4][8][4], const bf16 *stage) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int x_row = warp / 2 * 64 + lane % 16, w_row = warp % 2 * 64 + lane / 16 * 8 + lane % 8;
    const bf16 *weight = stage + TILE * DEPTH;
#pragma unroll
    for (int k = 0; k < OCTETS; k += 2) {
        uint32_t x[4][4], w[4][4];
#pragma unroll
        for (int m = 0; m < 4; m++) load_matrix_x4(x[m], stage + tile_place(x_row + 16 * m, k + lane / 16));
#pragma unroll
        for (int n = 0; n < 4; n++) load_matrix_x4(w[n], weight + tile_place(w_row + 16 * n, k + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int n = 0; n < 8; n++) mma_16816(sum[m][n], x[m], w[n / 2] + n % 2 * 2);
    }
}

/* A lane has eight channels side by side of each 32, in two rows of each 16. */
static __device__ __forceinline__ void tile_store(const ConvTiled &a, float sum[4][8][4], int64_t row, int channel) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    row += warp / 2 * 64 + lane / 4;
    channel += warp % 2 * 64 + lane % 4 * 8;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int o = channel + 32 * half, count = a.cout - o;
        float bias[8] = {0.0f};
        Eight<bf16> stored;
        if (a.bias) {
            take8(stored, a.bias + o, count, a.whole);
            if (count > 0) unpack8(bias, stored);
        }
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int low = 0; low < 2; low++) {
                float v[8];
                for (int e = 0; e < 8; e++) v[e] = sum[m][4 * half + e / 2][2 * low + e % 2] + bias[e];
                activate8(v, a.act);
                int64_t t = row + 16 * m + 8 * low;
                if (t < a.rows) put8(a.y + t * a.y_ld + o, v, count, a.whole);
            }
    }
}

/* Blocks of the same rows are neighbours (x: channels), so that they share them in the cache. */
__global__ void __launch_bounds__(THREADS) conv_tiles(ConvTiled a, unsigned across) {
    bf16 *stages = (bf16 *)shared_memory();
    int64_t row = (int64_t)(blockIdx.x / across) * TILE;
    int channel = (int)(blockIdx.x % across) * TILE, count = (a.depth + DEPTH - 1) / DEPTH;
    TileSource source = tile_source(a, row, channel);
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < count) tile_copy(a, source, stages + i * 2 * TILE * DEPTH, i * DEPTH);
        copy_async_commit();
    }
    float sum[4][8][4] = {};
    for (int i = 0; i < count; i++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        int next = i + STAGES - 1;
        if (next < count) tile_copy(a, source, stages + next % STAGES * 2 * TILE * DEPTH, next * DEPTH);
        copy_async_commit();
        tile_multiply(sum, stages + i % STAGES * 2 * TILE * DEPTH);
    }
    copy_async_wait<0>();
    tile_store(a, sum, row, channel);
}

bool conv_is_tiled(const Device *dev, const ConvArgs *a) {
    return dev->dtype == DTYPE_BF16 && rows_whole(a->x) && rows_whole(a->weight);
}

bool conv_tiled(Device *dev, const ConvArgs *a, Error *err) {
    ConvTiled t = {};
    t.x = (const bf16 *)a->x.data, t.x_ld = a->x.ld;
    t.weight = (const bf16 *)a->weight.data, t.weight_ld = a->weight.ld;
    t.bias = (const bf16 *)a->bias.data;
    t.y = (bf16 *)a->y.data, t.y_ld = a->y.ld;
    t.from = a->in_segments.device, t.to = a->out_segments.device, t.segments = a->out_segments.count;
    t.rows = a->y.rows;
    t.cin = (int)a->x.cols, t.cout = (int)a->y.cols, t.depth = (int)a->weight.cols;
    t.stride = a->stride;
    t.act = a->act;
    t.whole = rows_whole(a->y) && (uintptr_t)a->bias.data % 16 == 0;
    unsigned across = (unsigned)((t.cout + TILE - 1) / TILE), down = (unsigned)((t.rows + TILE - 1) / TILE);
    return LAUNCH(dev, err, conv_tiles, dim3(across * down), dim3(THREADS), STAGES * 2 * TILE * DEPTH * sizeof(bf16), t,
                  across);
}
