#include "kernels/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/plan_impl.h"

enum { ALIGNMENT = 256 };
static const uintptr_t FIRST_ADDRESS = (uintptr_t)1 << 44; /* no process has memory there to be touched */

typedef struct Block {
    uintptr_t address;
    size_t bytes;
} Block;

struct Plan {
    uintptr_t next;
    size_t bytes;
    Block *blocks;
    size_t block_count, block_capacity;
    PlannedWork *work;
    size_t work_count, work_capacity;
};

Device *device_open_plan(DeviceKind of, DType dtype, Error *err) {
    Device *dev = memory_new(1, sizeof *dev, err);
    struct Plan *plan = dev ? memory_new(1, sizeof *plan, err) : NULL;
    if (!plan) {
        free(dev);
        return NULL;
    }
    plan->next = FIRST_ADDRESS;
    *dev = (Device){.kind = of, .dtype = dtype, .plan = plan};
    if (of == DEVICE_CUDA) plan_block_shared(dev, 227 * 1024);
    return dev;
}

void plan_block_shared(Device *dev, size_t bytes) { dev->block_shared = bytes; }

size_t device_block_shared(const Device *dev) { return dev->block_shared; }

bool device_plans(const Device *dev) { return dev->plan != NULL; }

void plan_close(struct Plan *plan) {
    free(plan->blocks);
    free(plan->work);
    free(plan);
}

/* ---- memory ---- */

void *plan_alloc(Device *dev, size_t bytes, Error *err) {
    struct Plan *plan = dev->plan;
    if (bytes > SIZE_MAX / 4 - plan->next || plan->next > SIZE_MAX / 4) {
        fail(err, "device memory: %zu bytes are more than can be addressed", bytes);
        return NULL;
    }
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!memory_grow(&plan->blocks, plan->block_count, &plan->block_capacity, sizeof *plan->blocks, err)) return NULL;
    plan->blocks[plan->block_count++] = (Block){.address = plan->next, .bytes = rounded};
    void *address = (void *)plan->next;
    plan->next += rounded ? rounded : ALIGNMENT;
    plan->bytes += rounded;
    return address;
}

void plan_free(Device *dev, void *memory) {
    struct Plan *plan = dev->plan;
    for (size_t i = 0; memory && i < plan->block_count; i++)
        if (plan->blocks[i].address == (uintptr_t)memory) {
            plan->bytes -= plan->blocks[i].bytes;
            plan->blocks[i] = plan->blocks[--plan->block_count];
            return;
        }
}

size_t plan_bytes(const Device *dev) { return dev->plan->bytes; }

size_t plan_scratch(const Device *dev) { return dev->scratch_bytes; }

/* ---- operations ---- */

const PlannedWork *plan_work(const Device *dev, size_t *count) {
    *count = dev->plan->work_count;
    return dev->plan->work;
}

void plan_forget(Device *dev) { dev->plan->work_count = 0; }

static bool note(Device *dev, const char *op, WorkKind kind, OpCost cost, Error *err) {
    struct Plan *plan = dev->plan;
    if (cost.bytes == 0 && cost.flops == 0) return true;
    if (!memory_grow(&plan->work, plan->work_count, &plan->work_capacity, sizeof *plan->work, err)) return false;
    plan->work[plan->work_count++] = (PlannedWork){.op = op, .kind = kind, .cost = cost};
    return true;
}

/* A matrix product, which cuBLASLt makes. */
static bool note_gemm(Device *dev, const char *op, OpCost cost, int64_t m, int64_t n, int64_t k, bool transposed,
                      Error *err) {
    if (!note(dev, op, WORK_GEMM, cost, err)) return false;
    struct Plan *plan = dev->plan;
    if (cost.flops == 0) return true;
    PlannedWork *work = &plan->work[plan->work_count - 1];
    work->m = m;
    work->n = n;
    work->k = k;
    work->transposed = transposed;
    return true;
}

#define NOTE(Name, name, kind)                                                                                         \
    bool plan_##name(Device *dev, const Name##Args *a, Error *err) {                                                   \
        return note(dev, #name, kind, name##_cost(a), err);                                                            \
    }

NOTE(LayerNorm, layer_norm, WORK_OTHER)
NOTE(LayerNormBackward, layer_norm_backward, WORK_OTHER)
NOTE(RmsNorm, rms_norm, WORK_OTHER)
NOTE(RmsNormBackward, rms_norm_backward, WORK_OTHER)
NOTE(SegmentNorm, segment_norm, WORK_OTHER)
NOTE(WaveNorm, wave_norm, WORK_OTHER)
NOTE(Conv, conv, WORK_OTHER) /* bound by what it writes */
NOTE(PosConv, pos_conv, WORK_CONVOLUTION)
NOTE(RelGate, rel_gate, WORK_OTHER)
NOTE(AttentionBackward, attention_backward, WORK_ATTENTION_BACKWARD)
NOTE(CacheAppend, cache_append, WORK_OTHER)
NOTE(CacheCopy, cache_copy, WORK_OTHER)
NOTE(AttentionCached, attention_cached, WORK_OTHER) /* bound by the cache it reads */
NOTE(Rope, rope, WORK_OTHER)
NOTE(Swiglu, swiglu, WORK_OTHER)
NOTE(SwigluBackward, swiglu_backward, WORK_OTHER)
NOTE(Activation, activation, WORK_OTHER)
NOTE(ActivationBackward, activation_backward, WORK_OTHER)
NOTE(Convert, convert, WORK_OTHER)
NOTE(Add, add, WORK_OTHER)
NOTE(Dropout, dropout, WORK_OTHER)
NOTE(Noise, noise, WORK_OTHER)
NOTE(GatherRows, gather_rows, WORK_OTHER)
NOTE(ScatterRows, scatter_rows, WORK_OTHER)
NOTE(StackFrames, stack_frames, WORK_OTHER)
NOTE(StackFramesBackward, stack_frames_backward, WORK_OTHER)
NOTE(LayerMix, layer_mix, WORK_OTHER)
NOTE(LayerMixBackward, layer_mix_backward, WORK_OTHER)
NOTE(SegmentMean, segment_mean, WORK_OTHER)
NOTE(SegmentMeanBackward, segment_mean_backward, WORK_OTHER)
NOTE(CrossEntropy, cross_entropy, WORK_OTHER)
NOTE(Greedy, greedy, WORK_OTHER)
NOTE(SumSquares, sum_squares, WORK_OPTIMIZER)
NOTE(Adamw, adamw, WORK_OPTIMIZER)

bool plan_matmul(Device *dev, const MatmulArgs *a, Error *err) {
    int64_t k = a->transpose_a ? a->a.rows : a->a.cols;
    return note_gemm(dev, "matmul", matmul_cost(a), a->c.rows, a->c.cols, k, a->transpose_b, err);
}

bool plan_attention(Device *dev, const AttentionArgs *a, Error *err) {
    WorkKind kind = tensor_present(a->bias) ? WORK_ATTENTION_BIAS : WORK_ATTENTION;
    return note(dev, "attention", kind, attention_cost(a), err);
}

/* A product on its own, [m, k] by [k, n], its result in `c`. */
static OpCost product_cost(Tensor a, bool transpose_a, Tensor b, bool transpose_b, Tensor c, float beta) {
    return matmul_cost(&(MatmulArgs){
        .a = a, .b = b, .c = c, .transpose_a = transpose_a, .transpose_b = transpose_b, .alpha = 1, .beta = beta});
}

static int64_t ranks(const Lora *lora) {
    int64_t sum = 0;
    for (int i = 0; i < LINEAR_PARTS; i++) sum += tensor_present(lora[i].a) ? lora[i].a.rows : 0;
    return sum;
}

/* Rank columns more in a large product that runs anyway. */
static bool note_wider(Device *dev, const char *op, int64_t n, int64_t width, int64_t rank, Error *err) {
    return note(dev, op, WORK_LORA, (OpCost){.flops = 2.0 * (double)n * (double)width * (double)rank}, err);
}

bool plan_linear(Device *dev, const LinearArgs *a, Error *err) {
    static const char op[] = "linear's LoRA";
    LinearArgs plain = *a;
    memset(plain.lora, 0, sizeof plain.lora);
    plain.low = (Tensor){0};
    int64_t n = a->x.rows, rank = ranks(a->lora);
    if (!note_gemm(dev, "linear", linear_cost(&plain), n, a->weight.rows, a->weight.cols, true, err)) return false;
    double y = (double)n * (double)a->y.cols * (double)dtype_size(a->y.dtype);
    if (a->act == ACT_GELU && !note(dev, "linear's GELU", WORK_OTHER, (OpCost){.bytes = 2 * y}, err)) return false;
    Tensor down = tensor_of(a->weight.data, a->x.dtype, rank, a->x.cols);
    OpCost low = a->low_known ? (OpCost){0} : product_cost(a->x, false, down, true, a->low, 0);
    return rank == 0 || (note(dev, op, WORK_LORA, low, err) && note_wider(dev, op, n, a->y.cols, rank, err));
}

static OpCost both(OpCost a, OpCost b) { return (OpCost){a.bytes + b.bytes, a.flops + b.flops}; }

/* One read of dy gives dy·B, for dx and da, and dyᵀ·low; one of x its product with the former. */
static bool note_lora_backward(Device *dev, const LinearBackwardArgs *a, int64_t rank, Error *err) {
    static const char op[] = "linear_backward's LoRA";
    bool dx = tensor_present(a->dx), da = false, db = false;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        da = da || tensor_present(a->da[i]);
        db = db || tensor_present(a->db[i]);
    }
    int64_t n = a->dy.rows, out = a->dy.cols, in = a->weight.cols;
    Tensor inner = tensor_of(a->dy.data, a->dy.dtype, n, rank), up = tensor_of(a->dy.data, a->dy.dtype, out, rank);
    Tensor dup = tensor_of(a->dy.data, DTYPE_F32, out, rank), ddown = tensor_of(a->dy.data, DTYPE_F32, rank, in);
    OpCost of_dy = {0}, again = {.bytes = (double)n * (double)out * (double)dtype_size(a->dy.dtype)};
    const bool dlow = (da || dx || tensor_present(a->dlow)) && !a->dlow_known;
    if (dlow) of_dy = product_cost(a->dy, false, up, false, inner, 0);
    if (db) of_dy = both(of_dy, product_cost(a->dy, true, a->low, false, dup, 1));
    if (db && dlow) of_dy.bytes -= again.bytes;
    OpCost of_x = product_cost(inner, true, a->x, false, ddown, 1);
    if (tensor_present(a->gamma))
        of_x.bytes += (double)in * (double)dtype_size(a->gamma.dtype) + (double)n * sizeof(float);
    return note(dev, op, WORK_LORA, of_dy, err) && (!da || note(dev, op, WORK_LORA, of_x, err)) &&
           (!dx || note_wider(dev, op, n, in, rank, err));
}

bool plan_linear_backward(Device *dev, const LinearBackwardArgs *a, Error *err) {
    LinearBackwardArgs plain = *a;
    memset(plain.lora, 0, sizeof plain.lora);
    memset(plain.da, 0, sizeof plain.da);
    memset(plain.db, 0, sizeof plain.db);
    plain.low = (Tensor){0};
    static const char op[] = "linear_backward";
    int64_t n = a->dy.rows, out = a->weight.rows, in = a->weight.cols;
    plain.dweight = plain.dbias = (Tensor){0};
    if (tensor_present(a->dx) && !note_gemm(dev, op, linear_backward_cost(&plain), n, in, out, false, err))
        return false;
    plain.dweight = a->dweight;
    plain.dbias = a->dbias;
    plain.dx = (Tensor){0};
    bool weights = tensor_present(a->dweight) || tensor_present(a->dbias);
    if (weights && !note_gemm(dev, op, linear_backward_cost(&plain), out, in, n, false, err)) return false;
    int64_t rank = ranks(a->lora);
    return rank == 0 || note_lora_backward(dev, a, rank, err);
}

/* ---- time ---- */

static double larger(double a, double b) { return a > b ? a : b; }

/* Bound by what it moves or by what it computes; streaming kernels by what they move. */
static double seconds_of(const PlannedWork *work, const MachineRates *rates) {
    double product = rates->matmul * rates->gemm_share;
    const double speed[WORK_KINDS] = {[WORK_GEMM] = product,
                                      [WORK_LORA] = product,
                                      [WORK_ATTENTION] = rates->attention,
                                      [WORK_ATTENTION_BIAS] = rates->attention_bias,
                                      [WORK_ATTENTION_BACKWARD] = rates->attention_backward,
                                      [WORK_CONVOLUTION] = rates->convolution,
                                      [WORK_OTHER] = INFINITY,
                                      [WORK_OPTIMIZER] = INFINITY};
    double moving = work->cost.bytes / (rates->copy * rates->stream_share);
    double least = work->cost.bytes > 0 ? rates->kernel : 0; /* else part of another kernel */
    return larger(larger(moving, work->cost.flops / speed[work->kind]), least);
}

void plan_seconds(const PlannedWork *work, size_t count, const MachineRates *rates, double seconds[WORK_KINDS]) {
    for (int kind = 0; kind < WORK_KINDS; kind++) seconds[kind] = 0;
    for (size_t i = 0; i < count; i++) seconds[work[i].kind] += seconds_of(&work[i], rates);
}
