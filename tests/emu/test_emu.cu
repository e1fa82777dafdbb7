/* The emulator proves itself: right kernels give exact results, and each deliberate fault is found. Run under
 * every schedule; in the checking build counts and races, too. */
#include "kernels/cuda/kernel.cuh"

extern "C" {
#include "base/dtype.h"
}

#include <stdlib.h>

#include "tests/emu/check.h"

static int failures;
#define EXPECT(condition)                                                                                              \
    ((condition) ? (void)0                                                                                             \
                 : (void)(failures++, fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition)))

static CudaDevice cuda_part;
static Device device;
static Error err;

template <typename T> static T *upload(const T *from, size_t count) {
    void *memory = NULL;
    EXPECT(cudaMalloc(&memory, count * sizeof(T)) == cudaSuccess);
    if (from) EXPECT(cudaMemcpy(memory, from, count * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    return (T *)memory;
}

template <typename T> static void download(T *to, const T *from, size_t count) {
    EXPECT(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
}

static bool finish(void) { return cudaDeviceSynchronize() == cudaSuccess; }

/* How often the emulator complained since last asked, and whether its last words hold `word`. */
static int complaints(const char *word) {
    int count = emu_reports();
    if (count && word && !strstr(emu_last_report(), word)) {
        fprintf(stderr, "\"%s\" does not hold \"%s\"\n", emu_last_report(), word);
        failures++;
    }
    emu_forget_reports();
    return count;
}

/* ---- what is right gives what it should ---- */

/* One warp: c = a·b with a [16, 16] row-major and b [16, 8] row-major of bf16, through cp.async and ldmatrix. */
static __global__ void product_kernel(const bf16 *a, const bf16 *b, float *c) {
    bf16 *tile = (bf16 *)shared_memory(); /* a, then b */
    int lane = (int)threadIdx.x;
    copy_async16(tile + 8 * lane, a + 8 * lane, true);
    if (lane < 16) copy_async16(tile + 256 + 8 * lane, b + 8 * lane, true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    uint32_t x[4], y[2];
    load_matrix_x4(x, tile + 16 * (lane % 16) + 8 * (lane / 16));
    load_matrix_x2_transposed(y, tile + 256 + 8 * (lane % 16));
    float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    mma_16816(d, x, y);
    int g = lane / 4, t = 2 * (lane % 4);
    c[8 * g + t] = d[0], c[8 * g + t + 1] = d[1], c[8 * (g + 8) + t] = d[2], c[8 * (g + 8) + t + 1] = d[3];
}

static void test_product(void) {
    uint16_t a[256], b[128];
    float c[128];
    for (int i = 0; i < 256; i++) a[i] = f32_to_bf16((float)(rand() % 32 - 16) / 4.0f);
    for (int i = 0; i < 128; i++) b[i] = f32_to_bf16((float)(rand() % 32 - 16) / 8.0f);
    bf16 *da = upload((const bf16 *)a, 256), *db = upload((const bf16 *)b, 128);
    float *dc = upload<float>(NULL, 128);
    EXPECT(LAUNCH(&device, &err, product_kernel, dim3(1), dim3(32), 768, da, db, dc));
    download(c, dc, 128);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            float want = 1.0f;
            for (int k = 0; k < 16; k++) want += bf16_to_f32(a[16 * i + k]) * bf16_to_f32(b[8 * k + j]);
            EXPECT(c[8 * i + j] == want);
        }
    }
    cudaFree(da), cudaFree(db), cudaFree(dc);
}

/* ldmatrix's own definition, element by element. */
static __global__ void matrices_kernel(const uint16_t *from, uint32_t *straight, uint32_t *transposed) {
    uint16_t *tile = (uint16_t *)shared_memory();
    int lane = (int)threadIdx.x;
    for (int i = 0; i < 8; i++) tile[8 * lane + i] = from[8 * lane + i];
    __syncwarp();
    uint32_t r[4];
    load_matrix_x4(r, tile + 8 * lane);
    for (int m = 0; m < 4; m++) straight[4 * lane + m] = r[m];
    load_matrix_x4_transposed(r, tile + 8 * lane);
    for (int m = 0; m < 4; m++) transposed[4 * lane + m] = r[m];
}

static void test_matrices(void) {
    uint16_t from[256];
    uint32_t straight[128], transposed[128];
    for (int i = 0; i < 256; i++) from[i] = (uint16_t)i;
    uint16_t *d = upload(from, 256);
    uint32_t *s = upload<uint32_t>(NULL, 128), *t = upload<uint32_t>(NULL, 128);
    EXPECT(LAUNCH(&device, &err, matrices_kernel, dim3(1), dim3(32), 512, d, s, t));
    download(straight, s, 128);
    download(transposed, t, 128);
    for (int lane = 0; lane < 32; lane++) {
        for (int m = 0; m < 4; m++) {
            uint32_t row = (uint32_t)(lane / 4), column = (uint32_t)(2 * (lane % 4)), matrix = 64u * (uint32_t)m;
            uint32_t first = matrix + 8 * row + column, low = matrix + 8 * column + row;
            EXPECT(straight[4 * lane + m] == (first | (first + 1) << 16));
            EXPECT(transposed[4 * lane + m] == (low | (low + 8) << 16));
        }
    }
    cudaFree(d), cudaFree(s), cudaFree(t);
}

static __global__ void shuffles_kernel(int *out) {
    int lane = (int)threadIdx.x % 32, i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int *mine = out + 8 * i;
    mine[0] = __shfl_sync(0xffffffffu, lane, lane / 2);
    mine[1] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
    mine[2] = __shfl_down_sync(0xffffffffu, lane, 3);
    mine[3] = __shfl_xor_sync(0xffffffffu, lane, 5);
    mine[4] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
    mine[5] = __any_sync(0xffffffffu, lane == 31) + 2 * __all_sync(0xffffffffu, lane < 31);
    mine[6] = __syncthreads_count((int)threadIdx.x % 2);
    if (lane < 16)
        mine[7] = __shfl_xor_sync(0x0000ffffu, lane, 1);
    else
        mine[7] = __shfl_xor_sync(0xffff0000u, lane, 2);
}

static void test_shuffles(void) {
    enum { BLOCKS = 3, THREADS = 96 };
    int got[8 * BLOCKS * THREADS], *out = upload<int>(NULL, 8 * BLOCKS * THREADS);
    EXPECT(LAUNCH(&device, &err, shuffles_kernel, dim3(BLOCKS), dim3(THREADS), 0, out));
    download(got, out, 8 * BLOCKS * THREADS);
    int votes = 0;
    for (int lane = 0; lane < 32; lane += 3) votes |= (int)(1u << lane);
    for (int i = 0; i < BLOCKS * THREADS; i++) {
        int lane = i % 32, *mine = got + 8 * i;
        EXPECT(mine[0] == lane / 2);
        EXPECT(mine[1] == (lane % 8 >= 3 ? lane - 3 : lane));
        EXPECT(mine[2] == (lane + 3 < 32 ? lane + 3 : lane));
        EXPECT(mine[3] == (lane ^ 5));
        EXPECT(mine[4] == votes);
        EXPECT(mine[5] == 1);
        EXPECT(mine[6] == THREADS / 2);
        EXPECT(mine[7] == (lane < 16 ? lane ^ 1 : lane ^ 2));
    }
    cudaFree(out);
}

static __global__ void sums_kernel(const float *x, float *sums, int count) {
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x)
        sum += x[blockIdx.x * (unsigned)count + (unsigned)i];
    sum = block_sum(sum, (float *)shared_memory());
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

static void test_sums(void) {
    enum { ROWS = 37, COUNT = 1001 };
    static float x[ROWS * COUNT], sums[ROWS];
    for (int i = 0; i < ROWS * COUNT; i++) x[i] = (float)(i % 17);
    float *dx = upload(x, ROWS * COUNT), *ds = upload<float>(NULL, ROWS);
    EXPECT(LAUNCH(&device, &err, sums_kernel, dim3(ROWS), dim3(256), 128, dx, ds, COUNT));
    download(sums, ds, ROWS);
    for (int r = 0; r < ROWS; r++) {
        float want = 0.0f;
        for (int i = 0; i < COUNT; i++) want += x[r * COUNT + i];
        EXPECT(sums[r] == want);
    }
    cudaFree(dx), cudaFree(ds);
}

static void test_rounding(void) {
    for (uint64_t i = 0; i < 1 << 22; i++) {
        uint32_t bits = (uint32_t)(i * 0x9e3779b97f4a7c15u >> 20);
        float x = bits_float(bits);
        if (x != x) continue;
        if ((pack_bf16(x, 1.0f) & 0xffffu) == f32_to_bf16(x) && pack_bf16(2.0f, x) >> 16 == f32_to_bf16(x)) continue;
        EXPECT(!"bf16 rounds to nearest even");
        break;
    }
}

/* ---- deliberate faults ---- */

static __global__ void missing_barrier_kernel(float *out, bool barrier) {
    float *shared = (float *)shared_memory();
    unsigned n = blockDim.x, i = threadIdx.x;
    shared[i] = (float)i;
    if (barrier) __syncthreads();
    out[i] = shared[n - 1 - i];
}

/* Either a NaN or the race itself must show. */
static void test_missing_barrier(void) {
    for (int barrier = 0; barrier < 2; barrier++) {
        float got[128], *out = upload<float>(NULL, 128);
        EXPECT(LAUNCH(&device, &err, missing_barrier_kernel, dim3(1), dim3(128), 512, out, barrier));
        download(got, out, 128);
        bool right = true;
        for (int i = 0; i < 128; i++) right = right && got[i] == (float)(127 - i);
        EXPECT(right == (bool)barrier);
#ifdef SEMOLLM_EMU_CHECK
        EXPECT((complaints("race") > 0) == !barrier);
#endif
        cudaFree(out);
    }
}

static __global__ void missing_wait_kernel(const float *from, float *out, bool wait) {
    float *shared = (float *)shared_memory();
    int lane = (int)threadIdx.x;
    copy_async16(shared + 4 * lane, from + 4 * lane, true);
    copy_async_commit();
    copy_async16(shared + 128 + 4 * lane, from + 4 * lane, false);
    copy_async_commit();
    if (wait) copy_async_wait<1>();
    for (int i = 0; i < 4; i++) out[4 * lane + i] = shared[4 * lane + i];
}

static void test_missing_wait(void) {
    float from[128], got[128];
    for (int i = 0; i < 128; i++) from[i] = (float)i;
    for (int wait = 0; wait < 2; wait++) {
        float *d = upload(from, 128), *out = upload<float>(NULL, 128);
        EXPECT(LAUNCH(&device, &err, missing_wait_kernel, dim3(1), dim3(32), 1024, d, out, wait));
        download(got, out, 128);
        for (int i = 0; i < 128; i++) EXPECT((got[i] == from[i]) == (bool)wait);
#ifdef SEMOLLM_EMU_CHECK
        EXPECT((complaints("cp.async") > 0) == !wait);
#endif
        cudaFree(d), cudaFree(out);
    }
}

static __global__ void divergent_kernel(int how) {
    if (how == 0 && threadIdx.x == 5) return;
    if (how == 1 && threadIdx.x / 32 == 1) __syncwarp();
    if (how == 2 && threadIdx.x % 32 < 16) __syncwarp();
    if (how == 3 && threadIdx.x % 32 == 7) return;
    if (how == 3) __shfl_sync(0xffffffffu, 1, 0);
    __syncthreads();
}

static void test_divergence(void) {
    for (int how = 0; how < 4; how++) {
        EXPECT(LAUNCH(&device, &err, divergent_kernel, dim3(2), dim3(64), 0, how));
        EXPECT(finish() == (how == 1));
        EXPECT((complaints("divergent") > 0) == (how != 1));
        emu_fail("lost", 0); /* the device is well again */
    }
}

static __global__ void misaligned_kernel(const char *from, int *out) { *out = (int)load16(from + 8).x; }

static void test_misaligned(void) {
    int *out = upload<int>(NULL, 1);
    char *from = upload<char>(NULL, 64);
    EXPECT(LAUNCH(&device, &err, misaligned_kernel, dim3(1), dim3(1), 0, from, out));
    EXPECT(!finish() && complaints("multiple of 16") == 1);
    emu_fail("lost", 0);
    cudaFree(out), cudaFree(from);
}

#if !defined __SANITIZE_ADDRESS__ /* which would end the program at once, as it should */
static __global__ void past_end_kernel(float *out, int count) {
    for (int i = (int)threadIdx.x; i <= count; i += 32) out[i] = 1.0f;
}

static void test_past_end(void) {
    float *out = upload<float>(NULL, 100);
    EXPECT(LAUNCH(&device, &err, past_end_kernel, dim3(1), dim3(32), 0, out, 100));
    finish();
    EXPECT(complaints(NULL) >= 1);
    emu_fail("lost", 0);
    cudaFree(out);
    complaints(NULL);
}
#endif

/* ---- what only the checking build sees ---- */

#ifdef SEMOLLM_EMU_CHECK
static __global__ void missing_syncwarp_kernel(uint32_t *out, bool sync) {
    uint32_t *tile = (uint32_t *)shared_memory();
    int lane = (int)threadIdx.x;
    for (int i = 0; i < 4; i++) tile[4 * lane + i] = (uint32_t)lane;
    if (sync) __syncwarp();
    uint32_t r[4];
    load_matrix_x4(r, tile + 4 * lane);
    for (int i = 0; i < 4; i++) out[4 * lane + i] = r[i];
}

static void test_missing_syncwarp(void) {
    for (int sync = 0; sync < 2; sync++) {
        uint32_t *out = upload<uint32_t>(NULL, 128);
        EXPECT(LAUNCH(&device, &err, missing_syncwarp_kernel, dim3(1), dim3(32), 512, out, sync));
        EXPECT(finish() && (complaints("race") > 0) == !sync);
        cudaFree(out);
    }
}

/* A tile that is overwritten for the next round while others may still read it. */
static __global__ void reuse_kernel(float *out, bool barrier) {
    float *tile = (float *)shared_memory(), sum = 0.0f;
    for (int round = 0; round < 3; round++) {
        tile[threadIdx.x] = (float)round;
        __syncthreads();
        sum += tile[blockDim.x - 1 - threadIdx.x];
        if (barrier) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

static void test_reuse(void) {
    for (int barrier = 0; barrier < 2; barrier++) {
        float *out = upload<float>(NULL, 64);
        EXPECT(LAUNCH(&device, &err, reuse_kernel, dim3(1), dim3(64), 256, out, barrier));
        EXPECT(finish() && (complaints("race") > 0) == !barrier);
        cudaFree(out);
    }
}

/* The last block to arrive sums what all have written; without the fence nobody knows that it sees it. */
static __global__ void last_block_kernel(float *partial, int *arrived, float *sum, bool fence) {
    int *last = (int *)shared_memory();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = 1.0f;
        if (fence) __threadfence();
        *last = atomicAdd(arrived, 1) == (int)gridDim.x - 1;
        if (fence) __threadfence();
    }
    __syncthreads();
    if (*last && threadIdx.x < gridDim.x) sum[threadIdx.x] = partial[threadIdx.x];
}

static void test_last_block(void) {
    for (int fence = 0; fence < 2; fence++) {
        int zero = 0, *arrived = upload(&zero, 1);
        float *partial = upload<float>(NULL, 5), *sum = upload<float>(NULL, 5), got[5];
        EXPECT(LAUNCH(&device, &err, last_block_kernel, dim3(5), dim3(32), 4, partial, arrived, sum, fence));
        EXPECT(finish() && (complaints("race") > 0) == !fence);
        download(got, sum, 5);
        for (float x : got) EXPECT(x == 1.0f);
        cudaFree(arrived), cudaFree(partial), cudaFree(sum);
    }
}

static __global__ void overlap_kernel(float *x, int step) { x[blockIdx.x * (unsigned)step + threadIdx.x] = 1.0f; }

static void test_overlap(void) {
    for (int step = 31; step <= 32; step++) {
        float *x = upload<float>(NULL, 32 * 4);
        EXPECT(LAUNCH(&device, &err, overlap_kernel, dim3(4), dim3(32), 0, x, step));
        EXPECT(finish() && (complaints("race") > 0) == (step == 31));
        cudaFree(x);
    }
}

static EmuCounts counts_of(const char *name) {
    EmuCounts rows[64];
    int count = emu_counts(rows, 64);
    for (int i = 0; i < count; i++)
        if (!strcmp(rows[i].name, name)) return rows[i];
    EXPECT(!"counted");
    return EmuCounts();
}

/* Floats `stride` apart read from and written to global memory, one a lane. */
static __global__ void strided_kernel(const float *from, float *to, int stride) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    to[i] = from[i * (unsigned)stride];
}

static __global__ void wide_kernel(const uint4 *from, uint4 *to) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    store16(to + i, load16(from + i));
}

static __global__ void twice_kernel(const float *from, float *to, int count) {
    float sum = 0.0f;
    for (int pass = 0; pass < 2; pass++)
        for (int i = (int)threadIdx.x; i < count; i += 32) sum += from[i];
    to[threadIdx.x] = expf(sum);
}

static void test_sectors(void) {
    float *from = upload<float>(NULL, 1 << 20), *to = upload<float>(NULL, 1 << 14);
    EXPECT(cudaMemset(from, 0, 4 << 20) == cudaSuccess);
    for (int stride = 1; stride <= 8; stride *= 2) {
        emu_count(true);
        EXPECT(LAUNCH(&device, &err, strided_kernel, dim3(4), dim3(64), 0, from, to, stride) && finish());
        EmuCounts c = counts_of("strided_kernel");
        uint64_t sectors = 32u * (unsigned)stride; /* 8 warps of 4·stride sectors */
        EXPECT(c.launches == 1 && c.blocks == 4 && c.threads == 256);
        EXPECT(c.read.requests == 8 && c.read.requested == sectors && c.read.moved == sectors && c.read.used == 1024);
        EXPECT(c.write.requests == 8 && c.write.requested == 32 && c.write.moved == 32 && c.write.used == 1024);
    }
    emu_count(true);
    EXPECT(LAUNCH(&device, &err, wide_kernel, dim3(2), dim3(128), 0, (const uint4 *)from, (uint4 *)to) && finish());
    EmuCounts wide = counts_of("wide_kernel");
    EXPECT(wide.read.requests == 8 && wide.read.requested == 128 && wide.read.used == 4096);
    EXPECT(wide.write.requests == 8 && wide.write.requested == 128 && wide.write.moved == 128);
    for (int large = 0; large < 2; large++) { /* the second pass finds 4 KiB in the cache, but not 4 MiB */
        int count = large ? 1 << 20 : 1 << 10;
        emu_count(true);
        EXPECT(LAUNCH(&device, &err, twice_kernel, dim3(1), dim3(32), 0, from, to, count) && finish());
        EmuCounts c = counts_of("twice_kernel");
        uint64_t once = (uint64_t)count / 8;
        EXPECT(c.read.requested == 2 * once && c.read.moved == (large ? 2 * once : once) && c.special == 32);
    }
    cudaFree(from), cudaFree(to);
}

/* A warp writes words `stride` apart, then 16 bytes `stride` words apart, then ldmatrix reads rows so far apart. */
static __global__ void banks_kernel(int stride) {
    uint32_t *words = (uint32_t *)shared_memory();
    int lane = (int)threadIdx.x;
    words[lane * stride] = 1;
    __syncwarp();
    store16(words + 4 * lane * stride, make_uint4(0, 0, 0, 0));
    __syncwarp();
    uint32_t r[4];
    load_matrix_x4(r, words + 4 * (lane % 32) * stride);
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    mma_16816(d, r, r);
    __syncthreads();
}

static void test_banks(void) {
    const int strides[] = {1, 2, 3, 8}, ways[] = {1, 2, 1, 8};
    for (int i = 0; i < 4; i++) {
        emu_count(true);
        EXPECT(LAUNCH(&device, &err, banks_kernel, dim3(1), dim3(32), 128 * 32, strides[i]) && finish());
        EmuCounts c = counts_of("banks_kernel");
        uint64_t four = 4u * (unsigned)ways[i]; /* quarters of a warp, or matrices */
        EXPECT(c.wavefronts == (unsigned)ways[i] + 2 * four && c.least_wavefronts == 1 + 4 + 4);
        EXPECT(c.matrix_wavefronts == four && c.least_matrix_wavefronts == 4);
        EXPECT(c.mma == 1 && c.barriers == 1 && c.warp_barriers == 2 && c.most_shared == 4096);
    }
}

static void test_checks(void) {
    test_missing_syncwarp();
    test_reuse();
    test_last_block();
    test_overlap();
    test_sectors();
    test_banks();
    emu_count(false);
}
#else
static void test_checks(void) {}
#endif

/* ---- the runtime ---- */

static __global__ void add_one_kernel(int *x) { x[threadIdx.x]++; }

static void test_streams(void) {
    cudaStream_t one = NULL, two = NULL;
    cudaEvent_t ready = NULL;
    int *pinned = NULL, *x = upload<int>(NULL, 4);
    EXPECT(cudaStreamCreate(&one) == cudaSuccess && cudaStreamCreate(&two) == cudaSuccess);
    EXPECT(cudaEventCreate(&ready) == cudaSuccess && cudaMallocHost((void **)&pinned, 16) == cudaSuccess);
    for (int i = 0; i < 4; i++) pinned[i] = i;
    cudaMemcpyAsync(x, pinned, 16, cudaMemcpyHostToDevice, one);
    for (int i = 0; i < 4; i++) pinned[i] = 10 * i; /* too early: the copy has not been waited for */
    cudaEventRecord(ready, one);
    cudaStreamWaitEvent(two, ready, 0);
    cuda_part.stream = two;
    EXPECT(LAUNCH(&device, &err, add_one_kernel, dim3(1), dim3(4), 0, x));
    cudaMemcpyAsync(pinned, x, 16, cudaMemcpyDeviceToHost, two);
    EXPECT(pinned[1] != 11);
    cudaStreamSynchronize(two);
    for (int i = 0; i < 4; i++) EXPECT(pinned[i] == 10 * i + 1);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    EXPECT(cudaStreamBeginCapture(two, cudaStreamCaptureModeGlobal) == cudaSuccess);
    EXPECT(LAUNCH(&device, &err, add_one_kernel, dim3(1), dim3(4), 0, x));
    EXPECT(cudaStreamSynchronize(two) == cudaErrorStreamCaptureUnsupported);
    EXPECT(cudaStreamEndCapture(two, &graph) == cudaSuccess);
    EXPECT(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    for (int i = 0; i < 3; i++) EXPECT(cudaGraphLaunch(exec, two) == cudaSuccess);
    int got[4];
    download(got, x, 4);
    for (int i = 0; i < 4; i++) EXPECT(got[i] == 10 * i + 4);
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    cuda_part.stream = NULL;
    cudaStreamDestroy(one), cudaStreamDestroy(two), cudaEventDestroy(ready);
    cudaFreeHost(pinned), cudaFree(x);
}

static void test_failures(void) {
    void *memory = NULL;
    emu_fail("malloc", 2);
    EXPECT(cudaMalloc(&memory, 8) == cudaSuccess);
    cudaFree(memory);
    EXPECT(cudaMalloc(&memory, 8) == cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    EXPECT(cudaMalloc(&memory, 8) == cudaSuccess);
    emu_fail("launch", 1);
    EXPECT(!LAUNCH(&device, &err, add_one_kernel, dim3(1), dim3(2), 0, (int *)memory));
    EXPECT(strstr(err.text, "add_one_kernel"));
    emu_fail("lost", 2);
    EXPECT(finish() && !finish() && !finish());
    emu_fail("lost", 0);
    cudaFree(memory);
    EXPECT(finish());
    cudaGetLastError();
}

int main(void) {
    device.kind = DEVICE_CUDA;
    device.cuda = &cuda_part;
    static const char *const orders[] = {"warps",      "warps-reversed", "forward",    "reversed",
                                         "shuffled:1", "shuffled:2",     "shuffled:77"};
    for (const char *order : orders) {
        emu_set_schedule(order);
        emu_quiet(true);
        test_product();
        test_matrices();
        test_shuffles();
        test_sums();
        test_missing_barrier();
        test_missing_wait();
        test_divergence();
        test_misaligned();
#if !defined __SANITIZE_ADDRESS__
        test_past_end();
#endif
        test_checks();
        EXPECT(!complaints(NULL));
        test_streams();
        test_failures();
        EXPECT(!complaints(NULL));
        emu_quiet(false);
        if (failures) {
            fprintf(stderr, "with schedule %s\n", order);
            break;
        }
    }
    test_rounding();
    printf("%s\n", failures ? "the emulator is not to be trusted" : "the emulator does what it says");
    return failures != 0;
}
