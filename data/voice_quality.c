#include "data/voice_quality.h"

#include <math.h>
#include <stdlib.h>

#include "data/alpha_ratio.h"
#include "data/harmonicity.h"
#include "data/pulses.h"

static bool measure_pulses(const Audio *audio, const Contour *pitch, Features *features, Error *err) {
    Pulses pulses;
    if (!pulses_find(audio, pitch, &pulses, err)) return false;
    features->value[FEATURE_JITTER] = pulses_jitter(&pulses);
    bool done = pulses_shimmer(&pulses, audio, &features->value[FEATURE_SHIMMER], err);
    pulses_free(&pulses);
    return done;
}

static int64_t values_at(const Contour *pitch, const FormantTrack *track, int formant, double *values) {
    int64_t count = 0;
    for (int64_t i = 0; i < pitch->count; i++) {
        double value = pitch->value[i] > 0 ? formant_at(track, formant, contour_time(pitch, i)) : NAN;
        if (!isnan(value)) values[count++] = value;
    }
    return count;
}

static bool take_medians(const Contour *pitch, const FormantTrack *track, Features *features, Error *err) {
    double *values = memory_new((size_t)pitch->count, sizeof *values, err);
    if (!values) return false;
    for (int formant = 0; formant < FORMANTS; formant++) {
        int64_t count = values_at(pitch, track, formant, values);
        sort_values(values, count);
        features->value[FEATURE_F1_HZ + formant] = quantile_praat(values, count, 0.5);
    }
    free(values);
    return true;
}

static bool measure_formants(const Audio *audio, const Contour *pitch, int ceiling_hz, Features *features,
                             FormantTrack *track, Error *err) {
    FormantTrack own;
    if (!formants_track(audio, ceiling_hz, track ? NULL : pitch, &own, err)) return false;
    bool done = take_medians(pitch, &own, features, err);
    if (done && track) {
        *track = own;
    } else {
        formants_free(&own);
    }
    return done;
}

static bool voiced(const Contour *pitch) {
    for (int64_t i = 0; i < pitch->count; i++)
        if (pitch->value[i] > 0) return true;
    return false;
}

bool voice_quality_measure(const Audio *audio, const Contour *pitch, int formant_ceiling_hz, Features *features,
                           FormantTrack *track, Error *err) {
    if (track) *track = (FormantTrack){0};
    bool done = harmonicity_measure(audio, &features->value[FEATURE_HNR_DB], err);
    if (!done || (!voiced(pitch) && !track)) return done;
    return measure_pulses(audio, pitch, features, err) &&
           alpha_ratio_measure(audio, pitch, &features->value[FEATURE_ALPHA_RATIO_DB], err) &&
           measure_formants(audio, pitch, formant_ceiling_hz, features, track, err);
}
