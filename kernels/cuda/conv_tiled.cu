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
    int64_t rows, weight_ld, y_ld;
    int segments, cin, cout, depth, stride, act;
    bool whole; /* y and the bias can be accessed 16 bytes at a time */
};

/* Octet `octet` of row `row` of a stage: eight consecutive rows lie in different banks. Rows a multiple of eight
 * further on are as much further on, so that a place is worked out once and the others follow by adding. */
static __device__ __forceinline__ int tile_place(int row, int octet) {
    return row * DEPTH + (octet ^ (row / 2 % OCTETS)) * 8;
}

/* What a thread copies of every stage: an octet of each STEP-th row of both matrices. */
enum { STEP = THREADS / OCTETS };
struct TileSource {
    const bf16 *x[LOADS], *weight;
    int rows, channels; /* that there are from the first one on */
    int k, x_place, weight_place;
};

static __device__ __forceinline__ TileSource tile_source(const ConvTiled &a, int64_t row, int channel) {
    TileSource s;
    int r = (int)threadIdx.x / OCTETS, octet = (int)threadIdx.x % OCTETS;
    s.k = 8 * octet;
    s.x_place = tile_place(r, octet);
    s.weight_place = tile_place(fragment_place(r), octet);
    s.rows = a.rows - row < TILE ? (int)(a.rows - row) - r : TILE;
    s.channels = a.cout - channel - r;
    for (int i = 0; i < LOADS; i++) {
        int64_t t = row + r + i * STEP;
        s.x[i] = a.x;
        if (i * STEP >= s.rows) continue;
        int segment = segment_of(a.to, a.segments, t);
        s.x[i] += (a.from[segment] + (t - a.to[segment]) * a.stride) * a.cin + s.k;
    }
    s.weight = a.weight + (s.channels > 0 ? (int64_t)(channel + r) * a.weight_ld + s.k : 0);
    return s;
}

/* The next stage. */
static __device__ __forceinline__ void tile_copy(const ConvTiled &a, TileSource *s, bf16 *stage) {
    bool inside = s->k < a.depth;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        copy_async16(stage + s->x_place + i * STEP * DEPTH, s->x[i], inside && i * STEP < s->rows);
        s->x[i] += DEPTH;
    }
    stage += TILE * DEPTH + s->weight_place;
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        copy_async16(stage + i * STEP * DEPTH, s->weight + i * STEP * a.weight_ld, inside && i * STEP < s->channels);
    s->weight += DEPTH;
    s->k += DEPTH;
}

/* sum[m][n] += the 16 rows m by 8 channels n of the warp's part, over a stage. */
static __device__ __forceinline__ void tile_multiply(float sum[4][8][4], const bf16 *stage) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int x_row = warp / 2 * 64 + lane % 16, w_row = warp % 2 * 64 + lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int k = 0; k < OCTETS; k += 2) {
        const bf16 *x_from = stage + tile_place(x_row, k + lane / 16);
        const bf16 *w_from = stage + TILE * DEPTH + tile_place(w_row, k + lane / 8 % 2);
        uint32_t x[4][4], w[4][4];
#pragma unroll
        for (int m = 0; m < 4; m++) load_matrix_x4(x[m], x_from + 16 * m * DEPTH);
#pragma unroll
        for (int n = 0; n < 4; n++) load_matrix_x4(w[n], w_from + 16 * n * DEPTH);
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
        if (i < count) tile_copy(a, &source, stages + i * 2 * TILE * DEPTH);
        copy_async_commit();
    }
    float sum[4][8][4] = {};
    for (int i = 0; i < count; i++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        int next = i + STAGES - 1;
        if (next < count) tile_copy(a, &source, stages + next % STAGES * 2 * TILE * DEPTH);
        copy_async_commit();
        tile_multiply(sum, stages + i % STAGES * 2 * TILE * DEPTH);
    }
    tile_store(a, sum, row, channel);
}

bool conv_is_tiled(const Device *dev, const ConvArgs *a) {
    return dev->dtype == DTYPE_BF16 && a->x.ld == a->x.cols && rows_whole(a->x) && rows_whole(a->weight);
}

bool conv_tiled(Device *dev, const ConvArgs *a, Error *err) {
    ConvTiled t = {};
    t.x = (const bf16 *)a->x.data;
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
