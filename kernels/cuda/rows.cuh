/* How kernels that stream over rows see them: as vectors of 16 bytes where addresses and row lengths allow it,
 * of single elements elsewhere. */
#ifndef SEMOLLM_KERNELS_CUDA_ROWS_CUH
#define SEMOLLM_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/kernel.cuh"

/* Four elements at an address that their size divides. */
static __device__ __forceinline__ void load4(float v[4], const bf16 *from) {
    uint64_t raw = *(const uint64_t *)from;
    uint32_t first = (uint32_t)raw, second = (uint32_t)(raw >> 32);
    v[0] = bf16_low(first), v[1] = bf16_high(first), v[2] = bf16_low(second), v[3] = bf16_high(second);
}

static __device__ __forceinline__ void load4(float v[4], const float *from) {
    uint4 raw = load16(from);
    v[0] = bits_float(raw.x), v[1] = bits_float(raw.y), v[2] = bits_float(raw.z), v[3] = bits_float(raw.w);
}

static __device__ __forceinline__ void store4(bf16 *to, const float v[4]) {
    *(uint64_t *)to = (uint64_t)pack_bf16(v[2], v[3]) << 32 | pack_bf16(v[0], v[1]);
}

static __device__ __forceinline__ void store4(float *to, const float v[4]) {
    store16(to, make_uint4(float_bits(v[0]), float_bits(v[1]), float_bits(v[2]), float_bits(v[3])));
}

/* The first `count` of WIDTH (1, 4 or 8) elements, the others zero; a full vector's address is aligned. */
template <int WIDTH, typename T> static __device__ __forceinline__ void load_some(float *v, const T *from, int count) {
    if (WIDTH == 8 && count == 8) {
        load8(v, from);
    } else if (WIDTH == 4 && count == 4) {
        load4(v, from);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[i] = i < count ? to_float(from[i]) : 0.0f;
    }
}

template <int WIDTH, typename T> static __device__ __forceinline__ void store_some(T *to, const float *v, int count) {
    if (WIDTH == 8 && count == 8) {
        store8(to, v);
    } else if (WIDTH == 4 && count == 4) {
        store4(to, v);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
            if (i < count) to[i] = from_float<T>(v[i]);
    }
}

/* WIDTH elements as they are stored. Kernels ask for all they need in this form before they unpack any: what is
 * done to a number keeps everything after it waiting until it has come. */
template <typename T, int WIDTH> struct Raw;
template <> struct Raw<bf16, 8> { uint4 bits; };
template <> struct Raw<bf16, 4> { uint64_t bits; };
template <> struct Raw<bf16, 1> { bf16 value; };
template <> struct Raw<float, 4> { uint4 bits; };
template <> struct Raw<float, 1> { float value; };

static __device__ __forceinline__ void take(Raw<bf16, 8> &to, const bf16 *from) { to.bits = load16(from); }
static __device__ __forceinline__ void take(Raw<bf16, 4> &to, const bf16 *from) { to.bits = *(const uint64_t *)from; }
static __device__ __forceinline__ void take(Raw<bf16, 1> &to, const bf16 *from) { to.value = *from; }
static __device__ __forceinline__ void take(Raw<float, 4> &to, const float *from) { to.bits = load16(from); }
static __device__ __forceinline__ void take(Raw<float, 1> &to, const float *from) { to.value = *from; }

static __device__ __forceinline__ void unpack(float v[8], const Raw<bf16, 8> &from) {
    v[0] = bf16_low(from.bits.x), v[1] = bf16_high(from.bits.x), v[2] = bf16_low(from.bits.y);
    v[3] = bf16_high(from.bits.y), v[4] = bf16_low(from.bits.z), v[5] = bf16_high(from.bits.z);
    v[6] = bf16_low(from.bits.w), v[7] = bf16_high(from.bits.w);
}

static __device__ __forceinline__ void unpack(float v[4], const Raw<bf16, 4> &from) {
    uint32_t first = (uint32_t)from.bits, second = (uint32_t)(from.bits >> 32);
    v[0] = bf16_low(first), v[1] = bf16_high(first), v[2] = bf16_low(second), v[3] = bf16_high(second);
}

static __device__ __forceinline__ void unpack(float v[4], const Raw<float, 4> &from) {
    v[0] = bits_float(from.bits.x), v[1] = bits_float(from.bits.y);
    v[2] = bits_float(from.bits.z), v[3] = bits_float(from.bits.w);
}

template <typename T> static __device__ __forceinline__ void unpack(float v[1], const Raw<T, 1> &from) {
    v[0] = to_float(from.value);
}

/* All WIDTH elements, at an address that their size divides. */
template <int WIDTH, typename T> static __device__ __forceinline__ void put(T *to, const float *v) {
    store_some<WIDTH>(to, v, WIDTH);
}

/* Vector number `item` of rows of `vectors`. */
struct Place {
    int64_t row, vector;
};

static __device__ __forceinline__ Place place_of(int64_t item, int64_t vectors) {
    if (item < vectors) return Place{0, item};
    if ((uint64_t)item >> 32) return Place{item / vectors, item % vectors};
    uint32_t row = (uint32_t)item / (uint32_t)vectors; /* the rule, and much the cheaper division */
    return Place{(int64_t)row, (int64_t)((uint32_t)item - row * (uint32_t)vectors)};
}

/* Division by a number that all threads share, of what is less than 2^31: a product and a shift (Granlund & Montgomery
 * 1994). */
struct Divider {
    uint32_t divisor, multiplier, shift;
};

static inline Divider divider_of(uint32_t divisor) {
    Divider d = {divisor, 0, 0};
    while (d.shift < 31 && (1u << d.shift) < divisor) d.shift++;
    d.multiplier = (uint32_t)((((uint64_t)1 << d.shift) - divisor) * ((uint64_t)1 << 32) / divisor + 1);
    return d;
}

static __device__ __forceinline__ uint32_t divide(uint32_t n, const Divider &by) {
    return ((uint32_t)((uint64_t)n * by.multiplier >> 32) + n) >> by.shift;
}

/* Whether each row begins at an address that `bytes` divides. */
static inline bool rows_aligned(Tensor t, size_t bytes) {
    size_t row = (size_t)t.ld * dtype_size(t.dtype);
    return !t.data || ((uintptr_t)t.data % bytes == 0 && (t.rows <= 1 || row % bytes == 0));
}

/* Whether, moreover, 16 bytes at a time are all of it. */
static inline bool rows_vectors(Tensor t) {
    return rows_aligned(t, 16) && (size_t)t.cols * dtype_size(t.dtype) % 16 == 0;
}

/* Elements of a vector, if a tensor is one of vectors. */
static inline int width_of(DType dtype, bool vectors) { return !vectors ? 1 : dtype == DTYPE_BF16 ? 8 : 4; }

#endif
