/* semollm synth: a corpus of synthetic emotional speech. */
#include <inttypes.h>
#include <string.h>

#include "data/synth.h"

enum { CLIPS_MAX = 1000000, SYNTH_JOBS_MAX = 256 };

static bool voice_set(const char *name, VoiceSet *set, Error *err) {
    for (int i = VOICES_DEV; i < VOICE_SETS; i++) {
        if (strcmp(name, VOICE_SET_NAMES[i]) != 0) continue;
        *set = (VoiceSet)i;
        return true;
    }
    return fail_usage(err, "synth: --test-voices must be dev or test, not \"%s\"", name);
}

static bool in_range(const char *flag, int64_t value, int64_t high, Error *err) {
    if (value >= 0 && value <= high) return true;
    return fail_usage(err, "synth: %s must be 0 to %" PRId64 ", not %" PRId64, flag, high, value);
}

bool command_synth(int argc, char **argv, Error *err) {
    SynthOptions options = {.clips = 1992, .test_clips = 480};
    const char *voices = VOICE_SET_NAMES[VOICES_TEST];
    int64_t seed = 1, jobs = 0;
    Option table[] = {
        {"clips", 0, OPTION_INT, &options.clips, "N", "clips of group train, by random voices; default 1992"},
        {"test-clips", 0, OPTION_INT, &options.test_clips, "N", "clips of group test, by named voices; default 480"},
        {"test-voices", 0, OPTION_TEXT, &voices, "SET",
         "whose: test (the default), or dev, others, to tune recipes on"},
        {"seed", 0, OPTION_INT, &seed, "S", "of what is said and how; default 1"},
        {"jobs", 0, OPTION_INT, &jobs, "N", "clips made at a time; 0, the default: one per core"},
        {0},
    };
    Usage usage = {.command = "synth",
                   .arguments = "DIR",
                   .summary = "Makes DIR/manifest.jsonl and DIR/audio: speech of four emotions (angry, happy, neutral, "
                              "sad) by espeak-ng, whose pitch, speed, volume, liveliness and pauses between words "
                              "follow overlapping profiles. Numbers of clips that 24 divides put the cut points of "
                              "levels where no clip lies. The same options give the same corpus; a killed run goes "
                              "on where it was.",
                   .options = table,
                   .least = 1,
                   .most = 1};
    Texts arguments = {0};
    bool help = false;
    bool ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help) {
        ok = voice_set(voices, &options.test_voices, err) && in_range("--clips", options.clips, CLIPS_MAX, err) &&
             in_range("--test-clips", options.test_clips, CLIPS_MAX, err) &&
             in_range("--jobs", jobs, SYNTH_JOBS_MAX, err) && in_range("--seed", seed, INT32_MAX, err);
        options.folder = arguments.items[0];
        options.seed = (uint64_t)seed;
        options.jobs = (int)jobs;
        ok = ok && synth_corpus(&options, err);
    }
    texts_free(&arguments);
    return ok;
}
