/* Numbers between the host's floats and a device's halves. */
#include "tests/test.h" /* first: cmocka hides our fail() */

#include "model/transfer.h"

/* What goes up comes down rounded to halves, each in its place, for sizes of one piece and of many. */
static void test_there_and_back(void **state) {
    (void)state;
    static const DType dtypes[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    static const int64_t counts[] = {0, 1, 2, 3, 4, 5, 4095, 4097, 9000, 300001};
    Error err = {0};
    Device *dev = device_open(DEVICE_CPU, 3, &err);
    assert_ok(dev != NULL, &err);
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            DType dtype = dtypes[k];
            int64_t count = counts[c];
            size_t bytes = (size_t)(count ? count : 1) * sizeof(float);
            float *values = malloc(bytes), *back = malloc(bytes), *want = malloc(bytes);
            void *halves = malloc(bytes);
            assert_true(values && back && want && halves);
            for (int64_t i = 0; i < count; i++) values[i] = (float)((i * 2654435761 % 20011) - 10000) / 300.0f;
            memcpy(halves, values, (size_t)count * sizeof *values);
            floats_narrow(dtype, halves, (size_t)count);
            floats_from(dtype, halves, want, (size_t)count);
            Tensor on = tensor_of(device_alloc(dev, bytes, &err), dtype, 1, count);
            assert_ok(on.data && floats_upload(dev, on, values, &err) && floats_download(dev, on, back, &err), &err);
            assert_memory_equal(back, want, (size_t)count * sizeof *want);
            device_free(dev, on.data);
            free(values);
            free(back);
            free(want);
            free(halves);
        }
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back)};
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
