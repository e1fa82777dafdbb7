/* Model folders: what their configs mean, and those that must be refused with a clear sentence. */
#include "tests/model/decoder_fixture.h"

static json_t *fixture_config(const char *variant) {
    char path[120];
    Error err = {0};
    json_t *json;
    snprintf(path, sizeof path, "tests/fixtures/decoder/%s/config.json", variant);
    assert_ok(json = json_read_file(path, 1 << 20, &err), &err);
    return json;
}

/* A folder with this config and, by a link, the variant's weights. */
static char *folder_of(const char *variant, const json_t *config, const char *generation) {
    char *folder = test_path("model"), *path = path_join(folder, "config.json", NULL), here[400], target[520];
    char *weights = path_join(folder, "model.safetensors", NULL), *other;
    Error err = {0};
    other = path_join(folder, "generation_config.json", NULL);
    assert_true(path && weights && other && folder_remove(folder, NULL) && folder_make(folder, NULL));
    assert_ok(json_write_file(config, path, &err), &err);
    assert_non_null(getcwd(here, sizeof here));
    snprintf(target, sizeof target, "%s/tests/fixtures/decoder/%s/model.safetensors", here, variant);
    assert_int_equal(symlink(target, weights), 0);
    if (generation) assert_true(file_write(other, generation, strlen(generation), NULL));
    free(path);
    free(weights);
    free(other);
    return folder;
}

static void read_changed(const char *variant, const char *changes, DecoderConfig *config) {
    json_t *json = fixture_config(variant), *change = json_loads(changes, 0, NULL);
    Error err = {0};
    assert_non_null(change);
    json_object_update(json, change);
    char *folder = folder_of(variant, json, NULL);
    assert_ok(decoder_config_read(config, folder, &err), &err);
    free(folder);
    json_decref(change);
    json_decref(json);
}

static void test_meanings(void **state) {
    (void)state;
    DecoderConfig c;
    read_changed("llama3", "{}", &c);
    assert_true(c.scaling == ROPE_LLAMA3 && c.factor == 8 && c.original_positions == 64 && c.theta == 500);
    assert_true(c.stop_count == 2 && c.stop[1] == 3 && !c.tied && c.head_dim == 8 && c.kv_heads == 2);
    read_changed("llama_old", "{\"rope_scaling\": null, \"rope_theta\": null}", &c);
    assert_true(c.scaling == ROPE_PLAIN && c.theta == 10000 && c.tied && c.o_bias && c.mlp_bias && c.head_dim == 8);
    read_changed("llama_old", "{\"num_key_value_heads\": null, \"rms_norm_eps\": null}", &c);
    assert_true(c.kv_heads == 4 && fabsf(c.eps - 1e-6f) < 1e-12f);
    read_changed("qwen2", "{\"eos_token_id\": null, \"max_position_embeddings\": null}", &c);
    assert_true(c.qkv_bias && !c.o_bias && !c.qk_norm && c.stop_count == 0 && c.max_positions == 32768);
    read_changed("qwen3", "{\"head_dim\": null, \"rope_parameters\": null, \"rope_theta\": 5e6}", &c);
    assert_true(c.head_dim == 128 && c.qk_norm && !c.qkv_bias && c.theta == 5e6);
}

static void test_generation_config(void **state) {
    (void)state;
    json_t *json = fixture_config("llama3");
    DecoderConfig c;
    Error err = {0};
    char *folder = folder_of("llama3", json, "{\"eos_token_id\": [7, 8, 9]}");
    assert_ok(decoder_config_read(&c, folder, &err), &err);
    assert_true(c.stop_count == 3 && c.stop[0] == 7 && c.stop[2] == 9);
    free(folder);
    folder = folder_of("llama3", json, "{\"temperature\": 1}");
    assert_ok(decoder_config_read(&c, folder, &err), &err);
    assert_true(c.stop_count == 2 && c.stop[0] == 2);
    free(folder);
    static const char *const wrong[] = {"{\"eos_token_id\": 96}", "{\"eos_token_id\": \"2\"}", "{",
                                        "{\"eos_token_id\": [[2]]}"};
    for (size_t i = 0; i < 4; i++) {
        folder = folder_of("llama3", json, wrong[i]);
        Error found = {0};
        assert_false(decoder_config_read(&c, folder, &found));
        assert_non_null(strstr(found.text, "generation_config.json"));
        free(folder);
    }
    json_decref(json);
}

/* A folder that must not open; the error names what is wrong. */
static void refused(const char *variant, const json_t *config, const char *word) {
    char *folder = folder_of(variant, config, NULL);
    Error err = {0};
    Device *dev;
    assert_ok(dev = device_open(DEVICE_CPU, 1, &err), &err);
    Decoder *decoder = decoder_open(dev, folder, &err);
    if (decoder) fail_msg("%s opened with a wrong %s", variant, word);
    if (!strstr(err.text, word)) fail_msg("the error about %s says: %s", word, err.text);
    device_close(dev);
    free(folder);
}

static void test_wrong_values(void **state) {
    (void)state;
    static const char *const keys[] = {
        "hidden_size",  "num_hidden_layers",      "num_attention_heads", "num_key_value_heads",
        "head_dim",     "intermediate_size",      "vocab_size",          "rms_norm_eps",
        "eos_token_id", "max_position_embeddings"};
    static const char *const values[] = {
        "0", "-1", "-9223372036854775808", "9223372036854775807", "1e300", "\"32\"", "[[]]", "{}", "true"};
    for (int v = 0; v < VARIANT_COUNT; v++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
                if (k == 8 && i == 0) continue; /* 0 is an id like others */
                json_t *json = fixture_config(VARIANTS[v]);
                json_object_set_new(json, keys[k], json_loads(values[i], JSON_DECODE_ANY, NULL));
                refused(VARIANTS[v], json, keys[k]);
                json_decref(json);
            }
}

static void test_missing_values(void **state) {
    (void)state;
    static const char *const keys[] = {"hidden_size",       "num_hidden_layers", "num_attention_heads",
                                       "intermediate_size", "vocab_size",        "model_type"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        json_t *json = fixture_config("qwen2");
        json_object_del(json, keys[k]);
        refused("qwen2", json, keys[k]);
        json_decref(json);
    }
}

/* Plausible values that do not fit each other or the weights, and models that we would compute wrongly. */
static void test_misfits(void **state) {
    (void)state;
    static const struct {
        const char *variant, *change, *word;
    } cases[] = {
        {"llama3", "{\"hidden_size\": 40}", "embed_tokens"},
        {"llama3", "{\"vocab_size\": 97}", "embed_tokens"},
        {"llama3", "{\"num_hidden_layers\": 3}", "model.layers.2"},
        {"llama3", "{\"num_hidden_layers\": 1024}", "model.layers.2"},
        {"llama3", "{\"num_key_value_heads\": 3}", "num_key_value_heads"},
        {"llama3", "{\"num_key_value_heads\": 4}", "k_proj"},
        {"llama3", "{\"head_dim\": 7}", "even"},
        {"llama3", "{\"head_dim\": 130}", "head_dim"},
        {"llama3", "{\"head_dim\": 16}", "q_proj"},
        {"llama_old", "{\"num_attention_heads\": 5}", "num_attention_heads"},
        {"llama_old", "{\"num_attention_heads\": 32}", "even"},
        {"llama3", "{\"intermediate_size\": 47}", "gate_proj"},
        {"llama3", "{\"attention_bias\": true}", "q_proj.bias"},
        {"llama3", "{\"mlp_bias\": true}", "gate_proj.bias"},
        {"qwen2", "{\"tie_word_embeddings\": false}", "lm_head"},
        {"llama3", "{\"model_type\": \"qwen2\"}", "q_proj.bias"},
        {"llama3", "{\"model_type\": \"qwen3\"}", "q_norm"},
        {"llama3", "{\"model_type\": \"mistral\"}", "mistral"},
        {"llama3", "{\"hidden_act\": \"gelu\"}", "gelu"},
        {"llama3", "{\"hidden_act\": 3}", "hidden_act"},
        {"qwen2", "{\"use_sliding_window\": true}", "use_sliding_window"},
        {"qwen2", "{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}", "sliding"},
        {"qwen2", "{\"quantization_config\": {\"bits\": 4}}", "quantization_config"},
        {"llama3", "{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor"},
        {"llama3", "{\"tie_word_embeddings\": \"yes\"}", "tie_word_embeddings"},
        {"llama3", "{\"rope_theta\": -1}", "rope_theta"},
        {"llama3", "{\"rope_parameters\": [1]}", "rope_parameters"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}}", "yarn"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 4}}", "dynamic"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": 1}}", "rope_type"},
        {"llama3", "{\"rope_parameters\": {\"rope_theta\": 0}}", "rope_theta"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": \"linear\"}}", "factor"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": -2}}", "factor"},
        {"llama3", "{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8}}", "low_freq_factor"},
        {"llama3",
         "{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}",
         "high_freq_factor"},
        {"llama_old", "{\"rope_scaling\": {\"type\": \"longrope\"}}", "longrope"},
        {"llama3", "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "eos_token_id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json = fixture_config(cases[i].variant), *change = json_loads(cases[i].change, 0, NULL);
        assert_non_null(change);
        json_object_update(json, change);
        refused(cases[i].variant, json, cases[i].word);
        json_decref(change);
        json_decref(json);
    }
}

static void test_no_object(void **state) {
    (void)state;
    static const char *const texts[] = {"[]", "3", "null", "\"llama\""};
    for (size_t i = 0; i < 4; i++) {
        json_t *json = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        refused("llama3", json, "config.json");
        json_decref(json);
    }
}

/* Each tensor in turn is left out, has another type, or another shape. */
static void test_damaged_weights(void **state) {
    (void)state;
    Error err = {0};
    Device *dev;
    TensorFiles *files;
    json_t *json = fixture_config("qwen3");
    assert_ok(dev = device_open(DEVICE_CPU, 1, &err), &err);
    assert_ok(files = tensors_open("tests/fixtures/decoder/qwen3", &err), &err);
    size_t count = tensors_count(files), most = 0;
    StoredTensor *tensors = calloc(count, sizeof *tensors);
    for (size_t i = 0; i < count; i++)
        if (tensors_at(files, i)->bytes > most) most = tensors_at(files, i)->bytes;
    void *zeros = calloc(1, 2 * most);
    assert_true(tensors && zeros);
    for (size_t which = 0; which < count; which++)
        for (int damage = 0; damage < 4; damage++) {
            char *folder = folder_of("qwen3", json, NULL), *path = path_join(folder, "model.safetensors", NULL);
            for (size_t i = 0; i < count; i++) tensors[i] = *tensors_at(files, i);
            StoredTensor *t = &tensors[which];
            if (damage == 0) t->name = "other";
            if (damage == 1) t->dtype = DTYPE_I32;
            if (damage == 2) t->shape[0] *= 2, t->bytes *= 2, t->data = zeros;
            if (damage == 3) t->dims++, t->shape[t->dims - 1] = 1;
            assert_int_equal(unlink(path), 0);
            assert_ok(tensors_write(path, tensors, count, NULL, &err), &err);
            Error found = {0};
            assert_null(decoder_open(dev, folder, &found));
            if (!strstr(found.text, tensors_at(files, which)->name)) fail_msg("the error says: %s", found.text);
            free(path);
            free(folder);
        }
    free(zeros);
    free(tensors);
    tensors_close(files);
    device_close(dev);
    json_decref(json);
}

/* Batches and requests that do not fit what was planned. */
static void test_wrong_batches(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    int32_t cu[4] = {0, 3, 5, 9}, backwards[3] = {0, 4, 3}, rows[3] = {0, 2, 4}, far[1] = {5}, unordered[2] = {3, 1},
            targets[3] = {1, 2, VOCAB};
    const DecoderBatch wrong[] = {{.count = 0, .cu = cu},
                                  {.count = 3, .cu = cu},
                                  {.count = 1, .cu = cu + 1},
                                  {.count = 2, .cu = backwards},
                                  {.count = 2, .cu = cu, .responses = 3, .rows = rows},
                                  {.count = 2, .cu = cu, .responses = 1, .rows = far},
                                  {.count = 2, .cu = cu, .responses = 2, .rows = unordered}};
    fixture_layout(f, &(DecoderLimits){.tokens = 6, .segments = 2, .responses = 2});
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error err = {0};
        assert_false(decoder_forward(f->decoder, &wrong[i], &err));
        assert_true(err.text[0]);
    }
    fixture_layout(f, &(DecoderLimits){.tokens = 6, .segments = 2, .responses = 3});
    DecoderBatch batch = {.count = 2, .cu = cu, .responses = 3, .rows = rows};
    float out[3 * VOCAB];
    Error err = {0};
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_false(decoder_loss(f->decoder, targets, false, 1, out, &err));
    assert_false(decoder_loss(f->decoder, rows, true, 1, out, &err)); /* no gradients without training */
    assert_false(decoder_logits(f->decoder, 2, 2, out, &err));
    const DecoderLimits limits[] = {{0},
                                    {.tokens = -1, .segments = 1},
                                    {.tokens = 5, .segments = 0},
                                    {.tokens = 5, .segments = 1, .responses = 6},
                                    {.tokens = INT64_MAX, .segments = 1}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        Arena arena = {.name = "activations"};
        Error found = {0};
        assert_false(decoder_layout(f->decoder, &arena, &limits[i], &found));
        assert_true(found.text[0]);
        arena_free(&arena);
    }
    fixture_close(f);
}

static void test_wrong_sessions(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    Error err = {0};
    DecoderSession *session;
    float logits[2 * VOCAB];
    int32_t cu[3] = {0, 5, 12}, slot[2] = {0, 1}, far[2] = {2, -1}, token[2] = {3, VOCAB};
    assert_null(session_open(f->decoder, 0, 10, 0, &err));
    assert_null(session_open(f->decoder, 3, 0, 0, &err));
    assert_null(session_open(f->decoder, 1 << 20, 1 << 20, 0, &err));
    err = (Error){0};
    assert_ok(session = session_open(f->decoder, 2, 6, 0, &err), &err);
    fixture_layout(f, &(DecoderLimits){.tokens = TOKENS, .segments = 1, .responses = 1});
    Tensor rows = decoder_input(f->decoder, TOKENS);
    assert_false(session_prefill(session, rows, cu, slot, 3, logits, &err));
    assert_false(session_prefill(session, rows, cu, far, 1, logits, &err));
    assert_false(session_prefill(session, rows, cu, slot, 2, logits, &err)); /* the second has 7 tokens */
    assert_false(session_step(session, far, token, 1, logits, &err));
    assert_false(session_step(session, slot, token + 1, 1, logits, &err));
    assert_false(session_copy(session, slot, far, 1, &err));
    err = (Error){0};
    assert_ok(session_prefill(session, rows, cu, slot, 1, logits, &err), &err);
    assert_ok(session_step(session, slot, token, 1, logits, &err), &err);
    assert_false(session_step(session, slot, token, 1, logits, &err)); /* full */
    assert_non_null(strstr(err.text, "full"));
    session_close(session);
    fixture_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meanings),        cmocka_unit_test(test_generation_config),
        cmocka_unit_test(test_wrong_values),    cmocka_unit_test(test_missing_values),
        cmocka_unit_test(test_misfits),         cmocka_unit_test(test_no_object),
        cmocka_unit_test(test_damaged_weights), cmocka_unit_test(test_wrong_batches),
        cmocka_unit_test(test_wrong_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
