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
    char *tables_folder;
    const char *folder; /* of the manifest to be written */
} Table;

static bool known(const char *column) {
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (strcmp(COLUMNS[i], column) == 0) return true;
    return false;
}

static bool check_columns(const Csv *csv, Error *err) {
    for (int i = 0; i < 2; i++) { /* audio and emotion */
        size_t k = 0;
        while (k < csv->column_count && strcmp(csv->columns[k], COLUMNS[i]) != 0) k++;
        if (k == csv->column_count)
            return fail(err,
                        "%s line 1: there is no column \"%s\"; the header must name audio and emotion, and may "
                        "name id, speaker, gender, transcript, group, start, end and corpus",
                        csv->name, COLUMNS[i]);
    }
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

static bool copy_cell(const Table *table, const char *column, char **text, Error *err) {
    const char *cell = csv_cell(&table->csv, &table->row, column);
    return !cell || (*text = text_copy(cell, err)) != NULL;
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

static bool read_cut(const Table *table, Utterance *utterance, Error *err) {
    if (!read_seconds(table, "start", &utterance->start, err) || !read_seconds(table, "end", &utterance->end, err))
        return false;
    if (utterance->end != 0 && utterance->end <= utterance->start)
        return fail_cell(table, "end", "must lie after start", err);
    return true;
}

static bool read_gender(const Table *table, Utterance *utterance, Error *err) {
    static const char *const WORDS[][2] = {{"female", "female"}, {"f", "female"}, {"woman", "female"},
                                           {"male", "male"},     {"m", "male"},   {"man", "male"}};
    const char *cell = csv_cell(&table->csv, &table->row, "gender");
    if (!cell || strcasecmp(cell, "unknown") == 0) return true;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (strcasecmp(cell, WORDS[i][0]) == 0) return (utterance->gender = text_copy(WORDS[i][1], err)) != NULL;
    return fail_cell(table, "gender", "must be female or male, or empty where unknown", err);
}

static bool read_audio(const Table *table, Utterance *utterance, Error *err) {
    const char *cell = csv_cell(&table->csv, &table->row, "audio");
    if (!cell) return fail_cell(table, "audio", "must name a recording", err);
    char *path = path_join(table->tables_folder, cell, err);
    if (!path) return false;
    bool done = file_exists(path) ||
                fail_cell(table, "audio", "must name a recording that exists (relative to the table)", err);
    if (done) utterance->audio = audio_relative(path, table->folder, err);
    free(path);
    return done && utterance->audio;
}

/* The id of a row that gives none: its audio path without the extension, and where a cut begins. */
static bool make_id(const Table *table, Utterance *utterance, Error *err) {
    if (!copy_cell(table, "id", &utterance->id, err)) return false;
    if (utterance->id) return true;
    const char *audio = csv_cell(&table->csv, &table->row, "audio");
    const char *dot = strrchr(audio, '.'), *slash = strrchr(audio, '/');
    size_t length = dot && (!slash || dot > slash) ? (size_t)(dot - audio) : strlen(audio);
    Text id = {0};
    text_add(&id, audio, length);
    if (utterance->start > 0 || utterance->end > 0) text_addf(&id, "_%g", utterance->start);
    utterance->id = text_finish(&id, err);
    return utterance->id != NULL;
}

static bool fill(const Table *table, Utterance *utterance, Error *err) {
    if (!csv_cell(&table->csv, &table->row, "emotion"))
        return fail_cell(table, "emotion", "must name the utterance's emotion", err);
    if (!read_audio(table, utterance, err) || !read_cut(table, utterance, err) || !read_gender(table, utterance, err) ||
        !make_id(table, utterance, err) || !copy_cell(table, "emotion", &utterance->emotion, err) ||
        !copy_cell(table, "speaker", &utterance->speaker, err) ||
        !copy_cell(table, "transcript", &utterance->transcript, err) ||
        !copy_cell(table, "corpus", &utterance->corpus, err) ||
        !copy_cell(table, csv_cell(&table->csv, &table->row, "group") ? "group" : "speaker", &utterance->group, err))
        return false;
    if (!utterance->corpus && !(utterance->corpus = text_copy("unknown", err))) return false;
    if (utterance_sync(utterance, err)) return true;
    return fail_in(err, "%s line %zu", table->csv.name, table->row.line);
}

static bool read_rows(Table *table, Manifest *manifest, Error *err) {
    bool more = true;
    while (csv_next(&table->csv, &table->row, &more, err) && more) {
        Utterance *utterance = manifest_add(manifest, err);
        if (!utterance || !fill(table, utterance, err)) return false;
    }
    if (more) return false; /* csv_next failed */
    return manifest->count || fail(err, "%s: has a header but no row", table->csv.name);
}

bool import_csv(const char *path, const char *folder, Manifest *manifest, Error *err) {
    Table table = {.folder = folder};
    if (!csv_open(&table.csv, path, err)) return false;
    table.tables_folder = path_folder(path, err);
    bool done = table.tables_folder && check_columns(&table.csv, err) && read_rows(&table, manifest, err) &&
                import_check_ids(manifest, path, err);
    free(table.tables_folder);
    csv_row_free(&table.row);
    csv_close(&table.csv);
    return done;
}
