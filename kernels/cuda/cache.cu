/* Rows into a KV cache, and slots of it into others, by 16 bytes where rows allow it, by elements elsewhere. */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 128 };

/* A tensor as rows of units: 16 bytes, or elements. */
template <typename U> struct Units {
    U *data;
    int64_t ld;
};

/* Of keys and values, those of this block. */
template <typename U> static __device__ __forceinline__ Units<U> mine(const Units<U> both[2]) {
    return blockIdx.y ? both[1] : both[0];
}

template <typename U> static Units<U> units_of(Tensor t) {
    return Units<U>{(U *)t.data, t.ld * (int64_t)dtype_size(t.dtype) / (int64_t)sizeof(U)};
}

static bool by_16_bytes(Tensor t) {
    size_t size = dtype_size(t.dtype);
    return (uintptr_t)t.data % 16 == 0 && (size_t)t.ld * size % 16 == 0 && (size_t)t.cols * size % 16 == 0;
}

static __device__ __forceinline__ void copy_unit(uint4 *to, const uint4 *from) { store16(to, load16(from)); }
static __device__ __forceinline__ void copy_unit(uint32_t *to, const uint32_t *from) { *to = *from; }
static __device__ __forceinline__ void copy_unit(uint16_t *to, const uint16_t *from) { *to = *from; }

static __device__ __forceinline__ void fetch_unit(uint4 *to, const uint4 *from) { copy_async16(to, from, true); }
static __device__ __forceinline__ void fetch_unit(uint32_t *to, const uint32_t *from) { *to = *from; }
static __device__ __forceinline__ void fetch_unit(uint16_t *to, const uint16_t *from) { *to = *from; }

/* ---- appending ---- */

template <typename U> struct Append {
    Units<U> from[2], to[2]; /* keys, values */
    const int32_t *slot, *position;
    int64_t rows, width, capacity;
};

template <typename U> static __global__ void append_kernel(Append<U> a) {
    int64_t item = blockIdx.x * (int64_t)THREADS + threadIdx.x, row = item / a.width, unit = item - row * a.width;
    if (row >= a.rows) return;
    Units<U> from = mine(a.from), to = mine(a.to);
    int64_t place = a.slot[row] * a.capacity + a.position[row];
    copy_unit(to.data + place * to.ld + unit, from.data + row * from.ld + unit);
}

template <typename U> static bool append(Device *dev, const CacheAppendArgs *a, Error *err) {
    int64_t width = a->k.cols * (int64_t)dtype_size(a->k.dtype) / (int64_t)sizeof(U);
    Append<U> args = {{units_of<U>(a->k), units_of<U>(a->v)},
                      {units_of<U>(a->k_cache), units_of<U>(a->v_cache)},
                      a->slot,
                      a->position,
                      a->k.rows,
                      width,
                      a->capacity};
    dim3 grid = blocks_for(a->k.rows * width, THREADS);
    grid.y = 2;
    return LAUNCH(dev, err, (append_kernel<U>), grid, THREADS, 0, args);
}

extern "C" bool cuda_cache_append(Device *dev, const CacheAppendArgs *a, Error *err) {
    if (by_16_bytes(a->k) && by_16_bytes(a->v) && by_16_bytes(a->k_cache) && by_16_bytes(a->v_cache))
        return append<uint4>(dev, a, err);
    return dev->dtype == DTYPE_F32 ? append<uint32_t>(dev, a, err) : append<uint16_t>(dev, a, err);
}

extern "C" size_t cuda_cache_append_scratch(const Device *dev, const CacheAppendArgs *a) {
    (void)dev, (void)a;
    return 0;
}

/* ---- copying ----
 *
 * Copies never leave their place in a row's number and column. So one thread has all that its place holds in any
 * slot: it reads every source before it writes, and the copies happen as if all at once. */

template <typename U> struct Copies {
    Units<U> cache[2];
    const int32_t *from, *to, *length;
    int32_t count;
    int64_t width, capacity;
};

template <typename U> static __global__ void copy_kernel(Copies<U> a) {
    int64_t item = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, row = item / a.width, unit = item - row * a.width;
    if (row >= a.capacity) return;
    Units<U> cache = mine(a.cache);
    U *held = (U *)shared_memory() + threadIdx.x, *data = cache.data;
    int64_t ld = cache.ld;
    for (int i = 0; i < a.count; i++)
        if (row < a.length[i] && a.from[i] != a.to[i])
            fetch_unit(held + (int64_t)i * blockDim.x, data + (a.from[i] * a.capacity + row) * ld + unit);
    copy_async_commit();
    copy_async_wait<0>();
    for (int i = 0; i < a.count; i++)
        if (row < a.length[i] && a.from[i] != a.to[i])
            copy_unit(data + (a.to[i] * a.capacity + row) * ld + unit, held + (int64_t)i * blockDim.x);
}

enum { COPY_BYTES = 96 << 10 }; /* of shared memory, that any GPU since sm_80 has */

template <typename U> static bool copy(Device *dev, const CacheCopyArgs *a, Error *err) {
    unsigned threads = THREADS;
    while (threads > 1 && threads * sizeof(U) * (size_t)a->count > COPY_BYTES) threads /= 2;
    size_t shared = threads * sizeof(U) * (size_t)a->count;
    if (shared > COPY_BYTES)
        return fail(err, "cache_copy: %d copies at once are more than the %d that fit", a->count,
                    (int)(COPY_BYTES / sizeof(U)));
    int64_t width = a->k_cache.cols * (int64_t)dtype_size(a->k_cache.dtype) / (int64_t)sizeof(U);
    Copies<U> args = {{units_of<U>(a->k_cache), units_of<U>(a->v_cache)}, a->from, a->to, a->length, a->count, width,
                      a->capacity};
    dim3 grid = blocks_for(a->capacity * width, threads);
    grid.y = 2;
    return LAUNCH(dev, err, (copy_kernel<U>), grid, threads, shared, args);
}

extern "C" bool cuda_cache_copy(Device *dev, const CacheCopyArgs *a, Error *err) {
    if (!a->count) return true;
    if (by_16_bytes(a->k_cache) && by_16_bytes(a->v_cache)) return copy<uint4>(dev, a, err);
    return dev->dtype == DTYPE_F32 ? copy<uint32_t>(dev, a, err) : copy<uint16_t>(dev, a, err);
}

extern "C" size_t cuda_cache_copy_scratch(const Device *dev, const CacheCopyArgs *a) {
    (void)dev, (void)a;
    return 0;
}
