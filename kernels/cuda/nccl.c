/* Sums over GPUs by NCCL, which is opened at run time. What is declared of it is its ABI as it has been since
 * version 2.0, so that no header is needed. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/cuda.h"

typedef struct NcclComm NcclComm;
typedef struct NcclId {
    char bytes[CUDA_NCCL_ID];
} NcclId;
enum { NCCL_SUCCESS = 0, NCCL_FLOAT32 = 7, NCCL_FLOAT64 = 8, NCCL_SUM = 0 };

#define LIBRARY_FUNCTIONS(X)                                                                                           \
    X(const char *, GetErrorString, (int status))                                                                      \
    X(int, GetUniqueId, (NcclId * id))                                                                                 \
    X(int, CommInitRank, (NcclComm * *comm, int size, NcclId id, int rank))                                            \
    X(int, CommDestroy, (NcclComm * comm))                                                                             \
    X(int, CommAbort, (NcclComm * comm))                                                                               \
    X(int, AllReduce,                                                                                                  \
      (const void *from, void *to, size_t count, int dtype, int op, NcclComm *comm, cudaStream_t stream))

struct CudaNccl {
    Device *dev;
    void *library;
    NcclComm *comm;
#define MEMBER(type, name, parameters) type(*name) parameters;
    LIBRARY_FUNCTIONS(MEMBER)
#undef MEMBER
};

static bool load_library(CudaNccl *nccl, Error *err) {
    static const char *const names[] = {"libnccl.so.2", "libnccl.so", "/usr/local/cuda/lib64/libnccl.so.2"};
    const char *named = getenv("SEMOLLM_NCCL");
    if (named) {
        nccl->library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        return nccl->library || fail(err, "SEMOLLM_NCCL: %s", dlerror());
    }
    for (size_t i = 0; i < sizeof names / sizeof *names && !nccl->library; i++)
        nccl->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return nccl->library || fail(err, "NCCL (libnccl.so.2), which several GPUs need, was not found: install it, name "
                                      "the file in SEMOLLM_NCCL, or start one process");
}

static bool open_library(CudaNccl *nccl, Error *err) {
    if (!load_library(nccl, err)) return false;
#define LOAD(type, name, parameters)                                                                                   \
    *(void **)&nccl->name = dlsym(nccl->library, "nccl" #name);                                                        \
    if (!nccl->name) return fail(err, "NCCL: the library has no nccl" #name "; install version 2");
    LIBRARY_FUNCTIONS(LOAD)
#undef LOAD
    return true;
}

/* Where CUDA itself has failed, that is the error. */
static bool nccl_ok(const CudaNccl *nccl, int status, const char *call, Error *err) {
    if (status == NCCL_SUCCESS) return true;
    cudaError_t fault = cudaGetLastError();
    if (fault != cudaSuccess) return cuda_ok(fault, call, err);
    return fail(err, "%s failed: %s (NCCL_DEBUG=WARN in the environment has NCCL say more)", call,
                nccl->GetErrorString(status));
}

#define NCCL(nccl, function, err, ...) nccl_ok(nccl, (nccl)->function(__VA_ARGS__), "nccl" #function, err)

CudaNccl *cuda_nccl_open(Device *dev, Error *err) {
    CudaNccl *nccl = memory_new(1, sizeof *nccl, err);
    if (!nccl) return NULL;
    nccl->dev = dev;
    if (open_library(nccl, err)) return nccl;
    cuda_nccl_close(nccl, false);
    return NULL;
}

void cuda_nccl_close(CudaNccl *nccl, bool well) {
    if (nccl->comm) cudaSetDevice(nccl->dev->cuda->index);
    if (nccl->comm && well) nccl->CommDestroy(nccl->comm);
    if (nccl->comm && !well) nccl->CommAbort(nccl->comm);
    if (nccl->library) dlclose(nccl->library);
    free(nccl);
}

bool cuda_nccl_draw(CudaNccl *nccl, char id[CUDA_NCCL_ID], Error *err) {
    NcclId drawn;
    if (!NCCL(nccl, GetUniqueId, err, &drawn)) return false;
    memcpy(id, drawn.bytes, sizeof drawn.bytes);
    return true;
}

bool cuda_nccl_join(CudaNccl *nccl, const char id[CUDA_NCCL_ID], int rank, int size, Error *err) {
    NcclId drawn;
    memcpy(drawn.bytes, id, sizeof drawn.bytes);
    return CUDA(cudaSetDevice(nccl->dev->cuda->index), err) &&
           (NCCL(nccl, CommInitRank, err, &nccl->comm, size, drawn, rank) ||
            fail_in(err, "GPU %d of this machine: are two ranks on one GPU?", nccl->dev->cuda->index));
}

bool cuda_nccl_sum(CudaNccl *nccl, void *data, DType dtype, int64_t count, Error *err) {
    return cuda_may_wait(nccl->dev, "adding up over ranks", err) && CUDA(cudaSetDevice(nccl->dev->cuda->index), err) &&
           NCCL(nccl, AllReduce, err, data, data, (size_t)count, dtype == DTYPE_F64 ? NCCL_FLOAT64 : NCCL_FLOAT32,
                NCCL_SUM, nccl->comm, cuda_stream(nccl->dev));
}
