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

/* What is added to y: nothing, what it holds (or dx, backward), another tensor. */
typedef enum Added { NONE, ITSELF, APART } Added;

typedef struct LinearCase {
    int n, in;
    int outs[LINEAR_PARTS], ranks[LINEAR_PARTS];
    float p;
    bool bias;
    Added residual;
    Activation act;
    int pad;
} LinearCase;

static const LinearCase LINEARS[] = {
    {1, 64, {48}, {0}, 0, true, NONE, ACT_NONE, 0},
    {9, 33, {17}, {0}, 0, false, APART, ACT_NONE, 3},
    {9, 33, {17}, {0}, 0, true, ITSELF, ACT_GELU, 3},
    {70, 128, {96}, {8}, 0, false, NONE, ACT_NONE, 0},
    {70, 40, {50}, {4}, 0.25f, true, NONE, ACT_NONE, 5},
    {7, 41, {23}, {3}, 0.5f, true, APART, ACT_GELU, 2},
    {1, 96, {64}, {16}, 0, false, NONE, ACT_NONE, 0},
    {1, 30, {20}, {2}, 0.1f, false, ITSELF, ACT_NONE, 1},
    {200, 65, {130}, {16}, 0.05f, true, NONE, ACT_RELU, 0},
    {0, 8, {8}, {2}, 0.5f, true, NONE, ACT_NONE, 0},
    {130, 512, {300}, {0}, 0, true, NONE, ACT_GELU, 4},
    {300, 80, {1100}, {0}, 0, true, NONE, ACT_GELU, 0},
    {300, 80, {1100}, {8}, 0, true, APART, ACT_NONE, 0},
    {5, 300, {700}, {8}, 0, true, NONE, ACT_NONE, 0},
    {9, 40, {33, 7, 12}, {4, 2, 8}, 0, true, NONE, ACT_NONE, 2},
    {70, 64, {48, 16, 16}, {8, 8, 8}, 0.25f, true, NONE, ACT_NONE, 0},
    {20, 31, {17, 5, 9}, {0, 3, 0}, 0.5f, false, ITSELF, ACT_NONE, 1},
    {6, 24, {10, 14}, {5, 0}, 0, false, APART, ACT_GELU, 3},
    {6, 24, {10, 14}, {2, 3}, 0.1f, true, NONE, ACT_NONE, 0},
    {3, 8, {4, 4, 4}, {0, 0, 0}, 0, true, NONE, ACT_NONE, 0},
    {9, 33, {17}, {0}, 0, true, APART, ACT_NONE, 3},
    {20, 31, {17}, {4}, 0.25f, true, APART, ACT_RELU, 0},
    {70, 48, {96}, {8}, 0, true, APART, ACT_NONE, 1},
    {70, 48, {96}, {8}, 0, true, ITSELF, ACT_GELU, 1},
    {5, 0, {12}, {0}, 0, true, APART, ACT_NONE, 2},
};

static int sum_of(const int values[LINEAR_PARTS]) { return values[0] + values[1] + values[2]; }

/* Part i's scale. */
static double scale_of(int i) { return 1.5 - 0.5 * i; }

static void loras_of(Bench *t, const LinearCase *p, Lora lora[LINEAR_PARTS]) {
    for (int i = 0; i < LINEAR_PARTS; i++) {
        lora[i].b.rows = p->outs[i];
        if (!p->ranks[i]) continue;
        lora[i] = (Lora){.a = tensor(t, p->ranks[i], p->in, p->pad),
                         .b = tensor(t, p->outs[i], p->ranks[i], p->pad),
                         .scale = (float)scale_of(i),
                         .dropout = dropout_key(t, p->n, p->p)};
    }
}

/* The pairs as one: A's rows end to end; scale · B's columns beside those, zeros for other parts' outputs. */
typedef struct Whole {
    double *a, *b, *mask; /* [r, in], [out, r], [n, r, in] */
    int r;
} Whole;

static Whole whole_of(Bench *t, const LinearCase *p, const Lora lora[LINEAR_PARTS]) {
    Whole w = {.r = sum_of(p->ranks)};
    int64_t in = p->in, r = w.r;
    w.a = zeros(t, r * in), w.b = zeros(t, sum_of(p->outs) * r), w.mask = zeros(t, p->n * r * in);
    int first = 0, column = 0;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        for (int j = 0; j < p->ranks[i]; j++) {
            for (int64_t c = 0; c < in; c++) w.a[(column + j) * in + c] = (double)at(lora[i].a, j, c);
            for (int o = 0; o < p->outs[i]; o++)
                w.b[(first + o) * r + column + j] = scale_of(i) * (double)at(lora[i].b, o, j);
            for (int64_t row = 0; row < p->n; row++)
                for (int64_t c = 0; c < in; c++)
                    w.mask[(row * r + column + j) * in + c] = mask_ref(&lora[i].dropout, row, c, in);
        }
        first += p->outs[i];
        column += p->ranks[i];
    }
    return w;
}

/* low = dropout(x)·Aᵀ, scaled by nothing. */
static double *low_ref(Bench *t, const Tensor x, const Whole *w) {
    int64_t r = w->r, in = x.cols;
    double *low = zeros(t, x.rows * r);
    for (int64_t i = 0; i < x.rows; i++)
        for (int64_t j = 0; j < r; j++)
            for (int64_t c = 0; c < in; c++)
                low[i * r + j] += (double)at(x, i, c) * w->mask[(i * r + j) * in + c] * w->a[j * in + c];
    return low;
}

static void linear_case(const LinearCase *p, int threads) {
    Bench t;
    bench_open(&t, threads, 2);
    int64_t out = sum_of(p->outs), r = sum_of(p->ranks);
    LinearArgs a = {.x = tensor(&t, p->n, p->in, p->pad),
                    .weight = tensor(&t, out, p->in, p->pad),
                    .bias = maybe(&t, p->bias, 1, out, 0),
                    .act = p->act,
                    .y = tensor(&t, p->n, out, p->pad),
                    .low = maybe(&t, r > 0, p->n, r, p->pad)};
    if (p->residual) a.residual = p->residual == ITSELF ? a.y : tensor(&t, p->n, out, p->pad + 1);
    Tensor residual = p->residual ? copy_of(&t, a.residual) : absent();
    loras_of(&t, p, a.lora);
    Whole w = whole_of(&t, p, a.lora);
    double *low = low_ref(&t, a.x, &w), *want = zeros(&t, (int64_t)p->n * out);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t o = 0; o < out; o++) {
            double sum = p->bias ? (double)at(a.bias, 0, o) : 0.0;
            for (int64_t c = 0; c < p->in; c++) sum += (double)at(a.x, i, c) * (double)at(a.weight, o, c);
            for (int j = 0; j < r; j++) sum += low[i * r + j] * w.b[o * r + j];
            want[i * out + o] = act_ref(sum, p->act) + (p->residual ? (double)at(residual, i, o) : 0.0);
        }
    RUN(&t, linear, &a);
    expect_close("y", a.y, want, TOLERANCE);
    if (p->residual == APART) expect_same("residual", residual, a.residual);
    if (r) expect_close("low", a.low, low, TOLERANCE);
    if (r && p->residual != ITSELF) { /* said to be known, it is taken as it is */
        Tensor y = a.y;
        a.y = tensor(&t, p->n, out, 0);
        a.low_known = true;
        a.lora[0].a = a.lora[0].a.data ? tensor(&t, p->ranks[0], p->in, 0) : absent();
        RUN(&t, linear, &a);
        for (int64_t i = 0; i < p->n; i++)
            for (int64_t o = 0; o < out; o++) assert_true(at(a.y, i, o) == at(y, i, o));
    }
    bench_close(&t);
}

static void test_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LINEARS / sizeof *LINEARS; i++) {
        linear_case(&LINEARS[i], 1);
        linear_case(&LINEARS[i], 2);
    }
}

/* Part i's da and db out of those of all parts. */
static void expect_pair(Bench *t, const LinearCase *p, const LinearBackwardArgs *a, int i, const double *da,
                        const double *db) {
    int64_t r = sum_of(p->ranks), first = 0, column = 0, in = p->in;
    for (int j = 0; j < i; j++) first += p->outs[j], column += p->ranks[j];
    double *part = zeros(t, (int64_t)p->outs[i] * p->ranks[i]);
    for (int64_t o = 0; o < p->outs[i]; o++)
        for (int64_t j = 0; j < p->ranks[i]; j++) part[o * p->ranks[i] + j] = db[(first + o) * r + column + j];
    expect_near("da", a->da[i], da + column * in, GRADIENT_TOLERANCE);
    expect_near("db", a->db[i], part, GRADIENT_TOLERANCE);
}

/* What the buffers held, in the places of all parts' da and db. */
static void held(const LinearCase *p, const LinearBackwardArgs *a, double *da, double *db) {
    int64_t r = sum_of(p->ranks), first = 0, column = 0;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        for (int64_t j = 0; j < p->ranks[i]; j++) {
            for (int64_t c = 0; c < p->in; c++) da[(column + j) * p->in + c] = (double)at(a->da[i], j, c);
            for (int64_t o = 0; o < p->outs[i]; o++) db[(first + o) * r + column + j] = (double)at(a->db[i], o, j);
        }
        first += p->outs[i];
        column += p->ranks[i];
    }
}

/* Every gradient by its formula in double, added to what the buffers held where they accumulate. */
static void linear_backward_case(const LinearCase *p, bool wanted, bool frozen, bool normed) {
    Bench t;
    bench_open(&t, 2, 3);
    int64_t n = p->n, in = p->in, out = sum_of(p->outs), r = sum_of(p->ranks);
    LinearBackwardArgs a = {.x = tensor(&t, n, in, p->pad),
                            .weight = tensor(&t, out, in, p->pad),
                            .low = absent(),
                            .dy = tensor(&t, n, out, p->pad),
                            .dx = maybe(&t, wanted, n, in, p->pad),
                            .accumulate_dx = p->residual != NONE,
                            .dweight = maybe(&t, !frozen, out, in, p->pad),
                            .dbias = maybe(&t, !frozen, 1, out, 0)};
    if (normed) a.gamma = tensor(&t, 1, in, p->pad), a.rstd = tensor(&t, n, 1, p->pad);
    Tensor read = copy_of(&t, a.x); /* what the layer read */
    for (int64_t i = 0; normed && i < n; i++)
        for (int64_t c = 0; c < in; c++)
            ((float *)read.data)[i * read.ld + c] = at(a.x, i, c) * at(a.rstd, i, 0) * at(a.gamma, 0, c);
    loras_of(&t, p, a.lora);
    Whole w = whole_of(&t, p, a.lora);
    for (int i = 0; i < LINEAR_PARTS; i++) {
        a.da[i] = maybe(&t, p->ranks[i] > 0, p->ranks[i], in, p->pad);
        a.db[i] = maybe(&t, p->ranks[i] > 0, p->outs[i], p->ranks[i], p->pad);
    }
    double *low = low_ref(&t, read, &w), *dlow = zeros(&t, n * r);
    if (r) a.low = tensor(&t, n, r, p->pad), a.dlow = tensor(&t, n, r, p->pad);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < r; j++) ((float *)a.low.data)[i * a.low.ld + j] = (float)low[i * r + j];
    double *dx = doubles(&t, a.dx), *da = zeros(&t, r * in), *db = zeros(&t, out * r);
    double *dweight = doubles(&t, a.dweight), *dbias = doubles(&t, a.dbias);
    held(p, &a, da, db);
    if (dx && p->residual == NONE) memset(dx, 0, (size_t)(n * in) * sizeof *dx);
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < out; o++) {
            double g = (double)at(a.dy, i, o);
            if (dbias) dbias[o] += g;
            for (int64_t c = 0; c < in; c++) {
                if (dx) dx[i * in + c] += g * (double)at(a.weight, o, c);
                if (dweight) dweight[o * in + c] += g * (double)at(a.x, i, c);
            }
            int64_t first = 0, column = 0; /* a part's B has gradients from its own outputs alone */
            for (int k = 0; k < LINEAR_PARTS; first += p->outs[k], column += p->ranks[k], k++)
                for (int64_t j = column; o >= first && o < first + p->outs[k] && j < column + p->ranks[k]; j++)
                    db[o * r + j] += scale_of(k) * g * low[i * r + j];
            for (int64_t j = 0; j < r; j++) dlow[i * r + j] += g * w.b[o * r + j];
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < r; j++)
            for (int64_t c = 0; c < in; c++) {
                double mask = w.mask[(i * r + j) * in + c];
                da[j * in + c] += dlow[i * r + j] * (double)at(read, i, c) * mask;
                if (dx) dx[i * in + c] += dlow[i * r + j] * w.a[j * in + c] * mask;
            }
    RUN(&t, linear_backward, &a);
    if (dx) expect_near("dx", a.dx, dx, GRADIENT_TOLERANCE);
    if (r) expect_near("dlow", a.dlow, dlow, GRADIENT_TOLERANCE);
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (p->ranks[i]) expect_pair(&t, p, &a, i, da, db);
    if (dweight) expect_near("dweight", a.dweight, dweight, GRADIENT_TOLERANCE);
    if (dbias) expect_near("dbias", a.dbias, dbias, GRADIENT_TOLERANCE);
    bench_close(&t);
}

static void test_linear_backward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LINEARS / sizeof *LINEARS; i++) {
        linear_backward_case(&LINEARS[i], true, false, false);
        linear_backward_case(&LINEARS[i], true, true, false);
        linear_backward_case(&LINEARS[i], false, true, false);
        linear_backward_case(&LINEARS[i], true, true, true);
        linear_backward_case(&LINEARS[i], false, true, true);
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
    a.residual = tensor(&t, 3, 5, 0);
    REFUSED(&t, linear, &a, "residual is [3, 5], expected [3, 6]");
    a.residual = absent();
    a.tail_kept = true;
    REFUSED(&t, linear, &a, "tail");
    a.tail_kept = false;
    a.lora[0] = (Lora){.a = tensor(&t, 2, 4, 0), .b = tensor(&t, 6, 2, 0), .scale = 1.0f};
    REFUSED(&t, linear, &a, "low");
    a.low = tensor(&t, 3, 2, 0);
    a.lora[1].b.rows = 1;
    REFUSED(&t, linear, &a, "7 outputs, the layer has 6");
    a.lora[1].b.rows = 0;
    a.tail = 2;
    REFUSED(&t, linear, &a, "leaves no tail of 2");
    a.tail = 1;
    REFUSED(&t, linear, &a, "shorter than the sum");
    a.tail = 0;
    a.lora[0].dropout.p = 1.0f;
    REFUSED(&t, linear, &a, "dropout");
    a.lora[0].dropout = dropout_key(&t, 3, 0.5f);
    REFUSED(&t, linear, &a, "scratch"); /* nothing was reserved */
    LinearBackwardArgs b = {.x = a.x, .weight = a.weight, .dy = a.y, .da = {tensor(&t, 2, 4, 0)}};
    REFUSED(&t, linear_backward, &b, "LoRA");
    b.da[0] = absent();
    b.gamma = tensor(&t, 1, 4, 0);
    REFUSED(&t, linear_backward, &b, "gamma and rstd go together");
    b.rstd = tensor(&t, 1, 3, 0);
    REFUSED(&t, linear_backward, &b, "rstd is [1, 3], expected [3, 1]");
    b.rstd = tensor(&t, 3, 1, 0);
    b.dweight = tensor(&t, 6, 4, 0);
    REFUSED(&t, linear_backward, &b, "dweight");
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
    LinearBackwardArgs normed = {.x = a.x, .weight = a.weight, .dy = a.y}, plain;
    normed.lora[0] = (Lora){.a = tensor(&t, 2, 20, 0), .b = tensor(&t, 30, 2, 0)};
    normed.da[0] = normed.lora[0].a;
    plain = normed;
    normed.gamma = tensor(&t, 1, 20, 0), normed.rstd = tensor(&t, 10, 1, 0);
    assert_true(linear_backward_cost(&normed).bytes == linear_backward_cost(&plain).bytes + 4.0 * (20 + 10));
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
