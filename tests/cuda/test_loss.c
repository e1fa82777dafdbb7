/* Cross-entropy, the greatest logits, the gradients' norm and AdamW of the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

typedef struct Logits {
    int n, vocab, pad, shift;
    float size;
    bool gradient;
} Logits;

/* Rows that a block keeps in registers, in shared memory, too, and those that are too long for both; rows that are no
 * vectors; exponentials that over- and underflow unless the maximum goes. */
static const Logits LOGITS[] = {
    {1, 1, 0, 0, 1.0f, true},        {5, 17, 2, 0, 10.0f, true},     {7, 264, 8, 0, 10.0f, true},
    {3, 104, 0, 0, 500.0f, true},    {9, 4104, 0, 0, 30.0f, true},   {9, 4104, 0, 0, 1.0f, false},
    {3, 4099, 5, 0, 30.0f, true},    {2, 41000, 0, 0, 10.0f, true},  {2, 40960, 8, 0, 10.0f, false},
    {1, 90112, 0, 0, 10.0f, true},   {1, 151936, 0, 0, 10.0f, true}, {1, 180008, 0, 0, 10.0f, true},
    {1, 180008, 0, 0, 10.0f, false}, {4, 512, 0, 3, 10.0f, true},    {0, 16, 0, 0, 1.0f, true}};

static void cross_entropy_case(const Logits *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 30);
    t.shift = p->shift;
    Pair logits = pair_scaled(&t, dtype, p->n, p->vocab, p->pad, p->size), row_loss = pair32(&t, 1, p->n, 0);
    Table target = random_table(&t, p->n, (uint32_t)p->vocab);
    TWIN_ARGS(CrossEntropyArgs, a,
              {.logits = logits.on[on],
               .target = target.on[on],
               .scale = 0.125f,
               .gradient = p->gradient,
               .row_loss = row_loss.on[on]});
    TWIN_RUN(&t, cross_entropy, a);
    expect_twin(&t, "loss", row_loss, 3e-6, 3e-6);
    if (p->gradient)
        expect_twin(&t, "gradient", logits, dtype == DTYPE_BF16 ? 0x1p-8 : 1e-5, 1e-7);
    else
        expect_twin(&t, "logits", logits, 0.0, 0.0);
    twin_close(&t);
}

static void test_cross_entropy(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LOGITS / sizeof *LOGITS; i++) {
        cross_entropy_case(&LOGITS[i], DTYPE_BF16);
        cross_entropy_case(&LOGITS[i], DTYPE_F32);
    }
}

/* Beside logits that are all far below 0 whatever is read past a row's end would be most of the sum. */
static void test_low_logits(void **state) {
    (void)state;
    static const int VOCABS[] = {264, 4104, 41000, 41001, 180008};
    for (size_t i = 0; i < 2 * sizeof VOCABS / sizeof *VOCABS; i++) {
        Twin t;
        twin_open(&t, i % 2 ? DTYPE_F32 : DTYPE_BF16, 37);
        int vocab = VOCABS[i / 2];
        Pair logits = pair(&t, 1, vocab, 0), row_loss = pair32(&t, 1, 1, 0);
        float *values = twin_host(&t, (size_t)vocab * sizeof *values);
        for (int c = 0; c < vocab; c++) values[c] = twin_draw(&t) - 40.0f;
        pair_set(&t, logits, values);
        Table target = random_table(&t, 1, (uint32_t)vocab);
        TWIN_ARGS(CrossEntropyArgs, a,
                  {.logits = logits.on[on], .target = target.on[on], .scale = 1.0f, .row_loss = row_loss.on[on]});
        TWIN_RUN(&t, cross_entropy, a);
        expect_twin(&t, "loss", row_loss, 3e-6, 3e-6);
        twin_close(&t);
    }
}

/* The CPU device names a target that is no token, the loss here says it by NaN; and so it does for logits that are
 * none. */
static void test_no_loss(void **state) {
    (void)state;
    const int32_t targets[] = {3, 264, -1, 5, 7};
    Twin t;
    twin_open(&t, DTYPE_BF16, 31);
    Pair logits = pair(&t, 5, 264, 0), row_loss = pair32(&t, 1, 5, 0);
    float *values = twin_host(&t, 5 * 264 * sizeof *values);
    for (int i = 0; i < 5 * 264; i++) values[i] = twin_draw(&t);
    values[3 * 264 + 100] = NAN;
    values[4 * 264 + 100] = -INFINITY;
    pair_set(&t, logits, values);
    Table target = table(&t, targets, 5);
    TWIN_ARGS(CrossEntropyArgs, a,
              {.logits = logits.on[on],
               .target = target.on[on],
               .scale = 1.0f,
               .gradient = true,
               .row_loss = row_loss.on[on]});
    TWIN_PASS(&t, cross_entropy, a);
    twin_fetch(&t);
    for (int r = 0; r < 5; r++) {
        bool lost = r == 1 || r == 2 || r == 3;
        assert_true(isnan(twin_at(&t, row_loss, GPU, 0, r)) == lost);
        for (int c = 0; c < 264; c++) assert_true(isnan(twin_at(&t, logits, GPU, r, c)) == lost);
    }
    assert_true(twin_at(&t, logits, GPU, 4, 100) == 0.0);
    twin_close(&t);
}

/* ---- the greatest logit ---- */

static Tensor as_int32(Tensor t) {
    t.dtype = DTYPE_I32;
    return t;
}

/* Rows of one part and of several, of whole vectors and not, of logits that are equal often and hardly ever. */
static const Logits GREEDY[] = {
    {1, 1, 0, 0, 1.0f, false},       {5, 17, 2, 0, 10.0f, false},     {7, 264, 8, 0, 0.01f, false},
    {3, 104, 0, 0, 500.0f, false},   {33, 9000, 0, 0, 30.0f, false},  {3, 33000, 8, 0, 1.0f, false},
    {2, 33003, 5, 0, 5.0f, false},   {64, 19008, 0, 0, 10.0f, false}, {1, 151936, 0, 0, 10.0f, false},
    {300, 16392, 0, 0, 1.0f, false}, {4, 512, 0, 3, 10.0f, false},    {0, 16, 0, 0, 1.0f, false}};

static void greedy_run(Twin *t, Pair logits) {
    int64_t n = logits.on[GPU].rows;
    Pair token = pair32(t, 1, n, 0), logit = pair32(t, 1, n, 0), log_sum = pair32(t, 1, n, 0);
    TWIN_ARGS(
        GreedyArgs, a,
        {.logits = logits.on[on], .token = as_int32(token.on[on]), .logit = logit.on[on], .log_sum = log_sum.on[on]});
    TWIN_RUN(t, greedy, a);
    expect_twin(t, "token", token, 0.0, 0.0); /* as floats of the same bits */
    expect_twin(t, "logit", logit, 0.0, 0.0);
    expect_twin(t, "log_sum", log_sum, 2e-6, 2e-6);
}

static void test_greedy(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof GREEDY / sizeof *GREEDY; i++)
        for (int half = 0; half < 2; half++) {
            const Logits *p = &GREEDY[i];
            Twin t;
            twin_open(&t, half ? DTYPE_BF16 : DTYPE_F32, 36);
            t.shift = p->shift;
            greedy_run(&t, pair_scaled(&t, t.dtype, p->n, p->vocab, p->pad, p->size));
            twin_close(&t);
        }
}

/* Of equal logits the lowest column, wherever the greatest lie: in one thread's vector, in two threads', in two
 * parts; and logits of -infinity. */
static void test_greedy_of_equals(void **state) {
    (void)state;
    enum { ROWS = 6, COLS = 33000 };
    static const int at[ROWS][2] = {{5, 6}, {300, 9000}, {8184, 24000}, {32999, 32998}, {0, 32999}, {16384, 16385}};
    for (int half = 0; half < 2; half++) {
        Twin t;
        twin_open(&t, half ? DTYPE_BF16 : DTYPE_F32, 37);
        Pair logits = pair(&t, ROWS, COLS, 0);
        float *values = twin_host(&t, (size_t)ROWS * COLS * sizeof *values);
        for (int i = 0; i < ROWS * COLS; i++) values[i] = i % 3 ? twin_draw(&t) : -INFINITY;
        for (int r = 0; r < ROWS; r++) values[r * COLS + at[r][0]] = values[r * COLS + at[r][1]] = 2.0f;
        pair_set(&t, logits, values);
        greedy_run(&t, logits);
        twin_close(&t);
    }
}

/* ---- the norm ---- */

static const struct {
    int rows, cols, pad, shift;
} SQUARES[] = {{1, 1, 0, 0}, {1, 100003, 0, 0}, {7, 333, 5, 0},   {0, 4, 0, 0},
               {1, 0, 0, 0}, {3, 20000, 4, 0},  {1, 70000, 0, 1}, {1, 16384, 0, 0}};

static void test_sum_squares(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof SQUARES / sizeof *SQUARES; i++) {
        Twin t;
        twin_open(&t, DTYPE_BF16, 32);
        t.shift = SQUARES[i].shift;
        Pair x = pair32(&t, SQUARES[i].rows, SQUARES[i].cols, SQUARES[i].pad);
        t.shift = 0;
        Pair out = pair_scaled(&t, DTYPE_F64, 1, 1, 0, 1.0f);
        TWIN_ARGS(SumSquaresArgs, a, {.x = x.on[on], .out = out.on[on]});
        TWIN_RUN(&t, sum_squares, a);
        expect_twin(&t, "sum", out, 1e-13, 0.0);
        twin_close(&t);
    }
}

/* ---- AdamW ---- */

typedef struct Optimizer {
    Pair param, grad, m, v, norm;
} Optimizer;

static Optimizer optimizer_of(Twin *t, int64_t total) {
    return (Optimizer){.param = pair32(t, 1, total, 0),
                       .grad = pair32(t, 1, total, 0),
                       .m = pair_scaled(t, DTYPE_F32, 1, total, 0, 0.0f),
                       .v = pair_scaled(t, DTYPE_F32, 1, total, 0, 0.0f),
                       .norm = pair_scaled(t, DTYPE_F64, 1, 1, 0, 0.0f)};
}

/* The norm's tensor is handed over where `clipped`. */
#define ADAMW_ARGS(a, o, list, number, clipped, most)                                                                  \
    TWIN_ARGS(AdamwArgs, a,                                                                                            \
              {.param = (o).param.on[on],                                                                              \
               .grad = (o).grad.on[on],                                                                                \
               .m = (o).m.on[on],                                                                                      \
               .v = (o).v.on[on],                                                                                      \
               .segments = (list),                                                                                     \
               .segment_count = (number),                                                                              \
               .beta1 = 0.9f,                                                                                          \
               .beta2 = 0.999f,                                                                                        \
               .eps = 1e-8f,                                                                                           \
               .grad_scale = 0.5f,                                                                                     \
               .norm_squared = (clipped) ? (o).norm.on[on] : (Tensor){0},                                              \
               .max_norm = (most)})

static void fill_gradients(Twin *t, Pair grad) {
    float *values = twin_host(t, (size_t)grad.on[GPU].cols * sizeof *values);
    for (int64_t i = 0; i < grad.on[GPU].cols; i++) values[i] = twin_draw(t);
    pair_set(t, grad, values);
}

static void expect_optimizer(Twin *t, const Optimizer *o) {
    expect_twin(t, "param", o->param, 1e-6, 1e-7);
    expect_twin(t, "m", o->m, 1e-6, 1e-8);
    expect_twin(t, "v", o->v, 1e-6, 1e-10);
}

/* Steps with a clipped norm, with one under the limit, without a limit and without a norm. */
static void adamw_steps(int64_t total, const AdamwSegment *segments, int count, int shift) {
    const double limits[] = {3.0, 1e9, 0.0, -1.0};
    Twin t;
    twin_open(&t, DTYPE_BF16, 33);
    t.shift = shift;
    Optimizer o = optimizer_of(&t, total);
    for (int step = 0; step < 4; step++) {
        fill_gradients(&t, o.grad);
        TWIN_ARGS(SumSquaresArgs, s, {.x = o.grad.on[on], .out = o.norm.on[on]});
        TWIN_RUN(&t, sum_squares, s);
        ADAMW_ARGS(a, o, segments, count, limits[step] >= 0.0, limits[step]);
        a[GPU].step = a[CPU].step = step + 1;
        TWIN_RUN(&t, adamw, a);
        expect_optimizer(&t, &o);
    }
    twin_close(&t);
}

/* Groups with rates of their own, a part left alone, one that is empty; offsets that are no vector's; more segments
 * than one launch takes. */
static void test_adamw(void **state) {
    (void)state;
    const AdamwSegment aligned[] = {{0, 100, 0.01f, 0.1f}, {152, 0, 1.0f, 1.0f}, {152, 9999, 0.002f, 0.0f}};
    const AdamwSegment odd[] = {{0, 100, 0.01f, 0.1f}, {150, 3001, 0.002f, 0.0f}};
    AdamwSegment many[300];
    for (int i = 0; i < 300; i++) many[i] = (AdamwSegment){64 * i, 1 + i % 64, 0.001f * (float)(i % 7), 0.01f};
    adamw_steps(10200, aligned, 3, 0);
    adamw_steps(3200, odd, 2, 0);
    adamw_steps(10200, aligned, 3, 1);
    adamw_steps(64 * 300, many, 300, 0);
    adamw_steps(8, NULL, 0, 0);
}

/* A norm that is not finite: nothing changes. */
static void test_adamw_skips(void **state) {
    (void)state;
    const AdamwSegment segments[] = {{0, 2000, 0.01f, 0.1f}};
    const float norms[] = {INFINITY, NAN};
    for (int i = 0; i < 2; i++) {
        Twin t;
        twin_open(&t, DTYPE_BF16, 34);
        Optimizer o = optimizer_of(&t, 2000);
        pair_set(&t, o.norm, &norms[i]);
        ADAMW_ARGS(a, o, segments, 1, true, 1.0 * i);
        a[GPU].step = a[CPU].step = 1;
        TWIN_RUN(&t, adamw, a);
        for (int b = 0; b < t.blocks; b++) assert_memory_equal(t.block[b].before, t.block[b].after, t.block[b].bytes);
        expect_optimizer(&t, &o);
        twin_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_low_logits),
        cmocka_unit_test(test_no_loss),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_greedy_of_equals),
        cmocka_unit_test(test_sum_squares),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adamw_skips),
    };
    return cmocka_run_group_tests_name("cuda loss", tests, NULL, NULL);
}
