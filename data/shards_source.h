/* Private to the shards' source files: where a shard folder's files come from. */
#ifndef SEMOLLM_DATA_SHARDS_SOURCE_H
#define SEMOLLM_DATA_SHARDS_SOURCE_H

#include "data/file_cache.h"
#include "data/shards_format.h"
#include "data/shards_remote.h"

typedef struct ShardSource {
    char *place;     /* a folder, or a URL as it may be shown */
    Remote *remote;  /* null: a folder */
    FileCache cache; /* of remote files, below the index's hash: files of two versions never mix */
    char group[17];  /* that hash */
} ShardSource;

typedef struct SourceFile {
    const char *name;
    int64_t bytes;
    const ShardSample *samples; /* [count] whose frames it begins with */
    size_t count;
    uint64_t end_hash; /* of what follows them */
} SourceFile;

typedef struct SourcePart {
    int64_t offset, size;
    uint64_t hash;
} SourcePart;

bool source_open(ShardSource *source, const char *place, const ShardCacheOptions *options, Error *err);
void source_close(ShardSource *source);

bool source_read_index(ShardSource *source, ShardIndex *index, Error *err);

/* Opens the cache for a set of shards; does nothing for a folder. */
bool source_open_cache(ShardSource *source, const ShardIndex *index, const ShardCacheOptions *options, Error *err);

/* A descriptor of a file of the right size, to be closed; -1 on failure. What just arrived has been checked. */
int source_open_file(const ShardSource *source, const SourceFile *file, const atomic_bool *stop, Error *err);

/* A part of a file, its hash checked; free() it. A part that is damaged in the cache is fetched anew, once. */
void *source_read(const ShardSource *source, const SourceFile *file, const SourcePart *part, const char *where,
                  const atomic_bool *stop, Error *err);

#endif
