/* semollm import: a corpus in its own layout into a manifest. */
#include <stdlib.h>
#include <string.h>

#include "data/commands.h"
#include "data/import.h"

static const Importer *const IMPORTERS[] = {&IMPORT_IEMOCAP, &IMPORT_MSP_IMPROV, &IMPORT_RAVDESS, &IMPORT_CREMA_D,
                                            &IMPORT_EMO_DB,  &IMPORT_MELD,       &IMPORT_ESD,     &IMPORT_CASIA,
                                            &IMPORT_SAVEE,   &IMPORT_TESS,       &IMPORT_M3ED,    &IMPORT_CSV};
enum { IMPORTER_COUNT = sizeof IMPORTERS / sizeof *IMPORTERS };

static const Importer *importer_named(const char *name, Error *err) {
    Text names = {0};
    for (int i = 0; i < IMPORTER_COUNT; i++) {
        if (strcmp(IMPORTERS[i]->name, name) == 0) {
            text_free(&names);
            return IMPORTERS[i];
        }
        text_addf(&names, "%s%s", i ? ", " : "", IMPORTERS[i]->name);
    }
    char *list = text_finish(&names, err);
    if (list) fail_usage(err, "import: no corpus \"%s\"; there are %s (a table of any corpus)", name, list);
    free(list);
    return NULL;
}

static bool import_to(const Importer *importer, ImportOptions *options, const char *output, Error *err) {
    Imported imported = {0};
    char *folder = path_folder(output, err);
    options->folder = folder;
    bool done = folder && folder_make(folder, err) && import_corpus(importer, options, &imported, err) &&
                manifest_write(&imported.manifest, output, err);
    if (done) import_census(&imported, stderr);
    imported_free(&imported);
    free(folder);
    return done;
}

/* The help's paragraph: what ROOT is for each corpus. */
static char *summary(Error *err) {
    Text text = {0};
    text_add_string(&text,
                    "Writes the manifest of a corpus and prints its census: utterances and hours by emotion, group "
                    "and speaker,\nwhat was left out and why, and where it differs from the published counts. "
                    "Recordings are .wav or .flac.\n\nCORPUS and its ROOT:\n");
    for (int i = 0; i < IMPORTER_COUNT; i++)
        text_addf(&text, "  %-11s %s%s%s\n", IMPORTERS[i]->name, IMPORTERS[i]->root,
                  IMPORTERS[i]->labels ? "; labels " : "", IMPORTERS[i]->labels ? IMPORTERS[i]->labels : "");
    for (int i = 0; i < IMPORTER_COUNT; i++)
        if (IMPORTERS[i]->audio_hint) text_addf(&text, "%s\n", IMPORTERS[i]->audio_hint);
    text.length -= text.length > 0; /* the last line break */
    return text_finish(&text, err);
}

bool command_import(int argc, char **argv, Error *err) {
    const char *output = NULL;
    ImportOptions import = {0};
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &output, "M.jsonl", "the manifest to write"},
        {"labels", 0, OPTION_TEXT, &import.labels, "MAP", "label map: a name or file of configs/labels"},
        {"skip-bad", 0, OPTION_FLAG, &import.skip_bad, NULL, "list missing and damaged recordings and go on"},
        {0}};
    char *text = summary(err);
    const Usage usage = {
        .command = "import", .arguments = "CORPUS ROOT", .summary = text, .options = options, .least = 2, .most = 2};
    Texts arguments = {0};
    bool help = false, done = text && options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help) {
        const Importer *importer = importer_named(arguments.items[0], err);
        import.root = arguments.items[1];
        done = importer && (output || fail_usage(err, "import: give the manifest to write with -o M.jsonl")) &&
               import_to(importer, &import, output, err);
    }
    texts_free(&arguments);
    free(text);
    return done;
}
