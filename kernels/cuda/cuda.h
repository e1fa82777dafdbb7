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

/* The CUDA device's side of device.h. */
int cuda_device_count(Error *err);
bool cuda_device_open(Device *dev, int index, Error *err); /* where it fails, cuda_device_close clears up */
void cuda_device_close(Device *dev);
void *cuda_device_alloc(Device *dev, size_t bytes, Error *err);
void cuda_device_free(Device *dev, void *memory);
bool cuda_device_upload(Device *dev, void *to, const void *from_host, size_t bytes, Error *err);
bool cuda_device_download(Device *dev, void *to_host, const void *from, size_t bytes, Error *err);
bool cuda_device_fill_zero(Device *dev, void *memory, size_t bytes, Error *err);
bool cuda_device_wait(Device *dev, Error *err);
bool cuda_device_memory_info(Device *dev, size_t *free_bytes, size_t *total_bytes, Error *err);
bool cuda_device_capture_begin(Device *dev, Error *err);
DeviceGraph *cuda_device_capture_end(Device *dev, Error *err);
bool cuda_device_replay(Device *dev, DeviceGraph *graph, Error *err);
void cuda_device_graph_free(Device *dev, DeviceGraph *graph);

/* A moment of the stream; the seconds between two that have been waited for. */
bool cuda_mark(Device *dev, void **mark, Error *err);
bool cuda_mark_seconds(void *from, void *to, double *seconds, Error *err);
void cuda_mark_free(void *mark);
char *cuda_device_algorithms(const Device *dev, Error *err);
bool cuda_device_use_algorithms(Device *dev, const char *json, bool *fits, Error *err);

/* What a kernel that wants much dynamic shared memory has been allowed so far. */
typedef struct CudaAllowance {
    const void *kernel;
    size_t bytes;
} CudaAllowance;

/* What is uploaded goes through pinned memory, in order of arrival, a slot after the other, and the large
 * through as much memory of the device, which a second stream fills while the ops go on. */
enum { STAGING_SLOTS = 8, STAGING_SLOT_BYTES = 8 << 20 };
typedef struct CudaStaging {
    char *host, *device;
    cudaEvent_t arrived, used[STAGING_SLOTS]; /* on the device; by the op's stream, so that the slot is free */
    int slot;
    size_t filled;
} CudaStaging;

enum { ALLOWANCES = 64 };
typedef struct CudaDevice {
    int index;
    char name[128];
    int processors;
    cudaStream_t stream, copies; /* of the ops; of uploads on their way */
    CudaStaging staging;
    CudaAllowance allowed[ALLOWANCES];
    int allowances;
    struct CudaGemms *gemms;
    bool recording; /* a graph: what waits or touches host memory cannot be part of it */
} CudaDevice;

static inline cudaStream_t cuda_stream(const Device *dev) { return dev->cuda->stream; }

/* Whether a call of the CUDA runtime succeeded; the error names it and says what CUDA says. */
bool cuda_ok(cudaError_t status, const char *call, Error *err);
#define CUDA(call, err) cuda_ok(call, #call, err)

/* Whether no graph is being recorded; else the error says that `what` must not happen meanwhile. */
bool cuda_may_wait(const Device *dev, const char *what, Error *err);

/* Enqueues a kernel on the device's stream; see LAUNCH in kernel.cuh. */
bool cuda_launch(Device *dev, Error *err, const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                 void **args);

/* c = act(alpha · op(a)·op(b) + beta · residual + bias), row-major, fp32 accumulation. a and b are of one dtype; c
 * of that or F32, and residual and bias are of c's. residual has c's shape, is read unless beta is 0 and may be c
 * itself; bias may be null. */
typedef struct CudaGemm {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    DType dtype, c_dtype;
    const void *a, *b, *residual, *bias;
    void *c;
    int64_t lda, ldb, ld_residual, ldc;
    Activation act;
} CudaGemm;

bool cuda_gemm(Device *dev, const CudaGemm *g, Error *err);

/* The products themselves, by cuBLASLt: a gemm with something to add up, no GELU, and a bias only where its
 * address is a multiple of 16. */
bool cuda_gemms_open(Device *dev, Error *err);
void cuda_gemms_close(Device *dev);
bool cuda_product(Device *dev, const CudaGemm *g, Error *err);

/* Sums over the GPUs of several processes, by NCCL: opened, then joined with a number that one of them drew. */
typedef struct CudaNccl CudaNccl;
enum { CUDA_NCCL_ID = 128 };
CudaNccl *cuda_nccl_open(Device *dev, Error *err);
void cuda_nccl_close(CudaNccl *nccl, bool well); /* `well`: all of them are at this point */
bool cuda_nccl_draw(CudaNccl *nccl, char id[CUDA_NCCL_ID], Error *err);
bool cuda_nccl_join(CudaNccl *nccl, const char id[CUDA_NCCL_ID], int rank, int size, Error *err);
bool cuda_nccl_sum(CudaNccl *nccl, void *data, DType dtype, int64_t count, Error *err);

#endif
