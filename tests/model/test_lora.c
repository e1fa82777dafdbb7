/* LoRA's initial weights, PEFT's files written and read, and adapters that must be refused. */
#include "tests/model/decoder_fixture.h"

#include "model/lora.h"

static void declare(Fixture *f, const LoraConfig *config, uint64_t seed) {
    assert_ok(decoder_lora_declare(f->decoder, config, seed, &f->params, &f->err), &f->err);
    assert_ok(params_commit(&f->params, f->dev, &f->err), &f->err);
    assert_ok(decoder_lora_init(f->decoder, &f->err), &f->err);
}

static void test_init(void **state) {
    (void)state;
    Fixture *f = fixture_open("qwen3");
    LoraConfig config = {.rank = 4, .alpha = 8, .targets = LORA_Q | LORA_DOWN};
    declare(f, &config, 99);
    assert_int_equal(f->params.count, 2 * 2 * 2);
    assert_string_equal(f->params.items[0].name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_string_equal(f->params.items[7].name, "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
    for (int i = 0; i < f->params.count; i++) {
        const Tensor t = f->params.items[i].value;
        const float *values = t.data;
        float bound = 1.0f / sqrtf((float)t.cols);
        for (int64_t e = 0; e < t.rows * t.cols; e++) {
            Philox block = philox(99, (uint32_t)(e / 4), PLACE_INIT, (uint32_t)i, 0);
            float expected = i % 2 ? 0 : (2 * rng_uniform(block.word[e % 4]) - 1) * bound;
            assert_true(fabsf(values[e] - expected) < 1e-7f && fabsf(values[e]) <= bound);
        }
    }
    fixture_close(f);
}

/* What is saved comes back, whatever the plan: uniform, or with PEFT's patterns. */
static void test_save_and_load(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]), *g = fixture_open(VARIANTS[v]);
        char *folder = test_path("adapter");
        fixture_adapter(f);
        assert_ok(folder_make(folder, &f->err), &f->err);
        assert_ok(decoder_lora_save(f->decoder, folder, &f->err), &f->err);
        assert_ok(decoder_lora_declare_from(g->decoder, folder, 0, &g->params, &g->err), &g->err);
        assert_ok(params_commit(&g->params, g->dev, &g->err), &g->err);
        assert_ok(decoder_lora_load(g->decoder, folder, &g->err), &g->err);
        assert_int_equal(f->params.total, g->params.total);
        assert_memory_equal(f->params.value, g->params.value, (size_t)f->params.total * sizeof(float));
        Error err = {0};
        assert_ok(decoder_lora_load(f->decoder, folder, &err), &err); /* the other plan agrees, too */
        free(folder);
        fixture_close(f);
        fixture_close(g);
    }
}

static void test_other_settings_are_refused(void **state) {
    (void)state;
    const LoraConfig wrong[] = {{.rank = 8, .alpha = 8, .targets = LORA_ALL},
                                {.rank = 4, .alpha = 9, .targets = LORA_ALL},
                                {.rank = 4, .alpha = 8, .rslora = true, .targets = LORA_ALL},
                                {.rank = 4, .alpha = 8, .targets = LORA_ALL & ~LORA_UP}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Fixture *f = fixture_open("llama3");
        Error err = {0};
        declare(f, &wrong[i], 1);
        assert_false(decoder_lora_load(f->decoder, f->adapter, &err));
        assert_non_null(strstr(err.text, "llama3/adapter"));
        fixture_close(f);
    }
}

static void test_wrong_configs(void **state) {
    (void)state;
    const LoraConfig wrong[] = {{.rank = -1, .targets = LORA_ALL},
                                {.rank = 4, .targets = 0},
                                {.rank = 4, .targets = 1 << 7},
                                {.rank = 4, .dropout = 1, .targets = LORA_ALL},
                                {.rank = 4, .dropout = -0.1f, .targets = LORA_ALL},
                                {.rank = 4, .alpha = NAN, .targets = LORA_ALL},
                                {.rank = 1 << 20, .targets = LORA_ALL},
                                {.rank = 10000, .targets = LORA_ALL}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Fixture *f = fixture_open("llama3");
        Error err = {0};
        assert_false(decoder_lora_declare(f->decoder, &wrong[i], 0, &f->params, &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
        fixture_close(f);
    }
}

/* ---- adapter_config.json ---- */

static bool read_plan(const char *json, LoraPlan *plan, Error *err) {
    char *folder = test_path("config"), *path = path_join(folder, "adapter_config.json", NULL);
    assert_true(path && folder_make(folder, NULL) && file_write(path, json, strlen(json), NULL));
    bool ok = lora_plan_read(plan, folder, 3, err);
    free(path);
    free(folder);
    return ok;
}

static unsigned targets_of(const LoraPlan *plan, int layer) {
    unsigned targets = 0;
    for (int p = 0; p < PROJECTIONS; p++)
        if (plan->modules[layer][p].rank) targets |= 1u << p;
    return targets;
}

#define BASE "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, "

static void test_targets(void **state) {
    (void)state;
    const struct {
        const char *json;
        unsigned targets[3];
    } cases[] = {
        {BASE "\"target_modules\": [\"q_proj\", \"v_proj\"]}", {5, 5, 5}},
        {BASE "\"target_modules\": \"ALL-linear\"}", {127, 127, 127}},
        {BASE "\"target_modules\": \"all-linear\", \"exclude_modules\": [\"mlp.up_proj\"]}", {95, 95, 95}},
        {BASE "\"target_modules\": \".*proj\"}", {127, 127, 127}},
        {BASE "\"target_modules\": \".*\\\\.1\\\\..*_proj\"}", {0, 127, 0}},
        {BASE "\"target_modules\": [\"mlp.down_proj\", \"model.layers.2.self_attn.o_proj\", \"proj\", \"\"]}",
         {64, 64, 72}},
        {BASE "\"target_modules\": [\"k_proj\"], \"layers_to_transform\": [0, 2], \"layers_pattern\": \"layers\"}",
         {2, 0, 2}},
        {BASE "\"target_modules\": [\"k_proj\"], \"layers_to_transform\": 1, \"layers_pattern\": null}", {0, 2, 0}},
        {BASE "\"target_modules\": [\"q_proj\"], \"exclude_modules\": \".*\\\\.0\\\\..*\"}", {0, 1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LoraPlan plan;
        Error err = {0};
        assert_ok(read_plan(cases[i].json, &plan, &err), &err);
        for (int l = 0; l < 3; l++)
            if (targets_of(&plan, l) != cases[i].targets[l]) fail_msg("%s: layer %d", cases[i].json, l);
        lora_plan_free(&plan);
    }
}

static void test_patterns(void **state) {
    (void)state;
    LoraPlan plan;
    Error err = {0};
    const char *json = BASE "\"use_rslora\": true, \"target_modules\": [\"q_proj\", \"k_proj\"], \"rank_pattern\": "
                            "{\"layers.1.self_attn.q_proj\": 9, \"q_proj\": 16, \"q_pro\": 3}, \"alpha_pattern\": "
                            "{\"^model.layers.2.*\": 2.5}}";
    assert_ok(read_plan(json, &plan, &err), &err);
    assert_int_equal(plan.modules[0][0].rank, 16);
    assert_int_equal(plan.modules[1][0].rank, 9);
    assert_int_equal(plan.modules[2][1].rank, 4);
    assert_true(fabsf(plan.modules[0][0].scale - 2) < 1e-6f);        /* 8 / sqrt 16 */
    assert_true(fabsf(plan.modules[1][0].scale - 8.0f / 3) < 1e-6f); /* 8 / sqrt 9 */
    assert_true(fabsf(plan.modules[2][1].scale - 1.25f) < 1e-6f);    /* 2.5 / sqrt 4 */
    lora_plan_free(&plan);
}

static void test_refused_configs(void **state) {
    (void)state;
    static const char *const refused[] = {
        "",
        "[]",
        "7",
        "{}",
        "{\"peft_type\": \"LORA\"}",
        "{\"peft_type\": \"IA3\", \"r\": 4}",
        "{\"peft_type\": 3, \"r\": 4, \"target_modules\": [\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"r\": 0, \"target_modules\": [\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"r\": -4, \"target_modules\": [\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"r\": 1e9, \"target_modules\": [\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"r\": 999999999999, \"target_modules\": [\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"r\": \"4\", \"target_modules\": [\"q_proj\"]}",
        BASE "\"target_modules\": null}",
        BASE "\"target_modules\": 5}",
        BASE "\"target_modules\": []}",
        BASE "\"target_modules\": [5, null]}",
        BASE "\"target_modules\": [\"c_attn\"]}",
        BASE "\"target_modules\": \"(q_proj\"}",
        BASE "\"target_modules\": \"q_proj\"}",
        BASE "\"target_modules\": [\"q_proj\", \"lm_head\"]}",
        BASE "\"target_modules\": \".*\"}",
        BASE "\"target_modules\": [\"embed_tokens\"]}",
        BASE "\"target_modules\": [\"q_proj\"], \"use_dora\": true}",
        BASE "\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"lm_head\"]}",
        BASE "\"target_modules\": [\"q_proj\"], \"bias\": \"all\"}",
        BASE "\"target_modules\": [\"q_proj\"], \"lora_bias\": true}",
        BASE "\"target_modules\": [\"q_proj\"], \"fan_in_fan_out\": true}",
        BASE "\"target_modules\": [\"q_proj\"], \"init_lora_weights\": \"pissa_niter_4\"}",
        BASE "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [1], \"layers_pattern\": \"h\"}",
        BASE "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [17]}",
        BASE "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": 0}}",
        BASE "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": \"8\"}}",
        BASE "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_[\": 8}}",
        BASE "\"target_modules\": [\"q_proj\"], \"rank_pattern\": [8]}",
        BASE "\"target_modules\": [\"q_proj\"], \"alpha_pattern\": {\"q_proj\": \"x\"}}",
        BASE "\"target_modules\": [\"q_proj\"], \"lora_dropout\": 1.0}",
        BASE "\"target_modules\": [\"q_proj\"], \"lora_dropout\": \"none\"}",
        BASE "\"target_modules\": [\"q_proj\"], \"use_rslora\": 1}",
        BASE "\"target_modules\": [\"q_proj\"], \"exclude_modules\": [\"self_attn.q_proj\"]}",
        BASE "\"target_modules\": \"((((((((((.*)*)*)*)*)*)*)*)*)*)*x\"}",
        BASE "\"target_modules\": [\"q_proj\"], \"trainable_token_indices\": [1]}"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        LoraPlan plan;
        Error err = {0};
        if (read_plan(refused[i], &plan, &err)) fail_msg("accepted: %s", refused[i]);
        if (!strstr(err.text, "adapter_config.json")) fail_msg("%s: %s", refused[i], err.text);
    }
}

/* ---- adapter_model.safetensors ---- */

static void test_other_tensors_are_refused(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    char *folder = test_path("tensors"), *path = path_join(folder, "adapter_model.safetensors", NULL);
    fixture_adapter(f);
    assert_ok(folder_make(folder, &f->err), &f->err);
    assert_ok(decoder_lora_save(f->decoder, folder, &f->err), &f->err);
    TensorFiles *files;
    assert_ok(files = tensors_open(path, &f->err), &f->err);
    size_t count = tensors_count(files);
    StoredTensor tensors[64];
    assert_in_range(count, 20, 60);
    for (int damage = 0; damage < 3; damage++) {
        for (size_t i = 0; i < count; i++) tensors[i] = *tensors_at(files, i);
        if (damage == 0) tensors[3].name = "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight";
        if (damage == 1)
            tensors[5].shape[0] = tensors[5].shape[1], tensors[5].shape[1] = tensors_at(files, 5)->shape[0];
        char *other = test_path("other"), *to = path_join(other, "adapter_model.safetensors", NULL);
        char *config = path_join(other, "adapter_config.json", NULL),
             *from = path_join(f->adapter, "adapter_config.json", NULL);
        size_t size;
        char *text = file_read(from, 1 << 20, &size, NULL);
        Error err = {0};
        assert_true(text && folder_make(other, NULL) && file_write(config, text, size, NULL));
        assert_ok(tensors_write(to, tensors, damage == 2 ? count - 1 : count, NULL, &err), &err);
        assert_false(decoder_lora_load(f->decoder, other, &err));
        assert_non_null(strstr(err.text, "adapter_model.safetensors"));
        free(text);
        free(from);
        free(config);
        free(to);
        free(other);
    }
    tensors_close(files);
    free(path);
    free(folder);
    fixture_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_other_settings_are_refused),
        cmocka_unit_test(test_wrong_configs),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_other_tensors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
