/* Shards: what was written is read back, the bytes depend on the input alone, and damage is named. */
#include "tests/test.h"

#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "data/shards_format.h"
#include "tests/quiet.h"

enum { CLIPS = 24 };

/* ---- a small corpus ---- */

static void write_clip(const char *folder, int number, int64_t samples) {
    Error err = {0};
    Audio audio = {.samples = calloc((size_t)samples + 1, sizeof(float)), .count = samples, .rate = AUDIO_RATE};
    Rng rng = rng_stream(7, 99, (uint32_t)number, 0);
    for (int64_t i = 0; i < samples; i++) audio.samples[i] = 0.5f * (rng_uniform(rng_next(&rng)) - 0.5f);
    unsigned char *bytes;
    size_t size;
    assert_ok(audio_encode(&audio, AUDIO_WAV, &bytes, &size, &err), &err);
    char *path = text_format(&err, "%s/clip%d.wav", folder, number);
    assert_ok(file_write(path, bytes, size, &err), &err);
    free(path);
    free(bytes);
    audio_free(&audio);
}

/* Lengths from 1 sample on; ids that must be encoded; one id longer than a tar name. */
static char *make_corpus(int clips) {
    Error err = {0};
    char *folder = test_path("corpus");
    assert_ok(folder_make(folder, &err), &err);
    Text lines = {0};
    char long_id[160];
    memset(long_id, 'x', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    for (int i = 0; i < clips; i++) {
        write_clip(folder, i, i == 0 ? 1 : i == 1 ? 399 : 1000 + 37 * i);
        text_addf(&lines,
                  "{\"id\": \"%s%d/ä.%d\", \"corpus\": \"c\", \"audio\": \"clip%d.wav\", \"speaker\": \"s%d\", "
                  "\"emotion\": \"%s\", \"gender\": \"female\", \"extra\": [1, {\"b\": null}]}\n",
                  i == 5 ? long_id : "utterance ", i, i, i, i % 4, i % 3 ? "happy" : "sad");
    }
    char *path = path_join(folder, "m.jsonl", &err);
    assert_ok(file_write(path, lines.data, lines.length, &err), &err);
    text_free(&lines);
    free(folder);
    return path;
}

static void read_corpus(Manifest *manifest, int clips) {
    Error err = {0};
    char *path = make_corpus(clips);
    assert_ok(manifest_read(manifest, path, &err), &err);
    free(path);
}

static bool write_shards(const Manifest *manifest, const char *folder, int threads, Error *err) {
    ShardOptions options = shard_options_default();
    options.name = "t";
    options.shard_bytes = 12000;
    options.threads = threads;
    int kept = quiet_begin();
    bool ok = shards_write(manifest, folder, &options, err);
    quiet_end(kept);
    return ok;
}

static unsigned char *slurp(const char *folder, const char *name, size_t *size) {
    Error err = {0};
    char *path = path_join(folder, name, &err);
    char *data = file_read(path, 1 << 26, size, &err);
    if (!data) fail_msg("%s", err.text);
    free(path);
    return (unsigned char *)data;
}

static void spill(const char *folder, const char *name, const void *data, size_t size) {
    Error err = {0};
    char *path = path_join(folder, name, &err);
    assert_ok(file_write(path, data, size, &err), &err);
    free(path);
}

static void assert_same_folders(const char *a, const char *b) {
    Error err = {0};
    Names names, others;
    assert_ok(folder_list(a, &names, &err), &err);
    assert_ok(folder_list(b, &others, &err), &err);
    assert_int_equal(names.count, others.count);
    for (size_t i = 0; i < names.count; i++) {
        size_t size_a, size_b;
        assert_string_equal(names.items[i], others.items[i]);
        unsigned char *data_a = slurp(a, names.items[i], &size_a), *data_b = slurp(b, names.items[i], &size_b);
        assert_int_equal(size_a, size_b);
        assert_memory_equal(data_a, data_b, size_a);
        free(data_a);
        free(data_b);
    }
    names_free(&names);
    names_free(&others);
}

/* ---- tests ---- */

static void test_round_trip(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    char *folder = test_path("round");
    assert_ok(write_shards(&manifest, folder, 2, &err), &err);
    Shards *shards = shards_open(folder, &err);
    assert_ok(shards != NULL, &err);
    assert_int_equal(shards_count(shards), CLIPS);
    for (size_t i = 0; i < CLIPS; i++) {
        Audio read, original;
        assert_string_equal(shards_utterance(shards, i)->id, manifest.items[i].id);
        assert_true(json_equal(shards_utterance(shards, i)->json, manifest.items[i].json));
        assert_ok(shards_read(shards, i, &read, &err), &err);
        char *path = path_join(manifest.folder, manifest.items[i].audio, &err);
        assert_ok(audio_read(&original, path, 0, 0, AUDIO_RATE, &err), &err);
        assert_int_equal(read.count, original.count);
        assert_int_equal(shards_samples(shards, i), original.count);
        for (int64_t k = 0; k < read.count; k++) assert_true(fabsf(read.samples[k] - original.samples[k]) < 1e-4f);
        audio_free(&read);
        audio_free(&original);
        free(path);
    }
    Audio none;
    assert_false(shards_read(shards, CLIPS, &none, &err));
    shards_close(shards);
    Error clean = {0};
    assert_ok(shards_verify(folder, &clean), &clean);
    manifest_free(&manifest);
    free(folder);
}

static void test_same_bytes(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    char *one = test_path("one"), *four = test_path("four");
    assert_ok(write_shards(&manifest, one, 1, &err), &err);
    assert_ok(write_shards(&manifest, four, 4, &err), &err);
    assert_same_folders(one, four);
    assert_ok(write_shards(&manifest, one, 1, &err), &err); /* finished: nothing to do */
    assert_same_folders(one, four);
    manifest_free(&manifest);
    free(one);
    free(four);
}

/* Killed at several moments, it goes on and ends with the same bytes. */
static void test_killed(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    char *whole = test_path("whole"), *killed = test_path("killed");
    assert_ok(write_shards(&manifest, whole, 1, &err), &err);
    for (useconds_t wait = 1000; wait <= 16000; wait *= 2) {
        pid_t child = fork();
        if (child == 0) _exit(write_shards(&manifest, killed, 1, NULL) ? 0 : 1);
        usleep(wait);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    assert_ok(write_shards(&manifest, killed, 1, &err), &err);
    spill(killed, "t-000001.note", "{}", 2); /* as if killed between the index and the clearing up */
    assert_ok(write_shards(&manifest, killed, 1, &err), &err);
    Names names;
    assert_ok(folder_list(killed, &names, &err), &err);
    for (size_t i = 0; i < names.count; i++) /* what a killed write was making may be left; nothing reads it */
        if (strstr(names.items[i], ".tmp")) {
            char *path = path_join(killed, names.items[i], &err);
            folder_remove(path, &err);
            free(path);
        }
    names_free(&names);
    assert_same_folders(whole, killed);
    manifest_free(&manifest);
    free(whole);
    free(killed);
}

static ino_t inode(const char *folder, const char *name) {
    Error err = {0};
    struct stat status;
    char *path = path_join(folder, name, &err);
    assert_int_equal(stat(path, &status), 0);
    free(path);
    return status.st_ino;
}

/* No file system could hold what the longest ids would be unpacked to. */
static void test_long_id(void **state) {
    (void)state;
    char *folder = test_path("longest"), *corpus = make_corpus(1), id[400];
    for (int length = 250; length <= 251; length++) {
        Error err = {0};
        Manifest manifest;
        memset(id, 'i', sizeof id);
        id[length] = '\0';
        char *line = text_format(&err, "{\"id\": \"%s\", \"audio\": \"clip0.wav\"}\n", id);
        assert_ok(file_write(corpus, line, strlen(line), &err) && manifest_read(&manifest, corpus, &err), &err);
        assert_int_equal(write_shards(&manifest, folder, 1, &err), length == 250);
        if (length == 251) assert_non_null(strstr(err.text, "250 fit"));
        folder_remove(folder, NULL);
        manifest_free(&manifest);
        free(line);
    }
    free(folder);
    free(corpus);
}

/* Stopped by a bad recording and started again, it keeps the shards that were finished. */
static void test_goes_on(void **state) {
    (void)state;
    Error err = {0}, stopped = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    char *whole = test_path("uninterrupted"), *parts = test_path("parts");
    assert_ok(write_shards(&manifest, whole, 1, &err), &err);
    size_t size;
    unsigned char *clip = slurp(manifest.folder, "clip20.wav", &size);
    spill(manifest.folder, "clip20.wav", "RIFFnonsense", 12);
    assert_false(write_shards(&manifest, parts, 1, &stopped));
    spill(manifest.folder, "clip20.wav", clip, size);
    ino_t first = inode(parts, "t-000000.tar.zst");
    assert_ok(write_shards(&manifest, parts, 1, &err), &err);
    assert_int_equal(inode(parts, "t-000000.tar.zst"), first);
    assert_same_folders(whole, parts);
    manifest_free(&manifest);
    free(clip);
    free(whole);
    free(parts);
}

static void test_other_manifest_is_refused(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    char *folder = test_path("other");
    assert_ok(write_shards(&manifest, folder, 1, &err), &err);
    manifest_free(&manifest);
    read_corpus(&manifest, CLIPS - 1);
    assert_false(write_shards(&manifest, folder, 1, &err));
    assert_non_null(strstr(err.text, "another manifest"));
    manifest_free(&manifest);
    free(folder);
}

static void test_bad_audio(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, CLIPS);
    spill(manifest.folder, "clip7.wav", "RIFFnonsense", 12);
    char *strict = test_path("strict"), *lax = test_path("lax"), *index = test_path("strict/index.json");
    assert_false(write_shards(&manifest, strict, 2, &err));
    assert_non_null(strstr(err.text, "clip7.wav"));
    assert_false(file_exists(index));
    Error second = {0};
    ShardOptions options = shard_options_default();
    options.skip_bad = true;
    assert_ok(shards_write(&manifest, lax, &options, &second), &second);
    Shards *shards = shards_open(lax, &second);
    assert_ok(shards != NULL, &second);
    assert_int_equal(shards_count(shards), CLIPS - 1);
    assert_string_equal(shards_utterance(shards, 7)->id, manifest.items[8].id);
    shards_close(shards);
    manifest_free(&manifest);
    free(strict);
    free(lax);
    free(index);
}

/* Runs verify; true if it found damage, and both its report and its error went into `text`. */
static bool finds_damage(const char *folder, Text *text) {
    Error err = {0}, reading = {0};
    char *report = test_path("report");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), quiet = quiet_begin();
    assert_non_null(freopen(report, "w", stdout));
    bool intact = shards_verify(folder, &err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    quiet_end(quiet);
    char *printed = file_read(report, 1 << 20, NULL, &reading);
    assert_ok(printed != NULL, &reading);
    *text = (Text){0};
    text_addf(text, "%s\n%s", printed, err.text);
    free(printed);
    free(report);
    return !intact;
}

static void flip(const char *path, size_t at, unsigned char bit) {
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= bit;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* The id of the sample whose frame holds byte `at` of a file; null: none. */
static const char *sample_at(const ShardIndex *index, const Manifest *manifest, const char *name, size_t at) {
    for (size_t i = 0; i < index->sample_count; i++) {
        const ShardSample *sample = &index->samples[i];
        if (strcmp(index->files[sample->shard].file, name) == 0 && (int64_t)at >= sample->offset &&
            (int64_t)at < sample->offset + sample->size)
            return manifest->items[i].id;
    }
    return NULL;
}

/* One flipped bit at a time, all over every file: found, and the file named, and of a shard the sample. */
static void test_every_flip_is_found(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    ShardIndex index;
    Names names;
    read_corpus(&manifest, CLIPS);
    char *folder = test_path("flips"), *path = test_path("flips/index.json");
    assert_ok(write_shards(&manifest, folder, 2, &err) && shard_index_read(&index, path, &err), &err);
    assert_ok(folder_list(folder, &names, &err), &err);
    Rng rng = rng_stream(11, 98, 0, 0);
    int named = 0;
    for (size_t f = 0; f < names.count; f++) {
        size_t size;
        free(slurp(folder, names.items[f], &size));
        char *file = path_join(folder, names.items[f], &err);
        for (int i = 0; i < 60; i++) {
            size_t at = i == 0 ? 0 : i == 1 ? size - 1 : rng_below(&rng, (uint32_t)size);
            unsigned char bit = (unsigned char)(1u << rng_below(&rng, 8));
            const char *id = sample_at(&index, &manifest, names.items[f], at);
            Text said;
            flip(file, at, bit);
            if (!finds_damage(folder, &said)) fail_msg("%s: bit %d of byte %zu changed, unseen", file, bit, at);
            if (!strstr(said.data, names.items[f])) fail_msg("%s is not named: %s", names.items[f], said.data);
            char quoted[120];
            snprintf(quoted, sizeof quoted, "sample \"%.100s", id ? id : "");
            if (id && !strstr(said.data, quoted)) fail_msg("sample \"%s\" is not named: %s", id, said.data);
            named += id != NULL;
            flip(file, at, bit);
            text_free(&said);
        }
        free(file);
    }
    assert_true(named > 200);
    int kept = quiet_begin();
    assert_ok(shards_verify(folder, &err), &err);
    quiet_end(kept);
    names_free(&names);
    shard_index_free(&index);
    manifest_free(&manifest);
    free(folder);
    free(path);
}

static void assert_refused(const char *folder) {
    Error err = {0};
    Shards *shards = shards_open(folder, &err);
    if (shards) { /* a wrong sample may show on reading only */
        bool ok = true;
        for (size_t i = 0; ok && i < shards_count(shards); i++) {
            Audio audio;
            ok = shards_read(shards, i, &audio, &err);
            if (ok) audio_free(&audio);
        }
        shards_close(shards);
        assert_false(ok);
    }
    assert_int_equal(err.exit_code, EXIT_FAILED);
    assert_true(strlen(err.text) > 20);
}

/* Files cut short at many places, and files made longer. */
static void test_truncation(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, 8);
    char *folder = test_path("truncated");
    assert_ok(write_shards(&manifest, folder, 1, &err), &err);
    Names names;
    assert_ok(folder_list(folder, &names, &err), &err);
    for (size_t f = 0; f < names.count; f++) {
        size_t size;
        unsigned char *data = slurp(folder, names.items[f], &size);
        for (size_t part = 0; part < 8; part++) {
            spill(folder, names.items[f], data, size * part / 8);
            assert_refused(folder);
        }
        unsigned char *longer = calloc(size + 100, 1);
        memcpy(longer, data, size);
        spill(folder, names.items[f], longer, size + 100);
        assert_refused(folder);
        spill(folder, names.items[f], data, size);
        free(longer);
        free(data);
    }
    names_free(&names);
    manifest_free(&manifest);
    free(folder);
}

/* An index with a right hash and wrong content: what a liar writes, not what a disk does. */
static void test_lying_index(void **state) {
    (void)state;
    static const char *const CHANGES[][2] = {
        {"\"version\": 1", "\"version\": 2"},
        {"\"version\": 1", "\"version\": \"1\""},
        {"\"rate\": 16000", "\"rate\": 8000"},
        {"\"name\": \"t\"", "\"name\": 5"},
        {"\"samples\": 8", "\"samples\": 7"},
        {"\"samples\": 8", "\"samples\": 9"},
        {"\"samples\": 8", "\"samples\": -1"},
        {"\"samples\": 8", "\"samples\": 99999999999999999"},
        {"\"file\": \"t-000000.tar.zst\"", "\"file\": \"../t-000000.tar.zst\""},
        {"\"file\": \"t-000000.tar.zst\"", "\"file\": \"/etc/passwd\""},
        {"\"file\": \"t-000000.tar.zst\"", "\"file\": \"\""},
        {"\"file\": \"t-000000.tar.zst\"", "\"file\": \"missing.tar.zst\""},
        {"\"bytes\": ", "\"bytes\": 1"},
        {"\"bytes\": ", "\"bytes\": -1"},
        {"\"end\": \"", "\"end\": \"g"},
        {"[0, ", "[1, "},
        {"[0, ", "[-1, "},
        {"[0, ", "[0.5, "},
        {"[0, ", "[9223372036854775807, "},
        {"[0, ", "[0, 1, "},
        {"[0, ", "[0, 99999999999, "},
        {"\"skipped\": []", "\"skipped\": {}"},
        {"\"skipped\": []", "\"skipped\": [7]"},
        {"\"shards\": [", "\"shards\": [null, "},
        {"\"manifest\": {", "\"manifest\": 0, \"m\": {"},
        {"\"samples\": [\n", "\"samples\": [[],\n"},
        {"\"key\"", "\"version\""},
    };
    Error err = {0};
    Manifest manifest;
    read_corpus(&manifest, 8);
    char *folder = test_path("lying");
    ShardOptions options = shard_options_default();
    options.name = "t";
    assert_ok(shards_write(&manifest, folder, &options, &err), &err);
    size_t size;
    char *text = (char *)slurp(folder, "index.json", &size);
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++) {
        char *at = strstr(text, CHANGES[i][0]);
        if (!at) fail_msg("the index does not hold %s", CHANGES[i][0]);
        Text changed = {0};
        text_add(&changed, text, (size_t)(at - text));
        text_add_string(&changed, CHANGES[i][1]);
        text_add_string(&changed, at + strlen(CHANGES[i][0]));
        char *body = strchr(changed.data, '\n') + 1, digits[17];
        snprintf(digits, sizeof digits, "%016llx",
                 (unsigned long long)XXH64(body, changed.length - (size_t)(body - changed.data), 0));
        memcpy(changed.data + strlen("{\"xxh64\": \""), digits, 16);
        spill(folder, "index.json", changed.data, changed.length);
        assert_refused(folder);
        text_free(&changed);
    }
    free(text);
    manifest_free(&manifest);
    free(folder);
}

static void test_missing(void **state) {
    (void)state;
    Error err = {0};
    assert_null(shards_open("/nonexistent/shards", &err));
    assert_non_null(strstr(err.text, "semollm shard"));
    Error bad_name = {0};
    Manifest manifest;
    read_corpus(&manifest, 4);
    char *folder = test_path("named");
    ShardOptions options = shard_options_default();
    options.name = "../up";
    assert_false(shards_write(&manifest, folder, &options, &bad_name));
    assert_int_equal(bad_name.exit_code, EXIT_USAGE);
    manifest_free(&manifest);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_killed),     cmocka_unit_test(test_long_id),
        cmocka_unit_test(test_goes_on),    cmocka_unit_test(test_other_manifest_is_refused),
        cmocka_unit_test(test_bad_audio),  cmocka_unit_test(test_every_flip_is_found),
        cmocka_unit_test(test_truncation), cmocka_unit_test(test_lying_index),
        cmocka_unit_test(test_missing),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
