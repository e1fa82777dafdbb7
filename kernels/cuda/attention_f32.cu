/* Attention of --precision fp32: correct, and no faster than it must be. A warp works on one row; a lane takes
 * every 32nd key (or query) for the scores, every 32nd column for the sums. */
#include "kernels/cuda/attention.cuh"

enum { COLUMNS = 4 }; /* a lane's, of up to 128 */

static __device__ __forceinline__ float dot(const float *x, const float *y, int dim) {
    float sum = 0.0f;
    for (int c = 0; c < dim; c++) sum += x[c] * y[c];
    return sum;
}

/* sum += Σ_t weight of lane t · row t, over rows 0 .. count-1 (at most 32). */
static __device__ __forceinline__ void add_rows(float sum[COLUMNS], float weight, const float *rows, int64_t ld,
                                                int dim, int count) {
    for (int t = 0; t < count; t++) {
        float share = __shfl_sync(0xffffffffu, weight, t);
        for (int c = 0; c < COLUMNS; c++)
            if (lane_id() + 32 * c < dim) sum[c] += share * rows[t * ld + lane_id() + 32 * c];
    }
}

static __device__ __forceinline__ void write_row(float *to, const float sum[COLUMNS], float factor, int dim) {
    for (int c = 0; c < COLUMNS; c++)
        if (lane_id() + 32 * c < dim) to[lane_id() + 32 * c] = sum[c] * factor;
}

/* One query and the keys it may see. */
struct Query {
    const float *q, *bias; /* bias: of key 0, or null */
    float scale, gate;
    const float *k, *v;
    int64_t k_ld, v_ld;
    int seen, dim;
};

static __device__ __forceinline__ float score(const Query &x, int key) {
    return dot(x.q, x.k + key * x.k_ld, x.dim) * x.scale + (x.bias ? x.gate * x.bias[key] : 0.0f);
}

/* Writes softmax(scores)·v and returns the scores' log-sum-exp. */
static __device__ __forceinline__ float attend_row(const Query &x, float *out) {
    float most = -INFINITY, total = 0.0f, sum[COLUMNS] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int from = 0; from < x.seen; from += 32) {
        float s = from + lane_id() < x.seen ? score(x, from + lane_id()) : -INFINITY;
        float before = most;
        most = fmaxf(most, warp_max(s));
        float shrink = expf(before - most), p = expf(s - most);
        total = total * shrink + warp_sum(p);
        for (int c = 0; c < COLUMNS; c++) sum[c] *= shrink;
        add_rows(sum, p, x.v + from * x.v_ld, x.v_ld, x.dim, min(32, x.seen - from));
    }
    write_row(out, sum, total > 0.0f ? 1.0f / total : 0.0f, x.dim);
    return total > 0.0f ? most + logf(total) : -INFINITY;
}

static __device__ __forceinline__ Query query_at(const AttentionArgs &a, const Segment &segment, int position,
                                                 int head) {
    int kv_head = head / (a.heads / a.kv_heads);
    Query x = {head_row<float>(a.q, segment.first_query + position, head, a.dim), NULL, a.scale, 1.0f,
               head_row<float>(a.k, segment.first_key, kv_head, a.dim),
               head_row<float>(a.v, segment.first_key, kv_head, a.dim), a.k.ld, a.v.ld, keys_seen(segment, position),
               a.dim};
    if (a.bias.data) x.bias = float_row(a.bias, head) + (a.bias.cols - 1) / 2 - position;
    if (a.gate.data) x.gate = float_row(a.gate, segment.first_query + position)[head];
    return x;
}

/* The row of this warp: WARPS a block. */
static __device__ __forceinline__ int64_t warp_row(void) { return blockIdx.x * (int64_t)WARPS + warp_id(); }

static __global__ void attention_f32_kernel(AttentionArgs a) {
    int64_t row = warp_row();
    int head = (int)blockIdx.y;
    if (row >= a.q.rows) return;
    Segment segment = segment_at(a, segment_of(a.queries.device, a.queries.count, row));
    Query x = query_at(a, segment, (int)(row - segment.first_query), head);
    float lse = attend_row(x, head_row<float>(a.out, row, head, a.dim));
    if (a.lse.data && lane_id() == 0) float_row(a.lse, row)[head] = lse;
}

bool attention_f32(Device *dev, const AttentionArgs *a, Error *err) {
    dim3 grid((unsigned)((a->q.rows + WARPS - 1) / WARPS), (unsigned)a->heads);
    return LAUNCH(dev, err, attention_f32_kernel, grid, THREADS, 0, *a);
}

/* ---- gradients ---- */

/* The probability of a pair and the gradient of its score. */
struct PairGradient {
    float p, ds;
};

static __device__ __forceinline__ PairGradient pair_gradient(const Query &x, const float *dout, const float *stats,
                                                             int key) {
    float p = exp2f(score(x, key) * LOG2_E - stats[0]);
    return PairGradient{p, p * (dot(dout, x.v + key * x.v_ld, x.dim) - stats[1])};
}

static __global__ void query_gradient_f32_kernel(AttentionBackwardArgs b, const float *stats) {
    const AttentionArgs &a = b.forward;
    int64_t row = warp_row();
    int head = (int)blockIdx.y;
    if (row >= a.q.rows) return;
    Segment segment = segment_at(a, segment_of(a.queries.device, a.queries.count, row));
    Query x = query_at(a, segment, (int)(row - segment.first_query), head);
    const float *dout = head_row<float>(b.dout, row, head, a.dim), *stat = stats + 2 * (row * a.heads + head);
    float sum[COLUMNS] = {0.0f, 0.0f, 0.0f, 0.0f}, dgate = 0.0f;
    for (int from = 0; from < x.seen; from += 32) {
        int key = from + lane_id();
        float ds = key < x.seen ? pair_gradient(x, dout, stat, key).ds : 0.0f;
        if (x.bias && key < x.seen) dgate += ds * x.bias[key];
        add_rows(sum, ds, x.k + from * x.k_ld, x.k_ld, x.dim, min(32, x.seen - from));
    }
    write_row(head_row<float>(b.dq, row, head, a.dim), sum, a.scale, a.dim);
    dgate = warp_sum(dgate);
    if (b.dgate.data && lane_id() == 0) float_row(b.dgate, row)[head] = dgate;
}

static __global__ void key_gradient_f32_kernel(AttentionBackwardArgs b, const float *stats) {
    const AttentionArgs &a = b.forward;
    int64_t row = warp_row();
    int kv_head = (int)blockIdx.y, group = a.heads / a.kv_heads;
    if (row >= a.k.rows) return;
    Segment segment = segment_at(a, segment_of(a.keys.device, a.keys.count, row));
    int key = (int)(row - segment.first_key), blind = segment.causal ? key - (segment.nk - segment.nq) : 0;
    float dk[COLUMNS] = {0.0f, 0.0f, 0.0f, 0.0f}, dv[COLUMNS] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (int from = max(0, blind); from < segment.nq; from += 32) {
            int position = from + lane_id(), count = min(32, segment.nq - from);
            int64_t query = segment.first_query + position, first = segment.first_query + from;
            PairGradient g = {0.0f, 0.0f};
            if (position < segment.nq)
                g = pair_gradient(query_at(a, segment, position, head), head_row<float>(b.dout, query, head, a.dim),
                                  stats + 2 * (query * a.heads + head), key);
            add_rows(dk, g.ds, head_row<float>(a.q, first, head, a.dim), a.q.ld, a.dim, count);
            add_rows(dv, g.p, head_row<float>(b.dout, first, head, a.dim), b.dout.ld, a.dim, count);
        }
    write_row(head_row<float>(b.dk, row, kv_head, a.dim), dk, a.scale, a.dim);
    write_row(head_row<float>(b.dv, row, kv_head, a.dim), dv, 1.0f, a.dim);
}

/* A warp sums a column of the bias over all pairs that are so far apart. */
static __global__ void bias_gradient_f32_kernel(AttentionBackwardArgs b, const float *stats) {
    const AttentionArgs &a = b.forward;
    int64_t column = warp_row();
    int head = (int)blockIdx.y;
    if (column >= a.bias.cols) return;
    float sum = 0.0f;
    for (int s = 0; s < a.queries.count; s++) {
        Segment segment = segment_at(a, s);
        for (int position = lane_id(); position < segment.nq; position += 32) {
            int64_t key = position + column - (a.bias.cols - 1) / 2, row = segment.first_query + position;
            if (key < 0 || key >= keys_seen(segment, position)) continue;
            Query x = query_at(a, segment, position, head);
            sum += x.gate * pair_gradient(x, head_row<float>(b.dout, row, head, a.dim),
                                          stats + 2 * (row * a.heads + head), (int)key)
                                .ds;
        }
    }
    sum = warp_sum(sum);
    if (lane_id() == 0) float_row(b.dbias, head)[column] += sum;
}

bool attention_backward_f32(Device *dev, const AttentionBackwardArgs *b, const float *stats, Error *err) {
    const AttentionArgs *a = &b->forward;
    dim3 queries((unsigned)((a->q.rows + WARPS - 1) / WARPS), (unsigned)a->heads);
    dim3 keys((unsigned)((a->k.rows + WARPS - 1) / WARPS), (unsigned)a->kv_heads);
    dim3 columns((unsigned)((a->bias.cols + WARPS - 1) / WARPS), (unsigned)a->heads);
    return LAUNCH(dev, err, query_gradient_f32_kernel, queries, THREADS, 0, *b, stats) &&
           LAUNCH(dev, err, key_gradient_f32_kernel, keys, THREADS, 0, *b, stats) &&
           (!tensor_present(b->dbias) ||
            LAUNCH(dev, err, bias_gradient_f32_kernel, columns, THREADS, 0, *b, stats));
}

/* ---- over a cache ---- */

static __global__ void attention_cached_f32_kernel(AttentionCachedArgs a) {
    int64_t row = warp_row();
    int head = (int)blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    if (row >= a.q.rows) return;
    int64_t first = a.slot[row] * a.capacity;
    Query x = {head_row<float>(a.q, row, head, a.dim), NULL, a.scale, 1.0f,
               head_row<float>(a.k_cache, first, kv_head, a.dim), head_row<float>(a.v_cache, first, kv_head, a.dim),
               a.k_cache.ld, a.v_cache.ld, a.length[row], a.dim};
    attend_row(x, head_row<float>(a.out, row, head, a.dim));
}

bool attention_cached_f32(Device *dev, const AttentionCachedArgs *a, Error *err) {
    dim3 grid((unsigned)((a->q.rows + WARPS - 1) / WARPS), (unsigned)a->heads);
    return LAUNCH(dev, err, attention_cached_f32_kernel, grid, THREADS, 0, *a);
}
