/* The gate of WavLM's relative position bias. Only the sums over four of the weight's rows matter, so that a
 * head's gate is made of two products with its slice of u, which is read once. */
#include "kernels/cuda/eight.cuh"

enum { THREADS = 256 };

template <typename T> struct RelGate {
    const T *u, *weight, *bias, *scale;
    float *gate;
    int64_t u_ld, weight_ld, gate_ld;
    uint32_t items; /* rows · heads */
    int heads, dim;
};

/* weight's rows 0..3 and 4..7 added up, [2][dim], and then the same of bias. */
template <typename T> static __device__ __forceinline__ void stage_halves(float *to, const RelGate<T> &a) {
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < 2 * a.dim + 2; i += THREADS) {
        const T *from = a.weight + i / a.dim * 4 * a.weight_ld + i % a.dim;
        int64_t step = a.weight_ld;
        if (i >= 2 * a.dim) from = a.bias + 4 * (i - 2 * a.dim), step = 1;
        float sum = 0.0f;
        for (int z = 0; z < 4; z++) sum += to_float(from[z * step]);
        to[i] = sum;
    }
    __syncthreads();
}

template <typename T>
static __device__ __forceinline__ void store_gate(const RelGate<T> &a, uint32_t item, float alpha, float beta,
                                                  const float *halves) {
    uint32_t row = item / (uint32_t)a.heads, head = item % (uint32_t)a.heads;
    float scale = to_float(a.scale[head]);
    alpha += halves[2 * a.dim], beta += halves[2 * a.dim + 1];
    a.gate[row * a.gate_ld + head] = sigmoid(alpha) * (sigmoid(beta) * scale - 1.0f) + 2.0f;
}

/* A lane's eight columns of BATCH slices from `item` on. */
template <typename T, int BATCH>
static __device__ __forceinline__ void take_slices(Eight<T> u[BATCH], const RelGate<T> &a, uint32_t item, int c) {
    int head = (int)(item % (uint32_t)a.heads);
    const T *from = a.u + item / (uint32_t)a.heads * a.u_ld + (int64_t)head * a.dim + c;
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        take8(u[i], from, item + i < a.items ? a.dim - c : 0, true);
        from += a.dim;
        if (++head == a.heads) head = 0, from += a.u_ld - (int64_t)a.heads * a.dim;
    }
}

/* The sums over LANES lanes of BATCH numbers each, one of which a lane ends with, number lane / (LANES / BATCH): it
 * sends its partner what that keeps, half of what is left each time. */
template <int LANES, int BATCH> static __device__ __forceinline__ float spread_sums(float v[BATCH], int lane) {
    int step = LANES / 2;
#pragma unroll
    for (int left = BATCH / 2; left > 0; left /= 2, step /= 2) {
        bool upper = lane & step;
#pragma unroll
        for (int i = 0; i < left; i++) {
            float mine = upper ? v[i + left] : v[i], other = upper ? v[i] : v[i + left];
            v[i] = mine + __shfl_xor_sync(0xffffffffu, other, step);
        }
    }
#pragma unroll
    for (; step > 0; step /= 2) v[0] += __shfl_xor_sync(0xffffffffu, v[0], step);
    return v[0];
}

/* LANES lanes, eight columns each, take LANES heads' slices, and each keeps the sums of one. The first are on their way
 * while the weight's halves are made. */
template <typename T, int LANES> __global__ void __launch_bounds__(THREADS) rel_gate_slices(RelGate<T> a) {
    float *halves = (float *)shared_memory();
    const int BATCH = LANES < 8 ? LANES : 8, BATCHES = LANES / BATCH;
    int lane = (int)threadIdx.x % LANES, c = 8 * lane;
    uint32_t first = (blockIdx.x * THREADS + threadIdx.x) / LANES * LANES;
    Eight<T> u[BATCH];
    take_slices<T, BATCH>(u, a, first, c);
    stage_halves(halves, a);
    float along[2][8], mine[2] = {0.0f, 0.0f};
    for (int half = 0; half < 2; half++)
        for (int e = 0; e < 8; e++) along[half][e] = c < a.dim ? halves[half * a.dim + c + e] : 0.0f;
    for (int batch = 0; batch < BATCHES; batch++) {
        if (batch) take_slices<T, BATCH>(u, a, first + batch * BATCH, c);
        float sum[2][BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            float v[8];
            unpack8(v, u[i]);
            sum[0][i] = sum[1][i] = 0.0f;
            for (int e = 0; e < 8; e++) sum[0][i] += along[0][e] * v[e], sum[1][i] += along[1][e] * v[e];
        }
        for (int half = 0; half < 2; half++) {
            float one = spread_sums<LANES, BATCH>(sum[half], lane);
            if (lane % BATCHES == batch) mine[half] = one;
        }
    }
    uint32_t item = first + lane % BATCHES * BATCH + lane / BATCHES;
    if (item < a.items) store_gate(a, item, mine[0], mine[1], halves);
}

/* A warp to a slice of any size and place. */
template <typename T> __global__ void __launch_bounds__(THREADS) rel_gate_plain(RelGate<T> a) {
    float *halves = (float *)shared_memory(), alpha = 0.0f, beta = 0.0f;
    stage_halves(halves, a);
    uint32_t item = (blockIdx.x * THREADS + threadIdx.x) / 32;
    if (item >= a.items) return;
    const T *u = a.u + (int64_t)(item / (uint32_t)a.heads) * a.u_ld + (int64_t)(item % (uint32_t)a.heads) * a.dim;
    for (int c = (int)threadIdx.x % 32; c < a.dim; c += 32) {
        alpha += halves[c] * to_float(u[c]);
        beta += halves[a.dim + c] * to_float(u[c]);
    }
    alpha = warp_sum(alpha), beta = warp_sum(beta);
    if (threadIdx.x % 32 == 0) store_gate(a, item, alpha, beta, halves);
}

template <typename T> static bool rel_gate(Device *dev, const RelGateArgs *a, Error *err) {
    if (a->u.rows * a->heads > UINT32_MAX / 64)
        return fail(err, "rel_gate: %lld rows of %d heads are too many", (long long)a->u.rows, a->heads);
    RelGate<T> g = {};
    g.u = (const T *)a->u.data, g.u_ld = a->u.ld;
    g.weight = (const T *)a->weight.data, g.weight_ld = a->weight.ld;
    g.bias = (const T *)a->bias.data, g.scale = (const T *)a->scale.data;
    g.gate = (float *)a->gate.data, g.gate_ld = a->gate.ld;
    g.items = (uint32_t)(a->u.rows * a->heads);
    g.heads = a->heads, g.dim = (int)(a->u.cols / a->heads);
    size_t shared = 2 * (size_t)(g.dim + 1) * sizeof(float);
    if (!rows_whole(a->u) || g.dim % 8 || g.dim > 256)
        return LAUNCH(dev, err, (rel_gate_plain<T>), blocks_for(g.items, THREADS / 32), dim3(THREADS), shared, g);
    void (*kernel)(RelGate<T>) = g.dim <= 32    ? rel_gate_slices<T, 4>
                                 : g.dim <= 64  ? rel_gate_slices<T, 8>
                                 : g.dim <= 128 ? rel_gate_slices<T, 16>
                                                : rel_gate_slices<T, 32>;
    return launch(dev, err, "rel_gate", kernel, blocks_for(g.items, THREADS), dim3(THREADS), shared, g);
}

extern "C" {

bool cuda_rel_gate(Device *dev, const RelGateArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? rel_gate<bf16>(dev, a, err) : rel_gate<float>(dev, a, err);
}

size_t cuda_rel_gate_scratch(const Device *dev, const RelGateArgs *a) {
    (void)dev, (void)a;
    return 0;
}
}
