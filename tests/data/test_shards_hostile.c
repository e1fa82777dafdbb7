/* Damage that hashes cannot find, for it was there when they were made: some hundreds of shard sets with wrong frames,
 * tars, FLACs, manifests and indexes under right hashes. Each is read or refused in a sentence that says where. */
#include "tests/data/corpus.h"

#include "data/shards_format.h"

enum { CLIPS = 6, BYTES_MAX = 1 << 20 };

typedef struct Bytes {
    unsigned char *data;
    size_t size;
} Bytes;

typedef struct Set { /* a shard set in memory */
    ShardIndex index;
    Bytes frames[CLIPS + 1]; /* and the closing one */
    Bytes lines;
} Set;

static Set good;
static int refused, harmless;

/* ---- taking a set apart and putting it together ---- */

static Bytes bytes_copy(const void *data, size_t size) {
    Bytes copy = {malloc(size + 1), size};
    if (!copy.data) abort();
    if (size) memcpy(copy.data, data, size);
    copy.data[size] = '\0';
    return copy;
}

static Bytes read_file(const char *folder, const char *name) {
    Error err = {0};
    Bytes bytes;
    char *path = path_join(folder, name, &err);
    bytes.data = (unsigned char *)file_read(path, BYTES_MAX, &bytes.size, &err);
    assert_ok(bytes.data != NULL, &err);
    free(path);
    return bytes;
}

static Bytes unpack(const Bytes *frame) {
    Error err = {0};
    Bytes bytes;
    bytes.data = frame_unpack(frame->data, frame->size, &bytes.size, "a good frame", &err);
    assert_ok(bytes.data != NULL, &err);
    return bytes;
}

static Bytes pack(const Bytes *bytes) {
    Error err = {0};
    Bytes frame;
    frame.data = frame_pack(bytes->data, bytes->size, 1, &frame.size, &err);
    assert_ok(frame.data != NULL, &err);
    return frame;
}

static int setup(void **state) {
    Error err = {0};
    (void)state;
    char *folder = test_path("good"), *path = test_path("good/index.json");
    corpus_write(folder, CLIPS, BYTES_MAX);
    assert_ok(shard_index_read(&good.index, path, &err), &err);
    assert_int_equal(good.index.file_count, 1);
    Bytes shard = read_file(folder, good.index.files[0].file), manifest = read_file(folder, SHARD_MANIFEST_NAME);
    good.lines = unpack(&manifest);
    int64_t end = 0;
    for (int i = 0; i < CLIPS; i++) {
        const ShardSample *sample = &good.index.samples[i];
        good.frames[i] = bytes_copy(shard.data + sample->offset, (size_t)sample->size);
        end = sample->offset + sample->size;
    }
    good.frames[CLIPS] = bytes_copy(shard.data + end, shard.size - (size_t)end);
    free(shard.data);
    free(manifest.data);
    free(folder);
    free(path);
    return 0;
}

static int teardown(void **state) {
    shard_index_free(&good.index);
    for (int i = 0; i <= CLIPS; i++) free(good.frames[i].data);
    free(good.lines.data);
    fprintf(stderr, "%d sets refused, %d read\n", refused, harmless);
    return test_cleanup(state);
}

static void spill(const char *folder, const char *name, const void *data, size_t size) {
    char path[500];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

/* Writes the set with every size and hash right for what it holds. */
static void put_set(const Set *set, const char *folder) {
    Error err = {0};
    ShardIndex index = set->index;
    ShardFile file = index.files[0];
    ShardSample samples[CLIPS];
    Text shard = {0};
    Bytes manifest = pack(&set->lines);
    assert_ok(folder_make(folder, &err), &err);
    for (int i = 0; i < CLIPS; i++) {
        samples[i] = index.samples[i];
        samples[i].offset = (int64_t)shard.length;
        samples[i].size = (int64_t)set->frames[i].size;
        samples[i].hash = bytes_hash(set->frames[i].data, set->frames[i].size);
        text_add(&shard, (char *)set->frames[i].data, set->frames[i].size);
    }
    text_add(&shard, (char *)set->frames[CLIPS].data, set->frames[CLIPS].size);
    file.bytes = (int64_t)shard.length;
    index.files = &file;
    index.samples = samples;
    index.manifest_bytes = (int64_t)manifest.size;
    index.manifest_size = (int64_t)set->lines.size;
    index.manifest_hash = bytes_hash(manifest.data, manifest.size);
    char *path = path_join(folder, SHARD_INDEX_NAME, &err);
    assert_ok(shard_index_write(&index, path, &err), &err);
    spill(folder, file.file, shard.data, shard.length);
    spill(folder, SHARD_MANIFEST_NAME, manifest.data, manifest.size);
    free(manifest.data);
    free(path);
    text_free(&shard);
}

/* An index's text under its right hash. */
static void put_index(const char *folder, const char *text, size_t size) {
    const size_t lead = strlen("{\"xxh64\": \""), body = lead + 16 + strlen("\",\n");
    Bytes copy = bytes_copy(text, size);
    char digits[17];
    assert_true(size > body);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)bytes_hash(copy.data + body, size - body));
    memcpy(copy.data + lead, digits, 16);
    spill(folder, SHARD_INDEX_NAME, copy.data, copy.size);
    free(copy.data);
}

/* ---- reading it ---- */

static void check_sentence(const Error *err, const char *folder) {
    if (err->exit_code == EXIT_DONE || strlen(err->text) < 30 || !strstr(err->text, folder))
        fail_msg("no sentence that names %s: \"%s\"", folder, err->text);
}

/* Reads all of it, and verifies it. Everything that is read must be sound. */
static bool read_set(const char *folder) {
    Error err = {0}, checked = {0};
    Shards *shards = shards_open(folder, &err);
    bool ok = shards != NULL;
    if (!ok) check_sentence(&err, folder);
    for (size_t i = 0; shards && i < shards_count(shards); i++) {
        Error reading = {0};
        Audio audio;
        assert_non_null(shards_utterance(shards, i)->id);
        if (shards_read(shards, i, &audio, &reading)) {
            assert_int_equal(audio.count, shards_samples(shards, i));
            audio_free(&audio);
        } else {
            check_sentence(&reading, folder);
            ok = false;
        }
    }
    shards_close(shards);
    bool intact = corpus_intact(folder, &checked);
    if (!intact) check_sentence(&checked, folder);
    assert_true(ok || !intact); /* verify finds whatever reading does */
    if (ok)
        harmless++;
    else
        refused++;
    return ok;
}

/* ---- damage ---- */

static size_t below(Rng *rng, size_t bound) { return bound ? rng_below(rng, (uint32_t)bound) : 0; }

/* Changes a copy: bits, bytes, extremes, a part left out or twice, an early end. */
static Bytes damage(const Bytes *whole, Rng *rng, size_t from) {
    static const unsigned char EXTREMES[][8] = {"\xff\xff\xff\xff\xff\xff\xff", "\0\0\0\0\0\0\0", "77777777",
                                                "99999999", "\x7f\xff\xff\xff\xff\xff\xff"};
    Bytes copy = bytes_copy(whole->data, whole->size);
    size_t room = whole->size - from, at = from + below(rng, room), rest = whole->size - at;
    size_t length = 1 + below(rng, rest < 64 ? rest : 64);
    if (length > rest) length = rest;
    switch (rng_below(rng, 6)) {
    case 0:
        for (uint32_t i = 1 + rng_below(rng, 8); i > 0; i--)
            copy.data[from + below(rng, room)] ^= (unsigned char)(1u << rng_below(rng, 8));
        break;
    case 1:
        for (size_t i = 0; i < length; i++) copy.data[at + i] = (unsigned char)rng_next(rng);
        break;
    case 2:
        memcpy(copy.data + at, EXTREMES[rng_below(rng, 5)], rest < 8 ? rest : 8);
        break;
    case 3:
        memmove(copy.data + at, copy.data + at + length, rest - length);
        copy.size -= length;
        break;
    case 4: {
        Text twice = {0};
        text_add(&twice, (char *)whole->data, at + length);
        text_add(&twice, (char *)whole->data + at, rest);
        free(copy.data);
        copy = bytes_copy(twice.data, twice.length);
        text_free(&twice);
        break;
    }
    default:
        copy.size = at;
        break;
    }
    return copy;
}

/* Sets made of the good one with one frame or the manifest replaced by what `change` makes of it. */
typedef Bytes Change(const Set *set, int frame, Rng *rng);

static void check_frames(Change *change, int cases, uint32_t place) {
    char *folder = test_path("bad");
    for (int i = 0; i < cases; i++) {
        Rng rng = rng_stream(1, 90 + place, (uint32_t)i, 0);
        Set set = good;
        int frame = (int)rng_below(&rng, CLIPS);
        set.frames[frame] = change(&good, frame, &rng);
        if (set.frames[frame].size > 0) {
            put_set(&set, folder);
            read_set(folder);
        }
        free(set.frames[frame].data);
    }
    free(folder);
}

static Bytes change_frame(const Set *set, int frame, Rng *rng) { return damage(&set->frames[frame], rng, 0); }

static Bytes change_tar(const Set *set, int frame, Rng *rng) {
    Bytes tar = unpack(&set->frames[frame]), changed = damage(&tar, rng, 0), packed = pack(&changed);
    free(tar.data);
    free(changed.data);
    return packed;
}

/* A tar around FLAC bytes that are wrong. */
static Bytes change_flac(const Set *set, int frame, Rng *rng) {
    Error err = {0};
    Bytes tar = unpack(&set->frames[frame]), flac, line;
    const unsigned char *flac_at, *line_at;
    assert_ok(tar_find(tar.data, tar.size, ".flac", &flac_at, &flac.size, "good", &err) &&
                  tar_find(tar.data, tar.size, ".json", &line_at, &line.size, "good", &err),
              &err);
    flac = bytes_copy(flac_at, flac.size);
    Bytes changed = damage(&flac, rng, 0);
    Text text = {0};
    assert_ok(tar_add(&text, "a.flac", changed.data, changed.size, &err) &&
                  tar_add(&text, "a.json", line_at, line.size, &err),
              &err);
    Bytes built = {(unsigned char *)text.data, text.length}, packed = pack(&built);
    text_free(&text);
    free(changed.data);
    free(flac.data);
    free(tar.data);
    return packed;
}

/* ---- tests ---- */

static void test_nothing_wrong(void **state) {
    (void)state;
    char *folder = test_path("same");
    put_set(&good, folder);
    assert_true(read_set(folder));
    free(folder);
}

static void test_frames(void **state) {
    (void)state;
    check_frames(change_frame, 300, 0);
}

static void test_tars(void **state) {
    (void)state;
    check_frames(change_tar, 300, 1);
}

static void test_flacs(void **state) {
    (void)state;
    check_frames(change_flac, 300, 2);
}

static void test_frames_in_other_places(void **state) {
    (void)state;
    char *folder = test_path("bad");
    Set set = good;
    set.frames[1] = good.frames[2];
    set.frames[2] = good.frames[1];
    put_set(&set, folder);
    assert_false(read_set(folder));
    free(folder);
}

/* A frame that says it unpacks to terabytes, and one that does unpack to much. */
static void test_bombs(void **state) {
    (void)state;
    char *folder = test_path("bad");
    Set set = good;
    static unsigned char terabytes[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0};
    set.frames[0] = (Bytes){terabytes, sizeof terabytes};
    put_set(&set, folder);
    assert_false(read_set(folder));
    Bytes zeros = {calloc(1 << 26, 1), 1 << 26};
    set.frames[0] = pack(&zeros);
    put_set(&set, folder);
    assert_false(read_set(folder));
    free(set.frames[0].data);
    set.frames[0] = good.frames[0];
    set.lines = zeros;
    put_set(&set, folder);
    assert_false(read_set(folder));
    free(zeros.data);
    free(folder);
}

static void test_manifests(void **state) {
    (void)state;
    char *folder = test_path("bad");
    for (uint32_t i = 0; i < 300; i++) {
        Rng rng = rng_stream(1, 93, i, 0);
        Set set = good;
        set.lines = damage(&good.lines, &rng, 0);
        put_set(&set, folder);
        read_set(folder);
        free(set.lines.data);
    }
    free(folder);
}

/* The tokens of an index's body: numbers and strings. */
static size_t next_token(const char *text, size_t at, size_t *length) {
    at += strcspn(text + at, "-0123456789\"");
    *length = text[at] == '"' ? strcspn(text + at + 1, "\"") + 2 : strspn(text + at, "-0123456789");
    return at;
}

/* Each value of the index in turn, replaced by each of what no index holds. */
static void test_indexes(void **state) {
    (void)state;
    static const char *const VALUES[] = {"-1",
                                         "0",
                                         "1",
                                         "9223372036854775807",
                                         "99999999999999999999999",
                                         "1e308",
                                         "0.5",
                                         "\"\"",
                                         "null",
                                         "[]",
                                         "{}",
                                         "true",
                                         "\"../../etc/passwd\"",
                                         "\"\\u0000\"",
                                         "\"ffffffffffffffff\""};
    enum { VALUES_COUNT = sizeof VALUES / sizeof *VALUES };
    char *folder = test_path("bad");
    put_set(&good, folder);
    Bytes index = read_file(folder, SHARD_INDEX_NAME);
    const char *text = (char *)index.data;
    size_t at = (size_t)(strstr(text, "\n") - text), length, number = 0;
    for (at = next_token(text, at, &length); text[at]; at = next_token(text, at + length, &length), number++)
        for (size_t v = number % 3; v < VALUES_COUNT; v += 3) {
            Text changed = {0};
            text_add(&changed, text, at);
            text_add_string(&changed, VALUES[v]);
            text_add_string(&changed, text + at + length);
            put_index(folder, changed.data, changed.length);
            read_set(folder);
            text_free(&changed);
        }
    for (uint32_t i = 0; i < 60; i++) {
        Rng rng = rng_stream(1, 94, i, 0);
        Bytes changed = damage(&index, &rng, 40);
        put_index(folder, (char *)changed.data, changed.size);
        read_set(folder);
        free(changed.data);
    }
    free(index.data);
    free(folder);
}

/* Manifests that are to be made into shards: refused, or written, and then they can be read. */
static void test_manifests_to_write(void **state) {
    (void)state;
    char *corpus = test_path("good"), *path = test_path("good/bad.jsonl"), *folder = test_path("written");
    Bytes lines = read_file(corpus, "m.jsonl");
    for (uint32_t i = 0; i < 60; i++) {
        Error err = {0};
        Rng rng = rng_stream(1, 95, i, 0);
        Bytes changed = damage(&lines, &rng, 0);
        Manifest manifest = {0};
        ShardOptions options = shard_options_default();
        spill(corpus, "bad.jsonl", changed.data, changed.size);
        int kept = quiet_begin();
        bool ok = manifest_read(&manifest, path, &err) && shards_write(&manifest, folder, &options, &err);
        quiet_end(kept);
        if (ok) {
            assert_true(read_set(folder));
        } else {
            check_sentence(&err, path);
            refused++;
        }
        manifest_free(&manifest);
        folder_remove(folder, NULL);
        free(changed.data);
    }
    free(lines.data);
    free(corpus);
    free(path);
    free(folder);
}

static void test_enough(void **state) {
    (void)state;
    assert_true(refused >= 1000);
    assert_true(harmless < refused / 3);
}

int main(void) {
    corpus_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_wrong),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_tars),
        cmocka_unit_test(test_flacs),
        cmocka_unit_test(test_frames_in_other_places),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_manifests),
        cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_manifests_to_write),
        cmocka_unit_test(test_enough),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
