/* kernels/cuda/gemm.c, which needs cuBLASLt, over a stand-in for it on the emulated device: that it means by
 * its rows and columns what we mean, and how algorithms are chosen, kept and taken up again. */
#include "tests/cublaslt/fake.h"
#include "tests/cuda/twin.h"

static void expect_text(const char *text, const char *word) {
    if (!strstr(text, word)) fail_msg("\"%s\" does not mention \"%s\"", text, word);
}

/* ---- products ---- */

typedef struct Case {
    int m, n, k;
    bool ta, tb, bias;
    float alpha, beta;
    Activation act;
    int pad;
} Case;

static const Case CASES[] = {
    {1, 1, 1, 0, 0, 0, 1, 0, ACT_NONE, 0},       {7, 12, 5, 0, 0, 0, 1, 0, ACT_NONE, 3},
    {7, 12, 5, 0, 1, 1, 0.5f, 2, ACT_NONE, 1},   {7, 12, 5, 1, 0, 1, -1, 0, ACT_RELU, 2},
    {12, 7, 5, 1, 1, 0, 1, 1, ACT_RELU, 4},      {16, 24, 32, 0, 1, 1, 1, 0, ACT_GELU, 0},
    {16, 24, 32, 0, 1, 1, 1, 0.5f, ACT_RELU, 8}, {5, 7, 0, 0, 1, 1, 1, 2, ACT_NONE, 0},
};

static void product_case(const Case *p, DType dtype) {
    Twin t;
    twin_open(&t, dtype, 1);
    Pair a = p->ta ? pair(&t, p->k, p->m, p->pad) : pair(&t, p->m, p->k, p->pad);
    Pair b = p->tb ? pair(&t, p->n, p->k, p->pad) : pair(&t, p->k, p->n, p->pad);
    Pair c = pair(&t, p->m, p->n, p->pad), bias = maybe_pair(&t, p->bias, 1, p->n, 0);
    TWIN_ARGS(MatmulArgs, args,
              {.a = a.on[on],
               .b = b.on[on],
               .c = c.on[on],
               .bias = bias.on[on],
               .transpose_a = p->ta,
               .transpose_b = p->tb,
               .alpha = p->alpha,
               .beta = p->beta,
               .act = p->act});
    TWIN_RUN(&t, matmul, args);
    expect_twin(&t, "c", c, dtype == DTYPE_BF16 ? 0x1p-7 : 1e-6, dtype == DTYPE_BF16 ? 0x1p-9 : 1e-6);
    twin_close(&t);
    assert_int_equal(fake.live, 0);
}

static void test_products(void **state) {
    (void)state;
    for (int tune = 0; tune < 2; tune++) {
        setenv("SEMOLLM_GEMM_TUNE", tune ? "1" : "0", 1);
        for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
            product_case(&CASES[i], DTYPE_BF16);
            product_case(&CASES[i], DTYPE_F32);
        }
    }
}

/* ---- choosing ---- */

/* c = a·bᵀ + beta · c of ones, and what it must be. */
enum { MOST_ROWS = 65000, N = 8, K = 16 };

typedef struct Bed {
    Device *dev;
    Error err;
    float *a, *b, *c;
} Bed;

static float *ones(Bed *bed, size_t count) {
    float *host = malloc(count * sizeof *host), *memory;
    for (size_t i = 0; i < count; i++) host[i] = 1.0f;
    assert_ok(memory = device_alloc(bed->dev, count * sizeof *memory, &bed->err), &bed->err);
    assert_ok(device_upload(bed->dev, memory, host, count * sizeof *host, &bed->err), &bed->err);
    free(host);
    return memory;
}

static void bed_open(Bed *bed) {
    *bed = (Bed){0};
    fake = (Fake){0};
    assert_ok(bed->dev = device_open_cuda(0, DTYPE_F32, &bed->err), &bed->err);
    bed->a = ones(bed, MOST_ROWS * K), bed->b = ones(bed, N * K), bed->c = ones(bed, MOST_ROWS * N);
}

static void bed_close(Bed *bed) {
    device_free(bed->dev, bed->a);
    device_free(bed->dev, bed->b);
    device_free(bed->dev, bed->c);
    device_close(bed->dev);
    assert_int_equal(fake.live, 0);
}

static bool multiply(Bed *bed, int64_t rows, float beta) {
    MatmulArgs args = {.a = tensor_of(bed->a, DTYPE_F32, rows, K),
                       .b = tensor_of(bed->b, DTYPE_F32, N, K),
                       .c = tensor_of(bed->c, DTYPE_F32, rows, N),
                       .transpose_b = true,
                       .alpha = 1.0f,
                       .beta = beta};
    return op_matmul(bed->dev, &args, &bed->err);
}

static void expect_c(Bed *bed, float want) {
    float c[N];
    assert_ok(device_download(bed->dev, c, bed->c, sizeof c, &bed->err), &bed->err);
    for (int i = 0; i < N; i++) assert_true(c[i] == want);
}

static void use_cache(const char *name) {
    char *folder = test_path(name);
    setenv("XDG_CACHE_HOME", folder, 1);
    setenv("SEMOLLM_GEMM_TUNE", "1", 1);
    free(folder);
}

static char *table_of(Bed *bed) {
    char *table;
    assert_ok(table = device_algorithms(bed->dev, &bed->err), &bed->err);
    return table;
}

/* Once per bucket of rows; with beta no trial adds to c. */
static void test_tuning(void **state) {
    (void)state;
    use_cache("tuning");
    Bed bed;
    bed_open(&bed);
    assert_ok(multiply(&bed, 300, 0.0f) && multiply(&bed, 257, 0.0f) && multiply(&bed, 512, 0.0f), &bed.err);
    expect_c(&bed, K);
    assert_int_equal(fake.guesses, 1);
    assert_ok(multiply(&bed, 513, 1.0f), &bed.err);
    assert_int_equal(fake.guesses, 2);
    expect_c(&bed, 2 * K);
    assert_ok(multiply(&bed, 3, 0.0f) && multiply(&bed, 4, 0.0f) && multiply(&bed, 5, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 4);
    char *table = table_of(&bed);
    expect_text(table, "\"algorithm\": \"0000000000000011");
    assert_null(strstr(table, "\"algorithm\": \"0000000000000010"));
    bed_close(&bed);

    bed_open(&bed); /* the cache remembers */
    assert_ok(multiply(&bed, 300, 0.0f) && multiply(&bed, 600, 1.0f), &bed.err);
    assert_int_equal(fake.guesses, 0);
    assert_int_equal(fake.products, 2);
    char *again = table_of(&bed);
    assert_string_equal(again, table);
    bed_close(&bed);
    free(table), free(again);

    bed_open(&bed);
    fake.damaged = true; /* a library that takes none of it */
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 1);
    expect_c(&bed, K);
    bed_close(&bed);

    use_cache("untuned");
    setenv("SEMOLLM_GEMM_TUNE", "0", 1);
    bed_open(&bed);
    assert_ok(multiply(&bed, 300, 0.0f) && multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.products, 2);
    bed_close(&bed);
    char *cache = test_path("untuned");
    assert_false(folder_exists(cache));
    free(cache);
}

/* A checkpoint's table serves another run, on such a GPU and library alone. */
/* Of very many rows, wider ones. */
static void test_wide_buckets(void **state) {
    (void)state;
    use_cache("buckets");
    Bed bed;
    bed_open(&bed);
    assert_ok(multiply(&bed, 64600, 0.0f) && multiply(&bed, 64900, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 1);
    assert_ok(multiply(&bed, 32300, 0.0f) && multiply(&bed, 32500, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 2);
    assert_ok(multiply(&bed, 32000, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 3);
    bed_close(&bed);
}

static void test_table(void **state) {
    (void)state;
    use_cache("table-1");
    Bed bed;
    bed_open(&bed);
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    char *table = table_of(&bed);
    bed_close(&bed);

    use_cache("table-2");
    bed_open(&bed);
    bool fits;
    assert_ok(device_use_algorithms(bed.dev, table, &fits, &bed.err), &bed.err);
    assert_true(fits);
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 0);
    expect_c(&bed, K);
    bed_close(&bed);

    use_cache("table-3");
    bed_open(&bed);
    char *version = strstr(table, "130099");
    memcpy(version, "130098", 6);
    assert_ok(device_use_algorithms(bed.dev, table, &fits, &bed.err), &bed.err);
    assert_false(fits);
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 1);
    memcpy(version, "130099", 6);
    char *hex = strstr(table, "0000000000000011");
    *hex = '7'; /* an algorithm that is none */
    assert_ok(device_use_algorithms(bed.dev, table, &fits, &bed.err) && multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 2);
    expect_c(&bed, K);
    *hex = 'x';
    assert_false(device_use_algorithms(bed.dev, table, &fits, &bed.err));
    expect_text(bed.err.text, "hexadecimal");
    bed.err = (Error){0};
    assert_false(device_use_algorithms(bed.dev, "{\"gpu\": 3}", &fits, &bed.err));
    expect_text(bed.err.text, "gpu");
    bed_close(&bed);
    free(table);
}

/* y = x·Wᵀ + residual, in place and from a residual of its own: not the same product, so chosen apart; trials and
 * runs leave the residual as it was. */
static void test_residual(void **state) {
    (void)state;
    use_cache("residual");
    Bed bed;
    bed_open(&bed);
    float *residual = ones(&bed, MOST_ROWS * 2 * N);
    LinearArgs args = {.x = tensor_of(bed.a, DTYPE_F32, 300, K),
                       .weight = tensor_of(bed.b, DTYPE_F32, N, K),
                       .residual = tensor_of(residual, DTYPE_F32, 300, 2 * N),
                       .y = tensor_of(bed.c, DTYPE_F32, 300, N)};
    args.residual.cols = N;
    for (int i = 0; i < 2; i++) {
        assert_ok(op_linear(bed.dev, &args, &bed.err), &bed.err);
        expect_c(&bed, 1 + K);
        assert_int_equal(fake.guesses, 1);
    }
    args.residual = args.y;
    assert_ok(op_linear(bed.dev, &args, &bed.err), &bed.err);
    expect_c(&bed, 1 + 2 * K);
    assert_int_equal(fake.guesses, 2);
    args.residual = (Tensor){0};
    assert_ok(op_linear(bed.dev, &args, &bed.err), &bed.err);
    expect_c(&bed, K);
    assert_int_equal(fake.guesses, 3);
    device_free(bed.dev, bed.c);
    bed.c = residual;
    expect_c(&bed, 1.0f);
    bed_close(&bed);
}

/* While operations are recorded nothing is timed: the first guess it is. */
static void test_recording(void **state) {
    (void)state;
    use_cache("recording");
    Bed bed;
    bed_open(&bed);
    DeviceGraph *graph;
    assert_ok(device_capture_begin(bed.dev, &bed.err) && multiply(&bed, 300, 1.0f), &bed.err);
    assert_ok(graph = device_capture_end(bed.dev, &bed.err), &bed.err);
    assert_int_equal(fake.products, 1);
    expect_c(&bed, 1.0f);
    assert_ok(device_replay(bed.dev, graph, &bed.err) && device_replay(bed.dev, graph, &bed.err), &bed.err);
    expect_c(&bed, 1.0f + 2 * K);
    device_graph_free(bed.dev, graph);
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    assert_int_equal(fake.guesses, 2);
    bed_close(&bed);
}

static void test_refusals(void **state) {
    (void)state;
    use_cache("refusals");
    Bed bed;
    bed_open(&bed);
    assert_ok(multiply(&bed, 300, 0.0f), &bed.err);
    fake.refused = FAKE_FASTEST; /* good for 300 rows, not for 400 */
    assert_ok(multiply(&bed, 400, 0.0f), &bed.err);
    expect_c(&bed, K);
    fake.refused = FAKE_FIRST; /* one that was guessed but does not run */
    assert_ok(multiply(&bed, 20, 0.0f), &bed.err);
    fake.clueless = true;
    assert_false(multiply(&bed, 3, 0.0f));
    expect_text(bed.err.text, "a product of F32 [3, 16] and [16, 8] to F32: ");
    expect_text(bed.err.text, "not supported");
    bed_close(&bed);

    setenv("SEMOLLM_CUBLASLT", "/nowhere/libcublasLt.so", 1);
    Error err = {0};
    assert_null(device_open_cuda(0, DTYPE_F32, &err));
    expect_text(err.text, "/nowhere/libcublasLt.so");
    setenv("SEMOLLM_CUBLASLT", "libm.so.6", 1);
    err = (Error){0};
    assert_null(device_open_cuda(0, DTYPE_F32, &err));
    expect_text(err.text, "cublasLtCreate");
    setenv("SEMOLLM_CUBLASLT", "", 1);
}

int main(void) {
    setenv("SEMOLLM_CUBLASLT", "", 1); /* dlopen's name for this very program */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),     cmocka_unit_test(test_tuning),
                                       cmocka_unit_test(test_wide_buckets), cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_recording),    cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_residual)};
    return cmocka_run_group_tests_name("gemm", tests, NULL, test_cleanup);
}
