/* semollm import: a corpus in its own layout into a manifest. */
#include <stdlib.h>
#include <string.h>

#include "data/commands.h"
#include "data/import.h"

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool import_check_ids(const Manifest *manifest, const char *source, Error *err) {
    const char **ids = memory_new(manifest->count, sizeof *ids, err);
    if (!ids) return false;
    for (size_t i = 0; i < manifest->count; i++) ids[i] = manifest->items[i].id;
    qsort(ids, manifest->count, sizeof *ids, by_text);
    bool done = true;
    for (size_t i = 1; i < manifest->count && done; i++)
        if (strcmp(ids[i], ids[i - 1]) == 0)
            done = fail(err, "%s: two utterances have the id \"%.200s\"; is a part of the corpus there twice?", source,
                        ids[i]);
    free(ids);
    return done;
}

/* A line "TITLE: NAME count, ..." of one field's values. */
static void count_field(const Manifest *manifest, const char *title, size_t offset, const char **values, FILE *out) {
    for (size_t i = 0; i < manifest->count; i++) {
        const char *const *field = (const void *)((const char *)&manifest->items[i] + offset);
        values[i] = *field ? *field : "(unknown)";
    }
    qsort(values, manifest->count, sizeof *values, by_text);
    fprintf(out, "  %s:", title);
    for (size_t i = 0, first = 0, kinds = 0; i < manifest->count; i++) {
        if (i + 1 < manifest->count && strcmp(values[i], values[i + 1]) == 0) continue;
        fprintf(out, "%s %s %zu", kinds++ ? "," : "", values[i], i + 1 - first);
        first = i + 1;
    }
    fputc('\n', out);
}

void import_census(const Manifest *manifest, FILE *out) {
    const char **values = memory_new(manifest->count, sizeof *values, NULL);
    fprintf(out, "%zu utterances\n", manifest->count);
    if (!values) return;
    count_field(manifest, "emotion", offsetof(Utterance, emotion), values, out);
    count_field(manifest, "gender", offsetof(Utterance, gender), values, out);
    count_field(manifest, "speaker", offsetof(Utterance, speaker), values, out);
    free(values);
}

typedef struct Importer {
    const char *name;
    bool (*import)(const char *source, const char *folder, Manifest *manifest, Error *err);
} Importer;

static const Importer IMPORTERS[] = {{"ravdess", import_ravdess}, {"csv", import_csv}, {0}};

static const Importer *importer_named(const char *name, Error *err) {
    for (const Importer *importer = IMPORTERS; importer->name; importer++)
        if (strcmp(importer->name, name) == 0) return importer;
    fail_usage(err, "import: no corpus \"%s\"; there are ravdess and csv (a table of any corpus)", name);
    return NULL;
}

static bool import_to(const Importer *importer, const char *source, const char *output, Error *err) {
    Manifest manifest = {0};
    char *folder = path_folder(output, err);
    bool done = folder && folder_make(folder, err) && importer->import(source, folder, &manifest, err) &&
                manifest_write(&manifest, output, err);
    if (done) import_census(&manifest, stderr);
    manifest_free(&manifest);
    free(folder);
    return done;
}

bool command_import(int argc, char **argv, Error *err) {
    const char *output = NULL;
    const Option options[] = {{"output", 'o', OPTION_TEXT, &output, "M.jsonl", "the manifest to write"}, {0}};
    const Usage usage = {.command = "import",
                         .arguments = "CORPUS ROOT",
                         .summary = "Writes the manifest of a corpus and prints its census. CORPUS is `ravdess` (ROOT: "
                                    "the folder that holds Actor_01 .. Actor_24)\nor `csv` (ROOT: a table whose header "
                                    "names audio and emotion, and may name id, speaker, gender,\ntranscript, group, "
                                    "start, end, corpus; paths are relative to the table).",
                         .options = options,
                         .least = 2,
                         .most = 2};
    Texts arguments = {0};
    bool help = false, done = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help) {
        const Importer *importer = importer_named(arguments.items[0], err);
        if (!importer) {
            done = false;
        } else if (!output) {
            done = fail_usage(err, "import: give the manifest to write with -o M.jsonl");
        } else {
            done = import_to(importer, arguments.items[1], output, err);
        }
    }
    texts_free(&arguments);
    return done;
}
