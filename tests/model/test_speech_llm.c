/* The assembled model against PyTorch and PEFT (tests/oracle/speech_llm.py), and against itself. */
#include "tests/model/random_model.h"

#include "model/speech_llm.h"

enum { SAMPLE_COUNT = 4, STEPS = 20, CANDIDATES = 4, ANSWER = 8, VOCAB = 96, WIDTH = 32 };

static const int64_t SAMPLES[SAMPLE_COUNT] = {400, 8000, 16000, 4321};
static const int32_t KEYS[SAMPLE_COUNT] = {5, 900, 17, 2};

typedef struct Fixture {
    Device *dev;
    SpeechLlm *model;
    TensorFiles *expected;
    int64_t start[SAMPLE_COUNT + 1];
    float *wave, *prosody;
    int32_t *ids, *labels, *cu;
    SpeechBatch batch;
    SpeechLimits limits;
    Error err;
} Fixture;

static SpeechLlmConfig config_of(const char *variant) {
    bool weighted = !strcmp(variant, "weighted");
    SpeechLlmConfig config = {.encoder = "tests/fixtures/wavlm/prefixed",
                              .llm = "tests/fixtures/decoder/llama3",
                              .layers = weighted ? LAYERS_WEIGHTED : LAYERS_LAST,
                              .seed = 11};
    config.adapter = weighted ? (AdapterConfig){.stack = 4, .hidden = 24, .prosody = 3, .prosody_scale = 2.5f}
                              : (AdapterConfig){.stack = 5, .hidden = 20, .prosody_scale = 1.0f};
    config.lora = weighted ? (LoraConfig){.rank = 4, .alpha = 8, .targets = LORA_ALL}
                           : (LoraConfig){.rank = 2, .alpha = 6, .targets = LORA_Q | LORA_V};
    return config;
}

static const StoredTensor *stored(const Fixture *f, const char *name) {
    const StoredTensor *tensor = tensors_find(f->expected, name);
    if (!tensor) fail_msg("the fixture lacks %s", name);
    return tensor;
}

static void *copied(const Fixture *f, const char *name) {
    const StoredTensor *tensor = stored(f, name);
    void *copy = malloc(tensor->bytes + 1);
    assert_non_null(copy);
    memcpy(copy, tensor->data, tensor->bytes);
    return copy;
}

static void draw_waves(Fixture *f) {
    for (int c = 0; c < SAMPLE_COUNT; c++) f->start[c + 1] = f->start[c] + SAMPLES[c];
    f->wave = calloc((size_t)f->start[SAMPLE_COUNT], sizeof *f->wave);
    assert_non_null(f->wave);
    for (int c = 0; c < SAMPLE_COUNT; c++)
        for (int64_t i = 0; SAMPLES[c] != 8000 && i < SAMPLES[c]; i++) {
            Philox block = philox(7001, (uint32_t)(i / 4), 0x5741, (uint32_t)SAMPLES[c], 0);
            f->wave[f->start[c] + i] = random_signed(block.word[i % 4], 0.05, 0.3);
        }
}

static void open_model(Fixture *f, const SpeechLlmConfig *config) {
    assert_ok(f->dev = device_open(DEVICE_CPU, 2, &f->err), &f->err);
    assert_ok(f->model = speech_llm_open(f->dev, config, &f->err), &f->err);
}

static Fixture *fixture_open(const char *variant, const SpeechLlmConfig *config) {
    Fixture *f = calloc(1, sizeof *f);
    char path[160];
    assert_non_null(f);
    snprintf(path, sizeof path, "tests/fixtures/speech_llm/%s/expected.safetensors", variant);
    assert_ok(f->expected = tensors_open(path, &f->err), &f->err);
    open_model(f, config);
    draw_waves(f);
    f->ids = copied(f, "ids");
    f->labels = copied(f, "labels");
    f->cu = copied(f, "cu_tokens");
    f->prosody = copied(f, "prosody");
    f->batch = (SpeechBatch){.count = SAMPLE_COUNT,
                             .wave_start = f->start,
                             .wave = f->wave,
                             .prosody = config->adapter.prosody ? f->prosody : NULL,
                             .sample = KEYS,
                             .cu_tokens = f->cu,
                             .ids = f->ids,
                             .labels = f->labels};
    f->limits = (SpeechLimits){.clips = SAMPLE_COUNT,
                               .samples = f->start[SAMPLE_COUNT],
                               .longest = 16000,
                               .tokens = f->cu[SAMPLE_COUNT],
                               .responses = stored(f, "row_loss")->shape[0]};
    return f;
}

static void fixture_close(Fixture *f) {
    speech_llm_close(f->model);
    device_close(f->dev);
    tensors_close(f->expected);
    free(f->wave);
    free(f->ids);
    free(f->labels);
    free(f->cu);
    free(f->prosody);
    free(f);
}

static void set_parameters(Fixture *f) {
    Params *params = speech_llm_params(f->model);
    for (int i = 0; i < params->count; i++) {
        char name[200];
        snprintf(name, sizeof name, "param.%s", params->items[i].name);
        const StoredTensor *tensor = stored(f, name);
        assert_int_equal(tensor->dims, params->items[i].dims);
        float *values = copied(f, name);
        assert_int_equal(tensor->bytes, (size_t)(params->items[i].value.rows * params->items[i].value.cols) * 4);
        assert_ok(params_set(params, i, values, &f->err), &f->err);
        free(values);
    }
}

static void zero_gradients(Fixture *f) {
    const Params *params = speech_llm_params(f->model);
    assert_ok(device_fill_zero(f->dev, params->grad, (size_t)params->total * sizeof(float), &f->err), &f->err);
}

/* One training step without its update; the mean loss. */
static double step(Fixture *f, bool train, uint32_t number, float *row_loss) {
    const StepOptions options = {.train = train, .step = number, .loss_scale = 1.0f / (float)f->limits.responses};
    double sum;
    zero_gradients(f);
    assert_ok(speech_llm_step(f->model, &f->batch, &options, &sum, row_loss, &f->err), &f->err);
    return sum / (double)f->limits.responses;
}

static void compare(const Fixture *f, const char *prefix, const char *name, const float *found, int64_t count,
                    double limit) {
    char full[240];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const StoredTensor *tensor = stored(f, full);
    assert_int_equal(tensor->bytes, (size_t)count * sizeof *found);
    float *wanted = copied(f, full);
    assert_near(found, wanted, (size_t)count, limit, full);
    free(wanted);
}

static void compare_step(Fixture *f) {
    const Params *params = speech_llm_params(f->model);
    const int64_t responses = f->limits.responses;
    float *row_loss = calloc((size_t)responses, sizeof *row_loss);
    assert_non_null(row_loss);
    step(f, true, 0, row_loss);
    compare(f, "", "row_loss", row_loss, responses, 1e-4);
    const StoredTensor *rows = stored(f, "speech_rows");
    float *speech = calloc(1, rows->bytes);
    assert_non_null(speech);
    assert_ok(speech_llm_speech_rows(f->model, speech, &f->err), &f->err);
    compare(f, "", "speech_rows", speech, rows->shape[0] * WIDTH, 1e-4);
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        compare(f, "grad.", param->name, param->grad.data, param->grad.rows * param->grad.cols, 1e-3);
    }
    free(speech);
    free(row_loss);
}

/* AdamW with the oracle's rates. */
static void compare_losses(Fixture *f) {
    const Params *params = speech_llm_params(f->model);
    AdamwSegment segments[64];
    float *moments = calloc((size_t)params->total, 2 * sizeof *moments), *losses = copied(f, "losses");
    assert_true(moments && params->count <= 64);
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        float lr = param->group == PARAM_LORA ? 1e-2f : param->group == PARAM_LAYER_MIX ? 2e-2f : 5e-3f;
        assert_int_equal(param->decay, param->dims == 2);
        segments[i] = (AdamwSegment){.offset = param->offset,
                                     .count = param->value.rows * param->value.cols,
                                     .lr = lr,
                                     .decay = param->decay ? 0.01f : 0.0f};
    }
    AdamwArgs adamw = {.param = tensor_of(params->value, DTYPE_F32, 1, params->total),
                       .grad = tensor_of(params->grad, DTYPE_F32, 1, params->total),
                       .m = tensor_of(moments, DTYPE_F32, 1, params->total),
                       .v = tensor_of(moments + params->total, DTYPE_F32, 1, params->total),
                       .segments = segments,
                       .segment_count = params->count,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-8f,
                       .grad_scale = 1};
    for (int i = 0; i < STEPS; i++) {
        float loss = (float)step(f, true, (uint32_t)i, NULL);
        char what[32];
        snprintf(what, sizeof what, "loss of step %d", i);
        assert_near(&loss, &losses[i], 1, 1e-4, what);
        adamw.step = i + 1;
        assert_ok(op_adamw(f->dev, &adamw, &f->err), &f->err);
    }
    free(moments);
    free(losses);
}

static void check_training(const char *variant) {
    const SpeechLlmConfig config = config_of(variant);
    Fixture *f = fixture_open(variant, &config);
    set_parameters(f);
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    compare_step(f);
    compare_losses(f);
    fixture_close(f);
}

static void test_training_weighted(void **state) {
    (void)state;
    check_training("weighted");
}

static void test_training_last(void **state) {
    (void)state;
    check_training("last");
}

/* Prompts end one token after the speech. */
static void cut_prompts(const Fixture *f, int32_t *ids, int32_t *cu) {
    cu[0] = 0;
    for (int s = 0; s < SAMPLE_COUNT; s++) {
        int32_t end = f->cu[s + 1], n = 0;
        while (f->ids[end - 1] != -1) end--;
        for (int32_t t = f->cu[s]; t < end + 1; t++) ids[cu[s] + n++] = f->ids[t];
        cu[s + 1] = cu[s] + n;
    }
}

static void check_generation(const char *variant) {
    const SpeechLlmConfig config = config_of(variant);
    static const int32_t c0[] = {7}, c1[] = {11, 12}, c2[] = {11, 13, 14, 15}, c3[] = {8, 9, 10};
    static const Candidate candidates[CANDIDATES] = {{c0, 1}, {c1, 2}, {c2, 4}, {c3, 3}};
    Fixture *f = fixture_open(variant, &config);
    int32_t *ids = calloc((size_t)f->cu[SAMPLE_COUNT], sizeof *ids), cu[SAMPLE_COUNT + 1];
    Generated results[SAMPLE_COUNT];
    double scores[SAMPLE_COUNT * CANDIDATES];
    float narrow[SAMPLE_COUNT * CANDIDATES];
    assert_non_null(ids);
    set_parameters(f);
    cut_prompts(f, ids, cu);
    SpeechBatch prompts = f->batch;
    prompts.ids = ids;
    prompts.cu_tokens = cu;
    prompts.labels = NULL;
    GenerateOptions options = generate_options_default();
    options.max_new = ANSWER;
    assert_ok(speech_llm_generate(f->model, &prompts, &options, results, &f->err), &f->err);
    int32_t *answers = copied(f, "answers");
    for (int s = 0; s < SAMPLE_COUNT; s++) {
        assert_int_equal(results[s].count, ANSWER);
        for (int t = 0; t < ANSWER; t++) assert_int_equal(results[s].ids[t], answers[s * ANSWER + t]);
    }
    generated_free(results, SAMPLE_COUNT);
    assert_ok(speech_llm_rank(f->model, &prompts, candidates, CANDIDATES, scores, &f->err), &f->err);
    for (int i = 0; i < SAMPLE_COUNT * CANDIDATES; i++) narrow[i] = (float)scores[i];
    compare(f, "", "scores", narrow, SAMPLE_COUNT * CANDIDATES, 1e-4);
    free(answers);
    free(ids);
    fixture_close(f);
}

static void test_generation_weighted(void **state) {
    (void)state;
    check_generation("weighted");
}

static void test_generation_last(void **state) {
    (void)state;
    check_generation("last");
}

static void test_initial_weights(void **state) {
    (void)state;
    static const char *const names[] = {"adapter.linear1.weight", "adapter.linear1.bias", "adapter.linear2.weight",
                                        "adapter.linear2.bias"};
    const SpeechLlmConfig config = config_of("weighted");
    Fixture *f = fixture_open("weighted", &config);
    const Params *params = speech_llm_params(f->model);
    for (int i = 0; i < 4; i++) {
        char name[80];
        snprintf(name, sizeof name, "init.%s", names[i]);
        const Param *param = params_find(params, names[i]);
        assert_non_null(param);
        compare(f, "init.", names[i], param->value.data, (int64_t)(stored(f, name)->bytes / sizeof(float)), 1e-6);
    }
    const float *mix = params_find(params, "layer_mix.weight")->value.data;
    for (int i = 0; i < 3; i++) assert_true(mix[i] == 0);
    fixture_close(f);
}

/* Features from speech_llm_encode stand for waveforms: the same losses and gradients, bit for bit. */
static void test_cached_features(void **state) {
    (void)state;
    const SpeechLlmConfig config = config_of("weighted");
    Fixture *f = fixture_open("weighted", &config);
    const Params *params = speech_llm_params(f->model);
    set_parameters(f);
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    const double direct = step(f, true, 0, NULL);
    size_t bytes = (size_t)params->total * sizeof(float);
    float *gradient = malloc(bytes);
    assert_non_null(gradient);
    memcpy(gradient, params->grad, bytes);
    int64_t frames = 0;
    for (int c = 0; c < SAMPLE_COUNT; c++) frames += speech_llm_frames(f->model, SAMPLES[c]);
    void *features = calloc((size_t)frames, (size_t)speech_llm_feature_bytes(f->model));
    assert_non_null(features);
    assert_int_equal(speech_llm_feature_bytes(f->model), 3 * WIDTH * sizeof(float));
    assert_ok(speech_llm_encode(f->model, &f->batch, features, &f->err), &f->err);
    f->batch.wave = NULL;
    f->batch.features = features;
    assert_true(step(f, true, 0, NULL) == direct);
    assert_memory_equal(params->grad, gradient, bytes);
    free(features);
    free(gradient);
    fixture_close(f);
}

/* With dropout and noise: the gradient along a direction against central differences, and masks that
 * depend on the step and the sample alone. */
static void test_finite_differences(void **state) {
    (void)state;
    SpeechLlmConfig config = config_of("weighted");
    config.adapter.dropout = 0.2f;
    config.adapter.noise = 0.3f;
    config.lora.dropout = 0.1f;
    Fixture *f = fixture_open("weighted", &config);
    const Params *params = speech_llm_params(f->model);
    set_parameters(f);
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    const double first = step(f, true, 3, NULL);
    assert_true(step(f, true, 3, NULL) == first);
    assert_false(step(f, true, 4, NULL) == first);
    assert_false(step(f, false, 3, NULL) == first);
    for (int group = PARAM_LORA; group <= PARAM_LAYER_MIX; group++) {
        const double size = group == PARAM_LAYER_MIX ? 1e-2 : 3e-4;
        float *direction = calloc((size_t)params->total, sizeof *direction), *saved = malloc((size_t)params->total * 4);
        assert_true(direction && saved);
        for (int i = 0; i < params->count; i++)
            for (int64_t e = 0; params->items[i].group == (ParamGroup)group &&
                                e < params->items[i].value.rows * params->items[i].value.cols;
                 e++)
                direction[params->items[i].offset + e] =
                    random_signed(philox(5, (uint32_t)e, (uint32_t)i, 0, 0).word[0], 0, 1);
        step(f, true, 3, NULL);
        double analytic = 0, loss[2];
        for (int64_t e = 0; e < params->total; e++) analytic += (double)params->grad[e] * (double)direction[e];
        memcpy(saved, params->value, (size_t)params->total * 4);
        for (int side = 0; side < 2; side++) {
            for (int64_t e = 0; e < params->total; e++)
                params->value[e] = (float)((double)saved[e] + (side ? size : -size) * (double)direction[e]);
            loss[side] = step(f, true, 3, NULL);
        }
        memcpy(params->value, saved, (size_t)params->total * 4);
        double numeric = (loss[1] - loss[0]) / (2 * size);
        if (getenv("SHOW_ERRORS")) printf("group %d: %.6f against %.6f\n", group, analytic, numeric);
        assert_true(fabs(analytic - numeric) <= 5e-3 * fabs(numeric) + 1e-4);
        free(direction);
        free(saved);
    }
    fixture_close(f);
}

/* A sample's loss does not depend on its company, dropout and noise included. */
static void test_alone_as_packed(void **state) {
    (void)state;
    SpeechLlmConfig config = config_of("weighted");
    config.adapter.dropout = 0.2f;
    config.adapter.noise = 0.3f;
    config.lora.dropout = 0.1f;
    Fixture *f = fixture_open("weighted", &config);
    set_parameters(f);
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    const double all = step(f, true, 9, NULL);
    double sum = 0;
    int64_t frame = 0;
    for (int s = 0; s < SAMPLE_COUNT; s++) {
        const int32_t cu[2] = {0, f->cu[s + 1] - f->cu[s]};
        SpeechBatch whole = f->batch;
        f->batch.count = 1;
        f->batch.wave_start = f->start + s;
        f->batch.sample = KEYS + s;
        f->batch.cu_tokens = cu;
        f->batch.ids = f->ids + f->cu[s];
        f->batch.labels = f->labels + f->cu[s];
        f->batch.prosody = f->prosody + 3 * frame;
        sum += step(f, true, 9, NULL);
        frame += speech_llm_frames(f->model, SAMPLES[s]);
        f->batch = whole;
    }
    assert_true(fabs(sum - all) <= 1e-5 * fabs(all));
    fixture_close(f);
}

static void test_files(void **state) {
    (void)state;
    const SpeechLlmConfig config = config_of("weighted");
    SpeechLlmConfig other = config_of("weighted");
    Fixture *f = fixture_open("weighted", &config);
    char *folder = test_path("saved");
    set_parameters(f);
    assert_ok(folder_make(folder, &f->err), &f->err);
    assert_ok(speech_llm_save(f->model, folder, &f->err), &f->err);
    Fixture *again = fixture_open("weighted", &config);
    assert_ok(speech_llm_load(again->model, folder, &again->err), &again->err);
    const Params *a = speech_llm_params(f->model), *b = speech_llm_params(again->model);
    assert_int_equal(a->total, b->total);
    assert_memory_equal(a->value, b->value, (size_t)a->total * sizeof(float));
    fixture_close(again);
    other.adapter.prosody_scale = 3;
    again = fixture_open("weighted", &other);
    assert_false(speech_llm_load(again->model, folder, &again->err));
    assert_non_null(strstr(again->err.text, "prosody_scale"));
    fixture_close(again);
    free(folder);
    fixture_close(f);
}

/* A speech adapter cut anywhere, or with a bit of its header turned, is refused or reads the same numbers. */
static void test_damaged_files(void **state) {
    (void)state;
    SpeechLlmConfig config = config_of("weighted");
    config.lora.rank = 0;
    Fixture *f = fixture_open("weighted", &config);
    char *folder = test_path("damaged"), *path = path_join(folder, "speech_adapter.safetensors", &f->err);
    assert_ok(folder_make(folder, &f->err), &f->err);
    assert_ok(speech_llm_save(f->model, folder, &f->err), &f->err);
    size_t size = 0;
    char *data = file_read(path, 1 << 20, &size, &f->err);
    assert_ok(data, &f->err);
    for (uint32_t i = 0; i < 80; i++) {
        uint32_t word = philox(3, i, 0, 0, 0).word[0];
        size_t place = i < 40 ? word % size : word % 600;
        Error err = {0};
        char kept = data[place];
        if (i >= 40) data[place] = (char)(data[place] ^ (1 << i % 8));
        assert_ok(file_write(path, data, i < 40 ? place : size, &f->err), &f->err);
        bool ok = speech_llm_load(f->model, folder, &err);
        assert_true(ok == (err.exit_code == EXIT_DONE));
        assert_false(ok && i < 40);
        data[place] = kept;
    }
    assert_ok(file_write(path, data, size, &f->err), &f->err);
    assert_ok(speech_llm_load(f->model, folder, &f->err), &f->err);
    free(data);
    free(path);
    free(folder);
    fixture_close(f);
}

/* input: description. */
static void test_text_only(void **state) {
    (void)state;
    SpeechLlmConfig config = config_of("last");
    config.encoder = NULL;
    Fixture *f = fixture_open("last", &config);
    int32_t ids[] = {5, 6, 7, 8, 9, 10, 11}, labels[] = {-100, -100, 7, 8, -100, 10, 11}, cu[] = {0, 4, 7};
    f->batch = (SpeechBatch){.count = 2, .cu_tokens = cu, .ids = ids, .labels = labels, .sample = KEYS};
    f->limits = (SpeechLimits){.clips = 2, .tokens = 7, .responses = 4};
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    const double loss = step(f, true, 0, NULL);
    assert_true(loss > 0 && isfinite(loss));
    Generated results[2];
    GenerateOptions options = generate_options_default();
    options.max_new = 3;
    f->batch.labels = NULL;
    assert_ok(speech_llm_generate(f->model, &f->batch, &options, results, &f->err), &f->err);
    assert_int_equal(results[0].count, 3);
    generated_free(results, 2);
    fixture_close(f);
}

static void refuse(Fixture *f, const SpeechBatch *batch, const char *part) {
    const StepOptions options = {.train = true, .loss_scale = 1};
    Error err = {0};
    double sum;
    assert_false(speech_llm_step(f->model, batch, &options, &sum, NULL, &err));
    if (!strstr(err.text, part)) fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void test_bad_batches(void **state) {
    (void)state;
    const SpeechLlmConfig config = config_of("weighted");
    Fixture *f = fixture_open("weighted", &config);
    SpeechBatch batch = f->batch;
    refuse(f, &batch, "speech_llm_plan");
    assert_ok(speech_llm_plan(f->model, &f->limits, true, NULL, true, &f->err), &f->err);
    int32_t keep = f->ids[0], first = 0;
    f->ids[0] = VOCAB;
    refuse(f, &batch, "id 96");
    f->ids[0] = keep;
    while (f->ids[first] != -1) first++;
    f->ids[first] = 4;
    refuse(f, &batch, "places for speech");
    f->ids[first] = -1;
    f->labels[0] = 4;
    refuse(f, &batch, "first token");
    f->labels[0] = -100;
    f->labels[f->cu[SAMPLE_COUNT] - 1] = VOCAB;
    refuse(f, &batch, "label 96");
    f->labels[f->cu[SAMPLE_COUNT] - 1] = -7;
    refuse(f, &batch, "label -7");
    f->labels[f->cu[SAMPLE_COUNT] - 1] = -100;
    batch.prosody = NULL;
    refuse(f, &batch, "prosody");
    batch = f->batch;
    batch.wave = NULL;
    refuse(f, &batch, "neither");
    int64_t start[SAMPLE_COUNT + 1];
    memcpy(start, f->start, sizeof start);
    start[0] = 1;
    batch = f->batch;
    batch.wave_start = start;
    refuse(f, &batch, "399 samples");
    batch = f->batch;
    batch.labels = NULL;
    refuse(f, &batch, "without labels");
    SpeechLimits small = f->limits;
    small.samples = 20000;
    assert_ok(speech_llm_plan(f->model, &small, true, NULL, true, &f->err), &f->err);
    refuse(f, &f->batch, "planned");
    fixture_close(f);
}

/* A plan without memory prints its table; steps then want another. */
static void test_dry_run(void **state) {
    (void)state;
    const SpeechLlmConfig config = config_of("last");
    Fixture *f = fixture_open("last", &config);
    char *text = NULL;
    size_t size = 0;
    FILE *report = open_memstream(&text, &size);
    assert_non_null(report);
    assert_ok(speech_llm_plan(f->model, &f->limits, true, report, false, &f->err), &f->err);
    fclose(report);
    assert_non_null(strstr(text, "adapter.stacked"));
    assert_non_null(strstr(text, "activations of the LLM"));
    refuse(f, &f->batch, "speech_llm_plan");
    free(text);
    fixture_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_weighted),
        cmocka_unit_test(test_training_last),
        cmocka_unit_test(test_generation_weighted),
        cmocka_unit_test(test_generation_last),
        cmocka_unit_test(test_initial_weights),
        cmocka_unit_test(test_cached_features),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_alone_as_packed),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_text_only),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_dry_run),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
