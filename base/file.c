#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static bool fail_errno(Error *err, const char *what, const char *path) {
    return fail(err, "%s: %s: %s", path, what, strerror(errno));
}

char *file_read(const char *path, size_t limit, size_t *size, Error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail_errno(err, "cannot be opened", path);
        return NULL;
    }
    Text text = {0};
    char block[65536];
    size_t count;
    while ((count = fread(block, 1, sizeof block, file)) > 0 && text.length + count <= limit)
        text_add(&text, block, count);
    bool bad = ferror(file);
    fclose(file);
    if (bad) fail_errno(err, "cannot be read", path);
    if (!bad && count > 0) fail(err, "%s: larger than the %zu bytes allowed here", path, limit);
    if (bad || count > 0) {
        text_free(&text);
        return NULL;
    }
    if (size) *size = text.length;
    return text_finish(&text, err);
}

bool file_map(FileMap *map, const char *path, Error *err) {
    *map = (FileMap){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, "cannot be opened", path);
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return fail(err, "%s: not a regular file", path);
    }
    if (status.st_size > 0) {
        void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            close(fd);
            return fail_errno(err, "cannot be mapped", path);
        }
        *map = (FileMap){.data = data, .size = (size_t)status.st_size};
    }
    close(fd);
    return true;
}

void file_unmap(FileMap *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (FileMap){0};
}

static bool sync_folder_of(const char *path, Error *err) {
    char *folder = path_folder(path, err);
    if (!folder) return false;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (!ok) fail_errno(err, "folder cannot be synced", folder);
    if (fd >= 0) close(fd);
    free(folder);
    return ok;
}

bool atomic_open(AtomicFile *file, const char *path, Error *err) {
    *file = (AtomicFile){0};
    if (folder_exists(path)) return fail(err, "%s: is a folder; name a file to write", path);
    file->path = text_copy(path, err);
    file->temporary = text_format(err, "%s.tmp-XXXXXX", path);
    if (!file->path || !file->temporary) {
        atomic_discard(file);
        return false;
    }
    int fd = mkostemp(file->temporary, O_CLOEXEC);
    if (fd < 0) {
        fail_errno(err, "cannot be created", path);
        free(file->temporary);
        file->temporary = NULL;
        atomic_discard(file);
        return false;
    }
    /* mkstemp's 0600 is for secrets; these files are as public as the umask allows. */
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) == 0) file->stream = fdopen(fd, "wb");
    if (!file->stream) {
        fail_errno(err, "cannot be created", path);
        close(fd);
        atomic_discard(file);
        return false;
    }
    return true;
}

bool atomic_commit(AtomicFile *file, Error *err) {
    bool ok = !ferror(file->stream) && fflush(file->stream) == 0 && fsync(fileno(file->stream)) == 0;
    if (!ok) fail(err, "%s: cannot be written: %s", file->path, errno ? strerror(errno) : "write error");
    if (fclose(file->stream) != 0 && ok) ok = fail_errno(err, "cannot be written", file->path);
    file->stream = NULL;
    if (ok && rename(file->temporary, file->path) != 0)
        ok = fail_errno(err, "cannot be renamed into place", file->path);
    if (ok) {
        free(file->temporary);
        file->temporary = NULL;
        ok = sync_folder_of(file->path, err);
    }
    atomic_discard(file);
    return ok;
}

void atomic_discard(AtomicFile *file) {
    if (file->stream) fclose(file->stream);
    if (file->temporary) unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    *file = (AtomicFile){0};
}

bool file_write(const char *path, const void *data, size_t size, Error *err) {
    AtomicFile file;
    if (!atomic_open(&file, path, err)) return false;
    if (size) fwrite(data, 1, size, file.stream);
    return atomic_commit(&file, err);
}

bool atomic_folder_open(AtomicFolder *folder, const char *path, Error *err) {
    *folder = (AtomicFolder){0};
    if (file_exists(path) || folder_exists(path)) return fail(err, "%s: exists already", path);
    char *parent = path_folder(path, err);
    bool ok = parent && folder_make(parent, err);
    free(parent);
    if (!ok) return false;
    folder->path = text_copy(path, err);
    folder->temporary = text_format(err, "%s.tmp-XXXXXX", path);
    if (folder->path && folder->temporary && mkdtemp(folder->temporary) && chmod(folder->temporary, 0755) == 0)
        return true;
    if (folder->path && folder->temporary) fail_errno(err, "folder cannot be created", path);
    free(folder->path);
    free(folder->temporary);
    *folder = (AtomicFolder){0};
    return false;
}

bool atomic_folder_commit(AtomicFolder *folder, Error *err) {
    int fd = open(folder->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    ok = ok && rename(folder->temporary, folder->path) == 0;
    if (!ok) fail_errno(err, "folder cannot be put into place", folder->path);
    if (ok) {
        free(folder->temporary);
        folder->temporary = NULL;
        ok = sync_folder_of(folder->path, err);
    }
    atomic_folder_discard(folder);
    return ok;
}

void atomic_folder_discard(AtomicFolder *folder) {
    if (folder->temporary) folder_remove(folder->temporary, NULL);
    free(folder->temporary);
    free(folder->path);
    *folder = (AtomicFolder){0};
}

bool file_exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

bool folder_exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool folder_make(const char *path, Error *err) {
    char *copy = text_copy(path, err);
    if (!copy) return false;
    bool ok = true;
    for (char *end = copy + 1; ok && end[-1]; end++) {
        if (*end != '/' && *end != '\0') continue;
        char kept = *end;
        *end = '\0';
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && folder_exists(copy)))
            ok = fail_errno(err, "folder cannot be created", copy);
        *end = kept;
        if (!kept) break;
    }
    free(copy);
    return ok;
}

bool folder_remove(const char *path, Error *err) {
    struct stat status;
    if (lstat(path, &status) != 0) return errno == ENOENT ? true : fail_errno(err, "cannot be removed", path);
    if (!S_ISDIR(status.st_mode)) return unlink(path) == 0 ? true : fail_errno(err, "cannot be removed", path);
    Names names;
    if (!folder_list(path, &names, err)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        char *inner = path_join(path, names.items[i], err);
        ok = inner && folder_remove(inner, err);
        free(inner);
    }
    names_free(&names);
    return ok && (rmdir(path) == 0 ? true : fail_errno(err, "cannot be removed", path));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool folder_list(const char *path, Names *names, Error *err) {
    *names = (Names){0};
    DIR *folder = opendir(path);
    if (!folder) return fail_errno(err, "folder cannot be read", path);
    size_t capacity = 0;
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        ok = memory_grow(&names->items, names->count, &capacity, sizeof *names->items, err) &&
             (names->items[names->count] = text_copy(entry->d_name, err));
        if (ok) names->count++;
    }
    closedir(folder);
    if (!ok) names_free(names);
    if (ok && names->count) qsort(names->items, names->count, sizeof *names->items, by_name);
    return ok;
}

void names_free(Names *names) {
    for (size_t i = 0; i < names->count; i++) free(names->items[i]);
    free(names->items);
    *names = (Names){0};
}

char *path_join(const char *folder, const char *name, Error *err) {
    if (name[0] == '/' || !folder[0]) return text_copy(name, err);
    const char *slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
    return text_format(err, "%s%s%s", folder, slash, name);
}

char *path_folder(const char *path, Error *err) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--; /* "a/b/" lies in "a" */
    while (length > 0 && path[length - 1] != '/') length--;
    while (length > 1 && path[length - 1] == '/') length--;
    if (length == 0) return text_copy(".", err);
    return text_format(err, "%.*s", (int)length, path);
}

char *cache_folder(const char *folder, const char *key, Error *err) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (folder) return text_copy(folder, err);
    if (cache && *cache) return path_join(cache, "semollm", err);
    if (home && *home) return path_join(home, ".cache/semollm", err);
    fail_usage(err, "there is no home folder to keep a cache in; name a folder with %s", key);
    return NULL;
}
