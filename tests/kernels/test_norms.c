/* LayerNorm and RMSNorm, forward and backward. */
#include "tests/kernels/support.h"

/* Statistics of rows of up to 1024 elements; normalised values reach about 3. */
static const double TOLERANCE = 5e-6;

typedef struct Case {
    int n, d, groups;
    bool stats, parameters, bypass;
    int alias; /* 0: none; 1: y is x, dx is dy; 2: the bypass is dx */
    Activation act;
    int pad;
} Case;

static const Case CASES[] = {
    {1, 1, 1, 0, 1, 0, 0, ACT_NONE, 0},      {1, 576, 1, 1, 0, 0, 0, ACT_NONE, 0},
    {7, 33, 1, 1, 1, 1, 0, ACT_GELU, 5},     {100, 768, 12, 1, 1, 1, 0, ACT_NONE, 0},
    {9, 64, 4, 0, 0, 1, 1, ACT_RELU, 3},     {9, 64, 1, 1, 1, 1, 2, ACT_NONE, 0},
    {40, 130, 2, 1, 1, 0, 1, ACT_NONE, 1},   {0, 16, 1, 1, 1, 1, 0, ACT_NONE, 0},
    {65, 1024, 16, 1, 1, 0, 0, ACT_GELU, 0}, {3, 70, 7, 1, 1, 1, 2, ACT_NONE, 0},
};

enum { COUNT = sizeof CASES / sizeof *CASES };

/* x, its normalised form and, for the gradient, a loss Σ weight · y; everything dense in double. */
typedef struct Reference {
    int64_t n, d, groups;
    bool rms;
    double eps;
    Activation act;
    double *x, *gamma, *beta, *y, *mean, *rstd;
    const double *weight;
} Reference;

static double reference_loss(const void *context) {
    const Reference *r = context;
    int64_t width = r->d / r->groups;
    double loss = 0.0;
    for (int64_t p = 0; p < r->n * r->groups; p++) { /* parts of rows */
        const double *x = r->x + p * width;
        double mean = 0.0, variance = 0.0;
        for (int64_t c = 0; c < width && !r->rms; c++) mean += x[c] / (double)width;
        for (int64_t c = 0; c < width; c++) variance += (x[c] - mean) * (x[c] - mean) / (double)width;
        r->mean[p] = mean;
        r->rstd[p] = 1.0 / sqrt(variance + r->eps);
        for (int64_t c = 0; c < width; c++) {
            double y = (x[c] - mean) * r->rstd[p] * r->gamma[c] + (r->rms ? 0.0 : r->beta[c]);
            r->y[p * width + c] = act_ref(y, r->act);
            if (r->weight) loss += r->weight[p * width + c] * r->y[p * width + c];
        }
    }
    return loss;
}

static Reference reference_of(Bench *t, Tensor x, Tensor gamma, Tensor beta, const Case *p, bool rms) {
    int64_t n = p->n, d = p->d, groups = rms ? p->groups : 1;
    Reference want = {.n = n,
                      .d = d,
                      .groups = groups,
                      .rms = rms,
                      .eps = (double)1e-5f,
                      .act = rms ? ACT_NONE : p->act,
                      .gamma = doubles(t, gamma),
                      .beta = doubles(t, beta),
                      .x = doubles(t, x),
                      .y = zeros(t, n * d),
                      .mean = zeros(t, n * groups),
                      .rstd = zeros(t, n * groups)};
    return want;
}

static void test_layer_norm(void **state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const Case *p = &CASES[i];
        Bench t;
        bench_open(&t, 1 + i % 2, 30);
        LayerNormArgs a = {.x = tensor(&t, p->n, p->d, p->pad),
                           .gamma = tensor(&t, 1, p->d, 0),
                           .beta = tensor(&t, 1, p->d, 0),
                           .eps = 1e-5f,
                           .act = p->act,
                           .mean = maybe(&t, p->stats, 1, p->n, 0),
                           .rstd = maybe(&t, p->stats, 1, p->n, 0)};
        Reference want = reference_of(&t, a.x, a.gamma, a.beta, p, false);
        reference_loss(&want);
        a.y = p->alias == 1 ? a.x : tensor(&t, p->n, p->d, p->pad);
        RUN(&t, layer_norm, &a);
        expect_close("y", a.y, want.y, p->d == 1 ? 1e-4 : TOLERANCE);
        if (p->stats) expect_close("mean", a.mean, want.mean, 1e-6);
        if (p->stats) expect_close("rstd", a.rstd, want.rstd, TOLERANCE);
        bench_close(&t);
    }
}

static void test_rms_norm(void **state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const Case *p = &CASES[i];
        Bench t;
        bench_open(&t, 1 + i % 2, 31);
        RmsNormArgs a = {.x = tensor(&t, p->n, p->d, p->pad),
                         .gamma = tensor(&t, 1, p->d / p->groups, 0),
                         .eps = 1e-5f,
                         .groups = p->groups,
                         .rstd = maybe(&t, p->stats, p->n, p->groups, p->pad)};
        Reference want = reference_of(&t, a.x, a.gamma, absent(), p, true);
        reference_loss(&want);
        a.y = p->alias == 1 ? a.x : tensor(&t, p->n, p->d, p->pad);
        RUN(&t, rms_norm, &a);
        expect_close("y", a.y, want.y, TOLERANCE);
        if (p->stats) expect_close("rstd", a.rstd, want.rstd, TOLERANCE);
        bench_close(&t);
    }
}

static Tensor floats_of(Bench *t, const double *from, int64_t rows, int64_t cols, int64_t pad) {
    Tensor to = tensor(t, rows, cols, pad);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) ((float *)to.data)[r * to.ld + c] = (float)from[r * cols + c];
    return to;
}

/* dx = dloss/dx + what bypasses; dgamma and dbeta are added to what they held. */
typedef struct Gradients {
    double *dx, *dgamma, *dbeta;
} Gradients;

static Gradients gradients_of(Bench *t, Reference *want, const double *dy, const double *bypass, Tensor dgamma,
                              Tensor dbeta) {
    Gradients g = {zeros(t, want->n * want->d), doubles(t, dgamma), doubles(t, dbeta)};
    int64_t width = want->d / want->groups;
    want->weight = dy;
    differentiate(want->x, want->n * want->d, reference_loss, want, g.dx);
    for (int64_t i = 0; bypass && i < want->n * want->d; i++) g.dx[i] += bypass[i];
    double *add = zeros(t, width);
    differentiate(want->gamma, width, reference_loss, want, add);
    for (int64_t c = 0; g.dgamma && c < width; c++) g.dgamma[c] += add[c];
    if (want->rms) return g;
    differentiate(want->beta, width, reference_loss, want, add);
    for (int64_t c = 0; g.dbeta && c < width; c++) g.dbeta[c] += add[c];
    return g;
}

static const Case GRADIENTS[] = {
    {1, 16, 1, 1, 1, 0, 0, ACT_NONE, 0},  {7, 33, 3, 1, 1, 1, 0, ACT_NONE, 5}, {5, 40, 4, 1, 0, 1, 1, ACT_NONE, 2},
    {6, 130, 1, 1, 1, 1, 2, ACT_NONE, 0}, {0, 8, 2, 1, 1, 1, 0, ACT_NONE, 0},  {20, 66, 1, 1, 1, 0, 1, ACT_NONE, 0},
};

enum { GRADIENT_COUNT = sizeof GRADIENTS / sizeof *GRADIENTS };

static void test_layer_norm_backward(void **state) {
    (void)state;
    for (int i = 0; i < GRADIENT_COUNT; i++) {
        const Case *p = &GRADIENTS[i];
        Bench t;
        bench_open(&t, 1 + i % 2, 32);
        LayerNormBackwardArgs a = {.x = tensor(&t, p->n, p->d, p->pad),
                                   .gamma = tensor(&t, 1, p->d, 0),
                                   .dy = tensor(&t, p->n, p->d, p->pad),
                                   .residual_grad = maybe(&t, p->bypass, p->n, p->d, p->pad),
                                   .dgamma = maybe(&t, p->parameters, 1, p->d, 0),
                                   .dbeta = maybe(&t, p->parameters, 1, p->d, 0)};
        Tensor beta = tensor(&t, 1, p->d, 0);
        Reference want = reference_of(&t, a.x, a.gamma, beta, p, false);
        reference_loss(&want);
        a.mean = floats_of(&t, want.mean, 1, p->n, 0);
        a.rstd = floats_of(&t, want.rstd, 1, p->n, 0);
        Gradients g = gradients_of(&t, &want, doubles(&t, a.dy), doubles(&t, a.residual_grad), a.dgamma, a.dbeta);
        a.dx = p->alias == 1 ? a.dy : p->alias == 2 ? a.residual_grad : tensor(&t, p->n, p->d, p->pad);
        RUN(&t, layer_norm_backward, &a);
        expect_close("dx", a.dx, g.dx, 2e-5);
        if (p->parameters) expect_close("dgamma", a.dgamma, g.dgamma, 2e-5);
        if (p->parameters) expect_close("dbeta", a.dbeta, g.dbeta, 2e-5);
        bench_close(&t);
    }
}

static void test_rms_norm_backward(void **state) {
    (void)state;
    for (int i = 0; i < GRADIENT_COUNT; i++) {
        const Case *p = &GRADIENTS[i];
        Bench t;
        bench_open(&t, 1 + i % 2, 33);
        RmsNormBackwardArgs a = {.x = tensor(&t, p->n, p->d, p->pad),
                                 .gamma = tensor(&t, 1, p->d / p->groups, 0),
                                 .dy = tensor(&t, p->n, p->d, p->pad),
                                 .groups = p->groups,
                                 .residual_grad = maybe(&t, p->bypass, p->n, p->d, p->pad),
                                 .dgamma = maybe(&t, p->parameters, 1, p->d / p->groups, 0)};
        Reference want = reference_of(&t, a.x, a.gamma, absent(), p, true);
        reference_loss(&want);
        a.rstd = floats_of(&t, want.rstd, p->n, p->groups, p->pad);
        Gradients g = gradients_of(&t, &want, doubles(&t, a.dy), doubles(&t, a.residual_grad), a.dgamma, absent());
        a.dx = p->alias == 1 ? a.dy : p->alias == 2 ? a.residual_grad : tensor(&t, p->n, p->d, p->pad);
        RUN(&t, rms_norm_backward, &a);
        expect_close("dx", a.dx, g.dx, 2e-5);
        if (p->parameters) expect_close("dgamma", a.dgamma, g.dgamma, 2e-5);
        bench_close(&t);
    }
}

/* Gradients of parameters alone, or of x alone. */
static void test_frozen(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 34);
    RmsNormBackwardArgs a = {.x = tensor(&t, 4, 8, 0),
                             .gamma = tensor(&t, 1, 8, 0),
                             .rstd = tensor(&t, 4, 1, 0),
                             .dy = tensor(&t, 4, 8, 0),
                             .groups = 1,
                             .dgamma = tensor(&t, 1, 8, 0)};
    Tensor before = copy_of(&t, a.dgamma), dy = copy_of(&t, a.dy);
    RUN(&t, rms_norm_backward, &a);
    expect_same("dy", dy, a.dy);
    assert_memory_not_equal(before.data, a.dgamma.data, 8 * sizeof(float));
    a.groups = 3;
    REFUSED(&t, rms_norm_backward, &a, "groups");
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_layer_norm_backward),
        cmocka_unit_test(test_rms_norm_backward),
        cmocka_unit_test(test_frozen),
    };
    return cmocka_run_group_tests_name("norms", tests, NULL, NULL);
}
