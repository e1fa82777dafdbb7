/* The CUDA device itself. */
#include "tests/cuda/twin.h"

static void test_twins(void **state) {
    (void)state;
    Twin t;
    twin_open(&t, DTYPE_BF16, 1);
    Pair x = pair(&t, 5, 7, 3);
    expect_twin(&t, "x", x, 0.0, 0.0);
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_twins)};
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
