/* Recordings of a corpus: its folders walked, and recordings found by name. Private to data/. */
#ifndef SEMOLLM_DATA_IMPORT_FILES_H
#define SEMOLLM_DATA_IMPORT_FILES_H

#include "base/base.h"

typedef struct AudioFile {
    char *path; /* to open */
    char *stem; /* the name without folders and .wav or .flac */
} AudioFile;

/* Every .wav and .flac (in any case) below a folder, sorted by path; names that begin with a dot, which file systems
 * leave beside the data, are not looked at. */
typedef struct AudioFiles {
    AudioFile *items;
    size_t count, capacity;
    size_t *by_stem;    /* indexes, sorted by stem */
    size_t root_length; /* of the path that was walked */
} AudioFiles;

bool audio_files_open(AudioFiles *files, const char *root, Error *err);
void audio_files_close(AudioFiles *files);

/* The recording of a stem; where `folders` (ended by null) are given, below one that has one of these names, in any
 * case. Null where there is none. Two that differ in more than .wav and .flac are an error. */
bool audio_files_find(const AudioFiles *files, const char *stem, const char *const *folders, const char **path,
                      Error *err);

/* The folder's name `level` folders above a file (1: the one it lies in); "" where there is none; free() it. */
char *path_above(const char *path, int level, Error *err);

/* FOLDER/STEM.wav or .flac, in either case; null where there is none, or without memory. */
char *audio_beside(const char *folder, const char *stem, Error *err);

/* The path of `name` in `folder`, whatever its case there; null where there is none. */
char *file_any_case(const char *folder, const char *name, Error *err);

#endif
