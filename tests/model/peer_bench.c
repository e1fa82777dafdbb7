/* Our side of tests/bench/peer.py. Loads its models once, prints "ready", then for every line on stdin does
 * one round and prints its seconds and a number to compare (the output's mean magnitude, the loss); at the
 * end of stdin the peak resident memory in KiB.
 *
 *     peer_bench wavlm WAVLM_DIR BATCH.safetensors                    forward of all clips
 *     peer_bench step WAVLM_DIR LLM_DIR ADAPTER_DIR BATCH.safetensors  a whole training step with LoRA, in packed
 *                                                                      micro-batches as train.batch_tokens: 320
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "model/model.h"
#include "model/wavlm.h"

enum { CLIPS_MAX = 64, RANK = 16, STACK = 5, HIDDEN = 2048, MICRO_TOKENS = 320 };

static const float LEARNING_RATE = 1e-4f, CLIP_NORM = 1.0f, ALPHA = 32;

typedef struct Batch {
    TensorFiles *files;
    int clips;
    int64_t start[CLIPS_MAX + 1], samples, longest;
    const float *wave;
    const int32_t *cu, *ids, *labels;
    int64_t tokens, responses;
} Batch;

static const void *part(const Batch *batch, const char *name, DType dtype, int64_t *count, Error *err) {
    const StoredTensor *tensor = tensors_find(batch->files, name);
    if (!tensor || tensor->dtype != dtype || (uintptr_t)tensor->data % dtype_size(dtype) != 0) {
        fail(err, "the batch needs \"%s\" as aligned %s", name, dtype_name(dtype));
        return NULL;
    }
    *count = (int64_t)(tensor->bytes / dtype_size(dtype));
    return tensor->data;
}

static bool read_batch(Batch *batch, const char *path, Error *err) {
    int64_t count;
    *batch = (Batch){.files = tensors_open(path, err)};
    if (!batch->files || !(batch->wave = part(batch, "waveform", DTYPE_F32, &batch->samples, err))) return false;
    const int64_t *lengths = part(batch, "wave_seqlens", DTYPE_I64, &count, err);
    if (!lengths || count > CLIPS_MAX) return fail(err, "the batch has too many clips");
    batch->clips = (int)count;
    for (int c = 0; c < batch->clips; c++) {
        batch->start[c + 1] = batch->start[c] + lengths[c];
        if (lengths[c] > batch->longest) batch->longest = lengths[c];
    }
    batch->cu = part(batch, "cu_seqlens", DTYPE_I32, &count, err);
    batch->ids = part(batch, "input_ids", DTYPE_I32, &batch->tokens, err);
    batch->labels = part(batch, "labels", DTYPE_I32, &count, err);
    if (!batch->cu || !batch->ids || !batch->labels) return false;
    for (int64_t t = 0; t < batch->tokens; t++) batch->responses += batch->labels[t] >= 0;
    return true;
}

typedef bool Round(void *job, double *number, Error *err);

/* One round a line, until the driver has had enough. */
static bool serve(Round *round, void *job, Error *err) {
    char line[16];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        double number, began = clock_seconds();
        if (!round(job, &number, err)) return false;
        printf("%.6f %.9g\n", clock_seconds() - began, number);
        fflush(stdout);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%ld\n", usage.ru_maxrss);
    return true;
}

/* ---- the encoder alone ---- */

typedef struct EncodeJob {
    Wavlm wavlm;
    WavlmWork work;
    Arena arena;
    Batch batch;
    Tensor states[WAVLM_LAYERS_MAX + 1]; /* the last alone is wanted */
    float *out;
    int64_t frames;
} EncodeJob;

static bool encode_round(void *job, double *number, Error *err) {
    EncodeJob *e = job;
    const WavlmBatch batch = {.count = e->batch.clips, .start = e->batch.start, .wave = e->batch.wave};
    int64_t count = e->frames * e->wavlm.config.hidden;
    if (!wavlm_forward(&e->wavlm, &e->work, &batch, e->states, err) || !device_wait(e->wavlm.dev, err)) return false;
    *number = 0;
    for (int64_t i = 0; i < count; i++) *number += fabs((double)e->out[i]) / (double)count;
    return true;
}

static bool plan_encode(EncodeJob *e, Device *dev, Error *err) {
    const WavlmLimits limits = {.clips = e->batch.clips, .samples = e->batch.samples, .longest = e->batch.longest};
    for (int c = 0; c < e->batch.clips; c++)
        e->frames += wavlm_frames(&e->wavlm.config, e->batch.start[c + 1] - e->batch.start[c]);
    e->out = device_alloc(dev, (size_t)(e->frames * e->wavlm.config.hidden) * sizeof *e->out, err);
    e->states[e->wavlm.config.layers] = tensor_of(e->out, DTYPE_F32, e->frames, e->wavlm.config.hidden);
    return e->out && wavlm_plan(&e->wavlm, &e->work, &limits, &e->arena, err);
}

static bool bench_encode(Device *dev, char **argv, Error *err) {
    EncodeJob job = {.arena = {.name = "encoder"}};
    bool ok = read_batch(&job.batch, argv[3], err) && wavlm_open(&job.wavlm, dev, argv[2], TOGGLE_AUTO, err);
    if (ok) {
        ok = plan_encode(&job, dev, err) && serve(encode_round, &job, err);
        wavlm_work_free(&job.work);
        wavlm_close(&job.wavlm);
    }
    device_free(dev, job.out);
    device_free(dev, job.arena.base);
    arena_free(&job.arena);
    tensors_close(job.batch.files);
    return ok;
}

/* ---- a training step ---- */

typedef struct StepJob {
    Device *dev;
    SpeechLlm *model;
    Batch batch;
    float *m, *v;
    double *sum;
    uint32_t step;
} StepJob;

static bool optimize(StepJob *s, Error *err) {
    Params *params = speech_llm_params(s->model);
    const int64_t total = params->total;
    const Tensor grad = tensor_of(params->grad, DTYPE_F32, 1, total);
    double sum;
    if (!op_sum_squares(s->dev, &(SumSquaresArgs){.x = grad, .out = tensor_of(s->sum, DTYPE_F64, 1, 1)}, err) ||
        !device_download(s->dev, &sum, s->sum, sizeof sum, err))
        return false;
    float norm = (float)sqrt(sum);
    const AdamwSegment whole = {.count = total, .lr = LEARNING_RATE};
    const AdamwArgs args = {.param = tensor_of(params->value, DTYPE_F32, 1, total),
                            .grad = grad,
                            .m = tensor_of(s->m, DTYPE_F32, 1, total),
                            .v = tensor_of(s->v, DTYPE_F32, 1, total),
                            .segments = &whole,
                            .segment_count = 1,
                            .beta1 = 0.9f,
                            .beta2 = 0.999f,
                            .eps = 1e-8f,
                            .grad_scale = norm > CLIP_NORM ? CLIP_NORM / norm : 1,
                            .step = s->step};
    params_changed(params);
    return op_adamw(s->dev, &args, err);
}

/* How many clips from `first` on make a micro-batch: as train.batch_tokens fills one. */
static int clips_together(const Batch *batch, int first) {
    int count = 1;
    while (first + count < batch->clips && batch->cu[first + count + 1] - batch->cu[first] <= MICRO_TOKENS) count++;
    return count;
}

/* Adds a micro-batch's gradients. */
static bool micro_batch(StepJob *s, int first, int count, double *sum, Error *err) {
    int32_t sample[CLIPS_MAX], cu[CLIPS_MAX + 1];
    const int32_t at = s->batch.cu[first];
    for (int c = 0; c < count; c++) sample[c] = first + c;
    for (int c = 0; c <= count; c++) cu[c] = s->batch.cu[first + c] - at;
    const SpeechBatch batch = {.count = count,
                               .wave_start = s->batch.start + first,
                               .wave = s->batch.wave,
                               .sample = sample,
                               .cu_tokens = cu,
                               .ids = s->batch.ids + at,
                               .labels = s->batch.labels + at};
    const StepOptions options = {.train = true, .step = s->step, .loss_scale = 1 / (float)s->batch.responses};
    double part;
    if (!speech_llm_step(s->model, &batch, &options, &part, NULL, err)) return false;
    *sum += part;
    return true;
}

static bool step_round(void *job, double *number, Error *err) {
    StepJob *s = job;
    const Params *params = speech_llm_params(s->model);
    *number = 0;
    s->step++;
    if (!device_fill_zero(s->dev, params->grad, (size_t)params->total * sizeof(float), err)) return false;
    for (int first = 0, count; first < s->batch.clips; first += count) {
        count = clips_together(&s->batch, first);
        if (!micro_batch(s, first, count, number, err)) return false;
    }
    *number /= (double)s->batch.responses;
    return optimize(s, err) && device_wait(s->dev, err);
}

static void raise_to(int64_t *value, int64_t other) {
    if (other > *value) *value = other;
}

static SpeechLimits largest_micro_batch(const Batch *batch) {
    SpeechLimits limits = {.longest = batch->longest};
    for (int first = 0, count; first < batch->clips; first += count) {
        int64_t responses = 0;
        count = clips_together(batch, first);
        for (int32_t t = batch->cu[first]; t < batch->cu[first + count]; t++) responses += batch->labels[t] >= 0;
        raise_to(&limits.clips, count);
        raise_to(&limits.samples, batch->start[first + count] - batch->start[first]);
        raise_to(&limits.tokens, batch->cu[first + count] - batch->cu[first]);
        raise_to(&limits.responses, responses);
    }
    return limits;
}

static bool plan_step(StepJob *s, const char *adapter, Error *err) {
    const SpeechLimits limits = largest_micro_batch(&s->batch);
    const Params *params = speech_llm_params(s->model);
    const size_t bytes = (size_t)params->total * sizeof(float);
    const size_t scratch = sum_squares_scratch(
        s->dev, &(SumSquaresArgs){.x = tensor_of(params->grad, DTYPE_F32, 1, params->total), .out = {0}});
    s->m = device_alloc(s->dev, bytes, err);
    s->v = device_alloc(s->dev, bytes, err);
    s->sum = device_alloc(s->dev, sizeof *s->sum, err);
    return s->m && s->v && s->sum && speech_llm_load(s->model, adapter, err) &&
           speech_llm_plan(s->model, &limits, true, NULL, true, err) && device_reserve_scratch(s->dev, scratch, err);
}

static bool bench_step(Device *dev, char **argv, Error *err) {
    StepJob job = {.dev = dev};
    const SpeechLlmConfig config = {.encoder = argv[2],
                                    .llm = argv[3],
                                    .adapter = {.stack = STACK, .hidden = HIDDEN},
                                    .lora = {.rank = RANK, .alpha = ALPHA, .targets = LORA_ALL}};
    bool ok = read_batch(&job.batch, argv[5], err);
    if (ok) job.model = speech_llm_open(dev, &config, err);
    ok = job.model && plan_step(&job, argv[4], err) && serve(step_round, &job, err);
    speech_llm_close(job.model);
    device_free(dev, job.m);
    device_free(dev, job.v);
    device_free(dev, job.sum);
    tensors_close(job.batch.files);
    return ok;
}

int main(int argc, char **argv) {
    Error err = {0};
    bool encode = argc == 4 && !strcmp(argv[1], "wavlm"), step = argc == 6 && !strcmp(argv[1], "step");
    if (!encode && !step) fail_usage(&err, "usage: peer_bench wavlm DIR BATCH | step WAVLM LLM ADAPTER BATCH");
    Device *dev = encode || step ? device_open(DEVICE_CPU, 0, &err) : NULL;
    if (dev) encode ? bench_encode(dev, argv, &err) : bench_step(dev, argv, &err);
    device_close(dev);
    if (err.exit_code) fprintf(stderr, "peer_bench: %s\n", err.text);
    return err.exit_code;
}
