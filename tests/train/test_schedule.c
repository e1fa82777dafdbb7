/* Learning rates and TensorBoard's records. */
#include "tests/test.h"

#include <math.h>

#include "train/schedule.h"
#include "train/tensorboard.h"

static void test_warmup(void **state) {
    (void)state;
    for (int schedule = SCHEDULE_COSINE; schedule <= SCHEDULE_CONSTANT; schedule++) {
        for (int64_t step = 1; step <= 10; step++)
            assert_true(fabs(schedule_factor((Schedule)schedule, step, 10, 100) - (double)step / 10) < 1e-12);
        assert_true(schedule_factor((Schedule)schedule, 11, 10, 100) == 1);
    }
    assert_true(schedule_factor(SCHEDULE_COSINE, 1, 0, 100) == 1);
}

static void test_decay(void **state) {
    (void)state;
    assert_true(fabs(schedule_factor(SCHEDULE_COSINE, 51, 0, 100) - 0.5) < 1e-12);
    assert_true(fabs(schedule_factor(SCHEDULE_LINEAR, 51, 0, 100) - 0.5) < 1e-12);
    assert_true(schedule_factor(SCHEDULE_CONSTANT, 99, 0, 100) == 1);
    for (int schedule = SCHEDULE_COSINE; schedule <= SCHEDULE_LINEAR; schedule++) {
        double before = 2;
        for (int64_t step = 1; step <= 100; step++) {
            double factor = schedule_factor((Schedule)schedule, step, 0, 100);
            assert_true(factor > 0 && factor < before);
            before = factor;
        }
        assert_true(before < 0.011);
        assert_true(fabs(schedule_factor((Schedule)schedule, 500, 0, 100)) < 1e-12); /* past the end: never negative */
        assert_true(schedule_factor((Schedule)schedule, 5, 10, 5) == 0.5);           /* warm-up longer than the run */
    }
}

static void test_crc(void **state) {
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xE3069283u); /* the check value of CRC-32C */
    assert_int_equal(crc32c("", 0), 0);
    unsigned char zeros[32] = {0};
    assert_int_equal(crc32c(zeros, sizeof zeros), 0x8A9136AAu); /* RFC 3720, B.4 */
}

static uint32_t masked(const void *data, size_t size) {
    uint32_t crc = crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static void test_records(void **state) {
    (void)state;
    Error err = {0};
    char *path = test_path("events"), *bytes;
    FILE *file = fopen(path, "wb");
    assert_ok(events_begin(file, 1.5, &err), &err);
    assert_ok(events_scalar(file, 2.5, 300, "train/loss", 0.25f, &err), &err);
    fclose(file);
    size_t size, at = 0;
    bytes = file_read(path, 4096, &size, &err);
    for (int record = 0; record < 2; record++) {
        uint64_t length;
        uint32_t crc;
        memcpy(&length, bytes + at, 8);
        memcpy(&crc, bytes + at + 8, 4);
        assert_int_equal(crc, masked(bytes + at, 8));
        assert_true(at + 16 + length <= size);
        memcpy(&crc, bytes + at + 12 + length, 4);
        assert_int_equal(crc, masked(bytes + at + 12, length));
        if (record == 1) {
            /* wall_time 2.5, step 300, summary { value { tag "train/loss" simple_value 0.25 } } */
            static const unsigned char EXPECTED[] = {0x09, 0,    0,    0,    0,    0,    0,    0x04, 0x40, 0x10, 0xAC,
                                                     0x02, 0x2A, 0x13, 0x0A, 0x11, 0x0A, 0x0A, 't',  'r',  'a',  'i',
                                                     'n',  '/',  'l',  'o',  's',  's',  0x15, 0,    0,    0x80, 0x3E};
            assert_int_equal(length, sizeof EXPECTED);
            assert_memory_equal(bytes + at + 12, EXPECTED, sizeof EXPECTED);
        }
        at += 16 + length;
    }
    assert_int_equal(at, size);
    free(bytes);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_decay),
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
