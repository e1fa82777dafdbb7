#include "eval/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_level(Part part) { return part == PART_PITCH || part == PART_SPEED || part == PART_VOLUME; }

static Cue cue_of(Part part) { return part == PART_PITCH ? CUE_PITCH : part == PART_SPEED ? CUE_SPEED : CUE_VOLUME; }

static const char *level_text(const Run *run, const Levels *levels, Part part) {
    int level = levels->level[cue_of(part)];
    return level == LEVEL_NONE ? NULL : level_word(cue_of(part), level, run->response.level_count);
}

const char *measured_cue(const Run *run, const Utterance *utterance, Part part) {
    if (part == PART_GENDER) return utterance->gender;
    Levels levels = run_levels(run, utterance);
    return level_text(run, &levels, part);
}

const char *stated_cue(const Run *run, const Response *response, Part part) {
    return part == PART_GENDER ? response->gender : level_text(run, &response->levels, part);
}

static int label_index(const CueScore *cue, const char *word) {
    for (int i = 0; word && i < cue->label_count; i++)
        if (!strcmp(cue->labels[i], word)) return i;
    return SCORE_UNPARSABLE;
}

static CueScore cue_labels(const Run *run, Part part) {
    CueScore cue = {.part = part, .label_count = 2, .labels = {"female", "male"}};
    if (part == PART_GENDER) return cue;
    cue.label_count = run->response.level_count;
    for (int i = 0; i < cue.label_count; i++) cue.labels[i] = level_word(cue_of(part), i, cue.label_count);
    return cue;
}

static void score_cue(const Run *run, const Answers *answers, CueScore *cue, int *truth, int *said) {
    int64_t measured = 0;
    for (size_t i = 0; i < answers->count; i++) {
        const Answer *answer = &answers->items[i];
        truth[measured] = label_index(cue, measured_cue(run, shards_utterance(run->shards, answer->index), cue->part));
        if (truth[measured] == SCORE_UNPARSABLE) continue;
        said[measured++] = label_index(cue, stated_cue(run, &answer->stated, cue->part));
    }
    cue->unmeasured = (int64_t)answers->count - measured;
    cue->scores = scores_of(truth, said, measured, cue->label_count);
}

bool report_make(const Run *run, const Answers *answers, Report *report, Error *err) {
    *report = (Report){0};
    int *truth = memory_new(answers->count, sizeof *truth, err), *said = memory_new(answers->count, sizeof *said, err);
    bool ok = truth && said;
    for (size_t i = 0; ok && i < answers->count; i++) {
        truth[i] = answers->items[i].truth;
        said[i] = answers->items[i].predicted;
        report->cut += !answers->items[i].stopped;
    }
    if (ok) report->emotion = scores_of(truth, said, (int64_t)answers->count, run->class_count);
    for (int p = 0; ok && p < run->response.part_count; p++) {
        Part part = run->response.parts[p];
        if (part != PART_GENDER && !is_level(part)) continue;
        CueScore *cue = &report->cues[report->cue_count++];
        *cue = cue_labels(run, part);
        score_cue(run, answers, cue, truth, said);
    }
    free(truth);
    free(said);
    return ok;
}

static void print_line(const char *name, const Scores *s, FILE *out) {
    fprintf(out, "%-9s  %.3f [%.3f, %.3f]  %.3f [%.3f, %.3f]  %.3f     %.3f     %5" PRId64 "  %10" PRId64 "\n", name,
            s->ua, s->ua_interval.low, s->ua_interval.high, s->wa, s->wa_interval.low, s->wa_interval.high, s->macro_f1,
            s->majority, s->total, s->unparsable);
}

static void print_confusion(const Scores *s, const char *const *names, FILE *out) {
    fprintf(out, "\n%-12s recall ", "true \\ said");
    for (int c = 0; c < s->class_count; c++) fprintf(out, " %9.9s", names[c]);
    fprintf(out, "  unparsable\n");
    for (int t = 0; t < s->class_count; t++) {
        if (s->count[t])
            fprintf(out, "%-12.12s  %.3f ", names[t], s->recall[t]);
        else
            fprintf(out, "%-12.12s absent ", names[t]);
        for (int c = 0; c < s->class_count; c++) fprintf(out, " %9" PRId64, s->confusion[t][c]);
        fprintf(out, "  %10" PRId64 "\n", s->confusion[t][s->class_count]);
    }
}

void report_print(const Run *run, const Report *report, const char *title, FILE *out) {
    fprintf(out,
            "%s\n\n           UA    [95 %% interval]  WA    [95 %% interval]  macro-F1  majority  clips  unparsable\n",
            title);
    print_line("emotion", &report->emotion, out);
    for (int i = 0; i < report->cue_count; i++)
        print_line(PART_NAMES[report->cues[i].part], &report->cues[i].scores, out);
    for (int i = 0; i < report->cue_count; i++)
        if (report->cues[i].unmeasured)
            fprintf(out, "%" PRId64 " clips have no measured %s and are not scored for it\n",
                    report->cues[i].unmeasured, PART_NAMES[report->cues[i].part]);
    if (report->cut) fprintf(out, "%" PRId64 " answers ran into the length limit\n", report->cut);
    print_confusion(&report->emotion, (const char *const *)run->classes, out);
}

/* The first clip of this class from `start` on, going round; the clip at `start` where there is none. */
static const Answer *example_of(const Answers *answers, size_t start, int truth) {
    for (size_t i = 0; i < answers->count; i++) {
        const Answer *answer = &answers->items[(start + i) % answers->count];
        if (answer->truth == truth) return answer;
    }
    return &answers->items[start];
}

static void print_example(const Run *run, const Answer *answer, FILE *out) {
    const Utterance *utterance = shards_utterance(run->shards, answer->index);
    fprintf(out, "\n%s\n  measured:  emotion: %s", utterance->id, run->classes[answer->truth]);
    for (int p = 0; p < run->response.part_count; p++) {
        Part part = run->response.parts[p];
        if (part != PART_GENDER && !is_level(part)) continue;
        const char *measured = measured_cue(run, utterance, part);
        fprintf(out, ", %s: %s", PART_NAMES[part], measured ? measured : "-");
    }
    fprintf(out, "\n  generated: %s\n", answer->text);
}

void report_examples(const Run *run, const Answers *answers, int64_t count, FILE *out) {
    for (int64_t e = 0; e < count && e < (int64_t)answers->count; e++) {
        size_t start = (size_t)((2 * e + 1) * (int64_t)answers->count / (2 * count));
        print_example(run, example_of(answers, start, (int)(e % run->class_count)), out);
    }
}

static json_t *scores_json(const Scores *s, const char *const *names) {
    json_t *recall = json_object(), *confusion = json_object();
    for (int t = 0; t < s->class_count; t++) {
        json_t *row = json_object();
        for (int c = 0; c < s->class_count; c++) json_object_set_new(row, names[c], json_integer(s->confusion[t][c]));
        json_object_set_new(row, "unparsable", json_integer(s->confusion[t][s->class_count]));
        json_object_set_new(confusion, names[t], row);
        json_object_set_new(recall, names[t], isnan(s->recall[t]) ? json_null() : json_real(s->recall[t]));
    }
    return json_pack("{s:f, s:[f,f], s:f, s:[f,f], s:f, s:f, s:I, s:I, s:o, s:o}", "ua", s->ua, "ua_interval",
                     s->ua_interval.low, s->ua_interval.high, "wa", s->wa, "wa_interval", s->wa_interval.low,
                     s->wa_interval.high, "macro_f1", s->macro_f1, "majority", s->majority, "clips",
                     (json_int_t)s->total, "unparsable", (json_int_t)s->unparsable, "recall", recall, "confusion",
                     confusion);
}

static bool write_scores(const Run *run, const Report *report, const json_t *settings, const char *folder, Error *err) {
    json_t *json = json_object();
    if (settings) json_object_set(json, "settings", (json_t *)(uintptr_t)settings);
    json_object_set_new(json, "emotion", scores_json(&report->emotion, (const char *const *)run->classes));
    for (int i = 0; i < report->cue_count; i++)
        json_object_set_new(json, PART_NAMES[report->cues[i].part],
                            scores_json(&report->cues[i].scores, report->cues[i].labels));
    json_object_set_new(json, "cut", json_integer(report->cut));
    char *path = path_join(folder, "scores.json", err);
    bool ok = path && json_write_file(json, path, err);
    free(path);
    json_decref(json);
    return ok;
}

static json_t *text_or_null(const char *text) { return text ? json_string(text) : json_null(); }

static json_t *prediction_json(const Run *run, const Answer *answer) {
    const Utterance *utterance = shards_utterance(run->shards, answer->index);
    json_t *stated = json_object(), *measured = json_object();
    for (int p = 0; p < run->response.part_count; p++) {
        Part part = run->response.parts[p];
        if (part != PART_GENDER && !is_level(part)) continue;
        json_object_set_new(stated, PART_NAMES[part], text_or_null(stated_cue(run, &answer->stated, part)));
        json_object_set_new(measured, PART_NAMES[part], text_or_null(measured_cue(run, utterance, part)));
    }
    const char *predicted = answer->predicted == SCORE_UNPARSABLE ? NULL : run->classes[answer->predicted];
    return json_pack("{s:s, s:o, s:s, s:o, s:s, s:b, s:o, s:o}", "id", utterance->id, "speaker",
                     text_or_null(utterance->speaker), "emotion", run->classes[answer->truth], "predicted",
                     text_or_null(predicted), "answer", answer->text, "stopped", (int)answer->stopped, "stated", stated,
                     "measured", measured);
}

static bool write_predictions(const Run *run, const Answers *answers, const char *folder, Error *err) {
    AtomicFile file = {0};
    char *path = path_join(folder, "predictions.jsonl", err);
    bool ok = path && atomic_open(&file, path, err);
    for (size_t i = 0; ok && i < answers->count; i++) {
        json_t *line = prediction_json(run, &answers->items[i]);
        if (!line) ok = fail(err, "%s: out of memory", path);
        if (ok) json_dumpf(line, file.stream, JSON_COMPACT);
        if (ok) fputc('\n', file.stream);
        json_decref(line);
    }
    ok = ok && atomic_commit(&file, err);
    atomic_discard(&file);
    free(path);
    return ok;
}

bool report_write(const Run *run, const Answers *answers, const Report *report, const json_t *settings,
                  const char *folder, Error *err) {
    return folder_make(folder, err) && write_predictions(run, answers, folder, err) &&
           write_scores(run, report, settings, folder, err);
}
