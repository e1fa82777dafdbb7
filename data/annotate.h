/* What a manifest gains before training: features, levels and explanations. */
#ifndef SEMOLLM_DATA_ANNOTATE_H
#define SEMOLLM_DATA_ANNOTATE_H

#include "data/levels.h"
#include "data/teach.h"

typedef struct AnnotateOptions {
    const char *output;        /* the manifest to write; beside it OUTPUT.partial while it is in the making */
    int levels;                /* 3 or 5 */
    Relative relative;         /* what levels are relative to */
    bool voice_quality;        /* measure it, too */
    bool keep_gender;          /* unknown where none is given: do not estimate it */
    int jobs;                  /* threads; 0: one per core */
    bool skip_bad;             /* leave unreadable recordings out and list them, instead of failing */
    bool remeasure;            /* features that the manifest holds already */
    uint64_t seed;             /* of the explanations' wording */
    const TeachOptions *teach; /* null: the template explains all */
    const atomic_bool *stop;   /* may be null; once it is set, annotate fails as soon as it can, to be called again */
} AnnotateOptions;

/* Measures every utterance that has no features yet (going on where a killed call was), finds levels by the manifest's
 * own cut points and explains each, by the template or a teacher. Prints cut points and what was left out to stderr. */
bool annotate(const char *path, const AnnotateOptions *options, Error *err);

/* The note of what has been measured, so that a killed annotation goes on: a first line that names the
 * manifest's bytes, then {"id", "features"} a line. */
typedef struct AnnotateJournal {
    char *path;
    FILE *stream;
    size_t resumed; /* utterances whose features it held */
} AnnotateJournal;

bool annotate_journal_open(AnnotateJournal *journal, Manifest *manifest, bool *measured, const char *output,
                           Error *err);
bool annotate_journal_add(AnnotateJournal *journal, const Utterance *utterance, Error *err);
void annotate_journal_close(AnnotateJournal *journal); /* the file stays */

#endif
