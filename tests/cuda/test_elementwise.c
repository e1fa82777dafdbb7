/* Elementwise operations, dropout, noise and rotary positions of the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

typedef struct Shape {
    int n, d, pad, shift;
    bool alias;
} Shape;

/* Dense and aligned, dense with a tail, rows apart, rows that begin anywhere, nothing at all. */
static const Shape SHAPES[] = {
    {1, 1, 0, 0, false},  {3, 17, 2, 0, true},   {9, 64, 0, 0, false},   {1, 1003, 0, 0, true}, {0, 8, 0, 0, false},
    {5, 0, 8, 0, false},  {7, 40, 8, 0, true},   {7, 44, 4, 0, false},   {6, 333, 3, 0, false}, {6, 333, 0, 0, true},
    {4, 136, 0, 1, true}, {4, 136, 8, 4, false}, {40, 1000, 24, 0, true}};

enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

static Pair of_shape(Twin *t, const Shape *s, float scale) {
    return pair_scaled(t, t->dtype, s->n, s->d, s->pad, scale);
}

static Pair output(Twin *t, const Shape *s, Pair input) { return s->alias ? input : of_shape(t, s, 1.0f); }

static Pair pair_cols(Pair p, int64_t first, int64_t count) {
    for (int on = 0; on < SIDES; on++) p.on[on] = tensor_cols(p.on[on], first, count);
    return p;
}

static void each_shape(void (*check)(Twin *t, const Shape *s)) {
    for (int i = 0; i < 2 * SHAPE_COUNT; i++) {
        Twin t;
        twin_open(&t, i % 2 ? DTYPE_F32 : DTYPE_BF16, 10);
        t.shift = SHAPES[i / 2].shift;
        check(&t, &SHAPES[i / 2]);
        twin_close(&t);
    }
}

static void activation_shape(Twin *t, const Shape *s) {
    for (int act = ACT_NONE; act <= ACT_RELU; act++) {
        Pair x = of_shape(t, s, 6.0f), y = output(t, s, x);
        TWIN_ARGS(ActivationArgs, a, {.x = x.on[on], .y = y.on[on], .act = (Activation)act});
        TWIN_RUN(t, activation, a);
        expect_rounded(t, "y", y);
        Pair z = of_shape(t, s, 6.0f), dy = of_shape(t, s, 1.0f), dx = output(t, s, dy);
        TWIN_ARGS(ActivationBackwardArgs, b, {.x = z.on[on], .dy = dy.on[on], .dx = dx.on[on], .act = (Activation)act});
        TWIN_RUN(t, activation_backward, b);
        expect_rounded(t, "dx", dx);
    }
}

static void test_activation(void **state) {
    (void)state;
    each_shape(activation_shape);
    const float values[] = {0.0f, -0.0f, 50.0f, -50.0f, 80.0f, -80.0f, 1e-30f, NAN, 3.9f, -5.6f};
    for (int act = ACT_NONE; act <= ACT_RELU; act++) {
        Twin t;
        twin_open(&t, act ? DTYPE_BF16 : DTYPE_F32, 12);
        Pair x = pair(&t, 1, 10, 0), y = pair(&t, 1, 10, 0);
        pair_set(&t, x, values);
        TWIN_ARGS(ActivationArgs, a, {.x = x.on[on], .y = y.on[on], .act = (Activation)act});
        TWIN_RUN(&t, activation, a);
        expect_twin(&t, "y", y, 0x1p-8, 4e-7 * 80.0); /* GELU is within 2.5e-7 of x on the CPU */
        twin_close(&t);
    }
}

static void add_shape(Twin *t, const Shape *s) {
    for (int wide = 0; wide < 2; wide++) {
        DType dtype = wide ? DTYPE_F32 : t->dtype;
        Pair x = pair_scaled(t, dtype, s->n, s->d, s->pad, 1.0f), z = pair_scaled(t, dtype, s->n, s->d, s->pad, 1.0f);
        Pair y = s->alias ? (s->n % 2 ? x : z) : pair_scaled(t, dtype, s->n, s->d, s->pad, 1.0f);
        TWIN_ARGS(AddArgs, a, {.a = x.on[on], .b = z.on[on], .y = y.on[on], .alpha = 0.5f, .beta = -3.0f});
        TWIN_RUN(t, add, a);
        expect_rounded(t, "y", y);
    }
}

static void test_add(void **state) {
    (void)state;
    each_shape(add_shape);
}

/* Every pair of dtypes. The CPU side of a bf16 tensor is F32 here: what came out is what bf16 can hold of it. */
static void convert_shape(Twin *t, const Shape *s) {
    const DType dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; i < 4; i++) {
        Pair x = pair_scaled(t, dtypes[i % 2], s->n, s->d, s->pad, 1.0f);
        Pair y = pair_scaled(t, dtypes[i / 2], s->n, s->d, s->pad, 1.0f);
        TWIN_ARGS(ConvertArgs, a, {.x = x.on[on], .y = y.on[on]});
        TWIN_RUN(t, convert, a);
        for (int64_t r = 0; r < s->n; r++)
            for (int64_t c = 0; c < s->d; c++) {
                float value = (float)twin_at(t, x, CPU, r, c), got = (float)twin_at(t, y, GPU, r, c);
                assert_true(got == (dtypes[i / 2] == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(value)) : value));
            }
    }
}

static void test_convert(void **state) {
    (void)state;
    each_shape(convert_shape);
}

/* ---- random numbers ---- */

/* Positions of the size of a step's, and one so large that the element's number wants 64 bits. */
static Table positions(Twin *t, int64_t rows) {
    int32_t *values = twin_host(t, (size_t)rows * sizeof *values);
    for (int64_t r = 0; r < rows; r++) values[r] = r == 1 ? 2147483600 : (int32_t)rng_below(&t->rng, 500);
    return table(t, values, rows);
}

static Dropout key_of(float p, const int32_t *sample, const int32_t *position) {
    return (Dropout){
        .p = p, .seed = 0x123456789abcdefull, .step = 3, .place = PLACE_LORA, .sample = sample, .position = position};
}

/* What is dropped is dropped on both devices. */
static void expect_same_mask(Twin *t, Pair y) {
    for (int64_t r = 0; r < y.on[GPU].rows; r++)
        for (int64_t c = 0; c < y.on[GPU].cols; c++)
            if ((twin_at(t, y, GPU, r, c) == 0.0) != (twin_at(t, y, CPU, r, c) == 0.0))
                fail_msg("element [%lld, %lld] is dropped on one device only", (long long)r, (long long)c);
}

static void dropout_shape(Twin *t, const Shape *s) {
    const float chances[] = {0.0f, 0.1f, 0.5f, 1e-9f, 0.999f, 0x1.fffffep-1f};
    Table sample = random_table(t, s->n, 1000), position = positions(t, s->n);
    for (int i = 0; i < 6; i++) {
        Pair x = of_shape(t, s, 1.0f), y = output(t, s, x);
        float *ones = twin_host(t, (size_t)(s->n * s->d) * sizeof *ones);
        for (int e = 0; e < s->n * s->d; e++) ones[e] = 1.0f + (float)(e % 64) / 64.0f;
        pair_set(t, x, ones);
        TWIN_ARGS(DropoutArgs, a,
                  {.x = x.on[on], .y = y.on[on], .dropout = key_of(chances[i], sample.on[on], position.on[on])});
        TWIN_RUN(t, dropout, a);
        expect_rounded(t, "y", y);
        expect_same_mask(t, y);
    }
}

static void noise_shape(Twin *t, const Shape *s) {
    Pair x = of_shape(t, s, 1.0f), y = output(t, s, x);
    Table sample = random_table(t, s->n, 1000), position = positions(t, s->n);
    TWIN_ARGS(NoiseArgs, a,
              {.x = x.on[on], .y = y.on[on], .sigma = 0.25f, .key = key_of(0.0f, sample.on[on], position.on[on])});
    TWIN_RUN(t, noise, a);
    expect_rounded(t, "y", y);
}

static void test_random(void **state) {
    (void)state;
    each_shape(dropout_shape);
    each_shape(noise_shape);
}

/* ---- rotary positions ---- */

enum { POSITIONS = 40 };

static Pair rope_table(Twin *t, int dim, int pad) {
    Pair angles = pair32(t, POSITIONS, dim, pad);
    float *values = twin_host(t, (size_t)(POSITIONS * dim) * sizeof *values);
    for (int p = 0; p < POSITIONS; p++)
        for (int f = 0; f < dim / 2; f++) {
            double angle = p * pow(10000.0, -2.0 * f / dim);
            values[p * dim + f] = (float)cos(angle);
            values[p * dim + dim / 2 + f] = (float)sin(angle);
        }
    pair_set(t, angles, values);
    return angles;
}

typedef struct RopeCase {
    int n, heads, dim, pad, table_pad, shift;
} RopeCase;

static const RopeCase ROPES[] = {{1, 1, 2, 0, 0, 0},   {50, 9, 64, 0, 0, 0},  {17, 3, 40, 5, 0, 0},
                                 {17, 3, 16, 8, 4, 0}, {3, 28, 128, 0, 0, 0}, {0, 2, 16, 0, 0, 0},
                                 {5, 4, 64, 0, 1, 0},  {5, 4, 64, 0, 0, 2},   {300, 2, 32, 0, 0, 0}};

static void rope_case(const RopeCase *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 13);
    t.shift = p->shift;
    Pair x = pair(&t, p->n, p->heads * p->dim, p->pad), angles = rope_table(&t, p->dim, p->table_pad);
    Table position = random_table(&t, p->n, POSITIONS);
    for (int inverse = 0; inverse < 2; inverse++) {
        TWIN_ARGS(RopeArgs, a,
                  {.x = x.on[on],
                   .position = position.on[on],
                   .table = angles.on[on],
                   .heads = p->heads,
                   .dim = p->dim,
                   .inverse = inverse});
        TWIN_RUN(&t, rope, a);
        expect_rounded(&t, "x", x);
        twin_adopt(&t, x);
    }
    twin_close(&t);
}

/* With rows enough that one thread takes all heads of its frequencies. */
static void test_rope(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ROPES / sizeof *ROPES; i++) {
        rope_case(&ROPES[i], DTYPE_BF16);
        rope_case(&ROPES[i], DTYPE_F32);
    }
    rope_case(&(RopeCase){9000, 3, 128, 0, 0, 0}, DTYPE_BF16);
}

/* Query heads as columns of the buffer of all three projections: the others stay as they were. */
static void test_rope_view(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 14);
    Pair all = pair(&t, 21, 6 * 32, 0), x = pair_cols(all, 32, 3 * 32), angles = rope_table(&t, 32, 0);
    Table position = random_table(&t, 21, POSITIONS);
    TWIN_ARGS(RopeArgs, a, {.x = x.on[on], .position = position.on[on], .table = angles.on[on], .heads = 3, .dim = 32});
    TWIN_RUN(&t, rope, a);
    expect_rounded(&t, "the buffer", all);
    twin_close(&t);
}

/* The CPU device names a position past the table; here the row says it by NaN, and its neighbours do not. */
static void test_rope_past_table(void **state) {
    (void)state;
    const int32_t past[] = {1, POSITIONS, 2, -1};
    Twin t;
    twin_open(&t, DTYPE_BF16, 15);
    Pair x = pair(&t, 4, 2 * 32, 0), angles = rope_table(&t, 32, 0);
    Table position = table(&t, past, 4);
    TWIN_ARGS(RopeArgs, a, {.x = x.on[on], .position = position.on[on], .table = angles.on[on], .heads = 2, .dim = 32});
    TWIN_PASS(&t, rope, a);
    twin_fetch(&t);
    for (int64_t r = 0; r < 4; r++)
        for (int64_t c = 0; c < 64; c++) assert_true(isnan(twin_at(&t, x, GPU, r, c)) == r % 2);
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activation),      cmocka_unit_test(test_add),  cmocka_unit_test(test_convert),
        cmocka_unit_test(test_random),          cmocka_unit_test(test_rope), cmocka_unit_test(test_rope_view),
        cmocka_unit_test(test_rope_past_table),
    };
    return cmocka_run_group_tests_name("cuda elementwise", tests, NULL, NULL);
}
