/* YAML by schema: values, overrides, and errors that say where. */
#include "tests/test.h"

#include "base/base.h"
#include "base/yaml.h"

typedef struct Inner {
    int steps;
    double rate;
    char *name;
} Inner;

typedef struct Outer {
    Inner train;
    char **parts;
    uint64_t parts_count;
} Outer;

static const cyaml_schema_field_t INNER_FIELDS[] = {
    CYAML_FIELD_INT("steps", CYAML_FLAG_OPTIONAL, Inner, steps),
    CYAML_FIELD_FLOAT("rate", CYAML_FLAG_OPTIONAL, Inner, rate),
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, Inner, name, 0, 100),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t PART = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, 100)};
static const cyaml_schema_field_t OUTER_FIELDS[] = {
    CYAML_FIELD_MAPPING("train", CYAML_FLAG_DEFAULT, Outer, train, INNER_FIELDS),
    CYAML_FIELD_SEQUENCE_COUNT("parts", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, Outer, parts, parts_count, &PART, 0,
                               9),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t SCHEMA = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, Outer, OUTER_FIELDS)};

static bool read_text(const char *text, const char *override, Outer **outer, Error *err) {
    char *path = test_path("config.yaml");
    assert_true(file_write(path, text, strlen(text), NULL));
    const char *items[] = {override};
    Texts overrides = {.items = items, .count = override ? 1 : 0};
    bool ok = yaml_read(path, &overrides, &SCHEMA, (void **)outer, err);
    free(path);
    return ok;
}

static void values_and_overrides(void **state) {
    (void)state;
    Error err = {0};
    Outer *outer;
    assert_ok(read_text("train: {steps: 5, rate: 0.5}\nparts: [a, b]\n", NULL, &outer, &err), &err);
    assert_int_equal(outer->train.steps, 5);
    assert_int_equal(outer->parts_count, 2);
    yaml_release(&SCHEMA, outer);
    assert_ok(read_text("train: {steps: 5}\n", "train.steps=7", &outer, &err), &err);
    assert_int_equal(outer->train.steps, 7);
    yaml_release(&SCHEMA, outer);
    assert_ok(read_text("train: {steps: 5}\n", "parts=[x, y, z]", &outer, &err), &err);
    assert_int_equal(outer->parts_count, 3);
    assert_string_equal(outer->parts[2], "z");
    yaml_release(&SCHEMA, outer);
    assert_ok(read_text("train: {steps: 5}\n", "train.name=a: b", &outer, &err) == false, &err);
}

static void expect_error(const char *text, const char *override, const char *expected) {
    Error err = {0};
    Outer *outer;
    assert_false(read_text(text, override, &outer, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    if (!strstr(err.text, expected)) fail_msg("\"%s\" does not mention \"%s\"", err.text, expected);
}

static void errors_say_where(void **state) {
    (void)state;
    expect_error("train:\n  steps: 5\n  stepz: 6\n", NULL, "stepz");
    expect_error("train:\n  steps: 5\n  stepz: 6\n", NULL, "line: 3");
    expect_error("train:\n  steps: many\n", NULL, "line: 2");
    expect_error("train: [1]\n", NULL, "line: 1");
    expect_error("parts: [a]\n", NULL, "train");
    expect_error("", NULL, "empty");
    expect_error("train: {steps: 5}\n", "train.stepz=1", "stepz");
    expect_error("train: {steps: 5}\n", "steps", "key=value");
    expect_error("train: {steps: 5}\n", "train.steps.x=1", "does not lead");
    expect_error("train: {steps: 5\n", "train.steps=1", "line");
    expect_error("a: &a [1]\nb: [*a, *a]\n", NULL, "config.yaml");
}

/* A megabyte of brackets is refused at once, with and without something to set, where libyaml would take minutes. */
static void nested_without_end(void **state) {
    (void)state;
    static const char HEAD[] = "stepz:\n", *const SETS[] = {NULL, "train.steps=1"};
    enum { SIZE = 1000000 };
    char *text = malloc(SIZE + 1);
    memset(text, '[', SIZE);
    memcpy(text, HEAD, sizeof HEAD - 1);
    text[SIZE] = '\0';
    for (int i = 0; i < 2; i++) expect_error(text, SETS[i], "line 2: more than 1000 brackets");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_and_overrides), cmocka_unit_test(errors_say_where),
                                       cmocka_unit_test(nested_without_end)};
    return cmocka_run_group_tests_name("yaml", tests, NULL, test_cleanup);
}
