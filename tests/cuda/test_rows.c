/* Operations of the CUDA device that move rows or mix them, beside the CPU's. */
#include "tests/cuda/twin.h"

static Pair pair_cols(Pair p, int64_t first, int64_t count) {
    for (int on = 0; on < SIDES; on++) p.on[on] = tensor_cols(p.on[on], first, count);
    return p;
}

typedef void Check(Twin *t, const void *shape);

/* Both dtypes. */
static void each_dtype(Check *check, const void *shape, int shift) {
    for (int i = 0; i < 2; i++) {
        Twin t;
        twin_open(&t, i ? DTYPE_F32 : DTYPE_BF16, 20);
        t.shift = shift;
        check(&t, shape);
        twin_close(&t);
    }
}

/* ---- gathering and scattering ---- */

typedef struct Rows {
    int n, d, pad, shift;
} Rows;

static const Rows ROWS[] = {{1, 1, 0, 0},  {7, 33, 4, 0},   {7, 36, 4, 0}, {7, 40, 8, 0}, {7, 44, 4, 0},
                            {9, 64, 0, 3}, {60, 576, 0, 0}, {0, 8, 0, 0},  {3, 0, 8, 0}};

/* A permutation's beginning, every fifth row left out. */
static Table distinct_rows(Twin *t, int64_t n, int64_t rows) {
    int32_t *index = twin_host(t, (size_t)n * sizeof *index);
    uint32_t *order = twin_host(t, (size_t)rows * sizeof *order);
    rng_permutation(&t->rng, order, (uint32_t)rows);
    for (int64_t i = 0; i < n; i++) index[i] = i % 5 == 3 ? -1 - (int32_t)i : (int32_t)order[i];
    return table(t, index, n);
}

static void gather_rows(Twin *t, const void *shape) {
    const Rows *s = shape;
    int64_t rows = 2 * s->n + 3;
    Pair x = pair(t, rows, s->d, s->pad), y = pair(t, s->n, s->d, 0);
    Table index = distinct_rows(t, s->n, rows);
    TWIN_ARGS(GatherRowsArgs, a, {.x = x.on[on], .index = index.on[on], .y = y.on[on]});
    TWIN_RUN(t, gather_rows, a);
    expect_twin(t, "y", y, 0.0, 0.0);
}

static void scatter_rows(Twin *t, const void *shape) {
    const Rows *s = shape;
    int64_t rows = 2 * s->n + 3;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        Pair x = pair(t, s->n, s->d, 0), y = pair(t, rows, s->d, s->pad);
        Table index = distinct_rows(t, s->n, rows);
        TWIN_ARGS(ScatterRowsArgs, a, {.x = x.on[on], .index = index.on[on], .accumulate = accumulate, .y = y.on[on]});
        TWIN_RUN(t, scatter_rows, a);
        expect_twin(t, "y", y, accumulate && t->dtype == DTYPE_BF16 ? 0x1p-8 : 0.0, 0.0);
    }
}

static void test_gather_scatter(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        each_dtype(gather_rows, &ROWS[i], ROWS[i].shift);
        each_dtype(scatter_rows, &ROWS[i], ROWS[i].shift);
    }
}

/* The same row for several, as token embeddings are. */
static void test_gather_repeated(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 21);
    Pair x = pair(&t, 5, 72, 0), y = pair(&t, 100, 72, 8);
    Table index = random_table(&t, 100, 5);
    TWIN_ARGS(GatherRowsArgs, a, {.x = x.on[on], .index = index.on[on], .y = y.on[on]});
    TWIN_RUN(&t, gather_rows, a);
    expect_twin(&t, "y", y, 0.0, 0.0);
    twin_close(&t);
}

/* The CPU device refuses these. Here a gathered row is NaN, a scattered one goes nowhere. */
static void test_past_rows(void **state) {
    (void)state;
    const int32_t past[] = {1, 5, -1, 2147483647};
    Twin t;
    twin_open(&t, DTYPE_BF16, 22);
    Pair x = pair(&t, 5, 24, 0), y = pair(&t, 4, 24, 0), to = pair(&t, 5, 24, 0);
    Table index = table(&t, past, 4);
    TWIN_ARGS(GatherRowsArgs, g, {.x = x.on[on], .index = index.on[on], .y = y.on[on]});
    TWIN_ARGS(ScatterRowsArgs, s, {.x = y.on[on], .index = index.on[on], .y = to.on[on]});
    TWIN_PASS(&t, gather_rows, g);
    TWIN_PASS(&t, scatter_rows, s);
    twin_fetch(&t);
    for (int64_t c = 0; c < 24; c++) {
        assert_true(twin_at(&t, y, GPU, 0, c) == twin_at(&t, x, CPU, 1, c));
        assert_true(isnan(twin_at(&t, y, GPU, 1, c)) && isnan(twin_at(&t, y, GPU, 3, c)));
        assert_true(twin_at(&t, y, GPU, 2, c) == 0.0);
        for (int64_t r = 0; r < 5; r++)
            assert_true(twin_at(&t, to, GPU, r, c) == twin_at(&t, r == 1 ? x : to, CPU, r, c));
    }
    twin_close(&t);
}

/* ---- stacking ---- */

typedef struct Stack {
    int k, h, side, pad, shift;
} Stack;

static const Stack STACKS[] = {{1, 3, 0, 0, 0},  {4, 20, 2, 3, 0}, {5, 64, 0, 0, 0},
                               {3, 16, 1, 0, 0}, {2, 40, 3, 8, 0}, {5, 768, 0, 8, 0},
                               {4, 24, 0, 0, 1}, {4, 12, 0, 4, 0}, {7, 1, 1, 0, 0}};
static const int32_t LENGTHS[] = {0, 7, 0, 0, 1, 40, 4, 0};

enum { SEGMENTS = sizeof LENGTHS / sizeof *LENGTHS };

static void stack_frames(Twin *t, const void *shape) {
    const Stack *s = shape;
    int32_t stacked[SEGMENTS];
    for (int i = 0; i < SEGMENTS; i++) stacked[i] = (LENGTHS[i] + s->k - 1) / s->k;
    Packs frames = packs(t, LENGTHS, SEGMENTS), rows = packs(t, stacked, SEGMENTS);
    int64_t n = frames.on[CPU].total, m = rows.on[CPU].total, width = s->k * (s->h + s->side);
    Pair x = pair(t, n, s->h, s->pad), y = pair(t, m, width, s->pad);
    Pair side = maybe_pair32(t, s->side > 0, n, s->side, s->pad), dx = pair(t, n, s->h, s->pad);
    TWIN_ARGS(
        StackFramesArgs, a,
        {.x = x.on[on], .side = side.on[on], .frames = frames.on[on], .rows = rows.on[on], .k = s->k, .y = y.on[on]});
    TWIN_RUN(t, stack_frames, a);
    expect_twin(t, "y", y, s->side && t->dtype == DTYPE_BF16 ? 0x1p-8 : 0.0, 0.0);
    TWIN_ARGS(
        StackFramesBackwardArgs, b,
        {.dy = y.on[on], .frames = frames.on[on], .rows = rows.on[on], .k = s->k, .side = s->side, .dx = dx.on[on]});
    twin_adopt(t, y);
    TWIN_RUN(t, stack_frames_backward, b);
    expect_twin(t, "dx", dx, 0.0, 0.0);
}

static void test_stack_frames(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof STACKS / sizeof *STACKS; i++) each_dtype(stack_frames, &STACKS[i], STACKS[i].shift);
}

static void test_stack_nothing(void **state) {
    (void)state;
    const int32_t none[] = {0, 0};
    Twin t;
    twin_open(&t, DTYPE_BF16, 23);
    Packs empty = packs(&t, none, 2);
    int64_t rows = empty.on[CPU].total;
    Pair x = pair(&t, rows, 16, 0), y = pair(&t, rows, 64, 0);
    TWIN_ARGS(StackFramesArgs, a, {.x = x.on[on], .frames = empty.on[on], .rows = empty.on[on], .k = 4, .y = y.on[on]});
    TWIN_RUN(&t, stack_frames, a);
    twin_close(&t);
}

/* ---- mixing layers ---- */

typedef struct Mix {
    int count, n, h, pad, shift;
    bool views; /* the states are columns of one buffer */
} Mix;

static const Mix MIXES[] = {{1, 3, 8, 0, 0, false},    {13, 40, 72, 8, 0, false}, {13, 9, 70, 3, 0, false},
                            {25, 10, 128, 0, 0, true}, {3, 0, 8, 0, 0, false},    {64, 5, 24, 0, 0, true},
                            {5, 6, 44, 4, 0, false},   {4, 33, 1024, 0, 0, true}, {4, 5, 64, 0, 1, true}};

static void layer_mix(Twin *t, const void *shape) {
    const Mix *s = shape;
    Pair all = s->views ? pair(t, s->n, s->count * s->h, s->pad) : no_pair(), state[LAYER_MIX_MAX];
    for (int i = 0; i < s->count; i++)
        state[i] = s->views ? pair_cols(all, i * s->h, s->h) : pair(t, s->n, s->h, s->pad);
    Pair weight = pair_scaled(t, DTYPE_F32, 1, s->count, 0, 3.0f), y = pair(t, s->n, s->h, 0);
    Pair dweight = pair32(t, 1, s->count, 0), dy = pair(t, s->n, s->h, s->pad);
    TWIN_ARGS(LayerMixArgs, a, {.count = s->count, .weight = weight.on[on], .y = y.on[on]});
    TWIN_ARGS(LayerMixBackwardArgs, b,
              {.count = s->count, .weight = weight.on[on], .dy = dy.on[on], .dweight = dweight.on[on]});
    for (int i = 0; i < s->count; i++)
        for (int on = 0; on < SIDES; on++) a[on].state[i] = b[on].state[i] = state[i].on[on];
    TWIN_RUN(t, layer_mix, a);
    expect_twin(t, "y", y, t->dtype == DTYPE_BF16 ? 0x1p-8 : 2e-6, 1e-6);
    TWIN_RUN(t, layer_mix_backward, b);
    expect_twin(t, "dweight", dweight, 1e-5, 2e-5);
}

static void test_layer_mix(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof MIXES / sizeof *MIXES; i++) each_dtype(layer_mix, &MIXES[i], MIXES[i].shift);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather_scatter), cmocka_unit_test(test_gather_repeated), cmocka_unit_test(test_past_rows),
        cmocka_unit_test(test_stack_frames),   cmocka_unit_test(test_stack_nothing),   cmocka_unit_test(test_layer_mix),
    };
    return cmocka_run_group_tests_name("cuda rows", tests, NULL, NULL);
}
