/* What attention's kernels share: which rows a thread block works on, tiles of rows in shared memory, and
 * products of tiles on tensor cores (FlashAttention-2; Dao 2023). Private to kernels/cuda/.
 *
 * A block of four warps holds ROWS rows, 16 a warp, and streams over tiles of what they meet. Rows of queries
 * are pairs of a position and a query head: the `together` heads that read one key head lie next to each other,
 * so that few positions fill a tile and a causal tile's edge is short. With a relative bias, which differs
 * between heads, a row is a position of one head (together = 1). */
#ifndef SEMOLLM_KERNELS_CUDA_ATTENTION_CUH
#define SEMOLLM_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/kernel.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, WARP_ROWS = 16, ROWS = WARPS * WARP_ROWS, DIMENSIONS = 128 };

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

/* The --precision fp32 path (attention_f32.cu). */
bool attention_f32(Device *dev, const AttentionArgs *a, Error *err);
bool attention_backward_f32(Device *dev, const AttentionBackwardArgs *b, const float *stats, Error *err);
bool attention_cached_f32(Device *dev, const AttentionCachedArgs *a, Error *err);

static __device__ __forceinline__ int lane_id(void) { return (int)threadIdx.x % 32; }
static __device__ __forceinline__ int warp_id(void) { return (int)threadIdx.x / 32; }

template <typename T> static __device__ __forceinline__ T *head_row(const Tensor &t, int64_t row, int head, int dim) {
    return (T *)t.data + row * t.ld + (int64_t)head * dim;
}

static __device__ __forceinline__ float *float_row(const Tensor &t, int64_t row) {
    return (float *)t.data + row * t.ld;
}

/* ---- where a thread block works ---- */

/* Blocks are numbered through the segments. Those of segment s begin at number cu[s]·together / ROWS + s: there
 * is room for a ragged end, and a number that stands for nothing where the end is not ragged. */
static __host__ __device__ __forceinline__ int64_t block_number(int64_t rows_before, int segment) {
    return rows_before / ROWS + segment;
}

/* The segment that a block's number belongs to; a warp looks at 32 of them at once. */
static __device__ __forceinline__ int segment_of_block(const Packed &p, int together, int64_t number) {
    int segment = -1;
    for (int from = 0; from < p.count; from += 32) {
        int s = from + lane_id();
        unsigned begun = __ballot_sync(
            0xffffffffu, s < p.count && block_number((int64_t)p.device[s] * together, s) <= number);
        segment += __popc(begun);
        if (begun != 0xffffffffu) break;
    }
    return segment;
}

struct Segment {
    int64_t first_query, first_key;
    int nq, nk;
    bool causal;
};

static __device__ __forceinline__ Segment segment_at(const AttentionArgs &a, int s) {
    int q = a.queries.device[s], k = a.keys.device[s];
    return Segment{q, k, a.queries.device[s + 1] - q, a.keys.device[s + 1] - k, a.causal};
}

/* How many keys the query at `position` sees. */
static __device__ __forceinline__ int keys_seen(const Segment &s, int position) {
    return s.causal ? max(0, min(s.nk, s.nk - s.nq + position + 1)) : s.nk;
}

/* ---- tiles in shared memory ---- */

/* A tile's rows lie 16 bytes further apart than they are long, which puts any eight of them, one below the
 * other, into different banks. */
template <int D> static __host__ __device__ constexpr int pitch(void) { return D + 8; }

/* The rows of one head, or of `together` heads that take turns, that a tile is taken from. */
struct Rows {
    const bf16 *data; /* of the first position and head */
    int64_t ld;
    int together, dim;
    bool whole; /* may be read 16 bytes at a time */
};

static __device__ __forceinline__ const bf16 *tile_row(const Rows &from, int row) {
    int position = from.together == 1 ? row : row / from.together;
    return from.data + position * from.ld + (row - position * from.together) * from.dim;
}

/* Eight elements from column `column` on, zeros past `dim` and where the row is not `there`. */
static __device__ __noinline__ void copy_unaligned(bf16 *to, const bf16 *row, int column, int dim, bool there) {
    Eight<bf16> part;
    take8(part, row + column, there ? dim - column : 0, false);
    store16(to, part.part[0]);
}

/* Rows first .. first+COUNT-1 of `from` on their way into a tile; those from `end` on are zeros. */
template <int D, int COUNT>
static __device__ __forceinline__ void load_tile(bf16 *tile, const Rows &from, int first, int end) {
    constexpr int PARTS = D / 8;
#pragma unroll
    for (int i = 0; i < COUNT * PARTS / THREADS; i++) {
        int part = i * THREADS + (int)threadIdx.x, r = part / PARTS, column = part % PARTS * 8;
        bf16 *to = tile + r * pitch<D>() + column;
        bool there = first + r < end;
        const bf16 *row = tile_row(from, there ? first + r : first);
        if (from.whole)
            copy_async16(to, row + column, there && column < from.dim);
        else
            copy_unaligned(to, row, column, from.dim, there);
    }
}

/* ---- products of tiles ----
 *
 * Fragments are those of mma.m16n8k16: of 16 rows, lane l holds rows l/4 and l/4+8; of a product's eight
 * columns, 2·(l%4) and the next. A block is eight rows of the streamed tile. */

/* The left operand: this warp's 16 rows in steps of 16 columns. */
template <int D> static __device__ __forceinline__ const bf16 *left_address(const bf16 *rows) {
    return rows + lane_id() % 16 * pitch<D>() + lane_id() / 16 * 8;
}

template <int D> static __device__ __forceinline__ void load_left(uint32_t a[D / 16][4], const bf16 *rows) {
    const bf16 *from = left_address<D>(rows);
#pragma unroll
    for (int k = 0; k < D / 16; k++) load_matrix_x4(a[k], from + 16 * k);
}

/* s[n] += a·tileᵀ, one step of 16 columns, for blocks from .. to-1. */
template <int D, int BLOCKS>
static __device__ __forceinline__ void score_step(float s[BLOCKS][4], const uint32_t a[4], const bf16 *right, int k,
                                                  int from, int to) {
#pragma unroll
    for (int n = 0; n < BLOCKS; n += 2) {
        if (n + 1 < from || n >= to) continue;
        uint32_t b[4];
        load_matrix_x4(b, right + n * 8 * pitch<D>() + 16 * k);
        if (n >= from) mma_16816(s[n], a, b);
        if (n + 1 < to) mma_16816(s[n + 1], a, b + 2);
    }
}

template <int D> static __device__ __forceinline__ const bf16 *right_address(const bf16 *tile) {
    return tile + (lane_id() / 16 * 8 + lane_id() % 8) * pitch<D>() + lane_id() / 8 % 2 * 8;
}

/* s = a·tileᵀ for blocks from .. to-1, zero elsewhere. */
template <int D, int BLOCKS>
static __device__ __forceinline__ void scores(float s[BLOCKS][4], const uint32_t a[D / 16][4], const bf16 *tile,
                                              int from, int to) {
    const bf16 *right = right_address<D>(tile);
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++) score_step<D, BLOCKS>(s, a[k], right, k, from, to);
}

/* The same with the left operand read anew from shared memory. */
template <int D, int BLOCKS>
static __device__ __forceinline__ void scores_of_rows(float s[BLOCKS][4], const bf16 *rows, const bf16 *tile, int from,
                                                      int to) {
    const bf16 *left = left_address<D>(rows), *right = right_address<D>(tile);
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[4];
        load_matrix_x4(a, left + 16 * k);
        score_step<D, BLOCKS>(s, a, right, k, from, to);
    }
}

/* o += p·tile over blocks from .. to-1; p holds zeros in a block outside these that shares 16 rows with one. */
template <int D, int BLOCKS>
static __device__ __forceinline__ void weigh(float o[D / 8][4], const float p[BLOCKS][4], const bf16 *tile, int from,
                                             int to) {
    const bf16 *right = tile + lane_id() % 16 * pitch<D>() + lane_id() / 16 * 8;
#pragma unroll
    for (int n = 0; n < BLOCKS; n += 2) {
        if (n + 1 < from || n >= to) continue;
        uint32_t a[4] = {pack_bf16(p[n][0], p[n][1]), pack_bf16(p[n][2], p[n][3]),
                         pack_bf16(p[n + 1][0], p[n + 1][1]), pack_bf16(p[n + 1][2], p[n + 1][3])};
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
            uint32_t b[4];
            load_matrix_x4_transposed(b, right + n * 8 * pitch<D>() + 8 * c);
            mma_16816(o[c], a, b);
            mma_16816(o[c + 1], a, b + 2);
        }
    }
}

/* Writes this warp's 16 rows, those before `end`, each times its factor; `room` is for 16 rows of a tile. */
template <int D>
static __device__ __forceinline__ void store_rows(const Rows &to, int first, int end, const float o[D / 8][4],
                                                  const float factor[2], bf16 *room) {
    constexpr int PARTS = D / 8;
    int r = lane_id() / 4, c = lane_id() % 4 * 2;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        for (int half = 0; half < 2; half++)
            *(uint32_t *)(room + (r + 8 * half) * pitch<D>() + 8 * n + c) =
                pack_bf16(o[n][2 * half] * factor[half], o[n][2 * half + 1] * factor[half]);
    __syncwarp();
#pragma unroll
    for (int part = lane_id(); part < WARP_ROWS * PARTS; part += 32) {
        int row = part / PARTS, column = part % PARTS * 8;
        if (first + row >= end) continue;
        Eight<bf16> eight = {{load16(room + row * pitch<D>() + column)}};
        put8((bf16 *)tile_row(to, first + row) + column, eight, to.dim - column, to.whole);
    }
}

/* ---- relative bias ---- */

/* bias[0 .. count-1] from column `from` of a head's table on, zeros outside it: one float a thread, fetched
 * while the tile before is worked on. */
static __device__ __forceinline__ float window_value(const Tensor &bias, int head, int64_t from, int count) {
    int64_t column = from + (int)threadIdx.x;
    bool there = (int)threadIdx.x < count && column >= 0 && column < bias.cols;
    return there ? float_row(bias, head)[column] : 0.0f;
}

/* ---- launching ---- */

static inline bool attention_whole(Tensor t, int dim) {
    return (uintptr_t)t.data % 16 == 0 && t.ld % 8 == 0 && dim % 8 == 0;
}

static inline int heads_together(const AttentionArgs *a) {
    return tensor_present(a->bias) ? 1 : a->heads / a->kv_heads;
}

static inline int64_t query_blocks(const AttentionArgs *a) {
    int64_t rows = a->queries.total * heads_together(a);
    return a->queries.count ? block_number(rows, a->queries.count) : 0;
}

/* Calls function<D>(...) with the least D that holds dim. */
#define BY_DIM(dim, function, ...)                                                                                     \
    ((dim) <= 32   ? function<32>(__VA_ARGS__)                                                                         \
     : (dim) <= 64 ? function<64>(__VA_ARGS__)                                                                         \
     : (dim) <= 96 ? function<96>(__VA_ARGS__)                                                                         \
                   : function<128>(__VA_ARGS__))

#endif
