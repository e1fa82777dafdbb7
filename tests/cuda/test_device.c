/* The CUDA device itself: memory, copies in order, scratch, recordings, and what it says when calls fail. */
#include "kernels/cuda/cuda.h"
#include "tests/cuda/twin.h"

static Device *open_device(Error *err) {
    need_gpu();
    Device *dev;
    assert_ok(dev = device_open_cuda(0, DTYPE_F32, err), err);
    return dev;
}

#define REFUSES(call, err, word)                                                                                       \
    do {                                                                                                               \
        (err) = (Error){0};                                                                                            \
        assert_false(call);                                                                                            \
        if (!strstr((err).text, word)) fail_msg("\"%s\" does not mention \"%s\"", (err).text, word);                   \
    } while (0)

static void test_opening(void **state) {
    (void)state;
    Error err = {0};
    device_close(open_device(&err));
    REFUSES(device_open_cuda(99, DTYPE_BF16, &err), err, "no GPU number 99");
    REFUSES(device_open_cuda(-1, DTYPE_BF16, &err), err, "no GPU number -1");
    REFUSES(device_open_cuda(0, DTYPE_F16, &err), err, "BF16 or F32");
    Device *dev = device_open(DEVICE_CUDA, 0, &err), *other = device_open_cuda(0, DTYPE_F32, &err);
    assert_int_equal(device_kind(dev), DEVICE_CUDA);
    assert_int_equal(device_dtype(dev), DTYPE_BF16);
    assert_int_equal(device_dtype(other), DTYPE_F32);
    assert_true(strlen(device_name(dev)) > 0);
    device_close(other);
    device_close(dev);
}

static void test_memory(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    size_t before, total, now;
    assert_ok(device_memory_info(dev, &before, &total, &err), &err);
    assert_true(before <= total);
    enum { BYTES = 5 << 20 };
    char *memory, *host = malloc(BYTES);
    assert_ok(memory = device_alloc(dev, BYTES, &err), &err);
    assert_int_equal((uintptr_t)memory % 256, 0);
    assert_ok(device_memory_info(dev, &now, &total, &err), &err);
    assert_true(now < before);
    assert_ok(device_download(dev, host, memory, BYTES, &err), &err);
    for (size_t i = 0; i < BYTES; i++) assert_int_equal(host[i], 0);
    memset(host, 7, BYTES);
    assert_ok(device_upload(dev, memory, host, BYTES, &err), &err);
    assert_ok(device_fill_zero(dev, memory + 100, 1000, &err), &err);
    assert_ok(device_download(dev, host, memory, BYTES, &err), &err);
    for (size_t i = 0; i < BYTES; i++) assert_int_equal(host[i], i >= 100 && i < 1100 ? 0 : 7);
    REFUSES(device_alloc(dev, (size_t)1 << 50, &err), err, "1048576.00 GiB are wanted");
    assert_non_null(strstr(err.text, "batch"));
    err = (Error){0};
    device_free(dev, memory);
    assert_ok(device_memory_info(dev, &now, &total, &err), &err);
    assert_true(now == before);
    free(host);
    device_close(dev);
}

static void test_scratch(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    assert_ok(device_reserve_scratch(dev, 1000, &err), &err);
    assert_non_null(device_scratch(dev, 1000, &err));
    REFUSES(device_scratch(dev, 1001, &err), err, "1001 bytes are needed but 1000 were reserved");
    err = (Error){0};
    assert_ok(device_reserve_scratch(dev, 5000, &err), &err);
    assert_ok(device_reserve_scratch(dev, 10, &err), &err);
    assert_non_null(device_scratch(dev, 5000, &err));
    REFUSES(device_reserve_scratch(dev, (size_t)1 << 50, &err), err, "scratch: GPU memory");
    REFUSES(device_scratch(dev, 5000, &err), err, "0 were reserved");
    device_close(dev);
}

/* ---- copies ---- */

/* Small and large, in one slot of the ring, over several, around it; the source is overwritten at once. */
static void test_copies(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    const size_t slot = STAGING_SLOT_BYTES;
    const size_t sizes[] = {0, 1, 255, 256, 65535, 65536, 65537, slot - 1, slot, slot + 1, 3 * slot + 12345, 9 * slot};
    unsigned char *host = malloc(9 * slot), *back = malloc(9 * slot), *memory;
    assert_ok(memory = device_alloc(dev, 9 * slot, &err), &err);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t b = 0; b < sizes[i]; b++) host[b] = (unsigned char)(b * 31 + b / 4093 + i);
        assert_ok(device_upload(dev, memory, host, sizes[i], &err), &err);
        memset(host, 0xee, sizes[i]);
        memset(back, 0, sizes[i]);
        assert_ok(device_download(dev, back, memory, sizes[i], &err), &err);
        for (size_t b = 0; b < sizes[i]; b++)
            if (back[b] != (unsigned char)(b * 31 + b / 4093 + i)) fail_msg("byte %zu of %zu", b, sizes[i]);
    }
    for (uint32_t round = 0; round < 400; round++) { /* many at once, waited for only at the end */
        for (size_t b = 0; b < 65536 + 100 * round; b += 4) memcpy(host + b, &round, sizeof round);
        assert_ok(device_upload(dev, memory + 16384 * round, host, round % 2 ? 8 : 65536 + 100 * round, &err), &err);
    }
    assert_ok(device_download(dev, back, memory, 400 * 16384, &err), &err);
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t found;
        memcpy(&found, back + 16384 * round, sizeof found);
        assert_int_equal(found, round);
    }
    free(host), free(back);
    device_free(dev, memory);
    device_close(dev);
}

enum { COUNT = 30000 };

static bool add(Device *dev, float *a, float *b, float *y, Error *err) {
    AddArgs args = {.a = tensor_of(a, DTYPE_F32, 1, COUNT),
                    .b = tensor_of(b, DTYPE_F32, 1, COUNT),
                    .y = tensor_of(y, DTYPE_F32, 1, COUNT),
                    .alpha = 1.0f,
                    .beta = 1.0f};
    return op_add(dev, &args, err);
}

static float *zeros(Device *dev, Error *err) {
    float *memory;
    assert_ok(memory = device_alloc(dev, COUNT * sizeof *memory, err), err);
    return memory;
}

static bool fill(Device *dev, float *to, float value, Error *err) {
    static float host[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = value;
    return device_upload(dev, to, host, sizeof host, err);
}

static float first_and_last(Device *dev, const float *from, Error *err) {
    static float host[COUNT];
    assert_ok(device_download(dev, host, from, sizeof host, err), err);
    assert_true(host[0] == host[COUNT - 1]);
    return host[0];
}

/* An upload comes after the operations before it and before those after it. */
static void test_order(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    float *x = zeros(dev, &err), *sum = zeros(dev, &err);
    float want = 0.0f;
    for (int i = 1; i <= 50; i++) {
        assert_ok(fill(dev, x, (float)i, &err) && add(dev, sum, x, sum, &err), &err);
        want += (float)i;
    }
    assert_true(first_and_last(dev, sum, &err) == want);
    assert_ok(device_wait(dev, &err), &err);
    device_free(dev, x);
    device_free(dev, sum);
    device_close(dev);
}

/* ---- recordings ---- */

static void test_recordings(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    assert_true(device_records(dev));
    float *x = zeros(dev, &err), *sum = zeros(dev, &err);
    assert_ok(fill(dev, x, 1.0f, &err), &err);
    assert_ok(device_capture_begin(dev, &err), &err);
    assert_ok(add(dev, sum, x, sum, &err) && add(dev, sum, x, sum, &err), &err);
    REFUSES(fill(dev, x, 2.0f, &err), err, "recorded");
    REFUSES(device_wait(dev, &err), err, "recorded");
    REFUSES(device_alloc(dev, 10, &err), err, "recorded");
    REFUSES(device_download(dev, &(char){0}, x, 1, &err), err, "recorded");
    REFUSES(device_capture_begin(dev, &err), err, "recorded");
    err = (Error){0};
    DeviceGraph *graph;
    assert_ok(graph = device_capture_end(dev, &err), &err);
    assert_true(first_and_last(dev, sum, &err) == 0.0f); /* recorded, not run */
    assert_ok(device_replay(dev, graph, &err) && device_replay(dev, graph, &err), &err);
    assert_true(first_and_last(dev, sum, &err) == 4.0f);
    assert_ok(fill(dev, x, 10.0f, &err) && device_replay(dev, graph, &err), &err);
    assert_true(first_and_last(dev, sum, &err) == 24.0f);
    assert_ok(device_reserve_scratch(dev, 1 << 20, &err), &err);
    REFUSES(device_replay(dev, graph, &err), err, "record them again");
    err = (Error){0};
    device_graph_free(dev, graph);
    device_free(dev, x);
    device_free(dev, sum);
    device_close(dev);

    assert_ok(dev = device_open(DEVICE_CPU, 1, &err), &err);
    assert_false(device_records(dev));
    REFUSES(device_capture_begin(dev, &err), err, "simply called");
    device_close(dev);
}

static void test_algorithms(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    char *table;
    bool fits;
    assert_ok(table = device_algorithms(dev, &err), &err);
    assert_ok(device_use_algorithms(dev, table, &fits, &err), &err);
    assert_true(fits);
    free(table);
    device_close(dev);
}

/* ---- failing calls ---- */

#ifdef SEMOLLM_EMU

/* All that a device does for a program, in small. */
static bool live_with(Device *dev, Error *err) {
    float *x = device_alloc(dev, COUNT * sizeof *x, err), *y = x ? device_alloc(dev, COUNT * sizeof *y, err) : NULL;
    DeviceGraph *graph = NULL;
    char back[16] = {0};
    bool ok = y && fill(dev, x, 1.0f, err) && device_upload(dev, y, back, sizeof back, err) &&
              device_reserve_scratch(dev, 1 << 16, err) && add(dev, x, x, y, err);
    MatmulArgs product = {.a = tensor_of(x, DTYPE_F32, 10, 20),
                          .b = tensor_of(x, DTYPE_F32, 30, 20),
                          .c = tensor_of(y, DTYPE_F32, 10, 30),
                          .transpose_b = true,
                          .alpha = 1.0f,
                          .act = ACT_GELU};
    ok = ok && op_matmul(dev, &product, err);
    if (ok && device_capture_begin(dev, err)) {
        ok = add(dev, x, x, y, err);
        graph = device_capture_end(dev, ok ? err : NULL);
    }
    ok = ok && graph && device_replay(dev, graph, err) && device_fill_zero(dev, x, 100, err) && device_wait(dev, err) &&
         device_download(dev, back, x, sizeof back, err);
    device_graph_free(dev, graph);
    device_free(dev, x);
    device_free(dev, y);
    return ok;
}

static bool live(Error *err) {
    Device *dev = device_open_cuda(0, DTYPE_F32, err);
    bool ok = dev && live_with(dev, err);
    device_close(dev);
    return ok;
}

/* The n-th call of a kind fails, for every n: one sentence says so, and all memory is given back. */
static int fail_each(const char *kind, const char *word) {
    size_t before, after, total;
    assert_int_equal(cudaMemGetInfo(&before, &total), cudaSuccess);
    for (int n = 1;; n++) {
        Error err = {0};
        emu_fail(kind, n);
        bool ok = live(&err);
        bool failed = emu_calls(kind) >= n;
        emu_fail(kind, 0);
        assert_int_equal(cudaMemGetInfo(&after, &total), cudaSuccess);
        if (after != before) fail_msg("%s %d: %zu bytes are not given back", kind, n, before - after);
        if (!failed) return n - 1;
        if (ok && (!strcmp(kind, "call") || !strcmp(kind, "lost"))) continue; /* while closing, which must go on */
        if (ok) fail_msg("%s %d failed and nobody said so", kind, n);
        if (!strstr(err.text, word)) fail_msg("%s %d: \"%s\" does not mention \"%s\"", kind, n, err.text, word);
        if (strchr(err.text, '\n')) fail_msg("%s %d: \"%s\" is more than a line", kind, n, err.text);
    }
}

static void test_failures(void **state) {
    (void)state;
    assert_true(fail_each("malloc", "memory") >= 5);
    assert_true(fail_each("launch", "fail") >= 4);
    assert_true(fail_each("copy", "checkpoint") >= 5);
    assert_true(fail_each("call", " ") >= 30);
    assert_true(fail_each("lost", " ") >= 30);
}

static void test_no_device(void **state) {
    (void)state;
    Error err;
    setenv("EMU_NO_DEVICE", "1", 1);
    REFUSES(device_cuda_count(&err), err, "no NVIDIA GPU");
    REFUSES(device_open(DEVICE_CUDA, 0, &err), err, "choose the CPU device");
    unsetenv("EMU_NO_DEVICE");
    setenv("EMU_ARCH", "75", 1);
    REFUSES(device_open(DEVICE_CUDA, 0, &err), err, "compute capability is 7.5");
    unsetenv("EMU_ARCH");
}

#endif

/* Each operation once, however often it is called; not what comes after; and again. */
static void test_profile(void **state) {
    (void)state;
    Error err = {0};
    Device *dev = open_device(&err);
    float *memory = device_alloc(dev, 3 * 64 * sizeof *memory, &err);
    assert_non_null(memory);
    Tensor x = tensor_of(memory, DTYPE_F32, 1, 64), y = tensor_of(memory + 64, DTYPE_F32, 1, 64);
    const AddArgs add = {.a = x, .b = x, .y = y, .alpha = 1, .beta = 1};
    const ActivationArgs act = {.x = y, .y = y, .act = ACT_RELU};
    ProfiledOp times[PROFILE_OPS_MOST];
    int count;
    for (int round = 0; round < 2; round++) {
        assert_ok(profile_begin(dev, &err), &err);
        REFUSES(profile_begin(dev, &err), err, "already");
        for (int i = 0; i < 3; i++) assert_ok(op_add(dev, &add, &err), &err);
        assert_ok(op_activation(dev, &act, &err), &err);
        assert_ok(profile_end(dev, times, &count, &err), &err);
        assert_int_equal(count, 2);
        assert_true(times[0].seconds >= times[1].seconds && times[1].seconds > 0);
        const ProfiledOp *added = strcmp(times[0].op, "add") ? &times[1] : &times[0];
        assert_string_equal(added->op, "add");
        assert_int_equal(added->calls, 3);
        assert_ok(op_add(dev, &add, &err), &err);
    }
    REFUSES(profile_end(dev, times, &count, &err), err, "not being timed");
    device_free(dev, memory);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),    cmocka_unit_test(test_memory),    cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_copies),     cmocka_unit_test(test_order),     cmocka_unit_test(test_recordings),
        cmocka_unit_test(test_algorithms), cmocka_unit_test(test_profile),
#ifdef SEMOLLM_EMU
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_no_device),
#endif
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
