/* The census of an imported corpus: tables of utterances and hours. */
#include <stdlib.h>
#include <string.h>

#include "data/import.h"

enum { ROW_LIMIT = 100, COLUMN_LIMIT = 16, NAME_WIDTH = 24, LONG_CLIP = 30 };

/* A name as it may be printed: what would break the line or steer a terminal becomes a "?". */
typedef struct Printable {
    char text[200];
} Printable;

static Printable printable(const char *name) {
    Printable made;
    snprintf(made.text, sizeof made.text, "%s", name);
    for (char *c = made.text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == '\x7f') *c = '?';
    return made;
}

typedef struct Tally {
    const char *name; /* null: the whole */
    size_t count, female, male;
    double seconds;
    size_t *classes; /* [class_count]; null in a plain table */
} Tally;

typedef struct Table {
    const Imported *imported;
    const char **classes; /* emotions, sorted: columns */
    size_t class_count;
    bool plain; /* without those columns */
    FILE *out;
} Table;

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static const char *field(const Utterance *u, size_t offset) {
    const char *text = *(char *const *)(const void *)((const char *)u + offset);
    return text ? text : "(unknown)";
}

/* The distinct values of a field, sorted, to be freed; null without memory. */
static const char **values_of(const Manifest *manifest, size_t offset, size_t *count) {
    const char **values = memory_new(manifest->count, sizeof *values, NULL);
    *count = 0;
    if (!values) return NULL;
    for (size_t i = 0; i < manifest->count; i++) values[i] = field(&manifest->items[i], offset);
    qsort(values, manifest->count, sizeof *values, by_text);
    for (size_t i = 0; i < manifest->count; i++)
        if (i == 0 || strcmp(values[i], values[*count - 1]) != 0) values[(*count)++] = values[i];
    return values;
}

static size_t place_of(const char *const *values, size_t count, const char *value) {
    const char *const *found = bsearch(&value, values, count, sizeof *values, by_text);
    return found ? (size_t)(found - values) : 0;
}

static void tally_add(const Table *table, Tally *tally, size_t i) {
    const Utterance *u = &table->imported->manifest.items[i];
    tally->count++;
    tally->seconds += table->imported->seconds[i];
    tally->female += u->gender && strcmp(u->gender, "female") == 0;
    tally->male += u->gender && strcmp(u->gender, "male") == 0;
    if (tally->classes)
        tally->classes[place_of(table->classes, table->class_count, field(u, offsetof(Utterance, emotion)))]++;
}

static void print_head(const Table *table, const char *title) {
    fprintf(table->out, "%-*s %7s %7s %7s %7s", NAME_WIDTH, title, "all", "hours", "female", "male");
    for (size_t c = 0; !table->plain && c < table->class_count; c++)
        fprintf(table->out, " %10.10s", printable(table->classes[c]).text);
    fputc('\n', table->out);
}

static void print_row(const Table *table, const Tally *tally) {
    fprintf(table->out, "  %-*s %7zu %7.2f %7zu %7zu", NAME_WIDTH - 2, printable(tally->name).text, tally->count,
            tally->seconds / 3600, tally->female, tally->male);
    for (size_t c = 0; !table->plain && c < table->class_count; c++) fprintf(table->out, " %10zu", tally->classes[c]);
    fputc('\n', table->out);
}

/* One row a value of a field; past ROW_LIMIT only how many more there are. */
static void print_table(const Table *table, const char *title, size_t offset) {
    const Manifest *manifest = &table->imported->manifest;
    size_t count;
    const char **values = values_of(manifest, offset, &count);
    Tally *rows = memory_new(values ? count : 0, sizeof *rows, NULL);
    size_t columns = table->plain ? 0 : table->class_count;
    size_t *cells = memory_new(values ? count * columns : 0, sizeof *cells, NULL);
    if (values && rows && cells) {
        for (size_t r = 0; r < count; r++)
            rows[r] = (Tally){.name = values[r], .classes = columns ? cells + r * columns : NULL};
        for (size_t i = 0; i < manifest->count; i++)
            tally_add(table, &rows[place_of(values, count, field(&manifest->items[i], offset))], i);
        print_head(table, title);
        for (size_t r = 0; r < count && r < ROW_LIMIT; r++) print_row(table, &rows[r]);
        if (count > ROW_LIMIT) fprintf(table->out, "  and %zu more\n", count - ROW_LIMIT);
    }
    free(values);
    free(rows);
    free(cells);
}

static bool groups_are_speakers(const Manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++)
        if (strcmp(field(&manifest->items[i], offsetof(Utterance, group)),
                   field(&manifest->items[i], offsetof(Utterance, speaker))) != 0)
            return false;
    return true;
}

static void print_lengths(const Imported *imported, FILE *out) {
    size_t longest = 0, count = 0;
    for (size_t i = 0; i < imported->manifest.count; i++) {
        if (imported->seconds[i] > imported->seconds[longest]) longest = i;
        count += imported->seconds[i] > LONG_CLIP;
    }
    fprintf(out, "longest: %.1f s (%s)", imported->seconds[longest],
            printable(imported->manifest.items[longest].id).text);
    if (count) fprintf(out, "; %zu are longer than %d s", count, LONG_CLIP);
    fputc('\n', out);
}

static void print_counts(const char *title, const Counts *counts, FILE *out) {
    for (size_t i = 0; i < counts->count; i++)
        fprintf(out, "%s%zu %s%s", i ? ", " : title, counts->items[i].count, printable(counts->items[i].text).text,
                i + 1 == counts->count ? "\n" : "");
}

static void print_published(const Imported *imported, FILE *out) {
    if (!imported->compared) return;
    if (!imported->differences.count) {
        fprintf(out, "published counts: all %zu are met\n", imported->compared);
        return;
    }
    fprintf(out, "published counts: %zu of %zu differ\n", imported->differences.count, imported->compared);
    for (size_t i = 0; i < imported->differences.count; i++)
        fprintf(out, "  %s\n", imported->differences.items[i].text);
}

void import_census(const Imported *imported, FILE *out) {
    const Manifest *manifest = &imported->manifest;
    Table table = {.imported = imported, .out = out};
    double seconds = 0;
    for (size_t i = 0; i < manifest->count; i++) seconds += imported->seconds[i];
    fprintf(out, "%zu utterances of %zu found, %.2f hours%s%s\n", manifest->count, imported->found, seconds / 3600,
            imported->labels ? "; labels of " : "", imported->labels ? imported->labels : "");
    table.classes = values_of(manifest, offsetof(Utterance, emotion), &table.class_count);
    if (table.classes) {
        table.plain = true;
        print_table(&table, "emotion", offsetof(Utterance, emotion));
        table.plain = table.class_count > COLUMN_LIMIT;
        bool same = groups_are_speakers(manifest);
        if (!same) print_table(&table, "group", offsetof(Utterance, group));
        print_table(&table, same ? "speaker and group" : "speaker", offsetof(Utterance, speaker));
    }
    free(table.classes);
    print_lengths(imported, out);
    print_counts("left out: ", &imported->left_out, out);
    print_counts("note: ", &imported->notes, out);
    print_published(imported, out);
}
