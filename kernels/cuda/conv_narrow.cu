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
};

struct ConvNarrow {
    const bf16 *x, *weight, *bias;
    bf16 *y;
    const int32_t *from, *to; /* the segments of x and y */
    int64_t weight_ld, y_ld;
    int chunks; /* of ROWS · REPEAT rows to a segment */
    int cout, taps, hop, act;
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

/* 16 windows by 32 channels. */
static __device__ __forceinline__ void narrow_multiply(float sum[4][4], const uint32_t x[4],
                                                       const uint32_t weight[2][4]) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        for (int e = 0; e < 4; e++) sum[n][e] = 0.0f;
        mma_16816(sum[n], x, weight[n / 2] + n % 2 * 2);
    }
}

/* Blocks of ROWS · REPEAT rows of a segment (x) by 512 channels (y). */
__global__ void __launch_bounds__(THREADS) conv_windows(ConvNarrow a) {
    bf16 *weights = (bf16 *)shared_memory(), *windows = weights + CHANNELS * WINDOW_LD;
    uint32_t *values = (uint32_t *)(windows + ROWS * WINDOW_LD);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int s = (int)blockIdx.x / a.chunks;
    int64_t row = (int64_t)a.to[s] + (int64_t)(blockIdx.x % a.chunks) * ROWS * REPEAT, end = a.to[s + 1];
    if (row >= end) return;
    int channel = (int)blockIdx.y * CHANNELS;
    stage_weights(weights, a, channel);
    __syncthreads();
    uint32_t weight[4][4];
#pragma unroll
    for (int n = 0; n < 4; n++)
        load_matrix_x4(weight[n],
                       weights + (warp * 64 + n * 16 + lane / 16 * 8 + lane % 8) * WINDOW_LD + lane / 8 % 2 * 8);
    int o = channel + warp * 64 + lane % 4 * 8;
    Eight<bf16> bias[2] = {};
    for (int half = 0; a.bias && half < 2; half++)
        if (o + 32 * half < a.cout) take8(bias[half], a.bias + o + 32 * half, a.cout - o - 32 * half, a.whole);
    for (int repetition = 0; repetition < REPEAT && row < end; repetition++, row += ROWS) {
        int rows = (int)(end - row < ROWS ? end - row : ROWS);
        int64_t before = (row - a.to[s]) * a.hop, samples = a.from[s + 1] - a.from[s] - before;
        int64_t whole = samples < a.taps ? 0 : (samples - a.taps) / a.hop + 1; /* windows, from here on */
        stage_windows(windows, values, a.x + a.from[s] + before, a, whole < rows ? (int)whole : rows);
        for (int m = 0; m < rows && channel + warp * 64 < a.cout; m += 16) {
            uint32_t x[4];
            load_matrix_x4(x, windows + (m + lane % 16) * WINDOW_LD + lane / 16 * 8);
#pragma unroll
            for (int half = 0; half < 2; half++) { /* of the channels; a lane has eight of each, in two rows */
                float sum[4][4];
                narrow_multiply(sum, x, weight + 2 * half);
#pragma unroll
                for (int low = 0; low < 2; low++) {
                    int r = m + lane / 4 + 8 * low;
                    float v[8];
                    unpack8(v, bias[half]);
                    for (int e = 0; e < 8; e++) v[e] += sum[e / 2][2 * low + e % 2];
                    activate8(v, a.act);
                    if (r < rows) put8(a.y + (row + r) * a.y_ld + o + 32 * half, v, a.cout - o - 32 * half, a.whole);
                }
            }
        }
    }
}

bool conv_is_narrow(const Device *dev, const ConvArgs *a) {
    return dev->dtype == DTYPE_BF16 && a->kernel <= WINDOW && a->stride <= HOP_MAX && a->x.ld == 1;
}

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
    n.whole = rows_whole(a->y) && (uintptr_t)a->bias.data % 16 == 0;
    dim3 grid((unsigned)(n.chunks * a->out_segments.count), (unsigned)((n.cout + CHANNELS - 1) / CHANNELS));
    size_t shared = (CHANNELS + ROWS) * WINDOW_LD * sizeof(bf16) + ((ROWS - 1) * n.hop + WINDOW) * sizeof(uint32_t);
    return LAUNCH(dev, err, conv_windows, grid, dim3(THREADS), shared, n);
}
