/* Shards of many short clips, for tests of how they are read. */
#ifndef SEMOLLM_TESTS_DATA_CORPUS_H
#define SEMOLLM_TESTS_DATA_CORPUS_H

#include "data/loader.h"
#include "tests/quiet.h"
#include "tests/test.h"

/* Some hundreds of small files, each fsynced, are better in memory. */
static inline void corpus_in_memory(void) {
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
}

/* Verifies without a word. */
static inline bool corpus_intact(const char *place, Error *err) {
    int kept = quiet_begin(), printed = hush_begin(stdout);
    bool intact = shards_verify(place, err);
    hush_end(stdout, printed);
    quiet_end(kept);
    return intact;
}

/* Clip i has 64 + 7 i samples of noise and one of three emotions; manifest, clips and shards go into `folder`. */
static inline void corpus_write(const char *folder, int clips, int64_t shard_bytes) {
    Error err = {0};
    Text lines = {0};
    assert_ok(folder_make(folder, &err), &err);
    for (int i = 0; i < clips; i++) {
        Audio audio = {.samples = calloc(64 + 7 * (size_t)i, sizeof(float)), .count = 64 + 7 * i, .rate = AUDIO_RATE};
        Rng rng = rng_stream(3, 97, (uint32_t)i, 0);
        for (int64_t k = 0; k < audio.count; k++) audio.samples[k] = rng_uniform(rng_next(&rng)) - 0.5f;
        unsigned char *bytes;
        size_t size;
        char name[32];
        snprintf(name, sizeof name, "%d.wav", i);
        char *path = path_join(folder, name, &err);
        assert_ok(audio_encode(&audio, AUDIO_WAV, &bytes, &size, &err), &err);
        FILE *file = fopen(path, "wb"); /* some hundreds: no fsync each */
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        fclose(file);
        text_addf(&lines, "{\"id\": \"clip/%d\", \"audio\": \"%s\", \"emotion\": \"%s\"}\n", i, name,
                  i % 5 == 0   ? "sad"
                  : i % 7 == 0 ? "angry"
                               : "happy");
        free(path);
        free(bytes);
        audio_free(&audio);
    }
    Manifest manifest;
    ShardOptions options = shard_options_default();
    char *path = path_join(folder, "m.jsonl", &err);
    assert_ok(file_write(path, lines.data, lines.length, &err), &err);
    assert_ok(manifest_read(&manifest, path, &err), &err);
    options.shard_bytes = shard_bytes;
    options.threads = 1;
    int kept = quiet_begin();
    assert_ok(shards_write(&manifest, folder, &options, &err), &err);
    quiet_end(kept);
    manifest_free(&manifest);
    text_free(&lines);
    free(path);
}

#endif
