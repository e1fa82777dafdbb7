/* Files that appear whole or not at all, folders, arenas, errors. */
#include "tests/test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static size_t entries(const char *folder) {
    Names names;
    assert_true(folder_list(folder, &names, NULL));
    size_t count = names.count;
    names_free(&names);
    return count;
}

static void atomic_files(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("atomic"), *path = path_join(folder, "a.txt", NULL);
    assert_ok(folder_make(folder, &err), &err);
    assert_ok(file_write(path, "old", 3, &err), &err);
    AtomicFile file;
    assert_ok(atomic_open(&file, path, &err), &err);
    fputs("new and longer", file.stream);
    size_t size;
    char *seen = file_read(path, 100, &size, &err);
    assert_string_equal(seen, "old");
    free(seen);
    atomic_discard(&file);
    assert_int_equal(entries(folder), 1);
    assert_ok(atomic_open(&file, path, &err), &err);
    fputs("new", file.stream);
    assert_ok(atomic_commit(&file, &err), &err);
    seen = file_read(path, 3, &size, &err);
    assert_string_equal(seen, "new");
    assert_int_equal(size, 3);
    free(seen);
    assert_null(file_read(path, 2, &size, &err));
    assert_non_null(strstr(err.text, "larger than"));
    assert_int_equal(entries(folder), 1);
    free(path);
    free(folder);
}

/* In a child whose files may not grow past `limit` bytes: a disk that fills while writing. */
static int write_under_limit(const char *path, size_t limit, size_t size) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit most = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &most);
        char *data = calloc(size, 1);
        Error err = {0};
        bool ok = file_write(path, data, size, &err);
        _exit(ok ? 0 : strstr(err.text, path) ? 1 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void full_disk(void **state) {
    (void)state;
    char *folder = test_path("full"), *path = path_join(folder, "a.bin", NULL);
    assert_true(folder_make(folder, NULL));
    assert_true(file_write(path, "old", 3, NULL));
    for (size_t limit = 0; limit < 20000; limit += 1777) {
        assert_int_equal(write_under_limit(path, limit, 20000), 1);
        char *seen = file_read(path, 100, NULL, NULL);
        assert_string_equal(seen, "old");
        free(seen);
        assert_int_equal(entries(folder), 1);
    }
    assert_int_equal(write_under_limit(path, 20000, 20000), 0);
    free(path);
    free(folder);
}

static void atomic_folders(void **state) {
    (void)state;
    Error err = {0};
    char *root = test_path("folders"), *path = path_join(root, "x/y", NULL);
    AtomicFolder folder;
    assert_ok(atomic_folder_open(&folder, path, &err), &err);
    assert_false(folder_exists(path));
    char *inner = path_join(folder.temporary, "f", NULL);
    assert_ok(file_write(inner, "1", 1, &err), &err);
    free(inner);
    assert_ok(atomic_folder_commit(&folder, &err), &err);
    assert_int_equal(entries(path), 1);
    assert_false(atomic_folder_open(&folder, path, &err));
    assert_non_null(strstr(err.text, "exists already"));
    assert_true(folder_remove(root, NULL));
    assert_false(folder_exists(root));
    assert_true(folder_remove(root, NULL));
    free(path);
    free(root);
}

static void paths(void **state) {
    (void)state;
    static const char *const CASES[][2] = {{"a/b", "a"},  {"a", "."}, {"/a", "/"},
                                           {"a/b/", "a"}, {"/", "/"}, {"a//b", "a"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *folder = path_folder(CASES[i][0], NULL);
        assert_string_equal(folder, CASES[i][1]);
        free(folder);
    }
    char *joined = path_join("a/", "b", NULL), *absolute = path_join("a", "/b", NULL);
    assert_string_equal(joined, "a/b");
    assert_string_equal(absolute, "/b");
    free(joined);
    free(absolute);
}

static void errors(void **state) {
    (void)state;
    Error err = {0};
    assert_false(fail_usage(&err, "first"));
    assert_false(fail_usage(&err, "second"));
    assert_string_equal(err.text, "first");
    assert_int_equal(err.exit_code, EXIT_USAGE);
    assert_false(fail_in(&err, "file %d", 7));
    assert_string_equal(err.text, "file 7: first");
    char longest[4000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(fail_in(&err, "%s", longest));
    assert_true(strlen(err.text) < sizeof err.text);
    assert_non_null(strstr(err.text, "file 7: first"));
}

static void arenas(void **state) {
    (void)state;
    Arena arena = {.name = "test"};
    assert_null(arena_take(&arena, "a", DTYPE_F32, 3, 5));
    assert_null(arena_take(&arena, "b", DTYPE_U8, 1, 257));
    assert_null(arena_take(&arena, "none", DTYPE_F32, 0, 5));
    assert_int_equal(arena.used, 256 + 512);
    assert_int_equal(arena.slot_count, 3);
    arena.size = arena.used;
    arena.base = aligned_alloc(256, arena.size);
    arena_reset(&arena);
    char *a = arena_take(&arena, "a", DTYPE_F32, 3, 5), *b = arena_take(&arena, "b", DTYPE_U8, 1, 257);
    assert_ptr_equal(b, a + 256);
    assert_null(arena_take(&arena, "none", DTYPE_F32, 0, 5));
    assert_true(arena_check(&arena, NULL));
    assert_null(arena_take(&arena, "more", DTYPE_U8, 1, 1));
    Error err = {0};
    assert_false(arena_check(&arena, &err));
    free(arena.base);
    arena_free(&arena);
    assert_null(arena_take(&arena, "huge", DTYPE_F64, INT64_MAX / 2, 8));
    assert_false(arena_check(&arena, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(atomic_files), cmocka_unit_test(full_disk), cmocka_unit_test(atomic_folders),
        cmocka_unit_test(paths),        cmocka_unit_test(errors),    cmocka_unit_test(arenas),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, test_cleanup);
}
