/* semollm synth: a corpus of synthetic emotional speech. */
#include <inttypes.h>
#include <string.h>

#include "data/synth.h"

enum { CLIPS_MAX = 1000000, SYNTH_JOBS_MAX = 256 };

static bool voice_set(const char *name, VoiceSet *set, Error *err) {
    for (int i = 0; i < VOICE_SETS; i++) {
        if (strcmp(name, VOICE_SET_NAMES[i]) != 0) continue;
        *set = (VoiceSet)i;
        return true;
    }
    return fail_usage(err, "synth: --voices must be train, dev or test, not \"%s\"", name);
}

static bool check(const SynthOptions *options, int64_t jobs, int64_t seed, Error *err) {
    if (options->clips < 1 || options->clips > CLIPS_MAX)
        return fail_usage(err, "synth: --clips must be 1 to %d", CLIPS_MAX);
    if (jobs < 0 || jobs > SYNTH_JOBS_MAX) return fail_usage(err, "synth: --jobs must be 0 to %d", SYNTH_JOBS_MAX);
    if (seed < 0) return fail_usage(err, "synth: --seed must be 0 or more");
    return true;
}

bool command_synth(int argc, char **argv, Error *err) {
    SynthOptions options = {.clips = 800, .seed = 1};
    const char *voices = VOICE_SET_NAMES[VOICES_TRAIN];
    int64_t seed = 1, jobs = 0;
    Option table[] = {
        {"clips", 0, OPTION_INT, &options.clips, "N", "how many; default 800"},
        {"voices", 0, OPTION_TEXT, &voices, "SET",
         "train (random voices, the default), dev or test (espeak-ng's own); the sets share no voice"},
        {"seed", 0, OPTION_INT, &seed, "S", "of what is said and how; default 1"},
        {"jobs", 0, OPTION_INT, &jobs, "N", "clips made at a time; 0, the default: one per core"},
        {0},
    };
    Usage usage = {.command = "synth",
                   .arguments = "DIR",
                   .summary = "Makes DIR/manifest.jsonl and DIR/audio: speech of four emotions (angry, happy, neutral, "
                              "sad) by espeak-ng, whose pitch, speed, volume, liveliness and pauses between words "
                              "follow overlapping profiles. The same options give the same corpus; a killed run goes "
                              "on where it was.",
                   .options = table,
                   .least = 1,
                   .most = 1};
    Texts arguments = {0};
    bool help = false;
    bool ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help) {
        ok = voice_set(voices, &options.set, err) && check(&options, jobs, seed, err);
        options.folder = arguments.items[0];
        options.seed = (uint64_t)seed;
        options.jobs = (int)jobs;
        ok = ok && synth_corpus(&options, err);
    }
    texts_free(&arguments);
    return ok;
}
