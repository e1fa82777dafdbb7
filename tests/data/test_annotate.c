/* Annotation end to end: features, levels, explanations; killed, resumed, moved and fed bad recordings. */
#include "tests/test.h"

#include <signal.h>
#include <sys/wait.h>

#include "data/annotate.h"
#include "data/commands.h"
#include "data/levels.h"
#include "tests/data/signals.h"

enum { CLIPS = 24 };

/* Without the fsync of file_write, which would make hundreds of damaged files slow. */
static void put_file(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
}

static void write_audio(const char *name, const Audio *audio) {
    Error err = {0};
    unsigned char *data = NULL;
    size_t size;
    char *path = test_path(name), *folder = path_folder(path, NULL);
    assert_ok(folder_make(folder, &err) && audio_encode(audio, AUDIO_WAV, &data, &size, &err) &&
                  file_write(path, data, size, &err),
              &err);
    free(data);
    free(folder);
    free(path);
}

/* in/clip-N.wav, from low, slow and quiet to high, fast and loud; the last one is digital silence. */
static int make_corpus(void **state) {
    (void)state;
    Text lines = {0};
    for (int i = 0; i < CLIPS; i++) {
        Signal s = {.rate = 16000,
                    .count = 16000,
                    .f0 = 100 + 8 * i,
                    .vibrato_hz = 5,
                    .vibrato_depth = .02,
                    .harmonics = 8,
                    .syllables_hz = 3 + i / 6,
                    .level = i == CLIPS - 1 ? 0 : 0.01 * (i + 1),
                    .noise = i == CLIPS - 1 ? 0 : 1e-3,
                    .seed = i,
                    .pause_from = 9};
        Audio audio;
        char name[40];
        assert_true(signal_make(&s, &audio, NULL));
        snprintf(name, sizeof name, "in/clip-%d.wav", i);
        write_audio(name, &audio);
        audio_free(&audio);
        text_addf(&lines,
                  "{\"id\":\"u%d\",\"corpus\":\"c\",\"audio\":\"clip-%d.wav\",\"gender\":\"%s\",\"emotion\":\"%s\","
                  "\"odd\":%d}\n",
                  i, i, i % 2 ? "male" : "female", i % 3 ? "angry" : "sad", i);
    }
    char *path = test_path("in/m.jsonl");
    assert_true(file_write(path, lines.data, lines.length, NULL));
    free(path);
    text_free(&lines);
    return 0;
}

static bool annotate_paths(const char *in, const char *out, int jobs, bool skip_bad, Error *err) {
    AnnotateOptions options = {
        .output = out, .levels = 3, .jobs = jobs, .skip_bad = skip_bad, .seed = 5, .keep_gender = true};
    return annotate(in, &options, err);
}

static bool annotate_to(const char *input, const char *output, int jobs, bool skip_bad, Error *err) {
    char *in = test_path(input), *out = test_path(output);
    bool done = annotate_paths(in, out, jobs, skip_bad, err);
    free(in);
    free(out);
    return done;
}

static char *text_of(const char *name) {
    size_t size;
    char *path = test_path(name), *text = file_read(path, 1 << 24, &size, NULL);
    free(path);
    assert_non_null(text);
    return text;
}

static void assert_same_file(const char *a, const char *b) {
    char *x = text_of(a), *y = text_of(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

static bool exists(const char *name) {
    char *path = test_path(name);
    bool found = file_exists(path);
    free(path);
    return found;
}

static void whole_annotation(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(annotate_to("in/m.jsonl", "in/a.jsonl", 1, false, &err), &err);
    assert_false(exists("in/a.jsonl.partial"));
    Manifest manifest;
    char *path = test_path("in/a.jsonl");
    assert_ok(manifest_read(&manifest, path, &err), &err);
    free(path);
    assert_int_equal(manifest.count, CLIPS);
    for (int i = 0; i < CLIPS; i++) {
        const Utterance *u = &manifest.items[i];
        const json_t *levels = json_object_get(u->json, "levels");
        assert_true(u->has_features && u->explanation);
        assert_int_equal(json_integer_value(json_object_get(u->json, "odd")), i);
        assert_string_equal(u->teacher, "template-1 seed 5");
        if (i == CLIPS - 1) { /* digital silence has no levels */
            assert_true(json_is_null(json_object_get(levels, "pitch")));
            assert_true(json_is_null(json_object_get(levels, "volume")));
            continue;
        }
        assert_true(fabs(u->features.value[FEATURE_F0_MEDIAN_HZ] - (100 + 8 * i)) < 3);
        const char *word = i < 7 ? "low" : i > 16 ? "high" : NULL;
        if (word) assert_string_equal(json_string_value(json_object_get(levels, "pitch")), word);
        word = i < 7 ? "quiet" : i > 16 ? "loud" : NULL;
        if (word) assert_string_equal(json_string_value(json_object_get(levels, "volume")), word);
        assert_non_null(strstr(u->explanation, json_string_value(json_object_get(levels, "pitch")) + 1));
    }
    manifest_free(&manifest);
}

static void threads_change_nothing(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(annotate_to("in/m.jsonl", "in/b.jsonl", 4, false, &err), &err);
    assert_same_file("in/a.jsonl", "in/b.jsonl");
}

static size_t lines_in(const char *name) {
    if (!exists(name)) return 0;
    char *text = text_of(name);
    size_t count = 0;
    for (const char *at = text; *at; at++) count += *at == '\n';
    free(text);
    return count;
}

enum { MANY = 200 };

static void write_many(void) {
    Text lines = {0};
    for (int i = 0; i < MANY; i++)
        text_addf(&lines, "{\"id\":\"m%d\",\"audio\":\"clip-%d.wav\",\"emotion\":\"sad\",\"end\":%g}\n", i, i % CLIPS,
                  0.5 + i / 1000.0);
    char *path = test_path("in/many.jsonl");
    assert_true(file_write(path, lines.data, lines.length, NULL));
    free(path);
    text_free(&lines);
}

/* Killed while it measures, at several moments: the next call goes on and ends with the same bytes. */
static void killed_and_resumed(void **state) {
    (void)state;
    Error err = {0};
    int interrupted = 0;
    write_many();
    assert_ok(annotate_to("in/many.jsonl", "in/whole.jsonl", 1, false, &err), &err);
    char *many = test_path("in/many.jsonl"), *path = test_path("in/k.jsonl"); /* of this process, not the child's */
    for (size_t moment = 2; moment < 120; moment += 30) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            bool done = freopen("/dev/null", "w", stderr) && annotate_paths(many, path, 1, false, NULL);
            _exit(!done);
        }
        while (lines_in("in/k.jsonl.partial") < moment && waitpid(child, NULL, WNOHANG) == 0) usleep(100);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        interrupted += exists("in/k.jsonl.partial") && !file_exists(path);
        assert_ok(annotate_to("in/many.jsonl", "in/k.jsonl", 2, false, &err), &err);
        assert_same_file("in/whole.jsonl", "in/k.jsonl");
        unlink(path);
    }
    free(many);
    free(path);
    printf("interrupted %d times\n", interrupted);
    assert_true(interrupted >= 3);
}

/* What a kill may leave of the note of progress, cut anywhere, and notes that are not ours. */
static void damaged_journal(void **state) {
    (void)state;
    Error err = {0};
    AnnotateJournal journal;
    Manifest manifest;
    bool measured[CLIPS] = {false};
    char *in = test_path("in/m.jsonl"), *out = test_path("in/j.jsonl"), *partial = test_path("in/j.jsonl.partial");
    assert_ok(manifest_read(&manifest, in, &err), &err);
    assert_ok(annotate_journal_open(&journal, &manifest, measured, out, &err), &err);
    assert_ok(annotate_journal_add(&journal, &manifest.items[3], &err), &err);
    assert_ok(annotate_journal_add(&journal, &manifest.items[5], &err), &err);
    annotate_journal_close(&journal);
    size_t size;
    char *text = file_read(partial, 1 << 20, &size, &err);
    size_t first = strcspn(text, "\n") + 1, second = first + strcspn(text + first, "\n") + 1;
    for (size_t cut = 0; cut <= size; cut++) {
        put_file(partial, text, cut);
        memset(measured, 0, sizeof measured);
        assert_ok(annotate_journal_open(&journal, &manifest, measured, out, &err), &err);
        assert_int_equal(journal.resumed, (cut >= second) + (cut == size));
        assert_int_equal(measured[3], cut >= second);
        annotate_journal_close(&journal);
        assert_true(lines_in("in/j.jsonl.partial") == 1 + journal.resumed + (cut >= second) + (cut == size));
    }
    static const char *const OTHERS[] = {
        "", "x", "{\"annotate\":1,\"manifest\":\"0000000000000000\"}\n{\"id\":\"u3\"}\n", "\n\n"};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        put_file(partial, OTHERS[i], strlen(OTHERS[i]));
        assert_ok(annotate_journal_open(&journal, &manifest, measured, out, &err), &err);
        assert_int_equal(journal.resumed, 0);
        annotate_journal_close(&journal);
    }
    static const char *const LINES[] = {"{\"id\":\"u3\"}",
                                        "{\"id\":\"nobody\",\"features\":{}}",
                                        "[]",
                                        "{\"id\":7}",
                                        "{\"id\":\"u3\",\"features\":{\"duration_s\":\"x\"}}",
                                        "{\"id\":\"u3\",\"features\":[]}"};
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) {
        char *damaged = text_format(NULL, "%.*s%s\n", (int)first, text, LINES[i]);
        put_file(partial, damaged, strlen(damaged));
        assert_ok(annotate_journal_open(&journal, &manifest, measured, out, &err), &err);
        assert_int_equal(journal.resumed, 0);
        annotate_journal_close(&journal);
        free(damaged);
    }
    manifest_free(&manifest);
    free(text);
    free(partial);
    free(out);
    free(in);
}

static void bad_recordings(void **state) {
    (void)state;
    static const char LINES[] = "{\"id\":\"good\",\"audio\":\"clip-1.wav\"}\n{\"id\":\"gone\",\"audio\":\"none.wav\"}\n"
                                "{\"id\":\"torn\",\"audio\":\"torn.wav\"}\n"
                                "{\"id\":\"past\",\"audio\":\"clip-2.wav\",\"start\":5,\"end\":6}\n";
    char *path = test_path("in/bad.jsonl"), *torn = test_path("in/torn.wav"), *out = test_path("in/good.jsonl");
    assert_true(file_write(path, LINES, sizeof LINES - 1, NULL) && file_write(torn, "RIFF....WAVE", 12, NULL));
    Error err = {0};
    assert_false(annotate_to("in/bad.jsonl", "in/good.jsonl", 1, false, &err));
    assert_non_null(strstr(err.text, "gone"));
    assert_non_null(strstr(err.text, "none.wav"));
    assert_false(file_exists(out));
    err = (Error){0};
    assert_ok(annotate_to("in/bad.jsonl", "in/good.jsonl", 1, true, &err), &err);
    Manifest manifest;
    assert_ok(manifest_read(&manifest, out, &err), &err);
    assert_int_equal(manifest.count, 1);
    assert_string_equal(manifest.items[0].id, "good");
    assert_null(manifest.items[0].emotion);
    assert_non_null(manifest.items[0].explanation);
    manifest_free(&manifest);
    static const char NONE[] = "{\"id\":\"gone\",\"audio\":\"none.wav\"}\n";
    assert_true(file_write(path, NONE, sizeof NONE - 1, NULL));
    assert_false(annotate_to("in/bad.jsonl", "in/good.jsonl", 1, true, &err));
    free(path);
    free(torn);
    free(out);
}

/* Features that a manifest brings are not measured again, and their recordings not missed. */
static void features_kept(void **state) {
    (void)state;
    Error err = {0};
    char *in = test_path("in/kept.jsonl"), *out = test_path("in/kept-a.jsonl"), *text = text_of("in/a.jsonl");
    for (char *at = text; (at = strstr(at, "clip-")) != NULL; at++) memcpy(at, "gone-", 5);
    assert_true(file_write(in, text, strlen(text), NULL));
    AnnotateOptions options = {.output = out, .levels = 3, .jobs = 1, .seed = 5};
    assert_ok(annotate(in, &options, &err), &err);
    char *again = text_of("in/kept-a.jsonl");
    assert_string_equal(text, again);
    options.remeasure = true;
    assert_false(annotate(in, &options, &err));
    assert_non_null(strstr(err.text, "gone-"));
    /* A line that lacks one is measured. */
    err = (Error){0};
    options.remeasure = false;
    char *one = strstr(text, "\"pause_share\"");
    memcpy(one, "\"pause_other\"", 13);
    assert_true(file_write(in, text, strlen(text), NULL));
    assert_false(annotate(in, &options, &err));
    assert_non_null(strstr(err.text, "\"u0\""));
    free(again);
    free(text);
    free(out);
    free(in);
}

static void another_folder(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(annotate_to("in/m.jsonl", "else/where/a.jsonl", 2, false, &err), &err);
    char *path = test_path("else/where/a.jsonl");
    Manifest manifest;
    assert_ok(manifest_read(&manifest, path, &err), &err);
    assert_string_equal(manifest.items[4].audio, "../../in/clip-4.wav");
    char *audio = manifest_audio(&manifest, &manifest.items[4], &err);
    assert_true(file_exists(audio));
    manifest_free(&manifest);
    free(audio);
    free(path);
}

#define RUN(command, err, ...)                                                                                         \
    command((int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__}, err)

static void command_lines(void **state) {
    (void)state;
    char *clip = test_path("in/clip-1.wav");
    Error err = {0};
    assert_ok(RUN(command_features, &err, "features", clip), &err);
    assert_ok(RUN(command_features, &err, "features", "--json", "--track", clip), &err);
    assert_false(RUN(command_features, &err, "features", "--track", clip));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(RUN(command_features, &err, "features", "--f0-floor", "700", clip));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(RUN(command_features, &err, "features", "/nonexistent.wav"));
    assert_int_equal(err.exit_code, EXIT_FAILED);
    free(clip);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_annotation),   cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(killed_and_resumed), cmocka_unit_test(damaged_journal),
        cmocka_unit_test(bad_recordings),     cmocka_unit_test(features_kept),
        cmocka_unit_test(another_folder),     cmocka_unit_test(command_lines),
    };
    return cmocka_run_group_tests_name("annotate", tests, make_corpus, test_cleanup);
}
