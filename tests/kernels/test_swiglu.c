/* SwiGLU, and what it computes for the LoRA pairs beside it, against formulas in double. */
#include "tests/kernels/support.h"

typedef struct Case {
    int n, f, pad;
    bool alias;
    int gate, up, down; /* ranks */
    float p;            /* of the down projection's dropout */
} Case;

static const Case CASES[] = {{1, 1, 0, false, 0, 0, 0, 0},      {3, 17, 2, true, 2, 3, 4, 0},
                             {9, 64, 0, false, 0, 2, 1, 0.25f}, {0, 5, 0, false, 2, 2, 2, 0},
                             {60, 333, 0, true, 4, 4, 4, 0.5f}, {300, 40, 4, false, 3, 0, 2, 0.1f},
                             {520, 24, 0, true, 2, 2, 0, 0},    {257, 31, 1, true, 0, 0, 3, 0.3f}};

static Tensor output(Bench *t, Tensor input, bool alias) {
    return alias ? input : tensor(t, input.rows, input.cols, input.ld - input.cols);
}

static Lora pair_of(Bench *t, int in, int out, int rank, float scale, Dropout dropout) {
    if (!rank) return (Lora){0};
    return (Lora){.a = tensor(t, rank, in, 0), .b = tensor(t, out, rank, 0), .scale = scale, .dropout = dropout};
}

static void forward_case(const Case *p) {
    Bench t;
    bench_open(&t, 2, 40);
    SwigluArgs a = {.gate = scaled(&t, p->n, p->f, p->pad, 6.0f), .up = tensor(&t, p->n, p->f, p->pad)};
    a.down = pair_of(&t, p->f, 5, p->down, 2.0f, dropout_key(&t, p->n, p->p));
    a.low = maybe(&t, p->down > 0, p->n, p->down, 1);
    double *y = zeros(&t, (int64_t)p->n * p->f), *low = zeros(&t, (int64_t)p->n * p->down);
    for (int64_t r = 0; r < p->n; r++)
        for (int64_t c = 0; c < p->f; c++) {
            double gate = (double)at(a.gate, r, c), product = gate * sigmoid_ref(gate) * (double)at(a.up, r, c);
            y[r * p->f + c] = product;
            for (int j = 0; j < p->down; j++)
                low[r * p->down + j] += product * mask_ref(&a.down.dropout, r, c, p->f) * (double)at(a.down.a, j, c);
        }
    a.y = output(&t, p->n % 2 ? a.gate : a.up, p->alias);
    RUN(&t, swiglu, &a);
    expect_close("y", a.y, y, 1e-6);
    if (p->down) expect_near("low", a.low, low, 1e-6);
    bench_close(&t);
}

/* Without `all`, only what a linear layer of frozen weights has: dgate and dup. */
static void backward_case(const Case *p, bool all) {
    Bench t;
    bench_open(&t, 2, 41);
    int64_t n = p->n, f = p->f, rank = p->gate + p->up;
    SwigluBackwardArgs a = {
        .gate = scaled(&t, n, f, p->pad, 6.0f), .up = tensor(&t, n, f, p->pad), .dy = tensor(&t, n, f, p->pad)};
    Dropout none = {0};
    a.down.lora = pair_of(&t, p->f, 5, p->down, 2.0f, dropout_key(&t, n, p->p));
    a.gate_up.lora[0] = pair_of(&t, 7, p->f, p->gate, 1.5f, none);
    a.gate_up.lora[1] = pair_of(&t, 7, p->f, p->up, 0.5f, none);
    a.down.dlow = maybe(&t, p->down > 0, n, p->down, 3);
    a.down.da = maybe(&t, all && p->down, p->down, f, 1);
    a.gate_up.low = maybe(&t, rank > 0, n, rank, 2);
    a.gate_up.dlow = maybe(&t, all && rank, n, rank, 1);
    a.gate_up.db[0] = maybe(&t, all && p->gate, f, p->gate, 0);
    a.gate_up.db[1] = maybe(&t, all && p->up, f, p->up, 2);
    double *dgate = zeros(&t, n * f), *dup = zeros(&t, n * f), *da = doubles(&t, a.down.da);
    double *dlow = zeros(&t, n * rank), *db[2] = {doubles(&t, a.gate_up.db[0]), doubles(&t, a.gate_up.db[1])};
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < f; c++) {
            double g = (double)at(a.gate, r, c), u = (double)at(a.up, r, c), d = (double)at(a.dy, r, c);
            double s = sigmoid_ref(g), y = g * s * u * mask_ref(&a.down.lora.dropout, r, c, f);
            double grad[2] = {d * u * (s + g * s * (1.0 - s)), d * g * s};
            dgate[r * f + c] = grad[0], dup[r * f + c] = grad[1];
            for (int j = 0; j < p->down && da; j++) da[j * f + c] += (double)at(a.down.dlow, r, j) * y;
            for (int i = 0, first = 0; i < 2; first += p->gate, i++)
                for (int j = 0; j < (i ? p->up : p->gate); j++) {
                    double scale = i ? 0.5 : 1.5;
                    dlow[r * rank + first + j] += scale * grad[i] * (double)at(a.gate_up.lora[i].b, c, j);
                    if (db[i])
                        db[i][c * (i ? p->up : p->gate) + j] +=
                            scale * grad[i] * (double)at(a.gate_up.low, r, first + j);
                }
        }
    a.dgate = output(&t, a.gate, p->alias);
    a.dup = output(&t, a.up, p->alias);
    RUN(&t, swiglu_backward, &a);
    expect_close("dgate", a.dgate, dgate, 1e-6);
    expect_close("dup", a.dup, dup, 1e-6);
    if (da) expect_near("da", a.down.da, da, 2e-6);
    if (tensor_present(a.gate_up.dlow)) expect_near("dlow", a.gate_up.dlow, dlow, 2e-6);
    for (int i = 0; i < 2; i++)
        if (db[i]) expect_near("db", a.gate_up.db[i], db[i], 2e-6);
    bench_close(&t);
}

static void test_forward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) forward_case(&CASES[i]);
}

static void test_backward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        backward_case(&CASES[i], true);
        backward_case(&CASES[i], false);
    }
}

static void test_refusals(void **state) {
    (void)state;
    Bench t;
    bench_open(&t, 1, 42);
    SwigluArgs a = {.gate = tensor(&t, 3, 8, 0), .up = tensor(&t, 3, 8, 0), .y = tensor(&t, 3, 8, 0)};
    a.down = pair_of(&t, 8, 5, 2, 1.0f, (Dropout){0});
    REFUSED(&t, swiglu, &a, "low");
    a.low = tensor(&t, 3, 2, 0);
    a.down.a.cols = 7;
    REFUSED(&t, swiglu, &a, "lora.a");
    SwigluBackwardArgs b = {.gate = a.gate, .up = a.up, .dy = a.y, .dgate = a.gate, .dup = a.up};
    b.down.da = tensor(&t, 2, 8, 0);
    REFUSED(&t, swiglu_backward, &b, "without a pair");
    b.down.lora = pair_of(&t, 8, 5, 2, 1.0f, (Dropout){0});
    REFUSED(&t, swiglu_backward, &b, "down.dlow");
    b.down.dlow = tensor(&t, 3, 2, 0);
    b.gate_up.db[1] = tensor(&t, 8, 2, 0);
    REFUSED(&t, swiglu_backward, &b, "without a pair");
    b.gate_up.lora[1] = pair_of(&t, 5, 8, 2, 1.0f, (Dropout){0});
    REFUSED(&t, swiglu_backward, &b, "gate_up.low");
    b.gate_up.low = tensor(&t, 3, 2, 0);
    b.gate_up.dlow = tensor(&t, 3, 3, 0);
    REFUSED(&t, swiglu_backward, &b, "gate_up.dlow");
    b.gate_up.dlow.cols = 2;
    RUN(&t, swiglu_backward, &b);
    bench_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward), cmocka_unit_test(test_backward),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("swiglu", tests, NULL, NULL);
}
