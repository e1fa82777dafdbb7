/* Scores against scikit-learn and statsmodels (tests/oracle/scores.py prints the expected numbers). */
#include "tests/test.h"

#include <math.h>

#include "eval/score.h"

static uint32_t next(uint32_t *state) { return *state = (*state * 1103515245u + 12345u) & 0x7fffffffu; }

static void against_sklearn(void **state) {
    (void)state;
    int truth[200], said[200];
    uint32_t seed = 12345;
    for (int i = 0; i < 200; i++) {
        truth[i] = (int)(next(&seed) / 65536 % 4);
        uint32_t draw = next(&seed);
        said[i] = draw / 65536 % 3 ? truth[i] : (int)(draw / 1048576 % 4);
    }
    Scores scores = scores_of(truth, said, 200, 4);
    assert_true(fabs(scores.ua - 0.7433552468111089) < 1e-12);
    assert_true(fabs(scores.wa - 0.745) < 1e-12);
    assert_true(fabs(scores.macro_f1 - 0.7418171957557012) < 1e-12);
    assert_true(scores.ua_interval.low < scores.ua && scores.ua < scores.ua_interval.high);
}

static void wilson(void **state) {
    (void)state;
    Interval interval = wilson_interval(150, 200);
    assert_true(fabs(interval.low - 0.6856590168795417) < 1e-12);
    assert_true(fabs(interval.high - 0.8049183199318249) < 1e-12);
    interval = wilson_interval(0, 0);
    assert_true(interval.low == 0 && interval.high == 1);
}

/* Unparsable answers count as wrong; a class that is absent counts for nothing; one constant answer is
 * chance with an interval that holds it. */
static void unparsable_and_absent(void **state) {
    (void)state;
    const int truth[] = {0, 0, 1, 1, 3, 3}, said[] = {0, SCORE_UNPARSABLE, 1, 1, 0, SCORE_UNPARSABLE};
    Scores scores = scores_of(truth, said, 6, 4);
    assert_int_equal(scores.unparsable, 2);
    assert_true(fabs(scores.ua - 0.5) < 1e-12);
    assert_true(isnan(scores.recall[2]));
    assert_int_equal(scores.confusion[3][4], 1);
    int constant_truth[400], constant_said[400];
    for (int i = 0; i < 400; i++) constant_truth[i] = i % 4, constant_said[i] = 2;
    scores = scores_of(constant_truth, constant_said, 400, 4);
    assert_true(fabs(scores.ua - 0.25) < 1e-12 && fabs(scores.majority - 0.25) < 1e-12);
    assert_true(scores.ua_interval.low < 0.25 && scores.ua_interval.high > 0.25);
    scores = scores_of(NULL, NULL, 0, 4);
    assert_true(scores.wa == 0 && scores.ua_interval.high == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_sklearn), cmocka_unit_test(wilson),
                                       cmocka_unit_test(unparsable_and_absent)};
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
