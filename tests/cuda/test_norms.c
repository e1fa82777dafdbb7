/* Norms over rows and over time, means of segments: the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

/* bf16 rounds results. */
static double relative(const Twin *t) { return t->dtype == DTYPE_BF16 ? 8e-3 : 1e-5; }
static double absolute(const Twin *t) { return t->dtype == DTYPE_BF16 ? 8e-3 : 1e-5; }

typedef struct Case {
    int n, d, groups;
    bool stats, parameters, bypass;
    int alias; /* 0: none; 1: y is x, dx is dy; 2: the bypass is dx */
    Activation act;
    int pad, shift;
} Case;

static const Case CASES[] = {
    {1, 1, 1, 0, 1, 0, 0, ACT_NONE, 0, 0},      {1, 576, 1, 1, 0, 0, 0, ACT_NONE, 0, 0},
    {7, 33, 1, 1, 1, 1, 0, ACT_GELU, 5, 0},     {50, 768, 12, 1, 1, 1, 0, ACT_NONE, 0, 0},
    {9, 64, 4, 0, 0, 1, 1, ACT_RELU, 3, 0},     {9, 64, 1, 1, 1, 1, 2, ACT_NONE, 0, 0},
    {40, 130, 2, 1, 1, 0, 1, ACT_NONE, 1, 0},   {0, 16, 1, 1, 1, 1, 0, ACT_NONE, 0, 0},
    {65, 1024, 8, 1, 1, 1, 1, ACT_GELU, 8, 0},  {3, 70, 7, 1, 1, 1, 2, ACT_NONE, 0, 0},
    {17, 1024, 1, 1, 0, 1, 0, ACT_NONE, 0, 0},  {20, 2048, 16, 0, 0, 1, 0, ACT_GELU, 0, 0},
    {19, 1536, 1, 1, 1, 1, 0, ACT_NONE, 16, 0}, {18, 3584, 1, 1, 0, 1, 1, ACT_NONE, 0, 0},
    {9, 8192, 1, 1, 0, 0, 0, ACT_RELU, 0, 0},   {3, 9001, 1, 1, 1, 1, 0, ACT_NONE, 2, 0},
    {2, 16384, 1, 1, 0, 1, 0, ACT_NONE, 0, 0},  {33, 256, 2, 1, 1, 1, 0, ACT_GELU, 0, 1},
    {300, 8, 1, 1, 1, 0, 1, ACT_NONE, 0, 0},    {5, 128, 128, 1, 1, 0, 0, ACT_NONE, 0, 0},
    {3, 9001, 1, 1, 0, 1, 0, ACT_NONE, 2, 0},   {70, 512, 1, 1, 1, 0, 1, ACT_NONE, 0, 0},
    {17000, 8, 1, 1, 1, 1, 1, ACT_NONE, 0, 0},  {5, 1032, 1, 1, 1, 1, 0, ACT_GELU, 3, 0},
    {4, 2041, 1, 1, 1, 1, 0, ACT_NONE, 1, 0},   {9, 2048, 1, 1, 0, 1, 1, ACT_RELU, 8, 1},
    {300, 512, 1, 0, 0, 0, 1, ACT_GELU, 8, 0},  {150, 1024, 1, 1, 0, 0, 1, ACT_NONE, 0, 0},
    {70, 3584, 1, 1, 0, 0, 0, ACT_NONE, 8, 0},  {21, 4096, 1, 0, 0, 0, 1, ACT_GELU, 0, 0},
};

enum { COUNT = sizeof CASES / sizeof *CASES };

/* Over all cases and both types. */
static void over_cases(void (*check)(Twin *t, const Case *p)) {
    for (int dtype = 0; dtype < 2; dtype++)
        for (int i = 0; i < COUNT; i++) {
            Twin t;
            twin_open(&t, dtype ? DTYPE_F32 : DTYPE_BF16, 30 + (uint32_t)i);
            t.shift = CASES[i].shift;
            check(&t, &CASES[i]);
            twin_close(&t);
        }
}

static void layer_norm_case(Twin *t, const Case *p) {
    Pair x = pair(t, p->n, p->d, p->pad);
    Pair gamma = pair(t, 1, p->d, 0), beta = pair(t, 1, p->d, 0);
    Pair mean = maybe_pair32(t, p->stats, 1, p->n, 0), rstd = maybe_pair32(t, p->stats, 1, p->n, 0);
    Pair y = p->alias == 1 ? x : pair(t, p->n, p->d, p->pad);
    TWIN_ARGS(LayerNormArgs, a,
              {.x = x.on[on],
               .gamma = gamma.on[on],
               .beta = beta.on[on],
               .eps = 1e-5f,
               .act = p->act,
               .y = y.on[on],
               .mean = mean.on[on],
               .rstd = rstd.on[on]});
    TWIN_RUN(t, layer_norm, a);
    expect_twin(t, "y", y, relative(t), absolute(t));
    if (p->stats) expect_twin(t, "mean", mean, 0.0, 1e-5);
    if (p->stats) expect_twin(t, "rstd", rstd, 1e-5, 0.0);
}

static void test_layer_norm(void **state) {
    (void)state;
    over_cases(layer_norm_case);
}

static void rms_norm_case(Twin *t, const Case *p) {
    Pair x = pair(t, p->n, p->d, p->pad);
    Pair gamma = pair(t, 1, p->d / p->groups, 0), rstd = maybe_pair32(t, p->stats, p->n, p->groups, p->pad);
    Pair y = p->alias == 1 ? x : pair(t, p->n, p->d, p->pad);
    TWIN_ARGS(
        RmsNormArgs, a,
        {.x = x.on[on], .gamma = gamma.on[on], .eps = 1e-5f, .groups = p->groups, .y = y.on[on], .rstd = rstd.on[on]});
    TWIN_RUN(t, rms_norm, a);
    expect_twin(t, "y", y, relative(t), absolute(t));
    if (p->stats) expect_twin(t, "rstd", rstd, 1e-5, 0.0);
}

static void test_rms_norm(void **state) {
    (void)state;
    over_cases(rms_norm_case);
}

/* In F32 and with gradients of parameters, backward holds half the columns in registers. */
static bool is_too_wide(const Twin *t, const Case *p) {
    return p->d / p->groups > 8192 && (t->dtype == DTYPE_F32 || p->parameters);
}

/* What the gradients of frozen parameters and of frozen inputs leave: all, dx alone, parameters alone. */
static void layer_norm_backward_case(Twin *t, const Case *p) {
    if (is_too_wide(t, p)) return;
    Pair x = pair(t, p->n, p->d, p->pad), gamma = pair(t, 1, p->d, 0), dy = pair(t, p->n, p->d, p->pad);
    Pair mean = pair32(t, 1, p->n, 0), rstd = pair32(t, 1, p->n, 0);
    Pair bypass = maybe_pair(t, p->bypass, p->n, p->d, p->pad);
    Pair dgamma = maybe_pair32(t, p->parameters, 1, p->d, 0), dbeta = maybe_pair32(t, p->parameters, 1, p->d, 0);
    bool frozen = p->parameters && !p->bypass && !p->alias;
    Pair dx = p->alias == 1 ? dy : p->alias == 2 && p->bypass ? bypass : maybe_pair(t, !frozen, p->n, p->d, p->pad);
    TWIN_ARGS(LayerNormBackwardArgs, a,
              {.x = x.on[on],
               .gamma = gamma.on[on],
               .mean = mean.on[on],
               .rstd = rstd.on[on],
               .dy = dy.on[on],
               .dx = dx.on[on],
               .residual_grad = bypass.on[on],
               .dgamma = dgamma.on[on],
               .dbeta = dbeta.on[on]});
    TWIN_RUN(t, layer_norm_backward, a);
    if (!frozen) expect_twin(t, "dx", dx, relative(t), absolute(t));
    if (p->parameters) expect_twin(t, "dgamma", dgamma, 1e-5, 1e-4);
    if (p->parameters) expect_twin(t, "dbeta", dbeta, 1e-5, 1e-4);
}

static void test_layer_norm_backward(void **state) {
    (void)state;
    over_cases(layer_norm_backward_case);
}

static void rms_norm_backward_case(Twin *t, const Case *p) {
    if (is_too_wide(t, p)) return;
    Pair x = pair(t, p->n, p->d, p->pad), gamma = pair(t, 1, p->d / p->groups, 0);
    Pair dy = pair(t, p->n, p->d, p->pad), rstd = pair32(t, p->n, p->groups, p->pad);
    Pair bypass = maybe_pair(t, p->bypass, p->n, p->d, p->pad);
    Pair dgamma = maybe_pair32(t, p->parameters, 1, p->d / p->groups, 0);
    bool frozen = p->parameters && !p->bypass && !p->alias;
    Pair dx = p->alias == 1 ? dy : p->alias == 2 && p->bypass ? bypass : maybe_pair(t, !frozen, p->n, p->d, p->pad);
    TWIN_ARGS(RmsNormBackwardArgs, a,
              {.x = x.on[on],
               .gamma = gamma.on[on],
               .rstd = rstd.on[on],
               .dy = dy.on[on],
               .groups = p->groups,
               .dx = dx.on[on],
               .residual_grad = bypass.on[on],
               .dgamma = dgamma.on[on]});
    TWIN_RUN(t, rms_norm_backward, a);
    if (!frozen) expect_twin(t, "dx", dx, relative(t), absolute(t));
    if (p->parameters) expect_twin(t, "dgamma", dgamma, 1e-5, 1e-4);
}

static void test_rms_norm_backward(void **state) {
    (void)state;
    over_cases(rms_norm_backward_case);
}

static void test_too_wide(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 60);
    Pair x = pair(&t, 1, 16392, 0);
    TWIN_ARGS(RmsNormArgs, a, {.x = x.on[on], .gamma = x.on[on], .groups = 1, .y = x.on[on]});
    assert_false(op_rms_norm(t.dev[GPU], &a[GPU], &t.err));
    assert_non_null(strstr(t.err.text, "16392"));
    t.err = (Error){0};
    Pair wide = pair(&t, 1, 8200, 0), rstd = pair32(&t, 1, 1, 0), dgamma = pair32(&t, 1, 8200, 0);
    TWIN_ARGS(RmsNormBackwardArgs, b,
              {.x = wide.on[on],
               .gamma = wide.on[on],
               .rstd = rstd.on[on],
               .dy = wide.on[on],
               .groups = 1,
               .dgamma = dgamma.on[on]});
    assert_ok(device_reserve_scratch(t.dev[GPU], rms_norm_backward_scratch(t.dev[GPU], &b[GPU]), &t.err), &t.err);
    assert_false(op_rms_norm_backward(t.dev[GPU], &b[GPU], &t.err));
    assert_non_null(strstr(t.err.text, "8200"));
    twin_close(&t);
}

typedef struct TimeCase {
    int cols, segments;
    int32_t lengths[5];
    float offset;
    Activation act;
    bool in_place;
    int pad, shift;
} TimeCase;

static const TimeCase TIMES[] = {
    {1, 4, {1, 0, 300, 129}, 0.0f, ACT_NONE, false, 0, 0},
    {70, 4, {1, 0, 30, 129}, 0.0f, ACT_GELU, false, 3, 0},
    {512, 3, {128, 5, 270}, 0.0f, ACT_GELU, true, 0, 0},
    {64, 2, {200, 256}, 30.0f, ACT_RELU, false, 0, 0},
    {300, 2, {0, 140}, 0.0f, ACT_NONE, false, 4, 0},
    {264, 3, {64, 65, 1}, 0.0f, ACT_NONE, true, 0, 1},
    {48, 0, {0}, 0.0f, ACT_NONE, false, 0, 0},
    {16, 2, {0, 0}, 0.0f, ACT_NONE, false, 0, 0},
};

enum { TIME_COUNT = sizeof TIMES / sizeof *TIMES };

static void over_times(void (*check)(Twin *t, const TimeCase *p)) {
    for (int dtype = 0; dtype < 2; dtype++)
        for (int i = 0; i < TIME_COUNT; i++) {
            Twin t;
            twin_open(&t, dtype ? DTYPE_F32 : DTYPE_BF16, 70 + (uint32_t)i);
            t.shift = TIMES[i].shift;
            check(&t, &TIMES[i]);
            twin_close(&t);
        }
}

static Pair offset_pair(Twin *t, int64_t rows, int64_t cols, int64_t pad, float offset) {
    Pair p = pair(t, rows, cols, pad);
    float *values = twin_host(t, (size_t)(rows * cols) * sizeof *values);
    for (int64_t i = 0; i < rows * cols; i++) values[i] = offset + twin_draw(t);
    pair_set(t, p, values);
    return p;
}

static void segment_norm_case(Twin *t, const TimeCase *p) {
    int32_t few[5]; /* rows that are counted: two thirds, so that slices end before the segment, or begin past them */
    for (int s = 0; s < p->segments; s++) few[s] = (2 * p->lengths[s] + 2) / 3;
    Packs segments = packs(t, p->lengths, p->segments), counted = packs(t, few, p->segments);
    Pair x = offset_pair(t, segments.on[CPU].total, p->cols, p->pad, p->offset);
    Pair gamma = pair(t, 1, p->cols, 0), beta = pair(t, 1, p->cols, 0);
    Pair y = p->in_place ? x : pair(t, segments.on[CPU].total, p->cols, p->pad);
    TWIN_ARGS(SegmentNormArgs, a,
              {.x = x.on[on],
               .segments = segments.on[on],
               .counted = counted.on[on],
               .gamma = gamma.on[on],
               .beta = beta.on[on],
               .eps = 1e-5f,
               .act = p->act,
               .y = y.on[on]});
    TWIN_RUN(t, segment_norm, a);
    expect_twin(t, "y", y, relative(t), p->offset > 0.0f && t->dtype == DTYPE_F32 ? 3e-5 : absolute(t));
}

static void test_segment_norm(void **state) {
    (void)state;
    over_times(segment_norm_case);
}

static void segment_mean_case(Twin *t, const TimeCase *p) {
    Packs segments = packs(t, p->lengths, p->segments);
    Pair x = pair(t, segments.on[CPU].total, p->cols, p->pad), y = pair(t, p->segments, p->cols, p->pad);
    TWIN_ARGS(SegmentMeanArgs, a, {.x = x.on[on], .segments = segments.on[on], .y = y.on[on]});
    TWIN_RUN(t, segment_mean, a);
    expect_twin(t, "y", y, relative(t), 1e-6);
    Pair dy = pair(t, p->segments, p->cols, p->pad), dx = pair(t, segments.on[CPU].total, p->cols, p->pad);
    TWIN_ARGS(SegmentMeanBackwardArgs, b, {.dy = dy.on[on], .segments = segments.on[on], .dx = dx.on[on]});
    TWIN_RUN(t, segment_mean_backward, b);
    expect_twin(t, "dx", dx, relative(t), 1e-6);
}

static void test_segment_mean(void **state) {
    (void)state;
    over_times(segment_mean_case);
}

static void wave_norm_case(DType dtype, int x_pad, int y_pad, bool in_place) {
    Twin t;
    twin_open(&t, dtype, 80);
    const int32_t lengths[] = {9000, 0, 1, 77, 4096};
    Packs segments = packs(&t, lengths, 5);
    int64_t rows = segments.on[CPU].total;
    Pair x = pair_scaled(&t, DTYPE_F32, rows, 1, x_pad, 0.01f), y = in_place ? x : pair(&t, rows, 1, y_pad);
    TWIN_ARGS(WaveNormArgs, a, {.x = x.on[on], .segments = segments.on[on], .y = y.on[on]});
    TWIN_RUN(&t, wave_norm, a);
    expect_twin(&t, "y", y, relative(&t), 1e-5);
    twin_close(&t);
}

static void test_wave_norm(void **state) {
    (void)state;
    wave_norm_case(DTYPE_BF16, 0, 0, false);
    wave_norm_case(DTYPE_BF16, 1, 2, false);
    wave_norm_case(DTYPE_F32, 0, 1, false);
    wave_norm_case(DTYPE_F32, 0, 0, true);
}

static size_t wave_norm_room(const Twin *t, const int32_t *cu, int32_t count) {
    Packed segments = packed_of(cu, count);
    WaveNormArgs a = {.segments = segments};
    a.x.rows = segments.total;
    return wave_norm_scratch(t->dev[GPU], &a);
}

/* What is reserved for segments of one length does for as many of other lengths with as many samples. */
static void test_wave_norm_room(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 81);
    const int32_t mixed[] = {0, 240000, 241000, 242000, 242001}, equal[] = {0, 60501, 121002, 181503, 242004};
    assert_true(wave_norm_room(&t, mixed, 4) <= wave_norm_room(&t, equal, 4));
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wave_norm_room),      cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_layer_norm_backward), cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_rms_norm_backward),   cmocka_unit_test(test_too_wide),
        cmocka_unit_test(test_segment_norm),        cmocka_unit_test(test_segment_mean),
        cmocka_unit_test(test_wave_norm),
    };
    return cmocka_run_group_tests_name("norms on CUDA", tests, NULL, NULL);
}
