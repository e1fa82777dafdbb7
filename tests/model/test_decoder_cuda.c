/* Decoders read from files onto the CUDA device, in fp32, against transformers and PEFT: with room for LoRA beside
 * the weights, and without. Generation against the CPU device's. */
#include "tests/model/many_prompts.h"

/* Its decoder anew on a CUDA device, the adapter loaded; `rank` for which there is room, 0 for none. */
static Fixture *cuda_fixture(const char *variant, int rank) {
    Fixture *f = fixture_open(variant);
    DecoderOptions options = {.lora = {.rank = rank, .alpha = 1, .targets = LORA_ALL}};
    decoder_close(f->decoder);
    device_free(f->dev, f->ids);
    device_close(f->dev);
    f->decoder = NULL, f->ids = NULL;
    assert_ok(f->dev = device_open_cuda(0, DTYPE_F32, &f->err), &f->err);
    assert_ok(f->ids = device_alloc(f->dev, TOKENS * sizeof(int32_t), &f->err), &f->err);
    assert_ok(f->decoder = decoder_open_as(f->dev, f->folder, &options, &f->err), &f->err);
    fixture_adapter(f);
    fixture_layout(f, &(DecoderLimits){.tokens = TOKENS, .segments = SEQUENCES, .responses = TOKENS, .training = true});
    return f;
}

static void check_logits(Fixture *f) {
    int32_t all[TOKENS];
    float logits[TOKENS * VOCAB];
    size_t count;
    float *expected = fixture_floats(f, "adapter_logits", &count);
    for (int32_t i = 0; i < TOKENS; i++) all[i] = i;
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU, .responses = TOKENS, .rows = all};
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_logits(f->decoder, 0, TOKENS, logits, &f->err), &f->err);
    assert_int_equal(count, TOKENS * VOCAB);
    assert_close(logits, expected, count, 1e-5, f->folder);
    free(expected);
}

static void check_gradients(Fixture *f) {
    int32_t rows[TOKENS], targets[TOKENS];
    float losses[TOKENS];
    int64_t n = fixture_responses(f, rows, targets);
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU, .responses = n, .rows = rows};
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_loss(f->decoder, targets, true, 1.0f / (float)n, losses, &f->err), &f->err);
    assert_ok(decoder_backward(f->decoder, NULL, &f->err), &f->err);
    for (int i = 0; i < f->params.count; i++) {
        char name[200];
        size_t count;
        snprintf(name, sizeof name, "grad.%s", f->params.items[i].name);
        float *expected = fixture_floats(f, name, &count), *got = calloc(count, sizeof *got);
        assert_non_null(got);
        assert_ok(device_download(f->dev, got, f->params.items[i].grad.data, count * sizeof *got, &f->err), &f->err);
        assert_close(got, expected, count, 1e-4, name);
        free(expected);
        free(got);
    }
}

static void need_device(void) {
    Error err = {0};
    if (device_cuda_count(&err)) return;
    printf("skipped: %s\n", err.text);
    skip();
}

static void test_adapters(void **state) {
    (void)state;
    need_device();
    for (int v = 0; v < VARIANT_COUNT; v++)
        for (int rank = 0; rank <= 16; rank += 16) {
            Fixture *f = cuda_fixture(VARIANTS[v], rank);
            check_logits(f);
            check_gradients(f);
            fixture_close(f);
        }
}

/* Steps of 17 rows and fewer are recorded as steps of 17, 16 and 8. */
static void test_generation(void **state) {
    (void)state;
    need_device();
    enum { SLOTS = 17 };
    Fixture *cpu = fixture_open("qwen2"), *gpu = cuda_fixture("qwen2", 0);
    ManyPrompts on_cpu, on_gpu;
    many_open(&on_cpu, cpu);
    fixture_adapter(cpu);
    many_open(&on_gpu, gpu);
    for (int sampled = 0; sampled < 2; sampled++) {
        Generated want[MANY], got[MANY];
        GenerateOptions options = many_options();
        if (!sampled) options.temperature = 0, options.min_new = 3;
        many_answers(&on_cpu, cpu, SLOTS, &options, want);
        SessionUse use = many_answers(&on_gpu, gpu, SLOTS, &options, got);
        many_equal(want, got, 1e-3);
        assert_in_range(use.recordings, 1, 3);
        generated_free(want, MANY);
        generated_free(got, MANY);
    }
    many_close(&on_cpu, cpu);
    many_close(&on_gpu, gpu);
    fixture_close(cpu);
    fixture_close(gpu);
}

static void scale_parameters(Fixture *f, float scale) {
    for (int i = 0; i < f->params.count; i++) {
        const Param *param = &f->params.items[i];
        size_t size = (size_t)(param->value.rows * param->value.cols);
        float *values = malloc(size * sizeof *values);
        assert_non_null(values);
        assert_ok(params_get(&f->params, i, values, &f->err), &f->err);
        for (size_t e = 0; e < size; e++) values[e] *= scale;
        assert_ok(params_set(&f->params, i, values, &f->err), &f->err);
        free(values);
    }
}

/* A session's steps take LoRA as its last prompts' pass did, recorded steps too. */
static void test_changed_parameters(void **state) {
    (void)state;
    need_device();
    enum { SLOTS = 17 };
    Fixture *cpu = fixture_open("qwen2"), *gpu = cuda_fixture("qwen2", 16);
    ManyPrompts on_cpu, on_gpu;
    many_open(&on_cpu, cpu);
    fixture_adapter(cpu);
    many_open(&on_gpu, gpu);
    GenerateOptions options = many_options();
    options.temperature = 0, options.min_new = 3;
    DecoderSession *session;
    assert_ok(session = session_open(gpu->decoder, SLOTS, MANY_LENGTH + MANY_NEW, 0, &gpu->err), &gpu->err);
    for (int time = 0; time < 2; time++) {
        Generated want[MANY], got[MANY];
        many_answers(&on_cpu, cpu, SLOTS, &options, want);
        assert_ok(generate(session, &on_gpu.prompts, &options, got, &gpu->err), &gpu->err);
        many_equal(want, got, 1e-3);
        generated_free(want, MANY);
        generated_free(got, MANY);
        scale_parameters(cpu, 1.7f);
        scale_parameters(gpu, 1.7f);
    }
    session_close(session);
    many_close(&on_cpu, cpu);
    many_close(&on_gpu, gpu);
    fixture_close(cpu);
    fixture_close(gpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adapters), cmocka_unit_test(test_generation),
                                       cmocka_unit_test(test_changed_parameters)};
    return cmocka_run_group_tests_name("decoder on the CUDA device", tests, NULL, NULL);
}
