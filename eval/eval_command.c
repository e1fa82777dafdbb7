#include <stdlib.h>
#include <string.h>

#include "eval/commands.h"
#include "eval/report.h"

typedef struct EvalArguments {
    const char *run, *out, *checkpoint, *split, *control, *shards;
    Texts set, require;
    int64_t max_new, beams, clips, limit, seed, examples;
    double temperature, top_p, repetition_penalty;
    bool rank;
    DeviceChoice device;
} EvalArguments;

static bool find_control(const char *name, Control *control, Error *err) {
    for (int i = 0; i < CONTROL_COUNT; i++) {
        *control = (Control)i;
        if (!strcmp(name, CONTROL_NAMES[i])) return true;
    }
    return fail_usage(err, "eval: --control must be none, permute, noise or untrained, found \"%s\"", name);
}

static bool find_split(const Run *run, const EvalArguments *a, Split *split, Error *err) {
    if (!strcmp(a->split, "test"))
        *split = run->test;
    else if (!strcmp(a->split, "validation"))
        *split = run->validation;
    else if (!strcmp(a->split, "train"))
        *split = run->train;
    else
        return fail_usage(err, "eval: --split must be test, validation or train, found \"%s\"", a->split);
    if (split->count == 0)
        return fail_usage(err, "%s: the %s split is empty; data.test names groups or speakers to hold out", a->run,
                          a->split);
    return true;
}

typedef struct Place {
    double place; /* in (0, 1): how far through its class */
    uint32_t index;
} Place;

static int by_place(const void *a, const void *b) {
    const Place *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place ? 1 : (x->index > y->index) - (x->index < y->index);
}

/* How many of `limit` clips each class gets: its share, as its clips come when all go through theirs together. */
static bool share_out(const Run *run, const Split *split, size_t limit, const int64_t *held, int64_t *quota,
                      Error *err) {
    int64_t seen[SCORE_CLASSES_MAX] = {0};
    Place *places = memory_new(split->count, sizeof *places, err);
    if (!places) return false;
    for (size_t i = 0; i < split->count; i++) {
        int32_t c = run->class_of[split->items[i]];
        places[i] = (Place){((double)seen[c]++ + 0.5) / (double)held[c], split->items[i]};
    }
    qsort(places, split->count, sizeof *places, by_place);
    for (size_t i = 0; i < limit; i++) quota[run->class_of[places[i].index]]++;
    free(places);
    return true;
}

/* Only `limit` clips of the split: of each class its share, at equal distances through the shards. `chosen` owns
 * them. */
static bool limit_split(const Run *run, Split *split, int64_t limit, uint32_t **chosen, Error *err) {
    if (limit == 0 || (size_t)limit >= split->count) return true;
    int64_t held[SCORE_CLASSES_MAX] = {0}, quota[SCORE_CLASSES_MAX] = {0}, seen[SCORE_CLASSES_MAX] = {0};
    for (size_t i = 0; i < split->count; i++) held[run->class_of[split->items[i]]]++;
    *chosen = memory_new((size_t)limit, sizeof **chosen, err);
    if (!*chosen || !share_out(run, split, (size_t)limit, held, quota, err)) return false;
    size_t count = 0;
    for (size_t i = 0; i < split->count; i++) {
        int32_t c = run->class_of[split->items[i]];
        int64_t before = seen[c]++ * quota[c] / held[c];
        if (seen[c] * quota[c] / held[c] > before) (*chosen)[count++] = split->items[i];
    }
    *split = (Split){.items = *chosen, .count = count};
    return true;
}

static bool check_ranges(const EvalArguments *a, Error *err) {
    if (!a->out) return fail_usage(err, "eval: -o DIR says where to write");
    if (a->max_new < 1 || a->max_new > 4096) return fail_usage(err, "eval: --max-new must lie between 1 and 4096");
    if (a->beams < 1 || a->beams > 64) return fail_usage(err, "eval: --beams must lie between 1 and 64");
    if (a->clips < 0 || a->clips > 1024)
        return fail_usage(err, "eval: --clips must lie between 0 (as many as suit the device) and 1024");
    if (a->limit < 0) return fail_usage(err, "eval: --limit must not be negative");
    if (!(a->temperature >= 0)) return fail_usage(err, "eval: --temperature must not be negative");
    if (!(a->top_p > 0 && a->top_p <= 1)) return fail_usage(err, "eval: --top-p must lie in (0, 1]");
    if (!(a->repetition_penalty > 0)) return fail_usage(err, "eval: --repetition-penalty must be positive");
    return true;
}

static AnswerOptions answer_options(const EvalArguments *a, Control control) {
    AnswerOptions options = answer_options_default();
    options.control = control;
    options.rank = a->rank;
    options.clips = a->clips;
    options.generate.max_new = (int)a->max_new;
    options.generate.beams = (int)a->beams;
    options.generate.temperature = (float)a->temperature;
    options.generate.top_p = (float)a->top_p;
    options.generate.repetition_penalty = (float)a->repetition_penalty;
    options.generate.seed = (uint64_t)a->seed;
    return options;
}

/* The UA of an aspect, by name; null where the report has none. */
static const Scores *find_scores(const Report *report, const char *name, size_t length) {
    if (length == 7 && !strncmp(name, "emotion", length)) return &report->emotion;
    for (int i = 0; i < report->cue_count; i++) {
        const char *cue = PART_NAMES[report->cues[i].part];
        if (strlen(cue) == length && !strncmp(cue, name, length)) return &report->cues[i].scores;
    }
    return NULL;
}

static bool check_chance(const Scores *scores, Error *err) {
    int present = 0;
    for (int c = 0; c < scores->class_count; c++) present += scores->count[c] > 0;
    double chance = 1.0 / present;
    Interval interval = scores->ua_interval;
    if (chance >= interval.low && chance <= interval.high) return true;
    return fail(err, "chance, %.3f, lies outside the emotion UA's 95 %% interval [%.3f, %.3f]", chance, interval.low,
                interval.high);
}

static bool check_required(const Report *report, const Texts *require, Error *err) {
    for (int i = 0; i < require->count; i++) {
        const char *wanted = require->items[i], *equals = strchr(wanted, '=');
        if (!strcmp(wanted, "chance")) {
            if (!check_chance(&report->emotion, err)) return false;
            continue;
        }
        const Scores *scores = equals ? find_scores(report, wanted, (size_t)(equals - wanted)) : NULL;
        char *end = NULL;
        double least = equals ? strtod(equals + 1, &end) : 0;
        if (!scores || end == equals + 1 || *end)
            return fail_usage(
                err, "eval: --require wants chance or an aspect and its least UA (emotion=0.85), found \"%s\"", wanted);
        if (scores->ua < least)
            return fail(err, "UA of %.*s is %.3f, required is %.3f", (int)(equals - wanted), wanted, scores->ua, least);
    }
    return true;
}

static bool report_run(Run *run, const EvalArguments *a, const AnswerOptions *options, const Answers *answers,
                       Error *err) {
    Report report;
    if (!report_make(run, answers, &report, err)) return false;
    json_t *settings =
        json_pack("{s:s, s:s?, s:s, s:s, s:i, s:f, s:b}", "run", a->run, "checkpoint", run->checkpoint, "split",
                  a->split, "control", CONTROL_NAMES[options->control], "beams", options->generate.beams, "temperature",
                  (double)options->generate.temperature, "rank", (int)options->rank);
    char *title =
        text_format(err, "%s, %s split%s%s", run->checkpoint ? run->checkpoint : "untrained model", a->split,
                    options->control ? ", control: " : "", options->control ? CONTROL_NAMES[options->control] : "");
    bool ok = settings && title && report_write(run, answers, &report, settings, a->out, err);
    if (ok) report_print(run, &report, title, stdout);
    if (ok) report_examples(run, answers, a->examples, stdout);
    ok = ok && check_required(&report, &a->require, err);
    json_decref(settings);
    free(title);
    return ok;
}

static bool evaluate(const EvalArguments *a, Error *err) {
    Control control;
    if (!check_ranges(a, err) || !find_control(a->control, &control, err)) return false;
    RunOptions opening = {.overrides = &a->set, .model = true, .data = true, .checkpoint = a->checkpoint};
    opening.device = a->device;
    if (control == CONTROL_UNTRAINED) opening.checkpoint = "none";
    Run *run = run_open(a->run, &opening, err);
    if (!run) return false;
    Split split;
    Answers answers = {0};
    char *journal = path_join(a->out, "answers.partial.jsonl", err);
    AnswerOptions options = answer_options(a, control);
    options.journal = journal;
    uint32_t *chosen = NULL;
    bool ok = journal && find_split(run, a, &split, err) && limit_split(run, &split, a->limit, &chosen, err) &&
              folder_make(a->out, err) && answers_make(run, &split, &options, &answers, err) &&
              report_run(run, a, &options, &answers, err);
    if (ok) remove(journal);
    answers_free(&answers);
    free(chosen);
    free(journal);
    run_close(run);
    return ok;
}

bool command_eval(int argc, char **argv, Error *err) {
    AnswerOptions defaults = answer_options_default();
    EvalArguments a = {.split = "test",
                       .control = "none",
                       .max_new = defaults.generate.max_new,
                       .beams = 1,
                       .clips = defaults.clips,
                       .seed = 1,
                       .top_p = 1,
                       .repetition_penalty = 1};
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &a.out, "DIR", "where predictions.jsonl and scores.json go"},
        {"split", 0, OPTION_TEXT, &a.split, "NAME", "test (default), validation or train"},
        {"checkpoint", 0, OPTION_TEXT, &a.checkpoint, "NAME",
         "best, last, step-N or a folder (default: best, else last)"},
        {"control", 0, OPTION_TEXT, &a.control, "NAME", "noise, permute or untrained: must fall to chance"},
        {"rank", 0, OPTION_FLAG, &a.rank, NULL,
         "take the class of highest likelihood for the emotion, which the response must begin with"},
        {"require", 0, OPTION_TEXTS, &a.require, "ASPECT=UA",
         "fail below this UA (emotion=0.85); \"chance\": fail unless chance lies in its interval"},
        {"examples", 0, OPTION_INT, &a.examples, "N", "print N clips: measured cues beside the generated text"},
        {"limit", 0, OPTION_INT, &a.limit, "N", "only N clips, each class in its share"},
        {"clips", 0, OPTION_INT, &a.clips, "N", "clips answered together (default 16, on a GPU 64)"},
        {"max-new", 0, OPTION_INT, &a.max_new, "N", "longest answer in tokens (default 160)"},
        {"beams", 0, OPTION_INT, &a.beams, "N", "beam search; 1 (default): none"},
        {"temperature", 0, OPTION_NUMBER, &a.temperature, "X", "sample; 0 (default): the likeliest token"},
        {"top-p", 0, OPTION_NUMBER, &a.top_p, "X", "sample from the likeliest tokens of this mass"},
        {"repetition-penalty", 0, OPTION_NUMBER, &a.repetition_penalty, "X", "1 (default): none"},
        {"seed", 0, OPTION_INT, &a.seed, "N", "of sampling"},
        {"set", 0, OPTION_TEXTS, &a.set, "K=V", "override a value of the run's config (data.shards=DIR)"},
        DEVICE_OPTIONS(a.device),
        {0}};
    const Usage usage = {
        "eval",
        "RUN -o DIR",
        "Answers the clips of a run's test split, reads emotion and cues from the answers and scores them:\n"
        "UA, WA, recalls and confusion of the emotion, and of each cue against its measured level. An\n"
        "answer that cannot be read counts as wrong. A killed evaluation goes on where it was.",
        options,
        1,
        1};
    Texts arguments;
    bool help;
    if (!options_parse(&usage, argc, argv, &arguments, &help, err)) {
        texts_free(&a.set);
        texts_free(&a.require);
        return false;
    }
    if (!help) a.run = arguments.items[0];
    bool ok = help || (comm_alone("eval", err) && evaluate(&a, err));
    texts_free(&arguments);
    texts_free(&a.set);
    texts_free(&a.require);
    return ok;
}
