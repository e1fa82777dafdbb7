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

/* ---- convolutions of other shapes than the published models' ---- */

static double gelu_of(double x) { return 0.5 * x * (1 + erf(x * sqrt(0.5))); }

/* To zero mean and unit variance in place: `count` numbers `apart` elements apart. */
static void norm_numbers(double *v, int64_t count, int64_t apart, double eps) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) mean += v[i * apart] / (double)count;
    for (int64_t i = 0; i < count; i++) variance += pow(v[i * apart] - mean, 2) / (double)count;
    for (int64_t i = 0; i < count; i++) v[i * apart] = (v[i * apart] - mean) / sqrt(variance + eps);
}

static double element(Tensor t, int64_t r, int64_t c) {
    return tensor_present(t) ? (double)((const float *)t.data)[r * t.ld + c] : 0;
}

/* One convolution of [rows, in] as its definition has it, with norm and GELU; frees x. */
static double *convolve(const Wavlm *wavlm, int i, double *x, int64_t in, int64_t *rows) {
    const WavlmConfig *config = &wavlm->config;
    const WavlmConv *conv = &wavlm->conv[i];
    const int64_t kernel = config->conv_kernel[i], stride = config->conv_stride[i], out = config->conv_dim[i];
    *rows = (*rows - kernel) / stride + 1;
    double *y = calloc((size_t)(*rows * out), sizeof *y);
    assert_non_null(y);
    for (int64_t t = 0; t < *rows; t++)
        for (int64_t o = 0; o < out; o++) {
            y[t * out + o] = element(conv->bias, 0, o);
            for (int64_t k = 0; k < kernel * in; k++)
                y[t * out + o] += element(conv->weight, o, k) * x[t * stride * in + k];
        }
    free(x);
    if (config->conv_layer_norm)
        for (int64_t t = 0; t < *rows; t++) norm_numbers(y + t * out, out, 1, 1e-5);
    else if (i == 0)
        for (int64_t o = 0; o < out; o++) norm_numbers(y + o, *rows, out, 1e-5);
    for (int64_t e = 0; e < *rows * out; e++) {
        if (tensor_present(conv->gamma))
            y[e] = y[e] * element(conv->gamma, 0, e % out) + element(conv->beta, 0, e % out);
        y[e] = gelu_of(y[e]);
    }
    return y;
}

/* What the projection is given of a clip, against `found`, [frames, channels]. */
static void check_extracted(const Wavlm *wavlm, const float *wave, int64_t samples, const float *found) {
    const WavlmConfig *config = &wavlm->config;
    int64_t rows = samples, in = 1;
    double *x = calloc((size_t)samples, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < samples; i++) x[i] = (double)wave[i];
    for (int i = 0; i < config->convs; i++) {
        x = convolve(wavlm, i, x, in, &rows);
        in = config->conv_dim[i];
    }
    assert_int_equal(rows, wavlm_frames(config, samples));
    for (int64_t t = 0; t < rows; t++) norm_numbers(x + t * in, in, 1, (double)config->eps);
    for (int64_t e = 0; e < rows * in; e++) {
        double want = x[e] * element(wavlm->feature_gamma, 0, e % in) + element(wavlm->feature_beta, 0, e % in);
        if (!(fabs((double)found[e] - want) < 1e-4))
            fail_msg("%lld samples: frame %lld, channel %lld is %g, expected %g", (long long)samples,
                     (long long)(e / in), (long long)(e % in), (double)found[e], want);
    }
    free(x);
}

/* Every length from the receptive field on, so that each ragged end there can be is met: as many clips at a time
 * as may go through the convolutions together. */
static void check_shape(const char *norm, const char *dim, const char *kernel, const char *stride) {
    enum { CLIPS = 40, GROUPS = 3 };
    char text[600];
    Bench b = {.arena = {.name = "test"}};
    int64_t start[CLIPS + 1] = {0};
    char *folder = test_path("shape"), *config = path_join(folder, "config.json", &b.err);
    snprintf(text, sizeof text,
             "{\"model_type\": \"wavlm\", \"hidden_size\": 16, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
             "\"intermediate_size\": 16, \"conv_dim\": %s, \"conv_kernel\": %s, \"conv_stride\": %s, \"conv_bias\": "
             "true, \"feat_extract_norm\": \"%s\", \"num_conv_pos_embeddings\": 4, "
             "\"num_conv_pos_embedding_groups\": 2}\n",
             dim, kernel, stride, norm);
    assert_ok(folder_make(folder, &b.err) && file_write(config, text, strlen(text), &b.err), &b.err);
    assert_ok(b.dev = device_open(DEVICE_CPU, 2, &b.err), &b.err);
    assert_ok(wavlm_open_drawn(&b.wavlm, b.dev, folder, TOGGLE_OFF, 5, &b.err), &b.err);
    const int64_t field = wavlm_receptive_field(&b.wavlm.config), longest = field + CLIPS * GROUPS;
    float *wave = calloc((size_t)(CLIPS * longest), sizeof *wave);
    assert_non_null(wave);
    bench_plan(&b, CLIPS, CLIPS * longest, longest);
    for (int64_t first = field; first < longest; first += CLIPS) {
        for (int c = 0; c < CLIPS; c++) {
            int64_t samples = first + (c * 7) % CLIPS, padded = wavlm_aligned(&b.wavlm.config, samples);
            start[c + 1] = start[c] + samples;
            draw_wave(wave + start[c], samples);
            assert_in_range(padded, wavlm_frames(&b.wavlm.config, samples),
                            wavlm_frames(&b.wavlm.config, samples) + wavlm_padding(&b.wavlm.config));
        }
        WavlmBatch batch = {.count = CLIPS, .start = start, .wave = wave};
        for (int i = 0; i < 2; i++) /* NaN, which no frame may be made of */
            if (tensor_present(b.work.conv[i]))
                memset(b.work.conv[i].data, 0xff, (size_t)b.work.conv[i].cols * sizeof(float));
        assert_ok(wavlm_forward(&b.wavlm, &b.work, &batch, NULL, &b.err), &b.err);
        const float *found = b.work.normed_conv.data;
        for (int c = 0; c < CLIPS; c++) {
            int64_t samples = start[c + 1] - start[c];
            check_extracted(&b.wavlm, wave + start[c], samples, found);
            found += wavlm_frames(&b.wavlm.config, samples) * b.work.normed_conv.cols;
        }
    }
    free(wave);
    bench_close(&b);
    folder_remove(folder, NULL);
    free(config);
    free(folder);
}

static void test_shapes(void **state) {
    (void)state;
    check_shape("layer", "[8, 12, 16, 8]", "[7, 5, 4, 3]", "[3, 2, 3, 1]");
    check_shape("group", "[8, 12, 16, 8]", "[7, 5, 4, 3]", "[3, 2, 3, 1]");
    check_shape("group", "[16, 8, 24]", "[10, 9, 2]", "[5, 2, 2]");
    check_shape("layer", "[16]", "[40]", "[16]");
}

/* More clips than go through the convolutions together, some as short as can be: each as if alone. */
static void check_many(const char *variant) {
    enum { CLIPS = 150 };
    Bench b;
    int64_t start[CLIPS + 1], lengths[CLIPS], frames = 0, frame = 0;
    open_variant(&b, variant);
    const int64_t hidden = b.wavlm.config.hidden, field = wavlm_receptive_field(&b.wavlm.config);
    for (int c = 0; c < CLIPS; c++) {
        lengths[c] = field + (c % 3 ? c * 37 % 3000 : 0);
        frames += wavlm_frames(&b.wavlm.config, lengths[c]);
    }
    float *wave = draw_waves(lengths, CLIPS, true, start);
    bench_plan(&b, CLIPS, start[CLIPS], field + 3000);
    for (int i = 0; i < 2; i++) memset(b.work.conv[i].data, 0xff, (size_t)b.work.conv[i].cols * sizeof(float));
    WavlmBatch all = {.count = CLIPS, .start = start, .wave = wave};
    float *packed = run_states(&b, &all, frames);
    for (int c = 0; c < CLIPS; c++) {
        int64_t own = wavlm_frames(&b.wavlm.config, lengths[c]), last = b.wavlm.config.layers;
        WavlmBatch one = {.count = 1, .start = start + c, .wave = wave};
        float *alone = run_states(&b, &one, own);
        /* where a window lies in its product, and how many it has, rounds a little differently */
        assert_near(packed + (last * frames + frame) * hidden, alone + last * own * hidden, (size_t)(own * hidden),
                    1e-5, "packed against alone");
        frame += own;
        free(alone);
    }
    free(packed);
    free(wave);
    bench_close(&b);
}

static void test_many(void **state) {
    (void)state;
    check_many("tiny");
    check_many("base");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),       cmocka_unit_test(test_large),    cmocka_unit_test(test_odd),
        cmocka_unit_test(test_tiny),       cmocka_unit_test(test_prefixed), cmocka_unit_test(test_full_base),
        cmocka_unit_test(test_full_large), cmocka_unit_test(test_shapes),   cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
