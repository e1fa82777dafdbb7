/* Orders over many shards: few shards are in use at a time, and they depend on nothing but seed, epoch and shards. */
#include "tests/data/corpus.h"

enum { CLIPS = 480 };

typedef struct Corpus {
    Shards *shards;
    uint32_t chosen[CLIPS];
} Corpus;

static int setup(void **state) {
    static Corpus corpus;
    Error err = {0};
    char *folder = test_path("corpus");
    corpus_write(folder, CLIPS, 24000);
    corpus.shards = shards_open(folder, &err);
    assert_ok(corpus.shards != NULL, &err);
    assert_in_range(shards_files(corpus.shards), 30, CLIPS / 4);
    for (uint32_t i = 0; i < CLIPS; i++) corpus.chosen[i] = i;
    free(folder);
    *state = &corpus;
    return 0;
}

static int teardown(void **state) {
    shards_close(((Corpus *)*state)->shards);
    return test_cleanup(state);
}

static LoaderOptions options_for(const Corpus *corpus, int window) {
    return (LoaderOptions){
        .chosen = corpus->chosen, .chosen_count = CLIPS, .shuffle = true, .shuffle_shards = window, .seed = 5};
}

static void make(const Corpus *corpus, const LoaderOptions *options, uint32_t epoch, uint32_t *order) {
    Error err = {0};
    assert_ok(order_make(corpus->shards, options, epoch, order, &err), &err);
}

static uint32_t shard_at(const Corpus *corpus, const uint32_t *order, size_t position) {
    return shards_file_of(corpus->shards, corpus->chosen[order[position]]);
}

/* The largest number of shards that have begun and not ended, and the sum over all positions. */
static size_t count_open(const Corpus *corpus, const uint32_t *order, size_t *sum) {
    size_t files = shards_files(corpus->shards), open = 0, most = 0;
    size_t *first = malloc(files * sizeof *first), *last = calloc(files, sizeof *last);
    for (size_t f = 0; f < files; f++) first[f] = SIZE_MAX;
    for (size_t i = 0; i < CLIPS; i++) {
        uint32_t file = shard_at(corpus, order, i);
        if (first[file] == SIZE_MAX) first[file] = i;
        last[file] = i;
    }
    *sum = 0;
    for (size_t i = 0; i < CLIPS; i++) {
        uint32_t file = shard_at(corpus, order, i);
        open += first[file] == i;
        if (open > most) most = open;
        *sum += open;
        open -= last[file] == i;
    }
    free(first);
    free(last);
    return most;
}

static void assert_permutation(const uint32_t *order) {
    int seen[CLIPS] = {0};
    for (int i = 0; i < CLIPS; i++) seen[order[i]]++;
    for (int i = 0; i < CLIPS; i++) assert_int_equal(seen[i], 1);
}

/* Shards differ in their number of samples by a factor of some, so that a window may hold a few more of the small. */
static void test_few_shards_at_a_time(void **state) {
    const Corpus *corpus = *state;
    uint32_t order[CLIPS];
    size_t sum;
    for (int window = 1; window <= 16; window *= 2)
        for (uint32_t epoch = 0; epoch < 4; epoch++) {
            LoaderOptions options = options_for(corpus, window);
            make(corpus, &options, epoch, order);
            assert_permutation(order);
            size_t most = count_open(corpus, order, &sum);
            if (window == 1) assert_int_equal(most, 1);
            assert_in_range(most, (size_t)window * 3 / 4, (size_t)window * 2);
            /* and the window is used: they are mixed, not read one after the other */
            assert_true(sum >= CLIPS * (size_t)window / 2);
        }
}

/* Shard after shard, but not each from its beginning to its end, and not the same way twice. */
static void test_order_within_a_shard(void **state) {
    const Corpus *corpus = *state;
    uint32_t order[CLIPS], other[CLIPS];
    int rises = 0, neighbours = 0, again = 0;
    LoaderOptions options = options_for(corpus, 1);
    make(corpus, &options, 0, order);
    make(corpus, &options, 1, other);
    for (size_t i = 0; i + 1 < CLIPS; i++) {
        if (shard_at(corpus, order, i) != shard_at(corpus, order, i + 1)) continue;
        neighbours++;
        rises += order[i] < order[i + 1];
        for (size_t k = 0; k + 1 < CLIPS; k++) again += order[i] == other[k] && order[i + 1] == other[k + 1];
    }
    assert_in_range(rises, neighbours * 2 / 5, neighbours * 3 / 5);
    assert_true(again < neighbours / 5); /* of a dozen samples one in twelve pairs recurs by chance */
}

/* With few shards, or no bound, it is one permutation of all. */
static void test_few_shards_in_all(void **state) {
    const Corpus *corpus = *state;
    uint32_t order[CLIPS], bounded[CLIPS], all[CLIPS];
    for (int sampling = SAMPLING_NATURAL; sampling <= SAMPLING_BALANCED; sampling++) {
        LoaderOptions options = options_for(corpus, 0);
        options.sampling = (Sampling)sampling;
        make(corpus, &options, 3, order);
        options.shuffle_shards = (int)shards_files(corpus->shards);
        make(corpus, &options, 3, bounded);
        assert_memory_equal(order, bounded, sizeof order);
        options.shuffle_shards--;
        make(corpus, &options, 3, bounded);
        assert_memory_not_equal(order, bounded, sizeof order);
    }
    Rng rng = rng_stream(5, PLACE_SHUFFLE, 0, 3);
    LoaderOptions options = options_for(corpus, 0);
    make(corpus, &options, 3, order);
    rng_permutation(&rng, all, CLIPS);
    assert_memory_equal(order, all, sizeof order);
}

static void test_bounded_order_is_pure(void **state) {
    const Corpus *corpus = *state;
    uint32_t order[CLIPS], again[CLIPS], other[CLIPS];
    for (int sampling = SAMPLING_NATURAL; sampling <= SAMPLING_BALANCED; sampling++) {
        LoaderOptions options = options_for(corpus, 4);
        options.sampling = (Sampling)sampling;
        make(corpus, &options, 2, order);
        make(corpus, &options, 7, other);
        assert_memory_not_equal(order, other, sizeof order);
        options.threads = 7;
        options.ahead = 1;
        make(corpus, &options, 2, again);
        assert_memory_equal(order, again, sizeof order);
        options.seed++;
        make(corpus, &options, 2, other);
        assert_memory_not_equal(order, other, sizeof order);
    }
}

/* Where a sample stands in an epoch says nothing about where it stands in the shards, over epochs. */
static void test_every_place_is_reached(void **state) {
    const Corpus *corpus = *state;
    enum { EPOCHS = 400 };
    uint32_t order[CLIPS];
    double mean[CLIPS] = {0};
    LoaderOptions options = options_for(corpus, 4);
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        make(corpus, &options, epoch, order);
        for (int i = 0; i < CLIPS; i++) mean[order[i]] += (double)i / CLIPS / EPOCHS;
    }
    /* uniform: 0.5 with a standard deviation of 0.29 / sqrt(400) = 0.0144; 5 of these for the worst of 480 */
    for (int i = 0; i < CLIPS; i++) assert_true(mean[i] > 0.5 - 0.072 && mean[i] < 0.5 + 0.072);
}

/* Every class equally often, each in few shards at a time; the rarest goes through them several times. */
static void test_balanced_in_few_shards(void **state) {
    const Corpus *corpus = *state;
    uint32_t order[CLIPS];
    LoaderOptions options = options_for(corpus, 4);
    options.sampling = SAMPLING_BALANCED;
    for (uint32_t epoch = 0; epoch < 3; epoch++) {
        int seen[CLIPS] = {0}, kinds[3] = {0};
        size_t near = 0;
        make(corpus, &options, epoch, order);
        for (int i = 0; i < CLIPS; i++) {
            const char *emotion = shards_utterance(corpus->shards, order[i])->emotion;
            kinds[*emotion == 's' ? 0 : *emotion == 'a' ? 1 : 2]++;
            seen[order[i]]++;
        }
        for (int k = 0; k < 3; k++) assert_in_range(kinds[k], CLIPS / 3 - 1, CLIPS / 3 + 1);
        for (int i = 0; i < CLIPS; i++) assert_in_range(seen[i], 0, CLIPS / 3 / (CLIPS * 4 / 35) + 1);
        for (size_t i = 0; i + 30 < CLIPS; i++) { /* three classes' windows of four */
            bool used[CLIPS] = {false};
            for (size_t k = i; k < i + 30; k++) {
                uint32_t file = shard_at(corpus, order, k);
                near += !used[file];
                used[file] = true;
            }
        }
        assert_true(near < (CLIPS - 30) * 20); /* with no bound: 27 */
    }
}

int main(void) {
    corpus_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_shards_at_a_time),   cmocka_unit_test(test_order_within_a_shard),
        cmocka_unit_test(test_few_shards_in_all),      cmocka_unit_test(test_bounded_order_is_pure),
        cmocka_unit_test(test_every_place_is_reached), cmocka_unit_test(test_balanced_in_few_shards),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
