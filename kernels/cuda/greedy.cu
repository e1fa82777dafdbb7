/* The greatest logit of a row and its log-sum-exp, in one read (Milakov & Gimelshein 2018). Decoding has few rows of
 * up to 150 thousand logits: each is split over as many blocks as fill a GPU, and what they find is merged in their
 * order. */
#include <float.h>

#include "kernels/cuda/functions.cuh"
#include "kernels/cuda/rows.cuh"

/* Vectors that a thread asks for before it looks at any; blocks that fill a GPU. */
enum { THREADS = 256, WARPS = THREADS / 32, AHEAD = 4, FILL = 1024 };

struct Greedy {
    const void *logits;
    int32_t *token;
    float *logit, *log_sum;
    int64_t ld;
    int rows, vocab, parts, part; /* part: columns of each */
};

/* Of the columns seen so far: the greatest logit and the lowest column that has it; the sum of e^(x - most). */
struct Best {
    float most, sum;
    int column;
};

static __device__ __forceinline__ Best none(void) { return Best{-FLT_MAX, 0.0f, 0}; }

/* WIDTH logits from `column` on, which is past all columns seen. */
template <int WIDTH> static __device__ __forceinline__ void absorb(Best *b, const float *x, int column) {
    float most = x[0];
#pragma unroll
    for (int i = 1; i < WIDTH; i++) most = fmaxf(most, x[i]);
    if (most > b->most) {
        b->sum *= exp_fast(b->most - most);
        b->most = most;
#pragma unroll
        for (int i = WIDTH - 1; i >= 0; i--)
            if (x[i] == most) b->column = column + i;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) b->sum += exp_fast(x[i] - b->most);
}

/* The same from either side, so that all lanes of a warp end with the same. */
static __device__ __forceinline__ Best merge(Best a, Best b) {
    float most = fmaxf(a.most, b.most);
    int column = a.most > b.most ? a.column : a.most < b.most ? b.column : min(a.column, b.column);
    return Best{most, a.sum * exp_fast(a.most - most) + b.sum * exp_fast(b.most - most), column};
}

static __device__ __forceinline__ Best warp_merge(Best b) {
    for (int step = 16; step > 0; step >>= 1)
        b = merge(b, Best{__shfl_xor_sync(0xffffffffu, b.most, step), __shfl_xor_sync(0xffffffffu, b.sum, step),
                          __shfl_xor_sync(0xffffffffu, b.column, step)});
    return b;
}

static __device__ __forceinline__ void write_row(const Greedy &g, int64_t row, Best b) {
    g.token[row] = b.column;
    g.logit[row] = b.most;
    g.log_sum[row] = b.most + logf(b.sum);
}

/* partial null: a row is one part, which is the result. */
template <typename T, int WIDTH>
static __global__ void __launch_bounds__(THREADS) greedy_kernel(Greedy g, Best *partial) {
    const T *row = (const T *)g.logits + (int64_t)blockIdx.x * g.ld;
    int begin = (int)blockIdx.y * g.part, end = min(g.vocab, begin + g.part), lane = (int)threadIdx.x % 32;
    Best *found = (Best *)shared_memory(), best = none();
    for (int c = begin + (int)threadIdx.x * WIDTH; c < end; c += AHEAD * THREADS * WIDTH) {
        Raw<T, WIDTH> raw[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) take(raw[i], row + min(c + i * THREADS * WIDTH, end - WIDTH));
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float x[WIDTH];
            unpack(x, raw[i]);
            if (c + i * THREADS * WIDTH < end) absorb<WIDTH>(&best, x, c + i * THREADS * WIDTH);
        }
    }
    best = warp_merge(best);
    if (lane == 0) found[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    best = warp_merge(lane < WARPS ? found[lane] : none());
    if (lane) return;
    if (partial)
        partial[(int64_t)blockIdx.x * g.parts + blockIdx.y] = best;
    else
        write_row(g, blockIdx.x, best);
}

/* A warp a row. */
static __global__ void greedy_merge_kernel(Greedy g, const Best *partial) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (row >= g.rows) return;
    Best best = none();
    for (int p = lane; p < g.parts; p += 32) best = merge(best, partial[row * g.parts + p]);
    best = warp_merge(best);
    if (lane == 0) write_row(g, row, best);
}

static int vector_width(const GreedyArgs *a) { return width_of(a->logits.dtype, rows_vectors(a->logits)); }

/* How rows are cut: parts of as many columns as keep every thread of a block busy, or more where rows alone fill
 * the GPU. */
static void cut(Greedy *g, int width) {
    int64_t least = (int64_t)THREADS * AHEAD * width, parts = g->rows ? (FILL + g->rows - 1) / g->rows : 1;
    int64_t most = (g->vocab + least - 1) / least;
    if (parts > most) parts = most;
    int64_t part = ((g->vocab + parts - 1) / parts + width - 1) / width * width;
    g->part = (int)part;
    g->parts = (int)((g->vocab + part - 1) / part);
}

static Greedy greedy_of(const GreedyArgs *a) {
    Greedy g = {a->logits.data,     (int32_t *)a->token.data, (float *)a->logit.data, (float *)a->log_sum.data,
                a->logits.ld,       (int)a->logits.rows,      (int)a->logits.cols,    1,
                (int)a->logits.cols};
    cut(&g, vector_width(a));
    return g;
}

extern "C" size_t cuda_greedy_scratch(const Device *, const GreedyArgs *a) {
    Greedy g = greedy_of(a);
    return g.parts > 1 ? (size_t)g.rows * (size_t)g.parts * sizeof(Best) : 0;
}

template <typename T, int WIDTH> static bool run(Device *dev, const Greedy &g, Best *partial, Error *err) {
    dim3 grid((unsigned)g.rows, (unsigned)g.parts);
    return LAUNCH(dev, err, (greedy_kernel<T, WIDTH>), grid, THREADS, WARPS * sizeof(Best), g, partial) &&
           (!partial || LAUNCH(dev, err, greedy_merge_kernel, blocks_for(g.rows, WARPS), THREADS, 0, g, partial));
}

extern "C" bool cuda_greedy(Device *dev, const GreedyArgs *a, Error *err) {
    Greedy g = greedy_of(a);
    size_t bytes = cuda_greedy_scratch(dev, a);
    Best *partial = bytes ? (Best *)device_scratch(dev, bytes, err) : NULL;
    if (bytes && !partial) return fail_in(err, "greedy");
    int width = vector_width(a);
    if (width == 8) return run<bf16, 8>(dev, g, partial, err);
    if (width == 4) return run<float, 4>(dev, g, partial, err);
    return dev->dtype == DTYPE_F32 ? run<float, 1>(dev, g, partial, err) : run<bf16, 1>(dev, g, partial, err);
}
