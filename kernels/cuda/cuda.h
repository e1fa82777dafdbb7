/* The CUDA device's side of every operation: arguments have been checked (check.h). Activations and
 * frozen weights are BF16, or F32 with --precision fp32; everything ops.h calls F32 is that. Plain C,
 * but for what launching a kernel needs. */
#ifndef SEMOLLM_KERNELS_CUDA_CUDA_H
#define SEMOLLM_KERNELS_CUDA_CUDA_H

#ifdef SEMOLLM_EMU
#include "tests/emu/cuda_runtime.h"
#else
#include <cuda_runtime_api.h>
#endif

#include "kernels/device_impl.h"
#include "kernels/op_list.h"
#include "kernels/ops.h"

#define DECLARE(Name, name)                                                                                            \
    bool cuda_##name(Device *dev, const Name##Args *a, Error *err);                                                    \
    size_t cuda_##name##_scratch(const Device *dev, const Name##Args *a);
OP_LIST(DECLARE)
#undef DECLARE

/* Whether a call of the CUDA runtime succeeded; the error names it and says what CUDA says. */
bool cuda_ok(cudaError_t status, const char *call, Error *err);
#define CUDA(call, err) cuda_ok(call, #call, err)

/* Enqueues a kernel on the device's stream; see LAUNCH in kernel.cuh. */
bool cuda_launch(Device *dev, Error *err, const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                 void **args);

/* c = act(alpha · op(a)·op(b) + beta · c + bias), row-major, fp32 accumulation; bias (of c's dtype) may be
 * null. a and b are of one dtype; c of that or F32. The one place that knows cuBLASLt. */
typedef struct CudaGemm {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    DType dtype, c_dtype;
    const void *a, *b, *bias;
    void *c;
    int64_t lda, ldb, ldc;
    Activation act;
} CudaGemm;

bool cuda_gemm(Device *dev, const CudaGemm *g, Error *err);

#endif
