/* The same runs on the CPU and on a CUDA device (a GPU, or the emulator in its place): losses, gradients, what is
 * generated. With EMU_GUARD=1 the emulator's memory is out of the host's reach, as a GPU's is. */
#include "tests/train/tiny.h"

#include "model/wavlm.h"
#include "tests/quiet.h"
#include "train/loop.h"

enum { CLIPS = 24, STEPS = 20, SETS_MAX = 24, NEW_TOKENS = 24 };

static int setup(void **state) {
    (void)state;
    char *folder = test_folder();
    tiny_make(folder, CLIPS);
    free(folder);
    return 0;
}

static void need_device(void) {
    Error err = {0};
    if (device_cuda_count(&err)) return;
    printf("skipped: %s\n", err.text);
    skip();
}

#define SETS(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const CPU[] = {"device.kind=cpu", NULL};
static const char *const FP32[] = {"device.kind=cuda", "device.precision=fp32", NULL};
static const char *const BF16[] = {"device.kind=cuda", "device.precision=bf16", NULL};

/* 20 steps at a rate that learns, into `output` below the scratch folder. */
static void train_on(const char *output, const TrainOptions *options, const char *const *device,
                     const char *const *sets) {
    Error err = {0};
    char *config = test_path("config.yaml"), *folder = test_path(output);
    char *set = text_format(&err, "output=%s", folder);
    const char *items[SETS_MAX] = {set, "train.epochs=0", "train.steps=20", "train.lr=6e-3", "train.validate_every=0"};
    Texts overrides = {.items = items, .count = 5};
    while (*device) items[overrides.count++] = *device++;
    while (*sets) items[overrides.count++] = *sets++;
    int kept = quiet_begin();
    bool ok = train(config, &overrides, options, &err);
    quiet_end(kept);
    assert_ok(ok, &err);
    free(config);
    free(folder);
    free(set);
}

static const TrainOptions PLAIN = {.dump_steps = 1};

/* ---- losses ---- */

static void read_losses(const char *output, double losses[STEPS]) {
    Error err = {0};
    char *name = text_format(&err, "%s/log.jsonl", output), *path = test_path(name);
    char *text = file_read(path, 1 << 24, NULL, &err), *save = NULL;
    assert_ok(text != NULL, &err);
    int count = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *json = json_read_text(line, strlen(line), path, &err), *loss = json_object_get(json, "loss");
        if (loss && count < STEPS) losses[count++] = json_number_value(loss);
        json_decref(json);
    }
    assert_int_equal(count, STEPS);
    free(text);
    free(path);
    free(name);
}

static double mean_of(const double *values, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += values[i];
    return sum / count;
}

static void expect_losses(const char *output, double limit) {
    double ours[STEPS], cpu[STEPS], worst = 0;
    read_losses("cpu", cpu);
    read_losses(output, ours);
    for (int i = 0; i < STEPS; i++) {
        double apart = fabs(ours[i] - cpu[i]) / cpu[i];
        worst = fmax(worst, apart);
        if (!(apart <= limit)) fail_msg("step %d: %s %.9g, the CPU %.9g", i + 1, output, ours[i], cpu[i]);
    }
    printf("%s: losses at most %.1e apart\n", output, worst);
}

static void test_losses(void **state) {
    (void)state;
    need_device();
    train_on("cpu", &PLAIN, CPU, SETS(NULL));
    double cpu[STEPS];
    read_losses("cpu", cpu);
    double began = cpu[0], ended = mean_of(cpu + STEPS - 3, 3);
    printf("the CPU's losses: %.3f to %.3f\n", began, ended);
    assert_true(ended <= 0.7 * began);
    train_on("fp32", &PLAIN, FP32, SETS(NULL));
    expect_losses("fp32", 1e-4);
    train_on("bf16", &PLAIN, BF16, SETS(NULL));
    expect_losses("bf16", 1e-2);
}

/* The encoder's output kept in host memory is that which a step makes. */
static void test_cache(void **state) {
    (void)state;
    need_device();
    double with[STEPS], without[STEPS];
    train_on("bf16_cached", &PLAIN, BF16, SETS("train.encoder_cache=memory"));
    read_losses("bf16_cached", with);
    read_losses("bf16", without);
    for (int i = 0; i < STEPS; i++)
        if (!(fabs(with[i] - without[i]) <= 1e-6)) fail_msg("step %d: %.9g and %.9g", i + 1, with[i], without[i]);
}

/* ---- gradients ---- */

/* All training clips in one step: the layer mix's gradient is a small rest of large sums, whose rounding to bf16
 * evens out over many frames. */

static TensorFiles *dump_on(const char *output, const char *const *device, const char *const *sets) {
    Error err = {0};
    char *folder = test_path(output), *name = text_format(&err, "%s/step-1.safetensors", output);
    char *path = test_path(name);
    TrainOptions options = {.dump = folder, .dump_steps = 1};
    train_on(output, &options, device, sets);
    TensorFiles *files = tensors_open(path, &err);
    assert_ok(files != NULL, &err);
    free(folder);
    free(name);
    free(path);
    return files;
}

typedef struct Apart {
    double cosine, relative; /* |a - b| / |b| */
} Apart;

static Apart compare(const StoredTensor *a, const StoredTensor *b) {
    double dot = 0, aa = 0, bb = 0, apart = 0;
    assert_non_null(a);
    assert_int_equal(a->bytes, b->bytes);
    for (size_t i = 0; i < b->bytes / sizeof(float); i++) {
        float x, y;
        memcpy(&x, (const char *)a->data + i * sizeof x, sizeof x);
        memcpy(&y, (const char *)b->data + i * sizeof y, sizeof y);
        dot += (double)x * (double)y;
        aa += (double)x * (double)x;
        bb += (double)y * (double)y;
        apart += ((double)x - (double)y) * ((double)x - (double)y);
    }
    if (bb == 0) return (Apart){.cosine = aa == 0 ? 1 : 0, .relative = aa == 0 ? 0 : INFINITY};
    return (Apart){.cosine = dot / sqrt(aa * bb), .relative = sqrt(apart / bb)};
}

static void expect_gradients(const TensorFiles *ours, const TensorFiles *cpu, double cosine, double relative) {
    Apart worst = {.cosine = 1};
    for (size_t i = 0; i < tensors_count(cpu); i++) {
        const StoredTensor *tensor = tensors_at(cpu, i);
        if (strncmp(tensor->name, "grad.", 5) != 0) continue;
        Apart apart = compare(tensors_find(ours, tensor->name), tensor);
        worst.cosine = fmin(worst.cosine, apart.cosine);
        worst.relative = fmax(worst.relative, apart.relative);
        if (!(apart.cosine >= cosine) || !(apart.relative <= relative))
            fail_msg("%s: cosine %.6f, relative difference %.2e", tensor->name, apart.cosine, apart.relative);
    }
    printf("gradients: cosine at least %.6f, at most %.1e apart\n", worst.cosine, worst.relative);
}

static void test_gradients(void **state) {
    (void)state;
    need_device();
    static const char *const MODELS[] = {"model.layers=last", "model.layers=weighted"};
    for (int m = 0; m < 2; m++) {
        char names[3][32];
        for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "dump%d_%d", m, i);
        const char *const *sets = SETS(MODELS[m], "train.batch_clips=12");
        TensorFiles *cpu = dump_on(names[0], CPU, sets), *fp32 = dump_on(names[1], FP32, sets);
        TensorFiles *bf16 = dump_on(names[2], BF16, sets);
        expect_gradients(fp32, cpu, 0.999, 1e-3);
        expect_gradients(bf16, cpu, 0.999, INFINITY);
        tensors_close(cpu);
        tensors_close(fp32);
        tensors_close(bf16);
    }
}

/* ---- generation ---- */

/* Prompts of the test split's clips, which nobody answers. */
static void add_prompts(Batch *batch, Run *run, Error *err) {
    LoaderOptions loading = run_loader_options(run, &run->test);
    loading.shuffle = false;
    Loader *loader = loader_open(run->shards, &loading, err);
    assert_ok(loader && loader_start(loader, run->test.items, run->test.count, err), err);
    batch_clear(batch);
    for (size_t i = 0; i < run->test.count; i++) {
        Sample sample;
        assert_ok(loader_next(loader, &sample, err), err);
        Clip clip = clip_of(run, &sample);
        assert_ok(batch_add(batch, run, &clip, NULL, err), err);
        sample_free(&sample);
    }
    loader_close(loader);
}

static int generate_on(const DeviceChoice *device, int beams, Generated *made) {
    Error err = {0};
    char *folder = test_path("cpu");
    RunOptions opening = {.model = true, .data = true, .device = *device};
    Run *run = run_open(folder, &opening, &err);
    assert_ok(run != NULL, &err);
    Batch batch = {0};
    add_prompts(&batch, run, &err);
    GenerateOptions options = {.max_new = NEW_TOKENS, .beams = beams, .top_p = 1, .repetition_penalty = 1.2f};
    SpeechBatch view = batch_view(&batch);
    assert_ok(speech_llm_generate(run->model, &view, &options, made, &err), &err);
    int count = batch.count;
    batch_free(&batch);
    run_close(run);
    free(folder);
    return count;
}

static void test_generation(void **state) {
    (void)state;
    need_device();
    const DeviceChoice cpu = {.name = "cpu"}, fp32 = {.name = "cuda", .precision = "fp32"};
    for (int beams = 1; beams <= 3; beams += 2) {
        Generated want[CLIPS], got[CLIPS];
        int count = generate_on(&cpu, beams, want);
        assert_int_equal(generate_on(&fp32, beams, got), count);
        for (int i = 0; i < count; i++) {
            assert_int_equal(got[i].count, want[i].count);
            assert_memory_equal(got[i].ids, want[i].ids, (size_t)want[i].count * sizeof *want[i].ids);
        }
        generated_free(want, count);
        generated_free(got, count);
    }
}

/* ---- words for devices ---- */

static void test_choices(void **state) {
    (void)state;
    static const struct {
        DeviceChoice choice;
        const char *wrong; /* in the error; null: none */
        DeviceKind kind;
        int index;
        DType dtype;
    } CASES[] = {{{.name = NULL}, NULL, DEVICE_CPU, 0, DTYPE_F32},
                 {{.name = "cpu", .precision = "fp32"}, NULL, DEVICE_CPU, 0, DTYPE_F32},
                 {{.name = "cuda"}, NULL, DEVICE_CUDA, 0, DTYPE_BF16},
                 {{.name = "cuda:3", .precision = "fp32"}, NULL, DEVICE_CUDA, 3, DTYPE_F32},
                 {{.name = "cuda:1", .precision = "auto"}, NULL, DEVICE_CUDA, 1, DTYPE_BF16},
                 {{.name = "cpu", .precision = "bf16"}, "CPU computes in fp32", 0, 0, 0},
                 {{.name = "cuda:"}, "cuda:", 0, 0, 0},
                 {{.name = "cuda:-1"}, "cuda:-1", 0, 0, 0},
                 {{.name = "cuda:1x"}, "cuda:1x", 0, 0, 0},
                 {{.name = "cuda:99999"}, "cuda:99999", 0, 0, 0},
                 {{.name = "gpu"}, "gpu", 0, 0, 0},
                 {{.name = "cuda", .precision = "fp16"}, "fp16", 0, 0, 0},
                 {{.threads = -1}, "threads", 0, 0, 0}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Error err = {0};
        DeviceKind kind;
        int index;
        DType dtype;
        bool ok = device_choice_check(&CASES[i].choice, &kind, &index, &dtype, &err);
        if (CASES[i].wrong) {
            assert_false(ok);
            assert_int_equal(err.exit_code, EXIT_USAGE);
            assert_non_null(strstr(err.text, CASES[i].wrong));
            continue;
        }
        assert_ok(ok, &err);
        assert_true(kind == CASES[i].kind && index == CASES[i].index && dtype == CASES[i].dtype);
    }
}

/* ---- the encoder alone ---- */

/* Clips that no plan of equal ones comes to: their samples all the same fill what was planned for. */
static void test_encoder_alone(void **state) {
    (void)state;
    need_device();
    Error err = {0};
    static float wave[16384];
    const int64_t start[] = {0, 5000, 10000, 16384};
    const WavlmBatch batch = {.count = 3, .start = start, .wave = wave};
    const WavlmLimits limits = {.clips = 3, .samples = 16384, .longest = 16384};
    for (int i = 0; i < 16384; i++) wave[i] = (float)(i % 97) / 97;
    Wavlm wavlm;
    WavlmWork work = {0};
    Arena arena = {.name = "encoder"};
    Device *dev = device_open(DEVICE_CUDA, 1, &err);
    assert_ok(dev, &err);
    assert_ok(wavlm_open_drawn(&wavlm, dev, "tests/fixtures/wavlm/large", TOGGLE_ON, 5, &err), &err);
    assert_ok(wavlm_plan(&wavlm, &work, &limits, &arena, &err), &err);
    assert_ok(wavlm_forward(&wavlm, &work, &batch, NULL, &err) && device_wait(dev, &err), &err);
    wavlm_work_free(&work);
    wavlm_close(&wavlm);
    device_free(dev, arena.base);
    arena_free(&arena);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),   cmocka_unit_test(test_losses),     cmocka_unit_test(test_cache),
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_generation), cmocka_unit_test(test_encoder_alone),
    };
    return cmocka_run_group_tests(tests, setup, test_cleanup);
}
