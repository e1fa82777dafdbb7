/* Shards: NAME-000000.tar.zst, a tar of <id>.flac + <id>.json in one zstd frame a sample; index.json
 * with offsets, sizes, XXH64 and counts; samples.jsonl.zst, the manifest's lines in shard order, so
 * that splits and cut points are known without touching audio. */
#ifndef SEMOLLM_DATA_SHARDS_H
#define SEMOLLM_DATA_SHARDS_H

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

typedef struct Shards Shards;

/* Opens a shard folder: index.json and samples.jsonl.zst, checked against each other. */
Shards *shards_open(const char *folder, Error *err);
void shards_close(Shards *shards);

size_t shards_count(const Shards *shards);
const Utterance *shards_utterance(const Shards *shards, size_t index);
int64_t shards_samples(const Shards *shards, size_t index); /* audio samples at 16 kHz */
uint64_t shards_hash(const Shards *shards);                 /* XXH64 of the index: what a checkpoint remembers */

/* Reads sample `index`'s audio, verifying its hash. Safe to call from several threads. */
bool shards_read(const Shards *shards, size_t index, Audio *audio, Error *err);

/* Checks every byte of every sample; reports each damaged one to stdout. False if any was. */
bool shards_verify(const char *folder, Error *err);

#endif
