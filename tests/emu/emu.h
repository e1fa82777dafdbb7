/* What kernel.cuh takes from nvcc and the GPU, for g++: a kernel is a function that fibers run, one a thread;
 * what needs the whole warp or block waits for it in emu.cc. Built with SEMOLLM_EMU_CHECK every access to
 * memory is seen, too (check.cc). */
#ifndef SEMOLLM_TESTS_EMU_EMU_H
#define SEMOLLM_TESTS_EMU_EMU_H

#include "tests/emu/cuda_runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct float3 {
    float x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return int2{x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return int4{x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float3 make_float3(float x, float y, float z) { return float3{x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

/* ---- where a thread is ---- */

struct EmuPlace {
    uint3 thread, block;
    dim3 threads, blocks;
};
extern __thread const EmuPlace *emu_place; /* null outside kernels */

#define threadIdx (emu_place->thread)
#define blockIdx (emu_place->block)
#define blockDim (emu_place->threads)
#define gridDim (emu_place->blocks)
static const int warpSize = 32;

/* ---- what waits for others ---- */

enum EmuShuffle { EMU_SHUFFLE_INDEX, EMU_SHUFFLE_UP, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_XOR };

void emu_block_barrier(void);
int emu_block_count(int predicate); /* a barrier; how many threads' predicates hold */
void emu_warp_barrier(unsigned mask);
void emu_fence(void);
uint64_t emu_shuffle(EmuShuffle how, unsigned mask, uint64_t bits, unsigned operand, int width);
unsigned emu_ballot(unsigned mask, int predicate);
void emu_load_matrix(uint32_t *r, const void *row, int matrices, bool transposed);
void emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2]);
void emu_copy_async(void *to_shared, const void *from, bool valid);
void emu_copy_commit(void);
void emu_copy_wait(int pending);
char *emu_shared_memory(void);
void emu_trap(void);

static inline void __syncthreads(void) { emu_block_barrier(); }
static inline int __syncthreads_count(int predicate) { return emu_block_count(predicate); }
static inline int __syncthreads_or(int predicate) { return emu_block_count(predicate) > 0; }
static inline int __syncthreads_and(int predicate) { return emu_block_count(!predicate) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emu_warp_barrier(mask); }
static inline void __threadfence(void) { emu_fence(); }
static inline void __threadfence_block(void) { emu_fence(); }
static inline void __trap(void) { emu_trap(); }

template <typename T> static inline T emu_shuffle_as(EmuShuffle how, unsigned mask, T value, unsigned operand, int w) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles carry up to eight bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = emu_shuffle(how, mask, bits, operand, w);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return emu_shuffle_as(EMU_SHUFFLE_INDEX, mask, value, (unsigned)lane, width);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return emu_shuffle_as(EMU_SHUFFLE_UP, mask, value, delta, width);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return emu_shuffle_as(EMU_SHUFFLE_DOWN, mask, value, delta, width);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    return emu_shuffle_as(EMU_SHUFFLE_XOR, mask, value, (unsigned)lanes, width);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate) { return emu_ballot(mask, predicate); }
static inline int __any_sync(unsigned mask, int predicate) { return emu_ballot(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return emu_ballot(mask, !predicate) == 0; }

static inline char *shared_memory(void) { return emu_shared_memory(); }

/* ---- memory ---- */

/* Single accesses, whatever the compiler would make of them. */
uint4 emu_load16(const void *from);
void emu_store16(void *to, uint4 value);

static inline uint4 load16(const void *from) { return emu_load16(from); }
static inline void store16(void *to, uint4 value) { emu_store16(to, value); }
static inline void copy_async16(void *to_shared, const void *from, bool valid) {
    emu_copy_async(to_shared, from, valid);
}
static inline void copy_async_commit(void) { emu_copy_commit(); }
template <int PENDING> static inline void copy_async_wait(void) { emu_copy_wait(PENDING); }

template <typename T> static inline T __ldg(const T *from) { return *from; }

/* A read-modify-write of 4 or 8 bytes, which the race check takes as ordering what follows. */
void emu_atomic(const void *at, size_t bytes);

template <typename T> struct EmuSame { typedef T type; };

template <typename T> static inline T atomicAdd(T *at, typename EmuSame<T>::type value) {
    static_assert((T)1 / 2 == 0, "floating-point atomics are not deterministic");
    emu_atomic(at, sizeof *at);
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
template <typename T> static inline T atomicExch(T *at, typename EmuSame<T>::type value) {
    emu_atomic(at, sizeof *at);
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
template <typename T>
static inline T atomicCAS(T *at, typename EmuSame<T>::type expected, typename EmuSame<T>::type value) {
    emu_atomic(at, sizeof *at);
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
template <typename T> static inline T atomicMax(T *at, typename EmuSame<T>::type value) {
    emu_atomic(at, sizeof *at);
    T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}
template <typename T> static inline T atomicMin(T *at, typename EmuSame<T>::type value) {
    emu_atomic(at, sizeof *at);
    T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (value < old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

/* ---- tensor cores ---- */

static inline void load_matrix_x4(uint32_t r[4], const void *row) { emu_load_matrix(r, row, 4, false); }
static inline void load_matrix_x4_transposed(uint32_t r[4], const void *row) { emu_load_matrix(r, row, 4, true); }
static inline void load_matrix_x2(uint32_t r[2], const void *row) { emu_load_matrix(r, row, 2, false); }
static inline void load_matrix_x2_transposed(uint32_t r[2], const void *row) { emu_load_matrix(r, row, 2, true); }
static inline void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2]) { emu_mma(d, a, b); }

/* ---- numbers ---- */

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float bits_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
static inline unsigned __float_as_uint(float x) { return float_bits(x); }
static inline int __float_as_int(float x) { return (int)float_bits(x); }
static inline float __uint_as_float(unsigned bits) { return bits_float(bits); }
static inline float __int_as_float(int bits) { return bits_float((unsigned)bits); }

/* cvt.rn.bf16x2.f32: nearest even; a NaN becomes the canonical one. */
static inline uint32_t emu_bf16(float x) {
    uint32_t bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
static inline uint32_t pack_bf16(float low, float high) { return emu_bf16(low) | emu_bf16(high) << 16; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }

#define EMU_MIN_MAX(type)                                                                                              \
    static inline type min(type a, type b) { return b < a ? b : a; }                                                   \
    static inline type max(type a, type b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }

static inline float exp2_fast(float x) {
    float y = exp2f(x);
    return fabsf(y) < 1.17549435e-38f ? 0.0f : y;
}
static inline float reciprocal_fast(float x) {
    float y = 1.0f / x;
    return fabsf(y) < 1.17549435e-38f ? 0.0f * y : y;
}
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline void sincospif(float x, float *s, float *c) { sincosf(3.14159265358979f * x, s, c); }

/* glibc has functions of these names, too. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)

#ifdef SEMOLLM_EMU_CHECK
void emu_special(void); /* counts a special function */
#define EMU_SPECIAL(call) (emu_special(), call)
#define exp2_fast(x) EMU_SPECIAL(exp2_fast(x))
#define reciprocal_fast(x) EMU_SPECIAL(reciprocal_fast(x))
#define rsqrtf(x) EMU_SPECIAL(rsqrtf(x))
#define sqrtf(x) EMU_SPECIAL(sqrtf(x))
#define expf(x) EMU_SPECIAL(expf(x))
#define exp2f(x) EMU_SPECIAL(exp2f(x))
#define logf(x) EMU_SPECIAL(logf(x))
#define log2f(x) EMU_SPECIAL(log2f(x))
#define sinf(x) EMU_SPECIAL(sinf(x))
#define cosf(x) EMU_SPECIAL(cosf(x))
#define sincosf(x, s, c) EMU_SPECIAL(sincosf(x, s, c))
#define sincospif(x, s, c) EMU_SPECIAL(sincospif(x, s, c))
#define tanhf(x) EMU_SPECIAL(tanhf(x))
#define erff(x) EMU_SPECIAL(erff(x))
#endif

/* ---- launching ---- */

extern "C" bool emu_submit(Device *dev, Error *err, const EmuKernel *kernel);

template <typename F>
static bool emu_launch(Device *dev, Error *err, const char *name, dim3 grid, dim3 block, size_t shared, F thread) {
    EmuKernel kernel = {name,
                        [](void *state) { (*(F *)state)(); },
                        [](void *state) { delete (F *)state; },
                        new F(thread),
                        sizeof(F),
                        grid,
                        block,
                        shared};
    return emu_submit(dev, err, &kernel);
}

#endif
