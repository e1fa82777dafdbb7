/* The census as tables. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/html.h"
#include "data/report.h"

void report_write_name(FILE *out, const Tally *row) {
    if (row->folded) {
        fputs("<em>", out);
        html_count(out, (int64_t)row->folded);
        fputs(" others</em>", out);
    } else if (row->name && *row->name) {
        fputs("<bdi>", out);
        html_text_most(out, row->name, 40);
        fputs("</bdi>", out);
    } else {
        fputs("<em>not given</em>", out);
    }
}

/* --- cells --- */

void report_write_count(int64_t count, FILE *out) {
    fputs(count ? "<td>" : "<td class=\"none\">", out);
    html_count(out, count);
    fputs("</td>", out);
}

static void decimal_cell(double value, int decimals, FILE *out) {
    fputs("<td>", out);
    html_decimal(out, value, decimals);
    fputs("</td>", out);
}

/* Time of audio; what a manifest does not tell is not made up. */
static void time_cell(const Tally *row, double unit, int decimals, FILE *out) {
    if (row->untimed == row->utterances)
        fputs("<td class=\"none\">–</td>", out);
    else
        decimal_cell(row->seconds / unit, decimals, out);
}

static void share_cell(int64_t part, int64_t whole, FILE *out) {
    double share = whole ? 100 * (double)part / (double)whole : 0;
    fprintf(out, "<td class=\"share\"><div><i style=\"width:%.2f%%\"></i></div><span>%.1f %%</span></td>", share,
            share);
}

static void name_head(const Tally *row, FILE *out) {
    fputs("<tr><th scope=\"row\">", out);
    report_write_name(out, row);
    fputs("</th>", out);
}

/* A table that scrolls by itself where the page is narrow. */
static void table_open(const char *caption, FILE *out) {
    fprintf(out,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"%s\"><table><caption>%s</caption>\n"
            "<thead><tr>",
            caption, caption);
}

static void column(const char *title, FILE *out) { fprintf(out, "<th scope=\"col\">%s</th>", title); }

static void text_column(const char *title, FILE *out) {
    fprintf(out, "<th scope=\"col\" class=\"text\">%s</th>", title);
}

static void table_body(FILE *out) { fputs("</tr></thead>\n<tbody>\n", out); }

static void table_close(FILE *out) { fputs("</tbody></table></div>\n", out); }

/* --- classes and corpora --- */

static void tally_cells(const Tally *row, const Tally *all, FILE *out) {
    for (int gender = 0; gender < GENDERS; gender++)
        if (all->gender[gender]) report_write_count(row->gender[gender], out);
    report_write_count(row->utterances, out);
    share_cell(row->utterances, all->utterances, out);
    report_write_count(row->speakers, out);
    time_cell(row, 3600, 2, out);
    decimal_cell(row->seconds / (double)(row->utterances - row->untimed), 2, out);
    fputs("</tr>\n", out);
}

static void write_tallies(const DataReport *report, Field field, const char *caption, FILE *out) {
    const Categories *categories = &report->census.by[field];
    const Tally *all = &report->census.all;
    table_open(caption, out);
    column(field == FIELD_CLASS ? "class" : "corpus", out);
    for (int gender = 0; gender < GENDERS; gender++)
        if (all->gender[gender]) column(gender == GENDER_UNKNOWN ? "gender unknown" : GENDER_NAMES[gender], out);
    column("utterances", out);
    column("share", out);
    column("speakers", out);
    column("hours", out);
    column("mean length, s", out);
    table_body(out);
    for (size_t row = 0; row < categories->count; row++) {
        name_head(&categories->rows[row], out);
        tally_cells(&categories->rows[row], all, out);
    }
    fputs("</tbody><tfoot><tr><th scope=\"row\">all</th>", out);
    tally_cells(all, all, out);
    fputs("</tfoot></table></div>\n", out);
}

static void write_untimed(const Tally *all, FILE *out) {
    if (!all->untimed) return;
    fputs("<p class=\"note\">Of ", out);
    html_count(out, all->untimed);
    fputs(" utterances the length is not known; hours and lengths are of the others.</p>\n", out);
}

/* --- speakers and groups, class by class --- */

static const char *gender_word(const Tally *row) {
    int found = 0, which = 0;
    for (int gender = 0; gender < GENDERS; gender++) {
        found += row->gender[gender] > 0;
        if (row->gender[gender]) which = gender;
    }
    return found == 1 ? GENDER_NAMES[which] : "mixed";
}

static void cross_row(const DataReport *report, Field field, size_t r, const int64_t *counts, FILE *out) {
    const Tally *row = &report->census.by[field].rows[r];
    name_head(row, out);
    if (report->census.by[FIELD_CORPUS].count > 1) {
        fputs("<td class=\"text\"><bdi>", out);
        html_text_most(out, row->corpus, 40);
        fputs("</bdi></td>", out);
    }
    if (field == FIELD_SPEAKER)
        fprintf(out, "<td class=\"text\">%s</td>", gender_word(row));
    else
        report_write_count(row->speakers, out);
    report_write_count(row->utterances, out);
    time_cell(row, 60, 1, out);
    size_t classes = report->census.by[FIELD_CLASS].count;
    for (size_t c = 0; c < classes; c++) report_write_count(counts[r * classes + c], out);
    fputs("</tr>\n", out);
}

static bool write_cross(const DataReport *report, Field field, const char *title, FILE *out, Error *err) {
    const Categories *rows = &report->census.by[field], *classes = &report->census.by[FIELD_CLASS];
    int64_t *counts = census_cross(rows, classes, report->set.count, err);
    if (!counts) return false;
    fprintf(out, "<details><summary>%s <small>", title);
    html_count(out, (int64_t)rows->distinct);
    fputs("</small></summary>\n", out);
    table_open("Utterances of each, and of each class", out);
    column(field == FIELD_SPEAKER ? "speaker" : "group", out);
    if (report->census.by[FIELD_CORPUS].count > 1) text_column("corpus", out);
    if (field == FIELD_SPEAKER)
        text_column("gender", out);
    else
        column("speakers", out);
    column("utterances", out);
    column("minutes", out);
    for (size_t c = 0; c < classes->count; c++) {
        fputs("<th scope=\"col\">", out);
        report_write_name(out, &classes->rows[c]);
        fputs("</th>", out);
    }
    table_body(out);
    for (size_t r = 0; r < rows->count; r++) cross_row(report, field, r, counts, out);
    table_close(out);
    fputs("</details>\n", out);
    free(counts);
    return true;
}

static bool write_people(const DataReport *report, FILE *out, Error *err) {
    const Census *census = &report->census;
    if (census->speakers_are_groups)
        return write_cross(report, FIELD_SPEAKER, "Speakers, each a group to hold out", out, err);
    return (!census->by[FIELD_SPEAKER].distinct || write_cross(report, FIELD_SPEAKER, "Speakers", out, err)) &&
           (!census->by[FIELD_GROUP].distinct || write_cross(report, FIELD_GROUP, "Groups to hold out", out, err));
}

/* --- annotation --- */

static void write_lacking(const Census *census, FILE *out) {
    static const char *const NAMES[WANTS] = {"class", "gender", "speaker", "group",       "transcript", "features",
                                             "pitch", "speed",  "volume",  "explanation", "teacher"};
    table_open("What is annotated, and what is lacking", out);
    column("annotation", out);
    column("present", out);
    column("lacking", out);
    column("complete", out);
    table_body(out);
    for (int want = 0; want < WANTS; want++) {
        int64_t lacking = census->lacking[want], all = census->all.utterances;
        fprintf(out, "<tr><th scope=\"row\">%s</th>", NAMES[want]);
        report_write_count(all - lacking, out);
        report_write_count(lacking, out);
        share_cell(all - lacking, all, out);
        fputs("</tr>\n", out);
    }
    table_close(out);
}

static void write_teachers(const Census *census, FILE *out) {
    const Categories *teachers = &census->by[FIELD_TEACHER];
    if (!teachers->distinct) return;
    table_open("Teachers: who wrote the explanations", out);
    column("teacher", out);
    column("utterances", out);
    column("share", out);
    table_body(out);
    for (size_t row = 0; row < teachers->count; row++) {
        name_head(&teachers->rows[row], out);
        report_write_count(teachers->rows[row].utterances, out);
        share_cell(teachers->rows[row].utterances, census->all.utterances, out);
        fputs("</tr>\n", out);
    }
    table_close(out);
}

bool report_write_census(const DataReport *report, FILE *out, Error *err) {
    fputs("<section id=\"census\"><h2>Census</h2>\n", out);
    write_tallies(report, FIELD_CLASS, "Utterances of each class", out);
    if (report->census.by[FIELD_CORPUS].count > 1)
        write_tallies(report, FIELD_CORPUS, "Utterances of each corpus", out);
    write_untimed(&report->census.all, out);
    bool done = write_people(report, out, err);
    fputs("<div class=\"pair\">\n", out);
    write_lacking(&report->census, out);
    write_teachers(&report->census, out);
    fputs("</div></section>\n", out);
    return done;
}
