/* Matrix products of the CUDA device beside the CPU's. */
#include "tests/cuda/twin.h"

/* What cancels leaves fp32's rounding of sums of up to 300 terms in [-1, 1]. */
static const double ABSOLUTE = 2e-5;

typedef struct Case {
    int m, n, k;
    bool ta, tb, bias;
    float alpha, beta;
    Activation act;
    int pad, shift;
} Case;

static const Case CASES[] = {
    {1, 1, 1, 0, 0, 0, 1, 0, ACT_NONE, 0, 0},        {1, 64, 128, 0, 1, 0, 1, 0, ACT_NONE, 0, 0},
    {1, 37, 300, 0, 0, 1, 0.5f, 1, ACT_NONE, 3, 0},  {2, 130, 66, 0, 1, 1, 1, 0, ACT_GELU, 1, 0},
    {3, 16, 64, 0, 1, 0, 1, 1, ACT_RELU, 5, 0},      {17, 33, 65, 0, 0, 1, -2, 0.5f, ACT_NONE, 7, 0},
    {17, 33, 65, 1, 0, 1, 1, 0, ACT_GELU, 7, 0},     {17, 33, 65, 0, 1, 1, 1, 1, ACT_RELU, 0, 0},
    {17, 33, 65, 1, 1, 0, 1, 0, ACT_NONE, 2, 0},     {64, 1, 31, 0, 1, 0, 1, 0, ACT_GELU, 0, 0},
    {33, 64, 96, 0, 1, 1, 1, 0, ACT_GELU, 0, 0},     {33, 64, 96, 0, 1, 1, 1, 0, ACT_GELU, 8, 0},
    {33, 64, 96, 0, 1, 1, 1, 0, ACT_RELU, 0, 3},     {33, 64, 96, 0, 1, 1, 1, 0, ACT_NONE, 8, 1},
    {8, 200, 129, 1, 0, 0, 1, 1, ACT_NONE, 0, 0},    {5, 72, 9, 0, 1, 0, 1, 0, ACT_GELU, 0, 0},
    {5, 7, 0, 0, 1, 1, 1, 0, ACT_NONE, 0, 0},        {5, 7, 0, 0, 1, 1, 1, 2, ACT_GELU, 1, 0},
    {5, 8, 0, 0, 1, 0, 1, 0, ACT_RELU, 0, 0},        {0, 7, 9, 0, 1, 1, 1, 0, ACT_GELU, 0, 0},
    {5, 0, 9, 0, 1, 0, 1, 0, ACT_NONE, 0, 0},        {130, 260, 140, 0, 1, 1, 1, 0, ACT_GELU, 4, 0},
    {300, 24, 48, 0, 0, 1, 1, 0.25f, ACT_RELU, 0, 2}};

/* bf16 rounds once: 2⁻⁹, and once more where the two sums fall on either side of a tie. GELU, a bias and what is added
 * to act on numbers (here under 16) that were rounded before: where they come after the product's own epilogue, and in
 * some of cuBLASLt's algorithms for odd sizes. */
static void expect_product(Twin *t, Pair c, const Case *p) {
    bool after_gelu = p->act == ACT_GELU;
    if (t->dtype == DTYPE_F32)
        expect_twin(t, "c", c, 1e-6, ABSOLUTE);
    else if (p->bias || p->beta != 0.0f)
        expect_twin(t, "c", c, 0x1p-8, 0x1p-5);
    else
        expect_twin(t, "c", c, after_gelu ? 0x1p-7 : 0x1p-8, after_gelu ? 0x1p-9 : ABSOLUTE);
}

static void matmul_case(const Case *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 1);
    t.shift = p->shift;
    Pair x = p->ta ? pair(&t, p->k, p->m, p->pad) : pair(&t, p->m, p->k, p->pad);
    Pair w = p->tb ? pair(&t, p->n, p->k, p->pad) : pair(&t, p->k, p->n, p->pad);
    Pair c = pair(&t, p->m, p->n, p->pad), bias = maybe_pair(&t, p->bias, 1, p->n, 0);
    if (p->beta == 0.0f) { /* what c held must not matter */
        float *nan = twin_host(&t, (size_t)(p->m * p->n) * sizeof *nan);
        for (int i = 0; i < p->m * p->n; i++) nan[i] = NAN;
        pair_set(&t, c, nan);
    }
    TWIN_ARGS(MatmulArgs, a,
              {.a = x.on[on],
               .b = w.on[on],
               .c = c.on[on],
               .bias = bias.on[on],
               .transpose_a = p->ta,
               .transpose_b = p->tb,
               .alpha = p->alpha,
               .beta = p->beta,
               .act = p->act});
    TWIN_RUN(&t, matmul, a);
    expect_product(&t, c, p);
    twin_close(&t);
}

static void test_matmul(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        matmul_case(&CASES[i], DTYPE_BF16);
        matmul_case(&CASES[i], DTYPE_F32);
    }
}

/* Views of a wider buffer, as augmented layers have them, and rows that do not begin at a multiple of 16 bytes. */
static void test_views(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 2);
    Pair wide = pair(&t, 40, 128, 0), weight = pair(&t, 48, 128, 0), y = pair(&t, 40, 96, 0);
    for (int64_t first = 0; first <= 24; first += 8 + first / 8) {
        TWIN_ARGS(MatmulArgs, a,
                  {.a = tensor_cols(wide.on[on], first, 64),
                   .b = tensor_cols(weight.on[on], first, 64),
                   .c = tensor_cols(y.on[on], first, 48),
                   .transpose_b = true,
                   .alpha = 1.0f});
        TWIN_RUN(&t, matmul, a);
        expect_twin(&t, "y", y, 0x1p-8, ABSOLUTE);
    }
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matmul), cmocka_unit_test(test_views)};
    return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}
