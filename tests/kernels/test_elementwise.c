/* Elementwise operations, dropout, noise, rotary positions; and the functions they are made of. */
#include "tests/kernels/support.h"

#include <float.h>

#include "kernels/cpu/vec.h"

static double gelu_slope_ref(double x) {
    return 0.5 * (1.0 + erf(x / sqrt(2.0))) + x * exp(-0.5 * x * x) / sqrt(2.0 * 3.14159265358979323846);
}

/* What kernels/cpu/vec.h promises, over the floats of its range. */
static void test_functions(void **state) {
    (void)state;
    double exp_ulp = 0.0, erf_error = 0.0, gelu_error = 0.0, slope_error = 0.0;
    for (float x = -87.2f; x < 88.0f; x += 0.000731f) {
        double want = exp((double)x);
        exp_ulp = fmax(exp_ulp, fabs((double)vec_exp(x) - want) / (want * 0x1p-23));
    }
    for (float x = -8.0f; x < 8.0f; x += 0.0000917f) {
        erf_error = fmax(erf_error, fabs((double)vec_erf(x) - erf((double)x)));
        gelu_error = fmax(gelu_error, fabs((double)vec_gelu(x) - act_ref((double)x, ACT_GELU)) / fabs((double)x));
        slope_error = fmax(slope_error, fabs((double)vec_gelu_slope(x) - gelu_slope_ref((double)x)));
    }
    print_message("vec_exp: %.2f ulp, vec_erf: %.2g, vec_gelu: %.2g of x, vec_gelu_slope: %.2g\n", exp_ulp, erf_error,
                  gelu_error, slope_error);
    assert_true(exp_ulp < 2.0);
    assert_true(erf_error < 4e-7);
    assert_true(gelu_error < 2.5e-7);
    assert_true(slope_error < 5e-7);
    double log_error = 0.0, turn_error = 0.0;
    for (float x = 1e-8f; x < 1e8f; x *= 1.00001f) {
        double want = log((double)x);
        log_error = fmax(log_error, fabs((double)vec_log(x) - want) / (1.0 + fabs(want)));
    }
    for (float u = 0.0f; u <= 1.0f; u += 0.0000131f) {
        float sine, cosine;
        vec_sincos_turn(u, &sine, &cosine);
        double angle = 2.0 * 3.14159265358979323846 * (double)u;
        turn_error = fmax(turn_error, fmax(fabs((double)sine - sin(angle)), fabs((double)cosine - cos(angle))));
    }
    print_message("vec_log: %.2g, vec_sincos_turn: %.2g\n", log_error, turn_error);
    assert_true(log_error < 1.2e-7);
    assert_true(turn_error < 1.5e-7);
    assert_true(vec_exp(0.0f) == 1.0f);
    assert_true(vec_exp(-INFINITY) == 0.0f);
    assert_true(vec_exp(-1000.0f) == 0.0f);
    assert_true(isfinite(vec_exp(1000.0f)) && vec_exp(1000.0f) > 1e38f);
    assert_true(isnan(vec_exp(NAN)));
    assert_true(isnan(vec_gelu(NAN)));
    assert_true(vec_sigmoid(100.0f) == 1.0f && vec_sigmoid(-100.0f) < 1e-37f);
    assert_true(fabsf(vec_gelu(50.0f) - 50.0f) < 1e-5f && fabsf(vec_gelu(-50.0f)) < 1e-5f);
    assert_true(isfinite(vec_gelu_slope(FLT_MAX / 4)) && isfinite(vec_gelu_slope(-1e18f)));
}

typedef struct Shape {
    int n, d, pad;
    bool alias;
} Shape;

static const Shape SHAPES[] = {{1, 1, 0, false}, {3, 17, 2, true},   {9, 64, 0, false},
                               {0, 5, 0, false}, {60, 700, 0, true}, {200, 333, 4, false}};

enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

static Tensor output(Bench *t, Tensor input, bool alias) {
    return alias ? input : tensor(t, input.rows, input.cols, input.ld - input.cols);
}

static void test_activation(void **state) {
    (void)state;
    for (int i = 0; i < 3 * SHAPE_COUNT; i++) {
        Shape p = SHAPES[i % SHAPE_COUNT];
        Activation act = (Activation)(i / SHAPE_COUNT);
        Bench t;
        bench_open(&t, 2, 41);
        ActivationArgs a = {.x = scaled(&t, p.n, p.d, p.pad, 5.0f), .act = act};
        ActivationBackwardArgs b = {.x = copy_of(&t, a.x), .dy = tensor(&t, p.n, p.d, p.pad), .act = act};
        int64_t count = (int64_t)p.n * p.d;
        double *x = doubles(&t, a.x), *dy = doubles(&t, b.dy), *y = zeros(&t, count), *dx = zeros(&t, count);
        for (int64_t e = 0; e < count; e++) {
            y[e] = act_ref(x[e], act);
            dx[e] = dy[e] * (act == ACT_GELU ? gelu_slope_ref(x[e]) : act == ACT_RELU && x[e] <= 0.0 ? 0.0 : 1.0);
        }
        a.y = output(&t, a.x, p.alias);
        b.dx = output(&t, b.dy, p.alias);
        RUN(&t, activation, &a);
        RUN(&t, activation_backward, &b);
        expect_close("y", a.y, y, 2e-6);
        expect_close("dx", b.dx, dx, 1e-6);
        bench_close(&t);
    }
}

/* There and back: what bf16 cannot hold is rounded to nearest even, as the scalar conversion does. */
static void test_convert(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 5);
    Tensor x = tensor(&t, 37, 21, 3), back = tensor(&t, 37, 21, 1);
    uint16_t *half = room(&t, 37 * 24 * sizeof *half);
    Tensor y = {.data = half, .dtype = DTYPE_BF16, .rows = 37, .cols = 21, .ld = 24};
    RUN(&t, convert, (&(ConvertArgs){.x = x, .y = y}));
    RUN(&t, convert, (&(ConvertArgs){.x = y, .y = back}));
    for (int64_t r = 0; r < 37; r++)
        for (int64_t c = 0; c < 21; c++) {
            assert_int_equal(half[r * 24 + c], f32_to_bf16(at(x, r, c)));
            assert_true(at(back, r, c) == bf16_to_f32(f32_to_bf16(at(x, r, c))));
        }
    REFUSED(&t, convert, (&(ConvertArgs){.x = x, .y = tensor(&t, 36, 21, 0)}), "y is [36, 21]");
    bench_close(&t);
}

static void test_add(void **state) {
    (void)state;
    for (int i = 0; i < SHAPE_COUNT; i++) {
        Shape p = SHAPES[i];
        Bench t;
        bench_open(&t, 2, 42);
        AddArgs a = {.a = tensor(&t, p.n, p.d, p.pad), .b = tensor(&t, p.n, p.d, p.pad), .alpha = 0.5f, .beta = -3.0f};
        double *x = doubles(&t, a.a), *z = doubles(&t, a.b);
        for (int64_t e = 0; e < (int64_t)p.n * p.d; e++) x[e] = 0.5 * x[e] - 3.0 * z[e];
        a.y = output(&t, i % 2 ? a.a : a.b, p.alias);
        RUN(&t, add, &a);
        expect_close("y", a.y, x, 1e-6);
        bench_close(&t);
    }
}

/* Masks are the generator's own words, and a row's mask does not depend on where the row lies. */
static void test_dropout(void **state) {
    (void)state;
    for (int i = 0; i < SHAPE_COUNT; i++) {
        Shape p = SHAPES[i];
        Bench t;
        bench_open(&t, 2, 43);
        DropoutArgs a = {.x = tensor(&t, p.n, p.d, p.pad), .dropout = dropout_key(&t, p.n, i == 2 ? 0.0f : 0.3f)};
        double *x = doubles(&t, a.x);
        int64_t kept = 0;
        for (int64_t r = 0; r < p.n; r++)
            for (int64_t c = 0; c < p.d; c++) {
                double mask = mask_ref(&a.dropout, r, c, p.d);
                x[r * p.d + c] *= mask;
                kept += mask > 0.0;
            }
        a.y = output(&t, a.x, p.alias);
        RUN(&t, dropout, &a);
        expect_close("y", a.y, x, 1e-6);
        if (i == 5) assert_true(fabs((double)kept / (p.n * p.d) - 0.7) < 0.01);
        bench_close(&t);
    }
}

static void test_noise(void **state) {
    (void)state;
    for (int i = 0; i < SHAPE_COUNT; i++) {
        Shape p = SHAPES[i];
        Bench t;
        bench_open(&t, 2, 44);
        NoiseArgs a = {.x = tensor(&t, p.n, p.d, p.pad), .sigma = 0.25f, .key = dropout_key(&t, p.n, 0.0f)};
        double *want = doubles(&t, a.x), sum = 0.0, square = 0.0;
        for (int64_t r = 0; r < p.n; r++)
            for (int64_t c = 0; c < p.d; c++) {
                uint64_t e = (uint64_t)a.key.position[r] * (uint64_t)p.d + (uint64_t)c;
                Philox block =
                    philox(a.key.seed, (uint32_t)(e / 4), a.key.place, (uint32_t)a.key.sample[r], a.key.step);
                float pair[2];
                rng_normal_pair(block.word[e % 4 / 2 * 2], block.word[e % 4 / 2 * 2 + 1], &pair[0], &pair[1]);
                want[r * p.d + c] += 0.25 * (double)pair[e % 2];
                sum += (double)pair[e % 2];
                square += (double)pair[e % 2] * (double)pair[e % 2];
            }
        a.y = output(&t, a.x, p.alias);
        RUN(&t, noise, &a);
        expect_close("y", a.y, want, 1e-6);
        double count = p.n * p.d;
        if (i == 5) assert_true(fabs(sum / count) < 0.02 && fabs(square / count - 1.0) < 0.02);
        bench_close(&t);
    }
}

static void rope_case(int n, int heads, int dim, int pad) {
    Bench t;
    bench_open(&t, 2, 45);
    enum { POSITIONS = 40 };
    RopeArgs a = {.x = tensor(&t, n, heads * dim, pad),
                  .position = integers(&t, n, POSITIONS),
                  .table = tensor(&t, POSITIONS, dim, pad),
                  .heads = heads,
                  .dim = dim};
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t f = 0; f < dim / 2; f++) {
            double angle = (double)p * pow(10000.0, -2.0 * (double)f / dim);
            ((float *)a.table.data)[p * a.table.ld + f] = (float)cos(angle);
            ((float *)a.table.data)[p * a.table.ld + dim / 2 + f] = (float)sin(angle);
        }
    double *x = doubles(&t, a.x), *want = zeros(&t, (int64_t)n * heads * dim);
    for (int r = 0; r < n; r++)
        for (int h = 0; h < heads; h++)
            for (int f = 0; f < dim / 2; f++) {
                double angle = a.position[r] * pow(10000.0, -2.0 * f / dim);
                int64_t low = ((int64_t)r * heads + h) * dim + f, high = low + dim / 2;
                want[low] = x[low] * cos(angle) - x[high] * sin(angle);
                want[high] = x[high] * cos(angle) + x[low] * sin(angle);
            }
    RUN(&t, rope, &a);
    expect_close("x", a.x, want, 1e-6);
    a.inverse = true;
    RUN(&t, rope, &a);
    expect_close("back", a.x, x, 1e-6);
    if (n) {
        ((int32_t *)a.position)[n - 1] = POSITIONS;
        REFUSED(&t, rope, &a, "longer than planned");
    }
    bench_close(&t);
}

static void test_rope(void **state) {
    (void)state;
    rope_case(1, 1, 2, 0);
    rope_case(50, 9, 64, 0);
    rope_case(17, 3, 40, 5);
    rope_case(300, 2, 128, 0);
    rope_case(0, 2, 16, 0);
}

static void test_refusals(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 46);
    AddArgs add = {.a = tensor(&t, 2, 3, 0), .b = tensor(&t, 3, 2, 0), .y = tensor(&t, 2, 3, 0)};
    REFUSED(&t, add, &add, "b is [3, 2], expected [2, 3]");
    ActivationArgs act = {.x = add.a, .y = add.y, .act = (Activation)9};
    REFUSED(&t, activation, &act, "activation");
    DropoutArgs drop = {.x = add.a, .y = add.y, .dropout = {.p = 0.5f}};
    REFUSED(&t, dropout, &drop, "table");
    drop.dropout.p = NAN;
    REFUSED(&t, dropout, &drop, "probability");
#ifndef SEMOLLM_CUDA
    assert_null(device_open(DEVICE_CUDA, 0, &t.err));
    assert_non_null(strstr(t.err.text, "CPU device alone"));
#endif
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions), cmocka_unit_test(test_activation), cmocka_unit_test(test_convert),
        cmocka_unit_test(test_add),       cmocka_unit_test(test_dropout),    cmocka_unit_test(test_noise),
        cmocka_unit_test(test_rope),      cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("elementwise", tests, NULL, NULL);
}
