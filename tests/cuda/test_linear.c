/* Linear layers with LoRA of the CUDA device beside the CPU's: parts, ranks, dropout, with and without room for
 * LoRA in the product. */
#include "tests/cuda/twin.h"

/* What is added to y: nothing, what it holds (or dx, backward), another tensor. */
typedef enum Added { NONE, ITSELF, APART } Added;

typedef struct Case {
    int n, in;
    int outs[LINEAR_PARTS], ranks[LINEAR_PARTS];
    float p;
    bool bias;
    Added residual;
    Activation act;
    int pad;
    bool tail;
} Case;

static const Case CASES[] = {
    {17, 64, {48}, {0}, 0, true, NONE, ACT_NONE, 0, false},
    {17, 33, {19}, {0}, 0, true, APART, ACT_GELU, 3, false},
    {0, 64, {48}, {8}, 0.5f, true, NONE, ACT_NONE, 0, true},
    {1, 64, {48}, {8}, 0, false, NONE, ACT_NONE, 0, true},
    {1, 64, {40, 8, 16}, {8, 8, 8}, 0.25f, true, NONE, ACT_NONE, 0, true},
    {17, 72, {48, 24, 8}, {8, 16, 8}, 0, true, NONE, ACT_NONE, 0, true},
    {17, 72, {48, 24, 8}, {8, 16, 8}, 0, true, ITSELF, ACT_RELU, 8, false},
    {17, 72, {48, 24, 8}, {8, 0, 24}, 0.25f, false, APART, ACT_NONE, 0, true},
    {33, 72, {48, 24, 8}, {0, 8, 0}, 0.25f, false, NONE, ACT_GELU, 8, false},
    {33, 64, {16, 64}, {32, 32}, 0, false, NONE, ACT_NONE, 0, true},
    {33, 64, {16, 64}, {32, 32}, 0.1f, false, ITSELF, ACT_GELU, 0, true},
    {20, 40, {33, 7, 12}, {4, 2, 8}, 0, true, NONE, ACT_NONE, 2, true},
    {20, 40, {33, 7, 12}, {4, 2, 8}, 0.5f, true, NONE, ACT_RELU, 2, false},
    {9, 31, {17, 5}, {1, 3}, 0.25f, false, APART, ACT_NONE, 1, true},
    {9, 64, {64}, {7}, 0, true, NONE, ACT_GELU, 0, true},
    {18, 128, {96}, {64}, 0, false, NONE, ACT_NONE, 0, true},
    {18, 64, {24, 40}, {64, 48}, 0.1f, false, NONE, ACT_NONE, 0, false},
    {300, 64, {64}, {16}, 0, true, NONE, ACT_NONE, 0, true},
    {300, 64, {64}, {16}, 0.1f, false, NONE, ACT_NONE, 0, true},
    {40, 1096, {520, 8, 616}, {16, 8, 16}, 0, false, NONE, ACT_NONE, 0, true},
    {24, 1096, {520, 8, 616}, {16, 8, 16}, 0.1f, true, NONE, ACT_NONE, 0, true},
    {70, 584, {16}, {40}, 0, false, ITSELF, ACT_NONE, 8, true},
    {150, 1096, {1032, 8}, {16, 16}, 0, false, NONE, ACT_NONE, 0, true},
    {80, 1096, {40, 1032}, {24, 24}, 0.1f, false, NONE, ACT_NONE, 0, true},
    {80, 1096, {1032}, {64}, 0.1f, false, NONE, ACT_NONE, 0, true},
    {130, 1032, {520}, {8}, 0.1f, true, NONE, ACT_NONE, 0, false},
    {17, 64, {48}, {0}, 0, true, APART, ACT_NONE, 0, false},
    {17, 64, {48}, {0}, 0, false, ITSELF, ACT_NONE, 8, false},
    {17, 33, {19}, {0}, 0, true, APART, ACT_GELU, 3, false},
    {33, 72, {48}, {16}, 0.1f, false, APART, ACT_NONE, 0, true},
    {33, 72, {48}, {16}, 0, true, APART, ACT_NONE, 8, false},
    {33, 72, {48}, {16}, 0, true, APART, ACT_RELU, 0, true},
    {9, 31, {17, 5}, {1, 3}, 0.25f, true, APART, ACT_NONE, 1, false},
    {17, 0, {48}, {0}, 0, true, APART, ACT_NONE, 0, false},
    {17, 0, {19}, {0}, 0, false, ITSELF, ACT_NONE, 0, false},
};

static int sum_of(const int values[LINEAR_PARTS]) { return values[0] + values[1] + values[2]; }

/* Rows × cols with `rows_more`, `cols_more` of room past them, in which NaN lies at first. */
static Pair roomy(Twin *t, int64_t rows, int64_t cols, int64_t rows_more, int64_t cols_more, int64_t pad) {
    Pair p = twin_pair(t, t->dtype, rows + rows_more, cols + cols_more, pad);
    float *values = twin_host(t, (size_t)((rows + rows_more) * (cols + cols_more)) * sizeof *values);
    for (int64_t r = 0; r < rows + rows_more; r++)
        for (int64_t c = 0; c < cols + cols_more; c++)
            values[r * (cols + cols_more) + c] = r < rows && c < cols ? twin_draw(t) : NAN;
    pair_set(t, p, values);
    for (int on = 0; on < SIDES; on++) p.on[on].rows = rows, p.on[on].cols = cols;
    return p;
}

/* What is to be written, from draws where it is added to, else from NaN. */
static Pair result(Twin *t, int64_t rows, int64_t cols, int64_t pad, bool added) {
    Pair p = pair(t, rows, cols, pad);
    float *nan = twin_host(t, (size_t)(rows * cols) * sizeof *nan);
    for (int64_t i = 0; i < rows * cols; i++) nan[i] = NAN;
    if (!added) pair_set(t, p, nan);
    return p;
}

typedef struct Pairs { /* of LoRA, and their gradients */
    Pair a[LINEAR_PARTS], b[LINEAR_PARTS], da[LINEAR_PARTS], db[LINEAR_PARTS];
    Table sample, position;
} Pairs;

static Pairs pairs_of(Twin *t, const Case *p) {
    Pairs of = {.sample = random_table(t, p->n, 1000), .position = random_table(t, p->n, 600)};
    for (int i = 0; i < LINEAR_PARTS; i++) {
        of.a[i] = maybe_pair32(t, p->ranks[i] > 0, p->ranks[i], p->in, p->pad);
        of.b[i] = maybe_pair32(t, p->ranks[i] > 0, p->outs[i], p->ranks[i], p->pad);
        of.da[i] = maybe_pair32(t, p->ranks[i] > 0, p->ranks[i], p->in, p->pad);
        of.db[i] = maybe_pair32(t, p->ranks[i] > 0, p->outs[i], p->ranks[i], p->pad);
    }
    return of;
}

static void loras_of(const Case *p, const Pairs *of, int on, Lora lora[LINEAR_PARTS]) {
    for (int i = 0; i < LINEAR_PARTS; i++) {
        lora[i] = (Lora){.a = of->a[i].on[on], .b = of->b[i].on[on], .scale = 1.5f - 0.5f * (float)i};
        lora[i].b.rows = p->outs[i];
        lora[i].dropout = (Dropout){.p = p->p,
                                    .seed = 0x123456789abcdefull,
                                    .step = 7,
                                    .place = 0x10000u + (uint32_t)i,
                                    .sample = of->sample.on[on],
                                    .position = of->position.on[on]};
    }
}

/* bf16 rounds A, sB and the inner rows once each, and the result, twice where products are added to it: a share of the
 * numbers' size that no sum's cancelling makes worse. */
static void expect_size(Twin *t, const char *what, Pair got) {
    double square = 0.0, rows = (double)got.on[CPU].rows, cols = (double)got.on[CPU].cols;
    if (!tensor_present(got.on[CPU]) || rows * cols == 0.0) return;
    for (int64_t r = 0; r < got.on[CPU].rows; r++)
        for (int64_t c = 0; c < got.on[CPU].cols; c++) square += pow(twin_at(t, got, CPU, r, c), 2.0);
    double size = sqrt(square / (rows * cols)), share = t->dtype == DTYPE_BF16 ? 0.005 : 2e-6;
    expect_twin_norm(t, what, got, share);
    expect_twin(t, what, got, 2.0 * share, 6.0 * share * size);
}

/* `known`: low is given, and is not what x would make it. */
static void forward_case(const Case *p, DType dtype, bool known) {
    Twin t;
    twin_open(&t, dtype, 5);
    int64_t out = sum_of(p->outs), rank = sum_of(p->ranks), tail = p->tail ? linear_tail(t.dev[GPU], rank) : 0;
    Pair x = roomy(&t, p->n, p->in, 0, tail, p->pad), weight = roomy(&t, out, p->in, tail, tail, p->pad);
    Pair bias = maybe_pair(&t, p->bias, 1, out, 0), y = result(&t, p->n, out, p->pad, p->residual == ITSELF);
    Pair residual = p->residual == ITSELF ? y : maybe_pair(&t, p->residual == APART, p->n, out, 2 * p->pad);
    Pair low = rank ? result(&t, p->n, rank, p->pad, known) : no_pair();
    Pairs of = pairs_of(&t, p);
    TWIN_ARGS(LinearArgs, a,
              {.x = x.on[on],
               .weight = weight.on[on],
               .bias = bias.on[on],
               .tail = tail,
               .act = p->act,
               .residual = residual.on[on],
               .y = y.on[on],
               .low = low.on[on],
               .low_known = known});
    for (int on = 0; on < SIDES; on++) loras_of(p, &of, on, a[on].lora);
    TWIN_RUN(&t, linear, a);
    expect_size(&t, "y", y);
    if (p->residual == APART) expect_twin(&t, "residual", residual, 0.0, 0.0);
    expect_size(&t, "low", low);
    /* Said to be kept, the tail is not packed anew: B may be anything. */
    if (tail && rank && p->residual != ITSELF && p->n < 40) {
        for (int i = 0; i < LINEAR_PARTS; i++) {
            a[GPU].tail_kept = true;
            if (p->ranks[i]) a[GPU].lora[i].b.data = of.db[i].on[GPU].data;
        }
        TWIN_RUN(&t, linear, a);
        expect_size(&t, "y, the tail being kept", y);
    }
    twin_close(&t);
}

typedef struct Wanted {
    bool dx, lora, weight;
    bool normed; /* the layer read RMSNorm's output of x */
    bool dlow, dlow_known;
    int parts_without; /* so many of the first parts' pairs want no gradient */
} Wanted;

static void backward_case(const Case *p, DType dtype, Wanted w) {
    Twin t;
    twin_open(&t, dtype, 6);
    int64_t out = sum_of(p->outs), rank = sum_of(p->ranks), tail = p->tail ? linear_tail(t.dev[GPU], rank) : 0;
    Pair x = pair(&t, p->n, p->in, p->pad), weight = roomy(&t, out, p->in, tail, tail, p->pad);
    Pair dy = roomy(&t, p->n, out, 0, tail, p->pad), low = maybe_pair(&t, rank > 0, p->n, rank, p->pad);
    Pair gamma = maybe_pair(&t, w.normed, 1, p->in, 0), rstd = maybe_pair32(&t, w.normed, p->n, 1, p->pad);
    Pair dx = w.dx ? result(&t, p->n, p->in, p->pad, p->residual != NONE) : no_pair();
    Pair dlow = w.dlow && rank ? result(&t, p->n, rank, p->pad, w.dlow_known) : no_pair();
    Pair dweight = maybe_pair32(&t, w.weight, out, p->in, p->pad), dbias = maybe_pair32(&t, w.weight, 1, out, 0);
    Pairs of = pairs_of(&t, p);
    TWIN_ARGS(LinearBackwardArgs, a,
              {.x = x.on[on],
               .gamma = gamma.on[on],
               .rstd = rstd.on[on],
               .weight = weight.on[on],
               .tail = tail,
               .low = low.on[on],
               .dlow = dlow.on[on],
               .dlow_known = w.dlow_known && rank,
               .dy = dy.on[on],
               .dx = dx.on[on],
               .accumulate_dx = p->residual != NONE,
               .dweight = dweight.on[on],
               .dbias = dbias.on[on]});
    for (int on = 0; on < SIDES; on++) {
        loras_of(p, &of, on, a[on].lora);
        for (int i = w.parts_without; i < LINEAR_PARTS && w.lora; i++)
            a[on].da[i] = of.da[i].on[on], a[on].db[i] = of.db[i].on[on];
    }
    TWIN_RUN(&t, linear_backward, a);
    expect_size(&t, "dx", dx);
    expect_size(&t, "dlow", dlow);
    for (int i = 0; i < LINEAR_PARTS; i++) {
        expect_size(&t, "da", of.da[i]);
        expect_size(&t, "db", of.db[i]);
    }
    expect_size(&t, "dweight", dweight);
    expect_size(&t, "dbias", dbias);
    twin_close(&t);
}

static void test_forward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        forward_case(&CASES[i], DTYPE_BF16, false);
        forward_case(&CASES[i], DTYPE_F32, false);
        if (sum_of(CASES[i].ranks) && i % 2) forward_case(&CASES[i], i % 3 ? DTYPE_BF16 : DTYPE_F32, true);
    }
}

static void test_backward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        backward_case(&CASES[i], DTYPE_BF16, (Wanted){.dx = true, .lora = true});
        backward_case(&CASES[i], DTYPE_BF16, (Wanted){.dx = true, .weight = i % 2});
        backward_case(&CASES[i], DTYPE_BF16, (Wanted){.lora = true, .weight = i % 2 == 0});
        backward_case(&CASES[i], DTYPE_F32, (Wanted){.dx = true, .lora = true, .weight = true});
        backward_case(&CASES[i], DTYPE_BF16, (Wanted){.dx = i % 2, .lora = true, .normed = true});
        backward_case(&CASES[i], DTYPE_F32, (Wanted){.dx = i % 2, .lora = true, .normed = true});
        if (CASES[i].ranks[2])
            backward_case(&CASES[i], DTYPE_BF16, (Wanted){.dx = true, .lora = true, .parts_without = 2});
        DType some = i % 3 ? DTYPE_BF16 : DTYPE_F32;
        bool known = i % 2, gradients = i % 4 < 2 || !known;
        backward_case(&CASES[i], some,
                      (Wanted){.dx = i % 4 != 0, .lora = gradients, .dlow = true, .dlow_known = known});
    }
}

/* Gradients of a norm's input are to the bit those of what op_rms_norm writes of it. */
static void normed_case(const Case *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 7);
    int64_t out = sum_of(p->outs), rank = sum_of(p->ranks);
    Pair x = pair_scaled(&t, dtype, p->n, p->in, p->pad, 3.0f), gamma = pair(&t, 1, p->in, 0);
    Pair y = pair(&t, p->n, p->in, p->pad), rstd = pair32(&t, p->n, 1, 0), weight = pair(&t, out, p->in, 0);
    Pair dy = pair(&t, p->n, out, p->pad), low = pair(&t, p->n, rank, 0);
    TWIN_ARGS(RmsNormArgs, norm,
              {.x = x.on[on], .gamma = gamma.on[on], .eps = 1e-5f, .groups = 1, .y = y.on[on], .rstd = rstd.on[on]});
    TWIN_RUN(&t, rms_norm, norm);
    Pairs of = pairs_of(&t, p);
    Pair da[2][LINEAR_PARTS];
    float *zeros = twin_host(&t, (size_t)(rank * p->in) * sizeof *zeros);
    for (int again = 0; again < 2; again++)
        for (int i = 0; i < LINEAR_PARTS; i++) {
            da[again][i] = maybe_pair32(&t, p->ranks[i] > 0, p->ranks[i], p->in, p->pad);
            if (p->ranks[i]) pair_set(&t, da[again][i], zeros);
        }
    for (int again = 0; again < 2; again++) {
        TWIN_ARGS(LinearBackwardArgs, a,
                  {.x = again ? x.on[on] : y.on[on], .weight = weight.on[on], .low = low.on[on], .dy = dy.on[on]});
        for (int on = 0; on < SIDES; on++) {
            if (again) a[on].gamma = gamma.on[on], a[on].rstd = rstd.on[on];
            loras_of(p, &of, on, a[on].lora);
            for (int i = 0; i < LINEAR_PARTS; i++) a[on].da[i] = da[again][i].on[on];
        }
        TWIN_RUN(&t, linear_backward, a);
    }
    for (int i = 0; i < LINEAR_PARTS; i++)
        for (int64_t r = 0; r < p->ranks[i]; r++)
            for (int64_t c = 0; c < p->in; c++)
                assert_true(twin_at(&t, da[0][i], GPU, r, c) == twin_at(&t, da[1][i], GPU, r, c));
    twin_close(&t);
}

static void test_normed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        if (!sum_of(CASES[i].ranks)) continue;
        normed_case(&CASES[i], DTYPE_BF16);
        normed_case(&CASES[i], DTYPE_F32);
    }
}

/* Of every rank, odd ones among them. */
static void test_ranks(void **state) {
    (void)state;
    for (int rank = 1; rank <= 64; rank += rank < 8 ? 1 : 7) {
        Case p = {.n = 19, .in = 48, .outs = {32, 24}, .ranks = {rank, 8}, .tail = rank % 2};
        forward_case(&p, DTYPE_BF16, false);
        backward_case(&p, DTYPE_BF16, (Wanted){.dx = true, .lora = true});
        p.p = 0.2f;
        forward_case(&p, DTYPE_BF16, false);
        backward_case(&p, DTYPE_BF16, (Wanted){.dx = true, .lora = true});
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward), cmocka_unit_test(test_backward),
                                       cmocka_unit_test(test_normed), cmocka_unit_test(test_ranks)};
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
