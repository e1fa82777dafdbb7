#include "data/csv.h"

#include <stdlib.h>
#include <string.h>

static const size_t FILE_LIMIT = (size_t)4 << 30;

/* One cell at csv->at, unquoted in place; *last is set where it ends its row. */
static bool read_cell(Csv *csv, char **cell, bool *last, Error *err) {
    char *from = csv->at, *to = csv->at;
    *cell = to;
    if (*from == '"') {
        size_t began = csv->line;
        for (from++; *from != '"' || from[1] == '"'; *to++ = *from++) {
            if (*from == '\0') return fail(err, "%s line %zu: a quoted field is never closed", csv->name, began);
            if (*from == '"') from++;
            csv->line += *from == '\n';
        }
        from++;
        if (*from && !strchr(",\r\n", *from))
            return fail(err, "%s line %zu: expected a comma or the line's end after a closing quote, found \"%.10s\"",
                        csv->name, csv->line, from);
    } else {
        from += strcspn(from, ",\r\n\"");
        if (*from == '"')
            return fail(err, "%s line %zu: a quote inside an unquoted field; quote the field and double the quote",
                        csv->name, csv->line);
        to = from;
    }
    *last = *from != ',';
    if (from[0] == '\r' && from[1] == '\n') from++;
    csv->line += *from == '\n' || *from == '\r';
    csv->at = *from ? from + 1 : from;
    *to = '\0';
    return true;
}

static bool read_row(Csv *csv, CsvRow *row, Error *err) {
    row->line = csv->line;
    row->count = 0;
    for (bool last = false; !last; row->count++)
        if (!memory_grow(&row->cells, row->count, &row->capacity, sizeof *row->cells, err) ||
            !read_cell(csv, &row->cells[row->count], &last, err))
            return false;
    return true;
}

static bool blank(const CsvRow *row) { return row->count == 1 && !*row->cells[0]; }

bool csv_next(Csv *csv, CsvRow *row, bool *more, Error *err) {
    do {
        *more = *csv->at != '\0';
        if (!*more) return true;
        if (!read_row(csv, row, err)) return false;
    } while (blank(row));
    if (row->count != csv->column_count)
        return fail(err, "%s line %zu: expected %zu columns as in the header, found %zu", csv->name, row->line,
                    csv->column_count, row->count);
    return true;
}

void csv_row_free(CsvRow *row) {
    free(row->cells);
    *row = (CsvRow){0};
}

static bool read_header(Csv *csv, bool unnamed, Error *err) {
    CsvRow row = {0};
    bool done = *csv->at ? read_row(csv, &row, err)
                         : fail(err, "%s: is empty; the first line must name the columns", csv->name);
    csv->columns = row.cells;
    csv->column_count = row.count;
    for (size_t i = 0; i < row.count && done; i++) {
        if (!*row.cells[i]) done = unnamed || fail(err, "%s line 1: column %zu has no name", csv->name, i + 1);
        for (size_t k = 0; k < i && done && *row.cells[i]; k++)
            if (strcmp(row.cells[i], row.cells[k]) == 0)
                done = fail(err, "%s line 1: the column \"%.60s\" is there twice", csv->name, row.cells[i]);
    }
    return done;
}

bool csv_open(Csv *csv, const char *path, bool unnamed, Error *err) {
    size_t size = 0;
    *csv = (Csv){.name = path, .line = 1, .text = file_read(path, FILE_LIMIT, &size, err)};
    if (!csv->text) return false;
    csv->at = csv->text;
    bool done = memchr(csv->text, '\0', size) == NULL || fail(err, "%s: holds NUL bytes; it is not a text file", path);
    if (size >= 3 && memcmp(csv->at, "\xEF\xBB\xBF", 3) == 0) csv->at += 3; /* a byte order mark */
    done = done && read_header(csv, unnamed, err);
    if (!done) csv_close(csv);
    return done;
}

void csv_close(Csv *csv) {
    free(csv->columns);
    free(csv->text);
    *csv = (Csv){0};
}

bool csv_has(const Csv *csv, const char *const *columns, Error *err) {
    for (; *columns; columns++) {
        size_t k = 0;
        while (k < csv->column_count && strcmp(csv->columns[k], *columns) != 0) k++;
        if (k == csv->column_count) return fail(err, "%s line 1: there is no column \"%s\"", csv->name, *columns);
    }
    return true;
}

const char *csv_cell(const Csv *csv, const CsvRow *row, const char *column) {
    for (size_t i = 0; i < csv->column_count; i++)
        if (strcmp(csv->columns[i], column) == 0) return *row->cells[i] ? row->cells[i] : NULL;
    return NULL;
}
