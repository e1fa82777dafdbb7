/* LoRA's small matrices beside the large ones, and what reaches x through them. */
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/lora.cuh"
#include "kernels/cuda/lora_walk.cuh"

/* ---- A and sB in the device's dtype ---- */

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    pack_kernel(LoraParts lora, bool b, T *to, int64_t ld, int64_t rows, int64_t cols, bool whole) {
    int64_t vectors = (cols + 7) / 8, item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t row = item / vectors, first = item % vectors * 8;
    if (row >= rows) return;
    const LoraPart &p = lora.part[b ? part_of_output(lora, row) : part_of_inner(lora, (int)row)];
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int64_t c = first + i;
        if (b)
            v[i] = c >= p.first && c < p.first + p.rank ? p.scale * p.b[(row - p.output) * p.ldb + c - p.first] : 0.0f;
        else
            v[i] = row < lora.rank && c < cols ? p.a[(row - p.first) * p.lda + c] : 0.0f;
    }
    put8(to + row * ld + first, v, cols - first < 8 ? (int)(cols - first) : 8, whole);
}

static bool pack(Device *dev, const LoraParts *lora, bool b, Tensor to, Error *err) {
    dim3 grid = blocks_for(to.rows * ((to.cols + 7) / 8), THREADS);
    bool whole = rows_whole(to);
    if (to.dtype == DTYPE_BF16)
        return LAUNCH(dev, err, pack_kernel<bf16>, grid, THREADS, 0, *lora, b, (bf16 *)to.data, to.ld, to.rows, to.cols,
                      whole);
    return LAUNCH(dev, err, pack_kernel<float>, grid, THREADS, 0, *lora, b, (float *)to.data, to.ld, to.rows, to.cols,
                  whole);
}

bool pack_b(Device *dev, const LoraParts *lora, Tensor to, Error *err) { return pack(dev, lora, true, to, err); }
bool pack_a(Device *dev, const LoraParts *lora, Tensor to, Error *err) { return pack(dev, lora, false, to, err); }

/* ---- inner rows that are known already ---- */

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    tail_kernel(const T *low, int64_t ldlow, int rank, T *tail, int64_t ld, int64_t rows, int cols, bool whole) {
    int vectors = (cols + 7) / 8;
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = item / vectors;
    int first = (int)(item % vectors) * 8;
    if (row >= rows) return;
    Eight<T> held;
    take8(held, low + row * ldlow + first, rank - first, whole);
    put8(tail + row * ld + first, held, cols - first, whole);
}

template <typename T> static bool fill(Device *dev, Tensor low, Tensor tail, Error *err) {
    bool whole = rows_whole(low) && rows_whole(tail);
    return LAUNCH(dev, err, tail_kernel<T>, blocks_for(tail.rows * ((tail.cols + 7) / 8), THREADS), THREADS, 0,
                  (const T *)low.data, low.ld, (int)low.cols, (T *)tail.data, tail.ld, tail.rows, (int)tail.cols, whole);
}

bool fill_tail(Device *dev, Tensor low, Tensor tail, Error *err) {
    if (!tensor_present(tail)) return true;
    return tail.dtype == DTYPE_BF16 ? fill<bf16>(dev, low, tail, err) : fill<float>(dev, low, tail, err);
}

/* ---- the gradient through dropout ---- */

enum { THROUGH_COLS = 256, THROUGH_ROWS = 4, THROUGH_RANKS = 32 };

/* Where column c of A's slice lies: what a lane's two 16-byte reads meet, the others' do not. */
static __device__ __forceinline__ int slice_at(int c) { return (c & 4 ? THROUGH_COLS / 2 : 0) + c / 8 * 4 + c % 4; }

/* Ranks from .. from + count - 1 of a part's A, columns column .. + 255, in shared memory. */
static __device__ __forceinline__ void load_slice(const LoraPart &p, float *slice, int from, int count, int64_t column,
                                                  int64_t cols) {
    __syncthreads(); /* the last one has been read */
    int c = (int)threadIdx.x;
    for (int j = 0; j < count; j++)
        slice[j * THROUGH_COLS + slice_at(c)] = column + c < cols ? p.a[(from + j) * p.lda + column + c] : 0.0f;
    __syncthreads();
}

/* A warp takes four rows by 256 columns, eight a lane. */
template <typename T>
static __global__ void __launch_bounds__(THREADS) through_kernel(LoraParts lora, const T *dlow, int64_t ldlow, T *dx,
                                                                 int64_t ld, int64_t rows, int64_t cols, bool whole) {
    float *slice = (float *)shared_memory();
    int lane = (int)threadIdx.x % 32;
    int64_t first = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * THROUGH_ROWS;
    int64_t column = (int64_t)blockIdx.y * THROUGH_COLS, mine = column + 8 * lane;
    float total[THROUGH_ROWS][8] = {};
    for (int i = 0; i < LINEAR_PARTS; i++) {
        const LoraPart &p = lora.part[i];
        float sum[THROUGH_ROWS][8] = {};
        for (int from = 0; from < p.rank; from += THROUGH_RANKS) {
            int count = p.rank - from < THROUGH_RANKS ? p.rank - from : THROUGH_RANKS;
            float low[THROUGH_ROWS];
            load_slice(p, slice, from, count, column, cols);
#pragma unroll
            for (int r = 0; r < THROUGH_ROWS; r++)
                low[r] = first + r < rows && lane < count ? to_float(dlow[(first + r) * ldlow + p.first + from + lane])
                                                          : 0.0f;
            for (int j = 0; j < count; j++) {
                float a[8];
                load4(a, slice + j * THROUGH_COLS + 4 * lane);
                load4(a + 4, slice + j * THROUGH_COLS + THROUGH_COLS / 2 + 4 * lane);
#pragma unroll
                for (int r = 0; r < THROUGH_ROWS; r++) {
                    float v = __shfl_sync(0xffffffffu, low[r], j);
#pragma unroll
                    for (int c = 0; c < 8; c++) sum[r][c] += v * a[c];
                }
            }
        }
        if (!p.rank || mine >= cols) continue;
#pragma unroll
        for (int r = 0; r < THROUGH_ROWS; r++) {
            float factor[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
            if (p.drops && first + r < rows) dropout_factor8(factor, p.mask, random_row(p.mask.key, first + r), mine);
#pragma unroll
            for (int c = 0; c < 8; c++) total[r][c] += factor[c] * sum[r][c];
        }
    }
    int count = cols - mine < 8 ? (int)(cols - mine) : 8;
#pragma unroll
    for (int r = 0; r < THROUGH_ROWS; r++) {
        if (first + r >= rows || count <= 0) continue;
        T *at = dx + (first + r) * ld + mine;
        Eight<T> held;
        float v[8];
        take8(held, at, count, whole);
        unpack8(v, held);
#pragma unroll
        for (int c = 0; c < 8; c++) v[c] += total[r][c];
        put8(at, v, count, whole);
    }
}

template <typename T> static bool through(Device *dev, const LoraParts *lora, Tensor dlow, Tensor dx, Error *err) {
    dim3 grid = blocks_for(dx.rows, WARPS * THROUGH_ROWS);
    grid.y = (unsigned)((dx.cols + THROUGH_COLS - 1) / THROUGH_COLS);
    return LAUNCH(dev, err, through_kernel<T>, grid, THREADS, THROUGH_RANKS * THROUGH_COLS * sizeof(float), *lora,
                  (const T *)dlow.data, dlow.ld, (T *)dx.data, dx.ld, dx.rows, dx.cols, rows_whole(dx));
}

bool add_through(Device *dev, const LoraParts *lora, Tensor dlow, Tensor dx, Error *err) {
    return dx.dtype == DTYPE_BF16 ? through<bf16>(dev, lora, dlow, dx, err) : through<float>(dev, lora, dlow, dx, err);
}
