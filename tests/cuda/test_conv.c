/* The speech front end's convolutions and the gate of the position bias: the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

/* Inputs are the same on both sides; what differs is the order of adding and, in bf16, the result's rounding. */
static double relative(const Twin *t) { return t->dtype == DTYPE_BF16 ? 5e-3 : 1e-5; }

typedef struct ConvCase {
    int cout, kernel, stride, segments;
    int32_t lengths[6], more[6]; /* rows past the whole windows */
    bool bias;
    Activation act;
    int pad, shift;
    bool normed;
} ConvCase;

static const ConvCase CONVS[] = {
    /* few samples to a window */
    {512, 10, 5, 3, {10, 400, 333}, {0, 1, 70}, 0, ACT_NONE, 0, 0, false},
    {32, 10, 5, 4, {9, 0, 14, 3000}, {1, 0, 0, 130}, 1, ACT_GELU, 0, 0, false},
    {33, 10, 5, 2, {150, 12}, {0}, 1, ACT_RELU, 0, 0, false},
    {96, 10, 5, 2, {150, 12}, {0}, 1, ACT_NONE, 8, 0, false},
    {600, 10, 5, 2, {64, 90}, {2, 0}, 1, ACT_GELU, 0, 0, false},
    {64, 16, 48, 2, {100, 700}, {0}, 1, ACT_NONE, 0, 1, false},
    {40, 1, 1, 2, {31, 64}, {0, 9}, 1, ACT_NONE, 0, 0, false},
    {40, 3, 7, 2, {31, 64}, {0}, 1, ACT_NONE, 0, 0, false}, /* a stride past the kernel skips samples */
    {24, 3, 2, 0, {0}, {0}, 1, ACT_GELU, 0, 0, false},
    /* normed: by the block that has all channels, or after */
    {512, 10, 5, 3, {10, 400, 3333}, {0, 1, 70}, 0, ACT_GELU, 0, 0, true},
    {512, 16, 40, 2, {900, 700}, {2, 0}, 1, ACT_NONE, 8, 0, true},
    {512, 10, 5, 2, {300, 12}, {0}, 1, ACT_RELU, 0, 1, true},
    {384, 10, 5, 2, {150, 12}, {1, 0}, 1, ACT_GELU, 0, 0, true},
    {520, 10, 5, 2, {150, 12}, {0, 3}, 0, ACT_GELU, 0, 0, true},
    {36, 20, 5, 2, {150, 21}, {0, 3}, 1, ACT_RELU, 2, 0, true},
    /* anything else */
    {64, 3, 2, 1, {700}, {3}, 1, ACT_NONE, 4, 0, false},
    {20, 4, 2, 2, {31, 8}, {0, 6}, 1, ACT_GELU, 2, 0, false},
    {40, 17, 5, 3, {200, 16, 33}, {0, 1, 1}, 1, ACT_RELU, 0, 1, false},
    {37, 400, 320, 2, {2000, 400}, {0, 2}, 0, ACT_GELU, 0, 0, false},
};

/* `bias_shift`: elements that the bias alone lies past where the case has it. */
static void conv_case(const ConvCase *p, DType dtype, int bias_shift) {
    Twin t;
    twin_open(&t, dtype, 20);
    t.shift = p->shift;
    int32_t out[6];
    for (int s = 0; s < p->segments; s++)
        out[s] = (p->lengths[s] < p->kernel ? 0 : (p->lengths[s] - p->kernel) / p->stride + 1) + p->more[s];
    Packs from = packs(&t, p->lengths, p->segments), to = packs(&t, out, p->segments);
    Pair x = pair(&t, from.on[CPU].total, 1, p->pad % 8); /* a whole octet is between rows of y alone */
    t.shift = p->shift + bias_shift;
    Pair bias = maybe_pair(&t, p->bias, 1, p->cout, 0);
    Pair gamma = maybe_pair(&t, p->normed, 1, p->cout, 0), beta = maybe_pair(&t, p->normed, 1, p->cout, 0);
    t.shift = p->shift;
    Pair weight = pair(&t, p->cout, p->kernel, p->pad), y = pair(&t, to.on[CPU].total, p->cout, p->pad);
    TWIN_ARGS(ConvArgs, a,
              {.x = x.on[on],
               .weight = weight.on[on],
               .bias = bias.on[on],
               .gamma = gamma.on[on],
               .beta = beta.on[on],
               .eps = 1e-5f,
               .kernel = p->kernel,
               .stride = p->stride,
               .in_segments = from.on[on],
               .out_segments = to.on[on],
               .act = p->act,
               .y = y.on[on]});
    TWIN_RUN(&t, conv, a);
    /* Between the convolution and a norm of its own y is rounded, to 8 bits of values of 1 or 2 deviations. */
    bool twice = p->normed && dtype == DTYPE_BF16 && (p->cout != 512 || p->shift);
    expect_twin(&t, "y", y, relative(&t), twice ? 1e-2 : 1e-5 * p->kernel);
    twin_close(&t);
}

static void test_conv(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CONVS / sizeof *CONVS; i++) {
        conv_case(&CONVS[i], DTYPE_BF16, 0);
        conv_case(&CONVS[i], DTYPE_F32, 0);
        if (CONVS[i].bias && CONVS[i].segments < 3) conv_case(&CONVS[i], DTYPE_BF16, 4);
    }
}

typedef struct PosCase {
    int width, groups, kernel, segments;
    int32_t lengths[4];
    int pad, shift;
} PosCase;

static const PosCase POS_CONVS[] = {
    {96, 2, 20, 3, {1, 70, 300}, 0, 0}, {64, 1, 128, 3, {40, 0, 1}, 0, 0}, {128, 2, 12, 1, {258}, 8, 0},
    {48, 1, 16, 2, {256, 100}, 16, 0},  {48, 1, 128, 1, {67}, 0, 0},       {64, 1, 8, 2, {5, 310}, 0, 0},
    {96, 2, 7, 2, {5, 31}, 0, 0},       {64, 1, 1, 1, {9}, 0, 0},          {64, 1, 128, 1, {20}, 0, 1},
    {32, 16, 128, 2, {40, 0}, 0, 0},    {20, 4, 8, 2, {5, 31}, 3, 0},      {20, 4, 7, 2, {5, 31}, 3, 0},
    {96, 1, 16, 1, {50}, 0, 0},         {5, 5, 1, 1, {9}, 0, 0},           {64, 1, 16, 0, {0}, 0, 0},
    {64, 1, 130, 1, {70}, 0, 0},
};

static void pos_case(const PosCase *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 21);
    t.shift = p->shift;
    int64_t w = p->width / p->groups;
    Packs segments = packs(&t, p->lengths, p->segments);
    int64_t rows = segments.on[CPU].total;
    Pair x = pair(&t, rows, p->width, p->pad), bias = pair(&t, 1, p->width, 0), y = pair(&t, rows, p->width, p->pad);
    Pair weight = pair_scaled(&t, dtype, p->width, p->kernel * w, p->pad, 0.2f);
    TWIN_ARGS(PosConvArgs, a,
              {.x = x.on[on],
               .weight = weight.on[on],
               .bias = bias.on[on],
               .kernel = p->kernel,
               .groups = p->groups,
               .segments = segments.on[on],
               .y = y.on[on]});
    TWIN_RUN(&t, pos_conv, a);
    expect_twin(&t, "y", y, relative(&t), 2e-5 + 1e-6 * (double)w * p->kernel);
    twin_close(&t);
}

static void test_pos_conv(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof POS_CONVS / sizeof *POS_CONVS; i++) {
        pos_case(&POS_CONVS[i], DTYPE_BF16);
        pos_case(&POS_CONVS[i], DTYPE_F32);
    }
}

typedef struct GateCase {
    int rows, heads, dim, pad, shift;
} GateCase;

static const GateCase GATES[] = {
    {1, 1, 16, 0, 0},  {100, 12, 64, 0, 0}, {37, 3, 41, 3, 0}, {0, 3, 41, 3, 0},  {33, 5, 24, 8, 0}, {20, 3, 128, 0, 0},
    {9, 2, 256, 0, 0}, {9, 2, 264, 0, 0},   {10, 4, 64, 0, 1}, {65, 1, 8, 16, 0}, {21, 2, 72, 0, 0},
};

static void rel_gate_case(const GateCase *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 22);
    t.shift = p->shift;
    Pair u = pair(&t, p->rows, p->heads * p->dim, p->pad), weight = pair(&t, 8, p->dim, p->pad);
    Pair bias = pair(&t, 1, 8, 0), scale = pair(&t, 1, p->heads, 0), gate = pair32(&t, p->rows, p->heads, p->pad);
    TWIN_ARGS(RelGateArgs, a,
              {.u = u.on[on],
               .weight = weight.on[on],
               .bias = bias.on[on],
               .scale = scale.on[on],
               .heads = p->heads,
               .gate = gate.on[on]});
    TWIN_RUN(&t, rel_gate, a);
    expect_twin(&t, "gate", gate, 1e-5, 2e-5);
    twin_close(&t);
}

static void test_rel_gate(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof GATES / sizeof *GATES; i++) {
        rel_gate_case(&GATES[i], DTYPE_BF16);
        rel_gate_case(&GATES[i], DTYPE_F32);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_pos_conv),
        cmocka_unit_test(test_rel_gate),
    };
    return cmocka_run_group_tests_name("convolutions on CUDA", tests, NULL, NULL);
}
