#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/commands.h"
#include "eval/report.h"

typedef struct Recording { /* what is known of one: its measured features */
    Sample sample;
    Utterance utterance;
} Recording;

static void recording_close(Recording *recording) {
    sample_free(&recording->sample);
    free(recording->utterance.id);
}

static bool recording_open(const Run *run, const char *path, Recording *recording, Error *err) {
    *recording = (Recording){0};
    Sample *sample = &recording->sample;
    int channels = config_prosody_channels(run->config);
    FeatureOptions measuring = feature_options_default();
    recording->utterance.id = text_copy(path, err);
    recording->utterance.has_features = true;
    sample->utterance = &recording->utterance;
    bool ok = recording->utterance.id && audio_read(&sample->audio, path, 0, 0, AUDIO_RATE, err) &&
              features_measure(&sample->audio, &measuring, &recording->utterance.features, NULL, err);
    if (ok && channels > 0) {
        sample->prosody_frames = speech_llm_frames(run->model, sample->audio.count);
        sample->prosody = memory_new((size_t)(sample->prosody_frames * channels), sizeof(float), err);
        ok =
            sample->prosody && features_prosody(&sample->audio, channels, sample->prosody_frames, sample->prosody, err);
    }
    if (!ok) recording_close(recording);
    return ok;
}

static bool answer_recording(Run *run, const Recording *recording, const GenerateOptions *options, Answer *answer,
                             Error *err) {
    Batch batch = {0};
    char *text = NULL;
    bool stopped;
    Clip clip = clip_of(run, &recording->sample);
    batch_clear(&batch);
    bool ok = batch_add(&batch, run, &clip, NULL, err);
    ok = ok && batch_answer(run, &batch, options, &text, &stopped, err) &&
         answer_settle(run, answer, text, stopped, err);
    batch_free(&batch);
    return ok;
}

/* Pitch levels are per gender, and nobody says whose recording this is: the stated gender's are taken. */
static const char *measured_here(const Run *run, const Recording *recording, const Answer *answer, Part part) {
    Utterance utterance = recording->utterance;
    if (part == PART_PITCH) utterance.gender = answer->stated.gender;
    return measured_cue(run, &utterance, part);
}

static const char *among(const Answer *answer, Part part) {
    if (part != PART_PITCH) return "";
    if (!answer->stated.gender) return " among women and men";
    return strcmp(answer->stated.gender, "female") == 0 ? " for a woman" : " for a man";
}

static void print_cue(const Run *run, const Recording *recording, const Answer *answer, Part part) {
    static const struct {
        Part part;
        FeatureId feature;
        const char *unit;
    } SOURCES[] = {{PART_PITCH, FEATURE_F0_MEDIAN_HZ, "Hz"},
                   {PART_SPEED, FEATURE_ARTICULATION_RATE, "syllables/s"},
                   {PART_VOLUME, FEATURE_INTENSITY_MEAN_DB, "dB"}};
    const char *stated = stated_cue(run, &answer->stated, part);
    printf(part == PART_GENDER ? "  %-8s %s" : "  %-8s %-12s", PART_NAMES[part], stated ? stated : "-");
    for (int i = 0; i < 3; i++) {
        if (SOURCES[i].part != part) continue;
        double value = recording->utterance.features.value[SOURCES[i].feature];
        const char *measured = measured_here(run, recording, answer, part);
        if (isnan(value))
            printf(" measured: does not exist");
        else
            printf(" measured: %s%s (%.1f %s)", measured ? measured : "-", measured ? among(answer, part) : "", value,
                   SOURCES[i].unit);
    }
    printf("\n");
}

static void print_answer(const Run *run, const Recording *recording, const Answer *answer) {
    printf("%s\n  %-8s %s\n", recording->utterance.id, "emotion",
           answer->predicted == SCORE_UNPARSABLE ? "(none could be read)" : run->classes[answer->predicted]);
    for (int p = 0; p < run->response.part_count; p++) {
        Part part = run->response.parts[p];
        if (part == PART_GENDER || part == PART_PITCH || part == PART_SPEED || part == PART_VOLUME)
            print_cue(run, recording, answer, part);
    }
    if (answer->stated.explanation) printf("  %s\n", answer->stated.explanation);
    printf("  answer:  %s\n", answer->text);
}

static json_t *text_or_null(const char *text) { return text ? json_string(text) : json_null(); }

static bool print_json(const Run *run, const Recording *recording, const Answer *answer, Error *err) {
    json_t *stated = json_object(), *measured = json_object(), *features = json_object();
    for (int p = 0; p < run->response.part_count; p++) {
        Part part = run->response.parts[p];
        if (part != PART_GENDER && part != PART_PITCH && part != PART_SPEED && part != PART_VOLUME) continue;
        json_object_set_new(stated, PART_NAMES[part], text_or_null(stated_cue(run, &answer->stated, part)));
        json_object_set_new(measured, PART_NAMES[part], text_or_null(measured_here(run, recording, answer, part)));
    }
    for (int f = 0; f < features_measured(&recording->utterance.features); f++) {
        double value = recording->utterance.features.value[f];
        json_object_set_new(features, FEATURE_NAMES[f], isnan(value) ? json_null() : json_real(value));
    }
    const char *emotion = answer->predicted == SCORE_UNPARSABLE ? NULL : run->classes[answer->predicted];
    json_t *json = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "audio", recording->utterance.id, "emotion",
                             text_or_null(emotion), "stated", stated, "measured", measured, "explanation",
                             text_or_null(answer->stated.explanation), "features", features, "answer", answer->text);
    if (!json) return fail(err, "%s: the answer cannot be written as JSON", recording->utterance.id);
    json_dumpf(json, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(json);
    return true;
}

static bool explain_one(Run *run, const char *path, const GenerateOptions *options, bool json, Error *err) {
    Recording recording;
    Answer answer = {0};
    if (!recording_open(run, path, &recording, err)) return false;
    bool ok = answer_recording(run, &recording, options, &answer, err);
    if (ok && json) ok = print_json(run, &recording, &answer, err);
    if (ok && !json) print_answer(run, &recording, &answer);
    free(answer.text);
    response_free(&answer.stated);
    recording_close(&recording);
    return ok;
}

static bool explain(const Texts *arguments, const char *checkpoint, const DeviceChoice *device, bool json, Error *err) {
    RunOptions opening = {.model = true, .checkpoint = checkpoint, .device = *device};
    Run *run = run_open(arguments->items[0], &opening, err);
    if (!run) return false;
    GenerateOptions options = answer_options_default().generate;
    int32_t *stops = stop_ids(run, &options.stop_count, err);
    options.stop = stops;
    bool ok = stops != NULL;
    for (int i = 1; ok && i < arguments->count; i++) ok = explain_one(run, arguments->items[i], &options, json, err);
    free(stops);
    run_close(run);
    return ok;
}

bool command_explain(int argc, char **argv, Error *err) {
    bool json = false;
    const char *checkpoint = NULL;
    DeviceChoice device = {0};
    const Option options[] = {{"json", 0, OPTION_FLAG, &json, NULL, "one JSON object a recording, a line each"},
                              {"checkpoint", 0, OPTION_TEXT, &checkpoint, "NAME",
                               "best, last, step-N or a folder (default: best, else last)"},
                              DEVICE_OPTIONS(device),
                              {0}};
    const Usage usage = {
        "explain",
        "RUN AUDIO...",
        "Says which emotion a recording carries and why: the cues the model states, with what was measured\n"
        "beside them (the pitch as of the stated gender), and its explanation.",
        options,
        2,
        -1};
    Texts arguments;
    bool help;
    if (!options_parse(&usage, argc, argv, &arguments, &help, err)) return false;
    bool ok = help || explain(&arguments, checkpoint, &device, json, err);
    texts_free(&arguments);
    return ok;
}
