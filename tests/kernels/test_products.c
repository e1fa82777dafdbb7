/* Matrix products and linear layers with LoRA against sums in double. */
#include "tests/kernels/support.h"

/* fp32 sums of up to 600 terms in [-1, 1]: rounding grows with the square root of their number. */
static const double TOLERANCE = 2e-5;
/* Through two such sums, relative to the largest gradient: where terms cancel, their rounding stays. */
static const double GRADIENT_TOLERANCE = 5e-6;

typedef struct MatmulCase {
    int m, n, k;
    bool ta, tb, bias;
    float alpha, beta;
    Activation act;
    int pad;
} MatmulCase;

static const MatmulCase MATMULS[] = {
    {1, 1, 1, 0, 0, 0, 1, 0, ACT_NONE, 0},        {1, 576, 576, 0, 1, 0, 1, 0, ACT_NONE, 0},
    {1, 37, 600, 0, 0, 1, 0.5f, 1, ACT_NONE, 3},  {2, 130, 66, 0, 1, 1, 1, 0, ACT_GELU, 1},
    {3, 16, 64, 0, 1, 0, 1, 1, ACT_RELU, 5},      {17, 33, 65, 0, 0, 1, -2, 0.5f, ACT_NONE, 7},
    {17, 33, 65, 1, 0, 1, 1, 0, ACT_GELU, 7},     {17, 33, 65, 0, 1, 1, 1, 1, ACT_RELU, 0},
    {17, 33, 65, 1, 1, 0, 1, 0, ACT_NONE, 2},     {64, 1, 31, 0, 1, 0, 1, 0, ACT_NONE, 0},
    {64, 1, 31, 0, 0, 0, 1, 0, ACT_NONE, 4},      {129, 8, 576, 0, 1, 0, 1, 0, ACT_NONE, 0},
    {129, 200, 8, 0, 1, 0, 2, 1, ACT_NONE, 0},    {8, 200, 129, 1, 0, 0, 1, 1, ACT_NONE, 0},
    {5, 7, 0, 0, 1, 1, 1, 0, ACT_NONE, 0},        {5, 7, 0, 0, 1, 1, 1, 2, ACT_NONE, 1},
    {0, 7, 9, 0, 1, 1, 1, 0, ACT_GELU, 0},        {5, 0, 9, 0, 1, 0, 1, 0, ACT_NONE, 0},
    {300, 260, 140, 0, 1, 1, 1, 0, ACT_GELU, 11}, {1, 2000, 130, 0, 1, 1, 1, 1, ACT_GELU, 0},
    {1, 300, 1000, 0, 0, 0, 1, 1, ACT_NONE, 0},   {6, 512, 300, 0, 1, 1, 1, 0, ACT_NONE, 0},
};

static void matmul_case(const MatmulCase *p, int threads) {
    Bench t;
    bench_open(&t, threads, 1);
    MatmulArgs a = {.a = p->ta ? tensor(&t, p->k, p->m, p->pad) : tensor(&t, p->m, p->k, p->pad),
                    .b = p->tb ? tensor(&t, p->n, p->k, p->pad) : tensor(&t, p->k, p->n, p->pad),
                    .c = tensor(&t, p->m, p->n, p->pad),
                    .bias = maybe(&t, p->bias, 1, p->n, 0),
                    .transpose_a = p->ta,
                    .transpose_b = p->tb,
                    .alpha = p->alpha,
                    .beta = p->beta,
                    .act = p->act};
    double *want = zeros(&t, (int64_t)p->m * p->n);
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double sum = 0.0;
            for (int k = 0; k < p->k; k++)
                sum +=
                    (double)(p->ta ? at(a.a, k, i) : at(a.a, i, k)) * (double)(p->tb ? at(a.b, j, k) : at(a.b, k, j));
            sum = (double)p->alpha * sum + (double)p->beta * (double)at(a.c, i, j);
            want[i * p->n + j] = act_ref(p->bias ? sum + (double)at(a.bias, 0, j) : sum, p->act);
        }
    if (p->beta == 0.0f) /* what c held must not matter */
        for (int i = 0; i < p->m; i++)
            for (int j = 0; j < p->n; j++) ((float *)a.c.data)[i * a.c.ld + j] = NAN;
    Tensor before = copy_of(&t, a.c);
    RUN(&t, matmul, &a);
    expect_close("c", a.c, want, TOLERANCE);
    MatmulArgs again = a;
    again.c = before;
    RUN(&t, matmul, &again);
    expect_same("c", a.c, again.c);
    bench_close(&t);
}

static void test_matmul(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof MATMULS / sizeof *MATMULS; i++) {
        matmul_case(&MATMULS[i], 1);
        matmul_case(&MATMULS[i], 3);
    }
}

typedef struct LinearCase {
    int n, in, out, r;
    float p;
    bool bias, accumulate;
    Activation act;
    int pad;
} LinearCase;

static const LinearCase LINEARS[] = {
    {1, 64, 48, 0, 0, true, false, ACT_NONE, 0},         {9, 33, 17, 0, 0, false, true, ACT_NONE, 3},
    {9, 33, 17, 0, 0, true, true, ACT_GELU, 3},          {70, 128, 96, 8, 0, false, false, ACT_NONE, 0},
    {70, 40, 50, 4, 0.25f, true, false, ACT_NONE, 5},    {7, 41, 23, 3, 0.5f, true, true, ACT_GELU, 2},
    {1, 96, 64, 16, 0, false, false, ACT_NONE, 0},       {1, 30, 20, 2, 0.1f, false, true, ACT_NONE, 1},
    {200, 65, 130, 16, 0.05f, true, false, ACT_RELU, 0}, {0, 8, 8, 2, 0.5f, true, false, ACT_NONE, 0},
    {130, 512, 300, 0, 0, true, false, ACT_GELU, 4},     {300, 80, 1100, 0, 0, true, false, ACT_GELU, 0},
    {300, 80, 1100, 8, 0, true, true, ACT_NONE, 0},      {5, 300, 700, 8, 0, true, false, ACT_NONE, 0},
};

static Lora lora_of(Bench *t, const LinearCase *p) {
    if (!p->r) return (Lora){0};
    return (Lora){.a = tensor(t, p->r, p->in, p->pad),
                  .b = tensor(t, p->out, p->r, p->pad),
                  .scale = 1.5f,
                  .dropout = dropout_key(t, p->n, p->p)};
}

/* What forward must give before bias and activation are known: low = dropout(x)·Aᵀ, scaled by nothing. */
static double *low_ref(Bench *t, const Tensor x, const Lora *lora) {
    int64_t r = lora->a.rows, in = x.cols;
    double *low = zeros(t, x.rows * r);
    for (int64_t i = 0; i < x.rows; i++)
        for (int64_t j = 0; j < r; j++)
            for (int64_t c = 0; c < in; c++)
                low[i * r + j] += (double)at(x, i, c) * mask_ref(&lora->dropout, i, c, in) * (double)at(lora->a, j, c);
    return low;
}

static void linear_case(const LinearCase *p, int threads) {
    Bench t;
    bench_open(&t, threads, 2);
    LinearArgs a = {.x = tensor(&t, p->n, p->in, p->pad),
                    .weight = tensor(&t, p->out, p->in, p->pad),
                    .bias = maybe(&t, p->bias, 1, p->out, 0),
                    .lora = lora_of(&t, p),
                    .act = p->act,
                    .accumulate = p->accumulate,
                    .y = tensor(&t, p->n, p->out, p->pad),
                    .low = maybe(&t, p->r > 0, p->n, p->r, p->pad)};
    double *low = p->r ? low_ref(&t, a.x, &a.lora) : NULL, *want = zeros(&t, (int64_t)p->n * p->out);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t o = 0; o < p->out; o++) {
            double sum = p->bias ? (double)at(a.bias, 0, o) : 0.0;
            for (int64_t c = 0; c < p->in; c++) sum += (double)at(a.x, i, c) * (double)at(a.weight, o, c);
            for (int j = 0; j < p->r; j++) sum += 1.5 * low[i * p->r + j] * (double)at(a.lora.b, o, j);
            want[i * p->out + o] = act_ref(sum, p->act) + (p->accumulate ? (double)at(a.y, i, o) : 0.0);
        }
    RUN(&t, linear, &a);
    expect_close("y", a.y, want, TOLERANCE);
    if (p->r) expect_close("low", a.low, low, TOLERANCE);
    bench_close(&t);
}

static void test_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LINEARS / sizeof *LINEARS; i++) {
        linear_case(&LINEARS[i], 1);
        linear_case(&LINEARS[i], 2);
    }
}

/* Every gradient by its formula in double, added to what the buffers held where they accumulate. */
static void linear_backward_case(const LinearCase *p, bool wanted, bool frozen) {
    Bench t;
    bench_open(&t, 2, 3);
    int64_t n = p->n, in = p->in, out = p->out, r = p->r;
    LinearBackwardArgs a = {.x = tensor(&t, n, in, p->pad),
                            .weight = tensor(&t, out, in, p->pad),
                            .lora = lora_of(&t, p),
                            .low = absent(),
                            .dy = tensor(&t, n, out, p->pad),
                            .dx = maybe(&t, wanted, n, in, p->pad),
                            .accumulate_dx = p->accumulate,
                            .da = maybe(&t, r > 0, r, in, p->pad),
                            .db = maybe(&t, r > 0, out, r, p->pad),
                            .dweight = maybe(&t, !frozen, out, in, p->pad),
                            .dbias = maybe(&t, !frozen, 1, out, 0)};
    double *low = zeros(&t, n * r), *dlow = zeros(&t, n * r);
    if (r) {
        low = low_ref(&t, a.x, &a.lora);
        a.low = tensor(&t, n, r, p->pad);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < r; j++) ((float *)a.low.data)[i * a.low.ld + j] = (float)low[i * r + j];
    }
    double *dx = doubles(&t, a.dx), *da = doubles(&t, a.da), *db = doubles(&t, a.db);
    double *dweight = doubles(&t, a.dweight), *dbias = doubles(&t, a.dbias);
    if (dx && !p->accumulate) memset(dx, 0, (size_t)(n * in) * sizeof *dx);
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < out; o++) {
            double g = (double)at(a.dy, i, o);
            if (dbias) dbias[o] += g;
            for (int64_t c = 0; c < in; c++) {
                if (dx) dx[i * in + c] += g * (double)at(a.weight, o, c);
                if (dweight) dweight[o * in + c] += g * (double)at(a.x, i, c);
            }
            for (int64_t j = 0; j < r; j++) {
                db[o * r + j] += 1.5 * g * low[i * r + j];
                dlow[i * r + j] += 1.5 * g * (double)at(a.lora.b, o, j);
            }
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < r; j++)
            for (int64_t c = 0; c < in; c++) {
                double mask = mask_ref(&a.lora.dropout, i, c, in);
                da[j * in + c] += dlow[i * r + j] * (double)at(a.x, i, c) * mask;
                if (dx) dx[i * in + c] += dlow[i * r + j] * (double)at(a.lora.a, j, c) * mask;
            }
    RUN(&t, linear_backward, &a);
    if (dx) expect_near("dx", a.dx, dx, GRADIENT_TOLERANCE);
    if (r) expect_near("da", a.da, da, GRADIENT_TOLERANCE);
    if (r) expect_near("db", a.db, db, GRADIENT_TOLERANCE);
    if (dweight) expect_near("dweight", a.dweight, dweight, GRADIENT_TOLERANCE);
    if (dbias) expect_near("dbias", a.dbias, dbias, GRADIENT_TOLERANCE);
    bench_close(&t);
}

static void test_linear_backward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LINEARS / sizeof *LINEARS; i++) {
        linear_backward_case(&LINEARS[i], true, false);
        linear_backward_case(&LINEARS[i], true, true);
        linear_backward_case(&LINEARS[i], false, true);
    }
}

/* A row comes out the same, to rounding, however many rows it is packed with. */
static void test_rows_are_independent(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 2, 4);
    LinearArgs a = {.x = tensor(&t, 300, 200, 0),
                    .weight = scaled(&t, 333, 200, 0, 0.1f),
                    .bias = tensor(&t, 1, 333, 0),
                    .act = ACT_GELU,
                    .y = tensor(&t, 300, 333, 0)};
    RUN(&t, linear, &a);
    for (int64_t first = 0; first < 300; first += 37)
        for (int64_t count = 1; count <= 9 && first + count <= 300; count += 4) {
            LinearArgs few = a;
            few.x = tensor_rows(a.x, first, count);
            few.y = tensor(&t, count, 333, 0);
            RUN(&t, linear, &few);
            expect_close("alone", few.y, doubles(&t, tensor_rows(a.y, first, count)), 1e-6);
        }
    bench_close(&t);
}

static void test_refusals(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 5);
    MatmulArgs m = {.a = tensor(&t, 3, 4, 0), .b = tensor(&t, 5, 5, 0), .c = tensor(&t, 3, 5, 0), .alpha = 1.0f};
    REFUSED(&t, matmul, &m, "b is [5, 5], expected [4, 5]");
    m.b = tensor(&t, 4, 5, 0);
    m.b.dtype = DTYPE_F16;
    REFUSED(&t, matmul, &m, "b is F16, expected F32");
    m.b = absent();
    m.b.rows = 4, m.b.cols = 5, m.b.ld = 5;
    REFUSED(&t, matmul, &m, "b is absent");
    m.b = tensor(&t, 4, 5, 0);
    m.b.ld = 4;
    REFUSED(&t, matmul, &m, "leading dimension");
    LinearArgs a = {.x = tensor(&t, 3, 4, 0), .weight = tensor(&t, 6, 4, 0), .y = tensor(&t, 3, 6, 0)};
    a.lora = (Lora){.a = tensor(&t, 2, 4, 0), .b = tensor(&t, 6, 2, 0), .scale = 1.0f};
    REFUSED(&t, linear, &a, "low");
    a.low = tensor(&t, 3, 2, 0);
    a.lora.dropout.p = 1.0f;
    REFUSED(&t, linear, &a, "dropout");
    a.lora.dropout = dropout_key(&t, 3, 0.5f);
    REFUSED(&t, linear, &a, "scratch"); /* nothing was reserved */
    LinearBackwardArgs b = {.x = a.x, .weight = a.weight, .dy = a.y, .da = tensor(&t, 2, 4, 0)};
    REFUSED(&t, linear_backward, &b, "LoRA");
    bench_close(&t);
}

static void test_cost(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 6);
    LinearArgs a = {.x = tensor(&t, 10, 20, 0), .weight = tensor(&t, 30, 20, 0), .y = tensor(&t, 10, 30, 0)};
    OpCost cost = linear_cost(&a);
    assert_true(cost.flops == 2.0 * 10 * 20 * 30);
    assert_true(cost.bytes == 4.0 * (10 * 20 + 30 * 20 + 10 * 30));
    LinearBackwardArgs b = {.x = a.x, .weight = a.weight, .dy = a.y, .dx = a.x};
    assert_true(linear_backward_cost(&b).flops == cost.flops);
    b.dweight = a.weight;
    assert_true(linear_backward_cost(&b).flops == 2.0 * cost.flops);
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),          cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_backward), cmocka_unit_test(test_rows_are_independent),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests_name("products", tests, NULL, NULL);
}
