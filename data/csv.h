/* Tables by RFC 4180: comma-separated, quoted fields may hold commas, line breaks and doubled quotes. */
#ifndef SEMOLLM_DATA_CSV_H
#define SEMOLLM_DATA_CSV_H

#include "base/base.h"

typedef struct CsvRow {
    size_t line; /* where it begins, from 1 */
    char **cells;
    size_t count, capacity;
} CsvRow;

typedef struct Csv {
    const char *name; /* for errors */
    char *text, *at;
    size_t line;
    char **columns; /* the header's names */
    size_t column_count;
} Csv;

/* Reads the header row; names must differ, and be given unless `unnamed` columns are passed over. */
bool csv_open(Csv *csv, const char *path, bool unnamed, Error *err);
void csv_close(Csv *csv);

/* The next row that is not blank, with as many cells as columns; *more is false past the last. Cells
 * live as long as `csv`. Free with csv_row_free after the last. */
bool csv_next(Csv *csv, CsvRow *row, bool *more, Error *err);
void csv_row_free(CsvRow *row);

/* Whether the columns (ended by null) are all there; the error names the first that is not. */
bool csv_has(const Csv *csv, const char *const *columns, Error *err);

/* The cell under a column's name; null where there is no such column or the cell is empty. */
const char *csv_cell(const Csv *csv, const CsvRow *row, const char *column);

#endif
