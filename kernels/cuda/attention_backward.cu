/* Attention's gradients in two passes that each sum in one block, in a fixed order, whatever a result depends on:
 * one holds queries and streams over keys for dq, the other holds keys and streams over queries for dk and dv.
 * Both compute the probabilities anew from the log-sum-exp. What was rotated before is rotated back where its sums
 * end up, in registers, where a head fills their columns; else by op_rope's kernel. */
#include "kernels/cuda/attention.cuh"

/* Rows of a streamed tile: what two products of it take in registers must leave room for the sums. */
template <int D> static __host__ __device__ constexpr int streamed(void) { return D > 64 ? 32 : 64; }

enum { WINDOW = 128, STRIP = 32, STRIP_PITCH = 40, STRIP_FLOATS = WARP_ROWS * STRIP_PITCH };

/* ---- per row: the log-sum-exp, in base 2, and dout · out ---- */

/* A row that sees no key gets +inf: exp2(score - inf) = 0, no share in anything. */
template <typename T>
static __global__ void stats_kernel(AttentionBackwardArgs b, int lanes, bool whole, float *stats) {
    const AttentionArgs &a = b.forward;
    int64_t item = (blockIdx.x * (int64_t)THREADS + threadIdx.x) / lanes, items = a.q.rows * a.heads;
    int64_t row = min(item, items - 1) / a.heads;
    int head = (int)(min(item, items - 1) - row * a.heads), column = (int)threadIdx.x % lanes * 8;
    Eight<T> left, right;
    take8(left, head_row<T>(b.dout, row, head, a.dim) + column, a.dim - column, whole);
    take8(right, head_row<T>(a.out, row, head, a.dim) + column, a.dim - column, whole);
    float x[8], y[8], along = 0.0f;
    unpack8(x, left);
    unpack8(y, right);
    for (int i = 0; i < 8; i++)
        if (column + i < a.dim) along += x[i] * y[i];
    for (int step = lanes / 2; step > 0; step /= 2) along += __shfl_xor_sync(0xffffffffu, along, step);
    if (column || item >= items) return;
    float lse = float_row(a.lse, row)[head];
    *(float2 *)(stats + 2 * item) = make_float2(lse == -INFINITY ? INFINITY : lse * LOG2_E, along);
}

template <typename T> static bool write_stats(Device *dev, const AttentionBackwardArgs *b, float *stats, Error *err) {
    const AttentionArgs *a = &b->forward;
    int lanes = 1;
    while (lanes * 8 < a->dim) lanes *= 2;
    bool whole = attention_whole(a->out, a->dim) && attention_whole(b->dout, a->dim);
    dim3 grid = blocks_for(a->q.rows * a->heads * lanes, THREADS);
    return LAUNCH(dev, err, (stats_kernel<T>), grid, THREADS, 0, *b, lanes, whole, stats);
}

/* Of a row of queries in a block's numbering. */
static __device__ __forceinline__ float2 row_stats(const float *stats, const AttentionArgs &a, const Segment &segment,
                                                   int together, int head, int row) {
    if (row >= segment.nq * together) return make_float2(INFINITY, 0.0f);
    int position = row / together;
    int64_t item = (segment.first_query + position) * a.heads + head + (row - position * together);
    return *(const float2 *)(stats + 2 * item);
}

/* ---- rotary positions ---- */

/* Rotates a warp's 16 rows back, those from `first` on: of D columns a lane has both c and c + D / 2. Packed row
 * `first_row` is the segment's first. NaN where the table has no such position, as op_rope leaves it. */
template <int D>
static __device__ __forceinline__ void rotate_back(float o[D / 8][4], const AttentionBackwardArgs &b, int64_t first_row,
                                                   int together, int first, int end) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = min(first + lane_id() / 4 + 8 * half, end - 1);
        int position = b.position[first_row + row / together];
        bool there = position >= 0 && position < b.rope.rows;
        const float *table = float_row(b.rope, there ? position : 0) + lane_id() % 4 * 2;
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            float2 cosine = *(const float2 *)(table + 8 * n), sine = *(const float2 *)(table + D / 2 + 8 * n);
            if (!there) cosine = make_float2(bits_float(0x7fffffffu), bits_float(0x7fffffffu));
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float low = o[n][2 * half + e], high = o[n + D / 16][2 * half + e];
                float c = e ? cosine.y : cosine.x, s = e ? sine.y : sine.x;
                o[n][2 * half + e] = low * c + high * s;
                o[n + D / 16][2 * half + e] = high * c - low * s;
            }
        }
    }
}

/* Whether that does: a head as wide as the least D that holds it, and pairs of the table's numbers at a time. */
static bool rotates_in_place(const AttentionBackwardArgs *b) {
    return !tensor_present(b->forward.bias) && b->forward.dim % 32 == 0 && (uintptr_t)b->rope.data % 8 == 0 &&
           b->rope.ld % 2 == 0;
}

static bool rotate_rows_back(Device *dev, const AttentionBackwardArgs *b, Tensor x, int heads, Error *err) {
    RopeArgs args = {x, b->position, b->rope, heads, b->forward.dim, true};
    return cuda_rope(dev, &args, err) || fail_in(err, "attention_backward");
}

/* ---- dq ---- */

/* What a warp holds of its 16 rows. */
template <int D> struct QueryGradient {
    uint32_t q[D / 16][4], dout[D / 16][4];
    float dq[D / 8][4];
    float factor, lse[2], along[2], gate[2], dgate[2];
    int seen[2];
    float carry; /* of the bias's gradient: diagonals that the next keys go on with */
};

/* The sum over rows i of m[i][d + i - 15], a diagonal of a strip of 16 × 32. */
static __device__ __forceinline__ float diagonal(const float *m, int d) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) {
        int column = d + i - (WARP_ROWS - 1);
        if (column >= 0 && column < STRIP) sum += m[i * STRIP_PITCH + column];
    }
    return sum;
}

/* Sums gate·ds over a strip's diagonals: of its 47 those that no later key adds to are written. */
static __device__ __forceinline__ float strip_gradient(const float ds[STRIP / 8][4], const float gate[2], float carry,
                                                       float *strip, float *diagonals) {
    int r = lane_id() / 4, c = lane_id() % 4 * 2;
#pragma unroll
    for (int n = 0; n < STRIP / 8; n++)
        for (int half = 0; half < 2; half++)
            *(float2 *)(strip + (r + 8 * half) * STRIP_PITCH + 8 * n + c) =
                make_float2(ds[n][2 * half] * gate[half], ds[n][2 * half + 1] * gate[half]);
    __syncwarp();
    diagonals[lane_id()] = diagonal(strip, lane_id()) + carry;
    float next = lane_id() < WARP_ROWS - 1 ? diagonal(strip, lane_id() + STRIP) : 0.0f;
    __syncwarp();
    return next;
}

/* One tile from key `key` on, of which the warp's rows see `seen` at most; WHOLE: all of it. */
template <int D, bool BIAS, bool WHOLE>
static __device__ __forceinline__ void query_step(QueryGradient<D> &w, const bf16 *keys, const bf16 *values,
                                                  const float *window, int key, int seen, float *strip,
                                                  float *diagonals) {
    constexpr int BLOCKS = streamed<D>() / 8;
    int blocks = WHOLE ? BLOCKS : min(BLOCKS, (seen + 7) / 8);
    float s[BLOCKS][4], ds[BLOCKS][4];
    scores<D, BLOCKS>(s, w.q, keys, 0, blocks);
    scores<D, BLOCKS>(ds, w.dout, values, 0, blocks);
    int column = lane_id() % 4 * 2;
    const float *bias = window + ROWS - 1 + column - (warp_id() * WARP_ROWS + lane_id() / 4);
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int e = 0; e < 4; e++) {
            int half = e / 2;
            float extra = BIAS ? bias[8 * n + e % 2 - 8 * half] : 0.0f;
            float score = s[n][e] * w.factor + (BIAS ? w.gate[half] * LOG2_E * extra : 0.0f);
            float p = exp2_fast(score - w.lse[half]);
            bool there = WHOLE || key + column + 8 * n + e % 2 < w.seen[half];
            ds[n][e] = there ? p * (ds[n][e] - w.along[half]) : 0.0f;
            if (BIAS) w.dgate[half] += ds[n][e] * extra;
        }
    weigh<D, BLOCKS>(w.dq, ds, keys, 0, blocks);
    if (!BIAS || !diagonals) return;
#pragma unroll
    for (int n = 0; n < BLOCKS; n += STRIP / 8)
        if (n < blocks) w.carry = strip_gradient(ds + n, w.gate, w.carry, strip, diagonals + key + 8 * n);
}

/* The room that a warp of a block has for its diagonals, of `reach` floats a warp and head. */
static __device__ __forceinline__ float *diagonals_of(float *partial, int reach, int heads, int64_t block, int warp,
                                                      int head) {
    return partial + ((block * WARPS + warp) * heads + head) * reach;
}

template <int D>
static __device__ __forceinline__ void begin_rows(QueryGradient<D> &w, const AttentionArgs &a, const Segment &segment,
                                                  int together, int head, int row, const float *stats) {
    w.factor = a.scale * LOG2_E;
    w.carry = 0.0f;
    for (int half = 0; half < 2; half++) {
        int mine = row + lane_id() / 4 + 8 * half, valid = min(mine, segment.nq * together - 1);
        float2 stat = row_stats(stats, a, segment, together, head, mine);
        w.lse[half] = stat.x;
        w.along[half] = stat.y;
        w.seen[half] = keys_seen(segment, valid / together);
        w.gate[half] = a.gate.data ? float_row(a.gate, segment.first_query + valid)[head] : 1.0f;
        w.dgate[half] = 0.0f;
    }
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int e = 0; e < 4; e++) w.dq[c][e] = 0.0f;
}

template <int D>
static __device__ __forceinline__ void write_dgate(const QueryGradient<D> &w, const Tensor &dgate,
                                                   const Segment &segment, int head, int row) {
    for (int half = 0; half < 2; half++) {
        float sum = w.dgate[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        int mine = row + lane_id() / 4 + 8 * half;
        if (lane_id() % 4 == 0 && mine < segment.nq) float_row(dgate, segment.first_query + mine)[head] = sum;
    }
}

template <int D, bool BIAS>
static __global__ void __launch_bounds__(THREADS, 2)
    query_gradient_kernel(AttentionBackwardArgs b, int together, bool whole, const float *stats, float *partial,
                          int reach) {
    const AttentionArgs &a = b.forward;
    if (BIAS) together = 1; /* said here, divisions by it need no registers */
    constexpr int KEYS = streamed<D>(), TILE = KEYS * pitch<D>();
    int s = segment_of_block(a.queries, together, blockIdx.x);
    Segment segment = segment_at(a, s);
    int rows = segment.nq * together, blocks = (rows + ROWS - 1) / ROWS;
    int64_t first_block = block_number(segment.first_query * together, s);
    int number = (int)(blockIdx.x - first_block);
    if (number >= blocks) return;
    int block = blocks - 1 - number, at = block * ROWS; /* those that see the most keys begin first */
    int head = (int)blockIdx.y * together, kv_head = head / (a.heads / a.kv_heads);
    Rows q = {head_row<bf16>(a.q, segment.first_query, head, a.dim), a.q.ld, together, a.dim, whole};
    Rows dout = {head_row<bf16>(b.dout, segment.first_query, head, a.dim), b.dout.ld, together, a.dim, whole};
    Rows dq = {head_row<bf16>(b.dq, segment.first_query, head, a.dim), b.dq.ld, together, a.dim, whole};
    Rows k = {head_row<bf16>(a.k, segment.first_key, kv_head, a.dim), a.k.ld, 1, a.dim, whole};
    Rows v = {head_row<bf16>(a.v, segment.first_key, kv_head, a.dim), a.v.ld, 1, a.dim, whole};

    bf16 *tiles = (bf16 *)shared_memory();
    float *windows = (float *)(tiles + 4 * TILE), *strip = windows + 2 * WINDOW + warp_id() * STRIP_FLOATS;
    int end = keys_seen(segment, (min(at + (int)ROWS, rows) - 1) / together);
    int64_t middle = (a.bias.cols - 1) / 2 - at - (ROWS - 1);
    load_tile<D, ROWS>(tiles, q, at, rows);
    load_tile<D, ROWS>(tiles + ROWS * pitch<D>(), dout, at, rows);
    copy_async_commit();
    if (BIAS) windows[threadIdx.x] = window_value(a.bias, head, middle, WINDOW);
    copy_async_wait<0>();
    __syncthreads();

    int row = at + warp_id() * WARP_ROWS, last = min(row + (int)WARP_ROWS, rows) - 1;
    int least = row < rows ? keys_seen(segment, row / together) : 0;
    int most = row < rows ? keys_seen(segment, last / together) : 0;
    QueryGradient<D> w;
    begin_rows(w, a, segment, together, head, row, stats);
    load_left<D>(w.q, tiles + warp_id() * WARP_ROWS * pitch<D>());
    load_left<D>(w.dout, tiles + (ROWS + warp_id() * WARP_ROWS) * pitch<D>());
    float *diagonals = NULL;
    if (BIAS && partial) diagonals = diagonals_of(partial, reach, a.heads, first_block + block, warp_id(), head);
    __syncthreads();
    load_tile<D, KEYS>(tiles, k, 0, end);
    load_tile<D, KEYS>(tiles + TILE, v, 0, end);
    copy_async_commit();

    for (int key = 0, stage = 0; key < end; key += KEYS, stage ^= 1) {
        copy_async_wait<0>();
        __syncthreads();
        bf16 *here = tiles + stage * 2 * TILE, *next = tiles + (stage ^ 1) * 2 * TILE;
        float value = 0.0f;
        if (key + KEYS < end) {
            load_tile<D, KEYS>(next, k, key + KEYS, end);
            load_tile<D, KEYS>(next + TILE, v, key + KEYS, end);
            if (BIAS) value = window_value(a.bias, head, middle + key + KEYS, WINDOW);
        }
        copy_async_commit();
        const float *window = windows + stage * WINDOW;
        if (least - key >= KEYS)
            query_step<D, BIAS, true>(w, here, here + TILE, window, key, KEYS, strip, diagonals);
        else if (most > key)
            query_step<D, BIAS, false>(w, here, here + TILE, window, key, most - key, strip, diagonals);
        if (BIAS) windows[(stage ^ 1) * WINDOW + threadIdx.x] = value;
    }
    copy_async_wait<0>();
    __syncthreads();
    if (diagonals && lane_id() < WARP_ROWS - 1) diagonals[(most + STRIP - 1) / STRIP * STRIP + lane_id()] = w.carry;
    if (BIAS && b.dgate.data) write_dgate(w, b.dgate, segment, head, row);
    if (!BIAS && b.rope.data) rotate_back<D>(w.dq, b, segment.first_query, together, row, rows);
    float scale[2] = {a.scale, a.scale};
    store_rows<D>(dq, row, rows, w.dq, scale, tiles + warp_id() * WARP_ROWS * pitch<D>());
}

template <int D>
static bool query_gradient(Device *dev, const AttentionBackwardArgs *b, bool whole, const float *stats, float *partial,
                           int reach, Error *err) {
    const AttentionArgs *a = &b->forward;
    int together = heads_together(a);
    dim3 grid((unsigned)query_blocks(a), (unsigned)(a->heads / together));
    size_t shared = (size_t)4 * streamed<D>() * pitch<D>() * sizeof(bf16);
    if (!tensor_present(a->bias))
        return LAUNCH(dev, err, (query_gradient_kernel<D, false>), grid, THREADS, shared, *b, together, whole, stats,
                      partial, reach);
    shared += (2 * WINDOW + WARPS * STRIP_FLOATS) * sizeof(float);
    return LAUNCH(dev, err, (query_gradient_kernel<D, true>), grid, THREADS, shared, *b, together, whole, stats,
                  partial, reach);
}

/* ---- dbias, from the warps' diagonals ---- */

static __global__ void bias_gradient_kernel(AttentionBackwardArgs b, const float *partial, int reach) {
    const AttentionArgs &a = b.forward;
    int64_t column = blockIdx.x * (int64_t)THREADS + threadIdx.x;
    int head = (int)blockIdx.y;
    if (column >= a.bias.cols) return;
    float sum = 0.0f;
    for (int s = 0; s < a.queries.count; s++) {
        Segment segment = segment_at(a, s);
        int64_t block = block_number(segment.first_query, s);
        for (int row = 0; row < segment.nq; row += WARP_ROWS) {
            int seen = keys_seen(segment, min(row + (int)WARP_ROWS, segment.nq) - 1);
            int64_t at = column - (a.bias.cols - 1) / 2 + row + WARP_ROWS - 1;
            if (at < 0 || at >= (seen + STRIP - 1) / STRIP * STRIP + WARP_ROWS - 1) continue;
            sum += diagonals_of((float *)partial, reach, a.heads, block + row / ROWS, row % ROWS / WARP_ROWS, head)[at];
        }
    }
    float_row(b.dbias, head)[column] += sum;
}

/* ---- dk and dv ---- */

/* What a warp holds of its 16 keys; the products are transposed, keys by queries. */
template <int D> struct KeyGradient {
    float dk[D / 8][4], dv[D / 8][4];
    float factor;
    int from[2]; /* the first row of queries that sees a lane's two keys */
};

/* Where a tile of queries lies in shared memory. */
struct QueryTile {
    const bf16 *q, *dout;
    const float *stats, *gates, *window;
};

/* One tile, whose first row is `row`, of which blocks from .. to-1 see the warp's keys; WHOLE: all of it. */
template <int D, bool BIAS, bool WHOLE>
static __device__ __forceinline__ void key_step(KeyGradient<D> &w, const bf16 *keys, const bf16 *values,
                                                const QueryTile &tile, int row, int from, int to) {
    constexpr int BLOCKS = streamed<D>() / 8;
    if (WHOLE) from = 0, to = BLOCKS;
    float p[BLOCKS][4], ds[BLOCKS][4];
    scores_of_rows<D, BLOCKS>(p, keys, tile.q, from, to);
    int column = lane_id() % 4 * 2;
    const float *bias = tile.window + streamed<D>() - 1 - column + warp_id() * WARP_ROWS + lane_id() / 4;
#pragma unroll
    for (int n = 0; n < BLOCKS; n++) {
        uint4 stats = load16(tile.stats + 2 * (8 * n + column));
        for (int e = 0; e < 4; e++) {
            float score = p[n][e] * w.factor;
            if (BIAS) score += tile.gates[8 * n + column + e % 2] * LOG2_E * bias[e / 2 * 8 - 8 * n - e % 2];
            bool there = WHOLE || row + column + 8 * n + e % 2 >= w.from[e / 2];
            p[n][e] = there ? exp2_fast(score - bits_float(e % 2 ? stats.z : stats.x)) : 0.0f;
        }
    }
    weigh<D, BLOCKS>(w.dv, p, tile.dout, from, to);
    scores_of_rows<D, BLOCKS>(ds, values, tile.dout, from, to);
#pragma unroll
    for (int n = 0; n < BLOCKS; n++) {
        uint4 stats = load16(tile.stats + 2 * (8 * n + column));
        for (int e = 0; e < 4; e++) ds[n][e] = p[n][e] * (ds[n][e] - bits_float(e % 2 ? stats.w : stats.y));
    }
    weigh<D, BLOCKS>(w.dk, ds, tile.q, from, to);
}

/* The first row of queries that sees key `key`. */
static __device__ __forceinline__ int first_row_of(const Segment &segment, int together, int key) {
    return segment.causal ? min(segment.nq, max(0, key - (segment.nk - segment.nq))) * together : 0;
}

template <int D, bool BIAS>
static __global__ void __launch_bounds__(THREADS, 2)
    key_gradient_kernel(AttentionBackwardArgs b, int together, bool whole, const float *stats) {
    const AttentionArgs &a = b.forward;
    constexpr int QUERIES = streamed<D>(), TILE = QUERIES * pitch<D>(), HELD = ROWS * pitch<D>();
    int s = segment_of_block(a.keys, 1, blockIdx.x);
    Segment segment = segment_at(a, s);
    int at = (int)(blockIdx.x - block_number(segment.first_key, s)) * ROWS;
    if (at >= segment.nk) return;
    int kv_head = (int)blockIdx.y, group = a.heads / a.kv_heads, rows = segment.nq * together;
    Rows k = {head_row<bf16>(a.k, segment.first_key, kv_head, a.dim), a.k.ld, 1, a.dim, whole};
    Rows v = {head_row<bf16>(a.v, segment.first_key, kv_head, a.dim), a.v.ld, 1, a.dim, whole};
    Rows dk = {head_row<bf16>(b.dk, segment.first_key, kv_head, a.dim), b.dk.ld, 1, a.dim, whole};
    Rows dv = {head_row<bf16>(b.dv, segment.first_key, kv_head, a.dim), b.dv.ld, 1, a.dim, whole};

    bf16 *held = (bf16 *)shared_memory(), *tiles = held + 2 * HELD;
    float *stat_rows = (float *)(tiles + 4 * TILE), *gates = stat_rows + 4 * QUERIES, *windows = gates + 2 * QUERIES;
    load_tile<D, ROWS>(held, k, at, segment.nk);
    load_tile<D, ROWS>(held + HELD, v, at, segment.nk);
    copy_async_commit();

    int key = at + warp_id() * WARP_ROWS, begin = first_row_of(segment, together, at);
    int from = first_row_of(segment, together, key), all = first_row_of(segment, together, key + WARP_ROWS - 1);
    KeyGradient<D> w;
    w.factor = a.scale * LOG2_E;
    for (int half = 0; half < 2; half++) w.from[half] = first_row_of(segment, together, key + lane_id() / 4 + 8 * half);
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int e = 0; e < 4; e++) w.dk[c][e] = w.dv[c][e] = 0.0f;

    /* Tile t + 1 is fetched while t is worked on; heads that do not lie together take turns. */
    int64_t middle = (a.bias.cols - 1) / 2 + at - (QUERIES - 1);
    int each = (rows - begin + QUERIES - 1) / QUERIES, tiles_all = each * (group / together);
    for (int t = -1; t < tiles_all; t++) {
        int next = t + 1, head = kv_head * group + (each ? next / each : 0) * together;
        int row = begin + (each ? next % each : 0) * QUERIES, stage = next & 1, mine = row + (int)threadIdx.x;
        copy_async_wait<0>();
        __syncthreads();
        float2 stat = make_float2(INFINITY, 0.0f);
        float gate = 1.0f, value = 0.0f;
        if (next < tiles_all) {
            Rows q = {head_row<bf16>(a.q, segment.first_query, head, a.dim), a.q.ld, together, a.dim, whole};
            Rows dout = {head_row<bf16>(b.dout, segment.first_query, head, a.dim), b.dout.ld, together, a.dim, whole};
            load_tile<D, QUERIES>(tiles + stage * 2 * TILE, q, row, rows);
            load_tile<D, QUERIES>(tiles + stage * 2 * TILE + TILE, dout, row, rows);
            if ((int)threadIdx.x < QUERIES) {
                stat = row_stats(stats, a, segment, together, head, mine);
                if (BIAS && a.gate.data && mine < rows) gate = float_row(a.gate, segment.first_query + mine)[head];
            }
            if (BIAS)
                value = window_value(a.bias, head, middle - row, ROWS + QUERIES - 1);
        }
        copy_async_commit();
        if (t >= 0 && key < segment.nk) {
            int here = stage ^ 1, first = begin + t % each * QUERIES;
            QueryTile tile = {tiles + here * 2 * TILE, tiles + here * 2 * TILE + TILE, stat_rows + here * 2 * QUERIES,
                              gates + here * QUERIES, windows + here * WINDOW};
            const bf16 *keys = held + warp_id() * WARP_ROWS * pitch<D>();
            int least = max(0, from - first) / 8, most = min(QUERIES, rows - first + 7) / 8;
            if (first >= all && most == QUERIES / 8)
                key_step<D, BIAS, true>(w, keys, keys + HELD, tile, first, least, most);
            else if (least < most)
                key_step<D, BIAS, false>(w, keys, keys + HELD, tile, first, least, most);
        }
        if ((int)threadIdx.x < QUERIES) {
            *(float2 *)(stat_rows + (stage * QUERIES + (int)threadIdx.x) * 2) = stat;
            if (BIAS) gates[stage * QUERIES + threadIdx.x] = gate;
        }
        if (BIAS) windows[stage * WINDOW + threadIdx.x] = value;
    }
    bf16 *room = held + warp_id() * WARP_ROWS * pitch<D>(); /* only this warp read its keys and values */
    __syncwarp();
    if (!BIAS && b.rope.data) rotate_back<D>(w.dk, b, segment.first_key, 1, key, segment.nk);
    float scale[2] = {a.scale, a.scale}, one[2] = {1.0f, 1.0f};
    store_rows<D>(dk, key, segment.nk, w.dk, scale, room);
    store_rows<D>(dv, key, segment.nk, w.dv, one, room + HELD);
}

template <int D>
static bool key_gradient(Device *dev, const AttentionBackwardArgs *b, bool whole, const float *stats, Error *err) {
    const AttentionArgs *a = &b->forward;
    constexpr int QUERIES = streamed<D>();
    dim3 grid((unsigned)(a->keys.count ? block_number(a->keys.total, a->keys.count) : 0), (unsigned)a->kv_heads);
    size_t shared = (size_t)(2 * ROWS + 4 * QUERIES) * pitch<D>() * sizeof(bf16) + 6 * QUERIES * sizeof(float);
    int together = heads_together(a);
    if (!tensor_present(a->bias))
        return LAUNCH(dev, err, (key_gradient_kernel<D, false>), grid, THREADS, shared, *b, together, whole, stats);
    shared += 2 * WINDOW * sizeof(float);
    return LAUNCH(dev, err, (key_gradient_kernel<D, true>), grid, THREADS, shared, *b, together, whole, stats);
}

/* ---- the operation ---- */

static size_t stats_bytes(const AttentionArgs *a) {
    return ((size_t)(a->q.rows * a->heads) * 2 * sizeof(float) + 255) / 256 * 256;
}

/* Floats that a warp's diagonals take. */
static int64_t diagonals_reach(const AttentionArgs *a) { return (a->keys.longest + STRIP - 1) / STRIP * STRIP + STRIP; }

extern "C" size_t cuda_attention_backward_scratch(const Device *dev, const AttentionBackwardArgs *b) {
    const AttentionArgs *a = &b->forward;
    size_t bytes = stats_bytes(a);
    if (dev->dtype == DTYPE_F32 || !tensor_present(b->dbias)) return bytes;
    return bytes + (size_t)(query_blocks(a) * WARPS * a->heads * diagonals_reach(a)) * sizeof(float);
}

static bool gradients(Device *dev, const AttentionBackwardArgs *b, float *stats, Error *err) {
    const AttentionArgs *a = &b->forward;
    if (dev->dtype == DTYPE_F32)
        return write_stats<float>(dev, b, stats, err) && attention_backward_f32(dev, b, stats, err);
    float *partial = tensor_present(b->dbias) ? stats + stats_bytes(a) / sizeof(float) : NULL;
    int reach = (int)diagonals_reach(a);
    bool whole = attention_whole(a->q, a->dim) && attention_whole(a->k, a->dim) && attention_whole(a->v, a->dim) &&
                 attention_whole(b->dout, a->dim) && attention_whole(b->dq, a->dim) &&
                 attention_whole(b->dk, a->dim) && attention_whole(b->dv, a->dim);
    if (!write_stats<bf16>(dev, b, stats, err) ||
        !BY_DIM(a->dim, query_gradient, dev, b, whole, stats, partial, reach, err) ||
        !BY_DIM(a->dim, key_gradient, dev, b, whole, stats, err))
        return false;
    dim3 grid((unsigned)((a->bias.cols + THREADS - 1) / THREADS), (unsigned)a->heads);
    return !partial || LAUNCH(dev, err, bias_gradient_kernel, grid, THREADS, 0, *b, partial, reach);
}

extern "C" bool cuda_attention_backward(Device *dev, const AttentionBackwardArgs *b, Error *err) {
    const AttentionArgs *a = &b->forward;
    if (!a->q.rows && !a->k.rows) return true;
    float *stats = (float *)device_scratch(dev, cuda_attention_backward_scratch(dev, b), err);
    if (!stats) return fail_in(err, "attention_backward");
    AttentionBackwardArgs turned = *b;
    bool after = tensor_present(b->rope) && (dev->dtype == DTYPE_F32 || !rotates_in_place(b));
    if (after) turned.rope.data = NULL;
    return gradients(dev, &turned, stats, err) && (!after || (rotate_rows_back(dev, b, b->dq, a->heads, err) &&
                                                              rotate_rows_back(dev, b, b->dk, a->kv_heads, err)));
}
