/* The CPU device's side of every operation: arguments have been checked (check.h). All tensors of
 * activations are F32. */
#ifndef SEMOLLM_KERNELS_CPU_CPU_H
#define SEMOLLM_KERNELS_CPU_CPU_H

#include "kernels/device_impl.h"
#include "kernels/op_list.h"
#include "kernels/ops.h"

enum { TILE_FLOATS = 1 << 18 }; /* 1 MiB a thread */

int cpu_threads(int wanted);        /* how many threads a device that was asked for `wanted` gets */
void cpu_enter(const Device *dev);  /* makes the calling thread's parallel regions use dev->threads */
float *cpu_tile(const Device *dev); /* the calling thread's TILE_FLOATS */
bool cpu_memory_info(size_t *free_bytes, size_t *total_bytes, Error *err);

/* The op, and what it takes of device_scratch. */
#define DECLARE(Name, name)                                                                                            \
    bool cpu_##name(Device *dev, const Name##Args *a, Error *err);                                                     \
    size_t cpu_##name##_scratch(const Name##Args *a);
OP_LIST(DECLARE)
#undef DECLARE

static inline float *floats(Tensor t) { return t.data; }
static inline float *row_of(Tensor t, int64_t r) { return (float *)t.data + r * t.ld; }

/* Work under this many floating-point operations or moved elements is not worth waking threads for. */
#define PARALLEL_FROM 32768

#endif
