/* Operations that move or mix rows, the loss, and the optimizer. */
#include "tests/kernels/support.h"

#include <math.h>
#include <sys/wait.h>

static void gather_scatter_case(int64_t n, int64_t d, int64_t pad, bool accumulate) {
    Bench t;
    bench_open(&t, 2, 50);
    int64_t rows = 2 * n + 3;
    int32_t *index = room(&t, (size_t)(n ? n : 1) * sizeof *index);
    uint32_t *order = room(&t, (size_t)rows * sizeof *order);
    rng_permutation(&t.rng, order, (uint32_t)rows);
    for (int64_t i = 0; i < n; i++) index[i] = i % 5 == 3 ? -1 - (int32_t)i : (int32_t)order[i];
    GatherRowsArgs g = {.x = tensor(&t, rows, d, pad), .index = index, .y = tensor(&t, n, d, 0)};
    ScatterRowsArgs s = {
        .x = tensor(&t, n, d, 0), .index = index, .accumulate = accumulate, .y = tensor(&t, rows, d, pad)};
    double *gathered = zeros(&t, n * d), *scattered = doubles(&t, s.y);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d && index[i] >= 0; c++) {
            gathered[i * d + c] = (double)at(g.x, index[i], c);
            double *to = &scattered[index[i] * d + c];
            *to = (accumulate ? *to : 0.0) + (double)at(s.x, i, c);
        }
    RUN(&t, gather_rows, &g);
    RUN(&t, scatter_rows, &s);
    expect_close("gathered", g.y, gathered, 0.0);
    expect_close("scattered", s.y, scattered, 1e-7);
    if (n) {
        index[n - 1] = (int32_t)rows;
        REFUSED(&t, gather_rows, &g, "past");
        REFUSED(&t, scatter_rows, &s, "past");
    }
    bench_close(&t);
}

static void test_gather_scatter(void **state) {
    (void)state;
    gather_scatter_case(1, 1, 0, false);
    gather_scatter_case(7, 33, 4, true);
    gather_scatter_case(100, 576, 0, false);
    gather_scatter_case(0, 8, 0, true);
}

static void stack_case(int k, int64_t h, int64_t side, int64_t pad) {
    Bench t;
    bench_open(&t, 2, 51);
    const int32_t lengths[] = {7, 0, 1, 40, 4};
    int32_t stacked[5];
    for (int s = 0; s < 5; s++) stacked[s] = (lengths[s] + k - 1) / k;
    Packed frames = packed(&t, lengths, 5), rows = packed(&t, stacked, 5);
    StackFramesArgs a = {.x = tensor(&t, frames.total, h, pad),
                         .side = maybe(&t, side > 0, frames.total, side, pad),
                         .frames = frames,
                         .rows = rows,
                         .k = k,
                         .y = tensor(&t, rows.total, k * (h + side), pad)};
    StackFramesBackwardArgs b = {.dy = tensor(&t, rows.total, k * (h + side), pad),
                                 .frames = frames,
                                 .rows = rows,
                                 .k = k,
                                 .side = (int)side,
                                 .dx = tensor(&t, frames.total, h, pad)};
    double *y = zeros(&t, rows.total * k * (h + side)), *dx = zeros(&t, frames.total * h);
    for (int s = 0; s < 5; s++)
        for (int64_t f = 0; f < lengths[s]; f++) {
            int64_t row = rows.host[s] + f / k, first = f % k * (h + side), from = frames.host[s] + f;
            for (int64_t c = 0; c < h + side; c++)
                y[row * k * (h + side) + first + c] = (double)(c < h ? at(a.x, from, c) : at(a.side, from, c - h));
            for (int64_t c = 0; c < h; c++) dx[from * h + c] = (double)at(b.dy, row, first + c);
        }
    RUN(&t, stack_frames, &a);
    RUN(&t, stack_frames_backward, &b);
    expect_close("y", a.y, y, 0.0);
    expect_close("dx", b.dx, dx, 0.0);
    a.k = k + 1;
    REFUSED(&t, stack_frames, &a, "expected");
    bench_close(&t);
}

static void test_stack_frames(void **state) {
    (void)state;
    stack_case(1, 3, 0, 0);
    stack_case(4, 20, 2, 3);
    stack_case(5, 768, 0, 0);
    stack_case(3, 16, 1, 0);
}

typedef struct Mix {
    int count;
    int64_t elements;
    double *state[LAYER_MIX_MAX], *weight, *y;
    const double *dy;
} Mix;

static double mix_loss(const void *context) {
    const Mix *x = context;
    double most = -INFINITY, sum = 0.0, loss = 0.0;
    for (int i = 0; i < x->count; i++) most = fmax(most, x->weight[i]);
    for (int i = 0; i < x->count; i++) sum += exp(x->weight[i] - most);
    for (int64_t e = 0; e < x->elements; e++) {
        x->y[e] = 0.0;
        for (int i = 0; i < x->count; i++) x->y[e] += exp(x->weight[i] - most) / sum * x->state[i][e];
        loss += x->dy[e] * x->y[e];
    }
    return loss;
}

static void mix_case(int count, int64_t n, int64_t h, int64_t pad) {
    Bench t;
    bench_open(&t, 2, 52);
    LayerMixArgs a = {.count = count, .weight = scaled(&t, 1, count, 0, 3.0f), .y = tensor(&t, n, h, pad)};
    LayerMixBackwardArgs b = {
        .count = count, .weight = a.weight, .dy = tensor(&t, n, h, pad), .dweight = tensor(&t, 1, count, 0)};
    Mix want = {.count = count,
                .elements = n * h,
                .weight = doubles(&t, a.weight),
                .y = zeros(&t, n * h),
                .dy = doubles(&t, b.dy)};
    for (int i = 0; i < count; i++) {
        a.state[i] = b.state[i] = tensor(&t, n, h, pad);
        want.state[i] = doubles(&t, a.state[i]);
    }
    double *before = doubles(&t, b.dweight), *dweight = zeros(&t, count);
    differentiate(want.weight, count, mix_loss, &want, dweight);
    for (int i = 0; i < count; i++) dweight[i] += before[i];
    mix_loss(&want);
    RUN(&t, layer_mix, &a);
    RUN(&t, layer_mix_backward, &b);
    expect_close("y", a.y, want.y, 1e-6);
    expect_close("dweight", b.dweight, dweight, 1e-5);
    bench_close(&t);
}

static void test_layer_mix(void **state) {
    (void)state;
    mix_case(1, 3, 8, 0);
    mix_case(13, 40, 70, 3);
    mix_case(25, 10, 128, 0);
    mix_case(3, 0, 8, 0);
}

static void test_segment_mean(void **state) {
    (void)state;
    for (int64_t d = 1; d < 700; d = d * 3 + 2) {
        Bench t;
        bench_open(&t, 2, 53);
        const int32_t lengths[] = {1, 0, 100, 7};
        Packed segments = packed(&t, lengths, 4);
        SegmentMeanArgs a = {.x = tensor(&t, segments.total, d, 2), .segments = segments, .y = tensor(&t, 4, d, 1)};
        SegmentMeanBackwardArgs b = {
            .dy = tensor(&t, 4, d, 1), .segments = segments, .dx = tensor(&t, segments.total, d, 0)};
        double *y = zeros(&t, 4 * d), *dx = zeros(&t, segments.total * d);
        for (int s = 0; s < 4; s++)
            for (int64_t r = segments.host[s]; r < segments.host[s + 1]; r++)
                for (int64_t c = 0; c < d; c++) {
                    y[s * d + c] += (double)at(a.x, r, c) / lengths[s];
                    dx[r * d + c] = (double)at(b.dy, s, c) / lengths[s];
                }
        RUN(&t, segment_mean, &a);
        RUN(&t, segment_mean_backward, &b);
        expect_close("y", a.y, y, 1e-6);
        expect_close("dx", b.dx, dx, 1e-6);
        bench_close(&t);
    }
}

static void cross_entropy_case(int64_t n, int64_t vocab, int64_t pad, float size, bool gradient) {
    Bench t;
    bench_open(&t, 2, 54);
    CrossEntropyArgs a = {.logits = scaled(&t, n, vocab, pad, size),
                          .target = integers(&t, n, (uint32_t)vocab),
                          .scale = 0.125f,
                          .gradient = gradient,
                          .row_loss = tensor(&t, 1, n, 0)};
    double *x = doubles(&t, a.logits), *loss = zeros(&t, n), *want = doubles(&t, a.logits);
    for (int64_t r = 0; r < n; r++) {
        double most = -INFINITY, sum = 0.0;
        for (int64_t c = 0; c < vocab; c++) most = fmax(most, x[r * vocab + c]);
        for (int64_t c = 0; c < vocab; c++) sum += exp(x[r * vocab + c] - most);
        loss[r] = log(sum) + most - x[r * vocab + a.target[r]];
        for (int64_t c = 0; c < vocab && gradient; c++)
            want[r * vocab + c] = 0.125 * (exp(x[r * vocab + c] - most) / sum - (c == a.target[r] ? 1.0 : 0.0));
    }
    RUN(&t, cross_entropy, &a);
    expect_close("loss", a.row_loss, loss, 2e-6);
    expect_close("logits", a.logits, want, 1e-6);
    if (n) {
        ((int32_t *)a.target)[0] = (int32_t)vocab;
        REFUSED(&t, cross_entropy, &a, "vocabulary");
    }
    bench_close(&t);
}

static void test_cross_entropy(void **state) {
    (void)state;
    cross_entropy_case(1, 1, 0, 1.0f, true);
    cross_entropy_case(5, 17, 2, 10.0f, true);
    cross_entropy_case(40, 4099, 0, 30.0f, true);
    cross_entropy_case(40, 1000, 5, 1.0f, false);
    cross_entropy_case(3, 100, 0, 500.0f, true); /* exponentials over- and underflow unless the maximum goes */
    cross_entropy_case(0, 9, 0, 1.0f, true);
}

static void greedy_case(int64_t n, int64_t vocab, int64_t pad, float size) {
    Bench t;
    bench_open(&t, 2, 56);
    GreedyArgs a = {
        .logits = scaled(&t, n, vocab, pad, size), .logit = tensor(&t, 1, n, 0), .log_sum = tensor(&t, 1, n, 0)};
    int32_t *token = room(&t, (size_t)(n ? n : 1) * sizeof *token);
    a.token = tensor_of(token, DTYPE_I32, 1, n);
    for (int64_t r = 0; r < n; r++)
        ((float *)a.logits.data)[r * a.logits.ld + vocab / 2] = 1.0f + size; /* also twice */
    for (int64_t r = 0; r < n; r += 2) ((float *)a.logits.data)[r * a.logits.ld + vocab / 3] = 1.0f + size;
    double *x = doubles(&t, a.logits), *most = zeros(&t, n), *log_sum = zeros(&t, n);
    for (int64_t r = 0; r < n; r++) {
        double sum = 0.0;
        most[r] = -INFINITY;
        for (int64_t c = 0; c < vocab; c++) most[r] = fmax(most[r], x[r * vocab + c]);
        for (int64_t c = 0; c < vocab; c++) sum += exp(x[r * vocab + c] - most[r]);
        log_sum[r] = log(sum) + most[r];
    }
    RUN(&t, greedy, &a);
    expect_close("logit", a.logit, most, 0.0);
    expect_close("log_sum", a.log_sum, log_sum, 2e-6);
    for (int64_t r = 0; r < n; r++) assert_int_equal(token[r], r % 2 ? vocab / 2 : vocab / 3);
    a.logits.cols = 0;
    REFUSED(&t, greedy, &a, "vocabulary");
    bench_close(&t);
}

static void test_greedy(void **state) {
    (void)state;
    greedy_case(1, 1, 0, 1.0f);
    greedy_case(5, 17, 2, 10.0f);
    greedy_case(40, 4099, 0, 30.0f);
    greedy_case(3, 100, 5, 500.0f);
    greedy_case(0, 9, 0, 1.0f);
}

static void test_sum_squares(void **state) {
    (void)state;
    const struct {
        int64_t rows, cols, pad;
    } shapes[] = {{1, 1, 0}, {1, 100003, 0}, {7, 333, 5}, {0, 4, 0}, {1, 0, 0}, {3, 20000, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Bench t;
        bench_open(&t, 1, 55);
        double got = -1.0, other = -1.0, want = 0.0;
        Tensor out = tensor_of(&got, DTYPE_F64, 1, 1);
        SumSquaresArgs a = {.x = tensor(&t, shapes[i].rows, shapes[i].cols, shapes[i].pad), .out = out};
        for (int64_t r = 0; r < a.x.rows; r++)
            for (int64_t c = 0; c < a.x.cols; c++) want += (double)at(a.x, r, c) * (double)at(a.x, r, c);
        RUN(&t, sum_squares, &a);
        if (fabs(got - want) > 1e-12 * (1.0 + want)) fail_msg("case %zu: %.17g, expected %.17g", i, got, want);
        Bench more; /* the same bits with other threads */
        bench_open(&more, 3, 55);
        a.out.data = &other;
        RUN(&more, sum_squares, &a);
        assert_memory_equal(&got, &other, sizeof got);
        bench_close(&more);
        bench_close(&t);
    }
}

/* torch.optim.AdamW's steps in double, for five steps with two groups and a part left alone. */
static void test_adamw(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 56);
    enum { TOTAL = 40000 };
    const AdamwSegment segments[] = {{0, 100, 0.01f, 0.1f}, {150, TOTAL - 150, 0.002f, 0.0f}};
    AdamwArgs a = {.param = tensor(&t, 1, TOTAL, 0),
                   .grad = tensor(&t, 1, TOTAL, 0),
                   .m = scaled(&t, 1, TOTAL, 0, 0.0f),
                   .v = scaled(&t, 1, TOTAL, 0, 0.0f),
                   .segments = segments,
                   .segment_count = 2,
                   .beta1 = 0.9f,
                   .beta2 = 0.999f,
                   .eps = 1e-8f,
                   .grad_scale = 0.5f};
    double *p = doubles(&t, a.param), *m = zeros(&t, TOTAL), *v = zeros(&t, TOTAL);
    for (a.step = 1; a.step <= 5; a.step++) {
        for (int i = 0; i < TOTAL; i++) ((float *)a.grad.data)[i] = draw(&t);
        double correction1 = 1.0 - pow(0.9, (double)a.step), correction2 = 1.0 - pow(0.999, (double)a.step);
        for (int s = 0; s < 2; s++)
            for (int64_t i = segments[s].offset; i < segments[s].offset + segments[s].count; i++) {
                double g = 0.5 * (double)at(a.grad, 0, i), lr = (double)segments[s].lr;
                p[i] *= 1.0 - lr * (double)segments[s].decay;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                p[i] -= lr * (m[i] / correction1) / (sqrt(v[i] / correction2) + 1e-8);
            }
        RUN(&t, adamw, &a);
        expect_close("param", a.param, p, 2e-6);
        expect_close("m", a.m, m, 1e-6);
        expect_close("v", a.v, v, 1e-6);
    }
    const AdamwSegment outside = {10, TOTAL, 0.1f, 0.0f};
    a.segments = &outside;
    a.segment_count = 1;
    REFUSED(&t, adamw, &a, "outside");
    bench_close(&t);
}

/* Clipped by the norm the device found: as with the scale that torch would have multiplied gradients by, to the bit. A
 * norm within the limit changes nothing, one that is not finite leaves everything as it was. */
static void test_adamw_clips(void **state) {
    (void)state;
    const struct {
        double max_norm, norm_factor; /* what the norm is multiplied by before it is handed over */
        bool clips, skips;
    } cases[] = {{0.5, 1.0, true, false},         {1e9, 1.0, false, false},
                 {0.0, 1.0, false, false},        {0.5, (double)INFINITY, false, true},
                 {0.5, (double)NAN, false, true}, {0.0, (double)NAN, false, true}};
    const AdamwSegment segments[] = {{0, 1000, 0.01f, 0.1f}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Bench t;
        bench_open(&t, 2, 58);
        double squares;
        AdamwArgs a = {.param = tensor(&t, 1, 1000, 0),
                       .grad = tensor(&t, 1, 1000, 0),
                       .m = tensor(&t, 1, 1000, 0),
                       .v = scaled(&t, 1, 1000, 0, 0.0f),
                       .segments = segments,
                       .segment_count = 1,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-8f,
                       .grad_scale = 0.25f,
                       .step = 3};
        AdamwArgs b = a;
        b.param = copy_of(&t, a.param), b.m = copy_of(&t, a.m), b.v = copy_of(&t, a.v);
        a.norm_squared = tensor_of(&squares, DTYPE_F64, 1, 1);
        a.max_norm = cases[i].max_norm;
        RUN(&t, sum_squares, (&(SumSquaresArgs){.x = a.grad, .out = a.norm_squared}));
        if (cases[i].clips) b.grad_scale *= (float)(0.5 / (0.25 * sqrt(squares) + 1e-6));
        squares *= cases[i].norm_factor;
        RUN(&t, adamw, &a);
        if (!cases[i].skips) RUN(&t, adamw, &b);
        expect_same("param", a.param, b.param);
        expect_same("m", a.m, b.m);
        expect_same("v", a.v, b.v);
        bench_close(&t);
    }
}

/* Memory comes zeroed and aligned, moves both ways, and scratch keeps the largest size asked for. */
static void test_device(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 0, 57);
    assert_int_equal(device_kind(t.dev), DEVICE_CPU);
    assert_int_equal(device_dtype(t.dev), DTYPE_F32);
    unsigned char *memory = device_alloc(t.dev, 1000, &t.err), back[1000], sent[1000];
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 256, 0);
    for (int i = 0; i < 1000; i++) assert_int_equal(memory[i], 0), sent[i] = (unsigned char)(i * 7);
    assert_true(device_upload(t.dev, memory, sent, 1000, &t.err));
    assert_true(device_fill_zero(t.dev, memory, 10, &t.err));
    assert_true(device_download(t.dev, back, memory, 1000, &t.err));
    assert_memory_equal(back + 10, sent + 10, 990);
    assert_int_equal(back[9], 0);
    assert_true(device_wait(t.dev, &t.err));
    device_free(t.dev, memory);
    void *none = device_alloc(t.dev, 0, &t.err);
    assert_non_null(none);
    device_free(t.dev, none);
    assert_null(device_alloc(t.dev, SIZE_MAX - 3, &t.err));
    assert_non_null(strstr(t.err.text, "device memory"));
    assert_true(device_reserve_scratch(t.dev, 1 << 20, &t.err));
    assert_true(device_reserve_scratch(t.dev, 10, &t.err));
    bench_close(&t);
}

/* A program that calls it first goes on with idle threads that sleep; a user's own choice stays. */
static int calm_run(const char *policy) {
    pid_t child = fork();
    if (child == 0) {
        if (policy)
            setenv("OMP_WAIT_POLICY", policy, 1);
        else
            unsetenv("OMP_WAIT_POLICY");
        execl("/proc/self/exe", "test_rows", "calm", policy ? policy : "passive", (char *)NULL);
        _exit(99);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_calm(void **state) {
    (void)state;
    assert_int_equal(calm_run(NULL), 0);
    assert_int_equal(calm_run("active"), 0);
}

int main(int argc, char **argv) {
    if (argc == 3) { /* the child of test_calm */
        device_calm_idle_threads(argv);
        const char *policy = getenv("OMP_WAIT_POLICY");
        return policy && !strcmp(policy, argv[2]) ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather_scatter), cmocka_unit_test(test_stack_frames),  cmocka_unit_test(test_layer_mix),
        cmocka_unit_test(test_segment_mean),   cmocka_unit_test(test_cross_entropy), cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_sum_squares),    cmocka_unit_test(test_adamw),         cmocka_unit_test(test_adamw_clips),
        cmocka_unit_test(test_device),         cmocka_unit_test(test_calm),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
