/* A device that stands for another and holds nothing. Its memory is addresses alone, copies do nothing
 * (what is downloaded is zeros), and an operation is checked as on any device, then noted with its cost
 * instead of run. A model opened on it says what it would take of memory and time by the very code that
 * would take it. */
#ifndef SEMOLLM_KERNELS_PLAN_H
#define SEMOLLM_KERNELS_PLAN_H

#include "kernels/ops.h"

typedef enum WorkKind {
    WORK_GEMM,
    WORK_LORA, /* LoRA's own products, skinny: they read the big activations for a few columns */
    WORK_ATTENTION,
    WORK_ATTENTION_BIAS, /* with a relative bias, which is WavLM's: long and not causal, so faster */
    WORK_ATTENTION_BACKWARD,
    WORK_CONVOLUTION, /* in groups of channels, on the tensor cores by a kernel of our own */
    WORK_OTHER,
    WORK_OPTIMIZER,
    WORK_KINDS
} WorkKind;

typedef struct PlannedWork {
    const char *op;
    WorkKind kind;
    OpCost cost;
    int64_t m, n, k; /* of a GEMM: the product of [m, k] and [k, n]; 0: of none */
    bool transposed; /* the second is stored [n, k] */
} PlannedWork;

/* `of`: the device it stands for, whose scratch is asked for; `dtype`: what that one stores. Where the
 * build lacks that device, scratch is the CPU's. Closed like any other. */
Device *device_open_plan(DeviceKind of, DType dtype, Error *err);
bool device_plans(const Device *dev);

/* Bytes of shared memory that a block of the GPU it stands for can have: kernels are chosen by that, and so their
 * scratch. Of the largest GPUs, 227 KiB, until it is said. */
void plan_block_shared(Device *dev, size_t bytes);
size_t device_block_shared(const Device *dev); /* of any device; 0: the CPU's */

size_t plan_bytes(const Device *dev);   /* allocated now, scratch included */
size_t plan_scratch(const Device *dev); /* reserved */

/* What was asked of it since plan_forget, in order. */
const PlannedWork *plan_work(const Device *dev, size_t *count);
void plan_forget(Device *dev);

/* What a machine reaches, per second: bytes copied, operations of a large product, of attention without and with a
 * bias and of the positional convolution; and which share of the first two our products and streaming kernels do. No
 * kernel takes less than `kernel` seconds. */
typedef struct MachineRates {
    double copy, matmul, stream_share, gemm_share, attention, attention_bias, attention_backward, convolution, kernel;
} MachineRates;

/* Adds up what the work would take there, by kind. */
void plan_seconds(const PlannedWork *work, size_t count, const MachineRates *rates, double seconds[WORK_KINDS]);

#endif
