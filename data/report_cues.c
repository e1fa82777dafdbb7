/* How each cue is distributed over the classes: a panel of histograms above one another on one axis, coloured by level,
 * with the cut points through all of them. Shapes are drawn as SVG that stretches with the page, words are HTML beside
 * and over it, so that they keep their size. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/contour.h"
#include "data/html.h"
#include "data/report.h"

const char *const CUE_UNITS[CUE_COUNT] = {"Hz", "syll/s", "dB"};
const char *const CUE_MEASURES[CUE_COUNT] = {"median F0", "articulation rate", "mean intensity"};
const int CUE_DECIMALS[CUE_COUNT] = {[CUE_PITCH] = 0, [CUE_SPEED] = 2, [CUE_VOLUME] = 1};

/* What a file claims beyond this is no measure of speech, and no axis could show it beside one. */
static const double MEASURE_MOST = 1e6;

typedef struct Panel {
    const DataReport *report;
    Cue cue;
    size_t corpus;  /* a row of the census */
    Gender gender;  /* GENDERS: any */
    double *values; /* class after class, sorted within each */
    size_t *first;  /* [classes + 1] */
    Histogram axis; /* empty: its range */
    double tallest; /* the largest share that a bin has of its class */
    const double *cuts;
} Panel;

static bool shows(const Panel *panel, size_t i) {
    const DataReport *report = panel->report;
    const Utterance *utterance = report->set.utterances[i];
    double value = utterance->features.value[CUE_FEATURES[panel->cue]];
    return report->census.by[FIELD_CORPUS].row_of[i] == panel->corpus && utterance->has_features &&
           fabs(value) <= MEASURE_MOST && (panel->gender == GENDERS || gender_of(utterance) == panel->gender);
}

/* Values by class: how many each has, then each to its place. */
static bool gather(Panel *panel, Error *err) {
    const DataReport *report = panel->report;
    const Categories *classes = &report->census.by[FIELD_CLASS];
    size_t *next = memory_new(classes->count, sizeof *next, err);
    panel->first = memory_new(classes->count + 1, sizeof *panel->first, err);
    panel->values = memory_new(report->set.count, sizeof *panel->values, err);
    bool done = next && panel->first && panel->values;
    for (size_t i = 0; i < report->set.count && done; i++) panel->first[classes->row_of[i] + 1] += shows(panel, i);
    for (size_t c = 0; c < classes->count && done; c++) {
        panel->first[c + 1] += panel->first[c];
        next[c] = panel->first[c];
    }
    for (size_t i = 0; i < report->set.count && done; i++)
        if (shows(panel, i))
            panel->values[next[classes->row_of[i]]++] =
                report->set.utterances[i]->features.value[CUE_FEATURES[panel->cue]];
    for (size_t c = 0; c < classes->count && done; c++)
        sort_values(panel->values + panel->first[c], (int64_t)(panel->first[c + 1] - panel->first[c]));
    free(next);
    return done;
}

static Histogram class_histogram(const Panel *panel, size_t c) {
    Histogram histogram = panel->axis;
    for (size_t i = panel->first[c]; i < panel->first[c + 1]; i++) histogram_add(&histogram, panel->values[i]);
    return histogram;
}

static size_t panel_count(const Panel *panel) { return panel->first[panel->report->census.by[FIELD_CLASS].count]; }

static bool find_scales(Panel *panel, Error *err) {
    size_t count = panel_count(panel);
    double *sorted = memory_new(count, sizeof *sorted, err);
    if (!sorted) return false;
    memcpy(sorted, panel->values, count * sizeof *sorted);
    sort_values(sorted, (int64_t)count);
    panel->axis = histogram_over(sorted, count);
    free(sorted);
    for (size_t c = 0; c < panel->report->census.by[FIELD_CLASS].count; c++) {
        Histogram histogram = class_histogram(panel, c);
        for (int bin = 0; bin < histogram.bins; bin++)
            panel->tallest = fmax(panel->tallest, (double)histogram.count[bin] / (double)histogram.total);
    }
    return true;
}

/* The cut points that judge these utterances: any one of them tells. */
static void find_cuts(Panel *panel) {
    for (size_t i = 0; i < panel->report->set.count && !panel->cuts; i++)
        if (shows(panel, i))
            panel->cuts = cut_points_of(panel->report->cuts, panel->cue, panel->report->set.utterances[i], NULL);
}

/* --- drawing --- */

static double percent(const Panel *panel, double value) {
    double share = (value - panel->axis.low) / (panel->axis.bins * panel->axis.step);
    return 100 * fmin(fmax(share, 0), 1);
}

static double band_start(const Panel *panel, int level) { return level ? percent(panel, panel->cuts[level - 1]) : 0; }

static double band_end(const Panel *panel, int level) {
    return level + 1 < panel->report->level_count ? percent(panel, panel->cuts[level]) : 100;
}

/* The part of a histogram's outline that lies in a level. */
static void draw_level(const Panel *panel, const Histogram *histogram, int level, FILE *out) {
    double from = band_start(panel, level), to = band_end(panel, level);
    fprintf(out, "<path class=\"t%d\" d=\"", report_tone(level, panel->report->level_count));
    bool open = false;
    for (int bin = 0; bin < histogram->bins; bin++) {
        double left = fmax(from, percent(panel, histogram_edge(histogram, bin)));
        double right = fmin(to, percent(panel, histogram_edge(histogram, bin + 1)));
        if (right <= left) continue;
        if (!open) fprintf(out, "M%.2f 100", left);
        open = true;
        fprintf(out, "V%.1fH%.2f",
                100 - 100 * (double)histogram->count[bin] / (double)histogram->total / panel->tallest, right);
    }
    fputs(open ? "V100Z\"/>" : "\"/>", out);
}

static double median(const double *sorted, size_t count) { return 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]); }

static void count_levels(const Panel *panel, size_t c, int64_t *levels) {
    for (size_t i = panel->first[c]; i < panel->first[c + 1]; i++) {
        int level = 0;
        for (int k = 0; k + 1 < panel->report->level_count; k++) level += panel->values[i] > panel->cuts[k];
        levels[level]++;
    }
}

static void describe_row(const Panel *panel, size_t c, double middle, FILE *out) {
    int64_t levels[LEVELS_MAX] = {0};
    count_levels(panel, c, levels);
    fprintf(out, ": median ");
    html_decimal(out, middle, CUE_DECIMALS[panel->cue]);
    fprintf(out, " %s", CUE_UNITS[panel->cue]);
    for (int level = 0; level < panel->report->level_count; level++)
        fprintf(out, ", %" PRId64 " %s", levels[level], level_word(panel->cue, level, panel->report->level_count));
}

static void draw_row(const Panel *panel, size_t c, FILE *out) {
    const Tally *row = &panel->report->census.by[FIELD_CLASS].rows[c];
    Histogram histogram = class_histogram(panel, c);
    double middle = median(panel->values + panel->first[c], panel->first[c + 1] - panel->first[c]);
    double place = percent(panel, middle);
    fputs("<div class=\"line\"><span class=\"name\">", out);
    report_write_name(out, row);
    fputs("</span><svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"", out);
    html_text_most(out, row->name, 40);
    describe_row(panel, c, middle, out);
    fputs("\">", out);
    for (int level = 0; level < panel->report->level_count; level++) draw_level(panel, &histogram, level, out);
    fprintf(out, "<path class=\"median\" d=\"M%.2f 0V100\"/></svg><span class=\"value\">", place);
    html_decimal(out, middle, CUE_DECIMALS[panel->cue]);
    fputs("</span></div>\n", out);
}

/* A line, and to its right or else its left the cut point, where there is room; *taken is where the last one ends. */
static void draw_cut(const Panel *panel, int k, double *taken, FILE *out) {
    static const double ROOM = 11;
    double place = percent(panel, panel->cuts[k]);
    double next = k + 2 < panel->report->level_count ? percent(panel, panel->cuts[k + 1]) : 100;
    bool right = next - place >= ROOM && place >= *taken, left = !right && place - *taken >= ROOM;
    fprintf(out, "<i%s style=\"left:%.2f%%\">", left ? " class=\"before\"" : "", place);
    if (right || left) {
        html_decimal(out, panel->cuts[k], CUE_DECIMALS[panel->cue]);
        *taken = right ? place + ROOM : place;
    }
    fputs("</i>", out);
}

/* Level words over their bands where they have room, and the cut points between them. */
static void draw_bands(const Panel *panel, FILE *out) {
    static const double PERCENT_HALF_LETTER = 1.3;
    double taken = -100;
    fputs("<div class=\"bands\" aria-hidden=\"true\">", out);
    for (int level = 0; level < panel->report->level_count; level++) {
        const char *word = level_word(panel->cue, level, panel->report->level_count);
        double centre = 0.5 * (band_start(panel, level) + band_end(panel, level));
        double half = PERCENT_HALF_LETTER * (double)strlen(word);
        if (centre - half < taken) continue;
        fprintf(out, "<b style=\"left:%.2f%%\">%s</b>", centre, word);
        taken = centre + half;
    }
    double labelled = 0;
    for (int k = 0; k + 1 < panel->report->level_count; k++) draw_cut(panel, k, &labelled, out);
    fputs("</div>\n", out);
}

static void draw_axis(const Panel *panel, FILE *out) {
    double high = histogram_edge(&panel->axis, panel->axis.bins), step = round_step((high - panel->axis.low) / 6);
    int decimals = step < 1 ? (int)fmin(6, ceil(-log10(step))) : 0;
    fputs("<div class=\"axis\" aria-hidden=\"true\">", out);
    for (double tick = ceil(panel->axis.low / step) * step; tick <= high; tick += step) {
        fprintf(out, "<i style=\"left:%.2f%%\">", percent(panel, tick));
        html_decimal(out, tick, decimals);
        fputs("</i>", out);
    }
    fprintf(out, "<span>%s</span></div>\n", CUE_UNITS[panel->cue]);
}

static void draw_caption(const Panel *panel, FILE *out) {
    static const char *const TITLES[CUE_COUNT] = {"Pitch", "Speed", "Volume"};
    fprintf(out, "<figcaption><strong>%s</strong>", TITLES[panel->cue]);
    if (panel->gender != GENDERS)
        fprintf(out, ", %s%s", panel->gender == GENDER_UNKNOWN ? "gender " : "", GENDER_NAMES[panel->gender]);
    fprintf(out, " <small>%s in %s, ", CUE_MEASURES[panel->cue], CUE_UNITS[panel->cue]);
    html_count(out, (int64_t)panel_count(panel));
    fprintf(out, " utterance%s</small></figcaption>\n", panel_count(panel) == 1 ? "" : "s");
}

static void draw_panel(const Panel *panel, FILE *out) {
    const Categories *classes = &panel->report->census.by[FIELD_CLASS];
    int64_t beyond = 0;
    fputs("<figure class=\"panel\">", out);
    draw_caption(panel, out);
    fputs(
        "<div class=\"plot\">\n<div class=\"line head\"><span class=\"name\"></span><span class=\"value\">median</span>"
        "</div>\n",
        out);
    for (size_t c = 0; c < classes->count; c++) {
        if (panel->first[c + 1] == panel->first[c]) continue;
        Histogram histogram = class_histogram(panel, c);
        beyond += histogram.below + histogram.above;
        draw_row(panel, c, out);
    }
    draw_bands(panel, out);
    draw_axis(panel, out);
    fputs("</div>", out);
    if (beyond)
        fprintf(out, "<p class=\"note\">%" PRId64 " lie%s beyond the axis.</p>", beyond, beyond == 1 ? "s" : "");
    fputs("</figure>\n", out);
}

/* Nothing where no such utterance has the cue. */
static bool write_panel(Panel panel, bool *any, FILE *out, Error *err) {
    bool done = gather(&panel, err);
    if (done && panel_count(&panel)) {
        find_cuts(&panel);
        done = find_scales(&panel, err);
        if (done && panel.cuts) draw_panel(&panel, out);
        *any = true;
    }
    free(panel.values);
    free(panel.first);
    return done;
}

static bool write_corpus(const DataReport *report, size_t corpus, FILE *out, Error *err) {
    bool done = true, any = false;
    fputs("<div class=\"panels\">\n", out);
    for (int gender = 0; gender < GENDERS && done; gender++)
        done = write_panel((Panel){.report = report, .corpus = corpus, .cue = CUE_PITCH, .gender = (Gender)gender},
                           &any, out, err);
    for (int cue = CUE_SPEED; cue < CUE_COUNT && done; cue++)
        done = write_panel((Panel){.report = report, .corpus = corpus, .cue = (Cue)cue, .gender = GENDERS}, &any, out,
                           err);
    fputs(any ? "</div>\n" : "<p>Nothing is measured yet; <code>semollm annotate</code> measures.</p></div>\n", out);
    return done;
}

bool report_write_cues(const DataReport *report, FILE *out, Error *err) {
    const Categories *corpora = &report->census.by[FIELD_CORPUS];
    bool done = true;
    fputs("<section id=\"cues\"><h2>Cues</h2>\n", out);
    fputs("<p>Each row is a class: the share of its utterances along the axis, a line at their median. Colours are "
          "levels, and vertical lines the cut points between them.</p>\n",
          out);
    for (size_t corpus = 0; corpus < corpora->count && done; corpus++) {
        if (corpora->count > 1) {
            fputs("<h3>", out);
            report_write_name(out, &corpora->rows[corpus]);
            fputs("</h3>\n", out);
        }
        if (corpora->rows[corpus].folded)
            fputs("<p>Each has cut points of its own; too many to draw.</p>\n", out);
        else
            done = write_corpus(report, corpus, out, err);
    }
    fputs("</section>\n", out);
    return done;
}
