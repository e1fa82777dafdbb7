/* WavLM against transformers (tests/oracle/wavlm.py), packed batches against clips alone, bad folders. */
#include "tests/model/random_model.h"

#include "model/wavlm.h"

enum { WAVE_KEY = 7001, WAVE_PLACE = 0x5741, CLIPS_MAX = 16 };

static const int64_t LENGTHS[] = {400, 401, 719, 720, 16000, 31999, 50013, 8000};
enum { LENGTH_COUNT = sizeof LENGTHS / sizeof *LENGTHS };

typedef struct Bench {
    Device *dev;
    Wavlm wavlm;
    WavlmWork work;
    Arena arena;
    Error err;
} Bench;

static void bench_open(Bench *b, const char *folder) {
    *b = (Bench){.arena = {.name = "test"}};
    assert_ok(b->dev = device_open(DEVICE_CPU, 2, &b->err), &b->err);
    assert_ok(wavlm_open(&b->wavlm, b->dev, folder, TOGGLE_AUTO, &b->err), &b->err);
}

static void bench_plan(Bench *b, int64_t clips, int64_t samples, int64_t longest) {
    const WavlmLimits limits = {.clips = clips, .samples = samples, .longest = longest};
    assert_ok(wavlm_plan(&b->wavlm, &b->work, &limits, &b->arena, &b->err), &b->err);
}

static void bench_close(Bench *b) {
    wavlm_work_free(&b->work);
    wavlm_close(&b->wavlm);
    device_free(b->dev, b->arena.base);
    arena_free(&b->arena);
    device_close(b->dev);
}

/* All hidden states of a batch, [layers + 1][frames, hidden]; free them. */
static float *run_states(Bench *b, const WavlmBatch *batch, int64_t frames) {
    const int64_t hidden = b->wavlm.config.hidden, layers = b->wavlm.config.layers;
    float *out = calloc((size_t)((layers + 1) * frames * hidden), sizeof *out);
    Tensor states[WAVLM_LAYERS_MAX + 1];
    assert_non_null(out);
    for (int64_t i = 0; i <= layers; i++) states[i] = tensor_of(out + i * frames * hidden, DTYPE_F32, frames, hidden);
    assert_ok(wavlm_forward(&b->wavlm, &b->work, batch, states, &b->err), &b->err);
    return out;
}

static void draw_wave(float *wave, int64_t length) {
    for (int64_t i = 0; i < length; i++) {
        Philox block = philox(WAVE_KEY, (uint32_t)(i / 4), WAVE_PLACE, (uint32_t)length, 0);
        wave[i] = random_signed(block.word[i % 4], 0.05, 0.3);
    }
}

/* The fixture's waves end to end; 8000 samples of the small variants are silence. */
static float *draw_waves(const int64_t *lengths, int count, bool full, int64_t *start) {
    start[0] = 0;
    for (int c = 0; c < count; c++) start[c + 1] = start[c] + lengths[c];
    float *wave = calloc((size_t)start[count], sizeof *wave);
    assert_non_null(wave);
    for (int c = 0; c < count; c++)
        if (full || lengths[c] != 8000) draw_wave(wave + start[c], lengths[c]);
    return wave;
}

/* One clip's states, rows `frame`.. of a batch with `frames` in all, against the fixture. */
static void compare_clip(const Bench *b, const TensorFiles *expected, const char *variant, int64_t length, int step,
                         const float *states, int64_t frame, int64_t frames) {
    const int64_t hidden = b->wavlm.config.hidden, own = wavlm_frames(&b->wavlm.config, length);
    float *picked = calloc((size_t)(own * hidden), sizeof *picked);
    assert_non_null(picked);
    for (int i = 0; i <= b->wavlm.config.layers; i++) {
        char name[64], what[200];
        snprintf(name, sizeof name, "%lld.%d", (long long)length, i);
        const StoredTensor *stored = tensors_find(expected, name);
        if (!stored) fail_msg("the fixture lacks %s", name);
        assert_int_equal(stored->shape[0], (own + step - 1) / step);
        for (int64_t r = 0; r < stored->shape[0]; r++)
            memcpy(picked + r * hidden, states + (i * frames + frame + r * step) * hidden,
                   (size_t)hidden * sizeof *picked);
        snprintf(what, sizeof what, "%s, %lld samples, hidden_%d", variant, (long long)length, i);
        float *wanted = malloc(stored->bytes);
        assert_non_null(wanted);
        floats_from(stored->dtype, stored->data, wanted, (size_t)(stored->shape[0] * hidden));
        assert_near(picked, wanted, (size_t)(stored->shape[0] * hidden), 1e-4, what);
        free(wanted);
    }
    free(picked);
}

/* Opens a fixture's model, drawing its weights where they are not committed. */
static void open_variant(Bench *b, const char *variant) {
    char fixture[120], weights[160];
    snprintf(fixture, sizeof fixture, "tests/fixtures/wavlm/%s", variant);
    snprintf(weights, sizeof weights, "%s/model.safetensors", fixture);
    if (file_exists(weights)) {
        bench_open(b, fixture);
        return;
    }
    char *folder = test_path(variant);
    random_model(fixture, folder);
    bench_open(b, folder);
    folder_remove(folder, NULL);
    free(folder);
}

static TensorFiles *open_expected(const char *variant, Error *err) {
    char path[160];
    snprintf(path, sizeof path, "tests/fixtures/wavlm/%s/expected.safetensors", variant);
    TensorFiles *files = tensors_open(path, err);
    assert_ok(files, err);
    return files;
}

/* Each clip alone, then all packed: both against transformers, and one against the other. */
static void check_variant(const char *variant) {
    Bench b;
    int64_t start[CLIPS_MAX + 1], frame = 0;
    open_variant(&b, variant);
    TensorFiles *expected = open_expected(variant, &b.err);
    float *wave = draw_waves(LENGTHS, LENGTH_COUNT, false, start);
    const int64_t hidden = b.wavlm.config.hidden;
    int64_t frames = 0;
    for (int c = 0; c < LENGTH_COUNT; c++) frames += wavlm_frames(&b.wavlm.config, LENGTHS[c]);
    bench_plan(&b, LENGTH_COUNT, start[LENGTH_COUNT], 50013);
    WavlmBatch all = {.count = LENGTH_COUNT, .start = start, .wave = wave};
    float *packed = run_states(&b, &all, frames);
    for (int c = 0; c < LENGTH_COUNT; c++) {
        int64_t own = wavlm_frames(&b.wavlm.config, LENGTHS[c]);
        WavlmBatch one = {.count = 1, .start = start + c, .wave = wave};
        float *alone = run_states(&b, &one, own);
        compare_clip(&b, expected, variant, LENGTHS[c], own > 60 ? 3 : 1, packed, frame, frames);
        for (int i = 0; i <= b.wavlm.config.layers; i++)
            assert_near(packed + (i * frames + frame) * hidden, alone + i * own * hidden, (size_t)(own * hidden), 1e-6,
                        "packed against alone");
        frame += own;
        free(alone);
    }
    free(packed);
    free(wave);
    tensors_close(expected);
    bench_close(&b);
}

static void test_base(void **state) {
    (void)state;
    check_variant("base");
}

static void test_large(void **state) {
    (void)state;
    check_variant("large");
}

static void test_odd(void **state) {
    (void)state;
    check_variant("odd");
}

static void test_tiny(void **state) {
    (void)state;
    check_variant("tiny");
}

static void test_prefixed(void **state) {
    (void)state;
    check_variant("prefixed");
}

/* The published sizes, on half a second. */
static void check_full(const char *variant) {
    static const int64_t length[] = {8000};
    Bench b;
    int64_t start[2];
    open_variant(&b, variant);
    TensorFiles *expected = open_expected(variant, &b.err);
    float *wave = draw_waves(length, 1, true, start);
    bench_plan(&b, 1, length[0], length[0]);
    WavlmBatch batch = {.count = 1, .start = start, .wave = wave};
    float *states = run_states(&b, &batch, 24);
    compare_clip(&b, expected, variant, length[0], 12, states, 0, 24);
    free(states);
    free(wave);
    tensors_close(expected);
    bench_close(&b);
}

static void test_full_base(void **state) {
    (void)state;
    check_full("full_base");
}

static void test_full_large(void **state) {
    (void)state;
    check_full("full_large");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),       cmocka_unit_test(test_large),    cmocka_unit_test(test_odd),
        cmocka_unit_test(test_tiny),       cmocka_unit_test(test_prefixed), cmocka_unit_test(test_full_base),
        cmocka_unit_test(test_full_large),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
