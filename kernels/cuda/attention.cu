/* Attention on tensor cores: a block holds ROWS rows of queries and streams over tiles of keys and values, the
 * next tile on its way while one is worked on. The softmax is taken online, in fp32 and base 2. */
#include "kernels/cuda/attention.cuh"

enum { KEYS = 64, BLOCKS = KEYS / 8, WINDOW = 128 };

/* Of keys, of values, and of keys and values that come next, where the queries pass first. */
template <int D> static __host__ __device__ constexpr size_t tiles_bytes(void) {
    return (size_t)4 * KEYS * pitch<D>() * sizeof(bf16);
}

/* What a warp carries from tile to tile. */
template <int D> struct Softmax {
    uint32_t q[D / 16][4];
    float o[D / 8][4];
    float most[2], sum[2]; /* of a lane's two rows; the sum is of the lane's own columns */
    float factor;          /* from the products to base-2 scores */
    float gate[2];
    int seen[2];
};

/* Without a bias the maximum is taken before scaling, which must then be positive: what is not goes into q. */
template <int D> static __device__ __forceinline__ void make_scale_positive(Softmax<D> &w) {
    uint32_t flip = w.factor < 0.0f ? 0x80008000u : 0u, keep = w.factor == 0.0f ? 0u : ~0u;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        for (int i = 0; i < 4; i++) w.q[k][i] = (w.q[k][i] & keep) ^ flip;
    w.factor = w.factor == 0.0f ? 1.0f : fabsf(w.factor);
}

/* s = factor·s + gate·bias. The second row's bias is the first row's of a block before. */
template <int D>
static __device__ __forceinline__ void add_bias(const Softmax<D> &w, float s[BLOCKS][4], const float *window) {
    const float *bias = window + ROWS - 1 + lane_id() % 4 * 2 - (warp_id() * WARP_ROWS + lane_id() / 4);
    float before[2] = {bias[-8], bias[-7]};
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int e = 0; e < 2; e++) {
            float here = bias[8 * n + e];
            s[n][e] = s[n][e] * w.factor + w.gate[0] * here;
            s[n][2 + e] = s[n][2 + e] * w.factor + w.gate[1] * before[e];
            before[e] = here;
        }
}

/* -inf where a row does not see a key; `key` is the lane's first. */
static __device__ __forceinline__ void mask(float s[BLOCKS][4], const int seen[2], int key) {
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
        for (int e = 0; e < 4; e++)
            if (key + 8 * n + e % 2 >= seen[e / 2]) s[n][e] = -INFINITY;
}

/* Turns scores into probabilities relative to the new maximum and scales what was summed before. */
template <int D>
static __device__ __forceinline__ void online_softmax(Softmax<D> &w, float s[BLOCKS][4], float factor) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = w.most[half], sum = 0.0f;
#pragma unroll
        for (int n = 0; n < BLOCKS; n++) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        float base = most == -INFINITY ? 0.0f : most * factor; /* nothing seen yet: no NaN from -inf + inf */
        float shrink = exp2_fast(w.most[half] * factor - base);
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[n][e] = exp2_fast(s[n][e] * factor - base);
                sum += s[n][e];
            }
        w.most[half] = most;
        w.sum[half] = w.sum[half] * shrink + sum;
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            w.o[c][2 * half] *= shrink;
            w.o[c][2 * half + 1] *= shrink;
        }
    }
}

/* One tile, whose first key is `key`; WHOLE: the warp's rows see all of it, otherwise `seen` keys at most. */
template <int D, bool BIAS, bool WHOLE>
static __device__ __forceinline__ void attend(Softmax<D> &w, const bf16 *keys, const bf16 *values, const float *window,
                                              int key, int seen) {
    int blocks = WHOLE ? (int)BLOCKS : min((int)BLOCKS, (seen + 7) / 8);
    float s[BLOCKS][4];
    scores<D, BLOCKS>(s, w.q, keys, 0, blocks);
    if (BIAS) add_bias(w, s, window);
    if (!WHOLE) mask(s, w.seen, key + lane_id() % 4 * 2);
    online_softmax(w, s, BIAS ? 1.0f : w.factor);
    weigh<D, BLOCKS>(w.o, s, values, 0, blocks);
}

template <int D, bool BIAS>
static __device__ __forceinline__ void write_out(const AttentionArgs &a, const Segment &segment, const Softmax<D> &w,
                                                 const Rows &out, int row, int head, bf16 *room) {
    int rows = segment.nq * out.together;
    float factor = BIAS ? 1.0f : w.factor, share[2];
    for (int half = 0; half < 2; half++) {
        float sum = w.sum[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        share[half] = sum > 0.0f ? 1.0f / sum : 0.0f;
        int r = row + lane_id() / 4 + 8 * half, position = r / out.together;
        if (a.lse.data && lane_id() % 4 == 0 && r < rows)
            float_row(a.lse, segment.first_query + position)[head + r - position * out.together] =
                sum > 0.0f ? w.most[half] * factor * LN_2 + logf(sum) : -INFINITY;
    }
    store_rows<D>(out, row, rows, w.o, share, room);
}

template <int D, bool BIAS>
static __global__ void __launch_bounds__(THREADS, D > 64 ? 2 : 3)
    attention_kernel(AttentionArgs a, int together, bool whole) {
    if (BIAS) together = 1; /* said here, divisions by it need no registers */
    int s = segment_of_block(a.queries, together, blockIdx.x);
    Segment segment = segment_at(a, s);
    int rows = segment.nq * together, blocks = (rows + ROWS - 1) / ROWS;
    int number = (int)(blockIdx.x - block_number(segment.first_query * together, s));
    if (number >= blocks) return;
    int at = (blocks - 1 - number) * ROWS; /* those that see the most keys begin first */
    int head = (int)blockIdx.y * together, kv_head = head / (a.heads / a.kv_heads);
    Rows q = {head_row<bf16>(a.q, segment.first_query, head, a.dim), a.q.ld, together, a.dim, whole};
    Rows k = {head_row<bf16>(a.k, segment.first_key, kv_head, a.dim), a.k.ld, 1, a.dim, whole};
    Rows v = {head_row<bf16>(a.v, segment.first_key, kv_head, a.dim), a.v.ld, 1, a.dim, whole};

    constexpr int TILE = KEYS * pitch<D>();
    bf16 *tiles = (bf16 *)shared_memory(); /* keys and values, then those of the next tile */
    float *windows = (float *)(shared_memory() + tiles_bytes<D>());
    int end = keys_seen(segment, (min(at + (int)ROWS, rows) - 1) / together);
    int middle = (int)(a.bias.cols - 1) / 2 - at - (ROWS - 1); /* the column of key 0 and the block's last row */

    load_tile<D, ROWS>(tiles + 2 * TILE, q, at, rows);
    copy_async_commit();
    load_tile<D, KEYS>(tiles, k, 0, end);
    load_tile<D, KEYS>(tiles + TILE, v, 0, end);
    copy_async_commit();
    if (BIAS) windows[threadIdx.x] = window_value(a.bias, head, middle, WINDOW);
    copy_async_wait<1>();
    __syncthreads();

    int row = at + warp_id() * WARP_ROWS, last = min(row + (int)WARP_ROWS, rows) - 1;
    int least = row < rows ? keys_seen(segment, row / together) : 0;
    int most = row < rows ? keys_seen(segment, last / together) : 0;
    Softmax<D> w;
    load_left<D>(w.q, tiles + 2 * TILE + warp_id() * WARP_ROWS * pitch<D>());
    w.factor = a.scale * LOG2_E;
    if (!BIAS) make_scale_positive(w);
    for (int half = 0; half < 2; half++) {
        int mine = min(row + lane_id() / 4 + 8 * half, rows - 1);
        w.most[half] = -INFINITY;
        w.sum[half] = 0.0f;
        w.seen[half] = keys_seen(segment, mine / together);
        w.gate[half] = LOG2_E;
        if (BIAS && a.gate.data) w.gate[half] *= float_row(a.gate, segment.first_query + mine)[head];
    }
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int e = 0; e < 4; e++) w.o[c][e] = 0.0f;

    for (int key = 0; key < end; key += KEYS) {
        int stage = key / KEYS % 2;
        copy_async_wait<0>();
        __syncthreads();
        bf16 *here = tiles + stage * 2 * TILE, *next = tiles + (stage ^ 1) * 2 * TILE;
        bool more = key + KEYS < end;
        float value = 0.0f;
        if (more) {
            load_tile<D, KEYS>(next, k, key + KEYS, end);
            load_tile<D, KEYS>(next + TILE, v, key + KEYS, end);
            if (BIAS) value = window_value(a.bias, head, middle + key + KEYS, WINDOW);
        }
        copy_async_commit();
        const float *window = windows + stage * WINDOW;
        if (least - key >= KEYS)
            attend<D, BIAS, true>(w, here, here + TILE, window, key, KEYS);
        else if (most > key)
            attend<D, BIAS, false>(w, here, here + TILE, window, key, most - key);
        if (BIAS) windows[(stage ^ 1) * WINDOW + threadIdx.x] = value;
    }
    copy_async_wait<0>();
    __syncthreads();
    Rows out = {head_row<bf16>(a.out, segment.first_query, head, a.dim), a.out.ld, together, a.dim, whole};
    write_out<D, BIAS>(a, segment, w, out, row, head, tiles + warp_id() * WARP_ROWS * pitch<D>());
}

template <int D> static bool attend_on(Device *dev, const AttentionArgs *a, bool whole, Error *err) {
    int together = heads_together(a);
    dim3 grid((unsigned)query_blocks(a), (unsigned)(a->heads / together));
    if (!tensor_present(a->bias))
        return LAUNCH(dev, err, (attention_kernel<D, false>), grid, THREADS, tiles_bytes<D>(), *a, together, whole);
    size_t shared = tiles_bytes<D>() + 2 * WINDOW * sizeof(float);
    return LAUNCH(dev, err, (attention_kernel<D, true>), grid, THREADS, shared, *a, together, whole);
}

extern "C" bool cuda_attention(Device *dev, const AttentionArgs *a, Error *err) {
    if (!a->q.rows) return true;
    if (dev->dtype == DTYPE_F32) return attention_f32(dev, a, err);
    bool whole = attention_whole(a->q, a->dim) && attention_whole(a->k, a->dim) && attention_whole(a->v, a->dim) &&
                 attention_whole(a->out, a->dim);
    return BY_DIM(a->dim, attend_on, dev, a, whole, err);
}

extern "C" size_t cuda_attention_scratch(const Device *dev, const AttentionArgs *a) {
    (void)dev, (void)a;
    return 0;
}
