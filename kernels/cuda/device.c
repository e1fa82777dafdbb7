#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/cuda.h"

/* ---- what CUDA says, in words ---- */

/* After these nothing on the device can be used any more by this process. */
static const char *fault_of(cudaError_t status) {
    switch ((int)status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
        return "a kernel failed on the GPU";
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
        return "the GPU's hardware failed";
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
    case cudaErrorUnknown:
        return "the GPU was lost";
    default:
        return NULL;
    }
}

bool cuda_ok(cudaError_t status, const char *call, Error *err) {
    if (status == cudaSuccess) return true;
    cudaGetLastError(); /* what the runtime remembers it would report to the next launch */
    const char *says = cudaGetErrorString(status), *name = cudaGetErrorName(status), *fault = fault_of(status);
    if (!fault) return fail(err, "CUDA: %.100s failed: %s (%s)", call, says, name);
    return fail(err,
                "%s: %s (%s, noticed by %.100s); the device is of no more use to this process: start again from "
                "the last checkpoint",
                fault, says, name, call);
}

int cuda_device_count(Error *err) {
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return count;
    cudaGetLastError();
    int driver = 0, built = 0;
    if (status == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver &&
        cudaRuntimeGetVersion(&built) == cudaSuccess)
        fail(err,
             "the NVIDIA driver is too old: it knows CUDA %d.%d and this build wants %d.%d; update the driver, or "
             "choose the CPU device",
             driver / 1000, driver % 1000 / 10, built / 1000, built % 1000 / 10);
    else if (status == cudaErrorInsufficientDriver)
        fail(err, "this machine has no NVIDIA driver: install one, or choose the CPU device");
    else if (status == cudaSuccess || status == cudaErrorNoDevice)
        fail(err, "this machine has no NVIDIA GPU that this process may use: choose the CPU device");
    else
        fail(err, "the NVIDIA GPU cannot be used (%s): choose the CPU device", cudaGetErrorString(status));
    return 0;
}

/* ---- opening and closing ---- */

/* bf16 products on tensor cores and asynchronous copies came with it. */
enum { OLDEST_GENERATION = 8 };

static bool check_gpu(Device *dev, int index, Error *err) {
    CudaDevice *cuda = dev->cuda;
    int count = cuda_device_count(err);
    if (!count) return false;
    if (index < 0 || index >= count)
        return fail(err, "there is no GPU number %d: this machine has %d, counted from 0", index, count);
    struct cudaDeviceProp prop;
    if (!CUDA(cudaGetDeviceProperties(&prop, index), err)) return false;
    cuda->index = index;
    cuda->processors = prop.multiProcessorCount;
    dev->block_shared = prop.sharedMemPerBlockOptin;
    snprintf(cuda->name, sizeof cuda->name, "%.100s", prop.name);
    if (prop.major >= OLDEST_GENERATION) return true;
    return fail(err,
                "%s is too old: its compute capability is %d.%d and 8.0 (A100, RTX 30) is the least; choose the "
                "CPU device",
                cuda->name, prop.major, prop.minor);
}

static bool open_staging(CudaStaging *s, Error *err) {
    size_t bytes = (size_t)STAGING_SLOTS * STAGING_SLOT_BYTES;
    if (!CUDA(cudaMallocHost((void **)&s->host, bytes), err) || !CUDA(cudaMalloc((void **)&s->device, bytes), err) ||
        !CUDA(cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming), err))
        return false;
    for (int i = 0; i < STAGING_SLOTS; i++)
        if (!CUDA(cudaEventCreateWithFlags(&s->used[i], cudaEventDisableTiming), err)) return false;
    return true;
}

bool cuda_device_open(Device *dev, int index, Error *err) {
    CudaDevice *cuda = dev->cuda = memory_new(1, sizeof *cuda, err);
    return cuda && check_gpu(dev, index, err) && CUDA(cudaSetDevice(index), err) &&
           CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), err) &&
           CUDA(cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking), err) &&
           open_staging(&cuda->staging, err) && cuda_gemms_open(dev, err);
}

/* Failures are of no interest any more: a device that was lost refuses every call. */
void cuda_device_close(Device *dev) {
    CudaDevice *cuda = dev->cuda;
    if (!cuda) return;
    cudaSetDevice(cuda->index);
    if (cuda->stream) cudaStreamSynchronize(cuda->stream);
    if (cuda->gemms) cuda_gemms_close(dev);
    for (int i = 0; i < STAGING_SLOTS; i++)
        if (cuda->staging.used[i]) cudaEventDestroy(cuda->staging.used[i]);
    if (cuda->staging.arrived) cudaEventDestroy(cuda->staging.arrived);
    cudaFree(cuda->staging.device);
    cudaFreeHost(cuda->staging.host);
    if (cuda->copies) cudaStreamDestroy(cuda->copies);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    cudaGetLastError();
    free(cuda);
    dev->cuda = NULL;
}

bool cuda_may_wait(const Device *dev, const char *what, Error *err) {
    return !dev->cuda->recording || fail(err, "%s: not while operations are being recorded", what);
}

/* ---- memory ---- */

static double gib(size_t bytes) { return (double)bytes / (1 << 30); }

static void fail_memory(size_t bytes, Error *err) {
    size_t available = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&available, &total);
    fail(err,
         "GPU memory: %.2f GiB are wanted but %.2f of %.2f GiB are free; make the batch (its tokens) or the model "
         "smaller",
         gib(bytes), gib(available), gib(total));
}

void *cuda_device_alloc(Device *dev, size_t bytes, Error *err) {
    void *memory = NULL;
    size_t some = bytes ? bytes : 1;
    if (!cuda_may_wait(dev, "allocating", err) || !CUDA(cudaSetDevice(dev->cuda->index), err)) return NULL;
    cudaError_t status = cudaMalloc(&memory, some);
    if (status == cudaErrorMemoryAllocation) {
        fail_memory(bytes, err);
        return NULL;
    }
    if (!cuda_ok(status, "cudaMalloc", err)) return NULL;
    if (CUDA(cudaMemsetAsync(memory, 0, some, cuda_stream(dev)), err)) return memory;
    cudaFree(memory);
    return NULL;
}

void cuda_device_free(Device *dev, void *memory) {
    if (!memory) return;
    cudaSetDevice(dev->cuda->index);
    cudaFree(memory);
}

bool cuda_device_memory_info(Device *dev, size_t *free_bytes, size_t *total_bytes, Error *err) {
    return CUDA(cudaSetDevice(dev->cuda->index), err) && CUDA(cudaMemGetInfo(free_bytes, total_bytes), err);
}

/* ---- copies ---- */

/* Where `bytes`, at most a slot's, may be put now. The ring is waited for only where the device is a whole
 * ring behind. */
static bool staging_room(CudaStaging *s, size_t bytes, size_t *at, Error *err) {
    if (s->filled + bytes > STAGING_SLOT_BYTES) {
        s->slot = (s->slot + 1) % STAGING_SLOTS;
        s->filled = 0;
        if (!CUDA(cudaEventSynchronize(s->used[s->slot]), err)) return false;
    }
    *at = (size_t)s->slot * STAGING_SLOT_BYTES + s->filled;
    s->filled += (bytes + 255) / 256 * 256;
    return true;
}

/* From the ring to where ops find it, after all that was enqueued before. What is large crosses to the
 * device meanwhile; for the small that is not worth an event and a second copy. */
static bool deliver(CudaDevice *cuda, void *to, size_t at, size_t bytes, Error *err) {
    enum { LARGE = 1 << 16 };
    CudaStaging *s = &cuda->staging;
    bool ok;
    if (bytes < LARGE)
        ok = CUDA(cudaMemcpyAsync(to, s->host + at, bytes, cudaMemcpyHostToDevice, cuda->stream), err);
    else
        ok = CUDA(cudaMemcpyAsync(s->device + at, s->host + at, bytes, cudaMemcpyHostToDevice, cuda->copies), err) &&
             CUDA(cudaEventRecord(s->arrived, cuda->copies), err) &&
             CUDA(cudaStreamWaitEvent(cuda->stream, s->arrived, 0), err) &&
             CUDA(cudaMemcpyAsync(to, s->device + at, bytes, cudaMemcpyDeviceToDevice, cuda->stream), err);
    return ok && CUDA(cudaEventRecord(s->used[s->slot], cuda->stream), err);
}

bool cuda_device_upload(Device *dev, void *to, const void *from_host, size_t bytes, Error *err) {
    CudaDevice *cuda = dev->cuda;
    if (!cuda_may_wait(dev, "uploading", err) || !CUDA(cudaSetDevice(cuda->index), err)) return false;
    for (size_t done = 0, part; done < bytes; done += part) {
        size_t at;
        part = bytes - done < STAGING_SLOT_BYTES ? bytes - done : STAGING_SLOT_BYTES;
        if (!staging_room(&cuda->staging, part, &at, err)) return false;
        memcpy(cuda->staging.host + at, (const char *)from_host + done, part);
        if (!deliver(cuda, (char *)to + done, at, part, err)) return false;
    }
    return true;
}

bool cuda_device_download(Device *dev, void *to_host, const void *from, size_t bytes, Error *err) {
    if (!cuda_may_wait(dev, "downloading", err) || !CUDA(cudaSetDevice(dev->cuda->index), err)) return false;
    if (bytes && !CUDA(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, cuda_stream(dev)), err))
        return false;
    return CUDA(cudaStreamSynchronize(cuda_stream(dev)), err);
}

bool cuda_device_fill_zero(Device *dev, void *memory, size_t bytes, Error *err) {
    return CUDA(cudaSetDevice(dev->cuda->index), err) &&
           (!bytes || CUDA(cudaMemsetAsync(memory, 0, bytes, cuda_stream(dev)), err));
}

bool cuda_device_wait(Device *dev, Error *err) {
    return cuda_may_wait(dev, "waiting", err) && CUDA(cudaSetDevice(dev->cuda->index), err) &&
           CUDA(cudaStreamSynchronize(cuda_stream(dev)), err);
}

/* ---- launching ---- */

#ifndef SEMOLLM_EMU

/* What every kernel may have of dynamic shared memory without asking. */
enum { FREE_SHARED = 48 << 10 };

static bool allow_shared(CudaDevice *cuda, const void *kernel, size_t bytes, Error *err) {
    CudaAllowance *found = NULL;
    for (int i = 0; i < cuda->allowances && !found; i++)
        if (cuda->allowed[i].kernel == kernel) found = &cuda->allowed[i];
    if (found && found->bytes >= bytes) return true;
    if (!CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), err)) return false;
    if (!found && cuda->allowances < ALLOWANCES) found = &cuda->allowed[cuda->allowances++];
    if (found) *found = (CudaAllowance){.kernel = kernel, .bytes = bytes};
    return true;
}

bool cuda_launch(Device *dev, Error *err, const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                 void **args) {
    CudaDevice *cuda = dev->cuda;
    bool ok = CUDA(cudaSetDevice(cuda->index), err) &&
              (shared <= FREE_SHARED || allow_shared(cuda, kernel, shared, err)) &&
              CUDA(cudaLaunchKernel(kernel, grid, block, args, shared, cuda->stream), err);
    return ok || fail_in(err, "kernel %s, %u×%u×%u blocks of %u×%u×%u threads with %zu bytes of shared memory", name,
                         grid.x, grid.y, grid.z, block.x, block.y, block.z, shared);
}

#endif
