/* semollm annotate: features, levels and explanations into a manifest. */
#include <string.h>

#include "data/annotate.h"
#include "data/commands.h"

static bool check(const char *teacher, int64_t levels, int64_t jobs, int64_t seed, const char *output, Error *err) {
    if (!output) return fail_usage(err, "annotate: give the manifest to write with -o A.jsonl");
    if (folder_exists(output)) return fail_usage(err, "annotate: %s is a folder; name a file to write", output);
    if (strcmp(teacher, "template") != 0)
        return fail_usage(err, "annotate: there is no teacher \"%s\"; there is template", teacher);
    if (levels != 3 && levels != 5)
        return fail_usage(err, "annotate: --levels must be 3 or 5, not %lld", (long long)levels);
    if (jobs < 0 || jobs > 256) return fail_usage(err, "annotate: --jobs must be 1 to 256, or 0 for one per core");
    if (seed < 0) return fail_usage(err, "annotate: --seed must be 0 or more");
    return true;
}

static bool read_relative(const char *name, Relative *relative, Error *err) {
    *relative = strcmp(name, "speaker") == 0 ? RELATIVE_SPEAKER : RELATIVE_CORPUS;
    return *relative == RELATIVE_SPEAKER || strcmp(name, "corpus") == 0 ||
           fail_usage(err, "annotate: --relative must be corpus or speaker, not \"%.40s\"", name);
}

bool command_annotate(int argc, char **argv, Error *err) {
    AnnotateOptions annotation = {0};
    const char *teacher = "template", *relative = "corpus";
    int64_t levels = 3, jobs = 0, seed = 0;
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &annotation.output, "A.jsonl",
         "the manifest to write; a killed run goes on there"},
        {"teacher", 0, OPTION_TEXT, &teacher, "NAME", "who writes the explanations: template"},
        {"levels", 0, OPTION_INT, &levels, "N", "levels of pitch, speed and volume: 3 or 5 (3)"},
        {"relative", 0, OPTION_TEXT, &relative, "WHOM",
         "levels among those of the corpus (corpus) or of the speaker alone (speaker)"},
        {"voice-quality", 0, OPTION_FLAG, &annotation.voice_quality, NULL,
         "jitter, shimmer, harmonics-to-noise ratio, alpha ratio and formants too"},
        {"keep-gender", 0, OPTION_FLAG, &annotation.keep_gender, NULL,
         "do not estimate a gender that the manifest does not give"},
        {"jobs", 'j', OPTION_INT, &jobs, "N", "threads that measure; 0: one per core (0)"},
        {"seed", 0, OPTION_INT, &seed, "N", "of the explanations' wording (0)"},
        {"skip-bad", 0, OPTION_FLAG, &annotation.skip_bad, NULL, "leave unreadable recordings out, and list them"},
        {0}};
    const Usage usage = {.command = "annotate",
                         .arguments = "M.jsonl",
                         .summary = "Measures the features of every utterance, finds its levels among those of the "
                                    "manifest and writes an explanation of\nits emotion. A training run finds levels "
                                    "anew from its own training split, and rewrites explanations that they change.",
                         .options = options,
                         .least = 1,
                         .most = 1};
    Texts arguments = {0};
    bool help = false, done = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help) {
        annotation.levels = (int)levels;
        annotation.jobs = (int)jobs;
        annotation.seed = (uint64_t)seed;
        done = read_relative(relative, &annotation.relative, err) &&
               check(teacher, levels, jobs, seed, annotation.output, err) &&
               annotate(arguments.items[0], &annotation, err);
    }
    texts_free(&arguments);
    return done;
}
