/* The synthetic corpus: plans that balance, sentences of the wanted length, voices apart, and clips that
 * measure as they were meant to. Needs the espeak-ng program, as `make deps` installs it. */
#include "tests/test.h"

#include "data/data.h"
#include "data/synth.h"

static int gender_count(const Voices *voices, bool female) {
    return female ? voices->women : voices->count - voices->women;
}

/* ---- plans ---- */

static Voices some_voices(void) {
    Voices voices = {.count = 5, .women = 2};
    voices.items = memory_new(5, sizeof *voices.items, NULL);
    for (int i = 0; i < 5; i++) voices.items[i].female = i < 2;
    return voices;
}

static void check_levels(const ClipPlan *plans, int64_t clips, Cue cue) {
    for (int female = 0; female < 2; female++) {
        int64_t all = 0, level[3] = {0};
        for (int64_t i = 0; i < clips; i++) {
            if (plans[i].female != (bool)female) continue;
            all++;
            level[plans[i].level[cue]]++;
        }
        for (int l = 0; l < 3; l++) assert_in_range(level[l], all / 3, (all + 2) / 3);
    }
}

static void test_plan_balances(void **state) {
    (void)state;
    Error err = {0};
    Voices voices = some_voices();
    static const int64_t SIZES[] = {48, 50, 96, 401, 480, 1000, 1600};
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        int64_t emotions[SYNTH_EMOTIONS] = {0}, spoken[5] = {0};
        ClipPlan *plans = synth_plan(&voices, SIZES[s], 3, &err);
        assert_ok(plans != NULL, &err);
        for (int64_t i = 0; i < SIZES[s]; i++) {
            emotions[plans[i].emotion]++;
            spoken[plans[i].voice]++;
            assert_true(voices.items[plans[i].voice].female == plans[i].female);
        }
        for (int cue = 0; cue < CUE_COUNT; cue++) check_levels(plans, SIZES[s], (Cue)cue);
        for (int e = 0; e < SYNTH_EMOTIONS; e++) assert_in_range(emotions[e], SIZES[s] / 4 - 1, SIZES[s] / 4 + 1);
        for (int v = 0; v < 5; v++) {
            int64_t share = SIZES[s] / 2 / gender_count(&voices, v < 2);
            assert_in_range(spoken[v], share - 4, share + 4);
        }
        free(plans);
    }
    voices_close(&voices);
}

/* No cue alone gives the emotion away: even the best guess from one is far from certain. */
static void test_cues_overlap(void **state) {
    (void)state;
    Error err = {0};
    Voices voices = some_voices();
    enum { CLIPS = 2400 };
    ClipPlan *plans = synth_plan(&voices, CLIPS, 1, &err);
    assert_ok(plans != NULL, &err);
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        int meet[3][SYNTH_EMOTIONS] = {{0}}, right = 0;
        for (int i = 0; i < CLIPS; i++) meet[plans[i].level[cue]][plans[i].emotion]++;
        for (int l = 0; l < 3; l++) {
            int most = 0;
            for (int e = 0; e < SYNTH_EMOTIONS; e++) {
                assert_true(meet[l][e] > 0);
                if (meet[l][e] > most) most = meet[l][e];
            }
            right += most;
        }
        assert_in_range(right, CLIPS * 50 / 100, CLIPS * 65 / 100);
    }
    free(plans);
    voices_close(&voices);
}

/* ---- sentences ---- */

static int vowel_groups(const char *text) { /* about the syllables */
    int groups = 0;
    bool in = false;
    for (; *text; text++) {
        bool vowel = strchr("aeiouyAEIOUY", *text) != NULL;
        groups += vowel && !in;
        in = vowel;
    }
    return groups;
}

static void test_sentence_lengths(void **state) {
    (void)state;
    Error err = {0};
    for (int wanted = 10; wanted <= 22; wanted += 4) {
        double sum = 0;
        for (uint32_t i = 0; i < 200; i++) {
            Rng rng = rng_stream(1, PLACE_TEMPLATE, i, 0);
            char *text = synth_sentence(&rng, wanted, &err);
            assert_ok(text != NULL, &err);
            assert_int_equal(text[strlen(text) - 1], '.');
            sum += vowel_groups(text) / 200.0;
            free(text);
        }
        assert_true(sum > 0.85 * wanted && sum < 1.25 * wanted);
    }
}

/* ---- voices ---- */

static void test_voice_sets_are_apart(void **state) {
    (void)state;
    Error err = {0};
    Voices sets[VOICE_SETS];
    char *folder = test_path("voices");
    for (int s = 0; s < VOICE_SETS; s++) {
        assert_ok(voices_open(&sets[s], (VoiceSet)s, folder, &err), &err);
        assert_in_range(gender_count(&sets[s], true), 4, 100);
        assert_in_range(gender_count(&sets[s], false), 5, 100);
    }
    for (int s = 0; s < VOICE_SETS; s++)
        for (int t = s + 1; t < VOICE_SETS; t++)
            for (int i = 0; i < sets[s].count; i++)
                for (int j = 0; j < sets[t].count; j++)
                    assert_string_not_equal(sets[s].items[i].name, sets[t].items[j].name);
    for (int s = 0; s < VOICE_SETS; s++) voices_close(&sets[s]);
    free(folder);
}

/* ---- corpora ---- */

static SynthOptions small(const char *folder, int jobs) {
    return (SynthOptions){
        .folder = folder, .clips = 16, .test_clips = 16, .test_voices = VOICES_DEV, .seed = 5, .jobs = jobs};
}

static char *bytes_of(const char *folder, const char *name, size_t *size) {
    Error err = {0};
    char *path = path_join(folder, name, &err), *bytes = file_read(path, 1 << 26, size, &err);
    assert_ok(bytes != NULL, &err);
    free(path);
    return bytes;
}

static void assert_same_file(const char *a, const char *b, const char *name) {
    size_t size_a, size_b;
    char *one = bytes_of(a, name, &size_a), *two = bytes_of(b, name, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(one, two, size_a);
    free(one);
    free(two);
}

/* Measured levels, by the cut points the corpus was made for, are the wanted ones. */
static void check_clip(const Manifest *manifest, const Utterance *clip) {
    static const double CUTS[CUE_COUNT][2] = {{0}, {4.5, 6.2}, {62.5, 71.5}};
    Error err = {0};
    Audio audio;
    Features features;
    FeatureOptions options = feature_options_default();
    char *path = path_join(manifest->folder, clip->audio, &err);
    assert_ok(audio_read(&audio, path, 0, 0, 0, &err), &err);
    assert_int_equal(audio.rate, AUDIO_RATE);
    assert_ok(features_measure(&audio, &options, &features, NULL, &err), &err);
    assert_in_range(audio.count, AUDIO_RATE, 6 * AUDIO_RATE);
    double middle = strcmp(clip->gender, "female") == 0 ? 220 : 115, step = 1.106; /* half of 3.5 semitones */
    double pitch_cuts[2] = {middle / step, middle * step};
    static const FeatureId FEATURES[] = {FEATURE_F0_MEDIAN_HZ, FEATURE_ARTICULATION_RATE, FEATURE_INTENSITY_MEAN_DB};
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        const double *cuts = cue == CUE_PITCH ? pitch_cuts : CUTS[cue];
        double value = features.value[FEATURES[cue]];
        int level = (value > cuts[0]) + (value > cuts[1]);
        char key[32];
        snprintf(key, sizeof key, "wanted_%s", CUE_NAMES[cue]);
        assert_string_equal(json_string_value(json_object_get(clip->json, key)), level_word((Cue)cue, level, 3));
    }
    audio_free(&audio);
    free(path);
}

static void test_corpus(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("corpus"), *other = test_path("other");
    SynthOptions options = small(folder, 2), again = small(other, 1);
    assert_ok(synth_corpus(&options, &err), &err);
    char *path = path_join(folder, "manifest.jsonl", &err);
    Manifest manifest;
    assert_ok(manifest_read(&manifest, path, &err), &err);
    assert_int_equal(manifest.count, 32);
    for (size_t i = 0; i < manifest.count; i++) {
        assert_string_equal(manifest.items[i].group, i < 16 ? "train" : "test");
        assert_true((strncmp(manifest.items[i].speaker, "random", 6) == 0) == (i < 16));
        check_clip(&manifest, &manifest.items[i]);
    }
    /* The same corpus whatever the number of jobs. */
    assert_ok(synth_corpus(&again, &err), &err);
    assert_same_file(folder, other, "manifest.jsonl");
    for (size_t i = 0; i < manifest.count; i++) assert_same_file(folder, other, manifest.items[i].audio);
    manifest_free(&manifest);
    free(path);
    free(folder);
    free(other);
}

/* Killed at any byte of its journal, and with audio lost, it goes on to the same manifest. */
static void test_goes_on(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("corpus"), *audio = path_join(folder, "audio/synth-000003.flac", &err);
    char *journal = path_join(folder, "journal.jsonl", &err), *manifest = path_join(folder, "manifest.jsonl", &err);
    SynthOptions options = small(folder, 2);
    assert_ok(synth_corpus(&options, &err), &err);
    size_t size, manifest_size, now;
    char *whole = bytes_of(folder, "journal.jsonl", &size),
         *wanted = bytes_of(folder, "manifest.jsonl", &manifest_size);
    static const double CUT[] = {1, 0.97, 0.9};
    for (int i = 0; i < 3; i++) {
        assert_ok(file_write(journal, whole, (size_t)(CUT[i] * (double)size) - (i > 0), &err), &err);
        unlink(audio);
        unlink(manifest);
        assert_ok(synth_corpus(&options, &err), &err);
        char *bytes = bytes_of(folder, "manifest.jsonl", &now);
        assert_int_equal(now, manifest_size);
        assert_memory_equal(bytes, wanted, now);
        assert_true(file_exists(audio));
        free(bytes);
    }
    options.seed++;
    assert_false(synth_corpus(&options, &err));
    assert_non_null(strstr(err.text, "other options"));
    free(whole);
    free(wanted);
    free(folder);
    free(audio);
    free(journal);
    free(manifest);
}

/* Whatever stands in the journal, nothing crashes: lines are taken or made again. */
static void test_damaged_journals(void **state) {
    (void)state;
    char *folder = test_path("damaged"), *journal = path_join(folder, "journal.jsonl", NULL);
    SynthOptions options = {.folder = folder, .clips = 1, .test_voices = VOICES_DEV, .seed = 1, .jobs = 1};
    Error err = {0};
    assert_ok(synth_corpus(&options, &err), &err);
    size_t size;
    char *whole = bytes_of(folder, "journal.jsonl", &size);
    for (uint32_t i = 0; i < 40; i++) {
        Rng rng = rng_stream(9, PLACE_TEMPLATE, i, 0);
        char *bytes = memory_new(size + 1, 1, NULL);
        memcpy(bytes, whole, size);
        for (int k = 0; k < 3; k++) bytes[rng_below(&rng, (uint32_t)size)] = (char)rng_next(&rng);
        Error writing = {0}, found = {0};
        assert_ok(file_write(journal, bytes, rng_below(&rng, (uint32_t)size + 1), &writing), &writing);
        if (!synth_corpus(&options, &found)) assert_true(strlen(found.text) > 0);
        free(bytes);
    }
    free(whole);
    free(journal);
    free(folder);
}

static void test_missing_program(void **state) {
    (void)state;
    Error err = {0};
    char *path = text_copy(getenv("PATH"), &err), *folder = test_path("missing");
    setenv("PATH", folder, 1);
    SynthOptions options = small(folder, 1);
    bool made = synth_corpus(&options, &err);
    setenv("PATH", path, 1);
    assert_false(made);
    assert_non_null(strstr(err.text, "make deps"));
    free(path);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_balances),    cmocka_unit_test(test_cues_overlap),
        cmocka_unit_test(test_sentence_lengths), cmocka_unit_test(test_voice_sets_are_apart),
        cmocka_unit_test(test_corpus),           cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_damaged_journals), cmocka_unit_test(test_missing_program),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
