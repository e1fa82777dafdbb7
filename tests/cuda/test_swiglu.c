/* SwiGLU of the CUDA device beside the CPU's: alone, and with what LoRA's pairs beside it want. */
#include "tests/cuda/twin.h"

typedef struct Case {
    int n, f, pad, shift;
    bool alias;
    int gate, up, down; /* ranks */
    float p;            /* of the down projection's dropout */
} Case;

/* Alone: dense and aligned, with a tail, rows apart, beginning anywhere, nothing at all. Then with pairs: every rank
 * that the kernels take differently, sizes that end within tiles, strips and groups of rows, odd ones. */
static const Case CASES[] = {{1, 1, 0, 0, false, 0, 0, 0, 0},         {3, 17, 2, 0, true, 0, 0, 0, 0},
                             {5, 0, 8, 0, false, 0, 0, 0, 0},         {1, 1003, 0, 0, true, 0, 0, 0, 0},
                             {0, 8, 0, 0, false, 8, 8, 8, 0},         {7, 40, 8, 0, true, 0, 0, 0, 0},
                             {6, 333, 3, 0, false, 0, 0, 0, 0},       {4, 136, 0, 1, true, 0, 0, 0, 0},
                             {40, 1000, 24, 0, true, 0, 0, 0, 0},     {1, 64, 0, 0, false, 8, 8, 8, 0},
                             {17, 72, 8, 0, true, 16, 16, 16, 0},     {33, 520, 0, 0, true, 8, 16, 16, 0},
                             {70, 1096, 0, 0, true, 16, 16, 16, 0},   {130, 56, 0, 0, false, 16, 8, 8, 0.25f},
                             {300, 48, 0, 0, true, 16, 16, 16, 0},    {150, 264, 8, 0, false, 0, 16, 8, 0},
                             {66, 512, 0, 0, true, 16, 0, 0, 0},      {90, 40, 0, 0, true, 0, 0, 16, 0.1f},
                             {40, 300, 4, 0, false, 8, 8, 8, 0},      {33, 264, 0, 0, true, 24, 32, 32, 0},
                             {80, 520, 0, 0, false, 32, 16, 8, 0.5f}, {20, 31, 1, 0, true, 3, 2, 5, 0.25f},
                             {70, 96, 0, 0, true, 40, 8, 48, 0},      {80, 64, 0, 0, false, 8, 8, 72, 0.1f},
                             {140, 96, 0, 1, true, 8, 8, 8, 0},       {1030, 12, 0, 0, true, 3, 2, 5, 0.25f},
                             {50, 24, 0, 0, true, 0, 5, 3, 0}};

enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

/* Sums of products of which one side was rounded to bf16 anew, as was the weight, and the sum itself: a share of the
 * numbers' size. */
static void expect_sums(Twin *t, const char *what, Pair p) {
    if (tensor_present(p.on[CPU])) expect_twin_norm(t, what, p, t->dtype == DTYPE_BF16 ? 0.005 : 2e-6);
}

static Pair of_shape(Twin *t, const Case *p, float scale) {
    return pair_scaled(t, t->dtype, p->n, p->f, p->pad, scale);
}

static Pair output(Twin *t, const Case *p, Pair input) { return p->alias ? input : of_shape(t, p, 1.0f); }

typedef struct LoraPair {
    Pair a, b;
    Table sample, position;
    float p;
} LoraPair;

static LoraPair lora_pair(Twin *t, const Case *p, int in, int out, int rank, float drop) {
    return (LoraPair){.a = maybe_pair32(t, rank > 0, rank, in, 0),
                      .b = maybe_pair32(t, rank > 0, out, rank, 0),
                      .sample = random_table(t, p->n, 1000),
                      .position = random_table(t, p->n, 600),
                      .p = drop};
}

static Lora lora_on(const LoraPair *of, int on, float scale) {
    return (Lora){.a = of->a.on[on],
                  .b = of->b.on[on],
                  .scale = scale,
                  .dropout = {.p = of->p,
                              .seed = 0x123456789abcdefull,
                              .step = 7,
                              .place = 0x10003u,
                              .sample = of->sample.on[on],
                              .position = of->position.on[on]}};
}

static void forward_case(const Case *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 10);
    t.shift = p->shift;
    Pair gate = of_shape(&t, p, 12.0f), up = of_shape(&t, p, 1.0f), y = output(&t, p, p->n % 2 ? gate : up);
    LoraPair down = lora_pair(&t, p, p->f, 24, p->down, p->p);
    Pair low = maybe_pair(&t, p->down > 0, p->n, p->down, p->pad);
    TWIN_ARGS(SwigluArgs, a, {.gate = gate.on[on], .up = up.on[on], .y = y.on[on], .low = low.on[on]});
    for (int on = 0; on < SIDES; on++) a[on].down = lora_on(&down, on, 1.0f);
    TWIN_RUN(&t, swiglu, a);
    expect_rounded(&t, "y", y);
    expect_sums(&t, "low", low);
    twin_close(&t);
}

/* Gate and up are the halves of one buffer, as the decoder has them, where they are overwritten. */
static void backward_case(const Case *p, DType dtype, bool dlow_wanted, bool gradients) {
    Twin t;
    twin_open(&t, dtype, 11);
    t.shift = p->shift;
    int rank = p->gate + p->up;
    Pair both = pair_scaled(&t, dtype, p->n, 2 * (int64_t)p->f, p->pad, 6.0f), gate = both, up = both;
    for (int on = 0; on < SIDES; on++) {
        gate.on[on] = tensor_cols(both.on[on], 0, p->f);
        up.on[on] = tensor_cols(both.on[on], p->f, p->f);
    }
    Pair dy = of_shape(&t, p, 1.0f), dgate = output(&t, p, gate), dup = output(&t, p, up);
    LoraPair down = lora_pair(&t, p, p->f, 24, p->down, p->p);
    LoraPair parts[2] = {lora_pair(&t, p, 16, p->f, p->gate, 0), lora_pair(&t, p, 16, p->f, p->up, 0)};
    Pair down_dlow = maybe_pair(&t, p->down > 0, p->n, p->down, p->pad);
    Pair da = maybe_pair32(&t, gradients && p->down, p->down, p->f, 0);
    Pair low = maybe_pair(&t, rank > 0, p->n, rank, p->pad), dlow = maybe_pair(&t, dlow_wanted && rank, p->n, rank, 0);
    Pair db[2] = {maybe_pair32(&t, gradients && p->gate, p->f, p->gate, 0),
                  maybe_pair32(&t, gradients && p->up, p->f, p->up, 0)};
    TWIN_ARGS(SwigluBackwardArgs, a,
              {.gate = gate.on[on],
               .up = up.on[on],
               .dy = dy.on[on],
               .dgate = dgate.on[on],
               .dup = dup.on[on],
               .down = {.dlow = down_dlow.on[on], .da = da.on[on]},
               .gate_up = {.low = low.on[on], .dlow = dlow.on[on], .db = {db[0].on[on], db[1].on[on]}}});
    for (int on = 0; on < SIDES; on++) {
        a[on].down.lora = lora_on(&down, on, 1.0f);
        a[on].gate_up.lora[0] = lora_on(&parts[0], on, 2.0f);
        a[on].gate_up.lora[1] = lora_on(&parts[1], on, 0.5f);
    }
    TWIN_RUN(&t, swiglu_backward, a);
    if (p->alias) {
        expect_rounded(&t, "dgate and dup", both);
    } else {
        expect_rounded(&t, "dgate", dgate);
        expect_rounded(&t, "dup", dup);
    }
    expect_sums(&t, "dlow", dlow);
    expect_sums(&t, "da", da);
    expect_sums(&t, "db of gate", db[0]);
    expect_sums(&t, "db of up", db[1]);
    twin_close(&t);
}

static void test_forward(void **state) {
    (void)state;
    for (int i = 0; i < 2 * CASE_COUNT; i++) forward_case(&CASES[i / 2], i % 2 ? DTYPE_F32 : DTYPE_BF16);
}

static void test_backward(void **state) {
    (void)state;
    for (int i = 0; i < CASE_COUNT; i++) {
        backward_case(&CASES[i], DTYPE_BF16, true, true);
        backward_case(&CASES[i], DTYPE_F32, true, true);
        if (CASES[i].gate + CASES[i].up + CASES[i].down == 0) continue;
        backward_case(&CASES[i], DTYPE_BF16, i % 2, !(i % 2));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward), cmocka_unit_test(test_backward)};
    return cmocka_run_group_tests_name("swiglu", tests, NULL, NULL);
}
