/* Files and folders. Whatever is written appears whole or not at all: into a temporary name beside
 * the target, fsync, rename, fsync of the folder. */
#ifndef SEMOLLM_BASE_FILE_H
#define SEMOLLM_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* Reads a whole file of at most `limit` bytes into memory with a null after it; free() it. */
char *file_read(const char *path, size_t limit, size_t *size, Error *err);

/* A read-only mapping; size 0 maps to a null pointer and is no error. */
typedef struct FileMap {
    const unsigned char *data;
    size_t size;
} FileMap;

bool file_map(FileMap *map, const char *path, Error *err);
void file_unmap(FileMap *map);

/* A file in the making: write to `stream`, then commit or discard. Every write error up to and
 * including fsync fails the commit, and the target is then untouched. Discarding after a commit,
 * or a zeroed AtomicFile, does nothing. */
typedef struct AtomicFile {
    FILE *stream;
    char *path, *temporary;
} AtomicFile;

bool atomic_open(AtomicFile *file, const char *path, Error *err);
bool atomic_commit(AtomicFile *file, Error *err);
void atomic_discard(AtomicFile *file);
bool file_write(const char *path, const void *data, size_t size, Error *err); /* atomic */

/* A folder in the making, for things made of several files (checkpoints): `temporary` is a fresh
 * folder beside `path`; commit fsyncs it and renames it to `path`, which must not exist. */
typedef struct AtomicFolder {
    char *path, *temporary;
} AtomicFolder;

bool atomic_folder_open(AtomicFolder *folder, const char *path, Error *err);
bool atomic_folder_commit(AtomicFolder *folder, Error *err);
void atomic_folder_discard(AtomicFolder *folder);

bool file_exists(const char *path);
bool folder_exists(const char *path);
bool folder_make(const char *path, Error *err);   /* with its parents; an existing one is fine */
bool folder_remove(const char *path, Error *err); /* with all it holds; a missing one is fine */

/* Names in a folder, sorted bytewise, without "." and ".."; free with names_free. */
typedef struct Names {
    char **items;
    size_t count;
} Names;

bool folder_list(const char *path, Names *names, Error *err);
void names_free(Names *names);

char *path_join(const char *folder, const char *name, Error *err); /* an absolute name stands alone */
char *path_folder(const char *path, Error *err);                   /* "." where there is none */

/* `folder` or, where that is null, the user's: $XDG_CACHE_HOME/semollm, or ~/.cache/semollm. `key`: the config's or the
 * option's name for it, which the error of a machine without a home names. free() it. */
char *cache_folder(const char *folder, const char *key, Error *err);

#endif
