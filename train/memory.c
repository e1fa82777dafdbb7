#include "train/memory.h"

#include <inttypes.h>

static const double MIB = 1024.0 * 1024.0, GIB = 1024.0 * 1024.0 * 1024.0;

static bool plan_step(const MemoryPlan *plan, const SpeechLimits *limits, FILE *report, Error *err) {
    return speech_llm_plan(plan->model, limits, true, report, true, err);
}

/* As the trainer allocates it. */
static bool plan_optimizer(MemoryPlan *plan, Error *err) {
    const Params *params = speech_llm_params(plan->model);
    size_t bytes = (size_t)params->total * sizeof(float), before = plan_bytes(plan->dev);
    bool ok = device_alloc(plan->dev, bytes, err) && device_alloc(plan->dev, bytes, err) &&
              device_alloc(plan->dev, sizeof(double), err);
    plan->moments = plan_bytes(plan->dev) - before;
    return ok;
}

bool memory_plan_open(MemoryPlan *plan, const Run *run, const SpeechLimits *limits, Error *err) {
    SpeechLlmConfig config = config_model(run->config);
    config.drawn = true; /* config.json alone is read */
    *plan = (MemoryPlan){.limits = *limits};
    plan->dev = device_open_plan(device_kind(run->dev), device_dtype(run->dev), err);
    if (plan->dev) plan_block_shared(plan->dev, device_block_shared(run->dev));
    plan->model = plan->dev ? speech_llm_open(plan->dev, &config, err) : NULL;
    if (plan->model) {
        SpeechLlmMemory frozen = speech_llm_memory(plan->model);
        plan->trainable = plan_bytes(plan->dev) - frozen.encoder - frozen.llm;
        bool ok = plan_optimizer(plan, err) && plan_step(plan, limits, NULL, err);
        plan->bytes = plan_bytes(plan->dev);
        if (ok) return true;
    }
    memory_plan_close(plan);
    return false;
}

void memory_plan_close(MemoryPlan *plan) {
    speech_llm_close(plan->model);
    device_close(plan->dev);
    *plan = (MemoryPlan){0};
}

/* ---- the largest micro-batch ---- */

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The same mixture of clips with `tokens` tokens. */
static SpeechLimits scaled(const SpeechLimits *limits, int64_t tokens) {
    double times = (double)tokens / (double)limits->tokens;
    SpeechLimits to = *limits;
    to.tokens = tokens;
    to.clips = (int64_t)((double)limits->clips * times) + 1;
    to.samples = limits->samples ? most((int64_t)((double)limits->samples * times), limits->longest) : 0;
    to.responses = (int64_t)((double)limits->responses * times) + 1;
    if (to.responses > tokens) to.responses = tokens;
    return to;
}

static bool fits(const MemoryPlan *plan, int64_t tokens, size_t bytes) {
    Error too_large = {0};
    SpeechLimits limits = scaled(&plan->limits, tokens);
    return plan_step(plan, &limits, NULL, &too_large) && plan_bytes(plan->dev) <= bytes;
}

/* By halving, to a hundredth or so. */
int64_t memory_plan_largest(MemoryPlan *plan, size_t bytes) {
    enum { LEAST = 64 };
    int64_t low = 0, high = LEAST;
    for (; high <= MEMORY_TOKENS_MAX && fits(plan, high, bytes); high *= 2) low = high;
    while (low && high <= MEMORY_TOKENS_MAX && high - low > low / 128 + 1) {
        int64_t middle = low + (high - low) / 2;
        if (fits(plan, middle, bytes))
            low = middle;
        else
            high = middle;
    }
    Error none = {0};
    plan_step(plan, &plan->limits, NULL, &none); /* as it was */
    return low;
}

/* ---- saying it ---- */

static void row(FILE *out, const char *what, size_t bytes) {
    if (bytes) fprintf(out, "  %-46s %12.1f MiB\n", what, (double)bytes / MIB);
}

bool memory_plan_print(MemoryPlan *plan, bool whole, FILE *out, Error *err) {
    const SpeechLimits *limits = &plan->limits;
    const Params *params = speech_llm_params(plan->model);
    if (whole && !plan_step(plan, limits, out, err)) return false;
    SpeechLlmMemory memory = speech_llm_memory(plan->model);
    int64_t trainable = 0;
    for (int i = 0; i < params->count; i++) trainable += params->items[i].value.rows * params->items[i].value.cols;
    fprintf(out, "trainable parameters: %" PRId64 " in %d tensors\n", trainable, params->count);
    fprintf(out,
            "largest micro-batch: %" PRId64 " clips, %.1f s of audio, %" PRId64 " tokens, %" PRId64
            " of them bear loss\n",
            limits->clips, (double)limits->samples / AUDIO_RATE, limits->tokens, limits->responses);
    fprintf(out, "device memory:\n");
    row(out, "encoder weights, frozen", memory.encoder);
    row(out, "LLM weights, frozen", memory.llm);
    row(out, "trainable weights and gradients", plan->trainable);
    row(out, "AdamW's moments", plan->moments);
    row(out, "activations of the adapter", memory.front);
    row(out, limits->features ? "activations of the LLM" : "activations of the encoder, then of the LLM",
        memory.activations);
    row(out, "position tables and scratch",
        plan->bytes - memory.encoder - memory.llm - plan->trainable - plan->moments - memory.front -
            memory.activations);
    row(out, "in all", plan->bytes);
    return true;
}

static bool refuse(const MemoryPlan *plan, int64_t largest, size_t had, Error *err) {
    double needed = (double)plan->bytes / GIB, gib = (double)had / GIB;
    if (largest == 0)
        return fail(err, "the run needs %.2f GiB and the device has %.2f GiB free, too little for any micro-batch",
                    needed, gib);
    return fail(err,
                "micro-batches of %" PRId64 " tokens need %.2f GiB and the device has %.2f GiB free; set "
                "train.batch_tokens to at most %" PRId64,
                plan->limits.tokens, needed, gib, largest);
}

bool memory_plan_check(MemoryPlan *plan, Device *dev, bool loaded, FILE *out, Error *err) {
    Error unknown = {0};
    size_t had, total;
    if (!device_memory_info(dev, &had, &total, &unknown)) return true;
    SpeechLlmMemory memory = speech_llm_memory(plan->model);
    if (loaded) had += memory.encoder + memory.llm + plan->trainable;
    int64_t largest = memory_plan_largest(plan, had);
    row(out, "free on the device, before this run", had);
    fprintf(out, "largest micro-batch of such clips that fits: %" PRId64 " tokens%s (train.batch_tokens)\n", largest,
            largest > MEMORY_TOKENS_MAX / 2 ? " at least" : "");
    bool fits_in = plan->bytes <= had || device_kind(dev) == DEVICE_CPU; /* which may swap */
    return fits_in || refuse(plan, largest, had, err);
}
