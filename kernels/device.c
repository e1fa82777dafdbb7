#include "kernels/device_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/plan_impl.h"

#ifdef SEMOLLM_CUDA
#include "kernels/cuda/cuda.h"
#define ON_CUDA(name, ...)                                                                                             \
    if (dev->kind == DEVICE_CUDA) return cuda_device_##name(dev, __VA_ARGS__)
#else
#define ON_CUDA(name, ...) (void)dev
#endif

enum { ALIGNMENT = 256 };

static void *aligned_new(size_t bytes, Error *err) {
    if (bytes > SIZE_MAX - ALIGNMENT) {
        fail(err, "device memory: %zu bytes are more than can be addressed", bytes);
        return NULL;
    }
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, rounded ? rounded : ALIGNMENT);
    if (!memory) {
        fail(err, "device memory: no room for %zu bytes; make the batch or the model smaller", bytes);
        return NULL;
    }
    memset(memory, 0, rounded);
    return memory;
}

static Device *open_cpu(int threads, Error *err) {
    Device *dev = memory_new(1, sizeof *dev, err);
    if (!dev) return NULL;
    *dev = (Device){.kind = DEVICE_CPU, .dtype = DTYPE_F32, .threads = cpu_threads(threads)};
    dev->tiles = aligned_new((size_t)dev->threads * TILE_FLOATS * sizeof(float), err);
    if (!dev->tiles) {
        device_close(dev);
        return NULL;
    }
    cpu_enter(dev);
    return dev;
}

Device *device_open(DeviceKind kind, int threads, Error *err) {
    return kind == DEVICE_CPU ? open_cpu(threads, err) : device_open_cuda(0, DTYPE_BF16, err);
}

#ifdef SEMOLLM_CUDA

int device_cuda_count(Error *err) { return cuda_device_count(err); }

Device *device_open_cuda(int index, DType dtype, Error *err) {
    if (dtype != DTYPE_BF16 && dtype != DTYPE_F32) {
        fail(err, "the CUDA device computes in BF16 or F32, not in %s", dtype_name(dtype));
        return NULL;
    }
    Device *dev = memory_new(1, sizeof *dev, err);
    if (!dev) return NULL;
    *dev = (Device){.kind = DEVICE_CUDA, .dtype = dtype, .threads = cpu_threads(0)};
    if (!cuda_device_open(dev, index, err)) {
        device_close(dev);
        return NULL;
    }
    return dev;
}

#else

int device_cuda_count(Error *err) {
    fail(err, "this build has the CPU device alone: build with the CUDA toolkit, or choose the CPU device");
    return 0;
}

Device *device_open_cuda(int index, DType dtype, Error *err) {
    (void)index, (void)dtype;
    device_cuda_count(err);
    return NULL;
}

#endif

void device_close(Device *dev) {
    if (!dev) return;
    device_free(dev, dev->scratch);
    if (dev->plan) plan_close(dev->plan);
#ifdef SEMOLLM_CUDA
    else if (dev->kind == DEVICE_CUDA)
        cuda_device_close(dev);
#endif
    free(dev->tiles);
    free(dev);
}

DeviceKind device_kind(const Device *dev) { return dev->kind; }

const char *device_name(const Device *dev) {
#ifdef SEMOLLM_CUDA
    if (dev->cuda) return dev->cuda->name;
#endif
    return dev->kind == DEVICE_CUDA ? "CUDA" : "CPU"; /* a plan for one may know none */
}

DType device_dtype(const Device *dev) { return dev->dtype; }

int64_t device_chunk(const Device *dev) { return dev->kind == DEVICE_CUDA ? 1 << 28 : 1 << 24; }

int device_sequences(const Device *dev) { return dev->kind == DEVICE_CUDA ? 64 : 16; }

int64_t device_prefill(const Device *dev) { return dev->kind == DEVICE_CUDA ? 2048 : 1024; }

size_t device_cache_bytes(Device *dev) {
    const size_t least = (size_t)1 << 30, most = (size_t)8 << 30;
    size_t available, all;
    if (dev->kind != DEVICE_CUDA || !device_memory_info(dev, &available, &all, NULL)) return least;
    return available / 2 < least ? least : available / 2 < most ? available / 2 : most;
}

void *device_alloc(Device *dev, size_t bytes, Error *err) {
    if (dev->plan) return plan_alloc(dev, bytes, err);
    ON_CUDA(alloc, bytes, err);
    return aligned_new(bytes, err);
}

void device_free(Device *dev, void *memory) {
    if (dev->plan) {
        plan_free(dev, memory);
        return;
    }
#ifdef SEMOLLM_CUDA
    if (dev->kind == DEVICE_CUDA) {
        cuda_device_free(dev, memory);
        return;
    }
#else
    (void)dev;
#endif
    free(memory);
}

bool device_upload(Device *dev, void *to, const void *from_host, size_t bytes, Error *err) {
    if (dev->plan) return true;
    ON_CUDA(upload, to, from_host, bytes, err);
    (void)err;
    if (bytes) memcpy(to, from_host, bytes);
    return true;
}

bool device_download(Device *dev, void *to_host, const void *from, size_t bytes, Error *err) {
    if (dev->plan) {
        if (bytes) memset(to_host, 0, bytes);
        return true;
    }
    ON_CUDA(download, to_host, from, bytes, err);
    (void)err;
    if (bytes) memcpy(to_host, from, bytes);
    return true;
}

bool device_fill_zero(Device *dev, void *memory, size_t bytes, Error *err) {
    if (dev->plan) return true;
    ON_CUDA(fill_zero, memory, bytes, err);
    (void)err;
    if (bytes) memset(memory, 0, bytes);
    return true;
}

bool device_wait(Device *dev, Error *err) {
    if (dev->plan) return true;
    ON_CUDA(wait, err);
    (void)err;
    return true;
}

bool device_memory_info(Device *dev, size_t *free_bytes, size_t *total_bytes, Error *err) {
    if (dev->plan) return fail(err, "a planning device has no memory to tell of");
    ON_CUDA(memory_info, free_bytes, total_bytes, err);
    return cpu_memory_info(free_bytes, total_bytes, err);
}

bool device_records(const Device *dev) { return dev->kind == DEVICE_CUDA && !dev->plan; }

static bool no_recording(Error *err) { return fail(err, "this device records no operations: they are simply called"); }

bool device_capture_begin(Device *dev, Error *err) {
    if (device_records(dev)) ON_CUDA(capture_begin, err);
    return no_recording(err);
}

DeviceGraph *device_capture_end(Device *dev, Error *err) {
    if (device_records(dev)) ON_CUDA(capture_end, err);
    no_recording(err);
    return NULL;
}

bool device_replay(Device *dev, DeviceGraph *graph, Error *err) {
    if (device_records(dev)) ON_CUDA(replay, graph, err);
    (void)graph;
    return no_recording(err);
}

void device_graph_free(Device *dev, DeviceGraph *graph) {
#ifdef SEMOLLM_CUDA
    if (graph) cuda_device_graph_free(dev, graph);
#else
    (void)dev, (void)graph;
#endif
}

/* The CPU device chooses nothing. */
char *device_algorithms(const Device *dev, Error *err) {
    if (dev->plan) return text_copy("{}", err);
    ON_CUDA(algorithms, err);
    return text_copy("{}", err);
}

bool device_use_algorithms(Device *dev, const char *json, bool *fits, Error *err) {
    *fits = true;
    if (dev->plan) return true;
    ON_CUDA(use_algorithms, json, fits, err);
    (void)json, (void)err;
    return true;
}

bool device_reserve_scratch(Device *dev, size_t bytes, Error *err) {
    if (bytes <= dev->scratch_bytes) return true;
    if (!device_wait(dev, err)) return false;
    device_free(dev, dev->scratch);
    dev->scratch_bytes = 0;
    dev->scratch = device_alloc(dev, bytes, err);
    if (!dev->scratch) return fail_in(err, "scratch");
    dev->scratch_bytes = bytes;
    return true;
}

void *device_scratch(const Device *dev, size_t bytes, Error *err) {
    static char nothing[1]; /* not to be touched, but no failure either */
    if (!bytes) return dev->tiles ? (void *)dev->tiles : dev->scratch ? dev->scratch : nothing;
    if (bytes <= dev->scratch_bytes) return dev->scratch;
    fail(err, "scratch: %zu bytes are needed but %zu were reserved: a batch is larger than the one planned for", bytes,
         dev->scratch_bytes);
    return NULL;
}
