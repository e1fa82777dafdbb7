#include "kernels/device_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cpu/cpu.h"

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

Device *device_open(DeviceKind kind, int threads, Error *err) {
    if (kind != DEVICE_CPU) {
        fail(err, "this build has the CPU device alone: build with the CUDA toolkit, or choose the CPU device");
        return NULL;
    }
    Device *dev = memory_new(1, sizeof *dev, err);
    if (!dev) return NULL;
    *dev = (Device){.kind = kind, .dtype = DTYPE_F32, .threads = cpu_threads(threads)};
    dev->tiles = aligned_new((size_t)dev->threads * TILE_FLOATS * sizeof(float), err);
    if (!dev->tiles) {
        device_close(dev);
        return NULL;
    }
    cpu_enter(dev);
    return dev;
}

void device_close(Device *dev) {
    if (!dev) return;
    free(dev->tiles);
    free(dev->scratch);
    free(dev);
}

DeviceKind device_kind(const Device *dev) { return dev->kind; }

DType device_dtype(const Device *dev) { return dev->dtype; }

void *device_alloc(Device *dev, size_t bytes, Error *err) {
    (void)dev;
    return aligned_new(bytes, err);
}

void device_free(Device *dev, void *memory) {
    (void)dev;
    free(memory);
}

bool device_upload(Device *dev, void *to, const void *from_host, size_t bytes, Error *err) {
    (void)dev, (void)err;
    if (bytes) memcpy(to, from_host, bytes);
    return true;
}

bool device_download(Device *dev, void *to_host, const void *from, size_t bytes, Error *err) {
    return device_upload(dev, to_host, from, bytes, err);
}

bool device_fill_zero(Device *dev, void *memory, size_t bytes, Error *err) {
    (void)dev, (void)err;
    if (bytes) memset(memory, 0, bytes);
    return true;
}

bool device_wait(Device *dev, Error *err) {
    (void)dev, (void)err;
    return true;
}

bool device_reserve_scratch(Device *dev, size_t bytes, Error *err) {
    if (bytes <= dev->scratch_bytes) return true;
    char *larger = aligned_new(bytes, err);
    if (!larger) return fail_in(err, "scratch");
    free(dev->scratch);
    dev->scratch = larger;
    dev->scratch_bytes = bytes;
    return true;
}

void *device_scratch(const Device *dev, size_t bytes, Error *err) {
    if (!bytes) return dev->tiles; /* not to be touched, but no failure either */
    if (bytes <= dev->scratch_bytes) return dev->scratch;
    fail(err, "scratch: %zu bytes are needed but %zu were reserved: a batch is larger than the one planned for", bytes,
         dev->scratch_bytes);
    return NULL;
}
