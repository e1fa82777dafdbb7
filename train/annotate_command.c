/* semollm annotate: features, levels and explanations into a manifest. It lives here because a teacher may be an LLM
 * that runs in this process. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/commands.h"
#include "train/stop.h"
#include "train/teacher_local.h"

typedef enum TeacherKind { TEACHER_TEMPLATE, TEACHER_LOCAL, TEACHER_HTTP, TEACHER_KINDS } TeacherKind;
static const char *const TEACHER_NAMES[TEACHER_KINDS] = {"template", "local", "http"};

typedef struct Settings {
    AnnotateOptions annotate;
    TeachOptions teach;
    HttpTeacherOptions http;
    LocalTeacherOptions local;
    const char *kind, *relative;
    int64_t levels, jobs, seed, answer_tokens;
    double temperature;
} Settings;

static Settings default_settings(void) {
    return (Settings){.teach = {.asks = 3, .variants = 1},
                      .http = http_teacher_options_default(),
                      .local = {.together = 16},
                      .kind = "template",
                      .relative = "corpus",
                      .levels = 3,
                      .answer_tokens = 200,
                      .temperature = 0.7};
}

/* --- checking --- */

static TeacherKind kind_of(const char *name) {
    int kind = 0;
    while (kind < TEACHER_KINDS && strcmp(TEACHER_NAMES[kind], name) != 0) kind++;
    return (TeacherKind)kind;
}

static bool in_range(const char *option, double value, double least, double most, Error *err) {
    return (value >= least && value <= most) ||
           fail_usage(err, "annotate: --%s must be %g to %g, not %g", option, least, most, value);
}

static bool check_teaching(const Settings *settings, Error *err) {
    const TeachOptions *teach = &settings->teach;
    return in_range("max-tokens", (double)settings->answer_tokens, 1, 32768, err) &&
           in_range("temperature", settings->temperature, 0, 10, err) &&
           in_range("asks", (double)teach->asks, 1, 100, err) &&
           in_range("variants", (double)teach->variants, 0, 1e9, err) &&
           in_range("max-tokens-total", (double)teach->tokens_most, 0, 1e15, err) &&
           in_range("max-cost", teach->cost_most, 0, 1e12, err) && in_range("price-in", teach->price_in, 0, 1e9, err) &&
           in_range("price-out", teach->price_out, 0, 1e9, err) &&
           (!(teach->cost_most > 0) || teach->price_in > 0 || teach->price_out > 0 ||
            fail_usage(err, "annotate: --max-cost needs --price-in and --price-out, of a million tokens"));
}

static bool read_relative(const char *name, Relative *relative, Error *err) {
    *relative = strcmp(name, "speaker") == 0 ? RELATIVE_SPEAKER : RELATIVE_CORPUS;
    return *relative == RELATIVE_SPEAKER || strcmp(name, "corpus") == 0 ||
           fail_usage(err, "annotate: --relative must be corpus or speaker, not \"%.40s\"", name);
}

static bool check(const Settings *settings, Error *err) {
    const char *output = settings->annotate.output;
    if (!output) return fail_usage(err, "annotate: give the manifest to write with -o A.jsonl");
    if (folder_exists(output)) return fail_usage(err, "annotate: %s is a folder; name a file to write", output);
    if (kind_of(settings->kind) == TEACHER_KINDS)
        return fail_usage(err, "annotate: there is no teacher \"%s\"; there are template, local and http",
                          settings->kind);
    if (settings->teach.dry_run && kind_of(settings->kind) == TEACHER_TEMPLATE)
        return fail_usage(err, "annotate: --dry-run shows what a teacher would be asked: local or http");
    if (settings->levels != 3 && settings->levels != 5)
        return fail_usage(err, "annotate: --levels must be 3 or 5, not %" PRId64, settings->levels);
    if (settings->jobs < 0 || settings->jobs > 256)
        return fail_usage(err, "annotate: --jobs must be 1 to 256, or 0 for one per core");
    if (settings->seed < 0) return fail_usage(err, "annotate: --seed must be 0 or more");
    return check_teaching(settings, err);
}

/* --- running --- */

static Teacher *open_teacher(Settings *settings, const atomic_bool *stop, Error *err) {
    settings->http.answer_tokens = settings->local.answer_tokens = settings->answer_tokens;
    settings->http.temperature = settings->local.temperature = settings->temperature;
    settings->http.seed = (uint64_t)settings->seed;
    settings->http.stop = stop;
    return kind_of(settings->kind) == TEACHER_HTTP ? http_teacher_open(&settings->http, err)
                                                   : local_teacher_open(&settings->local, err);
}

static void close_teacher(const Settings *settings, Teacher *teacher) {
    if (kind_of(settings->kind) == TEACHER_HTTP) {
        http_teacher_close(teacher);
    } else {
        local_teacher_close(teacher);
    }
}

static bool annotate_with_teacher(Settings *settings, const char *manifest, const atomic_bool *stop, Error *err) {
    char *answers = text_format(err, "%s.answers.jsonl", settings->annotate.output);
    char *prompt = shipped_file("prompts/explain.yaml", err);
    Teacher *teacher = answers ? open_teacher(settings, stop, err) : NULL;
    bool done = teacher != NULL;
    settings->teach.teacher = teacher;
    settings->annotate.teach = &settings->teach;
    if (!settings->teach.answers) settings->teach.answers = answers;
    if (!settings->teach.prompt) settings->teach.prompt = prompt;
    if (done && !settings->teach.prompt)
        done = fail_usage(err, "annotate: configs/prompts/explain.yaml is not found; name a prompt with --prompt");
    done = done && annotate(manifest, &settings->annotate, err);
    if (teacher && kind_of(settings->kind) == TEACHER_HTTP && !settings->teach.dry_run)
        http_teacher_print(teacher, stderr);
    close_teacher(settings, teacher);
    free(prompt);
    free(answers);
    return done;
}

static bool run(Settings *settings, const char *manifest, Error *err) {
    Stopper stopper = {.saying = "stopping; what is measured and answered is kept"};
    settings->annotate.levels = (int)settings->levels;
    settings->annotate.jobs = (int)settings->jobs;
    settings->annotate.seed = (uint64_t)settings->seed;
    settings->annotate.stop = &stopper.asked;
    if (!stopper_start(&stopper, err)) return false;
    bool done = kind_of(settings->kind) == TEACHER_TEMPLATE
                    ? annotate(manifest, &settings->annotate, err)
                    : annotate_with_teacher(settings, manifest, &stopper.asked, err);
    stopper_end(&stopper);
    return done;
}

bool command_annotate(int argc, char **argv, Error *err) {
    Settings settings = default_settings();
    AnnotateOptions *annotation = &settings.annotate;
    TeachOptions *teach = &settings.teach;
    HttpTeacherOptions *http = &settings.http;
    LocalTeacherOptions *local = &settings.local;
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &annotation->output, "A.jsonl",
         "the manifest to write; a killed run goes on there"},
        {"teacher", 0, OPTION_TEXT, &settings.kind, "NAME", "who writes the explanations: template, local or http"},
        {"levels", 0, OPTION_INT, &settings.levels, "N", "levels of pitch, speed and volume: 3 or 5 (3)"},
        {"relative", 0, OPTION_TEXT, &settings.relative, "WHOM",
         "levels among those of the corpus (corpus) or of the speaker alone (speaker)"},
        {"voice-quality", 0, OPTION_FLAG, &annotation->voice_quality, NULL,
         "jitter, shimmer, harmonics-to-noise ratio, alpha ratio and formants too"},
        {"keep-gender", 0, OPTION_FLAG, &annotation->keep_gender, NULL,
         "do not estimate a gender that the manifest does not give"},
        {"jobs", 'j', OPTION_INT, &settings.jobs, "N", "threads that measure; 0: one per core (0)"},
        {"seed", 0, OPTION_INT, &settings.seed, "N", "of the explanations' wording (0)"},
        {"skip-bad", 0, OPTION_FLAG, &annotation->skip_bad, NULL, "leave unreadable recordings out, and list them"},
        {"remeasure", 0, OPTION_FLAG, &annotation->remeasure, NULL, "measure what comes with its features, too"},
        {"prompt", 0, OPTION_TEXT, &teach->prompt, "FILE", "what a teacher is asked (configs/prompts/explain.yaml)"},
        {"answers", 0, OPTION_TEXT, &teach->answers, "FILE", "where answers are kept (OUTPUT.answers.jsonl)"},
        {"asks", 0, OPTION_INT, &teach->asks, "N", "times to ask before a question is set aside (3)"},
        {"variants", 0, OPTION_INT, &teach->variants, "N",
         "answers for those with the same label and cues; 0: one each (1)"},
        {"max-tokens", 0, OPTION_INT, &settings.answer_tokens, "N", "of an answer (200)"},
        {"temperature", 0, OPTION_NUMBER, &settings.temperature, "T", "of sampling; 0: the likeliest answer (0.7)"},
        {"max-tokens-total", 0, OPTION_INT, &teach->tokens_most, "N", "stop before more are used; 0: no ceiling (0)"},
        {"max-cost", 0, OPTION_NUMBER, &teach->cost_most, "C", "stop before it costs more; 0: no ceiling (0)"},
        {"price-in", 0, OPTION_NUMBER, &teach->price_in, "P", "of a million tokens of prompts (0)"},
        {"price-out", 0, OPTION_NUMBER, &teach->price_out, "P", "of a million tokens of answers (0)"},
        {"dry-run", 0, OPTION_FLAG, &teach->dry_run, NULL, "show sample prompts, tokens and cost, and ask nothing"},
        {"url", 0, OPTION_TEXT, &http->url, "URL", "http: an OpenAI-compatible endpoint, http://localhost:8000/v1"},
        {"model", 0, OPTION_TEXT, &http->model, "NAME", "http: the model, as the server calls it"},
        {"key-env", 0, OPTION_TEXT, &http->key_env, "NAME", "http: environment variable with the key (OPENAI_API_KEY)"},
        {"body", 0, OPTION_TEXT, &http->body, "JSON", "http: more members of each request; null leaves one out"},
        {"in-flight", 0, OPTION_INT, &http->in_flight, "N", "http: requests at a time (32)"},
        {"tries", 0, OPTION_INT, &http->tries, "N", "http: of a request that fails (8)"},
        {"timeout", 0, OPTION_NUMBER, &http->timeout_s, "S", "http: seconds that an answer may take (120)"},
        {"llm", 0, OPTION_TEXT, &local->llm, "DIR", "local: a Hugging Face folder"},
        {"chat", 0, OPTION_TEXT, &local->chat, "NAME", "local: chat template (found from the folder)"},
        {"together", 0, OPTION_INT, &local->together, "N", "local: questions answered side by side (16)"},
        DEVICE_OPTIONS(local->device),
        {0}};
    const Usage usage = {
        .command = "annotate",
        .arguments = "M.jsonl",
        .summary =
            "Measures the features of every utterance that comes without, finds its levels among those of the manifest "
            "and has\na teacher explain its emotion: the template, an LLM run here, or one behind an HTTP endpoint. "
            "What a teacher writes is\nchecked against label and cues, and kept beside the manifest, so that nothing "
            "is "
            "asked twice. A training run finds levels\nanew from its own training split, and rewrites explanations "
            "that they change.",
        .options = options,
        .least = 1,
        .most = 1};
    Texts arguments = {0};
    bool help = false, done = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help)
        done = read_relative(settings.relative, &annotation->relative, err) && check(&settings, err) &&
               run(&settings, arguments.items[0], err);
    texts_free(&arguments);
    return done;
}
