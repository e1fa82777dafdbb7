/* Features against Praat's own values of synthetic signals, and where there is nothing to measure. */
#include "tests/test.h"

#include <limits.h>
#include <math.h>

#include "data/features.h"
#include "tests/data/signals.h"

static Signal signal_of(const json_t *json) {
    Signal s;
    Error err = {0};
    const struct {
        const char *name;
        double *value;
    } fields[] = {{"rate", &s.rate},
                  {"count", &s.count},
                  {"f0", &s.f0},
                  {"glide", &s.glide},
                  {"vibrato_hz", &s.vibrato_hz},
                  {"vibrato_depth", &s.vibrato_depth},
                  {"harmonics", &s.harmonics},
                  {"syllables_hz", &s.syllables_hz},
                  {"level", &s.level},
                  {"noise", &s.noise},
                  {"seed", &s.seed},
                  {"pause_from", &s.pause_from},
                  {"pause_to", &s.pause_to}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        assert_ok(json_get_number(json, fields[i].name, fields[i].value, "signal", &err), &err);
    return s;
}

/* HNR is interpolated over 70 samples to each side, Praat's over up to 700. A sound without noise, with nothing over
 * its harmonics, leaves formants to rounding: in single precision to a few Hz. */
static const double TOLERANCE[FEATURE_COUNT] = {
    [FEATURE_DURATION_S] = 1e-6,
    [FEATURE_SPEECH_S] = 1e-6,
    [FEATURE_VOICED_SHARE] = 0.006,
    [FEATURE_F0_MEAN_HZ] = 0.5,
    [FEATURE_F0_MEDIAN_HZ] = 0.2,
    [FEATURE_F0_SD_ST] = 0.02,
    [FEATURE_F0_RANGE_ST] = 0.05,
    [FEATURE_F0_SLOPE_ST_S] = 0.05,
    [FEATURE_INTENSITY_MEAN_DB] = 0.001,
    [FEATURE_SPEECH_RATE] = 1e-6,
    [FEATURE_ARTICULATION_RATE] = 1e-6,
    [FEATURE_PAUSE_COUNT] = 0,
    [FEATURE_PAUSE_SHARE] = 1e-6,
    [FEATURE_JITTER] = 1e-5,
    [FEATURE_SHIMMER] = 1e-4,
    [FEATURE_HNR_DB] = 0.05,
    [FEATURE_ALPHA_RATIO_DB] = 0.01,
    [FEATURE_F1_HZ] = 5,
    [FEATURE_F2_HZ] = 5,
    [FEATURE_F3_HZ] = 5,
};

static void compare_features(size_t row, const json_t *expected, const Features *found) {
    for (int i = 0; i < FEATURE_COUNT; i++) {
        const json_t *value = json_object_get(expected, FEATURE_NAMES[i]);
        if (!value) continue; /* loudness is not Praat's */
        if (json_is_null(value) != !isfinite(found->value[i]) ||
            fabs(found->value[i] - json_number_value(value)) > TOLERANCE[i])
            fail_msg("signal %zu: %s is %g, Praat says %s%g", row, FEATURE_NAMES[i], found->value[i],
                     json_is_null(value) ? "null " : "", json_number_value(value));
    }
}

/* Of all frames, how many are voiced otherwise than Praat's or more than 0.5 % from its F0. */
static int64_t wrong_pitch(const json_t *expected, const FeatureTrack *track) {
    int64_t wrong = 0;
    assert_int_equal(json_array_size(expected), track->f0_count);
    for (int64_t i = 0; i < track->f0_count; i++) {
        double praat = json_number_value(json_array_get(expected, (size_t)i));
        wrong += fabs(track->f0[i] - praat) > 0.005 * praat;
    }
    return wrong;
}

static void compare_intensity(size_t row, const json_t *expected, const FeatureTrack *track) {
    assert_int_equal(json_array_size(expected), track->intensity_count);
    for (int64_t i = 0; i < track->intensity_count; i++) {
        double praat = json_number_value(json_array_get(expected, (size_t)i));
        if (fabs(track->intensity[i] - praat) > 0.01)
            fail_msg("signal %zu: intensity frame %d is %g, Praat says %g", row, (int)i, track->intensity[i], praat);
    }
}

static void same_as_praat(void **state) {
    (void)state;
    Error err = {0};
    json_t *rows = json_read_file("tests/fixtures/features.json", 1 << 22, &err);
    assert_ok(rows, &err);
    assert_true(json_array_size(rows) >= 15);
    FeatureOptions options = feature_options_default();
    options.voice_quality = true;
    int64_t wrong = 0, frames = 0;
    for (size_t row = 0; row < json_array_size(rows); row++) {
        const json_t *json = json_array_get(rows, row);
        Signal signal = signal_of(json_object_get(json, "signal"));
        Audio audio;
        Features features;
        FeatureTrack track;
        assert_ok(signal_make(&signal, &audio, &err), &err);
        double sum = 0;
        for (int64_t i = 0; i < audio.count; i++) sum += fabs((double)audio.samples[i]);
        assert_true(fabs(sum - json_number_value(json_object_get(json, "sum"))) < 1e-5 * (1 + sum)); /* same signal */
        assert_ok(features_measure(&audio, &options, &features, &track, &err), &err);
        compare_features(row, json_object_get(json, "features"), &features);
        compare_intensity(row, json_object_get(json, "intensity_db"), &track);
        wrong += wrong_pitch(json_object_get(json, "f0_hz"), &track);
        frames += track.f0_count;
        feature_track_free(&track);
        audio_free(&audio);
    }
    printf("F0 and voicing: %lld of %lld frames differ from Praat's\n", (long long)wrong, (long long)frames);
    assert_true(wrong * 500 <= frames);
    json_decref(rows);
}

static bool measure_silence(int64_t count, int rate, float value, Features *features, FeatureTrack *track, Error *err) {
    Audio audio = {memory_new((size_t)count, sizeof(float), err), count, rate};
    FeatureOptions options = feature_options_default();
    options.voice_quality = true;
    for (int64_t i = 0; i < count; i++) audio.samples[i] = value;
    bool done = features_measure(&audio, &options, features, track, err);
    audio_free(&audio);
    return done;
}

static void silence_has_nulls(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0,   1,    2,    3,    159,  399,  400,   639,  640,
                                     641, 1365, 1366, 2048, 6399, 6400, 16000, 48000};
    static const int RATES[] = {8000, 16000, 22050, 44100, 48000};
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++)
        for (size_t r = 0; r < sizeof RATES / sizeof *RATES; r++) {
            Error err = {0};
            Features features;
            FeatureTrack track;
            assert_ok(measure_silence(COUNTS[i], RATES[r], 0, &features, &track, &err), &err);
            assert_true(fabs(features.value[FEATURE_DURATION_S] - (double)COUNTS[i] / RATES[r]) < 1e-12);
            assert_true(isnan(features.value[FEATURE_F0_MEDIAN_HZ]));
            assert_true(isnan(features.value[FEATURE_INTENSITY_MEAN_DB]));
            assert_true(isnan(features.value[FEATURE_LOUDNESS_LUFS]));
            assert_true(isnan(features.value[FEATURE_ARTICULATION_RATE]));
            for (int k = FEATURE_JITTER; k < FEATURE_COUNT; k++) assert_true(isnan(features.value[k]));
            for (int64_t k = 0; k < track.f0_count; k++) assert_true(track.f0[k] == 0);
            feature_track_free(&track);
        }
}

/* A constant is no sound: pitch and intensity subtract means. */
static void constant_is_silent(void **state) {
    (void)state;
    Error err = {0};
    Features features;
    assert_ok(measure_silence(16000, 16000, 0.25f, &features, NULL, &err), &err);
    assert_true(features.value[FEATURE_VOICED_SHARE] == 0);
    assert_true(isnan(features.value[FEATURE_F0_MEDIAN_HZ]));
}

/* BS.1770: a full-scale 997 Hz sine in one channel is -3.01 LUFS. */
static double sine_loudness(double seconds, int rate, double level) {
    Error err = {0};
    Audio audio = {.count = (int64_t)(seconds * rate), .rate = rate};
    audio.samples = memory_new((size_t)audio.count, sizeof(float), &err);
    for (int64_t i = 0; i < audio.count; i++)
        audio.samples[i] = (float)(level * sin(2 * 3.14159265358979 * 997 * (double)i / rate));
    Features features;
    FeatureOptions options = feature_options_default();
    assert_ok(features_measure(&audio, &options, &features, NULL, &err), &err);
    audio_free(&audio);
    return features.value[FEATURE_LOUDNESS_LUFS];
}

static void loudness_is_r128(void **state) {
    (void)state;
    assert_true(fabs(sine_loudness(3, 48000, 1) + 3.01) < 0.05);
    assert_true(fabs(sine_loudness(3, 16000, 0.1) + 23.01) < 0.2);
    assert_true(fabs(sine_loudness(0.2, 48000, 1) + 3.01) < 0.1); /* shorter than a gate block */
    assert_true(fabs(sine_loudness(0.399, 48000, 1) - sine_loudness(0.401, 48000, 1)) < 0.05);
}

static void options_are_checked(void **state) {
    (void)state;
    static const double RANGES[][2] = {{0, 600},  {-5, 600},      {NAN, 600},    {75, 75}, {75, 10},  {1e-9, 60},
                                       {75, NAN}, {75, INFINITY}, {INFINITY, 1}, {9, 600}, {12, 4000}};
    Signal signal = {
        .rate = 16000, .count = 8000, .f0 = 100, .vibrato_hz = 5, .harmonics = 3, .syllables_hz = 3, .level = .1};
    Audio audio;
    Features features;
    Error err = {0};
    assert_ok(signal_make(&signal, &audio, &err), &err);
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        FeatureOptions options = feature_options_default();
        options.f0_floor_hz = RANGES[i][0];
        options.f0_ceiling_hz = RANGES[i][1];
        err = (Error){0};
        assert_false(features_measure(&audio, &options, &features, NULL, &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
    }
    static const int CEILINGS[] = {INT_MIN, -5500, 0, 999, 20001, INT_MAX};
    for (size_t i = 0; i < sizeof CEILINGS / sizeof *CEILINGS; i++) {
        FeatureOptions options = feature_options_default();
        options.formant_ceiling_hz = CEILINGS[i];
        err = (Error){0};
        assert_false(features_measure(&audio, &options, &features, NULL, &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
    }
    FeatureOptions low = feature_options_default(), high = low;
    low.f0_floor_hz = 50;
    low.f0_ceiling_hz = 300;
    high.f0_floor_hz = 150;
    high.f0_ceiling_hz = 900;
    err = (Error){0};
    assert_ok(features_measure(&audio, &low, &features, NULL, &err), &err);
    assert_true(fabs(features.value[FEATURE_F0_MEDIAN_HZ] - 100) < 1);
    assert_ok(features_measure(&audio, &high, &features, NULL, &err), &err);
    assert_false(fabs(features.value[FEATURE_F0_MEDIAN_HZ] - 100) < 1);
    audio_free(&audio);
}

/* Frame t of the side channels covers samples 320t .. 320t+399: voiced where the tone is, unvoiced else. */
static void prosody_follows_frames(void **state) {
    (void)state;
    Error err = {0};
    Signal signal = {.rate = 16000,
                     .count = 32000,
                     .f0 = 300,
                     .vibrato_hz = 5,
                     .harmonics = 5,
                     .level = 0.1,
                     .noise = 1e-4,
                     .seed = 3,
                     .pause_from = 0,
                     .pause_to = 1,
                     .syllables_hz = 0.5};
    Audio audio;
    enum { FRAMES = 99 };
    float out[3 * FRAMES], energy[FRAMES];
    assert_ok(signal_make(&signal, &audio, &err), &err);
    assert_ok(features_prosody(&audio, 3, FRAMES, out, &err), &err);
    assert_ok(features_prosody(&audio, 1, FRAMES, energy, &err), &err);
    for (int t = 0; t < FRAMES; t++) {
        double sum = 0;
        for (int i = 0; i < 400; i++) sum += pow((double)audio.samples[320 * t + i], 2) / 400;
        assert_true(fabs((double)out[3 * t] - (10 * log10(sum + 1e-10) + 30) / 15) < 1e-4);
        assert_true(energy[t] == out[3 * t]);
        double centre = (320.0 * t + 200) / 16000;
        if (centre < 0.95) assert_true(out[3 * t + 2] == 0 && out[3 * t + 1] == 0);
        if (centre > 1.15 && centre < 1.8) {
            assert_true(out[3 * t + 2] == 1);
            assert_true(fabs((double)out[3 * t + 1] - 1) < 0.01); /* log2(300 / 150) */
        }
    }
    assert_false(features_prosody(&audio, 2, FRAMES, out, &err));
    audio.count = 10; /* fewer samples than the frames ask for */
    err = (Error){0};
    assert_ok(features_prosody(&audio, 3, 2, out, &err), &err);
    assert_true(isfinite(out[0]) && isfinite(out[3]) && out[2] == 0);
    audio_free(&audio);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_praat),       cmocka_unit_test(silence_has_nulls),
        cmocka_unit_test(constant_is_silent),  cmocka_unit_test(loudness_is_r128),
        cmocka_unit_test(options_are_checked), cmocka_unit_test(prosody_follows_frames),
    };
    return cmocka_run_group_tests_name("features", tests, NULL, NULL);
}
