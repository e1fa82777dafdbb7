/* A table with a header row: `audio` (relative to the table) and `emotion`, and any of id, speaker, gender, transcript,
 * group, start, end, corpus. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/csv.h"
#include "data/import.h"

static const char *const COLUMNS[] = {"audio",      "emotion", "id",    "speaker", "gender",
                                      "transcript", "group",   "start", "end",     "corpus"};
enum { COLUMN_COUNT = sizeof COLUMNS / sizeof *COLUMNS };

typedef struct Table {
    Csv csv;
    CsvRow row;
    char *folder; /* of the table */
} Table;

static bool known(const char *column) {
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (strcmp(COLUMNS[i], column) == 0) return true;
    return false;
}

static bool check_columns(const Csv *csv, Error *err) {
    if (!csv_has(csv, (const char *const[]){"audio", "emotion", NULL}, err))
        return fail_in(err, "the header must name audio and emotion, and may name id, speaker, gender, transcript, "
                            "group, start, end and corpus");
    for (size_t k = 0; k < csv->column_count; k++)
        if (!known(csv->columns[k])) fprintf(stderr, "%s: column \"%s\" is not used\n", csv->name, csv->columns[k]);
    return true;
}

/* Fails with the row's line and the column. */
static bool fail_cell(const Table *table, const char *column, const char *why, Error *err) {
    const char *cell = csv_cell(&table->csv, &table->row, column);
    return fail(err, "%s line %zu, column %s: %s, found \"%.80s\"", table->csv.name, table->row.line, column, why,
                cell ? cell : "");
}

static bool read_seconds(const Table *table, const char *column, double *seconds, Error *err) {
    const char *cell = csv_cell(&table->csv, &table->row, column);
    if (!cell) return true;
    char *end;
    *seconds = strtod(cell, &end);
    if (end == cell || *end || !isfinite(*seconds) || *seconds < 0)
        return fail_cell(table, column, "must be seconds, 0 or more", err);
    return true;
}

static bool read_cut(const Table *table, Found *found, Error *err) {
    if (!read_seconds(table, "start", &found->start, err) || !read_seconds(table, "end", &found->end, err))
        return false;
    if (found->end != 0 && found->end <= found->start) return fail_cell(table, "end", "must lie after start", err);
    return true;
}

static bool read_gender(const Table *table, Found *found, Error *err) {
    static const char *const WORDS[][2] = {{"female", "female"}, {"f", "female"}, {"woman", "female"},
                                           {"male", "male"},     {"m", "male"},   {"man", "male"}};
    const char *cell = csv_cell(&table->csv, &table->row, "gender");
    if (!cell || strcasecmp(cell, "unknown") == 0) return true;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (strcasecmp(cell, WORDS[i][0]) == 0) {
            found->gender = WORDS[i][1];
            return true;
        }
    return fail_cell(table, "gender", "must be female or male, or empty where unknown", err);
}

/* The id of a row that gives none: its audio path without the extension, and where a cut begins. */
static char *make_id(const Table *table, const Found *found, Error *err) {
    const char *id = csv_cell(&table->csv, &table->row, "id"), *audio = csv_cell(&table->csv, &table->row, "audio");
    if (id) return text_copy(id, err);
    const char *dot = strrchr(audio, '.'), *slash = strrchr(audio, '/');
    size_t length = dot && (!slash || dot > slash) ? (size_t)(dot - audio) : strlen(audio);
    Text made = {0};
    text_add(&made, audio, length);
    if (found->start > 0 || found->end > 0) text_addf(&made, "_%g", found->start);
    return text_finish(&made, err);
}

static bool fill(const Table *table, Found *found, Error *err) {
    if (!csv_cell(&table->csv, &table->row, "audio")) return fail_cell(table, "audio", "must name a recording", err);
    found->label = csv_cell(&table->csv, &table->row, "emotion");
    if (!found->label) return fail_cell(table, "emotion", "must name the utterance's emotion", err);
    found->corpus = csv_cell(&table->csv, &table->row, "corpus");
    found->speaker = csv_cell(&table->csv, &table->row, "speaker");
    found->transcript = csv_cell(&table->csv, &table->row, "transcript");
    found->group = csv_cell(&table->csv, &table->row, "group");
    if (!found->group) found->group = found->speaker;
    return read_cut(table, found, err) && read_gender(table, found, err);
}

static bool add_row(const Table *table, Import *import, Error *err) {
    Found found = {0};
    Error none = {0};
    if (!fill(table, &found, err)) return false;
    fail_cell(table, "audio", "must name a recording that exists (relative to the table)", &none);
    char *id = make_id(table, &found, err);
    char *path = path_join(table->folder, csv_cell(&table->csv, &table->row, "audio"), err);
    found.id = id;
    found.audio = path && file_exists(path) ? path : NULL;
    found.missing = none.text;
    bool done = id && path && import_add(import, &found, json_object(), err);
    free(id);
    free(path);
    return done || fail_in(err, "%s line %zu", table->csv.name, table->row.line);
}

static bool read_rows(Table *table, Import *import, Error *err) {
    bool more = true;
    while (csv_next(&table->csv, &table->row, &more, err) && more)
        if (!add_row(table, import, err)) return false;
    if (more) return false; /* csv_next failed */
    return import->count || fail(err, "%s: has a header but no row", table->csv.name);
}

static bool run(Import *import, Error *err) {
    Table table = {0};
    if (!csv_open(&table.csv, import->root, false, err)) return false;
    table.folder = path_folder(import->root, err);
    bool done = table.folder && check_columns(&table.csv, err) && read_rows(&table, import, err);
    free(table.folder);
    csv_row_free(&table.row);
    csv_close(&table.csv);
    return done;
}

const Importer IMPORT_CSV = {.name = "csv",
                             .root = "a table whose header names audio and emotion, and may name id, speaker, gender,\n"
                                     "              transcript, group, start, end, corpus; paths are relative to it",
                             .run = run,
                             .table = true};
