#include "data/shards_source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { HASH_BLOCK = 1 << 20 };

ShardCacheOptions shard_cache_default(void) {
    return (ShardCacheOptions){
        .bytes = (int64_t)16 << 30, .range_bytes = (int64_t)8 << 20, .retry = retry_policy_default(), .stall_s = 30};
}

bool shards_is_url(const char *place) {
    return strncmp(place, "http://", strlen("http://")) == 0 || strncmp(place, "https://", strlen("https://")) == 0;
}

bool source_open(ShardSource *source, const char *place, const ShardCacheOptions *options, Error *err) {
    *source = (ShardSource){0};
    bool remote = shards_is_url(place);
    source->place = remote ? http_url_shown(place, err) : text_copy(place, err);
    if (!source->place) return false;
    if (remote) return (source->remote = remote_open(place, options, err)) != NULL;
    if (!folder_exists(place))
        return fail(err, "%s: no such folder (seen from the current one); make shards with `semollm shard`", place);
    return true;
}

void source_close(ShardSource *source) {
    remote_close(source->remote);
    file_cache_close(&source->cache);
    free(source->place);
    *source = (ShardSource){0};
}

/* ---- parts of a file ---- */

bool file_read_at(int fd, void *data, int64_t size, int64_t offset, const char *where, Error *err) {
    for (int64_t done = 0; done < size;) {
        ssize_t got = pread(fd, (char *)data + done, (size_t)(size - done), offset + done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return fail(err, "%s: cannot be read: %s", where, got < 0 ? strerror(errno) : "the file ends early");
        done += got;
    }
    return true;
}

bool file_hash_at(int fd, int64_t size, int64_t offset, const char *where, uint64_t *hash, Error *err) {
    XXH64_state_t *state = XXH64_createState();
    char *block = memory_new(HASH_BLOCK, 1, err);
    bool ok = block && (state || fail(err, "out of memory for a hash"));
    if (ok) XXH64_reset(state, 0);
    for (int64_t done = 0; ok && done < size;) {
        int64_t part = size - done < HASH_BLOCK ? size - done : HASH_BLOCK;
        ok = file_read_at(fd, block, part, offset + done, where, err);
        if (ok) XXH64_update(state, block, (size_t)part);
        done += part;
    }
    if (ok) *hash = XXH64_digest(state);
    XXH64_freeState(state);
    free(block);
    return ok;
}

/* ---- the index and the manifest ---- */

static bool index_remote(ShardSource *source, ShardIndex *index, const char *path, Error *err) {
    size_t size;
    char *text = remote_read(source->remote, SHARD_INDEX_NAME, SHARD_INDEX_BYTES_MAX, &size, err);
    bool ok = text && shard_index_parse(index, text, size, path, err);
    free(text);
    return ok;
}

bool source_read_index(ShardSource *source, ShardIndex *index, Error *err) {
    char *path = path_join(source->place, SHARD_INDEX_NAME, err);
    bool ok = path != NULL;
    if (ok && source->remote)
        ok = index_remote(source, index, path, err);
    else if (ok && !file_exists(path))
        ok = fail(err, "%s: no shard folder: it has no " SHARD_INDEX_NAME "; make one with `semollm shard`",
                  source->place);
    else
        ok = ok && shard_index_read(index, path, err);
    if (ok) snprintf(source->group, sizeof source->group, "%016" PRIx64, index->hash);
    free(path);
    return ok;
}

bool source_open_cache(ShardSource *source, const ShardIndex *index, const ShardCacheOptions *options, Error *err) {
    if (!source->remote) return true;
    int64_t largest = index->manifest_bytes;
    for (size_t i = 0; i < index->file_count; i++)
        if (index->files[i].bytes > largest) largest = index->files[i].bytes;
    if (options->bytes / 2 < largest)
        return fail_usage(err,
                          "%s: a cache of %.4g GiB does not hold two of its files of up to %.4g GiB; raise "
                          "data.cache_gib",
                          source->place, (double)options->bytes / 0x1p30, (double)largest / 0x1p30);
    char *folder = cache_folder(options->folder, "data.cache", err);
    bool ok = folder && file_cache_open(&source->cache, folder, options->bytes, err);
    free(folder);
    return ok;
}

/* ---- files ---- */

typedef struct Arrival { /* of a file in the cache */
    const ShardSource *source;
    const SourceFile *file;
    const atomic_bool *stop;
} Arrival;

static bool same_hash(const Arrival *arrival, int fd, int64_t offset, int64_t size, uint64_t expected, Error *err) {
    const char *name = arrival->file->name;
    uint64_t hash;
    if (!file_hash_at(fd, size, offset, name, &hash, err)) return false;
    if (hash == expected) return true;
    return fail(
        err, "%s/%s: arrived damaged: its bytes %" PRId64 " to %" PRId64 " do not have the hash in " SHARD_INDEX_NAME,
        arrival->source->place, name, offset, offset + size - 1);
}

static bool check_arrived(const Arrival *arrival, int fd, Error *err) {
    const SourceFile *file = arrival->file;
    int64_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        const ShardSample *sample = &file->samples[i];
        end = sample->offset + sample->size;
        if (!same_hash(arrival, fd, sample->offset, sample->size, sample->hash, err)) return false;
    }
    return same_hash(arrival, fd, end, file->bytes - end, file->end_hash, err);
}

/* What arrives damaged is asked for once more: a proxy may have been to blame. */
static bool fetch(void *context, int fd, Error *err) {
    const Arrival *arrival = context;
    const SourceFile *file = arrival->file;
    Remote *remote = arrival->source->remote;
    if (!remote_fetch(remote, file->name, file->bytes, fd, arrival->stop, err)) return false;
    if (check_arrived(arrival, fd, NULL)) return true;
    return remote_fetch(remote, file->name, file->bytes, fd, arrival->stop, err) && check_arrived(arrival, fd, err);
}

static int open_local(const char *path, int64_t bytes, Error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        fail(err, "%s: cannot be opened: %s", path, strerror(errno));
    else if (status.st_size != bytes)
        fail(err, "%s: has %lld bytes where " SHARD_INDEX_NAME " says %" PRId64 "; it is damaged", path,
             (long long)status.st_size, bytes);
    else
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

int source_open_file(const ShardSource *source, const SourceFile *file, const atomic_bool *stop, Error *err) {
    if (source->remote) {
        Arrival arrival = {source, file, stop};
        CacheItem item = {source->group, file->name, file->bytes, fetch, &arrival, stop};
        return file_cache_get(&source->cache, &item, err);
    }
    char *path = path_join(source->place, file->name, err);
    int fd = path ? open_local(path, file->bytes, err) : -1;
    free(path);
    return fd;
}

static void *read_part(int fd, const SourcePart *part, const char *where, Error *err) {
    void *data = memory_new((size_t)part->size, 1, err);
    bool ok = data && file_read_at(fd, data, part->size, part->offset, where, err);
    if (ok && bytes_hash(data, (size_t)part->size) != part->hash)
        ok = fail(err, "%s: damaged: its bytes do not have the hash in " SHARD_INDEX_NAME, where);
    if (ok) return data;
    free(data);
    return NULL;
}

void *source_read(const ShardSource *source, const SourceFile *file, const SourcePart *part, const char *where,
                  const atomic_bool *stop, Error *err) {
    Error damage = {0};
    for (int tried = 0; tried < 2; tried++) {
        int fd = source_open_file(source, file, stop, err);
        if (fd < 0) return NULL;
        void *data = read_part(fd, part, where, source->remote && tried == 0 ? &damage : err);
        if (!data && source->remote) file_cache_drop(&source->cache, source->group, file->name, fd);
        close(fd);
        if (data || !source->remote) return data;
    }
    return NULL;
}
