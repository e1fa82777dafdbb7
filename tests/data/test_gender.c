/* The estimate of gender: what it says of typical voices, of speakers, and of those that nothing can be said of. */
#include "tests/test.h"

#include <math.h>

#include "data/gender.h"

static Features voice(double f0, double formant_scale) {
    Features features = {.voice_quality = true};
    for (int i = 0; i < FEATURE_COUNT; i++) features.value[i] = NAN;
    features.value[FEATURE_F0_MEDIAN_HZ] = features.value[FEATURE_F0_MEAN_HZ] = f0;
    features.value[FEATURE_F0_SD_ST] = 2.5;
    features.value[FEATURE_F0_RANGE_ST] = 9;
    features.value[FEATURE_F1_HZ] = 490 * formant_scale;
    features.value[FEATURE_F2_HZ] = 1600 * formant_scale;
    features.value[FEATURE_F3_HZ] = 2600 * formant_scale;
    return features;
}

static void typical_voices(void **state) {
    (void)state;
    Features man = voice(110, 1), woman = voice(215, 1.13), whisper = voice(NAN, 1), bare = voice(110, 1);
    assert_true(gender_log_odds(&man) > 1);
    assert_true(gender_log_odds(&woman) < -1);
    assert_true(isnan(gender_log_odds(&whisper)));
    bare.value[FEATURE_F3_HZ] = NAN;
    assert_true(isnan(gender_log_odds(&bare)));
    for (double f0 = 80; f0 < 400; f0 += 10) { /* the higher, the less likely a man */
        Features low = voice(f0, 1), high = voice(f0 + 10, 1);
        assert_true(gender_log_odds(&low) > gender_log_odds(&high));
    }
}

static void add(Manifest *manifest, const char *speaker, const char *gender, double f0) {
    Error err = {0};
    Utterance *u = manifest_add(manifest, &err);
    assert_ok(u, &err);
    u->id = text_format(&err, "u%zu", manifest->count);
    u->corpus = text_copy("c", &err);
    u->audio = text_copy("a.wav", &err);
    u->speaker = speaker ? text_copy(speaker, &err) : NULL;
    u->gender = gender ? text_copy(gender, &err) : NULL;
    u->has_features = true;
    u->features = voice(f0, f0 > 160 ? 1.13 : 1);
}

static const char *source_of(const Manifest *manifest, size_t i) {
    return json_string_value(json_object_get(manifest->items[i].json, "gender_source"));
}

static void check(const Manifest *manifest) {
    static const char *const GENDERS[] = {"female", "male", "male", "male", "female", "male", NULL, "male"};
    for (size_t i = 0; i < manifest->count; i++) {
        const char *gender = manifest->items[i].gender;
        assert_int_equal(!gender, !GENDERS[i]);
        if (gender) assert_string_equal(gender, GENDERS[i]);
        assert_int_equal(gender_given(&manifest->items[i]), i == 0);
        assert_int_equal(source_of(manifest, i) != NULL, i > 0 && gender);
        if (source_of(manifest, i)) assert_string_equal(source_of(manifest, i), "estimated");
    }
}

/* A given gender stays, a speaker's utterances get one together, others each its own, and doing it again changes
 * nothing. */
static void speakers_together(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest = {0};
    add(&manifest, "given", "female", 110);
    add(&manifest, "him", NULL, 100);
    add(&manifest, "him", NULL, 110);
    add(&manifest, "him", NULL, 190); /* excited */
    add(&manifest, NULL, NULL, 220);
    add(&manifest, NULL, NULL, 105);
    add(&manifest, "whisperer", NULL, NAN);
    add(&manifest, "him", NULL, NAN);
    for (int times = 0; times < 2; times++) {
        assert_ok(gender_estimate(&manifest, &err), &err);
        check(&manifest);
    }
    char *path = test_path("m.jsonl");
    Manifest again;
    assert_ok(manifest_write(&manifest, path, &err) && manifest_read(&again, path, &err), &err);
    check(&again);
    again.items[1].features = voice(230, 1.13); /* what was estimated is no more than that */
    again.items[2].features = voice(NAN, 1);
    again.items[3].features = voice(NAN, 1);
    assert_ok(gender_estimate(&again, &err), &err);
    for (size_t i = 1; i < 4; i++) assert_string_equal(again.items[i].gender, "female");
    again.items[1].features.voice_quality = again.items[2].features.voice_quality =
        again.items[3].features.voice_quality = again.items[7].features.voice_quality = false;
    assert_ok(gender_estimate(&again, &err), &err); /* nothing to estimate from: what was stays */
    for (size_t i = 1; i < 4; i++) assert_string_equal(again.items[i].gender, "female");
    again.items[1].features = voice(NAN, 1);
    assert_ok(gender_estimate(&again, &err), &err);
    for (size_t i = 1; i < 4; i++) assert_true(!again.items[i].gender && !source_of(&again, i));
    manifest_free(&manifest);
    manifest_free(&again);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(typical_voices), cmocka_unit_test(speakers_together)};
    return cmocka_run_group_tests_name("gender", tests, NULL, test_cleanup);
}
