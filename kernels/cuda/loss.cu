/* Softmax cross-entropy of rows of up to 150 thousand logits: a block a row. One read finds maximum and sum
 * together (Milakov & Gimelshein 2018) and keeps the row on chip, in registers and shared memory, for the
 * gradient that takes its place; what does not fit (155648 logits do on an H100, 122880 on an A100) is read
 * again, soon enough to be found in the L2 cache. */
#include <float.h>

#include "kernels/cuda/functions.cuh"
#include "kernels/cuda/rows.cuh"

/* Vectors of eight that a thread keeps in registers; the parts in which those in shared memory arrive. */
enum { THREADS = 1024, KEPT = 5, PARTS = 4, PARTIAL = 32 * sizeof(float) };

struct CrossEntropy {
    void *logits;
    const int32_t *target;
    float *row_loss;
    int64_t ld;
    int vocab, slots; /* vectors that a thread has in shared memory */
    float scale;
    bool gradient;
};

/* Of the numbers seen so far: their maximum, and the sum of e^(x - maximum). */
struct Online {
    float most, sum;
};

template <int COUNT> static __device__ __forceinline__ void absorb(Online *o, const float *x) {
    float most = o->most;
#pragma unroll
    for (int i = 0; i < COUNT; i++) most = fmaxf(most, x[i]);
    float sum = o->sum * exp_fast(o->most - most);
#pragma unroll
    for (int i = 0; i < COUNT; i++) sum += exp_fast(x[i] - most);
    *o = Online{most, sum};
}

static __device__ __forceinline__ void absorb_raw(Online *o, uint4 raw) {
    float x[8];
    load8(x, (const bf16 *)&raw);
    absorb<8>(o, x);
}

/* Over the block, for every thread. */
static __device__ Online gather_online(Online mine, float *partial) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float most = warp_max(mine.most);
    if (lane == 0) partial[warp] = most;
    __syncthreads();
    most = warp_max(partial[lane]);
    return Online{most, block_sum(mine.sum * exp_fast(mine.most - most), partial)};
}

/* What turns x into its gradient: e^(x - most) · factor, less `scale` at the target. */
struct Slope {
    float most, factor, scale;
    int target;
};

template <int COUNT> static __device__ __forceinline__ void slope_of(float *x, const Slope &s, int c) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] = exp_fast(x[i] - s.most) * s.factor;
    if (s.target < c || s.target >= c + COUNT) return;
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] -= c + i == s.target ? s.scale : 0.0f;
}

/* Writes the row's loss. A target that is none makes loss and gradient NaN: the CPU device names it. */
static __device__ __forceinline__ Slope finish_row(const CrossEntropy &a, Online all, int target, float at) {
    bool there = target >= 0 && target < a.vocab;
    float nan = bits_float(0x7fffffffu);
    if (threadIdx.x == 0) a.row_loss[blockIdx.x] = there ? logf(all.sum) - (at - all.most) : nan;
    return Slope{all.most, there ? a.scale / all.sum : nan, a.scale, target};
}

template <typename T> static __device__ __forceinline__ float logit_of(const T *row, int target, int vocab) {
    return target >= 0 && target < vocab ? to_float(row[target]) : 0.0f;
}

/* ---- bf16 rows that are whole vectors ---- */

static __device__ __forceinline__ uint4 load_raw(const bf16 *row, int vector, int vectors) {
    return vector < vectors ? load16(row + 8 * vector) : make_uint4(0xff80ff80u, 0xff80ff80u, 0xff80ff80u, 0xff80ff80u);
}

static __device__ __forceinline__ void write_slope(bf16 *row, int vector, int vectors, uint4 raw, const Slope &s) {
    if (vector >= vectors) return;
    float x[8];
    load8(x, (const bf16 *)&raw);
    slope_of<8>(x, s, 8 * vector);
    store8(row + 8 * vector, x);
}

static __device__ __forceinline__ int first_of_part(int slots, int part) { return slots * part / PARTS; }

/* A thread's vectors are THREADS apart: KEPT in registers, then `slots` in shared memory, then the rest. */
static __device__ __forceinline__ void fetch_parts(const CrossEntropy &a, const bf16 *row, char *own, int vectors) {
    for (int part = 0; part < PARTS; part++) {
        for (int s = first_of_part(a.slots, part); s < first_of_part(a.slots, part + 1); s++) {
            int vector = (KEPT + s) * THREADS + (int)threadIdx.x;
            copy_async16(own + s * THREADS * 16, row + 8 * (vector < vectors ? vector : 0), vector < vectors);
        }
        copy_async_commit();
    }
}

template <int PART>
static __device__ __forceinline__ void absorb_part(Online *o, const CrossEntropy &a, const char *own, int vectors) {
    copy_async_wait<PARTS - 1 - PART>();
    for (int s = first_of_part(a.slots, PART); s < first_of_part(a.slots, PART + 1); s++)
        if ((KEPT + s) * THREADS + (int)threadIdx.x < vectors) absorb_raw(o, load16(own + s * THREADS * 16));
}

__global__ void __launch_bounds__(THREADS) cross_entropy_kernel(CrossEntropy a) {
    float *partial = (float *)shared_memory();
    char *own = shared_memory() + PARTIAL + threadIdx.x * 16;
    bf16 *row = (bf16 *)a.logits + (int64_t)blockIdx.x * a.ld;
    int vectors = a.vocab / 8, rest = (KEPT + a.slots) * THREADS + (int)threadIdx.x, target = a.target[blockIdx.x];
    float at = logit_of(row, target, a.vocab);
    uint4 kept[KEPT];
    Online o = {-FLT_MAX, 0.0f};
#pragma unroll
    for (int k = 0; k < KEPT; k++) kept[k] = load_raw(row, k * THREADS + (int)threadIdx.x, vectors);
    fetch_parts(a, row, own, vectors);
#pragma unroll
    for (int k = 0; k < KEPT; k++) absorb_raw(&o, kept[k]);
    absorb_part<0>(&o, a, own, vectors);
    absorb_part<1>(&o, a, own, vectors);
    absorb_part<2>(&o, a, own, vectors);
    absorb_part<3>(&o, a, own, vectors);
    for (int v = rest; v < vectors; v += THREADS) absorb_raw(&o, load16(row + 8 * v));

    Slope slope = finish_row(a, gather_online(o, partial), target, at);
    if (!a.gradient) return;
#pragma unroll
    for (int k = 0; k < KEPT; k++) write_slope(row, k * THREADS + (int)threadIdx.x, vectors, kept[k], slope);
    for (int s = 0; s < a.slots; s++) {
        int vector = (KEPT + s) * THREADS + (int)threadIdx.x;
        if (vector < vectors) write_slope(row, vector, vectors, load16(own + s * THREADS * 16), slope);
    }
    for (int v = rest; v < vectors; v += THREADS) write_slope(row, v, vectors, load16(row + 8 * v), slope);
}

/* ---- any rows, an element at a time ---- */

template <typename T> __global__ void __launch_bounds__(THREADS) cross_entropy_plain_kernel(CrossEntropy a) {
    T *row = (T *)a.logits + (int64_t)blockIdx.x * a.ld;
    int target = a.target[blockIdx.x];
    float at = logit_of(row, target, a.vocab);
    Online o = {-FLT_MAX, 0.0f};
    for (int c = (int)threadIdx.x; c < a.vocab; c += THREADS) {
        float x = to_float(row[c]);
        absorb<1>(&o, &x);
    }
    Slope slope = finish_row(a, gather_online(o, (float *)shared_memory()), target, at);
    for (int c = (int)threadIdx.x; c < a.vocab && a.gradient; c += THREADS) {
        float x = to_float(row[c]);
        slope_of<1>(&x, slope, c);
        row[c] = from_float<T>(x);
    }
}

/* How many vectors of the row each thread is to keep in shared memory: all that registers do not, if they fit. */
static bool shared_slots(Device *dev, const CrossEntropy *a, int *slots, Error *err) {
    int room = 0;
    if (!CUDA(cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, dev->cuda->index), err))
        return false;
    int wanted = (a->vocab / 8 + THREADS - 1) / THREADS - KEPT, most = (room - (int)PARTIAL) / (THREADS * 16);
    *slots = wanted < 0 ? 0 : wanted < most ? wanted : most;
    return true;
}

extern "C" bool cuda_cross_entropy(Device *dev, const CrossEntropyArgs *a, Error *err) {
    CrossEntropy c = {a->logits.data, a->target,  (float *)a->row_loss.data, a->logits.ld, (int)a->logits.cols, 0,
                      a->scale,       a->gradient};
    dim3 blocks = blocks_for(a->logits.rows, 1), threads(THREADS);
    if (dev->dtype == DTYPE_F32)
        return launch(dev, err, "cross_entropy", cross_entropy_plain_kernel<float>, blocks, threads, PARTIAL, c);
    if (a->logits.cols % 8 || !rows_aligned(a->logits, 16))
        return launch(dev, err, "cross_entropy", cross_entropy_plain_kernel<bf16>, blocks, threads, PARTIAL, c);
    return shared_slots(dev, &c, &c.slots, err) && launch(dev, err, "cross_entropy", cross_entropy_kernel, blocks,
                                                          threads, PARTIAL + (size_t)c.slots * THREADS * 16, c);
}

extern "C" size_t cuda_cross_entropy_scratch(const Device *, const CrossEntropyArgs *) { return 0; }
