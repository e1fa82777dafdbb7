#include "data/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/html.h"

/* data/report.css and report.js, a line each, and the script's SHA-256: the Makefile makes these of the files. */
static const char *const STYLE[] = {
#include "data/report.css.inc"
};
static const char *const SCRIPT[] = {
#include "data/report.js.inc"
};
static const char SCRIPT_SHA256[] =
#include "data/report.js.sha256.inc"
    ;

/* --- making --- */

/* Only five levels have outer ones. */
static int annotated_levels(const DataSet *set) {
    for (size_t i = 0; i < set->count; i++) {
        const json_t *levels = json_object_get(set->utterances[i]->json, "levels");
        for (int cue = 0; cue < CUE_COUNT; cue++) {
            const char *word = json_string_value(json_object_get(levels, CUE_NAMES[cue]));
            if (word && level_of_word((Cue)cue, word, 5) != LEVEL_NONE &&
                level_of_word((Cue)cue, word, 3) == LEVEL_NONE)
                return 5;
        }
    }
    return 3;
}

static bool find_levels(DataReport *report, int levels, Error *err) {
    const DataSet *set = &report->set;
    report->level_count = levels ? levels : annotated_levels(set);
    report->cuts = cut_points_fit(set->utterances, set->count, report->level_count, err);
    report->levels = memory_new(set->count, sizeof *report->levels, err);
    if (!report->cuts || !report->levels) return false;
    for (size_t i = 0; i < set->count; i++) report->levels[i] = cut_points_apply(report->cuts, set->utterances[i]);
    return true;
}

static bool make_cards(DataReport *report, const ReportOptions *options, Error *err) {
    const Categories *classes = &report->census.by[FIELD_CLASS];
    size_t wanted = options->cards == CARDS_BY_CLASS ? 2 * classes->count : (size_t)options->cards;
    if (wanted > REPORT_CARDS_MOST) wanted = REPORT_CARDS_MOST;
    size_t chosen[REPORT_CARDS_MOST], found = 0;
    report->cards = memory_new(REPORT_CARDS_MOST, sizeof *report->cards, err);
    if (!report->cards || !cards_choose(&report->set, classes, options->seed, wanted, chosen, &found, err))
        return false;
    if (found == 0) return true;
    Progress progress;
    progress_begin(&progress, "report", "cards", 0, (int64_t)found);
    Error why = {0};
    bool done = true;
    while (report->card_count < found && done) {
        done = card_make(&report->cards[report->card_count], &report->set, chosen[report->card_count], &why);
        report->card_count += done;
        progress_update(&progress, (int64_t)report->card_count, NULL);
    }
    progress_end(&progress);
    return done || fail(err, "%s (--cards 0 makes the page without samples)", why.text);
}

static void report_free(DataReport *report) {
    for (size_t i = 0; i < report->card_count; i++) card_free(&report->cards[i]);
    free(report->cards);
    free(report->levels);
    cut_points_free(report->cuts);
    census_free(&report->census);
    data_set_close(&report->set);
}

/* --- writing --- */

static void write_lines(const char *const *lines, size_t count, FILE *out) {
    for (size_t i = 0; i < count; i++) fputs(lines[i], out);
}

/* The policy lets nothing in from outside, and no script run but ours, whatever the data holds. */
static void write_head(const DataReport *report, FILE *out) {
    fprintf(out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'sha256-%s'; media-src data:; base-uri 'none'; form-action 'none'\"/>\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
            "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>",
            SCRIPT_SHA256);
    html_text_most(out, report->set.name, 80);
    fputs(": the data</title>\n<style>\n", out);
    write_lines(STYLE, sizeof STYLE / sizeof *STYLE, out);
    fputs("</style>\n</head>\n<body>\n", out);
}

static void fact(int64_t count, const char *one, const char *many, FILE *out) {
    fprintf(out, "<div><dt>%s</dt><dd>", count == 1 ? one : many);
    html_count(out, count);
    fputs("</dd></div>\n", out);
}

static void write_facts(const DataReport *report, FILE *out) {
    const Census *census = &report->census;
    fputs("<dl class=\"facts\">\n", out);
    fact(census->all.utterances, "utterance", "utterances", out);
    if (census->all.untimed < census->all.utterances) {
        fputs("<div><dt>hours</dt><dd>", out);
        html_decimal(out, census->all.seconds / 3600, 2);
        fputs("</dd></div>\n", out);
    }
    fact(census->all.speakers, "speaker", "speakers", out);
    fact((int64_t)census->by[FIELD_GROUP].distinct, "group", "groups", out);
    fact((int64_t)census->by[FIELD_CLASS].distinct, "class", "classes", out);
    fact((int64_t)census->by[FIELD_CORPUS].distinct, "corpus", "corpora", out);
    fputs("</dl>\n", out);
}

static void write_top(const DataReport *report, FILE *out) {
    fputs("<header class=\"top\"><p>semollm report data</p><h1><bdi>", out);
    html_text_most(out, report->set.name, 80);
    fputs("</bdi></h1>\n", out);
    write_facts(report, out);
    fputs("<nav aria-label=\"Parts of this page\"><a href=\"#census\">Census</a> <a href=\"#cues\">Cues</a> "
          "<a href=\"#levels\">Levels</a>",
          out);
    fputs(report->card_count ? " <a href=\"#samples\">Samples</a></nav></header>\n<main>\n"
                             : "</nav></header>\n<main>\n",
          out);
}

static void write_bottom(const DataReport *report, FILE *out) {
    fputs("</main>\n<footer class=\"bottom\"><p>", out);
    if (report->set.shards)
        fprintf(out, "Shards with index <code>%016" PRIx64 "</code>. ", shards_hash(report->set.shards));
    fputs("F0 and intensity as Praat finds them, speed by de Jong and Wempe’s syllable nuclei over speech "
          "without pauses.</p></footer>\n<script>\n",
          out);
    write_lines(SCRIPT, sizeof SCRIPT / sizeof *SCRIPT, out);
    fputs("</script>\n</body>\n</html>\n", out);
}

static bool write_page(const DataReport *report, FILE *out, Error *err) {
    write_head(report, out);
    write_top(report, out);
    bool done = report_write_census(report, out, err) && report_write_cues(report, out, err) &&
                report_write_levels(report, out, err);
    if (!done) return false;
    report_write_cards(report, out);
    write_bottom(report, out);
    return true;
}

static bool save(const DataReport *report, const char *output, Error *err) {
    char *path = output ? text_copy(output, err) : text_format(err, "%s-data.html", report->set.name);
    AtomicFile file = {0};
    bool done =
        path && atomic_open(&file, path, err) && write_page(report, file.stream, err) && atomic_commit(&file, err);
    atomic_discard(&file);
    if (done) fprintf(stderr, "report: %s\n", path);
    free(path);
    return done;
}

bool report_data(const char *path, const ReportOptions *options, Error *err) {
    DataReport report = {0};
    if (!data_set_open(&report.set, path, err)) return false;
    bool done = census_take(&report.census, &report.set, err) && find_levels(&report, options->levels, err) &&
                make_cards(&report, options, err) && save(&report, options->output, err);
    report_free(&report);
    return done;
}
