/* Attention, its gradients and the KV cache on the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

typedef struct Case {
    int heads, kv_heads, dim;
    int segments;
    int32_t queries[5], keys[5];
    bool causal, bias, gate;
    int pad, reach; /* reach: L beyond the longest */
    int shift;      /* elements that tensors start past an aligned address */
    float size;     /* of q and k */
} Case;

static const Case CASES[] = {
    {1, 1, 16, 1, {1}, {1}, 0, 0, 0, 0, 0, 0, 1},
    {1, 1, 64, 1, {65}, {65}, 1, 0, 0, 0, 0, 0, 1},
    {4, 1, 64, 2, {40, 17}, {40, 17}, 1, 0, 0, 8, 0, 0, 1},
    {4, 2, 16, 3, {5, 0, 70}, {5, 0, 70}, 1, 0, 0, 0, 0, 0, 1},
    {6, 2, 40, 3, {3, 97, 1}, {3, 97, 1}, 1, 0, 0, 4, 0, 0, 1},
    {2, 2, 64, 2, {130, 33}, {130, 33}, 0, 1, 1, 0, 0, 0, 1},
    {3, 3, 40, 3, {31, 0, 100}, {31, 0, 100}, 0, 1, 1, 8, 5, 0, 1},
    {2, 1, 128, 2, {70, 20}, {70, 20}, 1, 0, 0, 0, 0, 0, 1},
    {2, 2, 128, 1, {100}, {200}, 0, 0, 0, 3, 0, 0, 1},
    {2, 1, 16, 4, {4, 7, 0, 2}, {9, 300, 3, 0}, 0, 0, 0, 0, 0, 0, 1},
    {2, 1, 16, 3, {4, 7, 1}, {9, 200, 1}, 1, 0, 0, 0, 0, 0, 1},
    {2, 2, 24, 2, {9, 66}, {4, 60}, 1, 0, 0, 0, 0, 0, 1}, /* the first queries see no key */
    {3, 1, 7, 2, {20, 11}, {20, 11}, 1, 0, 0, 1, 0, 0, 1},
    {2, 2, 5, 2, {20, 130}, {20, 130}, 0, 1, 0, 1, 2, 0, 1},
    {2, 2, 32, 1, {90}, {90}, 0, 1, 1, 0, 0, 0, 20}, /* scores in the hundreds: the maximum must be taken off */
    {2, 2, 16, 0, {0}, {0}, 0, 0, 0, 0, 0, 0, 1},
    {2, 1, 48, 2, {150, 64}, {150, 64}, 1, 1, 1, 0, 0, 0, 1},
    {7, 1, 64, 2, {30, 64}, {30, 64}, 1, 0, 0, 0, 0, 0, 1},
    {5, 1, 80, 2, {33, 2}, {70, 2}, 1, 0, 0, 0, 0, 0, 1},
    {2, 1, 128, 1, {1}, {300}, 1, 0, 0, 0, 0, 0, 1},
    {2, 1, 64, 2, {20, 7}, {20, 7}, 1, 0, 0, 8, 0, 1, 1}, /* aligned rows in an unaligned place */
    {4, 2, 32, 2, {70, 9}, {70, 9}, 1, 1, 1, 0, 3, 0, 1}, /* a bias for each of the heads that share a key head */
};

/* Of bf16, whose outputs are rounded as are the probabilities; of fp32. */
static double output_tolerance(DType dtype) { return dtype == DTYPE_BF16 ? 2e-2 : 2e-5; }
static double gradient_tolerance(DType dtype) { return dtype == DTYPE_BF16 ? 1.5e-2 : 2e-5; }

typedef struct Call {
    Packs queries, keys;
    Pair q, k, v, bias, gate, out, lse;
} Call;

static Call call_of(Twin *t, const Case *p, bool lse) {
    t->shift = p->shift;
    Call c = {.queries = packs(t, p->queries, p->segments), .keys = packs(t, p->keys, p->segments)};
    Packed q = c.queries.on[CPU], k = c.keys.on[CPU];
    int64_t reach = (q.longest > k.longest ? q.longest : k.longest) + p->reach;
    c.q = pair_scaled(t, t->dtype, q.total, p->heads * p->dim, p->pad, p->size);
    c.k = pair_scaled(t, t->dtype, k.total, p->kv_heads * p->dim, p->pad, p->size);
    c.v = pair(t, k.total, p->kv_heads * p->dim, p->pad);
    c.bias = maybe_pair32(t, p->bias, p->heads, reach > 0 ? 2 * reach - 1 : 1, p->pad);
    c.gate = maybe_pair32(t, p->gate, q.total, p->heads, p->pad);
    c.out = pair(t, q.total, p->heads * p->dim, p->pad);
    c.lse = maybe_pair32(t, lse, q.total, p->heads, p->pad);
    return c;
}

static AttentionArgs args_of(const Call *c, const Case *p, int on) {
    return (AttentionArgs){.q = c->q.on[on],
                           .k = c->k.on[on],
                           .v = c->v.on[on],
                           .queries = c->queries.on[on],
                           .keys = c->keys.on[on],
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .dim = p->dim,
                           .scale = 1.0f / sqrtf((float)p->dim),
                           .causal = p->causal,
                           .bias = c->bias.on[on],
                           .gate = c->gate.on[on],
                           .out = c->out.on[on],
                           .lse = c->lse.on[on]};
}

static void forward_case(const Case *p, DType dtype, bool lse, float scale) {
    Twin t;
    twin_open(&t, dtype, 21);
    Call c = call_of(&t, p, lse);
    AttentionArgs a[SIDES] = {args_of(&c, p, GPU), args_of(&c, p, CPU)};
    a[GPU].scale *= scale, a[CPU].scale *= scale;
    TWIN_RUN(&t, attention, a);
    /* Rounding of fp32's scores grows with their size. */
    double tolerance = output_tolerance(dtype) * (dtype == DTYPE_F32 ? (double)(p->size * p->size) : 1.0);
    expect_twin(&t, "out", c.out, tolerance, tolerance);
    if (lse) expect_twin(&t, "lse", c.lse, 1e-5, 1e-4);
    twin_close(&t);
}

static void test_forward(DType dtype) {
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) forward_case(&CASES[i], dtype, i % 2 == 0, 1.0f);
    forward_case(&CASES[3], dtype, true, -1.0f);
    forward_case(&CASES[3], dtype, true, 0.0f);
    forward_case(&CASES[6], dtype, true, -1.0f);
}

static void test_forward_bf16(void **state) { (void)state, test_forward(DTYPE_BF16); }
static void test_forward_f32(void **state) { (void)state, test_forward(DTYPE_F32); }

/* Of one key, and of nothing else, the gradients of scores are zero but for rounding, and rounding has no norm to be
 * held to. */
static bool has_norm(Pair p) {
    double square = 0.0;
    for (int64_t r = 0; r < p.on[CPU].rows; r++)
        for (int64_t c = 0; c < p.on[CPU].cols; c++)
            square += pow(twin_load(p.on[CPU].data, p.on[CPU].dtype, r * p.on[CPU].ld + c), 2.0);
    return square > 1e-8 * (double)(p.on[CPU].rows * p.on[CPU].cols);
}

enum { POSITIONS = 50 };

static void expect_gradient(Twin *t, const char *what, Pair p) {
    double tolerance = gradient_tolerance(t->dtype);
    if (p.on[GPU].data && has_norm(p)) expect_twin_norm(t, what, p, tolerance);
    if (p.on[GPU].data) expect_twin(t, what, p, 4.0 * tolerance, 4.0 * tolerance);
}

/* `tables`: whether dbias and dgate are wanted where there is a bias; `rotated`: q and k were, by a table whose rows
 * lie `spare` floats further apart than they are long. */
static void gradient_case(const Case *p, DType dtype, bool tables, bool rotated, int spare) {
    Twin t;
    twin_open(&t, dtype, 22);
    Call c = call_of(&t, p, true);
    Packed q = c.queries.on[CPU], k = c.keys.on[CPU];
    Pair dout = pair(&t, q.total, p->heads * p->dim, p->pad), dq = pair(&t, q.total, p->heads * p->dim, p->pad);
    Pair dk = pair(&t, k.total, p->kv_heads * p->dim, p->pad), dv = pair(&t, k.total, p->kv_heads * p->dim, p->pad);
    Pair dbias = maybe_pair32(&t, tables && p->bias, c.bias.on[CPU].rows, c.bias.on[CPU].cols, p->pad);
    Pair dgate = maybe_pair32(&t, tables && p->gate, q.total, p->heads, p->pad);
    Pair rope = maybe_pair32(&t, rotated, POSITIONS, p->dim, spare);
    Table position = random_table(&t, q.total, POSITIONS);
    AttentionArgs a[SIDES] = {args_of(&c, p, GPU), args_of(&c, p, CPU)};
    TWIN_RUN(&t, attention, a);
    twin_adopt(&t, c.out);
    twin_adopt(&t, c.lse);
    TWIN_ARGS(AttentionBackwardArgs, b,
              {.forward = a[on],
               .dout = dout.on[on],
               .dq = dq.on[on],
               .dk = dk.on[on],
               .dv = dv.on[on],
               .dbias = dbias.on[on],
               .dgate = dgate.on[on],
               .rope = rope.on[on],
               .position = position.on[on]});
    TWIN_RUN(&t, attention_backward, b);
    expect_gradient(&t, "dq", dq);
    expect_gradient(&t, "dk", dk);
    expect_gradient(&t, "dv", dv);
    if (tables) expect_gradient(&t, "dbias", dbias);
    if (tables) expect_gradient(&t, "dgate", dgate);
    twin_close(&t);
}

static void test_gradients(DType dtype) {
    /* Where a softmax is all but one key, differences of what is rounded are all that is left. */
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (CASES[i].size == 1.0f) gradient_case(&CASES[i], dtype, i % 2 == 1 || CASES[i].pad == 8, false, 0);
}

static bool same_rows(const Case *p) {
    int32_t queries = 0, keys = 0;
    for (int s = 0; s < p->segments; s++) queries += p->queries[s], keys += p->keys[s];
    return queries == keys;
}

/* Gradients of what was rotated: in the kernels where a head fills a tile's columns, else after them. */
static void test_rotated(DType dtype) {
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (CASES[i].size == 1.0f && CASES[i].dim % 2 == 0 && same_rows(&CASES[i]))
            gradient_case(&CASES[i], dtype, i % 2 == 1, true, i % 3 ? 2 : 0);
    Case wide = {3, 3, 96, 2, {20, 50}, {20, 50}, 1, 0, 0, 0, 0, 0, 1};
    gradient_case(&wide, dtype, false, true, 0);
    gradient_case(&wide, dtype, false, true, 1); /* pairs of the table's numbers out of line */
    wide.dim = 128;
    gradient_case(&wide, dtype, false, true, 4);
}

static void test_rotated_bf16(void **state) { (void)state, test_rotated(DTYPE_BF16); }
static void test_rotated_f32(void **state) { (void)state, test_rotated(DTYPE_F32); }

/* A position that the table has not leaves NaN in its own row, as op_rope does, and nowhere else. */
static void test_no_such_position(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 26);
    Case p = {2, 1, 64, 1, {40}, {40}, 1, 0, 0, 0, 0, 0, 1};
    Call c = call_of(&t, &p, true);
    Pair dout = pair(&t, 40, 128, 0), dq = pair(&t, 40, 128, 0), dk = pair(&t, 40, 64, 0), dv = pair(&t, 40, 64, 0);
    Pair rope = pair32(&t, POSITIONS, 64, 0);
    int32_t positions[40] = {0};
    positions[7] = POSITIONS, positions[31] = -1;
    Table position = table(&t, positions, 40);
    AttentionArgs a[SIDES] = {args_of(&c, &p, GPU), args_of(&c, &p, CPU)};
    TWIN_RUN(&t, attention, a);
    TWIN_ARGS(AttentionBackwardArgs, b,
              {.forward = a[on],
               .dout = dout.on[on],
               .dq = dq.on[on],
               .dk = dk.on[on],
               .dv = dv.on[on],
               .rope = rope.on[on],
               .position = position.on[on]});
    TWIN_PASS(&t, attention_backward, b);
    twin_fetch(&t);
    for (int row = 0; row < 40; row++) {
        bool there = row != 7 && row != 31;
        for (int i = 0; i < 128; i++) assert_true(isnan(twin_at(&t, dq, GPU, row, i)) == !there);
        for (int i = 0; i < 64; i++) assert_true(isnan(twin_at(&t, dk, GPU, row, i)) == !there);
    }
    Error err = {0};
    assert_false(op_attention_backward(t.dev[CPU], &b[CPU], &err));
    assert_non_null(strstr(err.text, "position"));
    twin_close(&t);
}

static void test_gradients_bf16(void **state) { (void)state, test_gradients(DTYPE_BF16); }
static void test_gradients_f32(void **state) { (void)state, test_gradients(DTYPE_F32); }

/* ---- the cache ---- */

enum { SLOTS = 3, CAPACITY = 300 };

static void append_case(DType dtype, int64_t width, int pad, int shift) {
    Twin t;
    twin_open(&t, dtype, 23);
    t.shift = shift;
    const int32_t slots[] = {2, 0, 2, 1, 0}, positions[] = {0, 299, 1, 7, 5};
    Table slot = table(&t, slots, 5), position = table(&t, positions, 5);
    Pair k = pair(&t, 5, width, pad), v = pair(&t, 5, width, 0);
    Pair k_cache = pair(&t, SLOTS * CAPACITY, width, pad), v_cache = pair(&t, SLOTS * CAPACITY, width, 0);
    TWIN_ARGS(CacheAppendArgs, a,
              {.k = k.on[on],
               .v = v.on[on],
               .slot = slot.on[on],
               .position = position.on[on],
               .capacity = CAPACITY,
               .k_cache = k_cache.on[on],
               .v_cache = v_cache.on[on]});
    TWIN_RUN(&t, cache_append, a);
    expect_twin(&t, "k_cache", k_cache, 0.0, 0.0);
    expect_twin(&t, "v_cache", v_cache, 0.0, 0.0);
    twin_close(&t);
}

static void copy_case(DType dtype, int64_t width, int pad, int32_t count) {
    Twin t;
    twin_open(&t, dtype, 24);
    /* A swap, a spread of one slot to two, and a copy onto itself, all at once. */
    const int32_t from[] = {0, 1, 2, 2, 4}, to[] = {1, 0, 3, 2, 4}, lengths[] = {5, 3, 4, 5, 0};
    Table source = table(&t, from, 5), target = table(&t, to, 5), length = table(&t, lengths, 5);
    Pair k_cache = pair(&t, 5 * 5, width, pad), v_cache = pair(&t, 5 * 5, width, 0);
    TWIN_ARGS(CacheCopyArgs, a,
              {.from = source.on[on],
               .to = target.on[on],
               .length = length.on[on],
               .count = count,
               .capacity = 5,
               .k_cache = k_cache.on[on],
               .v_cache = v_cache.on[on]});
    TWIN_RUN(&t, cache_copy, a);
    expect_twin(&t, "k_cache", k_cache, 0.0, 0.0);
    expect_twin(&t, "v_cache", v_cache, 0.0, 0.0);
    twin_close(&t);
}

static void test_cache(void **state) {
    (void)state;
    const DType dtypes[] = {DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < 2; i++) {
        append_case(dtypes[i], 64, 0, 0);
        append_case(dtypes[i], 64, 8, 0);
        append_case(dtypes[i], 21, 2, 0);
        append_case(dtypes[i], 64, 0, 1);
        copy_case(dtypes[i], 72, 8, 5);
        copy_case(dtypes[i], 70, 2, 5);
        copy_case(dtypes[i], 8, 0, 0);
    }
}

/* The lengths: a row, more than are read at a time, some, none; at most `longest`, where that is little in one part. */
static void cached_case(DType dtype, int heads, int kv_heads, int dim, int pad, int32_t rows, int32_t longest) {
    Twin t;
    twin_open(&t, dtype, 25);
    const int32_t slots[] = {2, 1, 0, 1};
    int32_t lengths[] = {1, 300, 60, 0};
    for (int i = 0; i < 4; i++)
        if (lengths[i] > longest) lengths[i] = longest;
    Table slot = table(&t, slots, 4), length = table(&t, lengths, 4);
    Pair q = pair(&t, rows, heads * dim, pad), out = pair(&t, rows, heads * dim, pad);
    Pair k_cache = pair(&t, SLOTS * CAPACITY, kv_heads * dim, pad);
    Pair v_cache = pair(&t, SLOTS * CAPACITY, kv_heads * dim, pad);
    TWIN_ARGS(AttentionCachedArgs, a,
              {.q = q.on[on],
               .k_cache = k_cache.on[on],
               .v_cache = v_cache.on[on],
               .slot = slot.on[on],
               .length = length.on[on],
               .capacity = CAPACITY,
               .longest = longest,
               .heads = heads,
               .kv_heads = kv_heads,
               .dim = dim,
               .scale = 0.3f,
               .out = out.on[on]});
    TWIN_RUN(&t, attention_cached, a);
    expect_twin(&t, "cached", out, output_tolerance(dtype), output_tolerance(dtype));
    twin_close(&t);
}

static void test_cached(void **state) {
    (void)state;
    const DType dtypes[] = {DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < 2; i++) {
        cached_case(dtypes[i], 1, 1, 16, 0, 4, 300);
        cached_case(dtypes[i], 9, 3, 64, 0, 4, 300);
        cached_case(dtypes[i], 4, 1, 40, 3, 3, 300);
        cached_case(dtypes[i], 2, 2, 128, 8, 4, 300);
        cached_case(dtypes[i], 3, 1, 7, 1, 4, 300);
        cached_case(dtypes[i], 4, 2, 64, 0, 4, 20);
        cached_case(dtypes[i], 20, 1, 32, 0, 2, 300); /* more heads share a key head than a product has rows */
        cached_case(dtypes[i], 7, 1, 80, 0, 1, 300);
        cached_case(dtypes[i], 2, 1, 16, 0, 0, 300);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_bf16),     cmocka_unit_test(test_forward_f32),
        cmocka_unit_test(test_gradients_bf16),   cmocka_unit_test(test_gradients_f32),
        cmocka_unit_test(test_rotated_bf16),     cmocka_unit_test(test_rotated_f32),
        cmocka_unit_test(test_no_such_position), cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cached),
    };
    return cmocka_run_group_tests_name("attention on the CUDA device", tests, NULL, NULL);
}
