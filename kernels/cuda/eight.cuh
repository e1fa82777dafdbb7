/* Eight elements in registers as they are stored, so that what a kernel keeps of a row takes no more room than it
 * must; and the segment that a packed row belongs to. */
#ifndef SEMOLLM_KERNELS_CUDA_EIGHT_CUH
#define SEMOLLM_KERNELS_CUDA_EIGHT_CUH

#include "kernels/cuda/functions.cuh"
#include "kernels/cuda/kernel.cuh"

template <typename T> struct Eight { uint4 part[sizeof(T) / 2]; };

static __device__ __forceinline__ void unpack8(float v[8], const Eight<bf16> &from) {
    uint4 raw = from.part[0];
    v[0] = bf16_low(raw.x), v[1] = bf16_high(raw.x), v[2] = bf16_low(raw.y), v[3] = bf16_high(raw.y);
    v[4] = bf16_low(raw.z), v[5] = bf16_high(raw.z), v[6] = bf16_low(raw.w), v[7] = bf16_high(raw.w);
}

static __device__ __forceinline__ void unpack8(float v[8], const Eight<float> &from) {
    for (int half = 0; half < 2; half++) {
        uint4 raw = from.part[half];
        v[4 * half] = bits_float(raw.x), v[4 * half + 1] = bits_float(raw.y);
        v[4 * half + 2] = bits_float(raw.z), v[4 * half + 3] = bits_float(raw.w);
    }
}

static __device__ __forceinline__ void pack8(Eight<bf16> &to, const float v[8]) {
    to.part[0] = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

static __device__ __forceinline__ void pack8(Eight<float> &to, const float v[8]) {
    for (int half = 0; half < 2; half++)
        to.part[half] = make_uint4(float_bits(v[4 * half]), float_bits(v[4 * half + 1]), float_bits(v[4 * half + 2]),
                                   float_bits(v[4 * half + 3]));
}

/* The first `count` (also less than 0, more than 8) of eight elements, zeros for the others. `whole`: they lie at
 * a multiple of 16 bytes, and there are none or eight. */
template <typename T> static __device__ __forceinline__ void take8(Eight<T> &to, const T *from, int count, bool whole) {
    if (whole && count > 0) {
        for (int i = 0; i < (int)sizeof(T) / 2; i++) to.part[i] = load16((const char *)from + 16 * i);
        return;
    }
    float v[8];
    for (int i = 0; i < 8; i++) v[i] = i < count ? to_float(from[i]) : 0.0f;
    pack8(to, v);
}

template <typename T> static __device__ __forceinline__ void put8(T *to, const Eight<T> &from, int count, bool whole) {
    if (whole && count > 0) {
        for (int i = 0; i < (int)sizeof(T) / 2; i++) store16((char *)to + 16 * i, from.part[i]);
        return;
    }
    float v[8];
    unpack8(v, from);
    for (int i = 0; i < 8; i++)
        if (i < count) to[i] = from_float<T>(v[i]);
}

template <typename T> static __device__ __forceinline__ void put8(T *to, const float v[8], int count, bool whole) {
    Eight<T> packed;
    pack8(packed, v);
    put8(to, packed, count, whole);
}

static __device__ __forceinline__ void activate8(float v[8], int act) {
    if (act == ACT_GELU)
        for (int i = 0; i < 8; i++) v[i] = gelu(v[i]);
    else if (act == ACT_RELU)
        for (int i = 0; i < 8; i++) v[i] = activate<ACT_RELU>(v[i]);
}

/* Whether rows can be read and written 16 bytes at a time. */
static inline bool rows_whole(Tensor t) {
    return !tensor_present(t) || ((uintptr_t)t.data % 16 == 0 && t.ld % 8 == 0 && t.cols % 8 == 0);
}

/* The segment that row `row` < cu[count] belongs to. */
static __device__ __forceinline__ int segment_of(const int32_t *cu, int count, int64_t row) {
    int low = 0, high = count; /* cu[low] <= row < cu[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (cu[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

#endif
