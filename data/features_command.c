/* semollm features: the features of recordings, for people and for programs. */
#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "data/commands.h"
#include "data/features.h"

typedef struct Request {
    FeatureOptions features;
    bool json, track;
} Request;

static json_t *numbers_json(const double *values, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *formant_json(const FeatureTrack *track, int formant) {
    json_t *list = json_array();
    for (int64_t i = 0; i < track->formant_count; i++) {
        double hz = track->formants[i][formant];
        json_array_append_new(list, isfinite(hz) ? json_real(hz) : json_null());
    }
    return list;
}

static json_t *track_json(const FeatureTrack *track) {
    json_t *json = json_pack("{s:f, s:f, s:o, s:f, s:f, s:o}", "f0_start_s", track->f0_start, "f0_step_s",
                             track->f0_step, "f0_hz", numbers_json(track->f0, track->f0_count), "intensity_start_s",
                             track->intensity_start, "intensity_step_s", track->intensity_step, "intensity_db",
                             numbers_json(track->intensity, track->intensity_count));
    if (!track->formants) return json;
    json_t *formants = json_pack("{s:f, s:f, s:o, s:o, s:o}", "formants_start_s", track->formants_start,
                                 "formants_step_s", track->formants_step, "f1_hz", formant_json(track, 0), "f2_hz",
                                 formant_json(track, 1), "f3_hz", formant_json(track, 2));
    json_object_update(json, formants);
    json_decref(formants);
    return json;
}

static bool print_json(const char *path, const Features *features, const FeatureTrack *track, Error *err) {
    json_t *json = json_pack("{s:s}", "audio", path);
    bool done = json != NULL;
    for (int i = 0; i < features_measured(features) && done; i++)
        done = json_object_set_new(json, FEATURE_NAMES[i], feature_json((FeatureId)i, features->value[i])) == 0;
    if (done && track) done = json_object_set_new(json, "track", track_json(track)) == 0;
    if (done) done = json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    json_decref(json);
    if (!done) return fail(err, "%s: its features cannot be written as JSON (is the path not UTF-8?)", path);
    putchar('\n');
    return true;
}

static void print_table(const char *path, const Features *features) {
    printf("%s\n", path);
    for (int i = 0; i < features_measured(features); i++) {
        if (isfinite(features->value[i])) {
            printf("  %-26s %10.5g\n", FEATURE_NAMES[i], features->value[i]);
        } else {
            printf("  %-26s %10s\n", FEATURE_NAMES[i], "-");
        }
    }
}

static bool measure_one(const char *path, const Request *request, Error *err) {
    Audio audio = {0};
    Features features;
    FeatureTrack track = {0};
    if (!audio_read(&audio, path, 0, 0, 0, err)) return false;
    bool done = features_measure(&audio, &request->features, &features, request->track ? &track : NULL, err);
    if (done && request->json) {
        done = print_json(path, &features, request->track ? &track : NULL, err);
    } else if (done) {
        print_table(path, &features);
    }
    feature_track_free(&track);
    audio_free(&audio);
    return done;
}

bool command_features(int argc, char **argv, Error *err) {
    Request request = {.features = feature_options_default()};
    int64_t formant_ceiling = request.features.formant_ceiling_hz;
    const Option options[] = {
        {"json", 0, OPTION_FLAG, &request.json, NULL, "one JSON object a recording, a line each"},
        {"voice-quality", 0, OPTION_FLAG, &request.features.voice_quality, NULL,
         "jitter, shimmer, harmonics-to-noise ratio, alpha ratio and formants too"},
        {"track", 0, OPTION_FLAG, &request.track, NULL,
         "with --json: the contours of F0 (0: unvoiced), intensity and formants (with --voice-quality)"},
        {"f0-floor", 0, OPTION_NUMBER, &request.features.f0_floor_hz, "HZ", "lowest F0 looked for (75)"},
        {"f0-ceiling", 0, OPTION_NUMBER, &request.features.f0_ceiling_hz, "HZ", "highest F0 looked for (600)"},
        {"formant-ceiling", 0, OPTION_INT, &formant_ceiling, "HZ", "under which five formants lie (5500; men's: 5000)"},
        {0}};
    const Usage usage = {
        .command = "features",
        .arguments = "AUDIO...",
        .summary = "Measures duration, F0, intensity, loudness, speech rate and pauses as Praat, de "
                   "Jong & Wempe and EBU R128 define them.\nA feature that a recording does not have "
                   "is null. pause_count is the number of silences between stretches of speech;\n"
                   "pause_share is the share of all silence, that at the ends included. data/FEATURES.md defines "
                   "every feature.",
        .options = options,
        .least = 1,
        .most = -1};
    Texts arguments = {0};
    bool help = false, done = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help && request.track && !request.json) done = fail_usage(err, "features: --track needs --json");
    request.features.formant_ceiling_hz = (int)(formant_ceiling < INT_MAX ? formant_ceiling : INT_MAX);
    for (int i = 0; i < arguments.count && done && !help; i++) done = measure_one(arguments.items[i], &request, err);
    texts_free(&arguments);
    if (fflush(stdout) != 0 && done) done = fail(err, "features: the results cannot be written to stdout");
    return done;
}
