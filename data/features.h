/* The interpretable features of an utterance. FEATURES.md beside this file defines each (Praat's calls; Boersma 1993;
 * de Jong & Wempe 2009; EBU R128). A feature that does not exist is NaN. */
#ifndef SEMOLLM_DATA_FEATURES_H
#define SEMOLLM_DATA_FEATURES_H

#include "base/base.h"

typedef enum FeatureId {
    FEATURE_DURATION_S,
    FEATURE_SPEECH_S,
    FEATURE_VOICED_SHARE,
    FEATURE_F0_MEAN_HZ,
    FEATURE_F0_MEDIAN_HZ,
    FEATURE_F0_SD_ST,
    FEATURE_F0_RANGE_ST,
    FEATURE_F0_SLOPE_ST_S,
    FEATURE_INTENSITY_MEAN_DB,
    FEATURE_LOUDNESS_LUFS,
    FEATURE_SPEECH_RATE,
    FEATURE_ARTICULATION_RATE,
    FEATURE_PAUSE_COUNT,
    FEATURE_PAUSE_SHARE,
    FEATURE_JITTER, /* from here on voice quality, measured where it is asked for */
    FEATURE_SHIMMER,
    FEATURE_HNR_DB,
    FEATURE_ALPHA_RATIO_DB,
    FEATURE_F1_HZ,
    FEATURE_F2_HZ,
    FEATURE_F3_HZ,
    FEATURE_COUNT
} FeatureId;

extern const char *const FEATURE_NAMES[FEATURE_COUNT]; /* "duration_s", ..., "articulation_rate_syll_s", ... */

typedef struct Features {
    double value[FEATURE_COUNT]; /* NaN: does not exist */
    bool voice_quality;          /* it was measured, too */
} Features;

/* How many features were measured: all, or those before voice quality. */
static inline int features_measured(const Features *features) {
    return features->voice_quality ? FEATURE_COUNT : FEATURE_JITTER;
}

/* A feature as JSON holds it: null where it does not exist, and a count an integer. */
json_t *feature_json(FeatureId feature, double value);

typedef struct FeatureOptions {
    double f0_floor_hz, f0_ceiling_hz; /* 75, 600 */
    bool voice_quality;                /* false */
    int formant_ceiling_hz;            /* FORMANT_CEILING_HZ */
} FeatureOptions;

enum { FORMANT_CEILING_HZ = 5500, FORMANT_CEILING_MALE_HZ = 5000 };

FeatureOptions feature_options_default(void);

/* Contours on Praat's frames: f0 in Hz, 0 where unvoiced; intensity in dB; with voice quality the first three formants
 * in Hz, NaN where there is none. */
typedef struct FeatureTrack {
    double f0_start, f0_step, intensity_start, intensity_step; /* seconds of frame 0, between frames */
    double formants_start, formants_step;
    double *f0, *intensity, (*formants)[3];
    int64_t f0_count, intensity_count, formant_count;
} FeatureTrack;

/* `track` may be null; free with feature_track_free. Any length from 0 samples and digital silence
 * are no errors. The audio's own rate is used. */
bool features_measure(const Audio *audio, const FeatureOptions *options, Features *features, FeatureTrack *track,
                      Error *err);
void feature_track_free(FeatureTrack *track);

/* Per-frame side channels for the adapter: frame t covers samples 320t .. 320t+399 of 16 kHz audio.
 * channels 1: log energy; 3: and log F0, voicing (0 or 1); each about zero mean and unit spread over
 * speech: energy (10·log10(mean square + 1e-10) + 30) / 15, f0 log2(f0 / 150) where voiced, else 0.
 * out [frames, channels]. */
bool features_prosody(const Audio *audio, int channels, int64_t frames, float *out, Error *err);

#endif
