/* The learned mix of hidden states, all of them in one launch, and the gradient of its weights. */
#include "kernels/cuda/rows.cuh"

/* A block's warps; vectors of dy that a thread of the backward pass keeps while the states go by. */
enum { THREADS = 256, WARPS = THREADS / 32, KEPT = 4 };

struct Mix {
    const void *state[LAYER_MIX_MAX];
    int64_t state_ld[LAYER_MIX_MAX];
    void *y; /* or dy */
    const float *weight;
    int64_t rows, cols, y_ld, vectors;
    int count;
};

/* softmax(weight) into `share`, by the block's first warp. */
static __device__ void mix_shares(const Mix &m, float *share) {
    if (threadIdx.x < 32) {
        float most = -INFINITY, sum = 0.0f;
        for (int i = (int)threadIdx.x; i < m.count; i += 32) most = fmaxf(most, m.weight[i]);
        most = warp_max(most);
        for (int i = (int)threadIdx.x; i < m.count; i += 32) sum += expf(m.weight[i] - most);
        sum = warp_sum(sum);
        for (int i = (int)threadIdx.x; i < m.count; i += 32) share[i] = expf(m.weight[i] - most) / sum;
    }
    __syncthreads();
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) mix_kernel(const Mix m) {
    float *share = (float *)shared_memory();
    mix_shares(m, share);
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= m.rows * m.vectors) return;
    Place place = place_of(item, m.vectors);
    int64_t c = place.vector * WIDTH;
    int width = (int)min(m.cols - c, (int64_t)WIDTH);
    float sum[WIDTH] = {};
#pragma unroll 4
    for (int i = 0; i < m.count; i++) {
        float v[WIDTH];
        load_some<WIDTH>(v, (const T *)m.state[i] + place.row * m.state_ld[i] + c, width);
#pragma unroll
        for (int e = 0; e < WIDTH; e++) sum[e] += share[i] * v[e];
    }
    store_some<WIDTH>((T *)m.y + place.row * m.y_ld + c, sum, width);
}

/* partial[i, block]: the block's part of Σ dy·state[i]. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS) mix_dots_kernel(const Mix m, float *partial) {
    float *warp_part = (float *)shared_memory(); /* [WARPS, count] */
    int64_t first = (int64_t)blockIdx.x * (KEPT * THREADS) + threadIdx.x, items = m.rows * m.vectors;
    float dy[KEPT][WIDTH];
    Place place[KEPT];
    int width[KEPT];
#pragma unroll
    for (int k = 0; k < KEPT; k++) {
        bool there = first + k * THREADS < items;
        place[k] = place_of(there ? first + k * THREADS : 0, m.vectors);
        int64_t c = place[k].vector * WIDTH;
        width[k] = there ? (int)min(m.cols - c, (int64_t)WIDTH) : 0;
        load_some<WIDTH>(dy[k], (const T *)m.y + place[k].row * m.y_ld + c, width[k]);
    }
#pragma unroll 2
    for (int i = 0; i < m.count; i++) {
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < KEPT; k++) {
            float v[WIDTH];
            load_some<WIDTH>(v, (const T *)m.state[i] + place[k].row * m.state_ld[i] + place[k].vector * WIDTH,
                             width[k]);
#pragma unroll
            for (int e = 0; e < WIDTH; e++) sum += dy[k][e] * v[e];
        }
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) warp_part[(int)threadIdx.x / 32 * m.count + i] = sum;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < m.count; i += THREADS) {
        float sum = 0.0f;
        for (int w = 0; w < WARPS; w++) sum += warp_part[w * m.count + i];
        partial[(int64_t)i * gridDim.x + blockIdx.x] = sum;
    }
}

/* dweight[i] += share_i · (along_i - Σ_j share_j · along_j), with along_i the sum of the blocks' parts. One
 * block, a warp for each i. */
__global__ void __launch_bounds__(THREADS)
    mix_weights_kernel(const float *weight, int count, const float *partial, int blocks, float *dweight) {
    double *along = (double *)shared_memory(), *share = along + count;
    int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x / 32; i < count; i += WARPS) {
        double sum = 0.0;
        for (int b = lane; b < blocks; b += 32) sum += (double)partial[(int64_t)i * blocks + b];
        for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0) along[i] = sum;
    }
    int i = (int)threadIdx.x;
    if (i < count) {
        float most = weight[0];
        for (int j = 1; j < count; j++) most = fmaxf(most, weight[j]);
        share[i] = exp((double)weight[i] - (double)most);
    }
    __syncthreads();
    if (i >= count) return;
    double sum = 0.0, mean = 0.0;
    for (int j = 0; j < count; j++) sum += share[j], mean += share[j] * along[j];
    dweight[i] += (float)(share[i] / sum * (along[i] - mean / sum));
}

static bool mix_aligned(const Tensor *state, int count, Tensor y) {
    bool aligned = rows_aligned(y, 16);
    for (int i = 0; i < count; i++) aligned = aligned && rows_aligned(state[i], 16);
    return aligned;
}

static Mix mix_of(const Tensor *state, int count, Tensor weight, Tensor y) {
    Mix m = {};
    for (int i = 0; i < count; i++) m.state[i] = state[i].data, m.state_ld[i] = state[i].ld;
    m.y = y.data, m.y_ld = y.ld, m.rows = y.rows, m.cols = y.cols;
    m.weight = (const float *)weight.data, m.count = count;
    return m;
}

static int width_of(DType dtype, bool aligned) { return !aligned ? 1 : dtype == DTYPE_BF16 ? 8 : 4; }

extern "C" bool cuda_layer_mix(Device *dev, const LayerMixArgs *a, Error *err) {
    Mix m = mix_of(a->state, a->count, a->weight, a->y);
    bool aligned = mix_aligned(a->state, a->count, a->y);
    int width = width_of(dev->dtype, aligned);
    m.vectors = (m.cols + width - 1) / width;
    void (*bf16_kernel)(const Mix) = aligned ? mix_kernel<bf16, 8> : mix_kernel<bf16, 1>;
    void (*float_kernel)(const Mix) = aligned ? mix_kernel<float, 4> : mix_kernel<float, 1>;
    return launch(dev, err, "layer_mix", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel,
                  blocks_for(m.rows * m.vectors, THREADS), dim3(THREADS), sizeof(float) * (size_t)m.count, m);
}

static int64_t dot_vectors(const LayerMixBackwardArgs *a) {
    int64_t width = width_of(a->dy.dtype, mix_aligned(a->state, a->count, a->dy));
    return (a->dy.cols + width - 1) / width;
}

static dim3 dot_blocks(const LayerMixBackwardArgs *a) {
    return blocks_for(a->dy.rows * dot_vectors(a), KEPT * THREADS);
}

extern "C" size_t cuda_layer_mix_backward_scratch(const Device *, const LayerMixBackwardArgs *a) {
    return (size_t)a->count * dot_blocks(a).x * sizeof(float);
}

extern "C" bool cuda_layer_mix_backward(Device *dev, const LayerMixBackwardArgs *a, Error *err) {
    if (!dot_blocks(a).x) return true;
    float *partial = (float *)device_scratch(dev, cuda_layer_mix_backward_scratch(dev, a), err);
    if (!partial) return fail_in(err, "layer_mix_backward");
    Mix m = mix_of(a->state, a->count, a->weight, a->dy);
    bool aligned = mix_aligned(a->state, a->count, a->dy);
    m.vectors = dot_vectors(a);
    dim3 blocks = dot_blocks(a);
    void (*bf16_kernel)(const Mix, float *) = aligned ? mix_dots_kernel<bf16, 8> : mix_dots_kernel<bf16, 1>;
    void (*float_kernel)(const Mix, float *) = aligned ? mix_dots_kernel<float, 4> : mix_dots_kernel<float, 1>;
    size_t count = (size_t)a->count;
    return launch(dev, err, "layer_mix_backward", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel, blocks,
                  dim3(THREADS), count * WARPS * sizeof(float), m, partial) &&
           launch(dev, err, "layer_mix_backward weights", mix_weights_kernel, dim3(1), dim3(THREADS),
                  count * 2 * sizeof(double), m.weight, m.count, partial, (int)blocks.x, (float *)a->dweight.data);
}

extern "C" size_t cuda_layer_mix_scratch(const Device *, const LayerMixArgs *) { return 0; }
