/* Decoders against transformers, LoRA against PEFT, on small random models of every kind. */
#include "tests/model/decoder_fixture.h"

static void all_rows(int32_t *rows, int32_t n) {
    for (int32_t i = 0; i < n; i++) rows[i] = i;
}

/* Logits of all sequences packed. */
static float *packed_logits(Fixture *f) {
    int32_t rows[TOKENS];
    all_rows(rows, TOKENS);
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU, .responses = TOKENS, .rows = rows};
    float *logits = calloc(TOKENS * VOCAB, sizeof *logits);
    assert_non_null(logits);
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_logits(f->decoder, 0, TOKENS, logits, &f->err), &f->err);
    return logits;
}

static void check_logits(Fixture *f, const char *name, bool training) {
    DecoderLimits limits = {.tokens = TOKENS + 5, .segments = SEQUENCES, .responses = TOKENS, .training = training};
    size_t count;
    float *expected = fixture_floats(f, name, &count);
    fixture_layout(f, &limits);
    float *logits = packed_logits(f);
    assert_int_equal(count, TOKENS * VOCAB);
    assert_close(logits, expected, count, 1e-5, f->folder);
    free(expected);
    free(logits);
}

static void test_logits(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        check_logits(f, "logits", false);
        check_logits(f, "logits", true);
        fixture_close(f);
    }
}

static void test_adapter_logits(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        fixture_adapter(f);
        check_logits(f, "adapter_logits", false);
        check_logits(f, "adapter_logits", true);
        fixture_close(f);
    }
}

/* A sequence alone gives what it gives among others; so does any choice of response rows. */
static void test_packed_is_alone(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        fixture_adapter(f);
        fixture_layout(f, &(DecoderLimits){.tokens = TOKENS, .segments = SEQUENCES, .responses = TOKENS});
        float *packed = packed_logits(f), alone[40 * VOCAB], among[40 * VOCAB];
        for (int s = 0; s < SEQUENCES; s++) {
            int32_t n = CU[s + 1] - CU[s], cu[2] = {0, n}, rows[40], wanted = 0;
            for (int32_t i = s == 2; i < n; i += s == 3 ? 3 : 1) rows[wanted++] = i;
            DecoderBatch batch = {.count = 1, .cu = cu, .responses = wanted, .rows = rows};
            fixture_forward(f, fixture_ints(f, "ids") + CU[s], &batch);
            assert_ok(decoder_logits(f->decoder, 0, wanted, alone, &f->err), &f->err);
            for (int32_t i = 0; i < wanted; i++)
                memcpy(among + i * VOCAB, packed + (CU[s] + rows[i]) * VOCAB, VOCAB * sizeof *among);
            assert_close(alone, among, (size_t)wanted * VOCAB, 1e-6, f->folder);
        }
        free(packed);
        fixture_close(f);
    }
}

/* A prompt entered at once and tokens after it one by one, several sequences at different lengths. */
static void test_cache_is_forward(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        fixture_adapter(f);
        fixture_layout(f, &(DecoderLimits){.tokens = TOKENS, .segments = SEQUENCES, .responses = TOKENS});
        const int32_t *ids = fixture_ints(f, "ids");
        float *packed = packed_logits(f), logits[SEQUENCES * VOCAB];
        DecoderSession *session;
        assert_ok(session = session_open(f->decoder, 3, 40, 0, &f->err), &f->err);
        Tensor embeddings = decoder_input(f->decoder, TOKENS);
        assert_ok(decoder_embed(f->decoder, f->ids, embeddings, &f->err), &f->err);
        int32_t slot[2] = {2, 0}, cu[3] = {1, 4, 10}; /* three tokens of sequence 1, then two more at a time */
        cu[0] = CU[1];
        cu[1] = CU[1] + 3;
        assert_ok(session_prefill(session, embeddings, cu, slot, 1, logits, &f->err), &f->err);
        assert_close(logits, packed + (CU[1] + 2) * VOCAB, VOCAB, 1e-5, "first prompt");
        cu[0] = CU[3];
        cu[1] = CU[3] + 20;
        assert_ok(session_prefill(session, embeddings, cu, slot + 1, 1, logits, &f->err), &f->err);
        assert_close(logits, packed + (CU[3] + 19) * VOCAB, VOCAB, 1e-5, "second prompt");
        for (int i = 0; i < 4; i++) {
            int32_t token[2] = {ids[CU[1] + 3 + i], ids[CU[3] + 20 + i]};
            assert_ok(session_step(session, slot, token, 2, logits, &f->err), &f->err);
            assert_close(logits, packed + (CU[1] + 3 + i) * VOCAB, VOCAB, 1e-5, "a step");
            assert_close(logits + VOCAB, packed + (CU[3] + 20 + i) * VOCAB, VOCAB, 1e-5, "a step");
        }
        int32_t from[1] = {0}, to[1] = {1}, token[1] = {ids[CU[3] + 24]};
        assert_ok(session_copy(session, from, to, 1, &f->err), &f->err);
        assert_int_equal(session_length(session, 1), 24);
        assert_ok(session_step(session, to, token, 1, logits, &f->err), &f->err);
        assert_close(logits, packed + (CU[3] + 24) * VOCAB, VOCAB, 1e-5, "a copy");
        session_close(session);
        free(packed);
        fixture_close(f);
    }
}

/* ---- training ---- */

static double train_step(Fixture *f, const int32_t *sample, Tensor *d_input) {
    int32_t rows[TOKENS], targets[TOKENS];
    float losses[TOKENS];
    int64_t n = fixture_responses(f, rows, targets);
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU, .sample = sample, .responses = n, .rows = rows};
    double sum = 0;
    size_t bytes = (size_t)f->params.total * sizeof(float);
    assert_ok(device_fill_zero(f->dev, f->params.grad, bytes, &f->err), &f->err);
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_loss(f->decoder, targets, true, 1.0f / (float)n, losses, &f->err), &f->err);
    assert_ok(decoder_backward(f->decoder, d_input, &f->err), &f->err);
    for (int64_t i = 0; i < n; i++) sum += (double)losses[i];
    return sum / (double)n;
}

static void training_layout(Fixture *f) {
    fixture_layout(
        f, &(DecoderLimits){.tokens = TOKENS, .segments = SEQUENCES, .responses = TOKENS - 1, .training = true});
}

static void test_gradients(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        fixture_adapter(f);
        training_layout(f);
        Tensor d_input;
        size_t count, tensors = 0;
        train_step(f, NULL, &d_input);
        float *expected = fixture_floats(f, "d_embeddings", &count);
        assert_int_equal(count, d_input.rows * d_input.cols);
        assert_close(d_input.data, expected, count, 1e-4, "d_embeddings");
        free(expected);
        for (int i = 0; i < f->params.count; i++) {
            char name[200];
            snprintf(name, sizeof name, "grad.%s", f->params.items[i].name);
            expected = fixture_floats(f, name, &count);
            assert_close(f->params.items[i].grad.data, expected, count, 1e-4, name);
            free(expected);
        }
        for (size_t i = 0; i < tensors_count(f->expected); i++)
            tensors += !strncmp(tensors_at(f->expected, i)->name, "grad.", 5);
        assert_int_equal(tensors, f->params.count); /* no gradient of PEFT's is missing */
        fixture_close(f);
    }
}

static void test_adamw_losses(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        size_t steps;
        float *expected = fixture_floats(f, "losses", &steps), *moments;
        fixture_adapter(f);
        training_layout(f);
        int64_t total = f->params.total;
        assert_ok(moments = device_alloc(f->dev, 2 * (size_t)total * sizeof *moments, &f->err), &f->err);
        AdamwSegment segment = {.count = total, .lr = 1e-2f, .decay = 0.01f};
        AdamwArgs adamw = {.param = tensor_of(f->params.value, DTYPE_F32, 1, total),
                           .grad = tensor_of(f->params.grad, DTYPE_F32, 1, total),
                           .m = tensor_of(moments, DTYPE_F32, 1, total),
                           .v = tensor_of(moments + total, DTYPE_F32, 1, total),
                           .segments = &segment,
                           .segment_count = 1,
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .grad_scale = 1};
        assert_int_equal(steps, 20);
        for (size_t i = 0; i < steps; i++) {
            float loss = (float)train_step(f, NULL, NULL);
            if (!(fabsf(loss - expected[i]) <= 1e-4f * expected[i]))
                fail_msg("%s: loss %.7g at step %zu, expected %.7g", f->folder, (double)loss, i, (double)expected[i]);
            adamw.step = (int64_t)i + 1;
            assert_ok(op_adamw(f->dev, &adamw, &f->err), &f->err);
        }
        device_free(f->dev, moments);
        free(expected);
        fixture_close(f);
    }
}

/* Dropout is keyed by sample and position: the order of the batch's sequences changes nothing, the
 * samples' numbers do. */
static void test_dropout_follows_samples(void **state) {
    (void)state;
    Fixture *f = fixture_open("qwen3");
    LoraConfig config = {.rank = 4, .alpha = 8, .dropout = 0.4f, .targets = LORA_ALL};
    assert_ok(decoder_lora_declare(f->decoder, &config, 3, &f->params, &f->err), &f->err);
    assert_ok(params_commit(&f->params, f->dev, &f->err), &f->err);
    assert_ok(decoder_lora_init(f->decoder, &f->err), &f->err);
    for (int i = 0; i < f->params.count; i++) { /* B as well, so that dropout shows */
        Tensor t = f->params.items[i].value;
        for (int64_t e = 0; e < t.rows * t.cols; e++) ((float *)t.data)[e] += 0.05f * (float)((e * 7 + i) % 11 - 5);
    }
    training_layout(f);
    const int32_t *ids = fixture_ints(f, "ids");
    int32_t swapped[69], cu[2][3] = {{0, 29, 69}, {0, 40, 69}}, sample[3][2] = {{5, 9}, {9, 5}, {5, 10}};
    int32_t rows[2][2] = {{28, 68}, {39, 68}};
    float logits[3][2 * VOCAB];
    memcpy(swapped, ids + CU[3], 40 * sizeof *ids);
    memcpy(swapped + 40, ids + CU[2], 29 * sizeof *ids);
    for (int run = 0; run < 3; run++) {
        int order = run == 1;
        DecoderBatch batch = {.count = 2, .cu = cu[order], .sample = sample[run], .step = 4, .responses = 2};
        batch.rows = rows[order];
        fixture_forward(f, order ? swapped : ids + CU[2], &batch);
        assert_ok(decoder_logits(f->decoder, 0, 2, logits[run], &f->err), &f->err);
    }
    assert_close(logits[1], logits[0] + VOCAB, VOCAB, 1e-5, "swapped");
    assert_close(logits[1] + VOCAB, logits[0], VOCAB, 1e-5, "swapped");
    assert_close(logits[2], logits[0], VOCAB, 1e-6, "the same sample");
    assert_true(distance(logits[2] + VOCAB, logits[0] + VOCAB, VOCAB) > 1e-2);
    fixture_close(f);
}

/* With dropout on, gradients are those of the loss as it is computed: by central differences. */
static void test_dropout_gradients(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    fixture_adapter(f);
    decoder_close(f->decoder);
    params_free(&f->params);
    assert_ok(f->decoder = decoder_open(f->dev, f->folder, &f->err), &f->err);
    LoraConfig config = {.rank = 4, .alpha = 8, .dropout = 0.3f, .targets = LORA_ALL};
    assert_ok(decoder_lora_declare(f->decoder, &config, 3, &f->params, &f->err), &f->err);
    assert_ok(params_commit(&f->params, f->dev, &f->err), &f->err);
    assert_ok(decoder_lora_load(f->decoder, f->adapter, &f->err), &f->err);
    training_layout(f);
    int32_t sample[SEQUENCES] = {3, 1, 4, 15};
    train_step(f, sample, NULL);
    double along = 0; /* a direction with all parameters in it */
    for (int64_t i = 0; i < f->params.total; i++) along += (double)f->params.grad[i] * sin((double)i);
    double loss[2];
    for (int side = 0; side < 2; side++) {
        double by = side ? -2e-3 : 1e-3;
        for (int64_t i = 0; i < f->params.total; i++) f->params.value[i] += (float)(by * sin((double)i));
        loss[side] = train_step(f, sample, NULL);
    }
    double slope = (loss[0] - loss[1]) / 2e-3;
    if (fabs(slope - along) > 2e-2 * fabs(along)) fail_msg("slope %.6g, gradient %.6g", slope, along);
    fixture_close(f);
}

/* Repeated steps, and other numbers of threads' worth of work, give the same bits. */
static void test_repeatable(void **state) {
    (void)state;
    Fixture *f = fixture_open("qwen2");
    fixture_adapter(f);
    training_layout(f);
    int32_t sample[SEQUENCES] = {1, 2, 3, 4};
    size_t bytes = (size_t)f->params.total * sizeof(float);
    float *first = calloc(1, bytes);
    assert_non_null(first);
    train_step(f, sample, NULL);
    memcpy(first, f->params.grad, bytes);
    train_step(f, sample, NULL);
    assert_memory_equal(first, f->params.grad, bytes);
    free(first);
    fixture_close(f);
}

/* A batch without responses costs no logits and has no gradient. */
static void test_no_responses(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    fixture_adapter(f);
    training_layout(f);
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU};
    Tensor d_input;
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_loss(f->decoder, NULL, true, 1, NULL, &f->err), &f->err);
    assert_ok(decoder_backward(f->decoder, &d_input, &f->err), &f->err);
    for (int64_t i = 0; i < d_input.rows * d_input.cols; i++) assert_true(((float *)d_input.data)[i] == 0);
    fixture_close(f);
}

/* ---- more rows than a chunk of logits holds ---- */

enum { WIDE_VOCAB = 1 << 20, WIDE_TOKENS = 40 }; /* 16 rows a chunk */

static void write_wide_model(const char *folder) {
    static const struct {
        const char *name;
        int dims;
        int64_t rows;
    } parts[] = {{"model.embed_tokens.weight", 2, WIDE_VOCAB},
                 {"model.layers.0.input_layernorm.weight", 1, 1},
                 {"model.layers.0.post_attention_layernorm.weight", 1, 1},
                 {"model.layers.0.self_attn.q_proj.weight", 2, 2},
                 {"model.layers.0.self_attn.k_proj.weight", 2, 2},
                 {"model.layers.0.self_attn.v_proj.weight", 2, 2},
                 {"model.layers.0.self_attn.o_proj.weight", 2, 2},
                 {"model.layers.0.mlp.gate_proj.weight", 2, 2},
                 {"model.layers.0.mlp.up_proj.weight", 2, 2},
                 {"model.layers.0.mlp.down_proj.weight", 2, 2},
                 {"model.norm.weight", 1, 1}};
    enum { PARTS = sizeof parts / sizeof *parts };
    const char *config = "{\"model_type\": \"llama\", \"hidden_size\": 2, \"num_hidden_layers\": 1, "
                         "\"num_attention_heads\": 1, \"intermediate_size\": 2, \"vocab_size\": 1048576, "
                         "\"tie_word_embeddings\": true}";
    float *values = calloc((size_t)WIDE_VOCAB * 2, sizeof *values);
    char *json = path_join(folder, "config.json", NULL), *path = path_join(folder, "model.safetensors", NULL);
    StoredTensor tensors[PARTS];
    Rng rng = rng_stream(5, 0, 0, 0);
    Error err = {0};
    assert_true(values && json && path && folder_make(folder, NULL));
    for (int64_t i = 0; i < (int64_t)WIDE_VOCAB * 2; i++) values[i] = 2 * rng_uniform(rng_next(&rng)) - 1;
    for (int i = 0; i < PARTS; i++) {
        tensors[i] = (StoredTensor){.name = parts[i].name, .dims = parts[i].dims, .data = values + 4 * i};
        tensors[i].shape[0] = parts[i].dims == 1 ? 2 : parts[i].rows;
        tensors[i].shape[1] = 2;
        tensors[i].bytes = (size_t)parts[i].rows * 2 * sizeof *values;
    }
    tensors[0].data = values;
    assert_ok(tensors_write(path, tensors, PARTS, NULL, &err), &err);
    assert_true(file_write(json, config, strlen(config), NULL));
    free(values);
    free(json);
    free(path);
}

/* Losses of response rows first .. first + count - 1; the gradient of the input is added to d[tokens, 2]. */
static void wide_losses(Fixture *f, int32_t first, int32_t count, float *losses, double *d) {
    int32_t cu[2] = {0, WIDE_TOKENS}, ids[WIDE_TOKENS], rows[WIDE_TOKENS], targets[WIDE_TOKENS];
    DecoderBatch batch = {.count = 1, .cu = cu, .responses = count, .rows = rows};
    Tensor d_input;
    for (int32_t i = 0; i < WIDE_TOKENS; i++) {
        ids[i] = 26107 * i;
        rows[i] = first + i;
        targets[i] = 26003 * (first + i) + 1;
    }
    fixture_forward(f, ids, &batch);
    assert_ok(decoder_loss(f->decoder, targets, true, 1, losses, &f->err), &f->err);
    assert_ok(decoder_backward(f->decoder, &d_input, &f->err), &f->err);
    for (int i = 0; i < 2 * WIDE_TOKENS; i++) d[i] += (double)((float *)d_input.data)[i];
}

static void test_chunks_of_logits(void **state) {
    (void)state;
    Fixture *f = fixture_open("llama3");
    char *folder = test_path("wide");
    write_wide_model(folder);
    decoder_close(f->decoder);
    assert_ok(f->decoder = decoder_open(f->dev, folder, &f->err), &f->err);
    fixture_layout(f,
                   &(DecoderLimits){.tokens = WIDE_TOKENS, .segments = 1, .responses = WIDE_TOKENS, .training = true});
    float whole[WIDE_TOKENS], parts[WIDE_TOKENS];
    double d_whole[2 * WIDE_TOKENS] = {0}, d_parts[2 * WIDE_TOKENS] = {0};
    wide_losses(f, 0, WIDE_TOKENS, whole, d_whole);
    for (int32_t first = 0; first < WIDE_TOKENS; first += 10) wide_losses(f, first, 10, parts + first, d_parts);
    for (int i = 0; i < WIDE_TOKENS; i++) assert_true(fabsf(whole[i] - parts[i]) < 1e-5f && whole[i] > 5);
    for (int i = 0; i < 2 * WIDE_TOKENS; i++)
        assert_true(fabs(d_whole[i] - d_parts[i]) < 1e-5 + 1e-4 * fabs(d_whole[i]));
    free(folder);
    fixture_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_adapter_logits),
        cmocka_unit_test(test_packed_is_alone),
        cmocka_unit_test(test_cache_is_forward),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_adamw_losses),
        cmocka_unit_test(test_dropout_follows_samples),
        cmocka_unit_test(test_dropout_gradients),
        cmocka_unit_test(test_repeatable),
        cmocka_unit_test(test_no_responses),
        cmocka_unit_test(test_chunks_of_logits),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
