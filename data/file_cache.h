/* A folder of files fetched from elsewhere, bounded in bytes: the least recently used go first. Threads and processes
 * may share it: each file is fetched once, by whoever asks first, while others wait; a file may go while it is read,
 * its reader holds it open. A process that is killed leaves at most a part, which goes when another needs the room. */
#ifndef SEMOLLM_DATA_FILE_CACHE_H
#define SEMOLLM_DATA_FILE_CACHE_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct FileCache {
    char *folder;
    int64_t limit; /* bytes */
} FileCache;

typedef struct CacheItem {
    const char *group; /* a subfolder: 16 hexadecimal digits; nothing else in the folder is ever touched */
    const char *name;
    int64_t bytes;
    /* Writes all of it to the empty file `fd`, and checks it. */
    bool (*fetch)(void *context, int fd, Error *err);
    void *context;
    const atomic_bool *stop; /* ends a wait for other fetches; may be null */
} CacheItem;

bool file_cache_open(FileCache *cache, const char *folder, int64_t limit, Error *err);
void file_cache_close(FileCache *cache);

/* A descriptor of the whole item, fetched where it is missing, to be closed; -1 on failure. Makes it the most recently
 * used. */
int file_cache_get(const FileCache *cache, const CacheItem *item, Error *err);

/* Makes an item that is there the most recently used. */
void file_cache_touch(const FileCache *cache, const char *group, const char *name);

/* Removes a file that was found damaged, unless it is no longer the one that `fd` reads. */
void file_cache_drop(const FileCache *cache, const char *group, const char *name, int fd);

#endif
