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

#define DECLARE(Name, name) bool cpu_##name(Device *dev, const Name##Args *a, Error *err);
OP_LIST(DECLARE)
#undef DECLARE

/* What these ops take of device_scratch; the others need none. */
size_t cpu_linear_scratch(const LinearArgs *a);
size_t cpu_linear_backward_scratch(const LinearBackwardArgs *a);
size_t cpu_segment_norm_scratch(const SegmentNormArgs *a);
size_t cpu_cache_copy_scratch(const CacheCopyArgs *a);
size_t cpu_sum_squares_scratch(const SumSquaresArgs *a);

static inline float *floats(Tensor t) { return t.data; }
static inline float *row_of(Tensor t, int64_t r) { return (float *)t.data + r * t.ld; }

/* Work under this many floating-point operations or moved elements is not worth waking threads for. */
#define PARALLEL_FROM 32768

#endif
