/* What the optimizer does: the gradients' norm, and AdamW over all parameters with the norm clipped on the
 * device, so that nothing waits for it. All of it F32. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* ---- the norm ---- */

/* Over the block; thread 0 has it. */
static __device__ double block_sum_double(double x) {
    double *partial = (double *)shared_memory(), sum = 0.0;
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 0; w < WARPS && threadIdx.x == 0; w++) sum += partial[w];
    return sum;
}

enum { SUM_BLOCK = 16384 };

/* Block b sums SUM_BLOCK elements of row b / row_blocks. */
__global__ void __launch_bounds__(THREADS)
    squares_kernel(const float *x, int64_t ld, int64_t cols, int64_t row_blocks, bool aligned, double *partial) {
    enum { WIDTH = 4 };
    int64_t begin = blockIdx.x % row_blocks * SUM_BLOCK, end = min(begin + SUM_BLOCK, cols);
    const float *row = x + blockIdx.x / row_blocks * ld;
    double sum = 0.0;
    int64_t whole = aligned ? end - (end - begin) % WIDTH : begin; /* the rest is no vector's */
#pragma unroll 8
    for (int64_t c = begin + threadIdx.x * WIDTH; c < whole; c += THREADS * WIDTH) {
        float v[WIDTH];
        load4(v, row + c);
        for (int i = 0; i < WIDTH; i++) sum += (double)v[i] * (double)v[i];
    }
    for (int64_t c = whole + threadIdx.x; c < end; c += THREADS) sum += (double)row[c] * (double)row[c];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) squares_total_kernel(const double *partial, int count, double *out) {
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += THREADS) sum += partial[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) *out = sum;
}

static int64_t row_blocks_of(Tensor x) { return (x.cols + SUM_BLOCK - 1) / SUM_BLOCK; }

extern "C" size_t cuda_sum_squares_scratch(const Device *, const SumSquaresArgs *a) {
    return (size_t)(a->x.rows * row_blocks_of(a->x) + 1) * sizeof(double);
}

extern "C" bool cuda_sum_squares(Device *dev, const SumSquaresArgs *a, Error *err) {
    double *partial = (double *)device_scratch(dev, cuda_sum_squares_scratch(dev, a), err);
    if (!partial) return fail_in(err, "sum_squares");
    int64_t row_blocks = row_blocks_of(a->x), blocks = a->x.rows * row_blocks;
    size_t shared = WARPS * sizeof(double);
    return launch(dev, err, "sum_squares", squares_kernel, blocks_for(blocks, 1), dim3(THREADS), shared,
                  (const float *)a->x.data, a->x.ld, a->x.cols, row_blocks, rows_aligned(a->x, 16), partial) &&
           launch(dev, err, "sum_squares total", squares_total_kernel, dim3(1), dim3(THREADS), shared, partial,
                  (int)blocks, (double *)a->out.data);
}

/* ---- the update ---- */

/* A segment as blocks see it: those from `first_block` on are its own. */
struct AdamwPart {
    int64_t offset, count;
    float rate, keep;
    int first_block;
};

/* As many as the 4 KiB of a kernel's parameters hold: a launch takes that many segments. */
enum { PARTS = 112 };

struct AdamwStep {
    float *param, *m, *v;
    const float *grad;
    const double *norm_squared;
    double max_norm;
    float blend1, beta2, blend2, eps, root, grad_scale;
    int count;
    AdamwPart part[PARTS];
};

/* What the norm lets gradients be multiplied by, for the block's threads to find in shared memory after the next
 * barrier; negative where the norm is not finite. */
static __device__ __forceinline__ void clip_block(const AdamwStep &s) {
    if (threadIdx.x || !s.norm_squared) return;
    double squares = *s.norm_squared, norm = (double)s.grad_scale * sqrt(squares);
    float factor = s.max_norm > 0.0 && norm > s.max_norm ? (float)(s.max_norm / (norm + 1e-6)) : 1.0f;
    *(float *)shared_memory() = isfinite(squares) ? factor : -1.0f;
}

static __device__ __forceinline__ int part_of(const AdamwStep &s, int block) {
    int low = 0, high = s.count; /* the part is one of low .. high-1 */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (s.part[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* One parameter's. */
static __device__ __forceinline__ void update(const AdamwStep &s, const AdamwPart &part, float g, float *p, float *m,
                                              float *v) {
    *m += s.blend1 * (g - *m);
    *v = s.beta2 * *v + s.blend2 * g * g;
    *p = part.keep * *p - part.rate * *m / (sqrtf(*v) / s.root + s.eps);
}

/* A thread takes WIDTH neighbours, and all but the first ask for them before they wait for the norm. */
template <int WIDTH> __global__ void __launch_bounds__(THREADS) adamw_kernel(const AdamwStep s) {
    const AdamwPart &part = s.part[part_of(s, (int)blockIdx.x)];
    int64_t at = ((int64_t)((int)blockIdx.x - part.first_block) * THREADS + threadIdx.x) * WIDTH;
    int64_t from = part.offset + at, left = part.count - at;
    Raw<float, WIDTH> raw[4];
    float grad[WIDTH], p[WIDTH], m[WIDTH], v[WIDTH];
    clip_block(s);
    if (left >= WIDTH) {
        take(raw[0], s.param + from), take(raw[1], s.grad + from);
        take(raw[2], s.m + from), take(raw[3], s.v + from);
    }
    __syncthreads();
    float factor = s.norm_squared ? *(const float *)shared_memory() : 1.0f, scale = s.grad_scale * factor;
    if (factor < 0.0f) return;
    if (left >= WIDTH) {
        unpack(p, raw[0]), unpack(grad, raw[1]), unpack(m, raw[2]), unpack(v, raw[3]);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) update(s, part, scale * grad[i], &p[i], &m[i], &v[i]);
        put<WIDTH>(s.param + from, p), put<WIDTH>(s.m + from, m), put<WIDTH>(s.v + from, v);
        return;
    }
#pragma unroll 1
    for (int64_t i = from; WIDTH > 1 && i < from + left; i++)
        update(s, part, scale * s.grad[i], &s.param[i], &s.m[i], &s.v[i]);
}

static AdamwStep step_of(const AdamwArgs *a) {
    AdamwStep s = {};
    s.param = (float *)a->param.data, s.m = (float *)a->m.data, s.v = (float *)a->v.data;
    s.grad = (const float *)a->grad.data;
    s.norm_squared = (const double *)a->norm_squared.data, s.max_norm = a->max_norm;
    s.blend1 = 1.0f - a->beta1, s.beta2 = a->beta2, s.blend2 = 1.0f - a->beta2, s.eps = a->eps;
    s.root = (float)sqrt(1.0 - pow((double)a->beta2, (double)a->step));
    s.grad_scale = a->grad_scale;
    return s;
}

/* Segments `first` and on, as many as one launch takes; returns the number of its blocks. */
static int64_t fill_parts(AdamwStep *s, const AdamwArgs *a, int first, int width) {
    double correction1 = 1.0 - pow((double)a->beta1, (double)a->step);
    int64_t blocks = 0;
    s->count = a->segment_count - first < PARTS ? a->segment_count - first : PARTS;
    for (int i = 0; i < s->count; i++) {
        const AdamwSegment *from = &a->segments[first + i];
        float rate = (float)((double)from->lr / correction1), keep = 1.0f - from->lr * from->decay;
        s->part[i] = AdamwPart{from->offset, from->count, rate, keep, (int)blocks};
        blocks += (from->count + THREADS * width - 1) / (THREADS * width);
    }
    return blocks;
}

/* Whether every segment begins at a multiple of 16 bytes in all four buffers. */
static bool segments_aligned(const AdamwArgs *a) {
    bool aligned =
        rows_aligned(a->param, 16) && rows_aligned(a->grad, 16) && rows_aligned(a->m, 16) && rows_aligned(a->v, 16);
    for (int i = 0; i < a->segment_count; i++) aligned = aligned && a->segments[i].offset % 4 == 0;
    return aligned;
}

extern "C" bool cuda_adamw(Device *dev, const AdamwArgs *a, Error *err) {
    AdamwStep s = step_of(a);
    bool aligned = segments_aligned(a), ok = true;
    for (int first = 0; ok && first < a->segment_count; first += PARTS) {
        int64_t blocks = fill_parts(&s, a, first, aligned ? 4 : 1);
        ok = launch(dev, err, "adamw", aligned ? adamw_kernel<4> : adamw_kernel<1>, blocks_for(blocks, 1),
                    dim3(THREADS), sizeof(float), s);
    }
    return ok;
}

extern "C" size_t cuda_adamw_scratch(const Device *, const AdamwArgs *) { return 0; }
