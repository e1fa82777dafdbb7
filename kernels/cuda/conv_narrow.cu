/* Convolutions whose windows hold at most 16 samples (WavLM's: ten): little is read and much is
 * written. Windows, padded to 16, and the weights meet in a single step of the tensor cores; a warp keeps the
 * weights of its 64 channels in registers. */
#include "kernels/cuda/conv.cuh"

enum {
    WINDOW = 16,    /* the samples of a window, padded */
    WINDOW_LD = 24, /* eight consecutive windows lie in different banks */
    ROWS = 128,     /* at a time */
    REPEAT = 4,     /* so often in a block */
    CHANNELS = 512, /* of a block */
    THREADS = 256,
    HOP_MAX = 48, /* samples between the starts of windows */
    WARPS = THREADS / 32,
    WARP_CHANNELS = CHANNELS / WARPS,
    MOMENTS = 16 * WARPS * 2, /* floats: what warps tell each other of 16 rows */
};

struct ConvNarrow {
    const bf16 *x, *weight, *bias, *gamma, *beta;
    bf16 *y;
    const int32_t *from, *to; /* the segments of x and y */
    int64_t weight_ld, y_ld;
    int chunks; /* of ROWS · REPEAT rows to a segment */
    int cout, taps, hop, act;
    float eps;
    bool whole;
};

/* Where the fragment of a 16×8 result has channel `c` of 32: in four such fragments that lie at these places of
 * the weight's rows, a lane holds eight channels side by side, which it stores at once. */
static __device__ __forceinline__ int fragment_place(int c) { return c % 8 / 2 * 8 + c / 8 * 2 + c % 2; }

/* The weights of the block's channels, as fragments want them. */
static __device__ __forceinline__ void stage_weights(bf16 *to, const ConvNarrow &a, int channel) {
    for (int i = (int)threadIdx.x; i < CHANNELS * WINDOW; i += THREADS) {
        int c = i / WINDOW, k = i % WINDOW;
        bool inside = channel + c < a.cout && k < a.taps;
        to[(c / 32 * 32 + fragment_place(c % 32)) * WINDOW_LD + k] =
            inside ? a.weight[(channel + c) * a.weight_ld + k] : from_float<bf16>(0.0f);
    }
}

/* Of a bias, gamma or beta, zeros where there is none. */
static __device__ __forceinline__ void stage_vector(bf16 *to, const bf16 *from, const ConvNarrow &a, int channel) {
    for (int c = (int)threadIdx.x; c < CHANNELS; c += THREADS)
        to[c] = from && channel + c < a.cout ? from[channel + c] : from_float<bf16>(0.0f);
}

/* `rows` windows from x on, by way of `values` where each sample takes a bank of its own; zeros after them. */
static __device__ __forceinline__ void stage_windows(bf16 *to, uint32_t *values, const bf16 *x, const ConvNarrow &a,
                                                     int rows) {
    int count = rows > 0 ? (rows - 1) * a.hop + a.taps : 0;
    for (int i = (int)threadIdx.x; i < count; i += THREADS) values[i] = x[i].bits;
    __syncthreads();
    int r = (int)threadIdx.x % ROWS, half = (int)threadIdx.x / ROWS * 8; /* two threads to a window */
    uint32_t pair[4];
    for (int i = 0; i < 4; i++) {
        int k = half + 2 * i, at = r * a.hop + k;
        uint32_t low = r < rows && k < a.taps ? values[at] : 0, high = r < rows && k + 1 < a.taps ? values[at + 1] : 0;
        pair[i] = low | high << 16;
    }
    store16(to + r * WINDOW_LD + half, make_uint4(pair[0], pair[1], pair[2], pair[3]));
    __syncthreads();
}

/* What a lane has of 16 windows by 64 channels: of each 32 channels eight side by side, in two rows. */
typedef float NarrowSums[2][4][4]; /* [half][fragment][row · 2 + column] */

/* A half of the channels, and their bias. */
static __device__ __forceinline__ void narrow_multiply(float sum[4][4], const uint32_t x[4],
                                                       const uint32_t weight[2][4], const bf16 *bias) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        for (int e = 0; e < 4; e++) sum[n][e] = 0.0f;
        mma_16816(sum[n], x, weight[n / 2] + n % 2 * 2);
    }
    float v[8];
    load8(v, bias);
    for (int i = 0; i < 16; i++) sum[i / 4][i % 4] += v[i / 4 * 2 + i % 2];
}

/* Eight channels of one of the two rows. */
static __device__ __forceinline__ void narrow_take(float v[8], const float sum[4][4], int low) {
    for (int e = 0; e < 8; e++) v[e] = sum[e / 2][2 * low + e % 2];
}

/* ---- norm over the channels ---- */

/* Over the four lanes that have a row. */
static __device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Mean, and sum of squares about it, of the warp's channels of a row. */
static __device__ __forceinline__ void narrow_moments(float to[2], const NarrowSums sum, int low) {
    float total = 0.0f, square = 0.0f, v[8];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        narrow_take(v, sum[half], low);
        for (int e = 0; e < 8; e++) total += v[e];
    }
    float mean = quad_sum(total) / WARP_CHANNELS;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        narrow_take(v, sum[half], low);
        for (int e = 0; e < 8; e++) square += (v[e] - mean) * (v[e] - mean);
    }
    to[0] = mean, to[1] = quad_sum(square);
}

/* Over the channels of all warps: 1 / deviation, and the mean over the deviation. What warps tell each other, `room`
 * for MOMENTS floats, may be overwritten after one more barrier: there are two, in turn. */
static __device__ __forceinline__ void narrow_statistics(float rstd[2], float middle[2], const NarrowSums sum,
                                                         float *room, float eps) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int low = 0; low < 2; low++) {
        float own[2];
        narrow_moments(own, sum, low);
        int r = lane / 4 + 8 * low, pair = warp / 2 ^ r / 2 % 4; /* eight rows lie in different banks */
        if (lane % 4 < 2) room[r * 2 * WARPS + pair * 4 + warp % 2 * 2 + lane % 4] = lane % 4 ? own[1] : own[0];
    }
    __syncthreads();
#pragma unroll
    for (int low = 0; low < 2; low++) { /* a lane adds up two warps', whichever they are */
        uint4 raw = load16(room + (lane / 4 + 8 * low) * 2 * WARPS + lane % 4 * 4);
        float first = bits_float(raw.x), second = bits_float(raw.z);
        float mean = quad_sum(first + second) / WARPS;
        first -= mean, second -= mean;
        float square = bits_float(raw.y) + bits_float(raw.w) + WARP_CHANNELS * (first * first + second * second);
        rstd[low] = 1.0f / sqrtf(quad_sum(square) / CHANNELS + eps);
        middle[low] = mean * rstd[low];
    }
}

static __device__ __forceinline__ void narrow_norm(float v[8], float rstd, float middle, const bf16 *gamma,
                                                   const bf16 *beta) {
    float by[8], plus[8];
    load8(by, gamma);
    load8(plus, beta);
    for (int e = 0; e < 8; e++) v[e] = (v[e] * rstd - middle) * by[e] + plus[e];
}

/* ---- the kernel ---- */

struct NarrowShared {
    bf16 *weights, *windows, *bias, *gamma, *beta;
    float *moments;
    uint32_t *values;
};

static __device__ __forceinline__ NarrowShared narrow_shared(int normed) {
    NarrowShared s;
    s.weights = (bf16 *)shared_memory(), s.windows = s.weights + CHANNELS * WINDOW_LD;
    s.bias = s.windows + ROWS * WINDOW_LD, s.gamma = s.bias + CHANNELS, s.beta = s.gamma + CHANNELS;
    s.moments = (float *)(s.bias + (1 + 2 * normed) * CHANNELS);
    s.values = (uint32_t *)(s.moments + normed * 2 * MOMENTS);
    return s;
}

static size_t narrow_shared_bytes(int normed, int hop) {
    return ((CHANNELS + ROWS) * WINDOW_LD + (1 + 2 * normed) * CHANNELS) * sizeof(bf16) +
           normed * 2 * MOMENTS * sizeof(float) + ((ROWS - 1) * hop + WINDOW) * sizeof(uint32_t);
}

/* Windows m .. m+15, of which there are `rows` in all, to the rows of y from y[0] on. */
template <int NORMED>
static __device__ __forceinline__ void narrow_tile(const ConvNarrow &a, const NarrowShared &shared,
                                                   const uint32_t weight[4][4], bf16 *y, int m, int rows, int channel) {
    int lane = (int)threadIdx.x % 32, own = (int)threadIdx.x / 32 * WARP_CHANNELS + lane % 4 * 8;
    uint32_t x[4];
    NarrowSums sum;
    float rstd[2], middle[2];
    y += (m + lane / 4) * a.y_ld + channel + own;
    load_matrix_x4(x, shared.windows + (m + lane % 16) * WINDOW_LD + lane / 16 * 8);
    if (NORMED) {
        for (int half = 0; half < 2; half++)
            narrow_multiply(sum[half], x, weight + 2 * half, shared.bias + own + 32 * half);
        narrow_statistics(rstd, middle, sum, shared.moments + m / 16 % 2 * MOMENTS, a.eps);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int c = own + 32 * half;
        if (!NORMED) narrow_multiply(sum[half], x, weight + 2 * half, shared.bias + c);
#pragma unroll
        for (int low = 0; low < 2; low++) {
            float v[8];
            narrow_take(v, sum[half], low);
            if (NORMED) narrow_norm(v, rstd[low], middle[low], shared.gamma + c, shared.beta + c);
            activate8(v, a.act);
            if (m + lane / 4 + 8 * low < rows)
                put8(y + low * 8 * a.y_ld + 32 * half, v, NORMED ? 8 : a.cout - channel - c, NORMED || a.whole);
        }
    }
}

/* Blocks of ROWS · REPEAT rows of a segment (x) by 512 channels (y). */
template <int NORMED> __global__ void __launch_bounds__(THREADS) conv_windows(ConvNarrow a) {
    NarrowShared shared = narrow_shared(NORMED);
    int lane = (int)threadIdx.x % 32, first = (int)threadIdx.x / 32 * WARP_CHANNELS; /* of the warp's channels */
    int s = (int)blockIdx.x / a.chunks, channel = (int)blockIdx.y * CHANNELS;
    int64_t row = (int64_t)a.to[s] + (int64_t)(blockIdx.x % a.chunks) * ROWS * REPEAT, end = a.to[s + 1];
    if (row >= end) return;
    stage_weights(shared.weights, a, channel);
    stage_vector(shared.bias, a.bias, a, channel);
    if (NORMED) stage_vector(shared.gamma, a.gamma, a, channel);
    if (NORMED) stage_vector(shared.beta, a.beta, a, channel);
    __syncthreads();
    uint32_t weight[4][4];
#pragma unroll
    for (int n = 0; n < 4; n++)
        load_matrix_x4(weight[n],
                       shared.weights + (first + n * 16 + lane / 16 * 8 + lane % 8) * WINDOW_LD + lane / 8 % 2 * 8);
    for (int repetition = 0; repetition < REPEAT && row < end; repetition++, row += ROWS) {
        int rows = (int)(end - row < ROWS ? end - row : ROWS);
        int64_t before = (row - a.to[s]) * a.hop, samples = a.from[s + 1] - a.from[s] - before;
        int64_t whole = samples < a.taps ? 0 : (samples - a.taps) / a.hop + 1; /* windows, from here on */
        stage_windows(shared.windows, shared.values, a.x + a.from[s] + before, a, whole < rows ? (int)whole : rows);
        for (int m = 0; m < rows && channel + first < a.cout; m += 16)
            narrow_tile<NORMED>(a, shared, weight, a.y + row * a.y_ld, m, rows, channel);
    }
}

bool conv_is_narrow(const Device *dev, const ConvArgs *a) {
    return dev->dtype == DTYPE_BF16 && a->kernel <= WINDOW && a->stride <= HOP_MAX && a->x.ld == 1;
}

bool conv_narrow_norms(const ConvArgs *a) { return a->y.cols == CHANNELS && rows_whole(a->y); }

bool conv_narrow(Device *dev, const ConvArgs *a, Error *err) {
    ConvNarrow n = {};
    n.x = (const bf16 *)a->x.data;
    n.weight = (const bf16 *)a->weight.data, n.weight_ld = a->weight.ld;
    n.bias = (const bf16 *)a->bias.data;
    n.y = (bf16 *)a->y.data, n.y_ld = a->y.ld;
    n.from = a->in_segments.device, n.to = a->out_segments.device;
    n.chunks = (int)((a->out_segments.longest + ROWS * REPEAT - 1) / (ROWS * REPEAT));
    n.cout = (int)a->y.cols;
    n.taps = a->kernel, n.hop = a->stride;
    n.act = a->act;
    n.gamma = (const bf16 *)a->gamma.data, n.beta = (const bf16 *)a->beta.data, n.eps = a->eps;
    n.whole = rows_whole(a->y);
    dim3 grid((unsigned)(n.chunks * a->out_segments.count), (unsigned)((n.cout + CHANNELS - 1) / CHANNELS));
    int normed = n.gamma != NULL;
    size_t shared = narrow_shared_bytes(normed, n.hop);
    return normed ? LAUNCH(dev, err, (conv_windows<1>), grid, dim3(THREADS), shared, n)
                  : LAUNCH(dev, err, (conv_windows<0>), grid, dim3(THREADS), shared, n);
}
