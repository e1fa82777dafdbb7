/* What an op must move and compute: every operand read or written once, a multiply-add as two
 * operations, a transcendental function as ten. */
#include "kernels/ops.h"

#define COST(Name, name) OpCost name##_cost(const Name##Args *a)

enum { FUNCTION = 10 };

static double elements(Tensor t) { return tensor_present(t) ? (double)t.rows * (double)t.cols : 0.0; }

static double bytes_of(Tensor t) { return elements(t) * (double)dtype_size(t.dtype); }

static double function_flops(Activation act) { return act == ACT_NONE ? 0.0 : act == ACT_RELU ? 1.0 : FUNCTION; }

static double product(int64_t m, int64_t n, int64_t k) { return 2.0 * (double)m * (double)n * (double)k; }

COST(Matmul, matmul) {
    int64_t k = a->transpose_a ? a->a.rows : a->a.cols;
    double c = bytes_of(a->c) * (a->beta == 0.0f ? 1.0 : 2.0);
    return (OpCost){bytes_of(a->a) + bytes_of(a->b) + c + bytes_of(a->bias),
                    product(a->c.rows, a->c.cols, k) + function_flops(a->act) * elements(a->c)};
}

/* A, B and their inner rows; the two products of n rows with a pair. */
static OpCost lora_cost(const Lora *lora, int64_t n) {
    OpCost cost = {0.0, 0.0};
    for (int i = 0; i < LINEAR_PARTS; i++) {
        if (!tensor_present(lora[i].a)) continue;
        cost.bytes += bytes_of(lora[i].a) + bytes_of(lora[i].b);
        cost.flops += product(n, lora[i].a.rows, lora[i].a.cols) + product(n, lora[i].a.rows, lora[i].b.rows);
    }
    return cost;
}

COST(Linear, linear) {
    int64_t n = a->x.rows, in = a->x.cols, out = a->weight.rows;
    OpCost lora = lora_cost(a->lora, n);
    for (int i = 0; i < LINEAR_PARTS && a->low_known; i++) {
        if (!tensor_present(a->lora[i].a)) continue;
        lora.bytes -= bytes_of(a->lora[i].a);
        lora.flops -= product(n, a->lora[i].a.rows, in);
    }
    return (OpCost){bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->bias) + bytes_of(a->residual) + bytes_of(a->y) +
                        lora.bytes + (lora.bytes > 0.0 ? bytes_of(a->low) : 0.0),
                    product(n, out, in) + lora.flops + function_flops(a->act) * elements(a->y)};
}

/* What a pair adds to the products of dy and x with the frozen weight. */
static OpCost lora_backward_cost(const LinearBackwardArgs *a, int i) {
    const Lora *lora = &a->lora[i];
    int64_t n = a->dy.rows, in = a->weight.cols, out = lora->b.rows, r = lora->a.rows;
    bool dx = tensor_present(a->dx), da = tensor_present(a->da[i]), db = tensor_present(a->db[i]);
    if (!tensor_present(lora->a)) return (OpCost){0.0, 0.0};
    double bytes = 2.0 * (bytes_of(a->da[i]) + bytes_of(a->db[i])) + bytes_of(lora->a) + bytes_of(lora->b);
    bytes += db ? (double)n * (double)r * (double)dtype_size(a->low.dtype) : 0.0;
    double flops = (dx || da || tensor_present(a->dlow)) && !a->dlow_known ? product(n, r, out) : 0.0;
    flops += dx ? product(n, in, r) : 0.0;
    flops += da ? product(r, in, n) : 0.0;
    flops += db ? product(out, r, n) : 0.0;
    return (OpCost){bytes, flops};
}

COST(LinearBackward, linear_backward) {
    int64_t n = a->dy.rows, out = a->weight.rows, in = a->weight.cols;
    bool dx = tensor_present(a->dx), x = tensor_present(a->dweight);
    OpCost cost = {0.0, 0.0};
    for (int i = 0; i < LINEAR_PARTS; i++) {
        OpCost lora = lora_backward_cost(a, i);
        cost.bytes += lora.bytes;
        cost.flops += lora.flops;
        x = x || tensor_present(a->da[i]);
    }
    cost.bytes += bytes_of(a->dlow) + bytes_of(a->dy) + bytes_of(a->dx) * (a->accumulate_dx ? 2.0 : 1.0);
    cost.bytes +=
        (dx ? bytes_of(a->weight) : 0.0) + (x ? bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->rstd) : 0.0);
    cost.bytes += 2.0 * (bytes_of(a->dweight) + bytes_of(a->dbias));
    cost.flops += dx ? product(n, in, out) : 0.0;
    cost.flops += x && tensor_present(a->gamma) ? 2.0 * elements(a->x) : 0.0;
    cost.flops += tensor_present(a->dweight) ? product(out, in, n) : 0.0;
    cost.flops += tensor_present(a->dbias) ? elements(a->dy) : 0.0;
    return cost;
}

COST(LayerNorm, layer_norm) {
    double bytes = bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->beta) + bytes_of(a->y) + bytes_of(a->mean) +
                   bytes_of(a->rstd);
    return (OpCost){bytes, (8.0 + function_flops(a->act)) * elements(a->x)};
}

COST(LayerNormBackward, layer_norm_backward) {
    double bytes = bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->mean) + bytes_of(a->rstd) + bytes_of(a->dy) +
                   bytes_of(a->dx) + bytes_of(a->residual_grad) + 2.0 * (bytes_of(a->dgamma) + bytes_of(a->dbeta));
    double each = (tensor_present(a->dx) ? 12.0 : 0.0) + (tensor_present(a->dgamma) ? 4.0 : 0.0) +
                  (tensor_present(a->dbeta) ? 1.0 : 0.0);
    return (OpCost){bytes, each * elements(a->dy)};
}

COST(RmsNorm, rms_norm) {
    double bytes = bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->y) + bytes_of(a->rstd);
    return (OpCost){bytes, 5.0 * elements(a->x)};
}

COST(RmsNormBackward, rms_norm_backward) {
    double bytes = bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->rstd) + bytes_of(a->dy) + bytes_of(a->dx) +
                   bytes_of(a->residual_grad) + 2.0 * bytes_of(a->dgamma);
    double each = (tensor_present(a->dx) ? 8.0 : 0.0) + (tensor_present(a->dgamma) ? 3.0 : 0.0);
    return (OpCost){bytes, each * elements(a->dy)};
}

COST(SegmentNorm, segment_norm) {
    return (OpCost){bytes_of(a->x) + bytes_of(a->gamma) + bytes_of(a->beta) + bytes_of(a->y),
                    (7.0 + function_flops(a->act)) * elements(a->x)};
}

COST(WaveNorm, wave_norm) { return (OpCost){bytes_of(a->x) + bytes_of(a->y), 6.0 * elements(a->x)}; }

COST(Conv, conv) {
    double each = function_flops(a->act) + (tensor_present(a->gamma) ? 8.0 : 0.0);
    return (OpCost){bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->bias) + bytes_of(a->gamma) + bytes_of(a->beta) +
                        bytes_of(a->y),
                    product(a->y.rows, a->y.cols, a->weight.cols) + each * elements(a->y)};
}

COST(PosConv, pos_conv) {
    return (OpCost){bytes_of(a->x) + bytes_of(a->weight) + bytes_of(a->bias) + bytes_of(a->y),
                    product(a->y.rows, a->y.cols, a->weight.cols) + (FUNCTION + 2.0) * elements(a->y)};
}

COST(RelGate, rel_gate) {
    return (OpCost){bytes_of(a->u) + bytes_of(a->weight) + bytes_of(a->bias) + bytes_of(a->scale) + bytes_of(a->gate),
                    4.0 * elements(a->u) + (2.0 * FUNCTION + 3.0) * elements(a->gate)};
}

/* Pairs of a query and a key it sees, over all segments, of one head. */
static double attention_pairs(const AttentionArgs *a) {
    double pairs = 0.0;
    for (int32_t s = 0; s < a->queries.count; s++) {
        int64_t nq = a->queries.host[s + 1] - a->queries.host[s], nk = a->keys.host[s + 1] - a->keys.host[s];
        int64_t hidden = a->causal ? (nq < nk ? nq : nk) : 0; /* the last `hidden` queries: nk-hidden+1 .. nk keys */
        int64_t full = a->causal ? 0 : nq;
        pairs += (double)full * (double)nk + (double)hidden * ((double)nk - ((double)hidden - 1.0) / 2.0);
    }
    return pairs;
}

COST(Attention, attention) {
    double bytes = bytes_of(a->q) + bytes_of(a->k) + bytes_of(a->v) + bytes_of(a->bias) + bytes_of(a->gate) +
                   bytes_of(a->out) + bytes_of(a->lse);
    return (OpCost){bytes, attention_pairs(a) * a->heads * (4.0 * a->dim + FUNCTION)};
}

/* What rotating `rows` rows reads of a table. */
static double rope_bytes(Tensor table, int64_t rows) {
    double read = (double)rows * (double)table.cols * sizeof(float);
    return read < bytes_of(table) ? read : bytes_of(table);
}

COST(AttentionBackward, attention_backward) {
    const AttentionArgs *f = &a->forward;
    double turned = tensor_present(a->rope) ? 3.0 * (elements(a->dq) + elements(a->dk)) : 0.0;
    double bytes = attention_cost(f).bytes + bytes_of(a->dout) + bytes_of(a->dq) + bytes_of(a->dk) + bytes_of(a->dv) +
                   2.0 * bytes_of(a->dbias) + bytes_of(a->dgate) + rope_bytes(a->rope, f->q.rows);
    return (OpCost){bytes, attention_pairs(f) * f->heads * (10.0 * f->dim + FUNCTION) + turned};
}

COST(CacheAppend, cache_append) { return (OpCost){2.0 * (bytes_of(a->k) + bytes_of(a->v)), 0.0}; }

/* At most: how long the slots are is known on the device alone. */
COST(CacheCopy, cache_copy) {
    double row = (double)a->k_cache.cols * (double)dtype_size(a->k_cache.dtype);
    return (OpCost){4.0 * a->count * (double)a->capacity * row, 0.0};
}

/* At most, as above. */
COST(AttentionCached, attention_cached) {
    double keys = (double)a->q.rows * (double)a->longest;
    double row = (double)a->kv_heads * a->dim * (double)dtype_size(a->k_cache.dtype);
    return (OpCost){bytes_of(a->q) + bytes_of(a->out) + 2.0 * keys * row, keys * a->heads * (4.0 * a->dim + FUNCTION)};
}

COST(Rope, rope) { return (OpCost){2.0 * bytes_of(a->x) + rope_bytes(a->table, a->x.rows), 3.0 * elements(a->x)}; }

COST(Swiglu, swiglu) {
    int64_t rank = tensor_present(a->down.a) ? a->down.a.rows : 0;
    double lora = rank ? bytes_of(a->down.a) + bytes_of(a->low) : 0.0;
    return (OpCost){bytes_of(a->gate) + bytes_of(a->up) + bytes_of(a->y) + lora,
                    (FUNCTION + 3.0) * elements(a->y) + product(a->y.rows, rank, a->y.cols)};
}

/* What a pair on gate or up adds: its B, db and its share of low. */
static OpCost gate_up_cost(const SwigluBackwardArgs *a, int i) {
    const Lora *lora = &a->gate_up.lora[i];
    Tensor db = a->gate_up.db[i];
    if (!tensor_present(lora->a)) return (OpCost){0.0, 0.0};
    double each = product(a->dy.rows, lora->a.rows, a->dy.cols);
    double low = tensor_present(db) ? (double)a->dy.rows * (double)lora->a.rows * (double)dtype_size(a->dy.dtype) : 0.0;
    bool dlow = tensor_present(a->gate_up.dlow);
    return (OpCost){(dlow ? bytes_of(lora->b) : 0.0) + low + 2.0 * bytes_of(db),
                    (dlow ? each : 0.0) + (tensor_present(db) ? each : 0.0)};
}

COST(SwigluBackward, swiglu_backward) {
    OpCost gate = gate_up_cost(a, 0), up = gate_up_cost(a, 1);
    bool da = tensor_present(a->down.da);
    double bytes = bytes_of(a->gate) + bytes_of(a->up) + bytes_of(a->dy) + bytes_of(a->dgate) + bytes_of(a->dup);
    bytes += bytes_of(a->gate_up.dlow) + gate.bytes + up.bytes;
    bytes += da ? bytes_of(a->down.dlow) + 2.0 * bytes_of(a->down.da) : 0.0;
    double flops = da ? product(a->dy.rows, a->down.da.rows, a->dy.cols) : 0.0;
    return (OpCost){bytes, (FUNCTION + 10.0) * elements(a->dy) + gate.flops + up.flops + flops};
}

COST(Activation, activation) {
    return (OpCost){bytes_of(a->x) + bytes_of(a->y), function_flops(a->act) * elements(a->x)};
}

COST(ActivationBackward, activation_backward) {
    return (OpCost){bytes_of(a->x) + bytes_of(a->dy) + bytes_of(a->dx),
                    (2.0 * function_flops(a->act) + 1.0) * elements(a->x)};
}

COST(Add, add) { return (OpCost){bytes_of(a->a) + bytes_of(a->b) + bytes_of(a->y), 3.0 * elements(a->y)}; }

COST(Convert, convert) { return (OpCost){bytes_of(a->x) + bytes_of(a->y), 0.0}; }

COST(Dropout, dropout) { return (OpCost){bytes_of(a->x) + bytes_of(a->y), (double)FUNCTION * elements(a->x)}; }

COST(Noise, noise) { return (OpCost){bytes_of(a->x) + bytes_of(a->y), 3.0 * FUNCTION * elements(a->x)}; }

COST(GatherRows, gather_rows) { return (OpCost){2.0 * bytes_of(a->y), 0.0}; }

COST(ScatterRows, scatter_rows) {
    return (OpCost){bytes_of(a->x) * (a->accumulate ? 3.0 : 2.0), a->accumulate ? elements(a->x) : 0.0};
}

COST(StackFrames, stack_frames) { return (OpCost){bytes_of(a->x) + bytes_of(a->side) + bytes_of(a->y), 0.0}; }

COST(StackFramesBackward, stack_frames_backward) { return (OpCost){2.0 * bytes_of(a->dx), 0.0}; }

COST(LayerMix, layer_mix) { return (OpCost){(double)(a->count + 1) * bytes_of(a->y), 2.0 * a->count * elements(a->y)}; }

COST(LayerMixBackward, layer_mix_backward) {
    return (OpCost){(double)(a->count + 1) * bytes_of(a->dy), 2.0 * a->count * elements(a->dy)};
}

COST(SegmentMean, segment_mean) { return (OpCost){bytes_of(a->x) + bytes_of(a->y), elements(a->x)}; }

COST(SegmentMeanBackward, segment_mean_backward) {
    return (OpCost){bytes_of(a->dx) + bytes_of(a->dy), elements(a->dx)};
}

COST(CrossEntropy, cross_entropy) {
    return (OpCost){bytes_of(a->logits) * (a->gradient ? 2.0 : 1.0) + bytes_of(a->row_loss),
                    (FUNCTION + 4.0) * elements(a->logits)};
}

COST(Greedy, greedy) {
    return (OpCost){bytes_of(a->logits) + bytes_of(a->token) + bytes_of(a->logit) + bytes_of(a->log_sum),
                    (FUNCTION + 2.0) * elements(a->logits)};
}

COST(SumSquares, sum_squares) { return (OpCost){bytes_of(a->x), 2.0 * elements(a->x)}; }

COST(Adamw, adamw) {
    double count = 0.0;
    for (int i = 0; i < a->segment_count; i++) count += (double)a->segments[i].count;
    return (OpCost){7.0 * count * sizeof(float) + bytes_of(a->norm_squared), 20.0 * count};
}
