#include "kernels/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "kernels/device_impl.h"

/* One op's checks: the first that fails is the error, the rest do nothing. */
typedef struct Check {
    const char *op;
    DType stored; /* of activations and frozen weights */
    bool failed;
    Error *err;
} Check;

enum { ANY = -1 };

__attribute__((format(printf, 2, 3))) static void refuse(Check *c, const char *format, ...) {
    char reason[400];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    fail(c->err, "%s: %s", c->op, reason);
    c->failed = true;
}

static void require(Check *c, bool holds, const char *what) {
    if (!c->failed && !holds) refuse(c, "%s", what);
}

static void check_tensor(Check *c, const char *name, Tensor t, DType dtype, int64_t rows, int64_t cols) {
    if (c->failed) return;
    if (rows == ANY) rows = t.rows;
    if (cols == ANY) cols = t.cols;
    if (t.rows != rows || t.cols != cols)
        refuse(c, "%s is [%" PRId64 ", %" PRId64 "], expected [%" PRId64 ", %" PRId64 "]", name, t.rows, t.cols, rows,
               cols);
    else if (rows < 0 || cols < 0)
        refuse(c, "%s has a negative size, [%" PRId64 ", %" PRId64 "]", name, rows, cols);
    else if (t.dtype != dtype)
        refuse(c, "%s is %s, expected %s", name, dtype_name(t.dtype), dtype_name(dtype));
    else if (t.ld < cols)
        refuse(c, "%s has rows of %" PRId64 " elements but a leading dimension of %" PRId64, name, cols, t.ld);
    else if (!t.data && rows && cols)
        refuse(c, "%s is absent, expected [%" PRId64 ", %" PRId64 "]", name, rows, cols);
}

/* Activations and frozen weights; `need32` those that are F32 on every device; `maybe...` may be absent. */
static void need(Check *c, const char *name, Tensor t, int64_t rows, int64_t cols) {
    check_tensor(c, name, t, c->stored, rows, cols);
}

static void need32(Check *c, const char *name, Tensor t, int64_t rows, int64_t cols) {
    check_tensor(c, name, t, DTYPE_F32, rows, cols);
}

static void maybe(Check *c, const char *name, Tensor t, int64_t rows, int64_t cols) {
    if (tensor_present(t)) need(c, name, t, rows, cols);
}

static void maybe32(Check *c, const char *name, Tensor t, int64_t rows, int64_t cols) {
    if (tensor_present(t)) need32(c, name, t, rows, cols);
}

static void need_table(Check *c, const char *name, const void *table, int64_t count) {
    if (!c->failed && !table && count > 0) refuse(c, "%s is absent, expected %" PRId64 " integers", name, count);
}

static void need_packed(Check *c, const char *name, Packed p, int64_t total) {
    if (c->failed) return;
    if (p.count < 0 || (p.count && (!p.host || !p.device)))
        refuse(c, "%s has no table of its %d segments", name, p.count);
    else if (p.total != total || (p.count && (p.host[0] != 0 || p.host[p.count] != total)) || (!p.count && total))
        refuse(c, "%s holds %" PRId64 " rows, expected %" PRId64, name, p.total, total);
    for (int32_t s = 0; !c->failed && s < p.count; s++) {
        int64_t length = (int64_t)p.host[s + 1] - p.host[s];
        if (length < 0 || length > p.longest)
            refuse(c, "segment %d of %s has %" PRId64 " rows, the longest has %" PRId64, s, name, length, p.longest);
    }
}

/* Segment s of `to` must have `length(from's)` rows, or more where it may. */
static void need_lengths(Check *c, const char *name, Packed from, Packed to, int64_t (*length)(int64_t, int, int),
                         int kernel, int stride, bool or_more) {
    if (c->failed) return;
    if (from.count != to.count) {
        refuse(c, "%s has %d segments, expected %d", name, to.count, from.count);
        return;
    }
    for (int32_t s = 0; s < to.count && !c->failed; s++) {
        int64_t want = length(from.host[s + 1] - from.host[s], kernel, stride), have = to.host[s + 1] - to.host[s];
        if (have < want || (have > want && !or_more))
            refuse(c, "segment %d of %s has %" PRId64 " rows, expected %s%" PRId64, s, name, have,
                   or_more ? "at least " : "", want);
    }
}

static void need_dropout(Check *c, const Dropout *d, int64_t rows) {
    if (c->failed || d->p == 0.0f) return;
    if (!(d->p > 0.0f && d->p < 1.0f)) {
        refuse(c, "a dropout probability of %g is outside [0, 1)", (double)d->p);
        return;
    }
    need_table(c, "dropout's sample table", d->sample, rows);
    need_table(c, "dropout's position table", d->position, rows);
}

static void need_activation(Check *c, Activation act) {
    require(c, act == ACT_NONE || act == ACT_GELU || act == ACT_RELU, "unknown activation");
}

#define BEGIN(name) Check check = {.op = name, .stored = dev->dtype, .err = err}, *c = &check
#define END return !check.failed

bool check_matmul(const Device *dev, const MatmulArgs *a, Error *err) {
    BEGIN("matmul");
    int64_t m = a->c.rows, n = a->c.cols, k = a->transpose_a ? a->a.rows : a->a.cols;
    need(c, "c", a->c, m, n);
    need(c, "a", a->a, a->transpose_a ? k : m, a->transpose_a ? m : k);
    need(c, "b", a->b, a->transpose_b ? n : k, a->transpose_b ? k : n);
    maybe(c, "bias", a->bias, 1, n);
    need_activation(c, a->act);
    END;
}

/* A pair of a layer from `in` columns to `out`, or none; its rank. */
static int64_t need_pair(Check *c, const Lora *lora, int64_t n, int64_t out, int64_t in) {
    if (c->failed || !tensor_present(lora->a)) return 0;
    need32(c, "lora.a", lora->a, ANY, in);
    need32(c, "lora.b", lora->b, out, lora->a.rows);
    need_dropout(c, &lora->dropout, n);
    return lora->a.rows;
}

/* All pairs of a layer of `out` outputs; *rank becomes Σr. */
static void need_loras(Check *c, const Lora *lora, int64_t n, int64_t in, int64_t out, int64_t *rank) {
    int64_t outputs = 0;
    *rank = 0;
    for (int i = 0; i < LINEAR_PARTS && !c->failed; i++) {
        outputs += lora[i].b.rows;
        *rank += need_pair(c, &lora[i], n, ANY, in);
    }
    if (*rank && outputs != out)
        refuse(c, "LoRA's parts have %" PRId64 " outputs, the layer has %" PRId64, outputs, out);
}

/* Rows of t, if there are any, go on for at least `tail` columns past the view. */
static void need_tail(Check *c, const char *name, Tensor t, int64_t tail) {
    if (c->failed || tail == 0 || t.ld >= t.cols + tail) return;
    refuse(c, "%s has a leading dimension of %" PRId64 ", which leaves no tail of %" PRId64, name, t.ld, tail);
}

static void need_room(Check *c, int64_t tail, int64_t rank) {
    require(c, tail == 0 || tail >= rank, "the tail is shorter than the sum of LoRA's ranks");
}

bool check_linear(const Device *dev, const LinearArgs *a, Error *err) {
    BEGIN("linear");
    int64_t n = a->x.rows, in = a->x.cols, out = a->weight.rows, rank;
    need(c, "x", a->x, n, in);
    need(c, "weight", a->weight, out, in);
    maybe(c, "bias", a->bias, 1, out);
    maybe(c, "residual", a->residual, n, out);
    need(c, "y", a->y, n, out);
    need_loras(c, a->lora, n, in, out, &rank);
    if (rank) need(c, "low", a->low, n, rank);
    require(c, rank || !a->low_known, "low is said to be known, but there is no LoRA pair");
    require(c, a->tail || !a->tail_kept, "the tail is said to be kept, but there is none");
    need_room(c, a->tail, rank);
    need_tail(c, "x", a->x, a->tail);
    need_tail(c, "weight", a->weight, a->tail);
    need_activation(c, a->act);
    END;
}

static void need_lora_gradients(Check *c, const LinearBackwardArgs *a, int64_t rank) {
    for (int i = 0; i < LINEAR_PARTS && !c->failed; i++) {
        const Lora *lora = &a->lora[i];
        if (tensor_present(a->da[i])) need(c, "x", a->x, a->dy.rows, a->weight.cols);
        if (tensor_present(a->db[i])) need(c, "low", a->low, a->dy.rows, rank);
        require(c, tensor_present(lora->a) || !(tensor_present(a->da[i]) || tensor_present(a->db[i])),
                "da or db is wanted but there is no LoRA pair");
        maybe32(c, "da", a->da[i], lora->a.rows, a->weight.cols);
        maybe32(c, "db", a->db[i], lora->b.rows, lora->a.rows);
    }
}

bool check_linear_backward(const Device *dev, const LinearBackwardArgs *a, Error *err) {
    BEGIN("linear_backward");
    int64_t n = a->dy.rows, out = a->weight.rows, in = a->weight.cols, rank;
    need(c, "dy", a->dy, n, out);
    need(c, "weight", a->weight, out, in);
    maybe(c, "dx", a->dx, n, in);
    if (tensor_present(a->dweight)) need(c, "x", a->x, n, in);
    require(c, tensor_present(a->gamma) == tensor_present(a->rstd), "gamma and rstd go together");
    require(c, !tensor_present(a->gamma) || !tensor_present(a->dweight), "dweight is not had of a norm's input");
    maybe(c, "gamma", a->gamma, 1, in);
    maybe32(c, "rstd", a->rstd, n, 1);
    maybe32(c, "dweight", a->dweight, out, in);
    maybe32(c, "dbias", a->dbias, 1, out);
    need_loras(c, a->lora, n, in, out, &rank);
    need_lora_gradients(c, a, rank);
    maybe(c, "dlow", a->dlow, n, rank);
    require(c, tensor_present(a->dlow) || !a->dlow_known || !n, "dlow is said to be known, but it is absent");
    need_room(c, a->tail, rank);
    need_tail(c, "dy", a->dy, a->tail);
    END;
}

bool check_layer_norm(const Device *dev, const LayerNormArgs *a, Error *err) {
    BEGIN("layer_norm");
    int64_t n = a->x.rows, d = a->x.cols;
    need(c, "x", a->x, n, d);
    need(c, "gamma", a->gamma, 1, d);
    need(c, "beta", a->beta, 1, d);
    need(c, "y", a->y, n, d);
    maybe32(c, "mean", a->mean, 1, n);
    maybe32(c, "rstd", a->rstd, 1, n);
    need_activation(c, a->act);
    END;
}

bool check_layer_norm_backward(const Device *dev, const LayerNormBackwardArgs *a, Error *err) {
    BEGIN("layer_norm_backward");
    int64_t n = a->dy.rows, d = a->dy.cols;
    need(c, "dy", a->dy, n, d);
    need(c, "x", a->x, n, d);
    need(c, "gamma", a->gamma, 1, d);
    need32(c, "mean", a->mean, 1, n);
    need32(c, "rstd", a->rstd, 1, n);
    maybe(c, "dx", a->dx, n, d);
    maybe(c, "residual_grad", a->residual_grad, n, d);
    maybe32(c, "dgamma", a->dgamma, 1, d);
    maybe32(c, "dbeta", a->dbeta, 1, d);
    END;
}

static void need_groups(Check *c, int64_t d, int groups) {
    require(c, groups > 0 && d % groups == 0, "the row cannot be split into that many groups");
}

bool check_rms_norm(const Device *dev, const RmsNormArgs *a, Error *err) {
    BEGIN("rms_norm");
    int64_t n = a->x.rows, d = a->x.cols;
    need_groups(c, d, a->groups);
    need(c, "x", a->x, n, d);
    if (!check.failed) need(c, "gamma", a->gamma, 1, d / a->groups);
    need(c, "y", a->y, n, d);
    maybe32(c, "rstd", a->rstd, n, a->groups);
    END;
}

bool check_rms_norm_backward(const Device *dev, const RmsNormBackwardArgs *a, Error *err) {
    BEGIN("rms_norm_backward");
    int64_t n = a->dy.rows, d = a->dy.cols;
    need_groups(c, d, a->groups);
    need(c, "dy", a->dy, n, d);
    need(c, "x", a->x, n, d);
    if (!check.failed) need(c, "gamma", a->gamma, 1, d / a->groups);
    need32(c, "rstd", a->rstd, n, a->groups);
    maybe(c, "dx", a->dx, n, d);
    maybe(c, "residual_grad", a->residual_grad, n, d);
    if (!check.failed) maybe32(c, "dgamma", a->dgamma, 1, d / a->groups);
    END;
}

/* Statistics are of some of each segment's rows. */
static void need_counted(Check *c, Packed segments, Packed counted) {
    if (c->failed) return;
    require(c, segments.count == counted.count, "segments and counted must be equally many");
    for (int32_t s = 0; s < segments.count && !c->failed; s++) {
        int32_t rows = segments.host[s + 1] - segments.host[s], have = counted.host[s + 1] - counted.host[s];
        if (have > rows || (rows && !have))
            refuse(c, "%d rows of segment %d are counted, and it has %d", have, s, rows);
    }
}

bool check_segment_norm(const Device *dev, const SegmentNormArgs *a, Error *err) {
    BEGIN("segment_norm");
    need(c, "x", a->x, ANY, ANY);
    need(c, "gamma", a->gamma, 1, a->x.cols);
    need(c, "beta", a->beta, 1, a->x.cols);
    need(c, "y", a->y, a->x.rows, a->x.cols);
    need_packed(c, "segments", a->segments, a->x.rows);
    need_packed(c, "counted", a->counted, a->counted.total);
    need_counted(c, a->segments, a->counted);
    need_activation(c, a->act);
    END;
}

bool check_wave_norm(const Device *dev, const WaveNormArgs *a, Error *err) {
    BEGIN("wave_norm");
    need32(c, "x", a->x, ANY, 1);
    need(c, "y", a->y, a->x.rows, 1);
    need_packed(c, "segments", a->segments, a->x.rows);
    END;
}

static int64_t conv_length(int64_t length, int kernel, int stride) {
    return length < kernel ? 0 : (length - kernel) / stride + 1;
}

bool check_conv(const Device *dev, const ConvArgs *a, Error *err) {
    BEGIN("conv");
    require(c, a->kernel > 0 && a->stride > 0, "kernel and stride must be positive");
    int64_t cout = a->weight.rows;
    need(c, "x", a->x, ANY, 1);
    need(c, "weight", a->weight, cout, a->kernel);
    maybe(c, "bias", a->bias, 1, cout);
    maybe(c, "gamma", a->gamma, 1, cout);
    maybe(c, "beta", a->beta, 1, cout);
    require(c, tensor_present(a->gamma) == tensor_present(a->beta), "gamma and beta come together");
    need(c, "y", a->y, a->y.rows, cout);
    need_packed(c, "in_segments", a->in_segments, a->x.rows);
    need_packed(c, "out_segments", a->out_segments, a->y.rows);
    need_lengths(c, "out_segments", a->in_segments, a->out_segments, conv_length, a->kernel, a->stride, true);
    need_activation(c, a->act);
    END;
}

bool check_pos_conv(const Device *dev, const PosConvArgs *a, Error *err) {
    BEGIN("pos_conv");
    int64_t n = a->x.rows, h = a->x.cols;
    require(c, a->kernel > 0, "the kernel must be positive");
    need_groups(c, h, a->groups);
    need(c, "x", a->x, n, h);
    if (!check.failed) need(c, "weight", a->weight, h, a->kernel * (h / a->groups));
    need(c, "bias", a->bias, 1, h);
    need(c, "y", a->y, n, h);
    need_packed(c, "segments", a->segments, n);
    END;
}

bool check_rel_gate(const Device *dev, const RelGateArgs *a, Error *err) {
    BEGIN("rel_gate");
    need(c, "u", a->u, ANY, ANY);
    need_groups(c, a->u.cols, a->heads);
    if (!check.failed) need(c, "weight", a->weight, 8, a->u.cols / a->heads);
    need(c, "bias", a->bias, 1, 8);
    need(c, "scale", a->scale, 1, a->heads);
    need32(c, "gate", a->gate, a->u.rows, a->heads);
    END;
}

static void need_heads(Check *c, int heads, int kv_heads, int dim) {
    require(c, heads > 0 && kv_heads > 0 && heads % kv_heads == 0, "heads must be a multiple of kv_heads");
    require(c, dim > 0 && dim <= 128, "the head dimension must be in 1..128");
}

static void need_attention(Check *c, const AttentionArgs *a) {
    need_heads(c, a->heads, a->kv_heads, a->dim);
    int64_t width = (int64_t)a->heads * a->dim, kv_width = (int64_t)a->kv_heads * a->dim;
    need(c, "q", a->q, ANY, width);
    need(c, "k", a->k, ANY, kv_width);
    need(c, "v", a->v, a->k.rows, kv_width);
    need_packed(c, "queries", a->queries, a->q.rows);
    need_packed(c, "keys", a->keys, a->k.rows);
    require(c, a->queries.count == a->keys.count, "queries and keys have different numbers of segments");
    need(c, "out", a->out, a->q.rows, width);
    maybe32(c, "lse", a->lse, a->q.rows, a->heads);
    maybe32(c, "bias", a->bias, a->heads, ANY);
    maybe32(c, "gate", a->gate, a->q.rows, a->heads);
    if (!tensor_present(a->bias)) {
        require(c, !tensor_present(a->gate), "a gate needs a bias");
        return;
    }
    int64_t reach = (a->bias.cols + 1) / 2;
    require(c, a->bias.cols % 2 == 1 && reach >= a->keys.longest && reach >= a->queries.longest,
            "the bias must have 2L-1 columns with L at least the longest segment");
}

bool check_attention(const Device *dev, const AttentionArgs *a, Error *err) {
    BEGIN("attention");
    need_attention(c, a);
    END;
}

static void need_rotation(Check *c, const AttentionBackwardArgs *a) {
    const AttentionArgs *f = &a->forward;
    require(c, f->dim % 2 == 0, "a head that was rotated has an even dimension");
    require(c, f->q.rows == f->k.rows, "the rows of k are not those of q, whose positions are given");
    need32(c, "rope", a->rope, ANY, f->dim);
    need_table(c, "position", a->position, f->q.rows);
}

bool check_attention_backward(const Device *dev, const AttentionBackwardArgs *a, Error *err) {
    BEGIN("attention_backward");
    const AttentionArgs *f = &a->forward;
    need_attention(c, f);
    need32(c, "lse", f->lse, f->q.rows, f->heads);
    need(c, "dout", a->dout, f->q.rows, f->q.cols);
    need(c, "dq", a->dq, f->q.rows, f->q.cols);
    need(c, "dk", a->dk, f->k.rows, f->k.cols);
    need(c, "dv", a->dv, f->v.rows, f->v.cols);
    require(c, tensor_present(f->bias) || !tensor_present(a->dbias), "dbias is wanted but there is no bias");
    require(c, tensor_present(f->gate) || !tensor_present(a->dgate), "dgate is wanted but there is no gate");
    require(c, f->scale != 0.0f, "the scale must not be zero");
    maybe32(c, "dbias", a->dbias, f->bias.rows, f->bias.cols);
    maybe32(c, "dgate", a->dgate, f->gate.rows, f->gate.cols);
    if (tensor_present(a->rope)) need_rotation(c, a);
    END;
}

static void need_cache(Check *c, Tensor k_cache, Tensor v_cache, int64_t width, int64_t capacity) {
    need(c, "k_cache", k_cache, ANY, width);
    need(c, "v_cache", v_cache, k_cache.rows, width);
    require(c, capacity > 0 && k_cache.rows % capacity == 0, "the cache's rows are no multiple of its capacity");
}

bool check_cache_append(const Device *dev, const CacheAppendArgs *a, Error *err) {
    BEGIN("cache_append");
    need(c, "k", a->k, ANY, ANY);
    need(c, "v", a->v, a->k.rows, a->k.cols);
    need_cache(c, a->k_cache, a->v_cache, a->k.cols, a->capacity);
    need_table(c, "slot", a->slot, a->k.rows);
    need_table(c, "position", a->position, a->k.rows);
    END;
}

bool check_cache_copy(const Device *dev, const CacheCopyArgs *a, Error *err) {
    BEGIN("cache_copy");
    need_cache(c, a->k_cache, a->v_cache, a->k_cache.cols, a->capacity);
    require(c, a->count >= 0, "a negative count");
    need_table(c, "from", a->from, a->count);
    need_table(c, "to", a->to, a->count);
    need_table(c, "length", a->length, a->count);
    END;
}

bool check_attention_cached(const Device *dev, const AttentionCachedArgs *a, Error *err) {
    BEGIN("attention_cached");
    need_heads(c, a->heads, a->kv_heads, a->dim);
    need(c, "q", a->q, ANY, (int64_t)a->heads * a->dim);
    need(c, "out", a->out, a->q.rows, a->q.cols);
    need_cache(c, a->k_cache, a->v_cache, (int64_t)a->kv_heads * a->dim, a->capacity);
    need_table(c, "slot", a->slot, a->q.rows);
    need_table(c, "length", a->length, a->q.rows);
    END;
}

bool check_rope(const Device *dev, const RopeArgs *a, Error *err) {
    BEGIN("rope");
    require(c, a->heads > 0 && a->dim > 0 && a->dim % 2 == 0, "heads must be positive and their dimension even");
    need(c, "x", a->x, ANY, (int64_t)a->heads * a->dim);
    need32(c, "table", a->table, ANY, a->dim);
    need_table(c, "position", a->position, a->x.rows);
    END;
}

bool check_swiglu(const Device *dev, const SwigluArgs *a, Error *err) {
    BEGIN("swiglu");
    need(c, "gate", a->gate, ANY, ANY);
    need(c, "up", a->up, a->gate.rows, a->gate.cols);
    need(c, "y", a->y, a->gate.rows, a->gate.cols);
    int64_t rank = need_pair(c, &a->down, a->gate.rows, ANY, a->gate.cols);
    if (rank) need(c, "low", a->low, a->gate.rows, rank);
    END;
}

bool check_swiglu_backward(const Device *dev, const SwigluBackwardArgs *a, Error *err) {
    BEGIN("swiglu_backward");
    int64_t n = a->gate.rows, f = a->gate.cols;
    need(c, "gate", a->gate, n, f);
    need(c, "up", a->up, n, f);
    need(c, "dy", a->dy, n, f);
    need(c, "dgate", a->dgate, n, f);
    need(c, "dup", a->dup, n, f);
    int64_t down = need_pair(c, &a->down.lora, n, ANY, f), rank = 0;
    require(c, down || !tensor_present(a->down.da), "down.da is wanted of a layer without a pair");
    if (tensor_present(a->down.da)) need(c, "down.dlow", a->down.dlow, n, down);
    maybe32(c, "down.da", a->down.da, down, f);
    for (int i = 0; i < 2; i++) {
        int64_t r = need_pair(c, &a->gate_up.lora[i], 0, f, ANY); /* of no rows: its dropout is its input's */
        require(c, r || !tensor_present(a->gate_up.db[i]), "gate_up.db is wanted of outputs without a pair");
        maybe32(c, "gate_up.db", a->gate_up.db[i], f, r);
        rank += r;
    }
    if (tensor_present(a->gate_up.db[0]) || tensor_present(a->gate_up.db[1]))
        need(c, "gate_up.low", a->gate_up.low, n, rank);
    maybe(c, "gate_up.dlow", a->gate_up.dlow, n, rank);
    END;
}

bool check_activation(const Device *dev, const ActivationArgs *a, Error *err) {
    BEGIN("activation");
    need(c, "x", a->x, ANY, ANY);
    need(c, "y", a->y, a->x.rows, a->x.cols);
    need_activation(c, a->act);
    END;
}

bool check_activation_backward(const Device *dev, const ActivationBackwardArgs *a, Error *err) {
    BEGIN("activation_backward");
    need(c, "x", a->x, ANY, ANY);
    need(c, "dy", a->dy, a->x.rows, a->x.cols);
    need(c, "dx", a->dx, a->x.rows, a->x.cols);
    need_activation(c, a->act);
    END;
}

bool check_add(const Device *dev, const AddArgs *a, Error *err) {
    BEGIN("add");
    if (a->y.dtype == DTYPE_F32) c->stored = DTYPE_F32;
    need(c, "a", a->a, ANY, ANY);
    need(c, "b", a->b, a->a.rows, a->a.cols);
    need(c, "y", a->y, a->a.rows, a->a.cols);
    END;
}

bool check_convert(const Device *dev, const ConvertArgs *a, Error *err) {
    BEGIN("convert");
    check_tensor(c, "x", a->x, a->x.dtype, ANY, ANY);
    check_tensor(c, "y", a->y, a->y.dtype, a->x.rows, a->x.cols);
    require(c, a->x.dtype == DTYPE_F32 || a->x.dtype == DTYPE_BF16, "x is neither F32 nor BF16");
    require(c, a->y.dtype == DTYPE_F32 || a->y.dtype == DTYPE_BF16, "y is neither F32 nor BF16");
    END;
}

bool check_dropout(const Device *dev, const DropoutArgs *a, Error *err) {
    BEGIN("dropout");
    need(c, "x", a->x, ANY, ANY);
    need(c, "y", a->y, a->x.rows, a->x.cols);
    need_dropout(c, &a->dropout, a->x.rows);
    END;
}

bool check_noise(const Device *dev, const NoiseArgs *a, Error *err) {
    BEGIN("noise");
    need(c, "x", a->x, ANY, ANY);
    need(c, "y", a->y, a->x.rows, a->x.cols);
    need_table(c, "the key's sample table", a->key.sample, a->x.rows);
    need_table(c, "the key's position table", a->key.position, a->x.rows);
    END;
}

bool check_gather_rows(const Device *dev, const GatherRowsArgs *a, Error *err) {
    BEGIN("gather_rows");
    need(c, "x", a->x, ANY, a->y.cols);
    need(c, "y", a->y, ANY, ANY);
    need_table(c, "index", a->index, a->y.rows);
    END;
}

bool check_scatter_rows(const Device *dev, const ScatterRowsArgs *a, Error *err) {
    BEGIN("scatter_rows");
    need(c, "x", a->x, ANY, a->y.cols);
    need(c, "y", a->y, ANY, ANY);
    need_table(c, "index", a->index, a->x.rows);
    END;
}

static int64_t stacked_length(int64_t length, int k, int unused) {
    (void)unused;
    return (length + k - 1) / k;
}

static void need_stack(Check *c, Packed frames, int64_t n, Packed rows, int64_t stacked, int k) {
    require(c, k > 0, "k must be positive");
    need_packed(c, "frames", frames, n);
    need_packed(c, "rows", rows, stacked);
    need_lengths(c, "rows", frames, rows, stacked_length, k, 0, false);
}

bool check_stack_frames(const Device *dev, const StackFramesArgs *a, Error *err) {
    BEGIN("stack_frames");
    int64_t side = tensor_present(a->side) ? a->side.cols : 0;
    need(c, "x", a->x, ANY, ANY);
    maybe32(c, "side", a->side, a->x.rows, side);
    need(c, "y", a->y, ANY, a->k * (a->x.cols + side));
    need_stack(c, a->frames, a->x.rows, a->rows, a->y.rows, a->k);
    END;
}

bool check_stack_frames_backward(const Device *dev, const StackFramesBackwardArgs *a, Error *err) {
    BEGIN("stack_frames_backward");
    require(c, a->side >= 0, "a negative number of side columns");
    need(c, "dx", a->dx, ANY, ANY);
    need(c, "dy", a->dy, ANY, a->k * (a->dx.cols + a->side));
    need_stack(c, a->frames, a->dx.rows, a->rows, a->dy.rows, a->k);
    END;
}

static void need_states(Check *c, const Tensor *state, int count, Tensor weight, Tensor like) {
    require(c, count > 0 && count <= LAYER_MIX_MAX, "the number of states must be in 1..64");
    for (int i = 0; !c->failed && i < count; i++) need(c, "state", state[i], like.rows, like.cols);
    need32(c, "weight", weight, 1, count);
}

bool check_layer_mix(const Device *dev, const LayerMixArgs *a, Error *err) {
    BEGIN("layer_mix");
    need(c, "y", a->y, ANY, ANY);
    need_states(c, a->state, a->count, a->weight, a->y);
    END;
}

bool check_layer_mix_backward(const Device *dev, const LayerMixBackwardArgs *a, Error *err) {
    BEGIN("layer_mix_backward");
    need(c, "dy", a->dy, ANY, ANY);
    need_states(c, a->state, a->count, a->weight, a->dy);
    need32(c, "dweight", a->dweight, 1, a->count);
    END;
}

bool check_segment_mean(const Device *dev, const SegmentMeanArgs *a, Error *err) {
    BEGIN("segment_mean");
    need(c, "x", a->x, ANY, ANY);
    need_packed(c, "segments", a->segments, a->x.rows);
    need(c, "y", a->y, a->segments.count, a->x.cols);
    END;
}

bool check_segment_mean_backward(const Device *dev, const SegmentMeanBackwardArgs *a, Error *err) {
    BEGIN("segment_mean_backward");
    need(c, "dx", a->dx, ANY, ANY);
    need_packed(c, "segments", a->segments, a->dx.rows);
    need(c, "dy", a->dy, a->segments.count, a->dx.cols);
    END;
}

bool check_cross_entropy(const Device *dev, const CrossEntropyArgs *a, Error *err) {
    BEGIN("cross_entropy");
    need(c, "logits", a->logits, ANY, ANY);
    need_table(c, "target", a->target, a->logits.rows);
    need32(c, "row_loss", a->row_loss, 1, a->logits.rows);
    END;
}

bool check_greedy(const Device *dev, const GreedyArgs *a, Error *err) {
    BEGIN("greedy");
    int64_t n = a->logits.rows;
    need(c, "logits", a->logits, ANY, ANY);
    require(c, a->logits.cols >= 1 && a->logits.cols <= INT32_MAX, "the vocabulary must have 1 to 2^31 - 1 tokens");
    check_tensor(c, "token", a->token, DTYPE_I32, 1, n);
    need32(c, "logit", a->logit, 1, n);
    need32(c, "log_sum", a->log_sum, 1, n);
    END;
}

bool check_sum_squares(const Device *dev, const SumSquaresArgs *a, Error *err) {
    BEGIN("sum_squares");
    need32(c, "x", a->x, ANY, ANY);
    check_tensor(c, "out", a->out, DTYPE_F64, 1, 1);
    END;
}

bool check_adamw(const Device *dev, const AdamwArgs *a, Error *err) {
    BEGIN("adamw");
    int64_t total = a->param.cols;
    need32(c, "param", a->param, 1, total);
    need32(c, "grad", a->grad, 1, total);
    need32(c, "m", a->m, 1, total);
    need32(c, "v", a->v, 1, total);
    require(c, a->step >= 1, "the first step is 1");
    if (tensor_present(a->norm_squared)) check_tensor(c, "norm_squared", a->norm_squared, DTYPE_F64, 1, 1);
    need_table(c, "segments", a->segments, a->segment_count);
    for (int i = 0; !check.failed && i < a->segment_count; i++) {
        AdamwSegment s = a->segments[i];
        require(c, s.offset >= 0 && s.count >= 0 && s.offset <= total - s.count, "a segment lies outside the buffer");
    }
    END;
}
