/* Attention of single queries over a KV cache. The query heads of a key head are the rows of one small product,
 * so that keys and values are read once; a cache's length is split over blocks until they fill a GPU, and what
 * the parts hold is merged in their order. */
#include "kernels/cuda/attention.cuh"

enum { TILE_KEYS = 64, HEADS = WARP_ROWS, FILL = 512, LEAST_KEYS = 2 * TILE_KEYS };

/* How a cache of up to `longest` rows is cut: `parts` of `keys` each. */
struct Cut {
    int parts, keys;
};

/* No more for a smaller longest. */
static int64_t most_parts(const AttentionCachedArgs *a) {
    int group = a->heads / a->kv_heads;
    int64_t blocks = a->q.rows * a->kv_heads * ((group + HEADS - 1) / HEADS);
    int64_t parts = blocks ? (FILL + blocks - 1) / blocks : 1, most = (a->longest + LEAST_KEYS - 1) / LEAST_KEYS;
    if (parts > most) parts = most;
    return parts < 1 ? 1 : parts;
}

static Cut cut_of(const AttentionCachedArgs *a) {
    int64_t parts = most_parts(a), keys = (a->longest + parts - 1) / parts;
    keys = (keys + TILE_KEYS - 1) / TILE_KEYS * TILE_KEYS;
    if (keys < TILE_KEYS) keys = TILE_KEYS;
    return Cut{(int)((a->longest + keys - 1) / keys > 1 ? (a->longest + keys - 1) / keys : 1), (int)keys};
}

/* A head's share of a row: the largest score, the sum of exp2(score - most), and from VALUES on the weighted
 * values. Shares lie so far apart that a warp's rows of them are in different banks. */
enum { VALUES = 4, SHARE_REST = 8 };
template <int D> static __host__ __device__ constexpr int share_floats(void) { return D + SHARE_REST; }

/* ---- a part ---- */

template <int D> struct Share {
    uint32_t q[D / 16][4];
    float o[D / 8][4];
    float most[2], sum[2], factor;
};

/* The warp's 16 keys of a tile: all its rows see keys before `end`. */
template <int D>
static __device__ __forceinline__ void share_step(Share<D> &w, const bf16 *keys, const bf16 *values, int key, int end) {
    float s[2][4];
    scores<D, 2>(s, w.q, keys, 0, 2);
    for (int n = 0; n < 2; n++)
        for (int e = 0; e < 4; e++)
            s[n][e] = key + 8 * n + lane_id() % 4 * 2 + e % 2 < end ? s[n][e] * w.factor : -INFINITY;
    for (int half = 0; half < 2; half++) {
        float most = fmaxf(fmaxf(s[0][2 * half], s[0][2 * half + 1]), fmaxf(s[1][2 * half], s[1][2 * half + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        most = fmaxf(most, w.most[half]);
        float base = most == -INFINITY ? 0.0f : most, shrink = exp2_fast(w.most[half] - base);
        w.most[half] = most;
        w.sum[half] *= shrink;
        for (int n = 0; n < 2; n++)
            for (int e = 2 * half; e < 2 * half + 2; e++) w.sum[half] += s[n][e] = exp2_fast(s[n][e] - base);
#pragma unroll
        for (int c = 0; c < D / 8; c++) w.o[c][2 * half] *= shrink, w.o[c][2 * half + 1] *= shrink;
    }
    weigh<D, 2>(w.o, s, values, 0, 2);
}

/* Leaves the warp's share of its heads in shared memory, share_floats a head. */
template <int D> static __device__ __forceinline__ void put_share(const Share<D> &w, float *room) {
    for (int half = 0; half < 2; half++) {
        float sum = w.sum[half], *to = room + (lane_id() / 4 + 8 * half) * share_floats<D>();
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (lane_id() % 4 == 0) to[0] = w.most[half], to[1] = sum;
#pragma unroll
        for (int c = 0; c < D / 8; c++)
            *(float2 *)(to + VALUES + 8 * c + lane_id() % 4 * 2) = make_float2(w.o[c][2 * half], w.o[c][2 * half + 1]);
    }
}

/* Element `column` of `count` shares, `stride` floats apart, merged: relative to the largest maximum. */
static __device__ __forceinline__ float merged(const float *shares, int64_t stride, int count, int column, float *most,
                                               float *sum) {
    float value = 0.0f;
    *most = -INFINITY, *sum = 0.0f;
    for (int i = 0; i < count; i++) *most = fmaxf(*most, shares[i * stride]);
    float base = *most == -INFINITY ? 0.0f : *most;
    for (int i = 0; i < count; i++) {
        float factor = exp2_fast(shares[i * stride] - base);
        *sum += factor * shares[i * stride + 1];
        value += factor * shares[i * stride + VALUES + column];
    }
    return value;
}

/* partial null: there is one part, whose shares are the result. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 2)
    cached_kernel(AttentionCachedArgs a, int part_keys, bool whole, float *partial) {
    constexpr int TILE = TILE_KEYS * pitch<D>(), SHARE = share_floats<D>();
    int group = a.heads / a.kv_heads, groups = (group + HEADS - 1) / HEADS;
    int64_t row = blockIdx.x;
    int kv_head = (int)blockIdx.y / groups, part = (int)blockIdx.y % groups * HEADS;
    int head = kv_head * group + part, heads = min((int)HEADS, group - part);
    int length = a.length[row], begin = (int)blockIdx.z * part_keys, end = min(length, begin + part_keys);
    if (begin >= end && partial) return;
    int64_t first = a.slot[row] * a.capacity;
    Rows q = {head_row<bf16>(a.q, row, head, a.dim), a.q.ld, group, a.dim, whole};
    Rows k = {head_row<bf16>(a.k_cache, first, kv_head, a.dim), a.k_cache.ld, 1, a.dim, whole};
    Rows v = {head_row<bf16>(a.v_cache, first, kv_head, a.dim), a.v_cache.ld, 1, a.dim, whole};
    bf16 *tiles = (bf16 *)shared_memory();
    load_tile<D, ROWS>(tiles + 2 * TILE, q, 0, heads);
    copy_async_commit();
    load_tile<D, TILE_KEYS>(tiles, k, begin, end);
    load_tile<D, TILE_KEYS>(tiles + TILE, v, begin, end);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    Share<D> w;
    load_left<D>(w.q, tiles + 2 * TILE);
    w.factor = a.scale * LOG2_E;
    for (int half = 0; half < 2; half++) w.most[half] = -INFINITY, w.sum[half] = 0.0f;
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int e = 0; e < 4; e++) w.o[c][e] = 0.0f;
    for (int key = begin, stage = 0; key < end; key += TILE_KEYS, stage ^= 1) {
        copy_async_wait<0>();
        __syncthreads();
        bf16 *here = tiles + stage * 2 * TILE, *next = tiles + (stage ^ 1) * 2 * TILE;
        if (key + TILE_KEYS < end) {
            load_tile<D, TILE_KEYS>(next, k, key + TILE_KEYS, end);
            load_tile<D, TILE_KEYS>(next + TILE, v, key + TILE_KEYS, end);
        }
        copy_async_commit();
        int offset = warp_id() * WARP_ROWS;
        if (key + offset < end)
            share_step<D>(w, here + offset * pitch<D>(), here + TILE + offset * pitch<D>(), key + offset, end);
    }
    copy_async_wait<0>();
    __syncthreads();
    float *shares = (float *)shared_memory();
    put_share<D>(w, shares + warp_id() * HEADS * SHARE);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < heads * D; i += THREADS) {
        int h = i / D, column = i % D;
        float most, sum, value = merged(shares + h * SHARE, HEADS * SHARE, WARPS, column, &most, &sum);
        if (!partial) {
            if (column < a.dim)
                head_row<bf16>(a.out, row, head + h, a.dim)[column] =
                    from_float<bf16>(sum > 0.0f ? value / sum : 0.0f);
            continue;
        }
        float *to = partial + ((row * a.heads + head + h) * gridDim.z + blockIdx.z) * SHARE;
        if (column == 0) to[0] = most, to[1] = sum;
        to[VALUES + column] = value;
    }
}

/* ---- all parts ---- */

template <int D>
static __global__ void merge_kernel(AttentionCachedArgs a, int parts, int part_keys, const float *partial) {
    int64_t item = blockIdx.x * (int64_t)(THREADS / D) + threadIdx.x / D;
    int64_t row = item / a.heads;
    int head = (int)(item % a.heads), column = (int)threadIdx.x % D;
    if (row >= a.q.rows || column >= a.dim || (int)threadIdx.x / D >= THREADS / D) return;
    int count = min(parts, (a.length[row] + part_keys - 1) / part_keys);
    float most, sum;
    float value = merged(partial + item * parts * share_floats<D>(), share_floats<D>(), count, column, &most, &sum);
    head_row<bf16>(a.out, row, head, a.dim)[column] = from_float<bf16>(sum > 0.0f ? value / sum : 0.0f);
}

template <int D>
static bool attend_cached(Device *dev, const AttentionCachedArgs *a, bool whole, float *partial, Error *err) {
    Cut cut = cut_of(a);
    int groups = (a->heads / a->kv_heads + HEADS - 1) / HEADS;
    dim3 grid((unsigned)a->q.rows, (unsigned)(a->kv_heads * groups), (unsigned)cut.parts);
    size_t shared = (size_t)4 * TILE_KEYS * pitch<D>() * sizeof(bf16);
    if (!LAUNCH(dev, err, (cached_kernel<D>), grid, THREADS, shared, *a, cut.keys, whole, partial)) return false;
    dim3 merge = blocks_for(a->q.rows * a->heads, THREADS / D);
    return !partial || LAUNCH(dev, err, (merge_kernel<D>), merge, THREADS, 0, *a, cut.parts, cut.keys, partial);
}

extern "C" size_t cuda_attention_cached_scratch(const Device *dev, const AttentionCachedArgs *a) {
    int64_t parts = most_parts(a);
    if (dev->dtype == DTYPE_F32 || parts == 1) return 0;
    return (size_t)(a->q.rows * a->heads * parts) * (DIMENSIONS + SHARE_REST) * sizeof(float);
}

extern "C" bool cuda_attention_cached(Device *dev, const AttentionCachedArgs *a, Error *err) {
    if (!a->q.rows) return true;
    if (dev->dtype == DTYPE_F32) return attention_cached_f32(dev, a, err);
    float *partial = NULL;
    if (cut_of(a).parts > 1) {
        partial = (float *)device_scratch(dev, cuda_attention_cached_scratch(dev, a), err);
        if (!partial) return fail_in(err, "attention_cached");
    }
    bool whole = attention_whole(a->q, a->dim) && attention_whole(a->k_cache, a->dim) &&
                 attention_whole(a->v_cache, a->dim);
    return BY_DIM(a->dim, attend_cached, dev, a, whole, partial, err);
}
