/* Attention over packed segments, its gradients, and the KV cache. */
#include "tests/kernels/support.h"

/* Probabilities sum to one, so outputs are means of values in [-1, 1]; scores are exact to about 1e-6. */
static const double TOLERANCE = 1e-5;

typedef struct Case {
    int heads, kv_heads, dim;
    int segments;
    int32_t queries[5], keys[5];
    bool causal, bias, gate;
    int pad, reach; /* reach: L beyond the longest */
    float size;     /* of q and k */
} Case;

static const Case CASES[] = {
    {1, 1, 16, 1, {1}, {1}, 0, 0, 0, 0, 0, 1},
    {1, 1, 64, 1, {65}, {65}, 1, 0, 0, 0, 0, 1},
    {4, 2, 16, 3, {5, 0, 70}, {5, 0, 70}, 1, 0, 0, 0, 0, 1},
    {6, 2, 40, 3, {3, 97, 1}, {3, 97, 1}, 1, 0, 0, 4, 0, 1},
    {2, 2, 64, 2, {130, 33}, {130, 33}, 0, 1, 1, 0, 0, 1},
    {3, 3, 40, 3, {31, 0, 100}, {31, 0, 100}, 0, 1, 1, 8, 5, 1},
    {2, 1, 128, 2, {70, 20}, {70, 20}, 1, 0, 0, 0, 0, 1},
    {2, 2, 128, 1, {100}, {200}, 0, 0, 0, 3, 0, 1},
    {2, 1, 16, 4, {4, 7, 0, 2}, {9, 300, 3, 0}, 0, 0, 0, 0, 0, 1},
    {2, 1, 16, 3, {4, 7, 1}, {9, 200, 1}, 1, 0, 0, 0, 0, 1},
    {2, 2, 24, 2, {9, 66}, {4, 60}, 1, 0, 0, 0, 0, 1}, /* the first queries see no key */
    {3, 1, 7, 2, {20, 11}, {20, 11}, 1, 0, 0, 1, 0, 1},
    {2, 2, 5, 2, {20, 130}, {20, 130}, 0, 1, 0, 1, 2, 1},
    {2, 2, 32, 1, {90}, {90}, 0, 1, 1, 0, 0, 20}, /* scores in the hundreds: the maximum must be taken off */
    {2, 2, 16, 0, {0}, {0}, 0, 0, 0, 0, 0, 1},
    {2, 1, 48, 2, {250, 64}, {250, 64}, 1, 1, 1, 0, 0, 1},
};

/* The same in double, all inputs dense, so that it can be differentiated. */
typedef struct Reference {
    const AttentionArgs *a;
    double *q, *k, *v, *bias, *gate, *out, *lse;
    const double *weight; /* the loss is Σ weight · out */
} Reference;

static void attend_ref(const Reference *x, int32_t s, int h) {
    const AttentionArgs *a = x->a;
    int64_t q0 = a->queries.host[s], nq = a->queries.host[s + 1] - q0;
    int64_t k0 = a->keys.host[s], nk = a->keys.host[s + 1] - k0;
    int64_t wide = a->q.cols, narrow = a->k.cols, d = a->dim, g = h / (a->heads / a->kv_heads);
    double p[512];
    for (int64_t i = 0; i < nq; i++) {
        double most = -INFINITY, sum = 0.0;
        int64_t seen = a->causal ? nk - nq + i + 1 : nk;
        for (int64_t j = 0; j < seen; j++) {
            p[j] = 0.0;
            for (int64_t c = 0; c < d; c++)
                p[j] += x->q[(q0 + i) * wide + h * d + c] * x->k[(k0 + j) * narrow + g * d + c];
            p[j] *= (double)a->scale;
            if (x->bias)
                p[j] += (x->gate ? x->gate[(q0 + i) * a->heads + h] : 1.0) *
                        x->bias[h * a->bias.cols + j - i + (a->bias.cols - 1) / 2];
            most = fmax(most, p[j]);
        }
        for (int64_t j = 0; j < seen; j++) sum += p[j] = exp(p[j] - most);
        for (int64_t c = 0; c < d; c++) {
            double o = 0.0;
            for (int64_t j = 0; j < seen; j++) o += p[j] / sum * x->v[(k0 + j) * narrow + g * d + c];
            x->out[(q0 + i) * wide + h * d + c] = o;
        }
        x->lse[(q0 + i) * a->heads + h] = seen > 0 ? most + log(sum) : -INFINITY;
    }
}

static double reference_loss(const void *context) {
    const Reference *x = context;
    double loss = 0.0;
    for (int32_t s = 0; s < x->a->queries.count; s++)
        for (int h = 0; h < x->a->heads; h++) attend_ref(x, s, h);
    for (int64_t i = 0; x->weight && i < x->a->q.rows * x->a->q.cols; i++) loss += x->weight[i] * x->out[i];
    return loss;
}

static AttentionArgs args_of(Bench *t, const Case *p, bool lse) {
    Packed queries = packed(t, p->queries, p->segments), keys = packed(t, p->keys, p->segments);
    int64_t reach = (queries.longest > keys.longest ? queries.longest : keys.longest) + p->reach;
    return (AttentionArgs){.q = scaled(t, queries.total, p->heads * p->dim, p->pad, p->size),
                           .k = scaled(t, keys.total, p->kv_heads * p->dim, p->pad, p->size),
                           .v = tensor(t, keys.total, p->kv_heads * p->dim, p->pad),
                           .queries = queries,
                           .keys = keys,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .dim = p->dim,
                           .scale = 1.0f / sqrtf((float)p->dim),
                           .causal = p->causal,
                           .bias = maybe(t, p->bias, p->heads, 2 * reach - 1, p->pad),
                           .gate = maybe(t, p->gate, queries.total, p->heads, p->pad),
                           .out = tensor(t, queries.total, p->heads * p->dim, p->pad),
                           .lse = maybe(t, lse, queries.total, p->heads, p->pad)};
}

static Reference reference_of(Bench *t, const AttentionArgs *a) {
    return (Reference){.a = a,
                       .q = doubles(t, a->q),
                       .k = doubles(t, a->k),
                       .v = doubles(t, a->v),
                       .bias = doubles(t, a->bias),
                       .gate = doubles(t, a->gate),
                       .out = zeros(t, a->q.rows * a->q.cols),
                       .lse = zeros(t, a->q.rows * a->heads)};
}

static void test_forward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Bench t;
        bench_open(&t, 1 + (int)(i % 3), 10);
        AttentionArgs a = args_of(&t, &CASES[i], i % 2 == 0);
        Reference want = reference_of(&t, &a);
        reference_loss(&want);
        RUN(&t, attention, &a);
        /* Rounding of the scores grows with their size. */
        double tolerance = TOLERANCE * (double)(CASES[i].size * CASES[i].size);
        expect_close("out", a.out, want.out, tolerance);
        if (tensor_present(a.lse)) expect_close("lse", a.lse, want.lse, tolerance);
        Tensor first = copy_of(&t, a.out);
        RUN(&t, attention, &a);
        expect_same("out", first, a.out);
        bench_close(&t);
    }
}

static const Case GRADIENTS[] = {
    {1, 1, 16, 1, {1}, {1}, 0, 0, 0, 0, 0, 1},
    {2, 1, 6, 2, {5, 3}, {5, 3}, 1, 0, 0, 2, 0, 1},
    {4, 2, 16, 2, {7, 1}, {7, 1}, 1, 0, 0, 0, 0, 1},
    {2, 2, 8, 3, {6, 0, 4}, {6, 0, 4}, 0, 1, 1, 3, 2, 1},
    {2, 2, 5, 2, {4, 3}, {9, 2}, 0, 1, 0, 0, 1, 1},
    {2, 1, 4, 2, {5, 4}, {3, 8}, 1, 0, 0, 0, 0, 1}, /* rows that see nothing get no gradient */
    {2, 1, 4, 3, {2, 3, 1}, {0, 4, 2}, 0, 0, 0, 0, 0, 1},
    {1, 1, 16, 1, {70}, {70}, 1, 1, 1, 0, 0, 1}, /* more than a block of queries */
    {2, 1, 3, 2, {66, 9}, {110, 9}, 0, 0, 0, 1, 0, 1},
};

static void gradient_case(const Case *p, int threads) {
    Bench t;
    bench_open(&t, threads, 11);
    AttentionBackwardArgs b = {.forward = args_of(&t, p, true)};
    AttentionArgs *a = &b.forward;
    b.dout = tensor(&t, a->q.rows, a->q.cols, p->pad);
    b.dq = tensor(&t, a->q.rows, a->q.cols, p->pad);
    b.dk = tensor(&t, a->k.rows, a->k.cols, p->pad);
    b.dv = tensor(&t, a->v.rows, a->v.cols, p->pad);
    b.dbias = maybe(&t, p->bias, a->bias.rows, a->bias.cols, p->pad);
    b.dgate = maybe(&t, p->gate, a->gate.rows, a->gate.cols, p->pad);
    Reference want = reference_of(&t, a);
    want.weight = doubles(&t, b.dout);
    struct {
        const char *name;
        double *x;
        Tensor got;
        double *want;
    } parts[] = {{"dq", want.q, b.dq, NULL},
                 {"dk", want.k, b.dk, NULL},
                 {"dv", want.v, b.dv, NULL},
                 {"dbias", want.bias, b.dbias, NULL},
                 {"dgate", want.gate, b.dgate, NULL}};
    for (int i = 0; i < 5; i++) {
        if (!parts[i].x) continue;
        int64_t count = parts[i].got.rows * parts[i].got.cols;
        double *before = doubles(&t, parts[i].got);
        parts[i].want = zeros(&t, count);
        differentiate(parts[i].x, count, reference_loss, &want, parts[i].want);
        for (int64_t e = 0; i == 3 && e < count; e++) parts[i].want[e] += before[e]; /* dbias is accumulated */
    }
    RUN(&t, attention, a);
    Tensor dbias = copy_of(&t, b.dbias);
    RUN(&t, attention_backward, &b);
    for (int i = 0; i < 5; i++)
        if (parts[i].x) expect_close(parts[i].name, parts[i].got, parts[i].want, 2e-5);
    Tensor dq = copy_of(&t, b.dq), dk = copy_of(&t, b.dk);
    if (p->bias) b.dbias = dbias;
    RUN(&t, attention_backward, &b);
    expect_same("dq", dq, b.dq);
    expect_same("dk", dk, b.dk);
    if (p->bias) expect_same("dbias", parts[3].got, b.dbias);
    bench_close(&t);
}

static void test_gradients(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof GRADIENTS / sizeof *GRADIENTS; i++) {
        gradient_case(&GRADIENTS[i], 1);
        gradient_case(&GRADIENTS[i], 2);
    }
}

/* Gradients of what was rotated are those of the rotated, rotated back. */
static void test_rotated(void **state) {
    (void)state;
    enum { POSITIONS = 20 };
    for (size_t i = 0; i < sizeof GRADIENTS / sizeof *GRADIENTS; i++) {
        Bench t;
        bench_open(&t, 2, 16);
        AttentionBackwardArgs b = {.forward = args_of(&t, &GRADIENTS[i], true)};
        AttentionArgs *a = &b.forward;
        if (a->q.rows != a->k.rows || a->dim % 2) {
            bench_close(&t);
            continue;
        }
        b.dout = tensor(&t, a->q.rows, a->q.cols, 3);
        b.dq = tensor(&t, a->q.rows, a->q.cols, 3);
        b.dk = tensor(&t, a->k.rows, a->k.cols, 3);
        b.dv = tensor(&t, a->v.rows, a->v.cols, 3);
        RUN(&t, attention, a);
        RUN(&t, attention_backward, &b);
        RopeArgs back = {.x = copy_of(&t, b.dq),
                         .position = integers(&t, a->q.rows, POSITIONS),
                         .table = tensor(&t, POSITIONS, a->dim, 1),
                         .heads = a->heads,
                         .dim = a->dim,
                         .inverse = true},
                 keys = back;
        keys.x = copy_of(&t, b.dk), keys.heads = a->kv_heads;
        RUN(&t, rope, &back);
        RUN(&t, rope, &keys);
        b.rope = back.table, b.position = back.position;
        RUN(&t, attention_backward, &b);
        expect_same("dq", back.x, b.dq);
        expect_same("dk", keys.x, b.dk);
        bench_close(&t);
    }
}

/* A segment alone and the same segment among others: the same numbers. */
static void test_segments_are_independent(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 12);
    Case p = {4, 2, 64, 3, {50, 201, 17}, {50, 201, 17}, 0, 1, 1, 0, 0, 1};
    AttentionArgs a = args_of(&t, &p, false);
    RUN(&t, attention, &a);
    for (int s = 0; s < 3; s++) {
        AttentionArgs alone = a;
        int32_t first = a.queries.host[s], length = p.queries[s];
        alone.queries = alone.keys = packed(&t, &length, 1);
        alone.q = tensor_rows(a.q, first, length);
        alone.k = tensor_rows(a.k, first, length);
        alone.v = tensor_rows(a.v, first, length);
        alone.gate = tensor_rows(a.gate, first, length);
        alone.out = tensor(&t, length, a.out.cols, 0);
        RUN(&t, attention, &alone);
        expect_close("alone", alone.out, doubles(&t, tensor_rows(a.out, first, length)), 1e-6);
    }
    bench_close(&t);
}

/* Prompts appended row by row, in mixed order, then read back by attention over the cache: each row
 * must be the last row of causal attention over its sequence. */
static void cached_case(int heads, int kv_heads, int dim, int pad) {
    Bench t;
    bench_open(&t, 2, 13);
    enum { SLOTS = 3, CAPACITY = 210 };
    const int32_t lengths[SLOTS] = {1, 205, 60};
    Packed keys = packed(&t, lengths, SLOTS);
    CacheAppendArgs append = {.k = tensor(&t, keys.total, kv_heads * dim, pad),
                              .v = tensor(&t, keys.total, kv_heads * dim, pad),
                              .slot = integers(&t, keys.total, 1),
                              .position = integers(&t, keys.total, 1),
                              .capacity = CAPACITY,
                              .k_cache = tensor(&t, SLOTS * CAPACITY, kv_heads * dim, pad),
                              .v_cache = tensor(&t, SLOTS * CAPACITY, kv_heads * dim, pad)};
    for (int s = 0; s < SLOTS; s++)
        for (int32_t i = 0; i < lengths[s]; i++) {
            ((int32_t *)append.slot)[keys.host[s] + i] = 2 - s;
            ((int32_t *)append.position)[keys.host[s] + i] = i;
        }
    RUN(&t, cache_append, &append);
    const int32_t ones[SLOTS] = {1, 1, 1}, slots[SLOTS] = {2, 1, 0};
    AttentionArgs full = {.q = tensor(&t, SLOTS, heads * dim, pad),
                          .k = append.k,
                          .v = append.v,
                          .queries = packed(&t, ones, SLOTS),
                          .keys = keys,
                          .heads = heads,
                          .kv_heads = kv_heads,
                          .dim = dim,
                          .scale = 0.3f,
                          .causal = true,
                          .out = tensor(&t, SLOTS, heads * dim, pad)};
    AttentionCachedArgs cached = {.q = full.q,
                                  .k_cache = append.k_cache,
                                  .v_cache = append.v_cache,
                                  .slot = slots,
                                  .length = lengths,
                                  .capacity = CAPACITY,
                                  .longest = 205,
                                  .heads = heads,
                                  .kv_heads = kv_heads,
                                  .dim = dim,
                                  .scale = 0.3f,
                                  .out = tensor(&t, SLOTS, heads * dim, pad)};
    Reference want = reference_of(&t, &full);
    reference_loss(&want);
    RUN(&t, attention_cached, &cached);
    expect_close("cached", cached.out, want.out, TOLERANCE);
    bench_close(&t);
}

static void test_cached(void **state) {
    (void)state;
    cached_case(1, 1, 16, 0);
    cached_case(9, 3, 64, 0);
    cached_case(4, 1, 40, 3);
    cached_case(2, 2, 128, 0);
    cached_case(3, 1, 7, 1);
    cached_case(20, 1, 32, 0);
}

static void test_cache_copy(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 14);
    enum { CAPACITY = 5, WIDTH = 70 };
    /* A swap, a spread of one slot to two, and a copy onto itself, all at once. */
    const int32_t from[] = {0, 1, 2, 2, 4}, to[] = {1, 0, 3, 2, 4}, length[] = {5, 3, 4, 5, 0};
    CacheCopyArgs a = {.from = from,
                       .to = to,
                       .length = length,
                       .count = 5,
                       .capacity = CAPACITY,
                       .k_cache = tensor(&t, 5 * CAPACITY, WIDTH, 2),
                       .v_cache = tensor(&t, 5 * CAPACITY, WIDTH, 0)};
    double *k = doubles(&t, a.k_cache), *v = doubles(&t, a.v_cache);
    double *k_want = doubles(&t, a.k_cache), *v_want = doubles(&t, a.v_cache);
    for (int i = 0; i < 5; i++)
        for (int e = 0; e < length[i] * WIDTH; e++) {
            k_want[to[i] * CAPACITY * WIDTH + e] = k[from[i] * CAPACITY * WIDTH + e];
            v_want[to[i] * CAPACITY * WIDTH + e] = v[from[i] * CAPACITY * WIDTH + e];
        }
    RUN(&t, cache_copy, &a);
    expect_close("k_cache", a.k_cache, k_want, 0.0);
    expect_close("v_cache", a.v_cache, v_want, 0.0);
    bench_close(&t);
}

static void test_refusals(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 15);
    Case p = {4, 2, 16, 2, {3, 4}, {3, 4}, 1, 1, 1, 0, 0, 1};
    AttentionArgs a = args_of(&t, &p, false), wrong = a;
    wrong.kv_heads = 3;
    REFUSED(&t, attention, &wrong, "kv_heads");
    wrong = a;
    wrong.dim = 129;
    REFUSED(&t, attention, &wrong, "1..128");
    wrong = a;
    wrong.bias.cols = 5;
    REFUSED(&t, attention, &wrong, "2L-1");
    wrong = a;
    wrong.queries.count = 1;
    REFUSED(&t, attention, &wrong, "rows");
    wrong = a;
    wrong.queries.longest = 2;
    REFUSED(&t, attention, &wrong, "longest");
    AttentionBackwardArgs b = {.forward = a, .dout = a.out, .dq = a.q, .dk = a.k, .dv = a.v};
    REFUSED(&t, attention_backward, &b, "lse");
    b.forward.lse = tensor(&t, 7, 4, 0);
    b.dk = tensor(&t, 7, 32, 0), b.dv = tensor(&t, 7, 32, 0);
    b.rope = tensor(&t, 5, 16, 0);
    REFUSED(&t, attention_backward, &b, "position is absent");
    b.position = integers(&t, 7, 5);
    b.rope.cols = 15;
    REFUSED(&t, attention_backward, &b, "rope is [5, 15], expected [5, 16]");
    b.rope.cols = 16;
    b.forward.k = b.dk = b.forward.v = b.dv = tensor(&t, 8, 32, 0);
    const int32_t more[] = {4, 4};
    b.forward.keys = packed(&t, more, 2);
    REFUSED(&t, attention_backward, &b, "the rows of k are not those of q");
    int32_t slot[] = {2}, position[] = {5};
    CacheAppendArgs append = {.k = tensor(&t, 1, 8, 0),
                              .v = tensor(&t, 1, 8, 0),
                              .slot = slot,
                              .position = position,
                              .capacity = 5,
                              .k_cache = tensor(&t, 15, 8, 0),
                              .v_cache = tensor(&t, 15, 8, 0)};
    REFUSED(&t, cache_append, &append, "slot 2");
    position[0] = 4;
    slot[0] = 3;
    REFUSED(&t, cache_append, &append, "slot 3");
    bench_close(&t);
}

static void test_cost(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 16);
    Case p = {4, 2, 16, 2, {3, 4}, {3, 6}, 1, 0, 0, 0, 0, 1};
    AttentionArgs a = args_of(&t, &p, false);
    /* 1+2+3 and 3+4+5+6 pairs a head; two products of 16 and an exponential. */
    assert_true(attention_cost(&a).flops == 24.0 * 4 * (4.0 * 16 + 10));
    a.causal = false;
    assert_true(attention_cost(&a).flops == 33.0 * 4 * (4.0 * 16 + 10));
    AttentionBackwardArgs b = {.forward = a, .dout = a.out, .dq = a.q, .dk = a.k, .dv = a.v}, rotated = b;
    rotated.rope = tensor(&t, 5, 16, 0);
    assert_true(attention_backward_cost(&rotated).bytes == attention_backward_cost(&b).bytes + 4.0 * 5 * 16);
    assert_true(attention_backward_cost(&rotated).flops == attention_backward_cost(&b).flops + 3.0 * (7 * 64 + 9 * 32));
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),   cmocka_unit_test(test_rotated),
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_segments_are_independent),
        cmocka_unit_test(test_cached),    cmocka_unit_test(test_cache_copy),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
