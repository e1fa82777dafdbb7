/* Private to the shards' source files: files of a shard folder behind http:// or https://. */
#ifndef SEMOLLM_DATA_SHARDS_REMOTE_H
#define SEMOLLM_DATA_SHARDS_REMOTE_H

#include "data/shards.h"

typedef struct Remote Remote;

Remote *remote_open(const char *url, const ShardCacheOptions *options, Error *err);
void remote_close(Remote *remote);

/* A file of unknown size, at most `limit` bytes, into memory; free() it. One that is not there is an error at once. */
char *remote_read(Remote *remote, const char *name, size_t limit, size_t *size, Error *err);

/* A file of known size, from its beginning, into `fd`. Goes on where the connection broke off. Calls of several threads
 * take turns. */
bool remote_fetch(Remote *remote, const char *name, int64_t bytes, int fd, const atomic_bool *stop, Error *err);

#endif
