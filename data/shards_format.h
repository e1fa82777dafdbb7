/* Private to the shards' source files: the index, tar members and zstd frames. */
#ifndef SEMOLLM_DATA_SHARDS_FORMAT_H
#define SEMOLLM_DATA_SHARDS_FORMAT_H

#include "data/shards.h"

enum { SHARD_INDEX_BYTES_MAX = 1 << 30 };
#define SHARD_INDEX_NAME "index.json"
#define SHARD_MANIFEST_NAME "samples.jsonl.zst"

enum { TAR_BLOCK = 512, TAR_END = 2 * TAR_BLOCK };

typedef struct ShardFile {
    char *file;
    int64_t bytes;
    size_t first, samples; /* first: of the index's samples, set on reading */
    uint64_t end_hash;     /* XXH64 of the closing frame, which holds the tar's end */
} ShardFile;

typedef struct ShardSample {
    uint32_t shard;
    int64_t offset, size; /* of its frame in the shard's file */
    uint64_t hash;        /* XXH64 of the frame */
    int64_t audio_samples;
} ShardSample;

/* index.json, and in a reduced form the note a killed writer leaves of each finished shard. */
typedef struct ShardIndex {
    char *name;
    uint64_t key;  /* XXH64 of the manifest's lines and the options: what the shards were made from */
    uint64_t hash; /* XXH64 of the index's own bytes */
    int64_t manifest_bytes, manifest_size;
    uint64_t manifest_hash;
    ShardFile *files;
    size_t file_count, file_capacity;
    ShardSample *samples;
    size_t sample_count, sample_capacity;
    char **skipped; /* ids of unreadable utterances that were left out */
    size_t skipped_count, skipped_capacity;
} ShardIndex;

bool shard_index_read(ShardIndex *index, const char *path, Error *err);
bool shard_index_parse(ShardIndex *index, const char *text, size_t size, const char *path, Error *err);
bool shard_index_write(const ShardIndex *index, const char *path, Error *err);
void shard_index_free(ShardIndex *index);
bool shard_index_skip(ShardIndex *index, const char *id, Error *err);

/* "a b.wav" becomes "a%20b%2Ewav"; free() it. */
char *shard_encode_id(const char *id, Error *err);

/* Appends a file to a tar in memory: mode 0644, owner 0, time 0. Long names get a pax header. */
bool tar_add(Text *tar, const char *name, const void *data, size_t size, Error *err);

/* Finds the member whose name ends with `suffix` in a tar without its end. */
bool tar_find(const unsigned char *tar, size_t size, const char *suffix, const unsigned char **data, size_t *bytes,
              const char *where, Error *err);

/* One zstd frame with its size and a checksum; free() the result. */
unsigned char *frame_pack(const void *data, size_t size, int level, size_t *packed, Error *err);
unsigned char *frame_unpack(const void *frame, size_t size, size_t *unpacked, const char *where, Error *err);

uint64_t bytes_hash(const void *data, size_t size);

/* Parts of an open file; `where` is for errors. */
bool file_read_at(int fd, void *data, int64_t size, int64_t offset, const char *where, Error *err);
bool file_hash_at(int fd, int64_t size, int64_t offset, const char *where, uint64_t *hash, Error *err);

#endif
