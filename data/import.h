/* Corpora in their own layouts become manifests. Private to data/.
 *
 * An importer reads what a corpus says about itself and adds every utterance under the corpus's own label; what is
 * the same for all of them happens after it: labels become emotions by a label map, each recording is looked at,
 * and a census compares what was found with what was published. */
#ifndef SEMOLLM_DATA_IMPORT_H
#define SEMOLLM_DATA_IMPORT_H

#include "data/import_files.h"
#include "data/labels.h"
#include "data/manifest.h"

/* How often each of some texts was met, in the order of the first time. */
typedef struct Counted {
    char *text;
    size_t count;
} Counted;

typedef struct Counts {
    Counted *items;
    size_t count, capacity;
} Counts;

bool counts_add(Counts *counts, const char *text, Error *err);
void counts_free(Counts *counts);

/* A published count: of the utterances with one of `labels` ("hap+exc") in `group` (null: in the corpus). */
typedef struct Published {
    const char *group, *labels;
    size_t count;
} Published;

/* What an importer found of an utterance; texts that are unknown are null. */
typedef struct Found {
    const char *id;       /* after the importer's prefix */
    const char *corpus;   /* null: the importer's */
    const char *audio;    /* a path to open */
    const char *missing;  /* where there is no recording (audio is null): what was looked for */
    const char *left_out; /* why an utterance that was published stays out of the manifest */
    const char *speaker, *gender, *label, *transcript, *group;
    double start, end;
} Found;

typedef struct ImportItem {
    Utterance utterance; /* emotion: the corpus's label; audio: a path to open; json: keys of this corpus */
    char *missing;
    const char *left_out;
} ImportItem;

typedef struct Import {
    const char *corpus, *root;
    const char *prefix; /* of ids: "CORPUS-", or nothing for tables */
    ImportItem *items;
    size_t count, capacity;
    Counts left_out; /* reasons */
    Counts notes;    /* what is not as it should be with what was found */
} Import;

typedef struct Importer {
    const char *name;
    const char *root;   /* what ROOT is, for help and errors */
    const char *labels; /* the default label map; null: labels are emotions as they are */
    bool (*run)(Import *import, Error *err);
    const Published *published; /* ended by a count of 0; may be null */
    const char *audio_hint;     /* what to do where recordings are missing; may be null */
    bool table;                 /* ROOT is a file */
} Importer;

extern const Importer IMPORT_CASIA, IMPORT_CREMA_D, IMPORT_CSV, IMPORT_EMO_DB, IMPORT_ESD, IMPORT_IEMOCAP, IMPORT_M3ED,
    IMPORT_MELD, IMPORT_MSP_IMPROV, IMPORT_RAVDESS, IMPORT_SAVEE, IMPORT_TESS;

/* One more utterance. `extra` holds the keys that only this corpus has; import_add takes it over, and null says
 * that it could not be made (text that is not UTF-8). */
bool import_add(Import *import, const Found *found, json_t *extra, Error *err);

/* Calls `add` for every recording below the root, sorted by path. */
bool import_each_file(Import *import, bool (*add)(Import *import, const AudioFile *file, Error *err), Error *err);

/* What the whole makes of a corpus. */
typedef struct Imported {
    Manifest manifest;
    char *labels;           /* the file of the label map; null: none */
    double *seconds;        /* of each utterance */
    Counts left_out, notes; /* left_out: with those that labels and recordings left out */
    size_t found;           /* utterances that the corpus holds */
    Counts differences;     /* from the published counts, as sentences */
    size_t compared;        /* published counts that there are */
} Imported;

typedef struct ImportOptions {
    const char *root;
    const char *folder; /* of the manifest to be written */
    const char *labels; /* null: the importer's default */
    bool skip_bad;      /* recordings that cannot be read are listed on stderr and left out */
} ImportOptions;

bool import_corpus(const Importer *importer, const ImportOptions *options, Imported *imported, Error *err);
void imported_free(Imported *imported);

/* Utterances and hours by emotion, group and speaker; what was left out and why; the published counts. */
void import_census(const Imported *imported, FILE *out);

#endif
