/* Locks are flock's: they go with the descriptor, so they hold between threads as between processes and end with a
 * killed one. CACHE/lock is held while room is made and a part begun. NAME.part is a file in the making, as long as it
 * will be, so that it is counted; whoever fetches it holds its lock, and a part without one is abandoned. */
#include "data/file_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PART ".part"
static const double WAIT_S = 0.05;

typedef struct Entry {
    char *path;
    int64_t bytes;
    struct timespec used;
} Entry;

typedef struct Entries { /* what the cache holds; `taken`: bytes of it and of parts in the making */
    Entry *items;
    size_t count, capacity;
    int64_t taken;
} Entries;

bool file_cache_open(FileCache *cache, const char *folder, int64_t limit, Error *err) {
    *cache = (FileCache){.limit = limit};
    if (!folder_make(folder, err)) return fail_in(err, "the cache");
    cache->folder = text_copy(folder, err);
    return cache->folder != NULL;
}

void file_cache_close(FileCache *cache) {
    free(cache->folder);
    *cache = (FileCache){0};
}

static char *item_path(const FileCache *cache, const char *group, const char *name, const char *ending, Error *err) {
    return text_format(err, "%s/%s/%s%s", cache->folder, group, name, ending);
}

static bool stopped(const CacheItem *item, Error *err) {
    if (!item->stop || !atomic_load(item->stop)) return false;
    fail(err, "%s: stopped on request", item->name);
    return true;
}

/* ---- locks ---- */

static bool lock_file(int fd) {
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) return false;
    return true;
}

static int lock_cache(const FileCache *cache, Error *err) {
    char *path = path_join(cache->folder, "lock", err);
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (path && (fd < 0 || !lock_file(fd))) {
        fail(err, "%s: the cache cannot be locked: %s; name a folder on a local disk", path, strerror(errno));
        if (fd >= 0) close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

static bool same_file(const char *path, int fd) {
    struct stat named, opened;
    return stat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev;
}

/* ---- room ---- */

static bool is_group(const char *name) { return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16; }

static bool is_part(const char *path) {
    size_t length = strlen(path), tail = strlen(PART);
    return length > tail && strcmp(path + length - tail, PART) == 0;
}

/* Under the cache's lock no part is begun, so one that can be locked belongs to nobody. */
static bool is_abandoned(const char *part) {
    int fd = open(part, O_RDWR | O_CLOEXEC);
    if (fd < 0) return false;
    bool free_to_lock = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return free_to_lock;
}

/* Takes over `path`. */
static bool add_entry(Entries *entries, char *path, Error *err) {
    struct stat status;
    if (!path) return false;
    bool file = lstat(path, &status) == 0 && S_ISREG(status.st_mode), part = is_part(path);
    if (file && part && is_abandoned(path)) {
        unlink(path);
        file = false;
    }
    if (file) entries->taken += status.st_size;
    bool kept = file && !part;
    bool ok = !kept || memory_grow(&entries->items, entries->count, &entries->capacity, sizeof *entries->items, err);
    if (kept && ok)
        entries->items[entries->count++] = (Entry){path, status.st_size, status.st_mtim};
    else
        free(path);
    return ok;
}

static void entries_free(Entries *entries) {
    for (size_t i = 0; i < entries->count; i++) free(entries->items[i].path);
    free(entries->items);
    *entries = (Entries){0};
}

static bool list_group(const char *folder, Entries *entries, Error *err) {
    Names names;
    if (!folder_list(folder, &names, err)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) ok = add_entry(entries, path_join(folder, names.items[i], err), err);
    names_free(&names);
    return ok;
}

static bool list_cache(const FileCache *cache, Entries *entries, Error *err) {
    Names names;
    *entries = (Entries){0};
    if (!folder_list(cache->folder, &names, err)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!is_group(names.items[i])) continue;
        char *folder = path_join(cache->folder, names.items[i], err);
        ok = folder && list_group(folder, entries, err);
        free(folder);
    }
    names_free(&names);
    return ok;
}

static int by_use(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec) return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Removes the least recently used until `bytes` more fit. *made is false while others are fetching too much. */
static bool make_room(const FileCache *cache, int64_t bytes, bool *made, Error *err) {
    Entries entries;
    bool ok = list_cache(cache, &entries, err);
    if (ok && entries.count) qsort(entries.items, entries.count, sizeof *entries.items, by_use);
    for (size_t i = 0; ok && i < entries.count && entries.taken > cache->limit - bytes; i++) {
        if (unlink(entries.items[i].path) != 0 && errno != ENOENT)
            ok = fail(err, "%s: cannot be removed to make room: %s", entries.items[i].path, strerror(errno));
        entries.taken -= entries.items[i].bytes;
    }
    *made = ok && entries.taken <= cache->limit - bytes;
    entries_free(&entries);
    return ok;
}

/* ---- getting ---- */

typedef struct Getting {
    const FileCache *cache;
    const CacheItem *item;
    char *path, *part;
} Getting;

static int open_whole(const Getting *getting) {
    int fd = open(getting->path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0) return -1;
    if (fstat(fd, &status) == 0 && status.st_size == getting->item->bytes) {
        futimens(fd, NULL); /* a cache of another user's is used without a say in what goes first */
        return fd;
    }
    close(fd);
    return -1;
}

/* With the cache locked: makes room, and a part as long as it will be, whose lock is held. *fd stays -1 where that has
 * to wait: another fetches this file, or too much else; and where the file has come, which *whole then is. */
static bool begin_part(const Getting *getting, int *whole, int *fd, Error *err) {
    int part = open(getting->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (part < 0) return fail(err, "%s: cannot be created: %s", getting->part, strerror(errno));
    bool made = false, ok = true;
    /* What was opened may by now be the whole file under its own name. */
    if (flock(part, LOCK_EX | LOCK_NB) == 0 && same_file(getting->part, part)) {
        ok = ftruncate(part, 0) == 0 || fail(err, "%s: cannot be written: %s", getting->part, strerror(errno));
        if (ok) *whole = open_whole(getting); /* another's part may have become it just before this one was made */
        if (ok && *whole < 0) ok = make_room(getting->cache, getting->item->bytes, &made, err);
        if (ok && made && ftruncate(part, getting->item->bytes) != 0)
            ok = fail(err, "%s: cannot be made %lld bytes long: %s", getting->part, (long long)getting->item->bytes,
                      strerror(errno));
        if (!ok || !made) unlink(getting->part);
    }
    if (ok && made)
        *fd = part;
    else
        close(part);
    return ok;
}

static bool begin(const Getting *getting, int *whole, int *part, Error *err) {
    int lock = lock_cache(getting->cache, err);
    if (lock < 0) return false;
    *part = -1;
    *whole = open_whole(getting); /* it may have come while the lock was waited for */
    char *folder = *whole < 0 ? path_folder(getting->path, err) : NULL;
    bool ok = *whole >= 0 || (folder && folder_make(folder, err) && begin_part(getting, whole, part, err));
    free(folder);
    close(lock);
    return ok;
}

/* The part's descriptor becomes the whole file's. */
static bool finish(const Getting *getting, int part, Error *err) {
    const CacheItem *item = getting->item;
    bool ok = item->fetch(item->context, part, err);
    if (ok && fsync(part) != 0) ok = fail(err, "%s: cannot be written: %s", getting->part, strerror(errno));
    if (ok && rename(getting->part, getting->path) != 0)
        ok = fail(err, "%s: cannot be renamed into place: %s", getting->part, strerror(errno));
    if (!ok) unlink(getting->part);
    flock(part, LOCK_UN);
    return ok;
}

static int get(const Getting *getting, Error *err) {
    int fd = open_whole(getting);
    while (fd < 0 && !stopped(getting->item, err)) {
        int part;
        if (!begin(getting, &fd, &part, err)) return -1;
        if (part >= 0) {
            if (finish(getting, part, err)) return part;
            close(part);
            return -1;
        }
        if (fd < 0) retry_wait(WAIT_S, getting->item->stop);
    }
    return fd;
}

int file_cache_get(const FileCache *cache, const CacheItem *item, Error *err) {
    if (item->bytes > cache->limit) {
        fail(err, "%s: %lld bytes do not fit into the cache of %lld", item->name, (long long)item->bytes,
             (long long)cache->limit);
        return -1;
    }
    Getting getting = {.cache = cache, .item = item};
    getting.path = item_path(cache, item->group, item->name, "", err);
    getting.part = item_path(cache, item->group, item->name, PART, err);
    int fd = getting.path && getting.part ? get(&getting, err) : -1;
    free(getting.path);
    free(getting.part);
    return fd;
}

void file_cache_touch(const FileCache *cache, const char *group, const char *name) {
    char *path = item_path(cache, group, name, "", NULL);
    if (path) utimensat(AT_FDCWD, path, NULL, 0);
    free(path);
}

void file_cache_drop(const FileCache *cache, const char *group, const char *name, int fd) {
    char *path = item_path(cache, group, name, "", NULL);
    int lock = lock_cache(cache, NULL);
    if (path && lock >= 0 && same_file(path, fd)) unlink(path);
    if (lock >= 0) close(lock);
    free(path);
}
