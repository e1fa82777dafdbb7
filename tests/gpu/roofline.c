/* Every operation at the shapes of WavLM large and Qwen2.5 7B on a micro-batch of clips of 1 to 15 s: what it reaches
 * of the machine's measured ceilings, a copy of memory and a large product.
 *
 *     roofline cuda|cpu [small]
 *
 * A line of JSON for each: {"op", "kind", "us", "gb_s", "of_copy", "tflop_s", "of_matmul"}. gb_s counts compulsory
 * bytes (ops.h's cost), so that needless traffic shows as a low share; what fits in the L2 cache may pass 1. The kind
 * says which of the two to read: "stream", "gemm", "attention", "convolution". */
#include "kernels/op_list.h"
#include "tests/gpu/bench.h"

#if defined(SEMOLLM_CUDA) && !defined(SEMOLLM_EMU)
#include <cuda_runtime_api.h>
#endif

typedef struct Sizes {
    int64_t clips, tokens, width, ffn, vocab;
    int heads, kv_heads, dim;
    int64_t frames, samples, encoder, encoder_ffn, channels;
    int encoder_heads;
} Sizes;

typedef struct Bench {
    Device *dev;
    Error *err;
    Sizes s;
    double copy, matmul, least; /* per second; seconds of a run */
    Packed sequences, clips;    /* of tokens and of frames */
    Packed samples, narrow[8];  /* of samples, and of what the convolutions leave */
    int32_t *position, *index, *target;
    void *memory[256];
    int memories;
} Bench;

#define CALL(Name, name)                                                                                               \
    __attribute__((unused)) static bool call_##name(Device *dev, const void *args, Error *err) {                       \
        return op_##name(dev, args, err);                                                                              \
    }
OP_LIST(CALL)

/* ---- memory ---- */

static void *keep(Bench *b, size_t bytes) {
    void *memory = b->memories < 256 ? device_alloc(b->dev, bytes, b->err) : NULL;
    if (!memory) {
        fprintf(stderr, "roofline: %s\n", b->err->text);
        exit(1);
    }
    return b->memory[b->memories++] = memory;
}

static void forget(Bench *b, int kept) {
    while (b->memories > kept) device_free(b->dev, b->memory[--b->memories]);
}

/* Random numbers as the device stores them. */
static Tensor stored(Bench *b, int64_t rows, int64_t cols) {
    DType dtype = device_dtype(b->dev);
    size_t bytes = (size_t)(rows * cols) * dtype_size(dtype);
    Tensor t = tensor_of(keep(b, bytes), dtype, rows, cols);
    if (!draw_weights(b->dev, t, 1, b->memories, b->err)) fprintf(stderr, "roofline: %s\n", b->err->text);
    return t;
}

/* fp32 ones. */
static Tensor full(Bench *b, int64_t rows, int64_t cols) {
    size_t count = (size_t)(rows * cols);
    Tensor t = tensor_of(keep(b, count * sizeof(float)), DTYPE_F32, rows, cols);
    float *host = malloc(count * sizeof *host);
    for (size_t i = 0; host && i < count; i++) host[i] = 1.0f;
    device_upload(b->dev, t.data, host, count * sizeof *host, b->err);
    device_wait(b->dev, b->err);
    free(host);
    return t;
}

static int32_t *table(Bench *b, const int32_t *host, int64_t count) {
    int32_t *to = keep(b, (size_t)count * sizeof *to);
    device_upload(b->dev, to, host, (size_t)count * sizeof *to, b->err);
    device_wait(b->dev, b->err);
    return to;
}

static Packed packed(Bench *b, const int64_t *lengths, int64_t count) {
    int32_t *cu = calloc((size_t)count + 1, sizeof *cu);
    if (!cu) exit(1);
    for (int64_t i = 0; i < count; i++) cu[i + 1] = cu[i] + (int32_t)lengths[i];
    Packed p = packed_of(cu, (int32_t)count);
    p.device = table(b, cu, count + 1);
    return p;
}

/* ---- measuring ---- */

static void report(const Bench *b, const char *label, const char *kind, OpCost cost, double seconds);

#ifndef COUNTED /* tests/emu/count.c has its own */
static void report(const Bench *b, const char *label, const char *kind, OpCost cost, double seconds) {
    double bytes = cost.bytes / seconds, flops = cost.flops / seconds;
    printf("{\"op\": \"%s\", \"kind\": \"%s\", \"us\": %.2f, \"gb_s\": %.1f, \"of_copy\": %.3f, \"tflop_s\": %.2f, "
           "\"of_matmul\": %.3f}\n",
           label, kind, seconds * 1e6, bytes / 1e9, b->copy > 0 ? bytes / b->copy : 0, flops / 1e12,
           b->matmul > 0 ? flops / b->matmul : 0);
    fflush(stdout);
}
#endif

static double measure(Bench *b, const char *label, const char *kind, BenchCall *call, const void *args, OpCost cost,
                      size_t scratch) {
    double seconds;
    Error err = {0};
    if (device_reserve_scratch(b->dev, scratch, &err) && bench_seconds(b->dev, call, args, b->least, &seconds, &err)) {
        report(b, label, kind, cost, seconds);
        return seconds;
    }
    printf("{\"op\": \"%s\", \"kind\": \"%s\", \"error\": \"%s\"}\n", label, kind, bench_escape(err.text));
    fflush(stdout);
    return INFINITY;
}

#define MEASURE(b, label, kind, Name, name, ...)                                                                       \
    do {                                                                                                               \
        const Name##Args args = {__VA_ARGS__};                                                                         \
        measure(b, label, kind, call_##name, &args, name##_cost(&args), name##_scratch((b)->dev, &args));              \
    } while (0)

/* ---- ceilings ---- */

/* The driver's own copy where there is one. */
static bool run_copy(Device *dev, const void *args, Error *err) {
    const ActivationArgs *a = args;
#if defined(SEMOLLM_CUDA) && !defined(SEMOLLM_EMU)
    size_t bytes = (size_t)(a->x.rows * a->x.cols) * dtype_size(a->x.dtype);
    if (device_kind(dev) == DEVICE_CUDA) {
        bool ok = cudaMemcpy(a->y.data, a->x.data, bytes, cudaMemcpyDeviceToDevice) == cudaSuccess &&
                  cudaDeviceSynchronize() == cudaSuccess;
        return ok || fail(err, "cudaMemcpy failed");
    }
#endif
    return op_activation(dev, a, err);
}

__attribute__((unused)) static void measure_ceilings(Bench *b, bool small) {
    int kept = b->memories;
    int64_t side = small ? 256 : 8192, rows = small ? 256 : 1 << 17, cols = small ? 1024 : 1 << 13;
    Tensor from = stored(b, rows, cols),
           to = tensor_of(keep(b, (size_t)(rows * cols) * dtype_size(from.dtype)), from.dtype, rows, cols);
    const ActivationArgs copy = {.x = from, .y = to, .act = ACT_NONE};
    double seconds = measure(b, "copy", "ceiling", run_copy, &copy, activation_cost(&copy), 0);
    b->copy = activation_cost(&copy).bytes / seconds;
    forget(b, kept);
    Tensor a = stored(b, side, side), w = stored(b, side, side), c = stored(b, side, side);
    const MatmulArgs product = {.a = a, .b = w, .c = c, .transpose_b = true, .alpha = 1};
    seconds =
        measure(b, "matmul", "ceiling", call_matmul, &product, matmul_cost(&product), matmul_scratch(b->dev, &product));
    b->matmul = matmul_cost(&product).flops / seconds;
    printf("{\"ceilings\": {\"copy_tb_s\": %.4f, \"matmul_tflops\": %.2f}}\n", b->copy / 1e12, b->matmul / 1e12);
    forget(b, kept);
}

/* ---- the LLM's operations ---- */

static void llm_norms(Bench *b) {
    int64_t n = b->s.tokens, d = b->s.width;
    Tensor x = stored(b, n, d), r = stored(b, n, d), y = stored(b, n, d);
    Tensor gamma = stored(b, 1, d), rstd = full(b, n, 1);
    MEASURE(b, "rms_norm", "stream", RmsNorm, rms_norm, .x = x, .gamma = gamma, .eps = 1e-6f, .groups = 1, .y = y);
    MEASURE(b, "rms_norm_backward", "stream", RmsNormBackward, rms_norm_backward, .x = r, .gamma = gamma, .rstd = rstd,
            .dy = y, .groups = 1, .dx = x, .residual_grad = x);
    MEASURE(b, "add", "stream", Add, add, .a = x, .b = r, .y = y, .alpha = 1, .beta = 1);
    MEASURE(b, "gather_rows", "stream", GatherRows, gather_rows, .x = x, .index = b->index, .y = y);
    MEASURE(b, "scatter_rows", "stream", ScatterRows, scatter_rows, .x = x, .index = b->index, .y = y);
    MEASURE(b, "dropout", "stream", Dropout, dropout, .x = x, .y = y,
            .dropout = {.p = 0.1f, .sample = b->index, .position = b->position});
}

static void llm_mlp(Bench *b) {
    int64_t n = b->s.tokens, f = b->s.ffn;
    Tensor both = stored(b, n, 2 * f), y = stored(b, n, f), dy = stored(b, n, f);
    Tensor gate = tensor_cols(both, 0, f), up = tensor_cols(both, f, f);
    MEASURE(b, "swiglu", "stream", Swiglu, swiglu, .gate = gate, .up = up, .y = y);
    MEASURE(b, "swiglu_backward", "stream", SwigluBackward, swiglu_backward, .gate = gate, .up = up, .dy = dy,
            .dgate = gate, .dup = up);
    enum { RANK = 16 };
    Lora down = {.a = full(b, RANK, f), .b = full(b, b->s.width, RANK), .scale = 1};
    Lora one = {.a = full(b, RANK, b->s.width), .b = full(b, f, RANK), .scale = 1}, other = one;
    Tensor low = stored(b, n, RANK), both_low = stored(b, n, 2 * RANK), both_dlow = stored(b, n, 2 * RANK);
    Tensor da = full(b, RANK, f), db[2] = {full(b, f, RANK), full(b, f, RANK)};
    MEASURE(b, "swiglu with LoRA", "stream", Swiglu, swiglu, .gate = gate, .up = up, .y = y, .down = down, .low = low);
    MEASURE(b, "swiglu_backward with LoRA", "stream", SwigluBackward, swiglu_backward, .gate = gate, .up = up, .dy = dy,
            .dgate = gate, .dup = up, .down = {.lora = down, .dlow = low, .da = da},
            .gate_up = {.lora = {one, other}, .low = both_low, .dlow = both_dlow, .db = {db[0], db[1]}});
}

static void llm_loss(Bench *b) {
    int64_t rows = (1 << 24) / b->s.vocab < b->s.tokens ? (1 << 24) / b->s.vocab : b->s.tokens;
    Tensor logits = stored(b, rows, b->s.vocab), loss = full(b, 1, rows);
    MEASURE(b, "cross_entropy", "stream", CrossEntropy, cross_entropy, .logits = logits, .target = b->target,
            .scale = 1e-3f, .gradient = true, .row_loss = loss);
    int64_t few = rows < 64 ? rows : 64; /* of a step of generation */
    Tensor token = full(b, 1, few), logit = full(b, 1, few), log_sum = full(b, 1, few);
    token.dtype = DTYPE_I32;
    MEASURE(b, "greedy", "stream", Greedy, greedy, .logits = tensor_rows(logits, 0, few), .token = token,
            .logit = logit, .log_sum = log_sum);
}

static void llm_attention(Bench *b) {
    int64_t n = b->s.tokens, q = (int64_t)b->s.heads * b->s.dim, kv = (int64_t)b->s.kv_heads * b->s.dim;
    Tensor qkv = stored(b, n, q + 2 * kv), out = stored(b, n, q), lse = full(b, n, b->s.heads);
    Tensor dqkv = stored(b, n, q + 2 * kv), dout = stored(b, n, q), rope = full(b, b->sequences.longest, b->s.dim);
    const AttentionArgs forward = {.q = tensor_cols(qkv, 0, q),
                                   .k = tensor_cols(qkv, q, kv),
                                   .v = tensor_cols(qkv, q + kv, kv),
                                   .queries = b->sequences,
                                   .keys = b->sequences,
                                   .heads = b->s.heads,
                                   .kv_heads = b->s.kv_heads,
                                   .dim = b->s.dim,
                                   .scale = 1.0f / sqrtf((float)b->s.dim),
                                   .causal = true,
                                   .out = out,
                                   .lse = lse};
    MEASURE(b, "rope", "stream", Rope, rope, .x = forward.q, .position = b->position, .table = rope,
            .heads = b->s.heads, .dim = b->s.dim);
    measure(b, "attention, causal", "attention", call_attention, &forward, attention_cost(&forward),
            attention_scratch(b->dev, &forward));
    MEASURE(b, "attention_backward", "attention", AttentionBackward, attention_backward, .forward = forward,
            .dout = dout, .dq = tensor_cols(dqkv, 0, q), .dk = tensor_cols(dqkv, q, kv),
            .dv = tensor_cols(dqkv, q + kv, kv));
    MEASURE(b, "attention_backward and RoPE's", "attention", AttentionBackward, attention_backward, .forward = forward,
            .dout = dout, .dq = tensor_cols(dqkv, 0, q), .dk = tensor_cols(dqkv, q, kv),
            .dv = tensor_cols(dqkv, q + kv, kv), .rope = rope, .position = b->position);
}

/* A linear layer with LoRA of rank 16 on its one part, with room for it in the product, and without; with the
 * residual stream where it writes that. */
static void linear(Bench *b, const char *name, int64_t in, int64_t out) {
    char label[80];
    int kept = b->memories;
    int64_t n = b->s.tokens, rank = 16, tail = linear_tail(b->dev, rank);
    Tensor x = tensor_cols(stored(b, n, in + tail), 0, in), dx = tensor_cols(stored(b, n, in + tail), 0, in);
    Tensor y = tensor_cols(stored(b, n, out + tail), 0, out), weight = stored(b, out + tail, in + tail);
    weight = tensor_cols(tensor_rows(weight, 0, out), 0, in);
    Lora lora = {.a = full(b, rank, in), .b = full(b, out, rank), .scale = 1};
    Tensor low = stored(b, n, rank), da = full(b, rank, in), db = full(b, out, rank);
    snprintf(label, sizeof label, "linear, %s", name);
    MEASURE(b, label, "gemm", Linear, linear, .x = x, .weight = weight, .y = y);
    snprintf(label, sizeof label, "linear + residual, %s", name);
    if (out == b->s.width)
        MEASURE(b, label, "gemm", Linear, linear, .x = x, .weight = weight, .residual = stored(b, n, out), .y = y);
    snprintf(label, sizeof label, "linear with LoRA, %s", name);
    MEASURE(b, label, "gemm", Linear, linear, .x = x, .weight = weight, .lora = {lora}, .tail = tail, .y = y,
            .low = low);
    snprintf(label, sizeof label, "linear_backward, %s", name);
    MEASURE(b, label, "gemm", LinearBackward, linear_backward, .weight = weight, .dy = y, .dx = dx);
    snprintf(label, sizeof label, "linear_backward with LoRA, %s", name);
    MEASURE(b, label, "gemm", LinearBackward, linear_backward, .x = x, .weight = weight, .lora = {lora}, .tail = tail,
            .low = low, .dy = y, .dx = dx, .da = {da}, .db = {db});
    snprintf(label, sizeof label, "linear_backward with LoRA after a norm, %s", name);
    MEASURE(b, label, "gemm", LinearBackward, linear_backward, .x = x, .gamma = stored(b, 1, in), .rstd = full(b, n, 1),
            .weight = weight, .lora = {lora}, .tail = tail, .low = low, .dy = y, .dx = dx, .da = {da}, .db = {db});
    forget(b, kept);
}

static void optimizer(Bench *b) {
    int64_t total = b->s.width > 1000 ? 60 << 20 : 1 << 16;
    Tensor param = full(b, 1, total), grad = full(b, 1, total), m = full(b, 1, total), v = full(b, 1, total);
    Tensor out = tensor_of(keep(b, sizeof(double)), DTYPE_F64, 1, 1);
    const AdamwSegment segment = {.count = total, .lr = 1e-4f, .decay = 0.01f};
    MEASURE(b, "sum_squares", "stream", SumSquares, sum_squares, .x = grad, .out = out);
    MEASURE(b, "adamw", "stream", Adamw, adamw, .param = param, .grad = grad, .m = m, .v = v, .segments = &segment,
            .segment_count = 1, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .grad_scale = 1, .step = 1);
}

/* ---- the encoder's ---- */

/* Of kernel 3 and stride 2, for every second row of the output: its windows do not overlap (model/wavlm.c). */
static void half_convolution(Bench *b, int number) {
    char label[40];
    int kept = b->memories;
    int64_t rows = b->narrow[number + 1].total / 2, c = b->s.channels;
    Tensor windows = stored(b, rows, 4 * c), weight = stored(b, c, 3 * c), y = stored(b, rows, 2 * c);
    snprintf(label, sizeof label, "linear, half of conv %d", number);
    MEASURE(b, label, "gemm", Linear, linear, .x = tensor_cols(windows, 0, 3 * c), .weight = weight,
            .y = tensor_cols(y, 0, c));
    forget(b, kept);
}

static void encoder_convolutions(Bench *b) {
    Tensor wave = full(b, b->samples.total, 1), x = stored(b, b->samples.total, 1);
    MEASURE(b, "wave_norm", "stream", WaveNorm, wave_norm, .x = wave, .segments = b->samples, .y = x);
    int64_t c = b->s.channels;
    int kept = b->memories;
    Tensor taps = stored(b, c, 10), first = stored(b, b->narrow[1].total, c), gamma = stored(b, 1, c);
    MEASURE(b, "conv 0", "stream", Conv, conv, .x = x, .weight = taps, .kernel = 10, .stride = 5,
            .in_segments = b->samples, .out_segments = b->narrow[1], .act = ACT_NONE, .y = first);
    MEASURE(b, "conv 0, normed, GELU", "stream", Conv, conv, .x = x, .weight = taps, .gamma = gamma, .beta = gamma,
            .eps = 1e-5f, .kernel = 10, .stride = 5, .in_segments = b->samples, .out_segments = b->narrow[1],
            .act = ACT_GELU, .y = first);
    forget(b, kept);
    half_convolution(b, 1); /* the later ones are alike, and shorter */
    half_convolution(b, 2);
    int64_t n = b->s.frames, h = b->s.encoder;
    Tensor u = stored(b, n, h), y = stored(b, n, h), bias = stored(b, 1, h);
    Tensor weight = stored(b, h, 128 * (h / 16));
    MEASURE(b, "pos_conv", "convolution", PosConv, pos_conv, .x = u, .weight = weight, .bias = bias, .kernel = 128,
            .groups = 16, .segments = b->clips, .y = y);
    forget(b, kept);
}

static void encoder_layer(Bench *b) {
    int64_t n = b->s.frames, h = b->s.encoder, f = b->s.encoder_ffn;
    int heads = b->s.encoder_heads, dim = (int)(h / heads);
    Tensor x = stored(b, n, h), y = stored(b, n, h), gamma = stored(b, 1, h);
    Tensor qkv = stored(b, n, 3 * h), gate = full(b, n, heads), bias = full(b, heads, 2 * b->clips.longest - 1);
    Tensor small = stored(b, 8, dim), row = stored(b, 1, 8), scale = stored(b, 1, heads), wide = stored(b, n, f);
    MEASURE(b, "layer_norm", "stream", LayerNorm, layer_norm, .x = x, .gamma = gamma, .beta = gamma, .eps = 1e-5f,
            .y = y);
    MEASURE(b, "rel_gate", "stream", RelGate, rel_gate, .u = x, .weight = small, .bias = row, .scale = scale,
            .heads = heads, .gate = gate);
    MEASURE(b, "attention, gated bias", "attention", Attention, attention, .q = tensor_cols(qkv, 0, h),
            .k = tensor_cols(qkv, h, h), .v = tensor_cols(qkv, 2 * h, h), .queries = b->clips, .keys = b->clips,
            .heads = heads, .kv_heads = heads, .dim = dim, .scale = 1.0f / sqrtf((float)dim), .bias = bias,
            .gate = gate, .out = y);
    MEASURE(b, "GELU", "stream", Activation, activation, .x = wide, .y = wide, .act = ACT_GELU);
}

static void adapter(Bench *b) {
    enum { STATES = 25, STACK = 5 };
    int64_t n = b->s.frames, h = b->s.encoder;
    Tensor states = stored(b, n, STATES * h), y = stored(b, n, h), weight = full(b, 1, STATES);
    LayerMixArgs mix = {.count = STATES, .weight = weight, .y = y};
    LayerMixBackwardArgs back = {.count = STATES, .weight = weight, .dy = y, .dweight = full(b, 1, STATES)};
    for (int i = 0; i < STATES; i++) mix.state[i] = back.state[i] = tensor_cols(states, i * h, h);
    measure(b, "layer_mix", "stream", call_layer_mix, &mix, layer_mix_cost(&mix), layer_mix_scratch(b->dev, &mix));
    measure(b, "layer_mix_backward", "stream", call_layer_mix_backward, &back, layer_mix_backward_cost(&back),
            layer_mix_backward_scratch(b->dev, &back));
    int64_t lengths[1024];
    for (int32_t c = 0; c < b->clips.count; c++)
        lengths[c] = (b->clips.host[c + 1] - b->clips.host[c] + STACK - 1) / STACK;
    Packed rows = packed(b, lengths, b->clips.count);
    Tensor stacked = stored(b, rows.total, STACK * h);
    MEASURE(b, "stack_frames", "stream", StackFrames, stack_frames, .x = y, .frames = b->clips, .rows = rows,
            .k = STACK, .y = stacked);
    MEASURE(b, "stack_frames_backward", "stream", StackFramesBackward, stack_frames_backward, .dy = stacked,
            .frames = b->clips, .rows = rows, .k = STACK, .dx = y);
}

/* ---- all of it ---- */

/* As many clips as have `most` tokens together. */
static void make_tables(Bench *b, int64_t most) {
    static const int kernel[] = {10, 3, 3, 3, 3, 2, 2}, stride[] = {5, 2, 2, 2, 2, 2, 2};
    int64_t tokens[1024], samples[1024], lengths[1024], clips = 0, total = 0;
    for (; clips < 1024; clips++) {
        samples[clips] = bench_samples(clips);
        tokens[clips] = BENCH_PROMPT + BENCH_ANSWER + (bench_frames(samples[clips]) + 4) / 5;
        if (clips > 0 && total + tokens[clips] > most) break;
        total += tokens[clips];
    }
    b->s.clips = clips;
    b->sequences = packed(b, tokens, clips);
    b->samples = packed(b, samples, clips);
    b->narrow[0] = b->samples;
    for (int i = 0; i < 7; i++) {
        for (int64_t c = 0; c < clips; c++) {
            lengths[c] = (samples[c] - kernel[i]) / stride[i] + 1;
            samples[c] = lengths[c];
        }
        b->narrow[i + 1] = packed(b, lengths, clips);
    }
    b->clips = b->narrow[7];
    b->s.tokens = total;
    b->s.frames = b->clips.total;
    b->s.samples = b->samples.total;
    int32_t *host = calloc((size_t)total, sizeof *host);
    if (!host) exit(1);
    b->target = table(b, host, total);
    for (int64_t s = 0; s < clips; s++)
        for (int32_t t = b->sequences.host[s]; t < b->sequences.host[s + 1]; t++) host[t] = t - b->sequences.host[s];
    b->position = table(b, host, total);
    for (int64_t i = 0; i < total; i++) host[i] = (int32_t)(total - 1 - i);
    b->index = table(b, host, total);
    free(host);
}

#ifndef COUNTED
int main(int argc, char **argv) {
    Error err = {0};
    device_calm_idle_threads(argv);
    bool small = argc > 2 && !strcmp(argv[2], "small");
    Device *dev = bench_device(argc > 1 ? argv[1] : "cuda", &err);
    if (!dev) {
        fprintf(stderr, "roofline: %s\n", err.text);
        return 1;
    }
    Bench b = {.dev = dev, .err = &err, .least = small ? 0 : 0.01};
    b.s = small ? (Sizes){.width = 128,
                          .ffn = 320,
                          .vocab = 512,
                          .heads = 4,
                          .kv_heads = 2,
                          .dim = 32,
                          .encoder = 128,
                          .encoder_ffn = 256,
                          .channels = 64,
                          .encoder_heads = 4}
                : (Sizes){.width = 3584,
                          .ffn = 18944,
                          .vocab = 152064,
                          .heads = 28,
                          .kv_heads = 4,
                          .dim = 128,
                          .encoder = 1024,
                          .encoder_ffn = 4096,
                          .channels = 512,
                          .encoder_heads = 16};
    measure_ceilings(&b, small);
    make_tables(&b, small ? 300 : 16384);
    void (*const parts[])(Bench *) = {llm_norms,     llm_mlp, llm_attention, llm_loss, optimizer, encoder_convolutions,
                                      encoder_layer, adapter};
    int kept = b.memories;
    int64_t qkv = (int64_t)(b.s.heads + 2 * b.s.kv_heads) * b.s.dim;
    linear(&b, "qkv", b.s.width, qkv);
    linear(&b, "gate and up", b.s.width, 2 * b.s.ffn);
    linear(&b, "down", b.s.ffn, b.s.width);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i](&b);
        forget(&b, kept);
    }
    forget(&b, 0);
    device_close(dev);
    return 0;
}
#endif
