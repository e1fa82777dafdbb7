/* The counter-based generator against its authors' known answers, and what is built on it. */
#include "tests/test.h"

#include <math.h>

/* kat_vectors of Random123 (Salmon et al. 2011), philox4x32-10. */
static void known_answers(void **state) {
    (void)state;
    const struct {
        uint32_t counter[4], key[2], word[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint32_t *c = cases[i].counter;
        Philox got = philox((uint64_t)cases[i].key[1] << 32 | cases[i].key[0], c[0], c[1], c[2], c[3]);
        for (int w = 0; w < 4; w++) assert_int_equal(got.word[w], cases[i].word[w]);
    }
}

static void uniform_is_open(void **state) {
    (void)state;
    assert_true(rng_uniform(0) == 0x1p-25f);
    assert_true(rng_uniform(0xffffffffu) < 1.0f);
    assert_true(rng_uniform(0x80000000u) >= 0.5f && rng_uniform(0x7fffffffu) < 0.5f);
}

static void normals_are_normal(void **state) {
    (void)state;
    enum { PAIRS = 100000 };
    double sum = 0.0, square = 0.0, fourth = 0.0, product = 0.0;
    Rng rng = rng_stream(5, 1, 2, 3);
    for (int i = 0; i < PAIRS; i++) {
        float a, b;
        uint32_t first = rng_next(&rng);
        rng_normal_pair(first, rng_next(&rng), &a, &b);
        double x = (double)a, y = (double)b;
        sum += x + y;
        square += x * x + y * y;
        fourth += x * x * x * x + y * y * y * y;
        product += x * y;
    }
    /* Five standard errors of 200,000 draws. */
    assert_true(fabs(sum / (2 * PAIRS)) < 0.012);
    assert_true(fabs(square / (2 * PAIRS) - 1.0) < 0.016);
    assert_true(fabs(fourth / (2 * PAIRS) - 3.0) < 0.11);
    assert_true(fabs(product / PAIRS) < 0.016);
    float a, b;
    rng_normal_pair(0, 0, &a, &b); /* the smallest uniform: large but finite */
    assert_true(isfinite(a) && isfinite(b) && fabsf(a) < 6.0f);
}

/* A reader is the blocks of its counter, word by word. */
static void streams_are_blocks(void **state) {
    (void)state;
    Rng rng = rng_stream(0x0123456789abcdefull, 9, 8, 7);
    for (uint32_t i = 0; i < 50; i++) {
        Philox block = philox(0x0123456789abcdefull, i / 4, 9, 8, 7);
        assert_int_equal(rng_next(&rng), block.word[i % 4]);
    }
}

static void below_is_even(void **state) {
    (void)state;
    Rng rng = rng_stream(1, 1, 1, 1);
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint32_t word = rng_below(&rng, 7);
        assert_true(word < 7);
        count[word]++;
    }
    for (int i = 0; i < 7; i++) assert_true(abs(count[i] - 10000) < 500);
    for (int i = 0; i < 100; i++) assert_int_equal(rng_below(&rng, 1), 0);
    int high = 0; /* a bound that rejects half of all words */
    for (int i = 0; i < 1000; i++) high += rng_below(&rng, 0x80000001u) > 0x40000000u;
    assert_true(abs(high - 500) < 80);
}

static void permutations_permute(void **state) {
    (void)state;
    uint32_t order[100], again[100];
    int at_front[4] = {0};
    for (uint32_t count = 0; count <= 100; count += 25) {
        Rng rng = rng_stream(3, PLACE_SHUFFLE, 0, count), same = rng;
        bool seen[100] = {false};
        rng_permutation(&rng, order, count);
        rng_permutation(&same, again, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(order[i] < count && !seen[order[i]]);
            seen[order[i]] = true;
        }
        assert_memory_equal(order, again, count * sizeof *order);
    }
    for (uint32_t epoch = 0; epoch < 4000; epoch++) {
        Rng rng = rng_stream(3, PLACE_SHUFFLE, 0, epoch);
        rng_permutation(&rng, order, 4);
        at_front[order[0]]++;
    }
    for (int i = 0; i < 4; i++) assert_true(abs(at_front[i] - 1000) < 150);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),      cmocka_unit_test(uniform_is_open), cmocka_unit_test(normals_are_normal),
        cmocka_unit_test(streams_are_blocks), cmocka_unit_test(below_is_even),   cmocka_unit_test(permutations_permute),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
