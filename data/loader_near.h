/* Private to the loader: which of a server's shards are brought into the cache, and when. The positions from the one
 * handed out next up to `end` lie in shards that are near, which fit into the cache together; at most FRESH_MOST of
 * these have not been reached by a worker. Workers stay below `end`, so what they need is not evicted by this loader.
 */
#ifndef SEMOLLM_DATA_LOADER_NEAR_H
#define SEMOLLM_DATA_LOADER_NEAR_H

#include "data/shards.h"

typedef struct NearShard {
    uint32_t positions; /* from `first` to `end` */
    bool reached;
} NearShard;

typedef struct Near {
    const Shards *shards;
    const uint32_t *indexes; /* [count] the samples to come */
    size_t count, first, end;
    int64_t bytes, room;
    size_t fresh;      /* near, and not reached */
    NearShard *states; /* [shards_files] */
} Near;

bool near_open(Near *near, const Shards *shards, Error *err);
void near_close(Near *near);
void near_start(Near *near, const uint32_t *indexes, size_t count);

/* Moves `end` over positions in shards that are near. True if the shard after it should be brought now: *file. */
bool near_next(Near *near, uint32_t *file);
void near_brought(Near *near);                /* that shard */
void near_reach(Near *near, size_t position); /* a worker takes it */
void near_leave(Near *near, size_t position); /* it was handed out; positions leave in order */
void near_keep(const Near *near);             /* its shards leave a cache last */

#endif
