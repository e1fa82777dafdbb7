#include "data/import_files.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DEPTH_LIMIT = 8 };
static const char *const ENDINGS[] = {".wav", ".flac", ".WAV", ".FLAC"};
enum { ENDING_COUNT = sizeof ENDINGS / sizeof *ENDINGS };

static bool is_audio(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".wav") == 0 || strcasecmp(dot, ".flac") == 0);
}

/* Takes over `path`. */
static bool add_file(AudioFiles *files, char *path, Error *err) {
    if (!memory_grow(&files->items, files->count, &files->capacity, sizeof *files->items, err)) {
        free(path);
        return false;
    }
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    AudioFile *file = &files->items[files->count++];
    *file = (AudioFile){.path = path};
    file->stem = text_format(err, "%.*s", (int)(strrchr(name, '.') - name), name);
    return file->stem != NULL;
}

static bool walk(AudioFiles *files, const char *folder, int depth, Error *err) {
    Names names = {0};
    if (depth > DEPTH_LIMIT) return fail(err, "%s: folders are nested more than %d deep", folder, DEPTH_LIMIT);
    if (!folder_list(folder, &names, err)) return false;
    bool done = true;
    for (size_t i = 0; i < names.count && done; i++) {
        if (names.items[i][0] == '.') continue;
        char *path = path_join(folder, names.items[i], err);
        done = path != NULL;
        if (done && folder_exists(path)) {
            done = walk(files, path, depth + 1, err);
        } else if (done && is_audio(names.items[i])) {
            done = add_file(files, path, err);
            path = NULL;
        }
        free(path);
    }
    names_free(&names);
    return done;
}

static int by_stem(const void *a, const void *b, void *context) {
    const AudioFiles *files = context;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    int order = strcmp(files->items[x].stem, files->items[y].stem);
    return order ? order : (x > y) - (x < y);
}

bool audio_files_open(AudioFiles *files, const char *root, Error *err) {
    *files = (AudioFiles){.root_length = strlen(root)};
    bool done = walk(files, root, 0, err) && (files->by_stem = memory_new(files->count, sizeof(size_t), err)) != NULL;
    for (size_t i = 0; done && i < files->count; i++) files->by_stem[i] = i;
    if (done && files->count) qsort_r(files->by_stem, files->count, sizeof(size_t), by_stem, files);
    if (!done) audio_files_close(files);
    return done;
}

void audio_files_close(AudioFiles *files) {
    for (size_t i = 0; i < files->count; i++) {
        free(files->items[i].path);
        free(files->items[i].stem);
    }
    free(files->items);
    free(files->by_stem);
    *files = (AudioFiles){0};
}

/* The first place in by_stem that is not before `stem`. */
static size_t lower_bound(const AudioFiles *files, const char *stem) {
    size_t low = 0, high = files->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(files->items[files->by_stem[middle]].stem, stem) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Whether one of `folders` stands on a path, before its file's name. */
static bool lies_in(const char *path, const char *const *folders) {
    if (!folders) return true;
    for (const char *at = path, *slash; (slash = strchr(at, '/')); at = slash + 1)
        for (const char *const *folder = folders; *folder; folder++)
            if (strlen(*folder) == (size_t)(slash - at) && strncasecmp(at, *folder, strlen(*folder)) == 0) return true;
    return false;
}

/* Whether two paths are one recording as .wav and as .flac. */
static bool same_but_ending(const char *a, const char *b) {
    size_t length = (size_t)(strrchr(a, '.') - a);
    return strlen(b) > length && b[length] == '.' && strncmp(a, b, length) == 0;
}

bool audio_files_find(const AudioFiles *files, const char *stem, const char *const *folders, const char **path,
                      Error *err) {
    *path = NULL;
    for (size_t i = lower_bound(files, stem); i < files->count; i++) {
        const AudioFile *file = &files->items[files->by_stem[i]];
        if (strcmp(file->stem, stem) != 0) break;
        if (!lies_in(file->path + files->root_length, folders)) continue;
        if (*path && !same_but_ending(*path, file->path))
            return fail(err, "%s and %s: two recordings of one name; is a part of the corpus there twice?", *path,
                        file->path);
        *path = file->path; /* the later of the two is .wav */
    }
    return true;
}

char *path_above(const char *path, int level, Error *err) {
    const char *end = path + strlen(path), *start = end;
    for (int i = 0; i <= level; i++) {
        end = i ? start - 1 : end;
        if (end < path) return text_copy("", err);
        for (start = end; start > path && start[-1] != '/';) start--;
    }
    return text_format(err, "%.*s", (int)(end - start), start);
}

char *audio_beside(const char *folder, const char *stem, Error *err) {
    for (int i = 0; i < ENDING_COUNT; i++) {
        char *path = text_format(err, "%s/%s%s", folder, stem, ENDINGS[i]);
        if (!path || file_exists(path)) return path;
        free(path);
    }
    return NULL;
}

char *file_any_case(const char *folder, const char *name, Error *err) {
    Names names = {0};
    char *found = NULL;
    if (!folder_list(folder, &names, NULL)) return NULL;
    for (size_t i = 0; i < names.count && !found; i++)
        if (strcasecmp(names.items[i], name) == 0) found = path_join(folder, names.items[i], err);
    names_free(&names);
    return found;
}
