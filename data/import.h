/* Corpora in their own layouts become manifests. Private to data/. */
#ifndef SEMOLLM_DATA_IMPORT_H
#define SEMOLLM_DATA_IMPORT_H

#include "data/manifest.h"

/* RAVDESS speech as published (or its audio as FLAC): Actor_NN/03-01-EMOTION-...-ACTOR.wav under `root`.
 * Songs are left out. Audio paths come out as manifests in `folder` write them. */
bool import_ravdess(const char *root, const char *folder, Manifest *manifest, Error *err);

/* A table with a header row: `audio` (relative to the table) and `emotion`, and any of id, speaker,
 * gender, transcript, group, start, end, corpus. */
bool import_csv(const char *table, const char *folder, Manifest *manifest, Error *err);

/* Ids must differ; `source` names what was imported. */
bool import_check_ids(const Manifest *manifest, const char *source, Error *err);

/* How many utterances, of which emotions, speakers and genders. */
void import_census(const Manifest *manifest, FILE *out);

#endif
