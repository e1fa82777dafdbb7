/* Whole steps of tiny random models of every kind on the CUDA device beside the CPU device: the loss, every trainable
 * tensor's gradient, and in fp32 the greedy answers. With `cpu` the CPU device takes the other's place too.
 *
 *     twin_steps cuda|cpu
 *
 * A line of JSON for each: {"twin", "precision", "loss", "other", "cosine" (the worst gradient's), "ok"}. */
#include <unistd.h>

#include "tests/gpu/batch.h"

typedef struct Kind {
    const char *name, *llm, *encoder;
    LayerChoice layers;
    float dropout;
} Kind;

#define LLM(kind, more)                                                                                                \
    "{\"model_type\": \"" kind "\", \"hidden_size\": 128, \"intermediate_size\": 224, \"num_hidden_layers\": 3, "      \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 320, \"max_position_embeddings\": 2048, " \
    "\"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\", \"eos_token_id\": 3, " more "}\n"
#define ENCODER(norm, stable)                                                                                          \
    "{\"model_type\": \"wavlm\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "          \
    "\"intermediate_size\": 160, \"conv_dim\": [32, 32, 32, 32, 32, 32, 32], \"conv_bias\": false, "                   \
    "\"feat_extract_norm\": \"" norm "\", \"do_stable_layer_norm\": " stable ", \"num_conv_pos_embeddings\": 16, "     \
    "\"num_conv_pos_embedding_groups\": 4, \"num_buckets\": 320, \"max_bucket_distance\": 800}\n"

static const Kind KINDS[] = {
    {"llama, WavLM base", LLM("llama", "\"tie_word_embeddings\": true"), ENCODER("group", "false"), LAYERS_LAST, 0},
    {"qwen2, WavLM large, weighted", LLM("qwen2", "\"tie_word_embeddings\": false"), ENCODER("layer", "true"),
     LAYERS_WEIGHTED, 0},
    {"qwen3, heads of 64, LoRA dropout", LLM("qwen3", "\"head_dim\": 64, \"tie_word_embeddings\": true"),
     ENCODER("layer", "true"), LAYERS_LAST, 0.1f}};

typedef struct Side {
    Device *dev;
    SpeechLlm *model;
    MadeBatch *batch;
    double loss;
    Generated answers[4];
    Error unanswered; /* why there are none */
} Side;

/* Initial B is zero, which would hide A's gradient. */
static bool stir(Params *params, Error *err) {
    Rng rng = rng_stream(11, 0, 0, 0);
    for (int i = 0; i < params->count; i++) {
        const Tensor value = params->items[i].value;
        size_t count = (size_t)(value.rows * value.cols);
        float *host = malloc(count * sizeof *host);
        if (!host) return fail(err, "out of memory");
        for (size_t e = 0; e < count; e++) host[e] = 0.2f * (rng_uniform(rng_next(&rng)) - 0.5f);
        bool ok = params_set(params, i, host, err);
        free(host);
        if (!ok) return false;
    }
    params_changed(params);
    return true;
}

static bool run_side(Side *side, const SpeechLlmConfig *config, Error *err) {
    side->model = speech_llm_open(side->dev, config, err);
    if (!side->model || !stir(speech_llm_params(side->model), err)) return false;
    batch_make(side->batch, side->model, 500, 3, 6, 320);
    SpeechBatch view = batch_seen(side->batch);
    SpeechLimits limits = batch_size(side->batch);
    StepOptions options = {.train = true, .step = 1, .loss_scale = 1e-2f};
    GenerateOptions greedy = generate_options_default();
    greedy.max_new = greedy.min_new = 12;
    if (!speech_llm_plan(side->model, &limits, true, NULL, true, err) ||
        !speech_llm_step(side->model, &view, &options, &side->loss, NULL, err))
        return false;
    view.labels = NULL;
    if (!speech_llm_generate(side->model, &view, &greedy, side->answers, &side->unanswered))
        memset(side->answers, 0, sizeof side->answers);
    return true;
}

/* Of the gradients of tensor i. */
static double cosine(const Params *a, const Params *b, int i, Error *err) {
    const Tensor grad = a->items[i].grad;
    size_t count = (size_t)(grad.rows * grad.cols);
    float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
    double xy = 0, xx = 0, yy = 0;
    bool ok = x && y && device_download(a->dev, x, grad.data, count * sizeof *x, err) &&
              device_download(b->dev, y, b->items[i].grad.data, count * sizeof *y, err);
    for (size_t e = 0; ok && e < count; e++) {
        xy += (double)x[e] * (double)y[e];
        xx += (double)x[e] * (double)x[e];
        yy += (double)y[e] * (double)y[e];
    }
    free(x);
    free(y);
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : xx == yy;
}

static bool same_answers(const Side *a, const Side *b) {
    bool same = true;
    for (int p = 0; p < a->batch->clips; p++)
        for (int t = 0; t < a->answers[p].count && t < b->answers[p].count; t++)
            same = same && a->answers[p].ids[t] == b->answers[p].ids[t];
    return same;
}

static bool compare(const Kind *kind, Side *gpu, Side *cpu, const char *precision, Error *err) {
    bool fp32 = !strcmp(precision, "fp32");
    const Params *a = speech_llm_params(gpu->model), *b = speech_llm_params(cpu->model);
    double worst = 1, off = fabs(gpu->loss - cpu->loss) / fabs(cpu->loss);
    const char *where = "";
    for (int i = 0; i < a->count; i++) {
        double value = cosine(a, b, i, err);
        if (!(value >= worst)) where = a->items[i].name;
        if (!(value >= worst)) worst = value;
    }
    const char *unanswered = gpu->unanswered.text[0] ? gpu->unanswered.text : cpu->unanswered.text;
    bool answers = !unanswered[0] && same_answers(gpu, cpu);
    bool ok = fp32 ? off < 1e-4 && worst > 0.99999 : off < 0.01 && worst > 0.99;
    printf("{\"twin\": \"%s\", \"precision\": \"%s\", \"loss\": %.6f, \"other\": %.6f, \"cosine\": %.6f, "
           "\"where\": \"%s\", \"answers_same\": %s, \"ok\": %s}\n",
           kind->name, precision, gpu->loss, cpu->loss, worst, where, answers ? "true" : "false",
           ok ? "true" : "false");
    if (unanswered[0])
        printf("{\"twin\": \"%s\", \"precision\": \"%s\", \"error\": \"generation: %s\"}\n", kind->name, precision,
               bench_escape(unanswered));
    fflush(stdout);
    return ok && (answers || !fp32);
}

static bool write_config(const char *folder, const char *text, Error *err) {
    char *path = path_join(folder, "config.json", err);
    bool ok = path && folder_make(folder, err) && file_write(path, text, strlen(text), err);
    free(path);
    return ok;
}

static bool run_kind(const Kind *kind, Side *gpu, Side *cpu, const char *root, const char *precision, Error *err) {
    static MadeBatch batches[2];
    char *llm = path_join(root, "llm", err), *encoder = path_join(root, "encoder", err);
    SpeechLlmConfig config = {.encoder = encoder,
                              .llm = llm,
                              .layers = kind->layers,
                              .adapter = {.stack = 4, .hidden = 96},
                              .lora = {.rank = 8, .alpha = 16, .dropout = kind->dropout, .targets = LORA_ALL},
                              .seed = 5,
                              .drawn = true};
    gpu->batch = &batches[0];
    cpu->batch = &batches[1];
    bool ok = llm && encoder && write_config(llm, kind->llm, err) && write_config(encoder, kind->encoder, err) &&
              run_side(gpu, &config, err) && run_side(cpu, &config, err) && compare(kind, gpu, cpu, precision, err);
    if (err->text[0])
        printf("{\"twin\": \"%s\", \"precision\": \"%s\", \"error\": \"%s\", \"ok\": false}\n", kind->name, precision,
               bench_escape(err->text));
    for (int i = 0; i < 2; i++) {
        Side *side = i ? cpu : gpu;
        generated_free(side->answers, side->batch->clips);
        batch_forget(side->batch);
        speech_llm_close(side->model);
        *side = (Side){.dev = side->dev};
        batches[i] = (MadeBatch){0};
    }
    free(llm);
    free(encoder);
    return ok;
}

int main(int argc, char **argv) {
    bool alone = argc > 1 && !strcmp(argv[1], "cpu"), ok = true;
    device_calm_idle_threads(argv);
    const char *temporary = getenv("TMPDIR");
    char *root = text_format(NULL, "%s/semollm-twin-%d", temporary ? temporary : "/tmp", (int)getpid());
    for (int fp32 = 0; root && fp32 < 2; fp32++) {
        Error err = {0};
        Side gpu = {0}, cpu = {0};
        gpu.dev = alone ? device_open(DEVICE_CPU, 0, &err) : device_open_cuda(0, fp32 ? DTYPE_F32 : DTYPE_BF16, &err);
        cpu.dev = gpu.dev ? device_open(DEVICE_CPU, 0, &err) : NULL;
        if (!cpu.dev) fprintf(stderr, "twin_steps: %s\n", err.text);
        for (size_t k = 0; cpu.dev && k < sizeof KINDS / sizeof *KINDS; k++) {
            Error own = {0};
            ok = run_kind(&KINDS[k], &gpu, &cpu, root, fp32 ? "fp32" : "bf16", &own) && ok;
        }
        ok = ok && cpu.dev;
        device_close(gpu.dev);
        device_close(cpu.dev);
    }
    folder_remove(root, NULL);
    free(root);
    return ok ? 0 : 1;
}
