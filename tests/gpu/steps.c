/* Whole training steps, the encoder alone and generation at real shapes, with random weights made on the device.
 *
 *     steps DEVICE ENCODER LLM TOKENS COPY_TB_S MATMUL_TFLOPS
 *
 * DEVICE: cuda or cpu. ENCODER, LLM: folders with config.json. TOKENS: of a micro-batch, fewer where memory is short.
 * The ceilings are what roofline measured: the estimate's, beside the measurement. A line of JSON each:
 *
 *     {"step": ..}      seconds of a LoRA step (rank 16 on every projection), its matrix products timed alone, the one
 *                       over the other ("times"), operations of the matrix products over matmul ("of_matmul"), peak
 *                       memory, and what --estimate would say ("estimate_ms"); and the same of a step whose encoder
 *                       ran before (train.encoder_cache: memory)
 *     {"profile": ..}   milliseconds and calls of each operation in such a step
 *     {"encoder": ..}   seconds of its forward
 *     {"generate": ..}  tokens a second of 64 prompts, 128 tokens each */
#include "model/wavlm.h"
#include "tests/gpu/batch.h"

enum { STEPS = 7, PROMPTS = 64, NEW_TOKENS = 128, RANK = 16, PRODUCTS_MOST = 512 };

static const double GIB = 1024.0 * 1024.0 * 1024.0;

typedef struct Arguments {
    const char *device, *encoder, *llm, *name;
    int64_t tokens;
    double copy, matmul;
    bool small;
} Arguments;

static SpeechLlmConfig config_of(const Arguments *a) {
    return (SpeechLlmConfig){.encoder = a->encoder,
                             .llm = a->llm,
                             .layers = LAYERS_LAST,
                             .adapter = {.stack = 5, .hidden = 2048},
                             .lora = {.rank = RANK, .alpha = 2 * RANK, .targets = LORA_ALL},
                             .seed = 3,
                             .drawn = true};
}

/* ---- the optimizer, as the trainer calls it ---- */

typedef struct Optimizer {
    float *m, *v;
    double *norm;
    AdamwSegment segment;
} Optimizer;

static bool optimizer_open(Optimizer *o, Device *dev, const Params *params, Error *err) {
    size_t bytes = (size_t)params->total * sizeof(float);
    o->segment = (AdamwSegment){.count = params->total, .lr = 1e-5f, .decay = 0.01f};
    o->m = device_alloc(dev, bytes, err);
    o->v = device_alloc(dev, bytes, err);
    o->norm = device_alloc(dev, sizeof *o->norm, err);
    return o->m && o->v && o->norm;
}

static void optimizer_close(Optimizer *o, Device *dev) {
    device_free(dev, o->m);
    device_free(dev, o->v);
    device_free(dev, o->norm);
}

static Tensor flat(float *data, const Params *params) { return tensor_of(data, DTYPE_F32, 1, params->total); }

static bool update(Optimizer *o, Device *dev, Params *params, int64_t step, Error *err) {
    SumSquaresArgs sum = {.x = flat(params->grad, params), .out = tensor_of(o->norm, DTYPE_F64, 1, 1)};
    AdamwArgs adamw = {.param = flat(params->value, params),
                       .grad = sum.x,
                       .m = flat(o->m, params),
                       .v = flat(o->v, params),
                       .segments = &o->segment,
                       .segment_count = 1,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-8f,
                       .grad_scale = 1,
                       .step = step,
                       .norm_squared = sum.out,
                       .max_norm = 1};
    if (!device_reserve_scratch(dev, sum_squares_scratch(dev, &sum), err) ||
        !device_reserve_scratch(dev, adamw_scratch(dev, &adamw), err) || !op_sum_squares(dev, &sum, err) ||
        !op_adamw(dev, &adamw, err))
        return false;
    params_changed(params);
    return true;
}

static bool take_step(SpeechLlm *model, Device *dev, Optimizer *o, const MadeBatch *batch, int64_t step, Error *err) {
    Params *params = speech_llm_params(model);
    double loss;
    SpeechBatch view = batch_seen(batch);
    StepOptions options = {
        .train = true, .step = (uint32_t)step, .loss_scale = (float)(1.0 / (double)batch->responses)};
    return device_fill_zero(dev, params->grad, (size_t)params->total * sizeof(float), err) &&
           speech_llm_step(model, &view, &options, &loss, NULL, err) && update(o, dev, params, step, err) &&
           (isfinite(loss) || fail(err, "the loss is not finite"));
}

/* ---- the plan: what the step is made of ---- */

typedef struct Product {
    int64_t m, n, k;
    bool transposed;
    int count;
} Product;

typedef struct Planned {
    Product products[PRODUCTS_MOST];
    int product_count;
    double seconds[WORK_KINDS], whole, flops; /* flops: of the matrix products */
    double gib;
} Planned;

static void add_product(Planned *planned, const PlannedWork *work) {
    Product *p = planned->products, *end = p + planned->product_count;
    while (p < end && (p->m != work->m || p->n != work->n || p->k != work->k || p->transposed != work->transposed)) p++;
    if (p == end && planned->product_count == PRODUCTS_MOST) return;
    if (p == end)
        planned->products[planned->product_count++] =
            (Product){.m = work->m, .n = work->n, .k = work->k, .transposed = work->transposed};
    p->count++;
}

static void add_up(Planned *planned, const Device *dev, const Arguments *a) {
    const MachineRates rates = {.copy = a->copy * 1e12,
                                .matmul = a->matmul * 1e12,
                                .stream_share = 0.85,
                                .gemm_share = 0.93,
                                .attention = 72e12 * a->matmul / 798,
                                .attention_bias = 162e12 * a->matmul / 798,
                                .attention_backward = 63e12 * a->matmul / 798,
                                .convolution = 372e12 * a->matmul / 798,
                                .kernel = 2.5e-6};
    size_t count;
    const PlannedWork *work = plan_work(dev, &count);
    plan_seconds(work, count, &rates, planned->seconds);
    for (size_t i = 0; i < count; i++) {
        if (work[i].kind != WORK_GEMM) continue;
        planned->flops += work[i].cost.flops;
        if (work[i].m) add_product(planned, &work[i]);
    }
    for (int kind = 0; kind < WORK_KINDS; kind++) planned->whole += planned->seconds[kind];
}

/* Room for what the encoder will have made of the batch. */
static bool make_features(MadeBatch *batch, const SpeechLlm *model, Error *err) {
    int64_t frames = 0;
    for (int c = 0; c < batch->clips; c++)
        frames += speech_llm_frames(model, batch->wave_start[c + 1] - batch->wave_start[c]);
    batch->features = calloc((size_t)frames, (size_t)speech_llm_feature_bytes(model));
    return batch->features || fail(err, "out of memory");
}

/* A step of this batch on a device that plans; `cached`: with features in place of waveforms. */
static bool plan(Planned *planned, const Arguments *a, int64_t tokens, bool cached, Error *err) {
    static MadeBatch batch;
    memset(planned, 0, sizeof *planned);
    SpeechLlmConfig config = config_of(a);
    Device *dev = device_open_plan(DEVICE_CUDA, DTYPE_BF16, err);
    SpeechLlm *model = dev ? speech_llm_open(dev, &config, err) : NULL;
    Optimizer optimizer = {0};
    bool ok = model != NULL;
    if (ok) {
        batch_make(&batch, model, tokens, BATCH_CLIPS_MOST, 1, 200);
        ok = !cached || make_features(&batch, model, err);
        SpeechLimits limits = batch_size(&batch);
        ok = ok && optimizer_open(&optimizer, dev, speech_llm_params(model), err) &&
             speech_llm_plan(model, &limits, true, NULL, true, err);
        plan_forget(dev);
        ok = ok && take_step(model, dev, &optimizer, &batch, 1, err);
        if (ok) add_up(planned, dev, a);
        planned->gib = (double)plan_bytes(dev) / GIB;
        batch_forget(&batch);
    }
    speech_llm_close(model);
    device_close(dev);
    return ok;
}

/* ---- the matrix products alone ---- */

static bool run_product(Device *dev, const void *args, Error *err) { return op_matmul(dev, args, err); }

static Tensor drawn(Device *dev, void **memory, int64_t rows, int64_t cols, Error *err) {
    DType dtype = device_dtype(dev);
    size_t bytes = (size_t)(rows * cols) * dtype_size(dtype);
    *memory = device_alloc(dev, bytes, err);
    Tensor t = tensor_of(*memory, dtype, rows, cols);
    if (*memory) draw_weights(dev, t, 1, 1, err);
    return t;
}

static bool time_product(Device *dev, const Product *p, double *seconds, Error *err) {
    void *memory[3] = {0};
    MatmulArgs args = {.alpha = 1, .transpose_b = p->transposed};
    args.a = drawn(dev, &memory[0], p->m, p->k, err);
    args.b = p->transposed ? drawn(dev, &memory[1], p->n, p->k, err) : drawn(dev, &memory[1], p->k, p->n, err);
    args.c = drawn(dev, &memory[2], p->m, p->n, err);
    bool ok = memory[0] && memory[1] && memory[2] && device_reserve_scratch(dev, matmul_scratch(dev, &args), err) &&
              bench_seconds(dev, run_product, &args, 0.003, seconds, err);
    for (int i = 0; i < 3; i++) device_free(dev, memory[i]);
    return ok;
}

static bool time_products(Device *dev, const Planned *planned, double *sum, Error *err) {
    *sum = 0;
    for (int i = 0; i < planned->product_count; i++) {
        double seconds;
        if (!time_product(dev, &planned->products[i], &seconds, err)) return false;
        *sum += seconds * planned->products[i].count;
    }
    return true;
}

/* ---- measuring ---- */

/* As many tokens as fit, halved until they do. */
static bool choose_tokens(Planned *planned, const Arguments *a, Device *dev, int64_t *tokens, Error *err) {
    size_t available, all;
    if (!device_memory_info(dev, &available, &all, err)) return false;
    for (*tokens = a->tokens;; *tokens /= 2) {
        if (!plan(planned, a, *tokens, false, err)) return false;
        if (planned->gib * GIB < 0.95 * (double)available) return true;
        if (*tokens < 512)
            return fail(err, "%.1f GiB are not enough for a step of %s", (double)available / GIB, a->name);
    }
}

static bool generation(SpeechLlm *model, const Arguments *a, Error *err) {
    static MadeBatch prompts;
    int count = a->small ? 2 : PROMPTS, length = a->small ? 4 : NEW_TOKENS;
    batch_make(&prompts, model, 100000, count, a->small ? 8 : 1, 200);
    SpeechBatch view = batch_seen(&prompts);
    view.labels = NULL;
    GenerateOptions options = generate_options_default();
    options.max_new = options.min_new = length;
    double seconds = 0;
    bool ok = true;
    for (int round = 0; ok && round < 2; round++) { /* the first one captures, tunes and allocates */
        static Generated results[PROMPTS];
        double start = bench_clock();
        ok = speech_llm_generate(model, &view, &options, results, err);
        seconds = bench_clock() - start;
        if (ok) generated_free(results, count);
    }
    batch_forget(&prompts);
    if (ok)
        printf("{\"generate\": \"%s\", \"prompts\": %d, \"new_tokens\": %d, \"seconds\": %.4f, \"tokens_s\": %.1f}\n",
               a->name, count, length, seconds, (double)count * length / seconds);
    fflush(stdout);
    return ok;
}

static bool profiled_step(SpeechLlm *model, Device *dev, Optimizer *o, const MadeBatch *batch, const char *name,
                          Error *err) {
    ProfiledOp times[PROFILE_OPS_MOST];
    Error ended = {0};
    int count;
    if (!profile_begin(dev, err)) return false;
    bool stepped = take_step(model, dev, o, batch, STEPS + 3, err);
    if (!profile_end(dev, times, &count, &ended) || !stepped) return stepped ? fail(err, "%s", ended.text) : false;
    for (int i = 0; i < count; i++)
        printf("{\"profile\": \"%s\", \"op\": \"%s\", \"calls\": %" PRId64 ", \"ms\": %.3f}\n", name, times[i].op,
               times[i].calls, times[i].seconds * 1e3);
    return true;
}

/* `name`: of the profile, or null for none. */
static bool timed_steps(SpeechLlm *model, Device *dev, const MadeBatch *batch, const char *name, double *seconds,
                        Error *err) {
    Optimizer optimizer = {0};
    double times[STEPS];
    SpeechLimits limits = batch_size(batch);
    bool ok = speech_llm_plan(model, &limits, true, NULL, true, err) &&
              optimizer_open(&optimizer, dev, speech_llm_params(model), err);
    for (int64_t step = -1; ok && step <= STEPS; step++) { /* two to warm up, which tune the products */
        double start = bench_clock();
        ok = take_step(model, dev, &optimizer, batch, step + 2, err) && device_wait(dev, err);
        if (step > 0) times[step - 1] = bench_clock() - start;
    }
    ok = ok && (!name || profiled_step(model, dev, &optimizer, batch, name, err));
    optimizer_close(&optimizer, dev);
    if (ok) *seconds = bench_median(times, STEPS);
    return ok;
}

typedef struct Measured {
    double seconds, gib;
} Measured;

static bool measure_step(SpeechLlm *model, Device *dev, const MadeBatch *batch, const char *name, Measured *m,
                         Error *err) {
    size_t available, all;
    if (!timed_steps(model, dev, batch, name, &m->seconds, err) || !device_memory_info(dev, &available, &all, err))
        return false;
    m->gib = (double)(all - available) / GIB;
    return true;
}

static bool print_step(Device *dev, const Arguments *a, const char *what, const MadeBatch *batch, const Measured *m,
                       const Planned *planned, Error *err) {
    double products, count = (double)batch->cu_tokens[batch->clips], gemm = planned->flops / (a->matmul * 1e12);
    if (!time_products(dev, planned, &products, err)) return false;
    printf("{\"step\": \"%s%s\", \"tokens\": %.0f, \"clips\": %d, \"ms\": %.3f, \"tokens_s\": %.1f, "
           "\"products_ms\": %.3f, \"times\": %.4f, \"of_matmul\": %.4f, \"memory_gib\": %.2f, \"planned_gib\": %.2f, "
           "\"estimate_ms\": %.3f, \"estimate_times\": %.4f}\n",
           a->name, what, count, batch->clips, m->seconds * 1e3, count / m->seconds, products * 1e3,
           m->seconds / products, gemm / m->seconds, m->gib, planned->gib, planned->whole * 1e3,
           planned->whole / planned->seconds[WORK_GEMM]);
    fflush(stdout);
    return true;
}

static bool step(const Arguments *a, Device *dev, Error *err) {
    static MadeBatch batch;
    static Planned planned;
    int64_t tokens;
    Measured whole = {0}, cached = {0};
    if (!choose_tokens(&planned, a, dev, &tokens, err)) return false;
    SpeechLlmConfig config = config_of(a);
    SpeechLlm *model = speech_llm_open(dev, &config, err);
    if (!model) return false;
    batch_make(&batch, model, tokens, BATCH_CLIPS_MOST, 1, 200);
    SpeechBatch view = batch_seen(&batch);
    bool ok = measure_step(model, dev, &batch, a->name, &whole, err) && make_features(&batch, model, err) &&
              speech_llm_encode(model, &view, batch.features, err) &&
              measure_step(model, dev, &batch, NULL, &cached, err);
    Error other = {0};
    bool answered = ok && generation(model, a, &other);
    if (ok && !answered) printf("{\"generate\": \"%s\", \"error\": \"%s\"}\n", a->name, bench_escape(other.text));
    speech_llm_close(model);
    ok = ok && print_step(dev, a, "", &batch, &whole, &planned, err) && plan(&planned, a, tokens, true, err) &&
         print_step(dev, a, ", encoded before", &batch, &cached, &planned, err);
    batch_forget(&batch);
    return ok;
}

/* The encoder's forward on as much audio as a step has. */
static bool encoder(const Arguments *a, Device *dev, Error *err) {
    static int64_t start[BATCH_CLIPS_MOST + 1];
    int clips = a->small ? 1 : 64;
    WavlmLimits limits = {.clips = clips};
    for (int c = 0; c < clips; c++) {
        int64_t samples = bench_samples(c) / (a->small ? 8 : 1);
        start[c + 1] = start[c] + samples;
        if (samples > limits.longest) limits.longest = samples;
    }
    limits.samples = start[clips];
    float *wave = calloc((size_t)limits.samples, sizeof *wave);
    Wavlm wavlm = {0};
    WavlmWork work = {0};
    Arena arena = {.name = "encoder"};
    double times[STEPS];
    if (!wave) return fail(err, "out of memory");
    for (int64_t i = 0; i < limits.samples; i++) wave[i] = (float)((i * 7919) % 1000) / 5000.0f - 0.1f;
    WavlmBatch batch = {.count = clips, .start = start, .wave = wave};
    bool ok = wavlm_open_drawn(&wavlm, dev, a->encoder, TOGGLE_AUTO, 3, err) &&
              wavlm_plan(&wavlm, &work, &limits, &arena, err);
    for (int i = -2; ok && i < STEPS; i++) {
        double begin = bench_clock();
        ok = wavlm_forward(&wavlm, &work, &batch, NULL, err) && device_wait(dev, err);
        if (i >= 0) times[i] = bench_clock() - begin;
    }
    if (ok) {
        double seconds = bench_median(times, STEPS), audio = (double)limits.samples / 16000;
        printf("{\"encoder\": \"wavlm\", \"clips\": %d, \"audio_s\": %.1f, \"ms\": %.3f, \"times_real_time\": %.0f}\n",
               clips, audio, seconds * 1e3, audio / seconds);
        fflush(stdout);
    }
    device_free(dev, arena.base);
    arena_free(&arena);
    wavlm_work_free(&work);
    wavlm_close(&wavlm);
    free(wave);
    return ok;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int main(int argc, char **argv) {
    Error err = {0};
    device_calm_idle_threads(argv);
    if (argc != 7) {
        fprintf(stderr, "usage: steps DEVICE ENCODER LLM|- TOKENS COPY_TB_S MATMUL_TFLOPS\n");
        return 2;
    }
    Arguments a = {.device = argv[1], .encoder = argv[2], .llm = argv[3], .name = last_part(argv[3])};
    a.tokens = strtoll(argv[4], NULL, 10);
    a.copy = strtod(argv[5], NULL);
    a.matmul = strtod(argv[6], NULL);
    a.small = a.tokens < 2048;
    Device *dev = bench_device(a.device, &err);
    bool ok = dev && (strcmp(argv[3], "-") ? step(&a, dev, &err) : encoder(&a, dev, &err));
    if (!ok) printf("{\"step\": \"%s\", \"error\": \"%s\"}\n", a.name, bench_escape(err.text));
    device_close(dev);
    return ok ? 0 : 1;
}
