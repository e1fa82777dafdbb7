/* Shards: NAME-000000.tar.zst, a tar of <id>.flac + <id>.json in one zstd frame a sample; index.json
 * with offsets, sizes, XXH64 and counts; samples.jsonl.zst, the manifest's lines in shard order, so
 * that splits and cut points are known without touching audio. */
#ifndef SEMOLLM_DATA_SHARDS_H
#define SEMOLLM_DATA_SHARDS_H

#include <stdatomic.h>

#include "data/manifest.h"

typedef struct ShardOptions {
    const char *name;    /* "train" */
    int64_t shard_bytes; /* a new shard begins past this size */
    int level;           /* zstd's */
    int threads;
    bool skip_bad; /* list unreadable utterances instead of failing */
} ShardOptions;

ShardOptions shard_options_default(void);

/* Writes the shards of a manifest into `folder`; same input, same bytes. A killed run goes on where it
 * was. Prints its census to stderr. */
bool shards_write(const Manifest *manifest, const char *folder, const ShardOptions *options, Error *err);

/* Shards behind http:// or https:// are fetched whole into a folder, the least recently used going first. Everything
 * is held against the index's hashes as it arrives and again as it is read. Processes may share the folder; what it
 * holds serves later runs. */
typedef struct ShardCacheOptions {
    const char *folder;  /* null: $XDG_CACHE_HOME/semollm, or ~/.cache/semollm */
    int64_t bytes;       /* at least two shards' */
    int64_t range_bytes; /* asked for at a time */
    RetryPolicy retry;
    double stall_s; /* a connection that sends nothing for so long is given up */
} ShardCacheOptions;

ShardCacheOptions shard_cache_default(void);
bool shards_is_url(const char *place);

typedef struct Shards Shards;

/* Opens a shard folder or the URL of one: index.json and samples.jsonl.zst, checked against each other. */
Shards *shards_open(const char *place, Error *err); /* with the default cache */
Shards *shards_open_cached(const char *place, const ShardCacheOptions *cache, Error *err);
void shards_close(Shards *shards);

size_t shards_count(const Shards *shards);
const Utterance *shards_utterance(const Shards *shards, size_t index);
int64_t shards_samples(const Shards *shards, size_t index); /* audio samples at 16 kHz */
uint64_t shards_hash(const Shards *shards);                 /* XXH64 of the index: what a checkpoint remembers */

/* Reads sample `index`'s audio, verifying its hash. Safe to call from several threads. */
bool shards_read(const Shards *shards, size_t index, Audio *audio, Error *err);
/* Where *stop (may be null) comes to be set, a wait for the server ends, and fails. */
bool shards_read_until(const Shards *shards, size_t index, const atomic_bool *stop, Audio *audio, Error *err);

/* The files that samples lie in, for reading ahead. */
size_t shards_files(const Shards *shards);
uint32_t shards_file_of(const Shards *shards, size_t index);
int64_t shards_file_bytes(const Shards *shards, size_t file);

/* Bytes of files that a server's cache holds; 0: the shards lie in a folder, and what follows is of no use. */
int64_t shards_room(const Shards *shards);
bool shards_bring(const Shards *shards, size_t file, const atomic_bool *stop, Error *err); /* into the cache */
void shards_keep(const Shards *shards, size_t file);                                       /* others go first */

/* Checks every byte of every sample; reports each damaged one to stdout. False if any was. */
bool shards_verify(const char *place, Error *err);

#endif
