/* Encoder folders that are damaged or make no sense: one clear error each, never a crash; and the encode
 * command on the shortest clips. */
#include "tests/model/random_model.h"

#include "model/wavlm.h"

bool command_encode(int argc, char **argv, Error *err);

static const char FIXTURE[] = "tests/fixtures/wavlm/prefixed";

typedef struct Folder {
    char *path, *config, *weights;
    char *weights_data, *config_data;
    size_t weights_size, config_size;
    Device *dev;
    Error err;
} Folder;

static Folder *folder_open(void) {
    Folder *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->path = test_path("encoder");
    assert_ok(folder_make(f->path, &f->err), &f->err);
    f->config = path_join(f->path, "config.json", &f->err);
    f->weights = path_join(f->path, "model.safetensors", &f->err);
    char *config = path_join(FIXTURE, "config.json", &f->err),
         *weights = path_join(FIXTURE, "model.safetensors", &f->err);
    assert_ok(f->config_data = file_read(config, 1 << 20, &f->config_size, &f->err), &f->err);
    assert_ok(f->weights_data = file_read(weights, 1 << 24, &f->weights_size, &f->err), &f->err);
    assert_ok(file_write(f->config, f->config_data, f->config_size, &f->err), &f->err);
    assert_ok(file_write(f->weights, f->weights_data, f->weights_size, &f->err), &f->err);
    assert_ok(f->dev = device_open(DEVICE_CPU, 1, &f->err), &f->err);
    free(config);
    free(weights);
    return f;
}

static void folder_close(Folder *f) {
    device_close(f->dev);
    folder_remove(f->path, NULL);
    free(f->path);
    free(f->config);
    free(f->weights);
    free(f->config_data);
    free(f->weights_data);
    free(f);
}

/* Opening must end well or with a sentence. */
static bool opens(Folder *f, Error *err) {
    Wavlm wavlm;
    *err = (Error){0};
    bool ok = wavlm_open(&wavlm, f->dev, f->path, TOGGLE_AUTO, err);
    if (ok) wavlm_close(&wavlm);
    assert_true(ok == (err->exit_code == EXIT_DONE));
    assert_true(ok || strlen(err->text) > 20);
    return ok;
}

static void test_configs(void **state) {
    (void)state;
    static const char *const keys[] = {"hidden_size",       "num_hidden_layers",
                                       "conv_dim",          "conv_kernel",
                                       "conv_stride",       "num_attention_heads",
                                       "intermediate_size", "num_conv_pos_embeddings",
                                       "num_buckets",       "num_conv_pos_embedding_groups",
                                       "conv_bias",         "max_bucket_distance",
                                       "layer_norm_eps",    "feat_extract_norm",
                                       "model_type",        "hidden_act"};
    static const char *const values[] = {"-1",     "0",
                                         "33",     "9007199254740993",
                                         "1e400",  "\"x\"",
                                         "[]",     "[1, 2, 3]",
                                         "[0.5]",  "{}",
                                         "false",  "[64,64,64,64,64,64,1000000]",
                                         "999999", "[9,9,9,9,9,9,9]"};
    Folder *f = folder_open();
    Error err;
    int refused = 0, cases = 0;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++, cases++) {
            json_t *config = json_loadb(f->config_data, f->config_size, 0, NULL);
            json_t *value = json_loads(values[v], JSON_DECODE_ANY, NULL);
            if (!value) value = json_real(1e300);
            assert_true(config && json_object_set_new(config, keys[k], value) == 0);
            char *text = json_dumps(config, 0);
            assert_ok(file_write(f->config, text, strlen(text), &f->err), &f->err);
            refused += !opens(f, &err);
            free(text);
            json_decref(config);
        }
    assert_int_equal(cases, 224);
    assert_true(refused > 210); /* a few values are what a key may have, or change nothing here */
    assert_ok(file_write(f->config, "[1]", 3, &f->err), &f->err);
    assert_false(opens(f, &err));
    assert_ok(file_write(f->config, f->config_data, f->config_size, &f->err), &f->err);
    assert_true(opens(f, &err));
    folder_close(f);
}

static void test_damaged_weights(void **state) {
    (void)state;
    Folder *f = folder_open();
    Error err;
    char *damaged = malloc(f->weights_size);
    assert_non_null(damaged);
    for (uint32_t i = 0; i < 60; i++) { /* cut anywhere */
        size_t size = philox(1, i, 0, 0, 0).word[0] % f->weights_size;
        assert_ok(file_write(f->weights, f->weights_data, size, &f->err), &f->err);
        assert_false(opens(f, &err));
    }
    for (uint32_t i = 0; i < 60; i++) { /* a bit of the header turned */
        memcpy(damaged, f->weights_data, f->weights_size);
        uint32_t place = philox(2, i, 0, 0, 0).word[0] % 4000;
        damaged[place] = (char)(damaged[place] ^ (1 << i % 8));
        assert_ok(file_write(f->weights, damaged, f->weights_size, &f->err), &f->err);
        opens(f, &err);
    }
    free(damaged);
    folder_close(f);
}

/* Each tensor in turn missing, of another shape, or holding a number that is none: the error names it. */
static void test_each_tensor(void **state) {
    (void)state;
    Folder *f = folder_open();
    Error err;
    char *source = path_join(FIXTURE, "model.safetensors", &err);
    TensorFiles *files = tensors_open(source, &err);
    assert_ok(files, &err);
    size_t count = tensors_count(files);
    StoredTensor *tensors = calloc(count, sizeof *tensors);
    assert_non_null(tensors);
    for (size_t i = 0; i < count; i++) {
        bool unused =
            strstr(tensors_at(files, i)->name, "masked_spec") || strstr(tensors_at(files, i)->name, "classifier");
        for (int how = 0; how < 3; how++) {
            uint16_t *values = NULL;
            for (size_t t = 0; t < count; t++) tensors[t] = *tensors_at(files, t);
            StoredTensor *victim = &tensors[i];
            if (how == 0) tensors[i] = tensors[count - 1];
            if (how == 1) victim->shape[victim->dims++] = 1;
            if (how == 2 && !unused) {
                values = malloc(victim->bytes);
                assert_non_null(values);
                memcpy(values, victim->data, victim->bytes);
                values[victim->bytes / 4] = 0x7e00; /* half's NaN */
                victim->data = values;
            }
            assert_ok(tensors_write(f->weights, tensors, how == 0 ? count - 1 : count, NULL, &f->err), &f->err);
            bool ok = opens(f, &err);
            const char *name = tensors_at(files, i)->name;
            if (unused)
                assert_true(ok);
            else if (ok || !strstr(err.text, name))
                /* a name that tells the spelling of weight norm, or of the prefix, is missed by the other */
                assert_true(!ok && how == 0 &&
                            (strstr(name, "weight_g") || strstr(name, "projection.layer_norm.weight")));
            free(values);
        }
    }
    free(tensors);
    tensors_close(files);
    free(source);
    folder_close(f);
}

static void test_preprocessor(void **state) {
    (void)state;
    Folder *f = folder_open();
    char *path = path_join(f->path, "preprocessor_config.json", &f->err);
    static const struct {
        const char *text; /* null: no file */
        bool ok, normalize;
    } cases[] = {{NULL, true, false}, /* this folder's first norm is "group" */
                 {"{\"do_normalize\": true}", true, true},
                 {"{\"do_normalize\": false}", true, false},
                 {"{}", true, true},
                 {"{\"do_normalize\": 1}", false, false},
                 {"{\"sampling_rate\": 8000}", false, false},
                 {"[]", false, false},
                 {"{", false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        WavlmConfig config;
        Error err = {0};
        if (cases[i].text) assert_ok(file_write(path, cases[i].text, strlen(cases[i].text), &f->err), &f->err);
        assert_true(wavlm_config_read(&config, f->path, &err) == cases[i].ok);
        if (cases[i].ok) assert_true(config.normalize == cases[i].normalize);
    }
    free(path);
    folder_close(f);
}

static bool encode(const char *audio, const char *out, Error *err) {
    char *argv[] = {"encode", (char *)(uintptr_t)FIXTURE, (char *)(uintptr_t)audio, "-o", (char *)(uintptr_t)out, NULL};
    *err = (Error){0};
    return command_encode(5, argv, err);
}

static void write_wave(const char *path, int64_t samples, float level) {
    Error err = {0};
    Audio audio = {.samples = calloc((size_t)samples + 1, sizeof(float)), .count = samples, .rate = AUDIO_RATE};
    assert_non_null(audio.samples);
    for (int64_t i = 0; i < samples; i++) audio.samples[i] = i % 7 < 3 ? level : -level;
    unsigned char *data = NULL;
    size_t size = 0;
    assert_ok(audio_encode(&audio, AUDIO_WAV, &data, &size, &err), &err);
    assert_ok(file_write(path, data, size, &err), &err);
    free(data);
    audio_free(&audio);
}

static void test_encode(void **state) {
    (void)state;
    Folder *f = folder_open();
    char *audio = path_join(f->path, "a.wav", &f->err), *out = path_join(f->path, "x.safetensors", &f->err);
    Error err;
    static const struct {
        int64_t samples, frames;
        float level;
    } cases[] = {{399, 0, 0.5f}, {400, 1, 0.5f}, {400, 1, 0}, {719, 1, 0.2f}, {720, 2, 0.2f}, {16000, 49, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_wave(audio, cases[i].samples, cases[i].level);
        unlink(out);
        bool ok = encode(audio, out, &err);
        assert_true(ok == (cases[i].frames > 0));
        assert_true(file_exists(out) == ok);
        if (!ok) {
            assert_non_null(strstr(err.text, "399 samples"));
            continue;
        }
        TensorFiles *files = tensors_open(out, &err);
        assert_ok(files, &err);
        assert_int_equal(tensors_count(files), 3);
        for (int h = 0; h < 3; h++) {
            char name[24];
            snprintf(name, sizeof name, "hidden_%d", h);
            const int64_t shape[] = {cases[i].frames, 32};
            float values[49 * 32];
            assert_ok(tensors_read(files, name, 2, shape, values, &err), &err);
            for (int64_t v = 0; v < shape[0] * shape[1]; v++) assert_true(isfinite(values[v]));
        }
        tensors_close(files);
    }
    assert_false(encode("/nonexistent.wav", out, &err));
    char *no_out[] = {"encode", "a", "b", NULL};
    err = (Error){0};
    assert_false(command_encode(3, no_out, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    free(audio);
    free(out);
    folder_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configs),      cmocka_unit_test(test_damaged_weights), cmocka_unit_test(test_each_tensor),
        cmocka_unit_test(test_preprocessor), cmocka_unit_test(test_encode),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
