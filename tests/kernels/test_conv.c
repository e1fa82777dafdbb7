/* The speech front end: convolutions, normalisation over time, the gate of the position bias. */
#include "tests/kernels/support.h"

/* Sums of up to 4096 products, relative to the largest result. */
static const double TOLERANCE = 3e-6;

typedef struct ConvCase {
    int cout, kernel, stride, segments;
    int32_t lengths[6], more[6]; /* rows past the whole windows */
    bool bias;
    Activation act;
    int pad;
    bool normed;
} ConvCase;

static const ConvCase CONVS[] = {
    {512, 10, 5, 3, {10, 400, 333}, {0, 3, 70}, 0, ACT_NONE, 0, false},
    {32, 10, 5, 4, {9, 0, 14, 1000}, {1, 0, 0, 2}, 1, ACT_GELU, 0, false},
    {33, 10, 5, 2, {150, 12}, {0}, 1, ACT_RELU, 3, false},
    {20, 4, 2, 2, {31, 8}, {5, 0}, 1, ACT_GELU, 0, false},
    {48, 3, 5, 2, {40, 6}, {0}, 0, ACT_NONE, 0, false}, /* a stride past the kernel skips samples */
    {96, 400, 320, 2, {2000, 399}, {1, 2}, 1, ACT_GELU, 0, false},
    {96, 400, 160, 2, {2000, 400}, {0, 1}, 0, ACT_RELU, 2, false},
    {96, 400, 160, 0, {0}, {0}, 1, ACT_GELU, 0, false},
    {512, 10, 5, 2, {400, 333}, {0, 3}, 0, ACT_GELU, 0, true},
    {33, 10, 5, 2, {150, 12}, {2, 0}, 1, ACT_NONE, 3, true},
    {96, 400, 160, 2, {2000, 400}, {0, 1}, 1, ACT_RELU, 2, true},
};

static ConvArgs conv_args(Bench *t, const ConvCase *p) {
    int32_t out[6];
    for (int s = 0; s < p->segments; s++)
        out[s] = (p->lengths[s] < p->kernel ? 0 : (p->lengths[s] - p->kernel) / p->stride + 1) + p->more[s];
    Packed from = packed(t, p->lengths, p->segments), to = packed(t, out, p->segments);
    return (ConvArgs){.x = tensor(t, from.total, 1, p->pad),
                      .weight = tensor(t, p->cout, p->kernel, p->pad),
                      .bias = maybe(t, p->bias, 1, p->cout, 0),
                      .gamma = maybe(t, p->normed, 1, p->cout, 0),
                      .beta = maybe(t, p->normed, 1, p->cout, 0),
                      .eps = 1e-5f,
                      .kernel = p->kernel,
                      .stride = p->stride,
                      .in_segments = from,
                      .out_segments = to,
                      .act = p->act,
                      .y = tensor(t, to.total, p->cout, p->pad)};
}

/* Over a row's channels, then the activation. */
static void norm_row(const ConvArgs *a, double *row) {
    int64_t n = a->y.cols;
    double mean = 0.0, variance = 0.0;
    for (int64_t o = 0; o < n; o++) mean += row[o] / (double)n;
    for (int64_t o = 0; o < n; o++) variance += pow(row[o] - mean, 2.0) / (double)n;
    for (int64_t o = 0; o < n; o++)
        row[o] = act_ref(
            (row[o] - mean) / sqrt(variance + 1e-5) * (double)at(a->gamma, 0, o) + (double)at(a->beta, 0, o), a->act);
}

static void conv_case(const ConvCase *p, int threads) {
    Bench t;
    bench_open(&t, threads, 20);
    ConvArgs a = conv_args(&t, p);
    double *want = zeros(&t, a.y.rows * p->cout);
    for (int32_t s = 0; s < p->segments; s++)
        for (int64_t i = a.out_segments.host[s]; i < a.out_segments.host[s + 1]; i++) {
            for (int o = 0; o < p->cout; o++) {
                double sum = p->bias ? (double)at(a.bias, 0, o) : 0.0;
                int64_t from = a.in_segments.host[s] + (i - a.out_segments.host[s]) * p->stride;
                bool whole = from + p->kernel <= a.in_segments.host[s + 1];
                for (int j = 0; whole && j < p->kernel; j++)
                    sum += (double)at(a.weight, o, j) * (double)at(a.x, from + j, 0);
                want[i * p->cout + o] = p->normed ? sum : act_ref(sum, p->act);
            }
            if (p->normed) norm_row(&a, want + i * p->cout);
        }
    RUN(&t, conv, &a);
    expect_near("y", a.y, want, TOLERANCE);
    Tensor first = copy_of(&t, a.y);
    RUN(&t, conv, &a);
    expect_same("y", first, a.y);
    bench_close(&t);
}

static void test_conv(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CONVS / sizeof *CONVS; i++) {
        conv_case(&CONVS[i], 1);
        conv_case(&CONVS[i], 2);
    }
}

typedef struct PosCase {
    int width, groups, kernel, segments;
    int32_t lengths[4];
    int pad;
} PosCase;

static const PosCase POS_CONVS[] = {
    {48, 3, 128, 3, {1, 70, 300}, 0}, {32, 16, 128, 3, {40, 0, 33}, 0},
    {20, 4, 8, 2, {5, 31}, 3},        {20, 4, 7, 2, {5, 31}, 3},
    {96, 2, 128, 1, {150}, 0},        {5, 5, 1, 1, {9}, 0},
    {128, 2, 128, 1, {530}, 0},       {8, 1, 16, 0, {0}, 0},
};

static void pos_case(const PosCase *p, int threads) {
    Bench t;
    bench_open(&t, threads, 21);
    int64_t w = p->width / p->groups;
    Packed segments = packed(&t, p->lengths, p->segments);
    PosConvArgs a = {.x = tensor(&t, segments.total, p->width, p->pad),
                     .weight = scaled(&t, p->width, p->kernel * w, p->pad, 0.2f),
                     .bias = tensor(&t, 1, p->width, 0),
                     .kernel = p->kernel,
                     .groups = p->groups,
                     .segments = segments,
                     .y = tensor(&t, segments.total, p->width, p->pad)};
    double *want = zeros(&t, segments.total * p->width);
    for (int32_t s = 0; s < segments.count; s++)
        for (int64_t i = segments.host[s]; i < segments.host[s + 1]; i++)
            for (int64_t o = 0; o < p->width; o++) {
                double sum = (double)at(a.bias, 0, o);
                for (int64_t j = 0; j < p->kernel; j++) {
                    int64_t from = i + j - p->kernel / 2;
                    if (from < segments.host[s] || from >= segments.host[s + 1]) continue;
                    for (int64_t c = 0; c < w; c++)
                        sum += (double)at(a.weight, o, j * w + c) * (double)at(a.x, from, o / w * w + c);
                }
                want[i * p->width + o] = (double)at(a.x, i, o) + act_ref(sum, ACT_GELU);
            }
    RUN(&t, pos_conv, &a);
    expect_near("y", a.y, want, TOLERANCE);
    bench_close(&t);
}

static void test_pos_conv(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof POS_CONVS / sizeof *POS_CONVS; i++) {
        pos_case(&POS_CONVS[i], 1);
        pos_case(&POS_CONVS[i], 2);
    }
}

/* The layers of a clip give the same numbers whatever it is packed with. */
static void test_segments_are_independent(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 22);
    const ConvCase p = {80, 3, 2, 3, {101, 400, 33}, {0, 2, 1}, 1, ACT_GELU, 0, false};
    ConvArgs a = conv_args(&t, &p);
    RUN(&t, conv, &a);
    PosConvArgs b = {.x = a.y,
                     .weight = scaled(&t, 80, 16 * 20, 0, 0.2f),
                     .bias = tensor(&t, 1, 80, 0),
                     .kernel = 16,
                     .groups = 4,
                     .segments = a.out_segments,
                     .y = tensor(&t, a.y.rows, 80, 0)};
    RUN(&t, pos_conv, &b);
    for (int s = 0; s < 3; s++) {
        int32_t from = a.in_segments.host[s], to = a.out_segments.host[s];
        int32_t in_length = p.lengths[s], out_length = a.out_segments.host[s + 1] - to;
        ConvArgs alone = a;
        alone.x = tensor_rows(a.x, from, in_length);
        alone.in_segments = packed(&t, &in_length, 1);
        alone.out_segments = packed(&t, &out_length, 1);
        alone.y = tensor(&t, out_length, 80, 0);
        RUN(&t, conv, &alone);
        expect_near("conv", alone.y, doubles(&t, tensor_rows(a.y, to, out_length)), 1e-6);
        PosConvArgs b_alone = b;
        b_alone.x = tensor_rows(a.y, to, out_length);
        b_alone.segments = alone.out_segments;
        b_alone.y = tensor(&t, out_length, 80, 0);
        RUN(&t, pos_conv, &b_alone);
        expect_near("pos_conv", b_alone.y, doubles(&t, tensor_rows(b.y, to, out_length)), 1e-6);
    }
    bench_close(&t);
}

static void segment_norm_case(int channels, int pad, float offset, Activation act, bool in_place) {
    Bench t;
    bench_open(&t, 2, 23);
    const int32_t lengths[] = {1, 0, 300, 129, 1100}, few[] = {1, 0, 300, 100, 513};
    Packed segments = packed(&t, lengths, 5), counted = packed(&t, few, 5);
    SegmentNormArgs a = {.x = tensor(&t, segments.total, channels, pad),
                         .segments = segments,
                         .counted = counted,
                         .gamma = tensor(&t, 1, channels, 0),
                         .beta = tensor(&t, 1, channels, 0),
                         .eps = 1e-5f,
                         .act = act};
    for (int64_t r = 0; r < a.x.rows; r++)
        for (int64_t c = 0; c < channels; c++) ((float *)a.x.data)[r * a.x.ld + c] += offset;
    a.y = in_place ? a.x : tensor(&t, segments.total, channels, pad);
    double *x = doubles(&t, a.x), *want = zeros(&t, a.x.rows * channels);
    for (int32_t s = 0; s < segments.count; s++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t first = segments.host[s], end = segments.host[s + 1];
            double mean = 0.0, variance = 0.0;
            for (int64_t r = first; r < first + few[s]; r++) mean += x[r * channels + c] / (double)few[s];
            for (int64_t r = first; r < first + few[s]; r++)
                variance += pow(x[r * channels + c] - mean, 2.0) / (double)few[s];
            for (int64_t r = first; r < end; r++)
                want[r * channels + c] =
                    act_ref((x[r * channels + c] - mean) / sqrt(variance + 1e-5) * (double)at(a.gamma, 0, c) +
                                (double)at(a.beta, 0, c),
                            act);
        }
    RUN(&t, segment_norm, &a);
    expect_close("y", a.y, want, offset > 0.0f ? 2e-5 : 2e-6); /* the offset itself has fewer bits left */
    bench_close(&t);
}

static void test_segment_norm(void **state) {
    (void)state;
    segment_norm_case(1, 0, 0.0f, ACT_NONE, false);
    segment_norm_case(70, 3, 0.0f, ACT_GELU, false);
    segment_norm_case(512, 0, 0.0f, ACT_GELU, true);
    segment_norm_case(64, 0, 30.0f, ACT_RELU, false);
}

static void test_wave_norm(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 24);
    const int32_t lengths[] = {4000, 0, 1, 77};
    for (int in_place = 0; in_place < 2; in_place++) {
        Packed segments = packed(&t, lengths, 4);
        WaveNormArgs a = {.x = scaled(&t, segments.total, 1, in_place, 0.01f), .segments = segments};
        a.y = in_place ? a.x : tensor(&t, segments.total, 1, 2);
        double *x = doubles(&t, a.x), *want = zeros(&t, a.x.rows);
        for (int32_t s = 0; s < 4; s++) {
            double mean = 0.0, variance = 0.0, n = lengths[s];
            for (int64_t r = segments.host[s]; r < segments.host[s + 1]; r++) mean += x[r] / n;
            for (int64_t r = segments.host[s]; r < segments.host[s + 1]; r++) variance += pow(x[r] - mean, 2.0) / n;
            for (int64_t r = segments.host[s]; r < segments.host[s + 1]; r++)
                want[r] = (x[r] - mean) / sqrt(variance + 1e-7);
        }
        RUN(&t, wave_norm, &a);
        expect_close("y", a.y, want, 1e-6);
    }
    bench_close(&t);
}

static void rel_gate_case(int n, int heads, int dim, int pad) {
    Bench t;
    bench_open(&t, 2, 25);
    RelGateArgs a = {.u = tensor(&t, n, heads * dim, pad),
                     .weight = tensor(&t, 8, dim, pad),
                     .bias = tensor(&t, 1, 8, 0),
                     .scale = tensor(&t, 1, heads, 0),
                     .heads = heads,
                     .gate = tensor(&t, n, heads, pad)};
    double *want = zeros(&t, (int64_t)n * heads);
    for (int i = 0; i < n; i++)
        for (int h = 0; h < heads; h++) {
            double half[2] = {0.0, 0.0};
            for (int z = 0; z < 8; z++) {
                half[z / 4] += (double)at(a.bias, 0, z);
                for (int c = 0; c < dim; c++)
                    half[z / 4] += (double)at(a.weight, z, c) * (double)at(a.u, i, h * dim + c);
            }
            want[i * heads + h] = sigmoid_ref(half[0]) * (sigmoid_ref(half[1]) * (double)at(a.scale, 0, h) - 1.0) + 2.0;
        }
    RUN(&t, rel_gate, &a);
    expect_close("gate", a.gate, want, 1e-5);
    bench_close(&t);
}

static void test_rel_gate(void **state) {
    (void)state;
    rel_gate_case(1, 1, 16, 0);
    rel_gate_case(100, 12, 64, 0);
    rel_gate_case(37, 3, 41, 3);
    rel_gate_case(0, 3, 41, 3);
}

static void test_refusals(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 26);
    const ConvCase p = {8, 3, 2, 2, {9, 8}, {0}, 0, ACT_NONE, 0, false};
    ConvArgs a = conv_args(&t, &p), wrong = a;
    const int32_t lengths[] = {3, 4};
    wrong.out_segments = packed(&t, lengths, 2);
    REFUSED(&t, conv, &wrong, "segment 0 of out_segments has 3 rows, expected at least 4");
    wrong = a;
    wrong.gamma = tensor(&t, 1, 8, 0);
    REFUSED(&t, conv, &wrong, "gamma and beta come together");
    wrong = a;
    wrong.stride = 0;
    REFUSED(&t, conv, &wrong, "stride");
    wrong = a;
    wrong.kernel = 4;
    REFUSED(&t, conv, &wrong, "weight is [8, 3], expected [8, 4]");
    PosConvArgs b = {.x = tensor(&t, 9, 6, 0), .groups = 4, .kernel = 2};
    REFUSED(&t, pos_conv, &b, "groups");
    SegmentNormArgs norm = {.x = a.y, .segments = a.out_segments, .counted = a.in_segments, .y = a.y};
    norm.gamma = norm.beta = tensor(&t, 1, 8, 0);
    REFUSED(&t, segment_norm, &norm, "9 rows of segment 0 are counted, and it has 4");
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),         cmocka_unit_test(test_pos_conv),
        cmocka_unit_test(test_segment_norm), cmocka_unit_test(test_segments_are_independent),
        cmocka_unit_test(test_wave_norm),    cmocka_unit_test(test_rel_gate),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("conv", tests, NULL, NULL);
}
