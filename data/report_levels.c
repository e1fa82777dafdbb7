/* The levels: where their cut points lie, and how they go with the classes. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/html.h"
#include "data/report.h"

int report_tone(int level, int level_count) { return level_count == 3 ? level + 1 : level; }

/* --- cut points --- */

/* "up to 221.9", "to 274.3", "above 274.3" */
static void range_cell(const double *cuts, int level, const DataReport *report, Cue cue, FILE *out) {
    int last = report->level_count - 1;
    fprintf(out, "<td class=\"text\"><span class=\"key t%d\">%s</span> ", report_tone(level, last + 1),
            level_word(cue, level, last + 1));
    fputs(level == 0 ? "≤ " : level == last ? "&gt; " : "", out);
    if (level > 0 && level < last) {
        html_decimal(out, cuts[level - 1], CUE_DECIMALS[cue] + 1);
        fputs(" – ", out);
    }
    html_decimal(out, cuts[level == last ? level - 1 : level], CUE_DECIMALS[cue] + 1);
    fputs("</td>", out);
}

static const char *gender_words(Cue cue, Gender gender) {
    if (cue != CUE_PITCH) return "all";
    return gender == GENDER_UNKNOWN ? "unknown: by those of all" : GENDER_NAMES[gender];
}

/* Whether such utterances have the cue at all: where not, cut points of others would stand in. */
static bool measured(const DataReport *report, size_t corpus, Cue cue, Gender gender) {
    for (size_t i = 0; i < report->set.count; i++)
        if (report->census.by[FIELD_CORPUS].row_of[i] == corpus && report->levels[i].level[cue] != LEVEL_NONE &&
            (cue != CUE_PITCH || gender_of(report->set.utterances[i]) == gender))
            return true;
    return false;
}

static void cut_row(const DataReport *report, size_t row, Cue cue, Gender gender, FILE *out) {
    static const char *const GENDERS_KEPT[GENDERS] = {"female", "male", NULL};
    const Tally *corpus = &report->census.by[FIELD_CORPUS].rows[row];
    const Utterance of = {.corpus = (char *)(uintptr_t)corpus->name, /* is only compared */
                          .gender = (char *)(uintptr_t)GENDERS_KEPT[gender]};
    int64_t fitted = 0;
    const double *cuts = cut_points_of(report->cuts, cue, &of, &fitted);
    if (!cuts || !measured(report, row, cue, gender)) return;
    fprintf(out, "<tr><th scope=\"row\">%s <small>%s, %s</small></th>", CUE_NAMES[cue], CUE_MEASURES[cue],
            CUE_UNITS[cue]);
    if (report->census.by[FIELD_CORPUS].count > 1) {
        fputs("<td class=\"text\">", out);
        report_write_name(out, corpus);
        fputs("</td>", out);
    }
    fprintf(out, "<td class=\"text\">%s</td><td>", gender_words(cue, gender));
    html_count(out, fitted);
    fputs("</td>", out);
    for (int level = 0; level < report->level_count; level++) range_cell(cuts, level, report, cue, out);
    fputs("</tr>\n", out);
}

static void cut_rows(const DataReport *report, size_t corpus, FILE *out) {
    for (int gender = 0; gender < GENDERS; gender++) cut_row(report, corpus, CUE_PITCH, (Gender)gender, out);
    cut_row(report, corpus, CUE_SPEED, GENDER_UNKNOWN, out);
    cut_row(report, corpus, CUE_VOLUME, GENDER_UNKNOWN, out);
}

static void write_cut_points(const DataReport *report, FILE *out) {
    const Categories *corpora = &report->census.by[FIELD_CORPUS];
    fputs("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Cut points\"><table>"
          "<caption>Cut points between levels</caption>\n<thead><tr><th scope=\"col\">cue</th>",
          out);
    if (corpora->count > 1) fputs("<th scope=\"col\" class=\"text\">corpus</th>", out);
    fprintf(out,
            "<th scope=\"col\" class=\"text\">gender</th><th scope=\"col\">fitted on</th><th scope=\"colgroup\" "
            "class=\"text\" colspan=\"%d\">"
            "levels</th></tr></thead>\n<tbody>\n",
            report->level_count);
    for (size_t corpus = 0; corpus < corpora->count; corpus++)
        if (!corpora->rows[corpus].folded) cut_rows(report, corpus, out);
    fputs("</tbody></table></div>\n", out);
}

/* --- levels and classes --- */

typedef struct Contingency {
    Cue cue;
    const Categories *classes;
    int levels;
    int64_t *count; /* [classes, LEVELS_MAX + 1]: the last without a level */
} Contingency;

static int64_t *cell(const Contingency *table, size_t c, int level) {
    return &table->count[c * (LEVELS_MAX + 1) + (size_t)(level == LEVEL_NONE ? LEVELS_MAX : level)];
}

static bool count_levels(Contingency *table, const DataReport *report, Error *err) {
    table->count = memory_new(table->classes->count * (LEVELS_MAX + 1), sizeof *table->count, err);
    for (size_t i = 0; i < report->set.count && table->count; i++)
        ++*cell(table, table->classes->row_of[i], report->levels[i].level[table->cue]);
    return table->count != NULL;
}

static int64_t row_sum(const Contingency *table, size_t c) {
    int64_t sum = 0;
    for (int level = 0; level < table->levels; level++) sum += *cell(table, c, level);
    return sum;
}

static int64_t column_sum(const Contingency *table, int level) {
    int64_t sum = 0;
    for (size_t c = 0; c < table->classes->count; c++) sum += *cell(table, c, level);
    return sum;
}

/* Cramér's V: 0 where levels and classes are independent, 1 where one decides the other; NaN where either has but one
 * value. */
static double association(const Contingency *table) {
    double all = 0, chi = 0;
    int rows = 0, columns = 0;
    for (int level = 0; level < table->levels; level++) {
        all += (double)column_sum(table, level);
        columns += column_sum(table, level) > 0;
    }
    for (size_t c = 0; c < table->classes->count; c++) {
        rows += row_sum(table, c) > 0;
        for (int level = 0; level < table->levels; level++) {
            double expected = (double)row_sum(table, c) * (double)column_sum(table, level) / all;
            double more = (double)*cell(table, c, level) - expected;
            if (expected > 0) chi += more * more / expected;
        }
    }
    int least = rows < columns ? rows : columns;
    return least > 1 ? sqrt(chi / all / (least - 1)) : NAN;
}

static void write_bar(const Contingency *table, size_t c, FILE *out) {
    int64_t sum = row_sum(table, c);
    fputs("<td class=\"stack\"><div role=\"img\" aria-label=\"", out);
    for (int level = 0; level < table->levels && sum; level++)
        fprintf(out, "%s%.0f %% %s", level ? ", " : "", 100 * (double)*cell(table, c, level) / (double)sum,
                level_word(table->cue, level, table->levels));
    fputs(sum ? "\">" : "no levels\">", out);
    for (int level = 0; level < table->levels && sum; level++)
        if (*cell(table, c, level))
            fprintf(out, "<i class=\"t%d\" style=\"width:%.2f%%\"></i>", report_tone(level, table->levels),
                    100 * (double)*cell(table, c, level) / (double)sum);
    fputs("</div></td>", out);
}

static void write_contingency(const Contingency *table, FILE *out) {
    bool lacking = column_sum(table, LEVEL_NONE) > 0;
    double strength = association(table);
    fprintf(out,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"%s in each class\"><table>"
            "<caption>%c%s",
            CUE_NAMES[table->cue], CUE_NAMES[table->cue][0] - 'a' + 'A', CUE_NAMES[table->cue] + 1);
    if (isfinite(strength)) fprintf(out, " <small>Cramér’s V %.2f</small>", strength);
    fputs("</caption>\n<thead><tr><th scope=\"col\">class</th>", out);
    for (int level = 0; level < table->levels; level++)
        fprintf(out, "<th scope=\"col\"><span class=\"key t%d\">%s</span></th>", report_tone(level, table->levels),
                level_word(table->cue, level, table->levels));
    if (lacking) fputs("<th scope=\"col\">none</th>", out);
    fputs("<th scope=\"col\">shares</th></tr></thead>\n<tbody>\n", out);
    for (size_t c = 0; c < table->classes->count; c++) {
        fputs("<tr><th scope=\"row\">", out);
        report_write_name(out, &table->classes->rows[c]);
        fputs("</th>", out);
        for (int level = 0; level < table->levels; level++) report_write_count(*cell(table, c, level), out);
        if (lacking) report_write_count(*cell(table, c, LEVEL_NONE), out);
        write_bar(table, c, out);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

/* --- explanations --- */

static void write_others(const DataReport *report, FILE *out) {
    int64_t explained = 0, others = 0;
    for (size_t i = 0; i < report->set.count; i++) {
        const Utterance *utterance = report->set.utterances[i];
        if (!utterance->explanation) continue;
        explained++;
        others += !levels_kept(utterance, &report->levels[i], report->level_count);
    }
    if (!explained) return;
    fputs("<p class=\"after\">", out);
    html_count(out, others);
    fputs(" of ", out);
    html_count(out, explained);
    fputs(" explanations were written from other levels than these. A training run finds its own cut points on its "
          "training split, and rewrites explanations that they change.</p>\n",
          out);
}

bool report_write_levels(const DataReport *report, FILE *out, Error *err) {
    bool done = true;
    fprintf(out,
            "<section id=\"levels\"><h2>Levels</h2>\n<p>%d levels, cut at quantiles of this data, each corpus by "
            "itself and for pitch each gender by itself; a value at a cut point falls below it.</p>\n",
            report->level_count);
    write_cut_points(report, out);
    write_others(report, out);
    fprintf(out,
            "<h3>Levels in each class</h3>\n<p>Cramér’s V says how much one tells of the other: 0 nothing, 1 "
            "all.</p>\n<div class=\"tables l%d\">\n",
            report->level_count);
    for (int cue = 0; cue < CUE_COUNT && done; cue++) {
        Contingency table = {
            .cue = (Cue)cue, .classes = &report->census.by[FIELD_CLASS], .levels = report->level_count};
        done = count_levels(&table, report, err);
        if (done) write_contingency(&table, out);
        free(table.count);
    }
    fputs("</div></section>\n", out);
    return done;
}
