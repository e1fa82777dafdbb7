#include "data/features.h"

#include <math.h>
#include <stdlib.h>

#include "data/intensity.h"
#include "data/loudness.h"
#include "data/pitch.h"
#include "data/syllables.h"
#include "data/voice_quality.h"

enum { FORMANT_CEILING_LEAST = 1000, FORMANT_CEILING_MOST = 20000 };

static const double LOWEST_FLOOR_HZ = 10; /* bounds the window, and with it time and memory */
static const double ABSOLUTE_SILENCE_DB = -299;

const char *const FEATURE_NAMES[FEATURE_COUNT] = {
    [FEATURE_DURATION_S] = "duration_s",
    [FEATURE_SPEECH_S] = "speech_s",
    [FEATURE_VOICED_SHARE] = "voiced_share",
    [FEATURE_F0_MEAN_HZ] = "f0_mean_hz",
    [FEATURE_F0_MEDIAN_HZ] = "f0_median_hz",
    [FEATURE_F0_SD_ST] = "f0_sd_st",
    [FEATURE_F0_RANGE_ST] = "f0_range_st",
    [FEATURE_F0_SLOPE_ST_S] = "f0_slope_st_s",
    [FEATURE_INTENSITY_MEAN_DB] = "intensity_mean_db",
    [FEATURE_LOUDNESS_LUFS] = "loudness_lufs",
    [FEATURE_SPEECH_RATE] = "speech_rate_syll_s",
    [FEATURE_ARTICULATION_RATE] = "articulation_rate_syll_s",
    [FEATURE_PAUSE_COUNT] = "pause_count",
    [FEATURE_PAUSE_SHARE] = "pause_share",
    [FEATURE_JITTER] = "jitter_local",
    [FEATURE_SHIMMER] = "shimmer_local",
    [FEATURE_HNR_DB] = "hnr_db",
    [FEATURE_ALPHA_RATIO_DB] = "alpha_ratio_db",
    [FEATURE_F1_HZ] = "f1_hz",
    [FEATURE_F2_HZ] = "f2_hz",
    [FEATURE_F3_HZ] = "f3_hz",
};

json_t *feature_json(FeatureId feature, double value) {
    if (!isfinite(value)) return json_null();
    return feature == FEATURE_PAUSE_COUNT && value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

FeatureOptions feature_options_default(void) {
    return (FeatureOptions){.f0_floor_hz = 75, .f0_ceiling_hz = 600, .formant_ceiling_hz = FORMANT_CEILING_HZ};
}

static double semitones(double hz) { return 12 * log2(hz / 100); }

/* Least squares of semitones over time, and their spread, over the voiced frames. */
static void measure_movement(const Contour *pitch, int64_t voiced, Features *features) {
    double mean_t = 0, mean_st = 0, tt = 0, ts = 0, ss = 0;
    for (int64_t i = 0; i < pitch->count; i++) {
        if (pitch->value[i] == 0) continue;
        mean_t += contour_time(pitch, i) / (double)voiced;
        mean_st += semitones(pitch->value[i]) / (double)voiced;
    }
    for (int64_t i = 0; i < pitch->count; i++) {
        if (pitch->value[i] == 0) continue;
        double t = contour_time(pitch, i) - mean_t, s = semitones(pitch->value[i]) - mean_st;
        tt += t * t;
        ts += t * s;
        ss += s * s;
    }
    features->value[FEATURE_F0_SD_ST] = sqrt(ss / (double)(voiced - 1));
    features->value[FEATURE_F0_SLOPE_ST_S] = ts / tt;
}

static bool summarise_pitch(const Contour *pitch, Features *features, Error *err) {
    if (pitch->count == 0) return true;
    double *sorted = memory_new((size_t)pitch->count, sizeof *sorted, err), sum = 0;
    if (!sorted) return false;
    int64_t voiced = 0;
    for (int64_t i = 0; i < pitch->count; i++) {
        if (pitch->value[i] == 0) continue;
        sorted[voiced++] = pitch->value[i];
        sum += pitch->value[i];
    }
    features->value[FEATURE_VOICED_SHARE] = (double)voiced / (double)pitch->count;
    if (voiced > 0) {
        sort_values(sorted, voiced);
        double low = quantile_praat(sorted, voiced, 0.05), high = quantile_praat(sorted, voiced, 0.95);
        features->value[FEATURE_F0_MEAN_HZ] = sum / (double)voiced;
        features->value[FEATURE_F0_MEDIAN_HZ] = quantile_praat(sorted, voiced, 0.5);
        if (low > 0) features->value[FEATURE_F0_RANGE_ST] = 12 * log2(high / low);
    }
    if (voiced > 1) measure_movement(pitch, voiced, features);
    free(sorted);
    return true;
}

static void summarise_intensity(const Contour *intensity, Features *features) {
    double energy = 0;
    for (int64_t i = 0; i < intensity->count; i++)
        if (intensity->value[i] > ABSOLUTE_SILENCE_DB) energy += pow(10, intensity->value[i] / 10);
    if (energy > 0) features->value[FEATURE_INTENSITY_MEAN_DB] = 10 * log10(energy / (double)intensity->count);
}

static bool measure_rates(const Audio *audio, Features *features, Error *err) {
    Syllables syllables;
    if (!syllables_measure(audio, &syllables, err)) return false;
    if (!syllables.exists) return true;
    double duration = features->value[FEATURE_DURATION_S], speech = syllables.speech_s;
    features->value[FEATURE_SPEECH_S] = speech;
    features->value[FEATURE_SPEECH_RATE] = syllables.nuclei / duration;
    if (speech > 0) features->value[FEATURE_ARTICULATION_RATE] = syllables.nuclei / speech;
    features->value[FEATURE_PAUSE_COUNT] = syllables.stretches > 1 ? syllables.stretches - 1 : 0;
    features->value[FEATURE_PAUSE_SHARE] = speech < duration ? 1 - speech / duration : 0;
    return true;
}

static bool check(const Audio *audio, const FeatureOptions *options, Error *err) {
    if (audio->rate < 1) return fail(err, "a recording's sample rate must be 1 Hz or more, found %d", audio->rate);
    double floor_hz = options->f0_floor_hz, ceiling = options->f0_ceiling_hz;
    if (!(floor_hz >= LOWEST_FLOOR_HZ) || !(ceiling > floor_hz) || !isfinite(ceiling))
        return fail_usage(err, "the F0 range must lie above %g Hz, its ceiling above its floor; found %g to %g Hz",
                          LOWEST_FLOOR_HZ, floor_hz, ceiling);
    if (options->formant_ceiling_hz < FORMANT_CEILING_LEAST || options->formant_ceiling_hz > FORMANT_CEILING_MOST)
        return fail_usage(err, "the ceiling of formants must be %d to %d Hz, not %d", FORMANT_CEILING_LEAST,
                          FORMANT_CEILING_MOST, options->formant_ceiling_hz);
    return true;
}

static void hand_over(Contour *pitch, Contour *intensity, const FormantTrack *formants, FeatureTrack *track) {
    *track = (FeatureTrack){.f0_start = pitch->start,
                            .f0_step = pitch->step,
                            .intensity_start = intensity->start,
                            .intensity_step = intensity->step,
                            .formants_start = formants->start,
                            .formants_step = formants->step,
                            .f0 = pitch->value,
                            .intensity = intensity->value,
                            .formants = formants->hz,
                            .f0_count = pitch->count,
                            .intensity_count = intensity->count,
                            .formant_count = formants->count};
    *pitch = *intensity = (Contour){0};
}

bool features_measure(const Audio *audio, const FeatureOptions *options, Features *features, FeatureTrack *track,
                      Error *err) {
    *features = (Features){.voice_quality = options->voice_quality};
    for (int i = 0; i < FEATURE_COUNT; i++) features->value[i] = NAN;
    if (track) *track = (FeatureTrack){0};
    if (!check(audio, options, err)) return false;
    PitchOptions pitch_options = pitch_options_default();
    pitch_options.floor_hz = options->f0_floor_hz;
    pitch_options.ceiling_hz = options->f0_ceiling_hz;
    features->value[FEATURE_DURATION_S] = (double)audio->count / audio->rate;
    Contour pitch = {0}, intensity = {0};
    FormantTrack formants = {0};
    bool done = pitch_track(audio, &pitch_options, &pitch, err) && summarise_pitch(&pitch, features, err) &&
                intensity_track(audio, 75, &intensity, err) && measure_rates(audio, features, err) &&
                loudness_measure(audio, &features->value[FEATURE_LOUDNESS_LUFS], err);
    if (done && options->voice_quality)
        done =
            voice_quality_measure(audio, &pitch, options->formant_ceiling_hz, features, track ? &formants : NULL, err);
    if (done) summarise_intensity(&intensity, features);
    if (done && track) hand_over(&pitch, &intensity, &formants, track);
    contour_free(&pitch);
    contour_free(&intensity);
    return done;
}

void feature_track_free(FeatureTrack *track) {
    free(track->f0);
    free(track->intensity);
    free(track->formants);
    *track = (FeatureTrack){0};
}
