/* WavLM's positional convolution on tensor cores. A block holds the frames that its 256 rows of a segment see, of
 * one group, in shared memory; every tap is a product with them shifted by a row, and the taps' weights stream
 * by, three in flight. */
#include "kernels/cuda/conv.cuh"

enum { ROWS = 256, STAGES = 3, THREADS = 256, WARP_ROWS = 32, KERNEL_MAX = 128 };

struct PosTiled {
    const bf16 *x, *weight, *bias;
    bf16 *y;
    const int32_t *segments;
    int64_t x_ld, weight_ld, y_ld;
    int kernel, chunks; /* of ROWS rows to a segment */
};

/* The rows of a block: `live` from `row` on, of a segment from `first` up to `end`. */
struct PosPlace {
    int64_t first, end, row;
    int live;
};

/* Rows of W elements and 16 bytes: eight consecutive ones lie in different banks. */
template <int W> struct PosRoom {
    enum { LD = W + 8, OCTETS = W / 8 };
};

template <int W>
static __device__ __forceinline__ void stage_frames(bf16 *to, const PosTiled &a, const PosPlace &p, int group) {
    const int LD = PosRoom<W>::LD, OCTETS = PosRoom<W>::OCTETS;
    int count = (p.live + WARP_ROWS - 1) / WARP_ROWS * WARP_ROWS + a.kernel - 1;
    int64_t left = p.row - a.kernel / 2;
    for (int i = (int)threadIdx.x; i < count * OCTETS; i += THREADS) {
        int64_t t = left + i / OCTETS;
        bool inside = t >= p.first && t < p.end;
        const bf16 *from = a.x + (inside ? t : p.first) * a.x_ld + group * W + i % OCTETS * 8;
        copy_async16(to + i / OCTETS * LD + i % OCTETS * 8, from, inside);
    }
}

/* What a thread copies of every tap's weights. */
template <int W> struct TapCopy {
    enum { COPIES = (W * W / 8 + THREADS - 1) / THREADS };
    const bf16 *from[COPIES];
    int to[COPIES]; /* less than 0: nothing */
};

template <int W> static __device__ __forceinline__ TapCopy<W> tap_copy(const PosTiled &a, int group, int tap) {
    const int LD = PosRoom<W>::LD, OCTETS = PosRoom<W>::OCTETS;
    TapCopy<W> t;
    for (int i = 0; i < TapCopy<W>::COPIES; i++) {
        int at = (int)threadIdx.x + i * THREADS, row = at / OCTETS, octet = at % OCTETS;
        t.to[i] = row < W ? row * LD + octet * 8 : -1;
        t.from[i] = a.weight + (group * W + (row < W ? row : 0)) * a.weight_ld + tap * W + octet * 8;
    }
    return t;
}

/* The next tap. */
template <int W> static __device__ __forceinline__ void stage_tap(bf16 *to, TapCopy<W> *t) {
#pragma unroll
    for (int i = 0; i < TapCopy<W>::COPIES; i++) {
        if (t->to[i] >= 0) copy_async16(to + t->to[i], t->from[i], true);
        t->from[i] += W;
    }
}

/* sum += the warp's 32 rows, seen from a tap, times its weights. */
template <int W>
static __device__ __forceinline__ void multiply_tap(float sum[2][W / 8][4], const bf16 *frames, const bf16 *weight) {
    const int LD = PosRoom<W>::LD;
    int lane = (int)threadIdx.x % 32;
    frames += lane % 16 * LD + lane / 16 * 8;
    weight += (lane / 16 * 8 + lane % 8) * LD + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < W; k += 16) {
        uint32_t x[2][4], w[W / 16][4];
#pragma unroll
        for (int m = 0; m < 2; m++) load_matrix_x4(x[m], frames + 16 * m * LD + k);
#pragma unroll
        for (int n = 0; n < W / 16; n++) load_matrix_x4(w[n], weight + 16 * n * LD + k);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < W / 8; n++) mma_16816(sum[m][n], x[m], w[n / 2] + n % 2 * 2);
    }
}

/* The frames of the warp's rows become y: x + GELU(sum + bias). */
template <int W>
static __device__ __forceinline__ void finish_rows(bf16 *frames, const float sum[2][W / 8][4], const bf16 *bias) {
    const int LD = PosRoom<W>::LD;
    int lane = (int)threadIdx.x % 32, c = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < W / 8; n++) {
        float low = to_float(bias[8 * n + c]), high = to_float(bias[8 * n + c + 1]);
#pragma unroll
        for (int part = 0; part < 4; part++) {
            uint32_t *at = (uint32_t *)(frames + (lane / 4 + 8 * part) * LD + 8 * n + c), x = *at;
            const float *v = sum[part / 2][n] + part % 2 * 2;
            *at = pack_bf16(bf16_low(x) + gelu(v[0] + low), bf16_high(x) + gelu(v[1] + high));
        }
    }
}

/* Blocks of 256 rows of a segment (x) by groups (y). */
template <int W> __global__ void __launch_bounds__(THREADS, 2) pos_conv_tiles(PosTiled a) {
    const int LD = PosRoom<W>::LD, OCTETS = PosRoom<W>::OCTETS;
    bf16 *frames = (bf16 *)shared_memory(), *weights = frames + (ROWS + a.kernel - 1) * LD;
    int group = (int)blockIdx.y, s = (int)blockIdx.x / a.chunks, left = a.kernel / 2;
    PosPlace p;
    p.first = a.segments[s], p.end = a.segments[s + 1];
    p.row = p.first + (int64_t)(blockIdx.x % a.chunks) * ROWS;
    if (p.row >= p.end) return;
    p.live = (int)(p.end - p.row < ROWS ? p.end - p.row : ROWS);
    /* Only taps that see the segment from one of the rows: first <= row + i + tap - left < end. */
    int64_t before = p.row - p.first, after = p.end - p.row;
    int tap = (int)(left - before - p.live + 1 > 0 ? left - before - p.live + 1 : 0);
    int end = (int)(left + after < a.kernel ? left + after : a.kernel);
    TapCopy<W> copy = tap_copy<W>(a, group, tap);
    stage_frames<W>(frames, a, p, group);
    for (int i = 0; i < STAGES - 1; i++) {
        if (tap + i < end) stage_tap<W>(weights + i * W * LD, &copy);
        copy_async_commit();
    }
    float sum[2][W / 8][4] = {};
    int warp_row = (int)threadIdx.x / 32 * WARP_ROWS;
    for (int i = 0; tap < end; i++, tap++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        int next = i + STAGES - 1;
        if (tap + STAGES - 1 < end) stage_tap<W>(weights + next % STAGES * W * LD, &copy);
        copy_async_commit();
        if (warp_row < p.live) multiply_tap<W>(sum, frames + (warp_row + tap) * LD, weights + i % STAGES * W * LD);
    }
    __syncthreads();
    frames += left * LD;
    if (warp_row < p.live) finish_rows<W>(frames + warp_row * LD, sum, a.bias + group * W);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < p.live * OCTETS; i += THREADS)
        store16(a.y + (p.row + i / OCTETS) * a.y_ld + group * W + i % OCTETS * 8,
                load16(frames + i / OCTETS * LD + i % OCTETS * 8));
}

bool pos_conv_is_tiled(const Device *dev, const PosConvArgs *a) {
    int64_t width = a->x.cols / a->groups;
    return dev->dtype == DTYPE_BF16 && (width == 48 || width == 64) && a->kernel <= KERNEL_MAX && rows_whole(a->x) &&
           rows_whole(a->weight) && rows_whole(a->y);
}

template <int W> static bool run_tiled(Device *dev, const PosTiled &a, dim3 grid, Error *err) {
    size_t shared = (size_t)(ROWS + a.kernel - 1 + STAGES * W) * PosRoom<W>::LD * sizeof(bf16);
    return LAUNCH(dev, err, (pos_conv_tiles<W>), grid, dim3(THREADS), shared, a);
}

bool pos_conv_tiled(Device *dev, const PosConvArgs *a, Error *err) {
    PosTiled p = {};
    p.x = (const bf16 *)a->x.data, p.x_ld = a->x.ld;
    p.weight = (const bf16 *)a->weight.data, p.weight_ld = a->weight.ld;
    p.bias = (const bf16 *)a->bias.data;
    p.y = (bf16 *)a->y.data, p.y_ld = a->y.ld;
    p.segments = a->segments.device;
    p.kernel = a->kernel;
    p.chunks = (int)((a->segments.longest + ROWS - 1) / ROWS);
    dim3 grid((unsigned)(p.chunks * a->segments.count), (unsigned)a->groups);
    return a->x.cols / a->groups == 64 ? run_tiled<64>(dev, p, grid, err) : run_tiled<48>(dev, p, grid, err);
}
