/* The loader hands out what was asked for, in order, whatever the threads; orders are pure functions. */
#include "tests/test.h"

#include <malloc.h>

#include "data/loader.h"

enum { CLIPS = 40, CLASSES = 3 };

static Shards *open_corpus(void) {
    Error err = {0};
    char *folder = test_path("corpus"), *path = test_path("corpus/m.jsonl"), *out = test_path("shards");
    assert_ok(folder_make(folder, &err), &err);
    Text lines = {0};
    for (int i = 0; i < CLIPS; i++) {
        int64_t samples = 100 + 311 * i;
        Audio audio = {.samples = calloc((size_t)samples, sizeof(float)), .count = samples, .rate = AUDIO_RATE};
        for (int64_t k = 0; k < samples; k++) audio.samples[k] = (float)((k * (i + 1)) % 1000) / 2000.0f;
        unsigned char *bytes;
        size_t size;
        assert_ok(audio_encode(&audio, AUDIO_FLAC, &bytes, &size, &err), &err);
        char *clip = text_format(&err, "%s/%d.flac", folder, i);
        assert_ok(file_write(clip, bytes, size, &err), &err);
        text_addf(&lines, "{\"id\": \"u%d\", \"audio\": \"%d.flac\", \"emotion\": \"%s\"}\n", i, i,
                  i < 25   ? "happy"
                  : i < 37 ? "sad"
                           : "angry");
        free(clip);
        free(bytes);
        audio_free(&audio);
    }
    assert_ok(file_write(path, lines.data, lines.length, &err), &err);
    text_free(&lines);
    Manifest manifest;
    assert_ok(manifest_read(&manifest, path, &err), &err);
    ShardOptions options = shard_options_default();
    assert_ok(shards_write(&manifest, out, &options, &err), &err);
    manifest_free(&manifest);
    Shards *shards = shards_open(out, &err);
    assert_ok(shards != NULL, &err);
    free(folder);
    free(path);
    free(out);
    return shards;
}

static int setup(void **state) {
    *state = open_corpus();
    return 0;
}

static int teardown(void **state) {
    shards_close(*state);
    return test_cleanup(state);
}

static void all_of(uint32_t *indexes) {
    for (uint32_t i = 0; i < CLIPS; i++) indexes[i] = i;
}

static LoaderOptions options_for(const uint32_t *chosen, Sampling sampling, uint64_t seed) {
    return (LoaderOptions){.chosen = chosen,
                           .chosen_count = CLIPS,
                           .shuffle = true,
                           .sampling = sampling,
                           .seed = seed,
                           .threads = 2,
                           .ahead = 8,
                           .prosody = 1,
                           .audio = true};
}

/* ---- order ---- */

static void test_order_is_a_permutation(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS], order[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        int seen[CLIPS] = {0};
        assert_ok(order_make(*state, &options, epoch, order, &err), &err);
        for (int i = 0; i < CLIPS; i++) seen[order[i]]++;
        for (int i = 0; i < CLIPS; i++) assert_int_equal(seen[i], 1);
    }
}

static void test_order_is_pure(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS], order[CLIPS], again[CLIPS], other[CLIPS];
    all_of(chosen);
    for (int s = SAMPLING_NATURAL; s <= SAMPLING_BALANCED; s++) {
        LoaderOptions options = options_for(chosen, (Sampling)s, 3), seeded = options_for(chosen, (Sampling)s, 4);
        assert_ok(order_make(*state, &options, 2, order, &err), &err);
        assert_ok(order_make(*state, &options, 7, other, &err), &err);
        assert_memory_not_equal(order, other, sizeof order);
        assert_ok(order_make(*state, &seeded, 2, other, &err), &err);
        assert_memory_not_equal(order, other, sizeof order);
        options.threads = 7;
        options.ahead = 1;
        assert_ok(order_make(*state, &options, 2, again, &err), &err);
        assert_memory_equal(order, again, sizeof order);
    }
}

static void test_no_shuffle(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS], order[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_BALANCED, 3);
    options.shuffle = false;
    assert_ok(order_make(*state, &options, 2, order, &err), &err);
    for (uint32_t i = 0; i < CLIPS; i++) assert_int_equal(order[i], i);
}

/* 25, 12 and 3 of three classes: each third of an epoch's positions, and none twice before all of its class. */
static void test_balanced(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS], order[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_BALANCED, 3);
    int32_t classes[CLIPS];
    for (int i = 0; i < CLIPS; i++) classes[i] = i < 25 ? 0 : i < 37 ? 1 : 2;
    for (int given = 0; given < 2; given++) {
        options.classes = given ? classes : NULL;
        for (uint32_t epoch = 0; epoch < 4; epoch++) {
            int seen[CLIPS] = {0}, count[CLASSES] = {0};
            assert_ok(order_make(*state, &options, epoch, order, &err), &err);
            for (int i = 0; i < CLIPS; i++) {
                seen[order[i]]++;
                count[classes[order[i]]]++;
            }
            for (int c = 0; c < CLASSES; c++) assert_in_range(count[c], 13, 14);
            for (int i = 0; i < CLIPS; i++) assert_in_range(seen[i], 0, i < 25 ? 1 : i < 37 ? 2 : 5);
        }
    }
    classes[5] = -1;
    assert_false(order_make(*state, &options, 0, order, &err));
}

/* ---- loading ---- */

static void check_sample(const Shards *shards, const Sample *sample, uint32_t index) {
    Error err = {0};
    Audio audio;
    assert_int_equal(sample->index, index);
    assert_ptr_equal(sample->utterance, shards_utterance(shards, index));
    assert_ok(shards_read(shards, index, &audio, &err), &err);
    assert_int_equal(sample->audio.count, audio.count);
    assert_memory_equal(sample->audio.samples, audio.samples, (size_t)audio.count * sizeof(float));
    assert_int_equal(sample->prosody_frames, audio.count < 400 ? 0 : (audio.count - 400) / 320 + 1);
    audio_free(&audio);
}

static void test_loader_equals_order(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS], order[CLIPS];
    all_of(chosen);
    const int threads[] = {1, 2, 5}, ahead[] = {1, 3, 64};
    for (int t = 0; t < 3; t++)
        for (int a = 0; a < 3; a++) {
            LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
            options.threads = threads[t];
            options.ahead = ahead[a];
            Loader *loader = loader_open(*state, &options, &err);
            assert_ok(loader != NULL, &err);
            for (uint32_t epoch = 0; epoch < 2; epoch++) {
                assert_ok(order_make(*state, &options, epoch, order, &err), &err);
                assert_ok(loader_start(loader, order, CLIPS, &err), &err);
                for (int i = 0; i < CLIPS; i++) {
                    Sample sample;
                    assert_ok(loader_next(loader, &sample, &err), &err);
                    check_sample(*state, &sample, order[i]);
                    sample_free(&sample);
                    if (epoch == 1 && i == 11) break; /* left in the middle: started anew or closed */
                }
            }
            loader_close(loader);
        }
}

/* Bytes in use of the heap; the sanitizer's where it has replaced it. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
static size_t heap(void) {
    if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* However long the epoch, and however slowly samples are taken, no more than those in flight is held. */
static void test_flat_memory(void **state) {
    enum { LONG = 30 * CLIPS };
    Error err = {0};
    uint32_t chosen[CLIPS], order[LONG];
    all_of(chosen);
    for (uint32_t i = 0; i < LONG; i++) order[i] = i % CLIPS;
    LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
    size_t before = heap(), most = before, decoded = 0;
    Loader *loader = loader_open(*state, &options, &err);
    assert_ok(loader && loader_start(loader, order, LONG, &err), &err);
    for (int i = 0; i < LONG; i++) {
        Sample sample;
        if (i % (LONG / 4) == 5) usleep(50000); /* the ring fills */
        assert_ok(loader_next(loader, &sample, &err), &err);
        decoded += (size_t)sample.audio.count * sizeof(float);
        sample_free(&sample);
        if (i % 16 == 0 && heap() > most) most = heap();
    }
    loader_close(loader);
    assert_true(decoded > 27 << 20);
    assert_in_range(most - before, 100 << 10, 2 << 20); /* eight samples of up to 50 kB, and what decoding them takes */
    assert_true(heap() < before + (64 << 10));
}

static void test_past_the_end(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
    Loader *loader = loader_open(*state, &options, &err);
    Sample sample;
    assert_false(loader_next(loader, &sample, &err)); /* never started */
    Error second = {0}, third = {0};
    assert_ok(loader_start(loader, chosen, 1, &second), &second);
    assert_ok(loader_next(loader, &sample, &second), &second);
    sample_free(&sample);
    assert_false(loader_next(loader, &sample, &second));
    uint32_t wrong = CLIPS;
    assert_false(loader_start(loader, &wrong, 1, &third));
    loader_close(loader);
}

static void test_cut(void **state) {
    Error err = {0};
    uint32_t chosen[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
    options.max_samples = 2000;
    Loader *loader = loader_open(*state, &options, &err);
    assert_ok(loader_start(loader, chosen, CLIPS, &err), &err);
    for (uint32_t i = 0; i < CLIPS; i++) {
        Sample sample;
        assert_ok(loader_next(loader, &sample, &err), &err);
        int64_t whole = shards_samples(*state, i);
        assert_int_equal(sample.audio.count, whole < 2000 ? whole : 2000);
        assert_true(sample.prosody_frames <= (2000 - 400) / 320 + 1);
        sample_free(&sample);
    }
    loader_close(loader);
}

/* A damaged sample fails at its place, with its name; those before it are handed out. */
static void test_damaged_sample(void **state) {
    (void)state;
    Error err = {0};
    char *path = test_path("shards/data-000000.tar.zst");
    size_t size;
    char *data = file_read(path, 1 << 26, &size, &err);
    assert_ok(data != NULL, &err);
    data[size / 2] ^= 4;
    assert_ok(file_write(path, data, size, &err), &err);
    char *folder = test_path("shards");
    Shards *shards = shards_open(folder, &err);
    assert_ok(shards != NULL, &err);
    uint32_t chosen[CLIPS];
    all_of(chosen);
    LoaderOptions options = options_for(chosen, SAMPLING_NATURAL, 3);
    Loader *loader = loader_open(shards, &options, &err);
    assert_ok(loader_start(loader, chosen, CLIPS, &err), &err);
    int good = 0;
    for (Sample sample; good < CLIPS && loader_next(loader, &sample, &err); good++) sample_free(&sample);
    assert_in_range(good, 1, CLIPS - 1);
    assert_non_null(strstr(err.text, "data-000000.tar.zst"));
    assert_non_null(strstr(err.text, shards_utterance(shards, (size_t)good)->id));
    loader_close(loader);
    shards_close(shards);
    data[size / 2] ^= 4;
    Error clean = {0};
    assert_ok(file_write(path, data, size, &clean), &clean);
    free(data);
    free(path);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_a_permutation),
        cmocka_unit_test(test_order_is_pure),
        cmocka_unit_test(test_no_shuffle),
        cmocka_unit_test(test_balanced),
        cmocka_unit_test(test_loader_equals_order),
        cmocka_unit_test(test_flat_memory),
        cmocka_unit_test(test_past_the_end),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged_sample),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
