/* semollm tokenize as its users meet it: lines in, lines out. */
#include "tests/model/tokenizer_fixture.h"

#include <sys/wait.h>

#include "model/commands.h"

static char *folder, *in, *out;

static int setup(void **state) {
    (void)state;
    size_t size;
    Error err = {0};
    unsigned char *json = fixture_read("qwen.json", &size);
    folder = test_path("llm");
    in = test_path("in");
    out = test_path("out");
    char *path = path_join(folder, "tokenizer.json", NULL);
    bool done = folder_make(folder, &err) && file_write(path, json, size, &err);
    free(path);
    free(json);
    return done ? 0 : -1;
}

static int teardown(void **state) {
    free(folder);
    free(in);
    free(out);
    return test_cleanup(state);
}

/* Runs the command in a child; its standard output, or null and its error in `err_text` if it failed. */
static char *run(const char *input, size_t length, const char *first, const char *second, char *err_text) {
    Error err = {0};
    int pipes[2], status;
    assert_true(file_write(in, input, length, &err));
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        char *argv[] = {"tokenize", folder, (char *)first, (char *)second, NULL};
        int argc = second ? 4 : first ? 3 : 2;
        bool done = freopen(in, "rb", stdin) && freopen(out, "wb", stdout) && command_tokenize(argc, argv, &err);
        if (write(pipes[1], err.text, strlen(err.text) + 1) < 0) done = false;
        fflush(stdout);
        _exit(done ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(read(pipes[0], err_text, sizeof err.text) > 0);
    close(pipes[0]);
    close(pipes[1]);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 0 ? file_read(out, 1 << 20, NULL, &err) : NULL;
}

static void check_round(const char *text, const char *json) {
    char problem[1500];
    char *ids = run(text, strlen(text), json, NULL, problem);
    if (!ids) fail_msg("%s", problem);
    char *back = run(ids, strlen(ids), "--decode", json, problem);
    if (!back) fail_msg("%s", problem);
    assert_string_equal(back, text);
    free(ids);
    free(back);
}

static void test_rounds(void **state) {
    (void)state;
    check_round("Emotion: happy.\n\n  two  spaces \n<|im_start|>user\nna\xC3\xAFve \xF0\x9F\x98\x80\n", NULL);
    check_round("\"a\\nb\"\n\"\"\n\"\\u0000x\\u0000\"\n\"<|im_end|>\\n\"\n", "--json");
}

static void test_ids(void **state) {
    (void)state;
    char problem[1500];
    char *ids = run("<|endoftext|><|im_end|>\n\nx", 26, NULL, NULL, problem);
    assert_non_null(ids);
    Tokenizer *tokenizer = fixture_open("qwen");
    char *wanted = text_format(NULL, "%d %d\n\n%d\n", tokenizer_id(tokenizer, "<|endoftext|>"),
                               tokenizer_id(tokenizer, "<|im_end|>"), tokenizer_id(tokenizer, "x"));
    assert_string_equal(ids, wanted);
    tokenizer_close(tokenizer);
    free(wanted);
    free(ids);
}

static void check_problem(const char *input, size_t length, const char *first, const char *second, const char *named) {
    char problem[1500];
    assert_null(run(input, length, first, second, problem));
    if (!strstr(problem, named)) fail_msg("expected \"%s\": %s", named, problem);
}

static void test_problems(void **state) {
    (void)state;
    check_problem("good\nbad \xFF\n", 11, NULL, NULL, "line 2");
    check_problem("good\n", 5, "--json", NULL, "line 1");
    check_problem("\"x\"\n7\n", 6, "--json", NULL, "line 2");
    check_problem("\"\\ud800\"\n", 9, "--json", NULL, "line 1");
    check_problem("1 2\n3 x\n", 8, "--decode", NULL, "line 2");
    check_problem("1 -2\n", 5, "--decode", NULL, "line 1");
    check_problem("99999999999\n", 12, "--decode", NULL, "line 1");
    check_problem("1\0002\n", 4, "--decode", NULL, "null character");
    check_problem("", 0, "--wrong", NULL, "--wrong");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds), cmocka_unit_test(test_ids),
                                       cmocka_unit_test(test_problems)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
