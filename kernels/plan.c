#include "kernels/plan.h"

#include <stdlib.h>

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
    return dev;
}

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

#define NOTE(Name, name, kind)                                                                                         \
    bool plan_##name(Device *dev, const Name##Args *a, Error *err) {                                                   \
        return note(dev, #name, kind, name##_cost(a), err);                                                            \
    }

NOTE(Matmul, matmul, WORK_GEMM)
NOTE(LayerNorm, layer_norm, WORK_OTHER)
NOTE(LayerNormBackward, layer_norm_backward, WORK_OTHER)
NOTE(RmsNorm, rms_norm, WORK_OTHER)
NOTE(RmsNormBackward, rms_norm_backward, WORK_OTHER)
NOTE(SegmentNorm, segment_norm, WORK_OTHER)
NOTE(WaveNorm, wave_norm, WORK_OTHER)
NOTE(PosConv, pos_conv, WORK_OTHER)
NOTE(RelGate, rel_gate, WORK_OTHER)
NOTE(Attention, attention, WORK_ATTENTION)
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
NOTE(SumSquares, sum_squares, WORK_OPTIMIZER)
NOTE(Adamw, adamw, WORK_OPTIMIZER)

/* The first convolution has one channel and is bound by what it writes; the rest are products. */
bool plan_conv(Device *dev, const ConvArgs *a, Error *err) {
    return note(dev, "conv", a->x.cols > 1 ? WORK_GEMM : WORK_OTHER, conv_cost(a), err);
}

/* What LoRA adds to a linear layer, which reads the large operand once more. */
static OpCost added_cost(OpCost whole, OpCost plain, Tensor again) {
    double bytes = (double)again.rows * (double)again.cols * (double)dtype_size(again.dtype);
    return (OpCost){whole.bytes - plain.bytes + bytes, whole.flops - plain.flops};
}

static bool any_pair(const Lora lora[LINEAR_PARTS]) {
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (tensor_present(lora[i].a)) return true;
    return false;
}

bool plan_linear(Device *dev, const LinearArgs *a, Error *err) {
    LinearArgs plain = *a;
    for (int i = 0; i < LINEAR_PARTS; i++) plain.lora[i] = (Lora){0};
    OpCost cost = linear_cost(&plain);
    if (!note(dev, "linear", WORK_GEMM, cost, err)) return false;
    return !any_pair(a->lora) || note(dev, "linear's LoRA", WORK_LORA, added_cost(linear_cost(a), cost, a->x), err);
}

bool plan_linear_backward(Device *dev, const LinearBackwardArgs *a, Error *err) {
    LinearBackwardArgs plain = *a;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        plain.lora[i] = (Lora){0};
        plain.da[i] = plain.db[i] = (Tensor){0};
    }
    OpCost cost = linear_backward_cost(&plain);
    bool product = tensor_present(a->dx) || tensor_present(a->dweight) || tensor_present(a->dbias);
    if (product && !note(dev, "linear_backward", WORK_GEMM, cost, err)) return false;
    if (!product) cost.bytes = 0; /* dy is read for LoRA alone */
    return !any_pair(a->lora) || note(dev, "linear_backward's LoRA", WORK_LORA,
                                      added_cost(linear_backward_cost(a), cost, product ? a->dy : (Tensor){0}), err);
}
