/* Manifests: what is written is read again, and damaged ones are refused with the line's number. */
#include "tests/test.h"

#include <math.h>

#include "data/manifest.h"

/* Without the fsync of file_write, which would make hundreds of damaged files slow. */
static void put_file(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
}

static bool read_text_as_manifest(const char *text, size_t size, Manifest *manifest, Error *err) {
    char *path = test_path("m.jsonl");
    put_file(path, text, size);
    bool done = manifest_read(manifest, path, err);
    free(path);
    return done;
}

static void round_trip(void **state) {
    (void)state;
    static const char TEXT[] =
        "\xEF\xBB\xBF{\"id\":\"a\",\"corpus\":\"c\",\"audio\":\"x/1.wav\",\"start\":0.25,\"end\":1.5,\"speaker\":\"s\","
        "\"gender\":\"female\",\"emotion\":\"happy\",\"transcript\":\"h\xC3\xA9 "
        "\\\"so\\\"\\n\",\"group\":\"g\",\"odd\":{\"k\":[1,"
        "null]},\"features\":{\"duration_s\":1.25,\"f0_median_hz\":null,\"pause_count\":2,\"mine\":7},"
        "\"explanation\":\"E.\",\"teacher\":\"t\"}\r\n"
        "\n  \t\r\n"
        "{\"id\":\"b\",\"audio\":\"2.wav\",\"speaker\":null}"; /* no line break at the end */
    Manifest manifest, again;
    Error err = {0};
    assert_ok(read_text_as_manifest(TEXT, sizeof TEXT - 1, &manifest, &err), &err);
    assert_int_equal(manifest.count, 2);
    const Utterance *a = &manifest.items[0], *b = &manifest.items[1];
    assert_string_equal(a->transcript, "h\xC3\xA9 \"so\"\n");
    assert_true(a->start == 0.25 && a->end == 1.5 && a->has_features);
    assert_true(a->features.value[FEATURE_DURATION_S] == 1.25 && a->features.value[FEATURE_PAUSE_COUNT] == 2);
    assert_true(isnan(a->features.value[FEATURE_F0_MEDIAN_HZ]) && isnan(a->features.value[FEATURE_SPEECH_S]));
    assert_string_equal(b->corpus, "unknown");
    assert_null(b->speaker);
    assert_null(b->emotion);
    assert_false(b->has_features);

    free(manifest.items[1].emotion);
    manifest.items[1].emotion = strdup("sad");
    manifest.items[1].start = 0.1;
    char *path = test_path("again.jsonl");
    assert_ok(manifest_write(&manifest, path, &err), &err);
    assert_ok(manifest_read(&again, path, &err), &err);
    assert_int_equal(again.count, 2);
    for (int i = 0; i < FEATURE_COUNT; i++) {
        double x = a->features.value[i], y = again.items[0].features.value[i];
        assert_true(x == y || (isnan(x) && isnan(y)));
    }
    assert_string_equal(again.items[0].explanation, "E.");
    assert_string_equal(again.items[0].teacher, "t");
    assert_string_equal(again.items[1].emotion, "sad");
    assert_true(again.items[1].start == 0.1);
    const json_t *json = again.items[0].json;
    assert_int_equal(json_integer_value(json_array_get(json_object_get(json_object_get(json, "odd"), "k"), 0)), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "features"), "mine")), 7);
    assert_true(json_is_null(json_object_get(again.items[1].json, "speaker"))); /* an explicit null stays */
    assert_null(json_object_get(again.items[1].json, "gender"));

    char *second = test_path("second.jsonl"); /* writing what was read changes no byte */
    assert_ok(manifest_write(&again, second, &err), &err);
    size_t size_1, size_2;
    char *text_1 = file_read(path, 1 << 20, &size_1, &err), *text_2 = file_read(second, 1 << 20, &size_2, &err);
    assert_int_equal(size_1, size_2);
    assert_memory_equal(text_1, text_2, size_1);
    free(text_1);
    free(text_2);
    free(second);
    free(path);
    manifest_free(&manifest);
    manifest_free(&again);
}

static void built_in_memory(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest = {0}, again;
    for (int i = 0; i < 100; i++) {
        Utterance *utterance = manifest_add(&manifest, &err);
        assert_non_null(utterance);
        utterance->id = text_format(&err, "u%d", i);
        utterance->audio = text_copy("a.wav", &err);
        utterance->end = i;
    }
    char *path = test_path("built.jsonl");
    assert_ok(manifest_write(&manifest, path, &err), &err);
    assert_ok(manifest_read(&again, path, &err), &err);
    assert_int_equal(again.count, 100);
    assert_true(again.items[57].end == 57);
    manifest_free(&manifest);
    manifest_free(&again);
    free(path);
}

static void invalid_text_is_refused_in_writing(void **state) {
    (void)state;
    Error err = {0};
    Manifest manifest = {0};
    Utterance *utterance = manifest_add(&manifest, &err);
    utterance->id = strdup("x");
    utterance->audio = strdup("bad\xFF.wav");
    char *path = test_path("never.jsonl");
    assert_false(manifest_write(&manifest, path, &err));
    assert_false(file_exists(path));
    manifest_free(&manifest);
    free(path);
}

static void relative_paths(void **state) {
    (void)state;
    Error err = {0};
    char *deep = test_path("tree/one/two"), *other = test_path("tree/three"), *file = test_path("tree/one/x.wav");
    assert_ok(folder_make(deep, &err) && folder_make(other, &err) && file_write(file, "", 0, &err), &err);
    char *from_deep = audio_relative(file, deep, &err), *from_other = audio_relative(file, other, &err);
    assert_string_equal(from_deep, "../x.wav");
    assert_string_equal(from_other, "../one/x.wav");
    char *absent = test_path("tree/none.wav");
    assert_null(audio_relative(absent, deep, &err));
    assert_non_null(strstr(err.text, "none.wav"));
    char *parent = path_folder(file, NULL), *beside = audio_relative(file, parent, NULL);
    assert_string_equal(beside, "x.wav");
    char *far = audio_relative("/dev/null", parent, NULL); /* nothing shared: stays absolute */
    assert_string_equal(far, "/dev/null");
    char *all[] = {deep, other, file, from_deep, from_other, absent, parent, beside, far};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static const char GOOD[] = "{\"id\":\"good\",\"audio\":\"x.wav\"}\n";

static void hostile_lines(void **state) {
    (void)state;
    static const char *const LINES[] = {
        "{",
        "}",
        "[]",
        "[1,2]",
        "null",
        "true",
        "3",
        "\"id\"",
        "{\"id\"}",
        "{\"id\":}",
        "{\"id\":\"a\",}",
        "{}",
        "{\"id\":\"a\"}",
        "{\"audio\":\"a\"}",
        "{\"id\":1,\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":2}",
        "{\"id\":null,\"audio\":\"a\"}",
        "{\"id\":\"\",\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":\"\"}",
        "{\"id\":[],\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":{}}",
        "{\"id\":\"good\",\"audio\":\"a\"}",
        "{\"id\":\"a\",\"id\":\"b\",\"audio\":\"a\"}",
        "{\"id\":\"a\\u0000b\",\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":\"x\\u0000\"}",
        "{\"id\":\"\\uD800\",\"audio\":\"a\"}",
        "{\"id\":\"\xFF\",\"audio\":\"a\"}",
        "{\"id\":\"\xC0\x80\",\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":\"a\",\"corpus\":5}",
        "{\"id\":\"a\",\"audio\":\"a\",\"speaker\":5}",
        "{\"id\":\"a\",\"audio\":\"a\",\"speaker\":[\"s\"]}",
        "{\"id\":\"a\",\"audio\":\"a\",\"emotion\":true}",
        "{\"id\":\"a\",\"audio\":\"a\",\"transcript\":{}}",
        "{\"id\":\"a\",\"audio\":\"a\",\"group\":1.5}",
        "{\"id\":\"a\",\"audio\":\"a\",\"explanation\":0}",
        "{\"id\":\"a\",\"audio\":\"a\",\"teacher\":0}",
        "{\"id\":\"a\",\"audio\":\"a\",\"gender\":\"Female\"}",
        "{\"id\":\"a\",\"audio\":\"a\",\"gender\":\"\"}",
        "{\"id\":\"a\",\"audio\":\"a\",\"gender\":\"f\"}",
        "{\"id\":\"a\",\"audio\":\"a\",\"gender\":1}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":-1}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":\"0\"}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":1e999}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":NaN}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":2,\"end\":1}",
        "{\"id\":\"a\",\"audio\":\"a\",\"start\":2,\"end\":2}",
        "{\"id\":\"a\",\"audio\":\"a\",\"end\":-0.5}",
        "{\"id\":\"a\",\"audio\":\"a\",\"end\":true}",
        "{\"id\":\"a\",\"audio\":\"a\",\"features\":[]}",
        "{\"id\":\"a\",\"audio\":\"a\",\"features\":3}",
        "{\"id\":\"a\",\"audio\":\"a\",\"features\":{\"duration_s\":\"1\"}}",
        "{\"id\":\"a\",\"audio\":\"a\",\"features\":{\"pause_count\":[]}}",
        "{\"id\":\"a\",\"audio\":\"a\"} {\"id\":\"b\",\"audio\":\"a\"}",
        "{\"id\":\"a\",\"audio\":\"a\"} x",
        "{'id':'a','audio':'a'}",
        "{\"id\":\"a\" \"audio\":\"a\"}",
        "id: a",
        "\\",
        "<xml/>",
        "{\"id\":\"a\",\"audio\":\"a\",\"odd\":99999999999999999999999}",
    };
    enum { COUNT = sizeof LINES / sizeof *LINES };
    for (int i = 0; i < COUNT; i++) {
        char *text = text_format(NULL, "%s\n%s\n", GOOD, LINES[i]);
        Manifest manifest;
        Error err = {0};
        if (read_text_as_manifest(text, strlen(text), &manifest, &err)) fail_msg("accepted: %s", LINES[i]);
        if (!strstr(err.text, "line 3")) fail_msg("no line in: %s", err.text);
        assert_int_equal(err.exit_code, EXIT_FAILED);
        free(text);
    }
    printf("%d hostile lines refused\n", (int)COUNT);
}

static void hostile_files(void **state) {
    (void)state;
    Manifest manifest;
    Error err = {0};
    assert_false(read_text_as_manifest("", 0, &manifest, &err));
    err = (Error){0};
    assert_false(read_text_as_manifest("\n\n \n", 4, &manifest, &err));
    err = (Error){0};
    assert_false(read_text_as_manifest("\xEF\xBB\xBF", 3, &manifest, &err));
    err = (Error){0};
    assert_false(manifest_read(&manifest, "/nonexistent/m.jsonl", &err));
    assert_non_null(strstr(err.text, "/nonexistent/m.jsonl"));
    err = (Error){0};
    assert_false(manifest_read(&manifest, "tests", &err)); /* a folder */
    char *deep = memory_new(200001, 1, NULL);
    memset(deep, '[', 200000);
    err = (Error){0};
    assert_false(read_text_as_manifest(deep, 200000, &manifest, &err));
    free(deep);
}

/* Every cut and many single-byte changes of a good file: an error or a manifest, never a crash. */
static void damaged_files(void **state) {
    (void)state;
    static const char TEXT[] =
        "{\"id\":\"a\",\"audio\":\"x.wav\",\"start\":0.5,\"end\":2,\"gender\":\"male\",\"features\":"
        "{\"duration_s\":1.5,\"speech_s\":null}}\n{\"id\":\"b\",\"audio\":\"y.wav\"}\n";
    enum { SIZE = sizeof TEXT - 1 };
    int refused = 0, tried = 0;
    for (size_t i = 0; i < SIZE; i++) {
        static const char BYTES[] = {'\0', '"', '{', '\n', '\\', '9', (char)0xFF};
        for (size_t k = 0; k <= sizeof BYTES; k++) {
            char copy[SIZE];
            memcpy(copy, TEXT, SIZE);
            if (k < sizeof BYTES) copy[i] = BYTES[k];
            Manifest manifest;
            Error err = {0};
            tried++;
            if (read_text_as_manifest(copy, k < sizeof BYTES ? SIZE : i, &manifest, &err)) {
                manifest_free(&manifest);
            } else {
                refused++;
                assert_true(err.text[0]);
            }
        }
    }
    printf("%d of %d damaged files refused\n", refused, tried);
    assert_true(refused > tried / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(built_in_memory),
        cmocka_unit_test(invalid_text_is_refused_in_writing),
        cmocka_unit_test(relative_paths),
        cmocka_unit_test(hostile_lines),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(damaged_files),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, test_cleanup);
}
