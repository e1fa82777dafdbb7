/* Utterances and the manifests (JSONL, one a line) that hold them. */
#ifndef SEMOLLM_DATA_MANIFEST_H
#define SEMOLLM_DATA_MANIFEST_H

#include "base/base.h"
#include "data/features.h"

typedef struct Utterance {
    char *id, *corpus, *audio;                             /* audio: path, relative to the manifest's folder */
    double start, end;                                     /* seconds; end 0: to the end */
    char *speaker, *gender, *emotion, *transcript, *group; /* null where unknown */
    bool has_features;
    Features features;
    char *explanation, *teacher; /* null before annotation */
    json_t *json;                /* the whole line, unknown keys included */
} Utterance;

typedef struct Manifest {
    char *path, *folder;
    Utterance *items;
    size_t count, capacity;
} Manifest;

/* Every line is checked: types, unique ids, gender "female" or "male" or absent. Errors name the line. */
bool manifest_read(Manifest *manifest, const char *path, Error *err);
bool manifest_write(const Manifest *manifest, const char *path, Error *err); /* atomic */
void manifest_free(Manifest *manifest);

/* Room for one more utterance, all null; null without memory. Fill it and it is part of the manifest. */
Utterance *manifest_add(Manifest *manifest, Error *err);

/* Audio paths are relative to a manifest's folder. manifest_audio gives the path to open;
 * audio_relative how `audio` (a path to open) is written in a manifest in `folder`. free() both. */
char *manifest_audio(const Manifest *manifest, const Utterance *utterance, Error *err);
char *audio_relative(const char *audio, const char *folder, Error *err);

/* One utterance from and to its JSON object; `where` is for errors ("m.jsonl line 7"). utterance_sync
 * writes the struct's fields back into `json`. */
bool utterance_parse(Utterance *utterance, json_t *json, const char *where, Error *err);
bool utterance_sync(Utterance *utterance, Error *err);
void utterance_free(Utterance *utterance);

/* The order of speakers: by corpus, then by name; null first. */
int speaker_compare(const char *corpus_a, const char *a, const char *corpus_b, const char *b);

#endif
