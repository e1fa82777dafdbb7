#include "tests/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "model/safetensors.h"

static const float VALUES[6] = {1, -2, 0.5f, 3, 4, 5};

static StoredTensor tensor(const char *name, DType dtype, int64_t rows, int64_t cols, const void *data) {
    size_t bytes = (size_t)(rows * cols) * dtype_size(dtype);
    return (StoredTensor){.name = name, .dtype = dtype, .dims = 2, .shape = {rows, cols}, .data = data, .bytes = bytes};
}

static void test_round_trip(void **state) {
    (void)state;
    Error err = {0};
    uint16_t half[3] = {f32_to_f16(1.5f), f32_to_f16(-2), f32_to_f16(0.25f)};
    uint16_t brain[3] = {f32_to_bf16(1.5f), f32_to_bf16(-2), f32_to_bf16(0.25f)};
    int64_t ids[2] = {-1, INT64_C(1) << 40};
    StoredTensor all[] = {tensor("b", DTYPE_F32, 2, 3, VALUES), tensor("a \"é\"", DTYPE_F16, 1, 3, half),
                          tensor("z", DTYPE_BF16, 3, 1, brain), tensor("ids", DTYPE_I64, 1, 2, ids),
                          tensor("empty", DTYPE_F32, 0, 7, NULL)};
    StoredTensor scalar = {.name = "scalar", .dtype = DTYPE_F32, .data = VALUES, .bytes = 4};
    StoredTensor tensors[6];
    memcpy(tensors, all, sizeof all);
    tensors[5] = scalar;
    const char *metadata[] = {"step", "7", NULL};
    char *path = test_path("round.safetensors");
    assert_ok(tensors_write(path, tensors, 6, metadata, &err), &err);
    TensorFiles *files = tensors_open(path, &err);
    assert_ok(files, &err);
    assert_int_equal(tensors_count(files), 6);
    assert_string_equal(tensors_at(files, 0)->name, "b");
    assert_string_equal(tensors_metadata(files, "step"), "7");
    assert_string_equal(tensors_metadata(files, "format"), "pt");
    assert_null(tensors_metadata(files, "none"));
    assert_null(tensors_find(files, "none"));
    for (int i = 0; i < 6; i++) {
        const StoredTensor *found = tensors_find(files, tensors[i].name);
        assert_non_null(found);
        assert_int_equal(found->dtype, tensors[i].dtype);
        assert_int_equal(found->dims, tensors[i].dims);
        assert_int_equal(found->bytes, tensors[i].bytes);
        if (found->bytes) assert_memory_equal(found->data, tensors[i].data, found->bytes);
    }
    float row[6];
    assert_ok(tensors_read(files, "b", 2, (int64_t[]){2, 3}, row, &err), &err);
    assert_memory_equal(row, VALUES, sizeof row);
    assert_ok(tensors_read(files, "z", 2, (int64_t[]){3, 1}, row, &err), &err);
    assert_true(row[0] == 1.5f && row[1] == -2 && row[2] == 0.25f);
    assert_ok(tensors_read(files, "a \"é\"", 2, (int64_t[]){1, 3}, row, &err), &err);
    assert_true(row[0] == 1.5f && row[1] == -2 && row[2] == 0.25f);
    assert_ok(tensors_read(files, "scalar", 0, NULL, row, &err), &err);
    assert_true(row[0] == 1);
    tensors_close(files);
    free(path);
}

/* A file that Python's safetensors wrote. */
static void test_foreign_file(void **state) {
    (void)state;
    Error err = {0};
    TensorFiles *files = tensors_open("tests/fixtures/convert/single.safetensors", &err);
    assert_ok(files, &err);
    assert_int_equal(tensors_count(files), 26);
    float value;
    assert_ok(tensors_read(files, "scalar", 0, NULL, &value, &err), &err);
    assert_true(value == 3.25f);
    assert_int_equal(((const int64_t *)tensors_find(files, "long")->data)[0], -(INT64_C(1) << 40));
    tensors_close(files);
}

static void test_errors_say_what(void **state) {
    (void)state;
    Error err = {0};
    int64_t ids[2] = {0};
    StoredTensor tensors[] = {tensor("w", DTYPE_F32, 2, 3, VALUES), tensor("ids", DTYPE_I64, 1, 2, ids)};
    char *path = test_path("errors.safetensors");
    assert_ok(tensors_write(path, tensors, 2, NULL, &err), &err);
    TensorFiles *files = tensors_open(path, &err);
    float out[6];
    assert_false(tensors_read(files, "w", 2, (int64_t[]){3, 2}, out, &err));
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "\"w\" has the shape [2, 3], expected [3, 2]"));
    err = (Error){0};
    assert_false(tensors_read(files, "none", 1, (int64_t[]){6}, out, &err));
    assert_non_null(strstr(err.text, "no tensor \"none\""));
    err = (Error){0};
    assert_false(tensors_read(files, "ids", 2, (int64_t[]){1, 2}, out, &err));
    assert_non_null(strstr(err.text, "stored as I64"));
    tensors_close(files);
    err = (Error){0};
    StoredTensor twice[] = {tensors[0], tensors[0]};
    assert_false(tensors_write(path, twice, 2, NULL, &err));
    assert_non_null(strstr(err.text, "two tensors"));
    err = (Error){0};
    StoredTensor wrong = tensors[0];
    wrong.bytes--;
    assert_false(tensors_write(path, &wrong, 1, NULL, &err));
    assert_non_null(strstr(err.text, "23 bytes"));
    err = (Error){0};
    wrong = tensors[0];
    wrong.name = "\xff";
    assert_false(tensors_write(path, &wrong, 1, NULL, &err));
    assert_non_null(strstr(err.text, "not UTF-8"));
    free(path);
}

/* Thousands of names, all found, none invented. */
static void test_many(void **state) {
    (void)state;
    enum { MANY = 5000 };
    Error err = {0};
    StoredTensor *tensors = calloc(MANY, sizeof *tensors);
    float *values = calloc(MANY, sizeof *values);
    for (int i = 0; i < MANY; i++) {
        values[i] = (float)i;
        tensors[i] = tensor(text_format(&err, "model.layers.%d.w", i), DTYPE_F32, 1, 1, &values[i]);
    }
    char *path = test_path("many.safetensors");
    assert_ok(tensors_write(path, tensors, MANY, NULL, &err), &err);
    TensorFiles *files = tensors_open(path, &err);
    assert_ok(files, &err);
    for (int i = 0; i < MANY; i++) {
        float value;
        assert_ok(tensors_read(files, tensors[i].name, 2, (int64_t[]){1, 1}, &value, &err), &err);
        assert_true(value == (float)i);
    }
    assert_null(tensors_find(files, "model.layers.5000.w"));
    tensors_close(files);
    for (int i = 0; i < MANY; i++) free((void *)(uintptr_t)tensors[i].name);
    free(tensors);
    free(values);
    free(path);
}

/* ---- folders ---- */

static void write_in(const char *folder, const char *name, const char *text) {
    Error err = {0};
    char *path = path_join(folder, name, &err);
    assert_ok(file_write(path, text, strlen(text), &err), &err);
    free(path);
}

static void write_one(const char *folder, const char *name, const char *tensor_name) {
    Error err = {0};
    char *path = path_join(folder, name, &err);
    StoredTensor one = tensor(tensor_name, DTYPE_F32, 2, 3, VALUES);
    assert_ok(tensors_write(path, &one, 1, NULL, &err), &err);
    free(path);
}

static void expect_folder_error(const char *folder, const char *index, const char *part) {
    Error err = {0};
    if (index) write_in(folder, "model.safetensors.index.json", index);
    TensorFiles *files = tensors_open(folder, &err);
    assert_null(files);
    assert_int_equal(err.exit_code, EXIT_FAILED);
    if (!strstr(err.text, part)) fail_msg("expected \"%s\" in: %s", part, err.text);
}

static void test_sharded(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("shards");
    assert_ok(folder_make(folder, &err), &err);
    expect_folder_error(folder, NULL, "neither model.safetensors nor");
    write_in(folder, "pytorch_model.bin", "x");
    expect_folder_error(folder, NULL, "semollm convert");
    write_one(folder, "one.safetensors", "a");
    write_one(folder, "two.safetensors", "b");
    write_one(folder, "again.safetensors", "a");
    write_in(folder, "model.safetensors.index.json",
             "{\"weight_map\": {\"b\": \"two.safetensors\", \"a\": \"one.safetensors\"}}");
    TensorFiles *files = tensors_open(folder, &err);
    assert_ok(files, &err);
    assert_int_equal(tensors_count(files), 2);
    float out[6];
    assert_ok(tensors_read(files, "a", 2, (int64_t[]){2, 3}, out, &err), &err);
    assert_ok(tensors_read(files, "b", 2, (int64_t[]){2, 3}, out, &err), &err);
    tensors_close(files);
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"../shards/one.safetensors\"}}",
                        "not a file of this folder");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "not a file of this folder");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"..\"}}", "not a file of this folder");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"\"}}", "not a file of this folder");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": 3}}", "must be a string");
    expect_folder_error(folder, "{\"weight_map\": [1]}", "must be an object");
    expect_folder_error(folder, "{}", "must be an object");
    expect_folder_error(folder, "[]", "must be an object");
    expect_folder_error(folder, "", "not valid JSON");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"none.safetensors\"}}", "cannot be opened");
    expect_folder_error(folder, "{\"weight_map\": {\"c\": \"one.safetensors\"}}", "but is not");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"one.safetensors\"}}",
                        "but is not");
    expect_folder_error(folder, "{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"again.safetensors\"}}",
                        "is also in");
    free(folder);
}

/* ---- a full disk: writes fail at every size, what was there stays and nothing is left beside it ---- */

static size_t names_in(const char *folder) {
    Error err = {0};
    Names names;
    assert_ok(folder_list(folder, &names, &err), &err);
    size_t count = names.count;
    names_free(&names);
    return count;
}

static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_disk(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("disk"), *path = test_path("disk/adapter.safetensors");
    assert_ok(folder_make(folder, &err), &err);
    StoredTensor old = tensor("old", DTYPE_F32, 2, 3, VALUES);
    assert_ok(tensors_write(path, &old, 1, NULL, &err), &err);
    enum { BIG = 3 * 4096 };
    float *values = calloc(BIG, sizeof *values);
    StoredTensor fresh = tensor("new", DTYPE_F32, 3, 4096, values);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG instead, as ENOSPC comes */
    size_t whole = BIG * sizeof *values, failures = 0;
    for (size_t limit = 0; limit < whole; limit += limit < 400 ? 7 : 1499) {
        err = (Error){0};
        limit_files(limit);
        bool ok = tensors_write(path, &fresh, 1, NULL, &err);
        limit_files(RLIM_INFINITY);
        assert_false(ok);
        assert_int_equal(err.exit_code, EXIT_FAILED);
        assert_non_null(strstr(err.text, "adapter.safetensors"));
        assert_int_equal(names_in(folder), 1);
        TensorFiles *files = tensors_open(path, &(Error){0});
        assert_non_null(files);
        assert_non_null(tensors_find(files, "old"));
        tensors_close(files);
        failures++;
    }
    assert_true(failures > 80);
    err = (Error){0};
    assert_ok(tensors_write(path, &fresh, 1, NULL, &err), &err);
    TensorFiles *files = tensors_open(path, &err);
    assert_non_null(tensors_find(files, "new"));
    tensors_close(files);
    free(values);
    free(folder);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_foreign_file), cmocka_unit_test(test_errors_say_what),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_sharded),      cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
