/* What annotation can measure and find besides: voice quality, gender where none is given, levels among a speaker's
 * own. */
#include "tests/test.h"

#include <math.h>

#include "data/annotate.h"
#include "data/commands.h"
#include "data/gender.h"
#include "tests/data/signals.h"

enum { CLIPS = 20 }; /* the first half by a low voice, the others by a high one; each rising */

static double f0_of(int i) { return i < CLIPS / 2 ? 95 + 2 * i : 215 + 4 * (i - CLIPS / 2); }

static void write_clip(int i) {
    Error err = {0};
    Signal s = {.rate = 16000,
                .count = 12000,
                .f0 = f0_of(i),
                .vibrato_hz = 5,
                .vibrato_depth = .03,
                .harmonics = 20,
                .syllables_hz = 4,
                .level = 0.02 * (i % (CLIPS / 2) + 1),
                .noise = 1e-3,
                .seed = i,
                .pause_from = 9};
    Audio audio;
    unsigned char *data = NULL;
    size_t size;
    char name[40];
    snprintf(name, sizeof name, "clip-%d.wav", i);
    char *path = test_path(name);
    assert_ok(signal_make(&s, &audio, &err) && audio_encode(&audio, AUDIO_WAV, &data, &size, &err) &&
                  file_write(path, data, size, &err),
              &err);
    audio_free(&audio);
    free(data);
    free(path);
}

/* m.jsonl gives no gender, given.jsonl one by turns. */
static int make_corpus(void **state) {
    (void)state;
    Text bare = {0}, given = {0};
    for (int i = 0; i < CLIPS; i++) {
        write_clip(i);
        const char *speaker = i < CLIPS / 2 ? "low" : "high", *gender = i % 2 ? "female" : "male";
        text_addf(&bare, "{\"id\":\"u%d\",\"corpus\":\"c\",\"audio\":\"clip-%d.wav\",\"speaker\":\"%s\"}\n", i, i,
                  speaker);
        text_addf(&given, "{\"id\":\"u%d\",\"audio\":\"clip-%d.wav\",\"gender\":\"%s\"}\n", i, i, gender);
    }
    char *path = test_path("m.jsonl"), *other = test_path("given.jsonl");
    assert_true(file_write(path, bare.data, bare.length, NULL) && file_write(other, given.data, given.length, NULL));
    free(path);
    free(other);
    text_free(&bare);
    text_free(&given);
    return 0;
}

static Manifest annotated(const char *input, const char *output, AnnotateOptions options) {
    Error err = {0};
    Manifest manifest;
    char *in = test_path(input), *out = test_path(output);
    options.output = out;
    options.levels = 3;
    assert_ok(annotate(in, &options, &err) && manifest_read(&manifest, out, &err), &err);
    assert_int_equal(manifest.count, CLIPS);
    free(in);
    free(out);
    return manifest;
}

/* As `semollm features` finds them, men's formants under 5000 Hz; only where asked for. */
static void voice_quality(void **state) {
    (void)state;
    Manifest whole = annotated("given.jsonl", "whole.jsonl", (AnnotateOptions){.voice_quality = true});
    Manifest plain = annotated("given.jsonl", "plain.jsonl", (AnnotateOptions){0});
    for (int i = 0; i < CLIPS; i++) {
        Error err = {0};
        Audio audio;
        Features features;
        FeatureOptions options = feature_options_default();
        options.voice_quality = true;
        options.formant_ceiling_hz = i % 2 ? 5500 : 5000;
        char *path = manifest_audio(&whole, &whole.items[i], &err);
        assert_ok(audio_read(&audio, path, 0, 0, 0, &err), &err);
        assert_ok(features_measure(&audio, &options, &features, NULL, &err), &err);
        assert_true(whole.items[i].features.voice_quality && !plain.items[i].features.voice_quality);
        for (int k = 0; k < FEATURE_COUNT; k++) {
            assert_true(fabs(whole.items[i].features.value[k] - features.value[k]) < 1e-6);
            const json_t *json = json_object_get(plain.items[i].json, "features");
            assert_int_equal(json_object_get(json, FEATURE_NAMES[k]) != NULL, k < FEATURE_JITTER);
        }
        audio_free(&audio);
        free(path);
    }
    manifest_free(&whole);
    manifest_free(&plain);
}

/* A killed call that wanted fewer features noted some: they are measured anew. */
static void more_than_was_noted(void **state) {
    (void)state;
    Error err = {0};
    AnnotateJournal journal;
    bool measured[CLIPS] = {false};
    Manifest plain = annotated("given.jsonl", "plain.jsonl", (AnnotateOptions){0}), given;
    char *in = test_path("given.jsonl"), *out = test_path("more.jsonl");
    assert_ok(manifest_read(&given, in, &err), &err);
    assert_ok(annotate_journal_open(&journal, &given, measured, out, &err), &err);
    for (int i = 0; i < 5; i++) assert_ok(annotate_journal_add(&journal, &plain.items[i], &err), &err);
    annotate_journal_close(&journal);
    Manifest more = annotated("given.jsonl", "more.jsonl", (AnnotateOptions){.voice_quality = true});
    for (int i = 0; i < CLIPS; i++) assert_true(isfinite(more.items[i].features.value[FEATURE_HNR_DB]));
    manifest_free(&plain);
    manifest_free(&given);
    manifest_free(&more);
    free(in);
    free(out);
}

static void gender_where_none_is_given(void **state) {
    (void)state;
    Manifest found = annotated("m.jsonl", "found.jsonl", (AnnotateOptions){0});
    Manifest again = annotated("found.jsonl", "again.jsonl", (AnnotateOptions){0});
    Manifest kept = annotated("m.jsonl", "kept.jsonl", (AnnotateOptions){.keep_gender = true});
    for (int i = 0; i < CLIPS; i++) {
        const char *gender = i < CLIPS / 2 ? "male" : "female";
        assert_string_equal(found.items[i].gender, gender);
        assert_string_equal(again.items[i].gender, gender);
        assert_string_equal(json_string_value(json_object_get(again.items[i].json, "gender_source")), "estimated");
        assert_false(found.items[i].features.voice_quality); /* measured for the estimate alone */
        assert_true(!kept.items[i].gender && !json_object_get(kept.items[i].json, "gender_source"));
    }
    manifest_free(&found);
    manifest_free(&again);
    manifest_free(&kept);
}

static const char *word_of(const Manifest *manifest, int i, const char *cue) {
    return json_string_value(json_object_get(json_object_get(manifest->items[i].json, "levels"), cue));
}

/* Of ten rising values three are over two thirds, whoever's they are; among both speakers' a high voice is high. */
static void levels_of_a_speaker(void **state) {
    (void)state;
    AnnotateOptions options = {.keep_gender = true, .relative = RELATIVE_SPEAKER};
    Manifest own = annotated("m.jsonl", "own.jsonl", options);
    options.relative = RELATIVE_CORPUS;
    Manifest all = annotated("m.jsonl", "all.jsonl", options);
    for (int i = 0; i < CLIPS; i++) {
        int place = i % (CLIPS / 2);
        const char *expected = place < 3 ? "low" : place > 6 ? "high" : NULL;
        if (expected) assert_string_equal(word_of(&own, i, "pitch"), expected);
        expected = i < 6 ? "low" : i > 13 ? "high" : NULL;
        if (expected) assert_string_equal(word_of(&all, i, "pitch"), expected);
    }
    manifest_free(&own);
    manifest_free(&all);
}

#define RUN(command, err, ...)                                                                                         \
    command((int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__}, err)

static void command_lines(void **state) {
    (void)state;
    char *clip = test_path("clip-1.wav");
    Error err = {0};
    assert_ok(RUN(command_features, &err, "features", "--voice-quality", "--json", "--track", clip), &err);
    assert_ok(RUN(command_features, &err, "features", "--voice-quality", "--formant-ceiling", "5000", clip), &err);
    static char *const WRONG[] = {"-1", "999", "20001", "9223372036854775807", "x"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        err = (Error){0};
        assert_false(RUN(command_features, &err, "features", "--voice-quality", "--formant-ceiling", WRONG[i], clip));
        assert_int_equal(err.exit_code, EXIT_USAGE);
    }
    free(clip);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(voice_quality),
        cmocka_unit_test(more_than_was_noted),
        cmocka_unit_test(gender_where_none_is_given),
        cmocka_unit_test(levels_of_a_speaker),
        cmocka_unit_test(command_lines),
    };
    return cmocka_run_group_tests_name("annotate: features", tests, make_corpus, test_cleanup);
}
