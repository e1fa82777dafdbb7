/* Corpora made for tests: trees of tiny recordings and text files below the scratch folder, and what the import of one
 * gives. */
#ifndef SEMOLLM_TESTS_DATA_IMPORT_TREE_H
#define SEMOLLM_TESTS_DATA_IMPORT_TREE_H

#include "tests/test.h"

#include "data/commands.h"
#include "data/import.h"

/* Without the fsync of file_write, which would make hundreds of files slow; so would writing over a file, on ext4. */
static inline void tree_bytes(const char *name, const void *bytes, size_t size) {
    char *path = test_path(name), *folder = path_folder(path, NULL);
    assert_true(folder_make(folder, NULL));
    unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    free(folder);
    free(path);
}

static inline void tree_text(const char *name, const char *text) { tree_bytes(name, text, strlen(text)); }

/* A recording: FLAC by its name, WAV else. */
static inline void tree_sound_at(const char *name, int rate, double seconds) {
    Audio audio = {.count = (int64_t)(rate * seconds), .rate = rate};
    audio.samples = calloc((size_t)audio.count, sizeof(float));
    for (int64_t i = 0; i < audio.count; i++) audio.samples[i] = (float)(i % 80) / 160 - 0.25f;
    const char *dot = strrchr(name, '.');
    bool flac = strcmp(dot, ".flac") == 0 || strcmp(dot, ".FLAC") == 0;
    unsigned char *bytes;
    size_t size;
    assert_true(audio_encode(&audio, flac ? AUDIO_FLAC : AUDIO_WAV, &bytes, &size, NULL));
    tree_bytes(name, bytes, size);
    free(bytes);
    audio_free(&audio);
}

static inline void tree_sound(const char *name) { tree_sound_at(name, 1600, 0.5); }

static inline void tree_sounds(const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) tree_sound(names[i]);
}

#define TREE_SOUNDS(...)                                                                                               \
    tree_sounds((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static inline void tree_remove(const char *name) {
    char *path = test_path(name);
    assert_true(folder_remove(path, NULL));
    free(path);
}

/* The import of a tree by the command, as a user has it: the manifest's text, and what was said on stderr. */
typedef struct TreeImport {
    bool done;
    Error err;
    char *manifest, *said;
} TreeImport;

static inline TreeImport tree_import(const char *corpus, const char *root, const char *more, const char *value) {
    TreeImport import = {0};
    char *folder = test_path(root), *manifest = test_path("manifest.jsonl"), *log = test_path("said");
    const char *arguments[] = {"import", corpus, folder, "-o", manifest, more, value};
    int count = 5 + (more != NULL) + (value != NULL);
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    assert_non_null(freopen(log, "w", stderr));
    import.done = command_import(count, (char **)(uintptr_t)arguments, &import.err);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    import.said = file_read(log, 1 << 22, NULL, NULL);
    if (import.done) import.manifest = file_read(manifest, 1 << 22, NULL, NULL);
    unlink(manifest);
    free(folder);
    free(manifest);
    free(log);
    return import;
}

static inline void tree_import_free(TreeImport *import) {
    free(import->manifest);
    free(import->said);
}

static inline void tree_says(const TreeImport *import, const char *what) {
    if (!strstr(import->said, what)) fail_msg("\"%s\" is not in:\n%s", what, import->said);
}

/* A tree gives exactly these lines, and its census says `says` (ended by null). */
static inline void tree_gives(const char *corpus, const char *root, const char *labels, const char *expected,
                              const char *const *says) {
    TreeImport import = tree_import(corpus, root, labels ? "--labels" : NULL, labels);
    if (!import.done) fail_msg("%s: %s", corpus, import.err.text);
    assert_string_equal(import.manifest, expected);
    for (; *says; says++) tree_says(&import, *says);
    tree_import_free(&import);
}

#define SAYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A tree is refused, in one sentence that names `names`. */
static inline void tree_refused(const char *corpus, const char *root, const char *names) {
    TreeImport import = tree_import(corpus, root, NULL, NULL);
    if (import.done) fail_msg("%s was accepted; expected a refusal that names %s", root, names);
    if (!strstr(import.err.text, names)) fail_msg("\"%s\" is not named in: %s", names, import.err.text);
    tree_import_free(&import);
}

#endif
