/* The flat buffers of what trains. */
#include "tests/test.h"

#include "model/params.h"

static void test_layout(void **state) {
    (void)state;
    Error err = {0};
    Params params = {0};
    Device *dev = device_open(DEVICE_CPU, 1, &err);
    assert_ok(dev, &err);
    assert_int_equal(params_add(&params, "a.weight", PARAM_ADAPTER, 2, 3, 5, true, &err), 0);
    assert_int_equal(params_add(&params, "a.bias", PARAM_ADAPTER, 1, 1, 64, false, &err), 1);
    assert_int_equal(params_add(&params, "mix", PARAM_LAYER_MIX, 1, 1, 65, false, &err), 2);
    assert_int_equal(params.total, 64 + 64 + 128);
    assert_int_equal(params.items[1].offset, 64);
    assert_int_equal(params.items[2].offset, 128);
    assert_ok(params_commit(&params, dev, &err), &err);
    float values[15], back[15], *flat = params.value;
    for (int i = 0; i < 15; i++) values[i] = (float)i + 1;
    assert_ok(params_set(&params, 0, values, &err), &err);
    assert_ok(params_get(&params, 0, back, &err), &err);
    assert_memory_equal(values, back, sizeof values);
    assert_memory_equal(flat, values, sizeof values);
    for (int i = 15; i < params.total; i++) assert_true(flat[i] == 0);
    for (int i = 0; i < params.total; i++) assert_true(params.grad[i] == 0);
    assert_ptr_equal(params.items[2].grad.data, params.grad + 128);
    assert_ptr_equal(params_find(&params, "mix"), &params.items[2]);
    assert_null(params_find(&params, "mi"));
    params_free(&params);
    params_free(&params); /* freeing nothing is fine */
    device_close(dev);
}

/* Copies in the device's dtype: views of the values where that is F32, else made anew after every change. */
static void test_stored(void **state) {
    (void)state;
    static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (int d = 0; d < 2; d++) {
        Error err = {0};
        Params params = {0};
        Device *dev = device_open_plan(DEVICE_CPU, dtypes[d], &err);
        assert_ok(dev, &err);
        assert_int_equal(params_add(&params, "lora", PARAM_LORA, 2, 4, 8, true, &err), 0);
        assert_int_equal(params_add(&params, "weight", PARAM_ADAPTER, 2, 3, 5, true, &err), 1);
        assert_int_equal(params_add(&params, "bias", PARAM_ADAPTER, 1, 1, 3, false, &err), 2);
        params_store(&params, 1);
        params_store(&params, 2);
        assert_ok(params_commit(&params, dev, &err), &err);
        const Param *items = params.items;
        assert_null(items[0].stored.data);
        for (int i = 1; i < 3; i++) {
            assert_true(items[i].stored.dtype == dtypes[d]);
            assert_int_equal(items[i].stored.cols, items[i].value.cols);
            assert_true((items[i].stored.data == items[i].value.data) == (dtypes[d] == DTYPE_F32));
        }
        size_t converted = 0;
        for (int round = 0; round < 2; round++) {
            plan_forget(dev);
            params_changed(&params);
            assert_ok(params_refresh(&params, &err) && params_refresh(&params, &err), &err); /* the second is idle */
            plan_work(dev, &converted);
            assert_int_equal(converted, dtypes[d] == DTYPE_F32 ? 0 : 2);
        }
        params_free(&params);
        device_close(dev);
    }
}

static void refuse(Params *params, const char *name, int dims, int64_t rows, int64_t cols, const char *part) {
    Error err = {0};
    assert_int_equal(params_add(params, name, PARAM_LORA, dims, rows, cols, true, &err), -1);
    assert_non_null(strstr(err.text, part));
    assert_int_equal(params->count, 1);
}

static void test_refusals(void **state) {
    (void)state;
    Error err = {0};
    Params params = {0};
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(params_add(&params, "once", PARAM_LORA, 2, 2, 2, true, &err), 0);
    refuse(&params, "once", 2, 2, 2, "already");
    refuse(&params, name, 2, 2, 2, "longer");
    refuse(&params, "a", 2, 0, 2, "cannot be laid out");
    refuse(&params, "a", 2, 2, -1, "cannot be laid out");
    refuse(&params, "a", 1, 2, 2, "cannot be laid out");
    refuse(&params, "a", 3, 2, 2, "cannot be laid out");
    refuse(&params, "a", 2, INT64_MAX, 3, "cannot be laid out");
    refuse(&params, "a", 2, INT64_MAX / 2, 1, "cannot be laid out");
    refuse(&params, "a", 2, INT64_MAX, 1, "cannot be laid out");
    params_free(&params);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_stored),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
