/* Model folders with weights from the counter-based RNG: FIXTURE/tensors.txt says how each tensor is drawn
 * ("name dtype offset scale dimensions..."), in the order that numbers them; tests/oracle draws the same. */
#ifndef SEMOLLM_TESTS_MODEL_RANDOM_MODEL_H
#define SEMOLLM_TESTS_MODEL_RANDOM_MODEL_H

#include "tests/test.h" /* first: cmocka hides our fail() */

#include <math.h>

#include "model/safetensors.h"

enum { WEIGHT_KEY = 20260, RANDOM_TENSORS_MAX = 1024 };

static inline float random_signed(uint32_t word, double offset, double scale) {
    return (float)(offset + scale * (2.0 * (double)rng_uniform(word) - 1.0));
}

static inline DType dtype_of(const char *name) {
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (!strcmp(dtype_name((DType)d), name)) return (DType)d;
    abort();
}

static inline void *random_values(DType dtype, size_t count, uint32_t number, double offset, double scale) {
    char *data = malloc(count * dtype_size(dtype));
    assert_non_null(data);
    const int64_t blocks = (int64_t)((count + 3) / 4);
#pragma omp parallel for
    for (int64_t b = 0; b < blocks; b++) {
        Philox block = philox(WEIGHT_KEY, (uint32_t)b, PLACE_INIT, number, 0);
        for (size_t e = (size_t)b * 4; e < count && e < (size_t)b * 4 + 4; e++) {
            float value = random_signed(block.word[e % 4], offset, scale);
            uint16_t half = dtype == DTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
            if (dtype == DTYPE_F32)
                memcpy(data + 4 * e, &value, 4);
            else
                memcpy(data + 2 * e, &half, 2);
        }
    }
    return data;
}

static inline void random_copy(const char *fixture, const char *folder, const char *name) {
    Error err = {0};
    char *from = path_join(fixture, name, &err), *to = path_join(folder, name, &err);
    if (file_exists(from)) {
        size_t size = 0;
        char *data = file_read(from, 1 << 20, &size, &err);
        assert_ok(data && file_write(to, data, size, &err), &err);
        free(data);
    }
    free(from);
    free(to);
}

/* Makes `folder` from a fixture: configs copied, weights drawn. */
static inline void random_model(const char *fixture, const char *folder) {
    Error err = {0};
    static StoredTensor tensors[RANDOM_TENSORS_MAX];
    size_t count = 0;
    char line[400], *list = path_join(fixture, "tensors.txt", &err),
                    *path = path_join(folder, "model.safetensors", &err);
    assert_ok(folder_make(folder, &err), &err);
    random_copy(fixture, folder, "config.json");
    random_copy(fixture, folder, "preprocessor_config.json");
    FILE *file = fopen(list, "r");
    assert_non_null(file);
    for (; fgets(line, sizeof line, file); count++) {
        StoredTensor *tensor = &tensors[count];
        assert_true(count < RANDOM_TENSORS_MAX);
        char *save = NULL, *name = strtok_r(line, " \n", &save);
        *tensor = (StoredTensor){.name = strdup(name), .dtype = dtype_of(strtok_r(NULL, " \n", &save))};
        double offset = strtod(strtok_r(NULL, " \n", &save), NULL), scale = strtod(strtok_r(NULL, " \n", &save), NULL);
        size_t elements = 1;
        for (char *size; (size = strtok_r(NULL, " \n", &save)) != NULL;
             elements *= (size_t)tensor->shape[tensor->dims++])
            tensor->shape[tensor->dims] = strtoll(size, NULL, 10);
        tensor->data = random_values(tensor->dtype, elements, (uint32_t)count, offset, scale);
        tensor->bytes = elements * dtype_size(tensor->dtype);
    }
    fclose(file);
    assert_ok(tensors_write(path, tensors, count, NULL, &err), &err);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)tensors[i].data);
        free((void *)(uintptr_t)tensors[i].name);
    }
    free(list);
    free(path);
}

static inline double relative_distance(const float *a, const float *b, size_t count) {
    double apart = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return size > 0 ? sqrt(apart / size) : sqrt(apart);
}

static inline void assert_near(const float *a, const float *b, size_t count, double limit, const char *what) {
    double apart = relative_distance(a, b, count);
    if (getenv("SHOW_ERRORS")) printf("%s %.3g\n", what, apart);
    if (!(apart <= limit)) fail_msg("%s: relative error %.3g, at most %.1g allowed", what, apart, limit);
}

#endif
