/* Half precision and bfloat16, all 65536 of each, and rounding between them. */
#include "tests/test.h"

#include <math.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* From the format's definition, in double. */
static double f16_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double size = exponent == 31  ? (mantissa ? NAN : INFINITY)
                  : exponent == 0 ? ldexp(mantissa, -24)
                                  : ldexp(1024 + mantissa, exponent - 25);
    return half & 0x8000 ? -size : size;
}

static void f16_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float value = f16_to_f32((uint16_t)h);
        double want = f16_value((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(value));
            uint16_t back = f32_to_f16(value);
            assert_true((back & 0x7c00) == 0x7c00 && (back & 0x3ff));
            continue;
        }
        assert_true((double)value == want && !signbit(value) == !signbit(want));
        assert_int_equal(f32_to_f16(value), h);
    }
}

/* Between two neighbours: the nearer one, at the middle the even one. */
static void f16_rounding(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1)), middle = (low + high) / 2.0f;
        assert_int_equal(f32_to_f16(middle), h % 2 ? h + 1 : h);
        assert_int_equal(f32_to_f16(nextafterf(middle, 0.0f)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-middle), 0x8000u | (h % 2 ? h + 1 : h));
    }
    assert_int_equal(f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(1e-30f), 0);
    assert_int_equal(f32_to_f16(-0.0f), 0x8000);
}

static void bf16_round_trip(void **state) {
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) {
        float value = bf16_to_f32((uint16_t)b);
        assert_int_equal(bits_of(value), b << 16);
        if (!isnan(value))
            assert_int_equal(f32_to_bf16(value), b);
        else
            assert_true((f32_to_bf16(value) & 0x7f80) == 0x7f80 && (f32_to_bf16(value) & 0x7f));
    }
}

static void bf16_rounding(void **state) {
    (void)state;
    for (uint32_t b = 0; b < 0x7f7f; b++) {
        uint32_t bits = b << 16;
        float middle, below, above;
        memcpy(&middle, &(uint32_t){bits | 0x8000}, sizeof middle);
        memcpy(&below, &(uint32_t){bits | 0x7fff}, sizeof below);
        memcpy(&above, &(uint32_t){bits | 0x8001}, sizeof above);
        assert_int_equal(f32_to_bf16(middle), b % 2 ? b + 1 : b);
        assert_int_equal(f32_to_bf16(below), b);
        assert_int_equal(f32_to_bf16(above), b + 1);
        assert_int_equal(f32_to_bf16(-above), 0x8000u | (b + 1));
    }
    assert_int_equal(f32_to_bf16(3.4028235e38f), 0x7f80); /* rounds to infinity */
    float quiet;
    memcpy(&quiet, &(uint32_t){0x7f800001}, sizeof quiet); /* its payload is all in the bits that go */
    assert_true(isnan(bf16_to_f32(f32_to_bf16(quiet))));
}

/* From a file's bytes at any alignment. */
static void converting_bytes(void **state) {
    (void)state;
    enum { COUNT = 9 };
    const float values[COUNT] = {0.0f, -1.5f, 2.0f, 0.25f, -1024.0f, 3.0f, 0.125f, 7.0f, -8.5f};
    unsigned char bytes[1 + COUNT * 4];
    float out[COUNT];
    for (int type = 0; type < 3; type++) {
        DType dtype = (DType[]){DTYPE_F32, DTYPE_F16, DTYPE_BF16}[type];
        for (int i = 0; i < COUNT; i++) {
            uint16_t word = dtype == DTYPE_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
            if (dtype == DTYPE_F32)
                memcpy(bytes + 1 + 4 * i, &values[i], 4);
            else
                memcpy(bytes + 1 + 2 * i, &word, 2);
        }
        memset(out, 0, sizeof out);
        floats_from(dtype, bytes + 1, out, COUNT);
        assert_memory_equal(out, values, sizeof out);
    }
}

static void names_and_sizes(void **state) {
    (void)state;
    const struct {
        DType dtype;
        const char *name;
        size_t size;
    } cases[DTYPE_COUNT] = {{DTYPE_F32, "F32", 4}, {DTYPE_F16, "F16", 2}, {DTYPE_BF16, "BF16", 2},
                            {DTYPE_I32, "I32", 4}, {DTYPE_I64, "I64", 8}, {DTYPE_U8, "U8", 1},
                            {DTYPE_F64, "F64", 8}};
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_string_equal(dtype_name(cases[i].dtype), cases[i].name);
        assert_int_equal(dtype_size(cases[i].dtype), cases[i].size);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_round_trip), cmocka_unit_test(f16_rounding),     cmocka_unit_test(bf16_round_trip),
        cmocka_unit_test(bf16_rounding),  cmocka_unit_test(converting_bytes), cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
