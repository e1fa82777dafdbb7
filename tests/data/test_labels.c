/* Label maps: those of configs/labels, how they are found, and damaged ones. */
#include "tests/test.h"

#include "data/labels.h"

/* Every map that comes with the program is of the corpus that its name says. */
static void all_of_ours(void **state) {
    (void)state;
    Names names;
    int count = 0;
    assert_true(folder_list("configs/labels", &names, NULL));
    for (size_t i = 0; i < names.count; i++) {
        Error err = {0};
        char *path = path_join("configs/labels", names.items[i], &err);
        char *corpus = text_format(&err, "%.*s", (int)(strrchr(names.items[i], '-') - names.items[i]), names.items[i]);
        LabelMap *map;
        assert_ok(labels_read(&map, path, corpus, NULL, &err), &err);
        assert_string_equal(map->corpus, corpus);
        assert_string_equal(map->path, path);
        labels_free(map);
        assert_false(labels_read(&map, path, "other", NULL, &err));
        assert_null(map);
        assert_int_equal(err.exit_code, EXIT_USAGE);
        free(path);
        free(corpus);
        count++;
    }
    names_free(&names);
    printf("%d label maps\n", count);
    assert_true(count >= 11);
}

static void found_by_name(void **state) {
    (void)state;
    static const char *const SPELLINGS[] = {"4", "iemocap-4", "configs/labels/iemocap-4.yaml", NULL};
    LabelMap *map;
    for (size_t i = 0; i < 4; i++) {
        Error err = {0};
        const char *emotion;
        assert_ok(labels_read(&map, SPELLINGS[i], "iemocap", "iemocap-4", &err), &err);
        assert_ok(labels_find(map, "exc", &emotion, &err), &err);
        assert_string_equal(emotion, "happy");
        assert_ok(labels_find(map, "xxx", &emotion, &err), &err);
        assert_null(emotion);
        assert_false(labels_find(map, "EXC", &emotion, &err));
        assert_non_null(strstr(err.text, "configs/labels/iemocap-4.yaml"));
        labels_free(map);
    }
    Error err = {0};
    assert_ok(labels_read(&map, NULL, "csv", NULL, &err), &err);
    assert_null(map);
    assert_false(labels_read(&map, "5", "iemocap", "iemocap-4", &err));
    assert_non_null(strstr(err.text, "iemocap-4, iemocap-6, iemocap-native"));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(labels_read(&map, "no/such.yaml", "iemocap", "iemocap-4", &err));
    assert_non_null(strstr(err.text, "no/such.yaml"));
}

static LabelMap *read_text(const char *text, size_t size, Error *err) {
    char *path = test_path("map.yaml");
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
    *err = (Error){0};
    LabelMap *map;
    assert_true(labels_read(&map, path, "mine", NULL, err) == (map != NULL));
    unlink(path);
    free(path);
    return map;
}

static void others_left_out(void **state) {
    (void)state;
    static const char TEXT[] = "classes:\n  - {name: very sad, labels: [1, no]}\nleft_out: ['*']\n";
    Error err;
    const char *emotion;
    LabelMap *map = read_text(TEXT, sizeof TEXT - 1, &err);
    assert_ok(map != NULL, &err);
    assert_ok(labels_find(map, "no", &emotion, &err), &err);
    assert_string_equal(emotion, "very sad");
    assert_ok(labels_find(map, "anything", &emotion, &err), &err);
    assert_null(emotion);
    labels_free(map);
}

static void hostile_maps(void **state) {
    (void)state;
    static const char *const MAPS[][2] = {
        {"", "map.yaml"},
        {"\n", "map.yaml"},
        {"[]", "map.yaml"},
        {"classes: []\n", "map.yaml"},
        {"classes: {}\n", "map.yaml"},
        {"left_out: [a]\n", "classes"},
        {"classes:\n  - {name: x}\n", "labels"},
        {"classes:\n  - {labels: [a]}\n", "name"},
        {"classes:\n  - {name: x, labels: []}\n", "map.yaml"},
        {"classes:\n  - {name: x, labels: a}\n", "map.yaml"},
        {"classes:\n  - {name: x, labels: [[a]]}\n", "map.yaml"},
        {"classes:\n  - {name: '', labels: [a]}\n", "map.yaml"},
        {"classes:\n  - {name: x, labels: ['']}\n", "map.yaml"},
        {"classes:\n  - {name: x, labels: [a]}\nclases: 1\n", "clases"},
        {"classes:\n  - {name: x, labels: [a], to: y}\n", "to"},
        {"corpus: yours\nclasses:\n  - {name: x, labels: [a]}\n", "yours"},
        {"classes:\n  - {name: x, labels: [a]}\n  - {name: x, labels: [b]}\n", "\"x\" is there twice"},
        {"classes:\n  - {name: x, labels: [a]}\n  - {name: y, labels: [b, a]}\n", "\"a\" is named twice"},
        {"classes:\n  - {name: x, labels: [a, a]}\n", "\"a\" is named twice"},
        {"classes:\n  - {name: x, labels: [a]}\nleft_out: [a]\n", "\"a\" is named twice"},
        {"classes:\n  - {name: x, labels: [a]}\nleft_out: [b, b]\n", "\"b\" is named twice"},
        {"classes:\n  - {name: x, labels: ['*']}\n", "left_out only"},
        {"classes: &c\n  - {name: x, labels: [a]}\nleft_out: *c\n", "map.yaml"},
        {"classes:\n  - {name: x, labels: [a\n", "did not find expected"},
        {"classes:\n  - {name: x, labels: [a]}\n---\n\x01", "map.yaml"},
        {"classes:\n  - {name: \xFF, labels: [a]}\n", "map.yaml"},
        {"\x7f"
         "ELF",
         "map.yaml"},
    };
    int count = (int)(sizeof MAPS / sizeof *MAPS);
    for (int i = 0; i < count; i++) {
        Error err;
        LabelMap *map = read_text(MAPS[i][0], strlen(MAPS[i][0]), &err);
        if (map) fail_msg("accepted: %s", MAPS[i][0]);
        if (!strstr(err.text, MAPS[i][1])) fail_msg("\"%s\" is not named in: %s", MAPS[i][1], err.text);
    }
    enum { HUGE_LINE = 2000000 };
    char *huge = malloc(HUGE_LINE);
    memset(huge, 'a', HUGE_LINE);
    Error err;
    assert_null(read_text(huge, HUGE_LINE, &err));
    assert_non_null(strstr(err.text, "map.yaml"));
    free(huge);
    printf("%d hostile maps refused\n", count + 1);
}

/* Every cut and many changes of a byte end in an error or a map. */
static void every_byte(void **state) {
    (void)state;
    static const char TEXT[] =
        "corpus: mine # x\nfield: f\nclasses:\n  - {name: x, labels: [a, \"b\"]}\nleft_out: ['*']\n";
    static const char BYTES[] = {'\0', '\xFF', '\n', '\t', ':', '[', '}', '&', '*', '"', '-'};
    enum { SIZE = sizeof TEXT - 1 };
    for (size_t at = 0; at < SIZE; at++)
        for (size_t k = 0; k <= sizeof BYTES; k++) {
            char copy[SIZE];
            Error err;
            memcpy(copy, TEXT, SIZE);
            if (k < sizeof BYTES) copy[at] = BYTES[k];
            LabelMap *map = read_text(copy, k < sizeof BYTES ? SIZE : at, &err);
            assert_true(map || strstr(err.text, "map.yaml"));
            labels_free(map);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_ours),  cmocka_unit_test(found_by_name), cmocka_unit_test(others_left_out),
        cmocka_unit_test(hostile_maps), cmocka_unit_test(every_byte),
    };
    return cmocka_run_group_tests_name("labels", tests, NULL, test_cleanup);
}
