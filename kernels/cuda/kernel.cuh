/* What kernels are written with. One text for two compilers: nvcc, and g++ with the emulator of
 * tests/emu, which runs, checks and counts it on a CPU. Beyond the CUDA C that both know (threadIdx,
 * __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync, ...) a kernel uses only what stands here.
 *
 * The rules that keep the two alike:
 *   - Shared memory is one dynamic buffer, shared_memory(), which a kernel carves up itself; its size
 *     is an argument of LAUNCH.
 *   - Global memory that matters is read and written 16 bytes at a time by load8/store8 (eight
 *     elements) or load16/store16, from 16-byte aligned addresses.
 *   - Kernels are deterministic: no floating-point atomics.
 *   - A launcher is the op's own function, cuda_NAME(dev, args, err); it launches nothing for no rows. */
#ifndef SEMOLLM_KERNELS_CUDA_KERNEL_CUH
#define SEMOLLM_KERNELS_CUDA_KERNEL_CUH

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern "C" {
#include "base/rng.h"
#include "kernels/cuda/cuda.h"
}

/* bfloat16 as it is stored. */
struct bf16 {
    uint16_t bits;
};

#ifdef SEMOLLM_EMU
#include "tests/emu/emu.h"
#else

static __device__ __forceinline__ char *shared_memory(void) {
    extern __shared__ __align__(128) char shared_buffer[];
    return shared_buffer;
}

/* ---- 16 bytes at a time ---- */

/* As one number: a uint4 the compiler takes apart, and of its parts it makes four accesses where others stand beside
 * them. */
static __device__ __forceinline__ uint4 load16(const void *from) {
    unsigned __int128 both = *(const unsigned __int128 *)from;
    uint64_t low = (uint64_t)both, high = (uint64_t)(both >> 64);
    return make_uint4((uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32));
}

static __device__ __forceinline__ void store16(void *to, uint4 value) {
    uint64_t low = (uint64_t)value.y << 32 | value.x, high = (uint64_t)value.w << 32 | value.z;
    *(unsigned __int128 *)to = (unsigned __int128)high << 64 | low;
}

/* ---- asynchronous copies from global to shared memory (sm_80) ---- */

/* 16 bytes; zeros are written where not `valid`, and `from` is not read. */
static __device__ __forceinline__ void copy_async16(void *to_shared, const void *from, bool valid) {
    uint32_t to = (uint32_t)__cvta_generic_to_shared(to_shared);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void copy_async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Until at most `PENDING` of the committed groups are still under way. */
template <int PENDING> static __device__ __forceinline__ void copy_async_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* ---- tensor cores ---- */

/* Four (two) 8×8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8. */
static __device__ __forceinline__ void load_matrix_x4(uint32_t r[4], const void *row) {
    uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

static __device__ __forceinline__ void load_matrix_x4_transposed(uint32_t r[4], const void *row) {
    uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

static __device__ __forceinline__ void load_matrix_x2(uint32_t r[2], const void *row) {
    uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(from)
                 : "memory");
}

static __device__ __forceinline__ void load_matrix_x2_transposed(uint32_t r[2], const void *row) {
    uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(from)
                 : "memory");
}

/* d += a·b: a 16×16 and b 16×8 of bf16, d 16×8 of float, in the fragment layout of
 * mma.sync.aligned.m16n8k16.row.col (PTX ISA, "Matrix fragments for mma.m16n8k16"). */
static __device__ __forceinline__ void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ---- numbers ---- */

/* Two bf16 in a register, the first in the low half; rounded to nearest even. */
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

/* 2^x by the special function unit: within 2 ulp, flushing subnormals. */
static __device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1/x by the special function unit: within 1 ulp, flushing subnormals. */
static __device__ __forceinline__ float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

static __device__ __forceinline__ uint32_t float_bits(float x) { return __float_as_uint(x); }
static __device__ __forceinline__ float bits_float(uint32_t x) { return __uint_as_float(x); }

#endif /* of what nvcc has and the emulator provides */

static __device__ __forceinline__ float bf16_low(uint32_t both) { return bits_float(both << 16); }
static __device__ __forceinline__ float bf16_high(uint32_t both) { return bits_float(both & 0xffff0000u); }

static __device__ __forceinline__ float to_float(bf16 x) { return bits_float((uint32_t)x.bits << 16); }
static __device__ __forceinline__ float to_float(float x) { return x; }

template <typename T> __device__ T from_float(float x);
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return bf16{(uint16_t)(pack_bf16(x, 0.0f) & 0xffffu)};
}
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }

/* Eight elements at a 16-byte aligned address, one access for bf16, two for float. */
static __device__ __forceinline__ void load8(float v[8], const bf16 *from) {
    uint4 raw = load16(from);
    v[0] = bf16_low(raw.x), v[1] = bf16_high(raw.x), v[2] = bf16_low(raw.y), v[3] = bf16_high(raw.y);
    v[4] = bf16_low(raw.z), v[5] = bf16_high(raw.z), v[6] = bf16_low(raw.w), v[7] = bf16_high(raw.w);
}

static __device__ __forceinline__ void load8(float v[8], const float *from) {
    for (int half = 0; half < 2; half++) {
        uint4 raw = load16(from + 4 * half);
        v[4 * half] = bits_float(raw.x), v[4 * half + 1] = bits_float(raw.y);
        v[4 * half + 2] = bits_float(raw.z), v[4 * half + 3] = bits_float(raw.w);
    }
}

static __device__ __forceinline__ void store8(bf16 *to, const float v[8]) {
    uint4 raw;
    raw.x = pack_bf16(v[0], v[1]), raw.y = pack_bf16(v[2], v[3]);
    raw.z = pack_bf16(v[4], v[5]), raw.w = pack_bf16(v[6], v[7]);
    store16(to, raw);
}

static __device__ __forceinline__ void store8(float *to, const float v[8]) {
    for (int half = 0; half < 2; half++) {
        uint4 raw;
        raw.x = float_bits(v[4 * half]), raw.y = float_bits(v[4 * half + 1]);
        raw.z = float_bits(v[4 * half + 2]), raw.w = float_bits(v[4 * half + 3]);
        store16(to + 4 * half, raw);
    }
}

/* What stands before is issued before what stands after, where nvcc would put reads behind the work that does not wait
 * for them. A warp's barrier does that for next to nothing; no result depends on it. For whole warps. */
#define ISSUE_FIRST() __syncwarp()

/* ---- sums over a warp and a block, the same in every lane or thread ---- */

static __device__ __forceinline__ float warp_sum(float x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

static __device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Over all threads of the block (a multiple of 32); `partial` is room for 32 floats of shared memory,
 * free again after the call's return only for another block_sum or after a __syncthreads. */
static __device__ __forceinline__ float block_sum(float x, float *partial) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)(blockDim.x + 31) / 32;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? partial[lane] : 0.0f);
}

/* ---- launching ---- */

/* Parameters that a call converts to the kernel's types rather than deducing them anew. */
template <typename T> struct Same {
    typedef T type;
};

/* Nothing to do for an empty grid. `shared` is in bytes, at most what the device offers a block. */
template <typename... P>
static bool launch(Device *dev, Error *err, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared, typename Same<P>::type... args) {
    if (!grid.x || !grid.y || !grid.z) return true;
#ifdef SEMOLLM_EMU
    return emu_launch(dev, err, name, grid, block, shared, [=] { kernel(args...); });
#else
    void *list[] = {(void *)&args...};
    return cuda_launch(dev, err, name, (const void *)kernel, grid, block, shared, list);
#endif
}

/* LAUNCH(dev, err, kernel, grid, block, shared bytes, arguments...): a kernel that is a template is put in
 * parentheses. */
#define LAUNCH(dev, err, kernel, ...) launch(dev, err, #kernel, kernel, __VA_ARGS__)

/* The rows of a launch in one dimension. */
static inline dim3 blocks_for(int64_t items, int64_t each) { return dim3((unsigned)((items + each - 1) / each)); }

#endif
