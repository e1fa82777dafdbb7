/* RAVDESS's tree and tables of any corpus, and both of them damaged. */
#include "tests/data/import_tree.h"

static bool import_tree(const Importer *importer, const char *root, Manifest *manifest, Error *err) {
    char *path = test_path(root), *folder = test_folder();
    Imported imported;
    bool done = import_corpus(importer, &(ImportOptions){.root = path, .folder = folder}, &imported, err);
    *manifest = imported.manifest;
    imported.manifest = (Manifest){0};
    imported_free(&imported);
    free(path);
    free(folder);
    return done;
}

static bool ravdess(Manifest *manifest, Error *err) { return import_tree(&IMPORT_RAVDESS, "ravdess", manifest, err); }

static const Utterance *named(const Manifest *manifest, const char *id) {
    for (size_t i = 0; i < manifest->count; i++)
        if (strcmp(manifest->items[i].id, id) == 0) return &manifest->items[i];
    fail_msg("no utterance %s", id);
    return NULL;
}

static void ravdess_tree(void **state) {
    (void)state;
    static const char *const ODD[] = {"ravdess/Actor_01/._03-01-01-01-01-01-01.wav", "ravdess/.DS_Store",
                                      "ravdess/Actor_01/notes.txt", "ravdess/README.md",
                                      "ravdess/Actor_01/03-02-04-01-01-01-01.wav"}; /* a song */
    int expected = 0;
    for (int actor = 1; actor <= 24; actor += 23)
        for (int emotion = 1; emotion <= 8; emotion++)
            for (int statement = 1; statement <= 2; statement++, expected++) {
                char name[80];
                snprintf(name, sizeof name, "ravdess/Actor_%02d/03-01-%02d-%02d-%02d-02-%02d.%s", actor, emotion,
                         1 + (emotion > 1 && statement == 2), statement, actor, actor == 1 ? "wav" : "flac");
                tree_sound(name);
            }
    for (size_t i = 0; i < sizeof ODD / sizeof *ODD; i++) tree_text(ODD[i], "");
    Manifest manifest;
    Error err = {0};
    assert_ok(ravdess(&manifest, &err), &err);
    assert_int_equal(manifest.count, expected);
    const Utterance *u = named(&manifest, "ravdess-03-01-05-02-02-02-24");
    assert_string_equal(u->emotion, "angry");
    assert_string_equal(u->gender, "female");
    assert_string_equal(u->speaker, "Actor_24");
    assert_string_equal(u->group, "Actor_24");
    assert_string_equal(u->corpus, "ravdess");
    assert_string_equal(u->transcript, "Dogs are sitting by the door");
    assert_string_equal(u->audio, "ravdess/Actor_24/03-01-05-02-02-02-24.flac");
    assert_string_equal(json_string_value(json_object_get(u->json, "intensity")), "strong");
    u = named(&manifest, "ravdess-03-01-08-01-01-02-01");
    assert_string_equal(u->emotion, "surprised");
    assert_string_equal(u->gender, "male");
    assert_string_equal(u->transcript, "Kids are talking by the door");
    manifest_free(&manifest);
    tree_remove("ravdess");
}

static void ravdess_damaged(void **state) {
    (void)state;
    static const char *const NAMES[] = {
        "03-01-09-01-01-01-01.wav",
        "03-01-00-01-01-01-01.wav",
        "03-01-01-03-01-01-01.wav",
        "03-01-01-01-03-01-01.wav",
        "03-01-01-01-01-03-01.wav",
        "03-01-01-01-01-01-25.wav",
        "03-01-01-01-01-01-00.wav",
        "04-01-01-01-01-01-01.wav",
        "03-03-01-01-01-01-01.wav",
        "03-01-01-01-01-01.wav",
        "03-01-01-01-01-01-01-01.wav",
        "3-1-1-1-1-1-1.wav",
        "03_01_01_01_01_01_01.wav",
        "03-01-01-01-01-01-01x.wav",
        "x03-01-01-01-01-01-01.wav",
        "speech.wav",
        "03-01-ab-01-01-01-01.flac",
        "-.wav",
        "03-01-01-01-01-01-0.wav",
        "03-01-01-01-01-01-011.WAV",
        "03.flac",
    };
    Manifest manifest;
    Error err = {0};
    assert_false(ravdess(&manifest, &err)); /* no such folder */
    assert_non_null(strstr(err.text, "ravdess"));
    tree_text("ravdess/Actor_01/readme.txt", ""); /* no recording in it */
    err = (Error){0};
    assert_false(ravdess(&manifest, &err));
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char *name = text_format(NULL, "ravdess/Actor_01/%s", NAMES[i]), *path = test_path(name);
        tree_sound(name);
        err = (Error){0};
        if (ravdess(&manifest, &err)) fail_msg("accepted: %s", NAMES[i]);
        assert_non_null(strstr(err.text, NAMES[i]));
        manifest_free(&manifest);
        unlink(path);
        free(path);
        free(name);
    }
    tree_sound("ravdess/Actor_01/03-01-01-01-01-01-01.wav"); /* the same recording in two places */
    tree_sound("ravdess/copy/Actor_01/03-01-01-01-01-01-01.wav");
    err = (Error){0};
    assert_false(ravdess(&manifest, &err));
    assert_non_null(strstr(err.text, "03-01-01-01-01-01-01"));
    manifest_free(&manifest);
    tree_remove("ravdess");
}

static bool csv(const char *text, size_t size, Manifest *manifest, Error *err) {
    tree_bytes("tables/t.csv", text, size);
    return import_tree(&IMPORT_CSV, "tables/t.csv", manifest, err);
}

static int make_audio(void **state) {
    (void)state;
    tree_sound_at("tables/a.wav", 1600, 4);
    tree_sound("tables/sub/b, \"c\".wav");
    return 0;
}

static void good_table(void **state) {
    (void)state;
    static const char TEXT[] = "\xEF\xBB\xBF"
                               "emotion,audio,transcript,gender,start,end,speaker,note\r\n"
                               "happy,a.wav,\"He said \"\"no\"\", twice.\r\nThen left\",F,0.5,2,s1,x\r\n"
                               "\r\n"
                               "sad,\"sub/b, \"\"c\"\".wav\",,male,,,,\n"
                               "\"very sad\",a.wav,plain,unknown,2,3.25,s2,\"\"";
    Manifest manifest;
    Error err = {0};
    assert_ok(csv(TEXT, sizeof TEXT - 1, &manifest, &err), &err);
    assert_int_equal(manifest.count, 3);
    const Utterance *u = manifest.items;
    assert_string_equal(u[0].transcript, "He said \"no\", twice.\r\nThen left");
    assert_string_equal(u[0].gender, "female");
    assert_string_equal(u[0].audio, "tables/a.wav");
    assert_string_equal(u[0].group, "s1"); /* the speaker, where there is no group */
    assert_string_equal(u[0].id, "a_0.5");
    assert_true(u[0].start == 0.5 && u[0].end == 2);
    assert_string_equal(u[1].audio, "tables/sub/b, \"c\".wav");
    assert_string_equal(u[1].id, "sub/b, \"c\"");
    assert_string_equal(u[1].gender, "male");
    assert_null(u[1].transcript);
    assert_null(u[1].speaker);
    assert_string_equal(u[2].emotion, "very sad");
    assert_null(u[2].gender);
    assert_string_equal(u[2].corpus, "unknown");
    manifest_free(&manifest);

    static const char FULL[] = "id,corpus,group,audio,emotion\nx1,mine,g,a.wav,calm\n";
    assert_ok(csv(FULL, sizeof FULL - 1, &manifest, &err), &err);
    assert_string_equal(manifest.items[0].id, "x1");
    assert_string_equal(manifest.items[0].corpus, "mine");
    assert_string_equal(manifest.items[0].group, "g");
    manifest_free(&manifest);
}

static void hostile_tables(void **state) {
    (void)state;
    static const struct {
        const char *text, *names; /* what the error must name */
    } TABLES[] = {
        {"", "t.csv"},
        {"\n", "line 1"},
        {"\xEF\xBB\xBF", "t.csv"},
        {"audio,emotion\n", "no row"},
        {"audio,emotion", "no row"},
        {"audio,emotion\n\n\n", "no row"},
        {"audio\na.wav\n", "emotion"},
        {"emotion\nsad\n", "audio"},
        {"path,label\na.wav,sad\n", "audio"},
        {"Audio,emotion\na.wav,sad\n", "audio"},
        {"audio;emotion\na.wav;sad\n", "audio"},
        {"audio,emotion,audio\na.wav,sad,a.wav\n", "twice"},
        {"audio,emotion,\na.wav,sad,\n", "no name"},
        {"audio,,emotion\na.wav,x,sad\n", "no name"},
        {"audio,emotion\na.wav\n", "line 2"},
        {"audio,emotion\na.wav,sad,x\n", "line 2"},
        {"audio,emotion\na.wav,sad\na.wav,sad,\n", "line 3"},
        {"audio,emotion\n\"a.wav,sad\n", "line 2"},
        {"audio,emotion\n\"a.wav\"x,sad\n", "line 2"},
        {"audio,emotion\na\"b.wav,sad\n", "line 2"},
        {"audio,emotion\na.wav,\"sad\n\n\n", "line 2"},
        {"audio,emotion\n\"", "line 2"},
        {"\"audio,emotion", "line 1"},
        {"audio,emotion\n,sad\n", "column audio"},
        {"audio,emotion\na.wav,\n", "column emotion"},
        {"audio,emotion\nnone.wav,sad\n", "column audio"},
        {"audio,emotion\n/nonexistent/x.wav,sad\n", "column audio"},
        {"audio,emotion\nsub,sad\n", "column audio"},
        {"audio,emotion,gender\na.wav,sad,x\n", "column gender"},
        {"audio,emotion,gender\na.wav,sad,Femalee\n", "column gender"},
        {"audio,emotion,gender\na.wav,sad, female\n", "column gender"},
        {"audio,emotion,start\na.wav,sad,x\n", "column start"},
        {"audio,emotion,start\na.wav,sad,-1\n", "column start"},
        {"audio,emotion,start\na.wav,sad,nan\n", "column start"},
        {"audio,emotion,start\na.wav,sad,inf\n", "column start"},
        {"audio,emotion,start\na.wav,sad,1e999\n", "column start"},
        {"audio,emotion,start\na.wav,sad,1s\n", "column start"},
        {"audio,emotion,start\na.wav,sad,\"1,5\"\n", "column start"},
        {"audio,emotion,end\na.wav,sad,00:01\n", "column end"},
        {"audio,emotion,start,end\na.wav,sad,2,1\n", "column end"},
        {"audio,emotion,start,end\na.wav,sad,2,2\n", "column end"},
        {"audio,emotion\na.wav,sad\na.wav,happy\n", "id"},
        {"audio,emotion,id\na.wav,sad,x\na.wav,happy,x\n", "\"x\""},
        {"audio,emotion\na.wav,s\xFF"
         "d\n",
         "line 2"},
        {"audio,emotion,id\na.wav,sad,\xC0\x80\n", "line 2"},
        {"audio,emotion,transcript\na.wav,sad,\xED\xA0\x80\n", "line 2"},
    };
    int count = (int)(sizeof TABLES / sizeof *TABLES);
    for (int i = 0; i < count; i++) {
        Manifest manifest;
        Error err = {0};
        if (csv(TABLES[i].text, strlen(TABLES[i].text), &manifest, &err)) fail_msg("accepted: %s", TABLES[i].text);
        if (!strstr(err.text, TABLES[i].names)) fail_msg("\"%s\" is not named in: %s", TABLES[i].names, err.text);
        manifest_free(&manifest);
    }
    Manifest manifest;
    Error err = {0};
    static const char NUL[] = "audio,emotion\na.wav,s\0d\n";
    assert_false(csv(NUL, sizeof NUL - 1, &manifest, &err));
    manifest_free(&manifest);
    err = (Error){0};
    assert_false(import_tree(&IMPORT_CSV, "/nonexistent.csv", &manifest, &err));
    printf("%d hostile tables refused\n", count + 2);
}

/* Every cut and many byte changes of a good table end in an error or a manifest. */
static void damaged_tables(void **state) {
    (void)state;
    static const char TEXT[] = "audio,emotion,start,transcript\na.wav,sad,1,\"x \"\"y\"\"\"\na.wav,happy,2,z\n";
    enum { SIZE = sizeof TEXT - 1 };
    for (size_t i = 0; i < SIZE; i++) {
        static const char BYTES[] = {'\0', '"', ',', '\n', '\r', (char)0xFF};
        for (size_t k = 0; k <= sizeof BYTES; k++) {
            char copy[SIZE];
            memcpy(copy, TEXT, SIZE);
            if (k < sizeof BYTES) copy[i] = BYTES[k];
            Manifest manifest;
            Error err = {0};
            bool done = csv(copy, k < sizeof BYTES ? SIZE : i, &manifest, &err);
            assert_true(done || err.text[0]);
            manifest_free(&manifest);
        }
    }
}

#define RUN(command, err, ...)                                                                                         \
    command((int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__}, err)

static void command_line(void **state) {
    (void)state;
    static const char TABLE[] = "audio,emotion\na.wav,sad\n";
    tree_text("tables/c.csv", TABLE);
    char *table = test_path("tables/c.csv"), *out = test_path("new/folder/m.jsonl");
    Error err = {0};
    assert_ok(RUN(command_import, &err, "import", "csv", table, "-o", out), &err);
    Manifest manifest;
    assert_ok(manifest_read(&manifest, out, &err), &err);
    assert_string_equal(manifest.items[0].audio, "../../tables/a.wav");
    char *audio = manifest_audio(&manifest, &manifest.items[0], &err);
    assert_true(file_exists(audio));
    free(audio);
    manifest_free(&manifest);
    assert_false(RUN(command_import, &err, "import", "csv", table));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(RUN(command_import, &err, "import", "iemocapp", table, "-o", out));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(RUN(command_import, &err, "import", "csv", "-o", out));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    free(table);
    free(out);
}

/* A map makes emotions of a table's labels; many emotions leave the census without columns of them. */
static void mapped_table(void **state) {
    (void)state;
    static const char MAP[] = "classes:\n  - {name: sad, labels: [s, blue]}\nleft_out: [\"?\"]\n";
    tree_text("tables/map.yaml", MAP);
    tree_text("tables/m.csv", "id,audio,emotion\n1,a.wav,blue\n2,a.wav,?\n3,a.wav,s\n");
    char *map = test_path("tables/map.yaml");
    TreeImport mapped = tree_import("csv", "tables/m.csv", "--labels", map);
    if (!mapped.done) fail_msg("%s", mapped.err.text);
    assert_string_equal(mapped.manifest,
                        "{\"id\":\"1\",\"corpus\":\"unknown\",\"audio\":\"tables/a.wav\",\"emotion\":\"sad\","
                        "\"label\":\"blue\"}\n"
                        "{\"id\":\"3\",\"corpus\":\"unknown\",\"audio\":\"tables/a.wav\",\"emotion\":\"sad\","
                        "\"label\":\"s\"}\n");
    tree_says(&mapped, "left out: 1 labelled ?\n");
    tree_import_free(&mapped);
    free(map);
    tree_text("tables/steering.csv", "audio,emotion\na.wav,\"red\x1b[31m\nhot\"\n");
    TreeImport steering = tree_import("csv", "tables/steering.csv", NULL, NULL);
    assert_true(steering.done);
    tree_says(&steering, "  red?[31m?hot ");
    tree_import_free(&steering);
    Text many = {0};
    text_add_string(&many, "id,audio,emotion\n");
    for (int i = 0; i < 150; i++) text_addf(&many, "%d,a.wav,emotion %d\n", i, i);
    tree_text("tables/many.csv", many.data);
    text_free(&many);
    TreeImport wide = tree_import("csv", "tables/many.csv", NULL, NULL);
    assert_true(wide.done);
    tree_says(&wide, "  and 50 more\n");
    tree_says(&wide, "speaker and group            all   hours  female    male\n");
    tree_import_free(&wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ravdess_tree),   cmocka_unit_test(ravdess_damaged), cmocka_unit_test(good_table),
        cmocka_unit_test(hostile_tables), cmocka_unit_test(damaged_tables),  cmocka_unit_test(command_line),
        cmocka_unit_test(mapped_table),
    };
    return cmocka_run_group_tests_name("import", tests, make_audio, test_cleanup);
}
