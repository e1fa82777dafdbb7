/* The learned mix of hidden states, all of them in one launch, and the gradient of its weights. */
#include "kernels/cuda/rows.cuh"

/* A block's warps; states whose vectors are asked for together; vectors of dy that a thread of the backward pass keeps
 * while the states go by. There are at most so many blocks of it, that one can add up what they leave. */
enum { THREADS = 256, WARPS = THREADS / 32, TOGETHER = 4, KEPT = 4 };
enum { MIX_BLOCKS = 1024, FINISH_THREADS = 1024 };

static const uint32_t NO_VECTOR = UINT32_MAX;

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
    float sum[WIDTH] = {};
    for (int first = 0; first < m.count; first += TOGETHER) {
        Raw<T, WIDTH> raw[TOGETHER];
#pragma unroll
        for (int i = 0; i < TOGETHER; i++)
            if (first + i < m.count)
                take(raw[i], (const T *)m.state[first + i] + place.row * m.state_ld[first + i] + c);
#pragma unroll
        for (int i = 0; i < TOGETHER; i++) {
            if (first + i >= m.count) break;
            float v[WIDTH];
            unpack(v, raw[i]);
#pragma unroll
            for (int e = 0; e < WIDTH; e++) sum[e] += share[first + i] * v[e];
        }
    }
    put<WIDTH>((T *)m.y + place.row * m.y_ld + c, sum);
}

/* KEPT vectors of state i, THREADS apart; of those past the end nothing is touched. */
template <typename T, int WIDTH>
static __device__ __forceinline__ void take_state(Raw<T, WIDTH> state[KEPT], const Mix &m, int i,
                                                  const uint32_t row[KEPT], const uint32_t vector[KEPT]) {
    const T *from = (const T *)m.state[i];
#pragma unroll
    for (int k = 0; k < KEPT; k++)
        if (vector[k] != NO_VECTOR) take(state[k], from + row[k] * m.state_ld[i] + vector[k] * (int64_t)WIDTH);
}

template <typename T, int WIDTH>
static __device__ __forceinline__ float products(const Raw<T, WIDTH> dy[KEPT], const Raw<T, WIDTH> state[KEPT]) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < KEPT; k++) {
        float u[WIDTH], v[WIDTH];
        unpack(u, dy[k]), unpack(v, state[k]);
#pragma unroll
        for (int e = 0; e < WIDTH; e++) sum += u[e] * v[e];
    }
    return sum;
}

/* partial[i, block]: the block's part of Σ dy·state[i]. A block takes KEPT · THREADS vectors at a time, every thread
 * adding up its own; the next state is on its way while one is multiplied. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS, 2) mix_dots_kernel(const Mix m, float *partial) {
    float *sums = (float *)shared_memory() + threadIdx.x; /* [count, THREADS] */
    int64_t items = m.rows * m.vectors;
    for (int i = 0; i < m.count; i++) sums[i * THREADS] = 0.0f;
#pragma unroll 1
    for (int64_t tile = blockIdx.x; tile * (KEPT * THREADS) < items; tile += gridDim.x) {
        int64_t first = tile * (KEPT * THREADS) + threadIdx.x;
        Raw<T, WIDTH> dy[KEPT] = {}, state[KEPT] = {}, next[KEPT] = {};
        uint32_t row[KEPT], vector[KEPT];
#pragma unroll
        for (int k = 0; k < KEPT; k++) {
            Place place = place_of(first + k * THREADS, m.vectors);
            row[k] = (uint32_t)place.row, vector[k] = first + k * THREADS < items ? (uint32_t)place.vector : NO_VECTOR;
            if (vector[k] != NO_VECTOR) take(dy[k], (const T *)m.y + place.row * m.y_ld + place.vector * WIDTH);
        }
        take_state(state, m, 0, row, vector);
#pragma unroll 2
        for (int i = 0; i + 1 < m.count; i++) {
            take_state(next, m, i + 1, row, vector);
            ISSUE_FIRST(); /* the reads before the products */
            sums[i * THREADS] += products<T, WIDTH>(dy, state);
#pragma unroll
            for (int k = 0; k < KEPT; k++) state[k] = next[k];
        }
        sums[(m.count - 1) * THREADS] += products<T, WIDTH>(dy, state);
    }
    __syncthreads();
    int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x / 32; i < m.count; i += WARPS) {
        const float *all = (const float *)shared_memory() + i * THREADS;
        float sum = 0.0f;
        for (int w = 0; w < WARPS; w++) sum += all[32 * w + lane];
        sum = warp_sum(sum);
        if (lane == 0) partial[(int64_t)i * gridDim.x + blockIdx.x] = sum;
    }
}

/* dweight[i] += share_i · (along_i - Σ_j share_j · along_j), with along_i the sum of the blocks' parts. One
 * block, a warp for each i. */
__global__ void __launch_bounds__(FINISH_THREADS)
    mix_weights_kernel(const float *weight, int count, const float *partial, int blocks, float *dweight) {
    double *along = (double *)shared_memory(), *share = along + count;
    int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x / 32; i < count; i += FINISH_THREADS / 32) {
        double sum = 0.0;
#pragma unroll 8
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

static int mix_width(const Tensor *state, int count, Tensor y) {
    bool vectors = rows_vectors(y);
    for (int i = 0; i < count; i++) vectors = vectors && rows_vectors(state[i]);
    return width_of(y.dtype, vectors);
}

static Mix mix_of(const Tensor *state, int count, Tensor weight, Tensor y) {
    Mix m = {};
    for (int i = 0; i < count; i++) m.state[i] = state[i].data, m.state_ld[i] = state[i].ld;
    m.y = y.data, m.y_ld = y.ld, m.rows = y.rows, m.cols = y.cols;
    m.weight = (const float *)weight.data, m.count = count;
    return m;
}

/* Whole reads of 16 bytes: nvcc makes one of TOGETHER shares, past the last too. */
static size_t shares_bytes(int count) { return sizeof(float) * (size_t)((count + TOGETHER - 1) / TOGETHER * TOGETHER); }

extern "C" bool cuda_layer_mix(Device *dev, const LayerMixArgs *a, Error *err) {
    Mix m = mix_of(a->state, a->count, a->weight, a->y);
    int width = mix_width(a->state, a->count, a->y);
    m.vectors = m.cols / width;
    void (*bf16_kernel)(const Mix) = width > 1 ? mix_kernel<bf16, 8> : mix_kernel<bf16, 1>;
    void (*float_kernel)(const Mix) = width > 1 ? mix_kernel<float, 4> : mix_kernel<float, 1>;
    return launch(dev, err, "layer_mix", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel,
                  blocks_for(m.rows * m.vectors, THREADS), dim3(THREADS), shares_bytes(m.count), m);
}

static dim3 dot_blocks(const LayerMixBackwardArgs *a) {
    dim3 tiles = blocks_for(a->dy.rows * (a->dy.cols / mix_width(a->state, a->count, a->dy)), KEPT * THREADS);
    return tiles.x < MIX_BLOCKS ? tiles : dim3(MIX_BLOCKS);
}

extern "C" size_t cuda_layer_mix_backward_scratch(const Device *, const LayerMixBackwardArgs *a) {
    return (size_t)a->count * dot_blocks(a).x * sizeof(float);
}

extern "C" bool cuda_layer_mix_backward(Device *dev, const LayerMixBackwardArgs *a, Error *err) {
    if (!dot_blocks(a).x) return true;
    float *partial = (float *)device_scratch(dev, cuda_layer_mix_backward_scratch(dev, a), err);
    if (!partial) return fail_in(err, "layer_mix_backward");
    Mix m = mix_of(a->state, a->count, a->weight, a->dy);
    int width = mix_width(a->state, a->count, a->dy);
    m.vectors = m.cols / width;
    dim3 blocks = dot_blocks(a);
    void (*bf16_kernel)(const Mix, float *) = width > 1 ? mix_dots_kernel<bf16, 8> : mix_dots_kernel<bf16, 1>;
    void (*float_kernel)(const Mix, float *) = width > 1 ? mix_dots_kernel<float, 4> : mix_dots_kernel<float, 1>;
    size_t count = (size_t)a->count;
    return launch(dev, err, "layer_mix_backward", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel, blocks,
                  dim3(THREADS), count * THREADS * sizeof(float), m, partial) &&
           launch(dev, err, "layer_mix_backward weights", mix_weights_kernel, dim3(1), dim3(FINISH_THREADS),
                  count * 2 * sizeof(double), m.weight, m.count, partial, (int)blocks.x, (float *)a->dweight.data);
}

extern "C" size_t cuda_layer_mix_scratch(const Device *, const LayerMixArgs *) { return 0; }
