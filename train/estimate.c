#include "train/estimate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/estimate_machine.h"
#include "train/estimate_steps.h"
#include "train/splits.h"

enum { GPUS_MOST = 4096, OPS_MOST = 64, OPS_SHOWN = 14 };

#ifdef SEMOLLM_CUDA
static const char SCRATCH[] = "scratch";
#else
static const char SCRATCH[] = "scratch (the CPU's: no CUDA in this build)";
#endif

static const double GIB = 1024.0 * 1024.0 * 1024.0;
static const double CUDA_GIB = 1.0; /* CUDA's own, cuBLASLt's workspace, what the driver keeps */

typedef struct OpTime {
    const char *op;
    double seconds; /* of a step */
} OpTime;

typedef struct Estimate {
    Machine *machine;
    char *machine_path;
    int gpus;
    Run *run; /* its model is open on a device that plans */
    Examples examples;
    bool real; /* the examples are the run's own data */
    PlannedSteps steps;
    PlannedBatch batch;
    size_t frozen;           /* bytes of the encoder's and the LLM's weights */
    size_t trained, moments; /* of what trains with gradients, and AdamW's */
    OpTime ops[OPS_MOST];
    int op_count;
    double seconds[WORK_KINDS];    /* of a step */
    double encoder, reduce, whole; /* of a step: the encoder among it, all-reduce, everything */
    int64_t largest;               /* tokens of a micro-batch that fits; 0: none */
} Estimate;

/* ---- opening ---- */

/* "h100" or "h100,8". */
static bool read_machine(Estimate *e, const char *text, Error *err) {
    const char *comma = strrchr(text, ',');
    e->gpus = 1;
    if (comma) {
        char *end;
        long count = strtol(comma + 1, &end, 10);
        if (end == comma + 1 || *end || count < 1 || count > GPUS_MOST)
            return fail_usage(err, "--estimate: the number of GPUs must be 1 to %d, found \"%s\"", GPUS_MOST,
                              comma + 1);
        e->gpus = (int)count;
    }
    char *name = text_format(err, "%.*s", (int)(comma ? comma - text : (long)strlen(text)), text);
    if (name) e->machine = machine_read(name, &e->machine_path, err);
    free(name);
    return e->machine != NULL;
}

/* Data can be planned with where there are shards, and a tokenizer to know the answers' tokens by. */
static bool has_data(const RunConfig *config, Error *err) {
    char *index = path_join(config->data.shards, "index.json", err);
    char *tokenizer = path_join(config->model.llm, "tokenizer.json", err);
    bool has = index && tokenizer && file_exists(index) && file_exists(tokenizer);
    free(index);
    free(tokenizer);
    return has;
}

static bool open_run(Estimate *e, const char *path, const Texts *overrides, Error *err) {
    RunConfig *config = config_read(path, overrides, err);
    if (!config) return false;
    e->real = has_data(config, err);
    if (e->real) {
        config_free(config);
        e->run = run_open(path, &(RunOptions){.overrides = overrides, .data = true}, err);
        return e->run != NULL;
    }
    e->run = memory_new(1, sizeof *e->run, err);
    if (e->run)
        e->run->config = config;
    else
        config_free(config);
    return e->run != NULL;
}

static bool open_model(Estimate *e, Error *err) {
    Run *run = e->run;
    SpeechLlmConfig config = config_model(run->config);
    config.drawn = true;
    run->dev = device_open_plan(DEVICE_CUDA, DTYPE_BF16, err);
    const double *shared = e->machine->block_shared_kib;
    if (run->dev && shared) plan_block_shared(run->dev, (size_t)(*shared * 1024));
    if (run->dev) run->model = speech_llm_open(run->dev, &config, err);
    if (!run->model) return false;
    SpeechLlmMemory memory = speech_llm_memory(run->model);
    e->frozen = memory.encoder + memory.llm;
    e->trained = plan_bytes(run->dev) - e->frozen;
    return true;
}

static bool open_data(Estimate *e, Error *err) {
    Run *run = e->run;
    if (e->real && (!splits_check(run, err) || !examples_make(&e->examples, run, &run->train, err))) return false;
    return planned_steps(&e->steps, run, e->real ? &e->examples : NULL, e->gpus, err);
}

/* ---- a step's work ---- */

static MachineRates rates_of(const Machine *machine) {
    return (MachineRates){.copy = machine->copy_tb_s * 1e12,
                          .matmul = machine->matmul_tflops * 1e12,
                          .stream_share = machine->stream_share,
                          .gemm_share = machine->gemm_share,
                          .attention = machine->attention_tflops * 1e12,
                          .attention_bias = machine_attention_bias(machine) * 1e12,
                          .attention_backward = machine->attention_backward_tflops * 1e12,
                          .convolution = machine->convolution_tflops * 1e12,
                          .kernel = machine->kernel_us * 1e-6};
}

static double work_seconds(const Estimate *e, double seconds[WORK_KINDS]) {
    size_t count;
    const PlannedWork *work = plan_work(e->run->dev, &count);
    MachineRates rates = rates_of(e->machine);
    plan_seconds(work, count, &rates, seconds);
    double sum = 0;
    for (int kind = 0; kind < WORK_KINDS; kind++) sum += seconds[kind];
    return sum;
}

/* Adds the work to what each operation takes of a step. */
static void add_ops(Estimate *e) {
    size_t count;
    const PlannedWork *work = plan_work(e->run->dev, &count);
    MachineRates rates = rates_of(e->machine);
    for (size_t i = 0; i < count; i++) {
        double seconds[WORK_KINDS];
        int op = 0;
        plan_seconds(&work[i], 1, &rates, seconds);
        while (op < e->op_count && strcmp(e->ops[op].op, work[i].op) != 0) op++;
        if (op == OPS_MOST) continue;
        if (op == e->op_count) e->ops[e->op_count++] = (OpTime){.op = work[i].op};
        e->ops[op].seconds += seconds[work[i].kind] / e->steps.steps;
    }
}

/* The optimizer as the trainer calls it, once a step. */
static bool update(Estimate *e, Error *err) {
    Device *dev = e->run->dev;
    const Params *params = speech_llm_params(e->run->model);
    const int64_t total = params->total;
    size_t bytes = (size_t)total * sizeof(float), before = plan_bytes(dev);
    float *m = device_alloc(dev, bytes, err), *v = m ? device_alloc(dev, bytes, err) : NULL;
    double *norm = v ? device_alloc(dev, sizeof *norm, err) : NULL;
    e->moments = plan_bytes(dev) - before;
    AdamwSegment all = {.count = total};
    SumSquaresArgs squares = {.x = tensor_of(params->grad, DTYPE_F32, 1, total),
                              .out = tensor_of(norm, DTYPE_F64, 1, 1)};
    AdamwArgs adamw = {.param = tensor_of(params->value, DTYPE_F32, 1, total),
                       .grad = squares.x,
                       .m = tensor_of(m, DTYPE_F32, 1, total),
                       .v = tensor_of(v, DTYPE_F32, 1, total),
                       .segments = &all,
                       .segment_count = 1,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-8f,
                       .grad_scale = 1,
                       .step = 1,
                       .norm_squared = squares.out,
                       .max_norm = 1};
    if (!norm) return false;
    return total == 0 || (device_reserve_scratch(dev, adamw_scratch(dev, &adamw), err) &&
                          device_reserve_scratch(dev, sum_squares_scratch(dev, &squares), err) &&
                          op_sum_squares(dev, &squares, err) && op_adamw(dev, &adamw, err));
}

/* What the encoder alone takes of a micro-batch. */
static bool encode(Estimate *e, const SpeechBatch *batch, double *seconds, Error *err) {
    double kinds[WORK_KINDS];
    if (!batch->wave) return true;
    plan_forget(e->run->dev);
    bool ok = speech_llm_encode(e->run->model, batch, e->batch.features, err);
    *seconds += work_seconds(e, kinds);
    return ok;
}

static bool run_group(Estimate *e, const SpeechBatch *batch, int64_t step, double kinds[WORK_KINDS], Error *err) {
    double loss;
    StepOptions options = {.train = true, .step = (uint32_t)step, .loss_scale = 1};
    plan_forget(e->run->dev);
    bool ok = speech_llm_step(e->run->model, batch, &options, &loss, NULL, err);
    work_seconds(e, kinds);
    add_ops(e);
    return ok;
}

static bool run_steps(Estimate *e, Error *err) {
    double kinds[WORK_KINDS];
    plan_forget(e->run->dev);
    bool ok = update(e, err);
    work_seconds(e, e->seconds);
    for (size_t g = 0; ok && g < e->steps.group_count; g++) {
        SpeechBatch view;
        ok = planned_batch(&e->batch, &e->steps, &e->steps.groups[g], e->run, &view, err) &&
             run_group(e, &view, 1, kinds, err) && encode(e, &view, &e->encoder, err);
        for (int kind = 0; ok && kind < WORK_KINDS; kind++) e->seconds[kind] += kinds[kind] / e->steps.steps;
    }
    e->encoder /= e->steps.steps;
    double ranks = e->gpus, bytes = (double)speech_llm_params(e->run->model)->total * sizeof(float);
    e->reduce = 2 * (ranks - 1) / ranks * bytes / (e->machine->bus_gb_s * 1e9);
    e->whole = e->reduce;
    for (int kind = 0; kind < WORK_KINDS; kind++) e->whole += e->seconds[kind];
    return ok;
}

/* ---- memory ---- */

static double used_gib(const Estimate *e) { return (double)plan_bytes(e->run->dev) / GIB + CUDA_GIB; }

/* The same mixture of clips, with `tokens` tokens in a micro-batch. */
static SpeechLimits scaled(const SpeechLimits *limits, int64_t tokens) {
    double times = (double)tokens / (double)limits->tokens;
    SpeechLimits to = {.clips = (int64_t)((double)limits->clips * times) + 1,
                       .samples = (int64_t)((double)limits->samples * times),
                       .tokens = tokens,
                       .responses = (int64_t)((double)limits->responses * times) + 1,
                       .longest = limits->longest};
    if (to.samples && to.samples < to.longest) to.samples = to.longest;
    if (to.responses > tokens) to.responses = tokens;
    return to;
}

static bool fits(Estimate *e, int64_t tokens) {
    Error ignored = {0};
    SpeechLimits limits = scaled(&e->steps.limits, tokens);
    return speech_llm_plan(e->run->model, &limits, true, NULL, true, &ignored) && used_gib(e) <= e->machine->memory_gib;
}

/* By halving, to a hundredth or so. */
static void find_largest(Estimate *e) {
    int64_t low = 0, high = 256;
    while (high < INT32_MAX / 2 && fits(e, high)) {
        low = high;
        high *= 2;
    }
    while (low && high - low > low / 128 + 1) {
        int64_t middle = low + (high - low) / 2;
        if (fits(e, middle))
            low = middle;
        else
            high = middle;
    }
    e->largest = low;
}

/* ---- report ---- */

static void memory_row(FILE *out, const char *what, double bytes) {
    fprintf(out, "  %-50s %9.2f\n", what, bytes / GIB);
}

static void report_memory(const Estimate *e, FILE *out) {
    SpeechLlmMemory memory = speech_llm_memory(e->run->model);
    const Params *params = speech_llm_params(e->run->model);
    char label[80];
    fprintf(out, "\n%-52s %9s\n", "memory of a GPU", "GiB");
    if (memory.encoder) memory_row(out, "encoder, frozen, bf16", (double)memory.encoder);
    memory_row(out, "LLM, frozen, bf16", (double)memory.llm);
    snprintf(label, sizeof label, "%.1f M trainable: weights, gradients, bf16 copies", (double)params->total / 1e6);
    memory_row(out, label, (double)e->trained);
    memory_row(out, "AdamW's moments, fp32", (double)e->moments);
    if (memory.encoder) memory_row(out, "activations of encoder and adapter", (double)memory.front);
    memory_row(out, "activations of the LLM", (double)(memory.activations - memory.logits));
    memory_row(out, "a chunk of logits", (double)memory.logits);
    memory_row(out, SCRATCH, (double)plan_scratch(e->run->dev));
    memory_row(out, "CUDA and its libraries", CUDA_GIB * GIB);
    double used = used_gib(e), had = e->machine->memory_gib;
    fprintf(out, "  %-50s %9.2f of %.1f: %s\n", "in all", used, had, used <= had ? "fits" : "DOES NOT FIT");
}

static void report_largest(const Estimate *e, FILE *out) {
    if (e->largest)
        fprintf(out, "largest micro-batch of such clips that fits: %" PRId64 " tokens (train.batch_tokens)\n",
                e->largest);
    else
        fprintf(out, "no micro-batch fits, not even 256 tokens of such clips\n");
}

static void time_row(const Estimate *e, FILE *out, const char *what, double seconds) {
    fprintf(out, "  %-50s %9.2f %7.1f %%\n", what, seconds * 1e3, 100 * seconds / e->whole);
}

static int by_seconds(const void *a, const void *b) {
    double x = ((const OpTime *)a)->seconds, y = ((const OpTime *)b)->seconds;
    return (x < y) - (x > y);
}

static void report_ops(Estimate *e, FILE *out) {
    qsort(e->ops, (size_t)e->op_count, sizeof *e->ops, by_seconds);
    fprintf(out, "\n%-52s %9s %9s\n", "the operations that take longest", "ms", "share");
    for (int i = 0; i < e->op_count && i < OPS_SHOWN; i++) time_row(e, out, e->ops[i].op, e->ops[i].seconds);
}

static void report_time(const Estimate *e, FILE *out) {
    const double *s = e->seconds;
    double tokens = (double)e->steps.tokens / e->steps.steps;
    fprintf(out, "\n%-52s %9s %9s\n", "time of a step", "ms", "share");
    time_row(e, out, "matrix products", s[WORK_GEMM]);
    time_row(e, out, "LoRA's own products", s[WORK_LORA]);
    time_row(e, out, "attention, forward", s[WORK_ATTENTION]);
    time_row(e, out, "attention with a bias (WavLM's), forward", s[WORK_ATTENTION_BIAS]);
    time_row(e, out, "attention, backward", s[WORK_ATTENTION_BACKWARD]);
    time_row(e, out, "positional convolution", s[WORK_CONVOLUTION]);
    time_row(e, out, "other kernels", s[WORK_OTHER]);
    time_row(e, out, "optimizer", s[WORK_OPTIMIZER]);
    if (e->gpus > 1) time_row(e, out, "all-reduce, not overlapped", e->reduce);
    time_row(e, out, "in all", e->whole);
    if (e->encoder > 0) time_row(e, out, "of it the encoder (train.encoder_cache saves it)", e->encoder);
    fprintf(out, "  %.3f times its matrix products; %.0f tokens/s, %.2f steps/s\n", e->whole / s[WORK_GEMM],
            tokens / e->whole, 1 / e->whole);
}

static void report_run(const Estimate *e, FILE *out) {
    int64_t steps = e->steps.total;
    if (!steps) {
        fprintf(out, "\nrun: how many steps its epochs have is not known without the data\n");
        return;
    }
    double seconds = (double)steps * e->whole;
    fprintf(out, "\nrun: %" PRId64 " steps in %.2f hours, without loading, validation and checkpoints\n", steps,
            seconds / 3600);
}

static void report_head(const Estimate *e, FILE *out) {
    const RunConfig *config = e->run->config;
    const SpeechLimits *limits = &e->steps.limits;
    fprintf(out, "estimate for %d x %s (%s: %s)\n", e->gpus, e->machine->name, e->machine_path, e->machine->source);
    if (!e->real)
        fprintf(out,
                "data: none at %s, or no tokenizer.json in %s; assumed: clips of 1 to %g s, evenly spread, prompts of "
                "%d and answers of %d tokens\n",
                config->data.shards, config->model.llm, config->data.max_seconds, ASSUMED_PROMPT, ASSUMED_ANSWER);
    fprintf(out, "a step: %.0f tokens in %.1f micro-batches a GPU\n", (double)e->steps.tokens / e->steps.steps,
            (double)e->steps.group_count / e->steps.steps);
    fprintf(out,
            "largest micro-batch: %" PRId64 " clips, %.1f s of audio, %" PRId64 " tokens, %" PRId64
            " of them bear loss\n",
            limits->clips, (double)limits->samples / AUDIO_RATE, limits->tokens, limits->responses);
}

/* ---- all of it ---- */

static void close_all(Estimate *e) {
    planned_batch_free(&e->batch);
    planned_steps_free(&e->steps);
    examples_free(&e->examples);
    run_close(e->run);
    machine_free(e->machine);
    free(e->machine_path);
}

bool estimate(const char *config, const Texts *overrides, const char *machine, FILE *out, Error *err) {
    Estimate e = {0};
    bool ok = read_machine(&e, machine, err) && open_run(&e, config, overrides, err) && open_model(&e, err) &&
              open_data(&e, err) && speech_llm_plan(e.run->model, &e.steps.limits, true, NULL, true, err) &&
              run_steps(&e, err);
    if (ok) {
        report_head(&e, out);
        report_memory(&e, out);
        find_largest(&e);
        report_largest(&e, out);
        report_time(&e, out);
        report_ops(&e, out);
        report_run(&e, out);
    }
    close_all(&e);
    return ok;
}
