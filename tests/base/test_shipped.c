/* Files that come with the program: in the current folder, beside the program, and where there are none. */
#include "tests/test.h"

#include "base/shipped.h"

static void in_the_current_folder(void **state) {
    (void)state;
    Error err = {0};
    char *found = shipped_file("machines/h100.yaml", &err);
    assert_string_equal(found, "./configs/machines/h100.yaml");
    free(found);
    assert_null(shipped_file("machines/no-such-machine.yaml", &err));
    assert_null(shipped_file("machines", &err)); /* a folder */
    assert_int_equal(err.exit_code, EXIT_DONE);
}

/* Whatever the current folder is. */
static void beside_the_program(void **state) {
    (void)state;
    Error err = {0};
    char here[4096], program[4096];
    assert_non_null(getcwd(here, sizeof here));
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(length > 0);
    program[length] = '\0';
    char *folder = path_folder(program, &err), *share = text_format(&err, "%s/../share", folder);
    char *place = text_format(&err, "%s/semollm/things", share), *file = text_format(&err, "%s/one.yaml", place);
    assert_ok(folder_make(place, &err) && file_write(file, "a: 1\n", 5, &err), &err);
    assert_int_equal(chdir("/"), 0);
    char *found = shipped_file("things/one.yaml", &err);
    assert_int_equal(chdir(here), 0);
    assert_true(folder_remove(share, &err));
    assert_non_null(found);
    assert_string_equal(found, file);
    free(found);
    free(folder);
    free(share);
    free(place);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_the_current_folder), cmocka_unit_test(beside_the_program)};
    return cmocka_run_group_tests_name("shipped", tests, NULL, test_cleanup);
}
