/* Command lines and typed JSON members. */
#include "tests/test.h"

typedef struct Parsed {
    bool resume;
    int64_t steps;
    double rate;
    const char *out;
    Texts set, arguments;
    bool help;
} Parsed;

static bool parse(Parsed *p, Error *err, int argc, char **argv) {
    *p = (Parsed){.steps = 5};
    const Option options[] = {
        {"resume", 'r', OPTION_FLAG, &p->resume, NULL, "go on"}, {"steps", 0, OPTION_INT, &p->steps, "N", "steps"},
        {"rate", 0, OPTION_NUMBER, &p->rate, "X", "rate"},       {"out", 'o', OPTION_TEXT, &p->out, "DIR", "where"},
        {"set", 0, OPTION_TEXTS, &p->set, "K=V", "override"},    {0}};
    const Usage usage = {"train", "CONFIG", "Trains.", options, 1, 1};
    return options_parse(&usage, argc, argv, &p->arguments, &p->help, err);
}

#define PARSE(p, err, ...)                                                                                             \
    parse(p, err, (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__})

static void good_lines(void **state) {
    (void)state;
    Parsed p;
    Error err = {0};
    assert_ok(PARSE(&p, &err, "train", "--resume", "c.yaml", "--steps=7", "-o", "dir", "--set", "a=1", "--set", "b=2"),
              &err);
    assert_true(p.resume);
    assert_int_equal(p.steps, 7);
    assert_string_equal(p.out, "dir");
    assert_int_equal(p.set.count, 2);
    assert_string_equal(p.set.items[1], "b=2");
    assert_string_equal(p.arguments.items[0], "c.yaml");
    texts_free(&p.set);
    texts_free(&p.arguments);
    assert_ok(PARSE(&p, &err, "train", "--rate", "-1e-3", "--", "--odd"), &err);
    assert_true(p.rate == -1e-3);
    assert_string_equal(p.arguments.items[0], "--odd");
    texts_free(&p.arguments);
}

static void bad_lines(void **state) {
    (void)state;
    static const struct {
        const char *word, *value, *expected;
    } CASES[] = {
        {"--nope", NULL, "--nope"},
        {"-x", NULL, "-x"},
        {"--steps", "x", "integer"},
        {"--steps", NULL, "needs a value"},
        {"--rate", "1y", "number"},
        {"--resume=1", NULL, "takes no value"},
        {"c.yaml", "d.yaml", "CONFIG"},
        {"--resume", NULL, "CONFIG"},
        {"--steps", "99999999999999999999", "integer"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Parsed p;
        Error err = {0};
        char *argv[] = {"train", (char *)(uintptr_t)CASES[i].word, (char *)(uintptr_t)CASES[i].value};
        assert_false(parse(&p, &err, CASES[i].value ? 3 : 2, argv));
        assert_int_equal(err.exit_code, EXIT_USAGE);
        assert_non_null(strstr(err.text, CASES[i].expected));
        assert_null(p.arguments.items);
    }
}

static void json_members(void **state) {
    (void)state;
    Error err = {0};
    static const char TEXT[] = "{\"s\": \"x\", \"n\": 3, \"r\": 0.5, \"b\": true, \"none\": null}";
    json_t *json = json_read_text(TEXT, sizeof TEXT - 1, "t.json", &err);
    const char *text = NULL;
    int64_t n = 0;
    double r = 0;
    bool b = false;
    assert_true(json_get_string(json, "s", &text, "t", &err) && json_get_int(json, "n", 0, 9, &n, "t", &err) &&
                json_get_number(json, "r", &r, "t", &err) && json_get_bool(json, "b", &b, "t", &err));
    assert_true(json_int_or(json, "none", 0, 9, &n, "t", &err) && json_int_or(json, "absent", 0, 9, &n, "t", &err));
    assert_int_equal(n, 3);
    assert_false(json_get_int(json, "n", 4, 9, &n, "t", &err));
    assert_non_null(strstr(err.text, "between 4 and 9"));
    err = (Error){0};
    assert_false(json_string_or(json, "n", &text, "t", &err));
    assert_non_null(strstr(err.text, "\"n\" must be a string, found an integer"));
    json_decref(json);
    static const char *const BAD[] = {"",    "{",     "{\"a\":1,\"a\":2}", "[1,]", "\xff", "{\"a\": 1e999}",
                                      "nul", "[1] x", "\"a\\u0000b\""};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        err = (Error){0};
        assert_null(json_read_text(BAD[i], strlen(BAD[i]), "bad.json", &err));
        assert_non_null(strstr(err.text, "bad.json: line"));
    }
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    err = (Error){0};
    assert_null(json_read_text(deep, 200000, "deep.json", &err));
    free(deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(good_lines), cmocka_unit_test(bad_lines),
                                       cmocka_unit_test(json_members)};
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
