/* Statistics over the rows of segments: norms over time, means. A block takes a slice of one segment's rows by up
 * to 256 columns, eight to a lane; slices past a short segment's end have nothing to do. Sums are made in an
 * order that depends on the sizes alone. */
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/rows.cuh"

enum { COLUMNS = 256, WARPS = 8, THREADS = 32 * WARPS };

static int slices_of(const Packed &p, int rows) { return (int)((p.longest + rows - 1) / rows); }

static dim3 slice_grid(const Packed &p, int rows, int64_t cols) {
    return dim3((unsigned)(p.count * slices_of(p, rows)), (unsigned)((cols + COLUMNS - 1) / COLUMNS));
}

/* Rows row .. end-1 of segment `segment`. */
struct Slice {
    int segment, number;
    int64_t row, end;
};

static __device__ __forceinline__ Slice slice_of(const int32_t *cu, int slices, int rows, unsigned block) {
    Slice s;
    s.segment = (int)block / slices, s.number = (int)block % slices;
    s.row = cu[s.segment] + (int64_t)s.number * rows;
    s.end = cu[s.segment + 1] < s.row + rows ? cu[s.segment + 1] : s.row + rows;
    return s;
}

/* Eight sums of each lane lie in shared memory so that neither lanes nor columns meet in a bank. */
enum { LANE_ROOM = 8 * 36 };

static __device__ __forceinline__ void lane_put(float *room, const float v[8]) {
    for (int e = 0; e < 8; e++) room[e * 36 + (int)threadIdx.x % 32] = v[e];
}

static __device__ __forceinline__ float lane_get(const float *room, int column) {
    return room[column % 8 * 36 + column / 8];
}

/* ---- mean and sum of squares about it, of `count` numbers ---- */

struct Moments {
    float count, mean, square;
};

static __device__ __forceinline__ void moments_add(Moments *a, Moments b) {
    if (b.count == 0.0f) return;
    float count = a->count + b.count, off = b.mean - a->mean, share = b.count / count;
    a->mean += off * share;
    a->square += b.square + off * off * (a->count * share);
    a->count = count;
}

/* ---- norm over time ---- */

enum { NORM_ROWS = 128, NORM_BATCH = 8 };

template <typename T> struct SegmentNorm {
    const T *x, *gamma, *beta;
    T *y;
    const int32_t *segments, *counted;
    float *moments; /* [segment, slice, 2, cols]: means, squares */
    float *affine;  /* [segment, 2, cols]: scale, middle */
    int64_t x_ld, y_ld;
    int slices, cols, act;
    float eps;
    bool whole;
};

template <typename T> static __device__ __forceinline__ int64_t rows_counted(const SegmentNorm<T> &a, int64_t segment) {
    return a.counted[segment + 1] - a.counted[segment];
}

/* Of the rows of a warp, NORM_BATCH in registers at a time. */
template <typename T>
static __device__ __forceinline__ void warp_moments(Moments total[8], const SegmentNorm<T> &a, const Slice &s, int c) {
    for (int64_t first = s.row + threadIdx.x / 32; first < s.end; first += WARPS * NORM_BATCH) {
        Eight<T> x[NORM_BATCH];
        int64_t left = (s.end - first + WARPS - 1) / WARPS;
        int rows = left < NORM_BATCH ? (int)left : NORM_BATCH;
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++)
            take8(x[i], a.x + (first + i * WARPS) * a.x_ld + c, i < rows ? a.cols - c : 0, a.whole);
        float mean[8] = {0.0f}, square[8] = {0.0f}, v[8];
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++) {
            unpack8(v, x[i]);
            for (int e = 0; e < 8; e++) mean[e] += v[e];
        }
        for (int e = 0; e < 8; e++) mean[e] /= (float)rows;
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++) {
            if (i >= rows) break;
            unpack8(v, x[i]);
            for (int e = 0; e < 8; e++) square[e] += (v[e] - mean[e]) * (v[e] - mean[e]);
        }
        for (int e = 0; e < 8; e++) moments_add(&total[e], Moments{(float)rows, mean[e], square[e]});
    }
}

template <typename T> __global__ void __launch_bounds__(THREADS) segment_moments(SegmentNorm<T> a) {
    float *room = (float *)shared_memory(); /* [warp][mean, square] */
    Slice s = slice_of(a.segments, a.slices, NORM_ROWS, blockIdx.x);
    int64_t end = a.segments[s.segment] + rows_counted(a, s.segment);
    if (end < s.end) s.end = end;
    if (s.row >= s.end) return;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, first = (int)blockIdx.y * COLUMNS;
    Moments total[8] = {};
    warp_moments(total, a, s, first + 8 * lane);
    float mean[8], square[8];
    for (int e = 0; e < 8; e++) mean[e] = total[e].mean, square[e] = total[e].square;
    lane_put(room + 2 * warp * LANE_ROOM, mean);
    lane_put(room + (2 * warp + 1) * LANE_ROOM, square);
    __syncthreads();
    int column = (int)threadIdx.x;
    if (first + column >= a.cols) return;
    Moments all = {};
    for (int w = 0; w < WARPS; w++) {
        float rows = (float)((s.end - s.row - w + WARPS - 1) / WARPS);
        moments_add(&all, Moments{rows, lane_get(room + 2 * w * LANE_ROOM, column),
                                  lane_get(room + (2 * w + 1) * LANE_ROOM, column)});
    }
    float *to = a.moments + ((int64_t)s.segment * a.slices + s.number) * 2 * a.cols + first + column;
    to[0] = all.mean;
    to[a.cols] = all.square;
}

/* Segments (x) by 32 columns (y): each warp adds every eighth slice, the first warp these. */
template <typename T> __global__ void __launch_bounds__(THREADS) segment_affine(SegmentNorm<T> a) {
    Moments *room = (Moments *)shared_memory();
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, c = (int)blockIdx.y * 32 + lane;
    int64_t segment = blockIdx.x, rows = rows_counted(a, segment);
    Moments total = {};
    for (int i = warp; c < a.cols && (int64_t)i * NORM_ROWS < rows; i += WARPS) {
        const float *from = a.moments + (segment * a.slices + i) * 2 * a.cols + c;
        int64_t left = rows - (int64_t)i * NORM_ROWS;
        moments_add(&total, Moments{(float)(left < NORM_ROWS ? left : NORM_ROWS), from[0], from[a.cols]});
    }
    room[threadIdx.x] = total;
    __syncthreads();
    if (warp || c >= a.cols || !rows) return;
    for (int w = 1; w < WARPS; w++) moments_add(&total, room[32 * w + lane]);
    float *to = a.affine + segment * 2 * a.cols + c;
    to[0] = to_float(a.gamma[c]) / sqrtf(total.square / (float)rows + a.eps);
    to[a.cols] = total.mean;
}

template <typename T>
static __device__ __forceinline__ void take_floats(float v[8], const T *from, int count, bool whole) {
    Eight<T> stored;
    take8(stored, from, count, whole);
    unpack8(v, stored);
}

/* In the opposite order to segment_moments: what that read last may still be in the cache. */
template <typename T> __global__ void __launch_bounds__(THREADS) segment_apply(SegmentNorm<T> a) {
    Slice s = slice_of(a.segments, a.slices, NORM_ROWS, gridDim.x - 1 - blockIdx.x);
    int c = (int)(gridDim.y - 1 - blockIdx.y) * COLUMNS + (int)threadIdx.x % 32 * 8, count = a.cols - c;
    if (s.row >= s.end || count <= 0) return;
    float scale[8], middle[8], beta[8];
    const float *affine = a.affine + (int64_t)s.segment * 2 * a.cols + c;
    take_floats(scale, affine, count, a.whole);
    take_floats(middle, affine + a.cols, count, a.whole);
    take_floats(beta, a.beta + c, count, a.whole);
#pragma unroll 4
    for (int64_t r = s.row + threadIdx.x / 32; r < s.end; r += WARPS) {
        Eight<T> x;
        float v[8];
        take8(x, a.x + r * a.x_ld + c, count, a.whole);
        unpack8(v, x);
        for (int e = 0; e < 8; e++) v[e] = (v[e] - middle[e]) * scale[e] + beta[e];
        activate8(v, a.act);
        put8(a.y + r * a.y_ld + c, v, count, a.whole);
    }
}

static size_t moments_floats(const SegmentNormArgs *a) {
    return (size_t)a->segments.count * slices_of(a->segments, NORM_ROWS) * 2 * (size_t)a->x.cols;
}

static size_t segment_norm_scratch_bytes(const SegmentNormArgs *a) {
    return (moments_floats(a) + (size_t)a->segments.count * 2 * (size_t)a->x.cols) * sizeof(float);
}

template <typename T> static bool segment_norm(Device *dev, const SegmentNormArgs *a, Error *err) {
    if (!a->x.rows) return true;
    float *moments = (float *)device_scratch(dev, segment_norm_scratch_bytes(a), err);
    if (!moments) return fail_in(err, "segment_norm");
    SegmentNorm<T> n = {};
    n.x = (const T *)a->x.data, n.x_ld = a->x.ld;
    n.y = (T *)a->y.data, n.y_ld = a->y.ld;
    n.gamma = (const T *)a->gamma.data, n.beta = (const T *)a->beta.data;
    n.segments = a->segments.device, n.counted = a->counted.device;
    n.moments = moments, n.affine = moments + moments_floats(a);
    n.slices = slices_of(a->segments, NORM_ROWS);
    n.cols = (int)a->x.cols;
    n.act = a->act, n.eps = a->eps;
    n.whole = rows_whole(a->x) && rows_whole(a->y) && (uintptr_t)a->beta.data % 16 == 0;
    dim3 grid = slice_grid(a->segments, NORM_ROWS, a->x.cols);
    dim3 affine((unsigned)a->segments.count, (unsigned)((n.cols + 31) / 32));
    return LAUNCH(dev, err, (segment_moments<T>), grid, dim3(THREADS), 2 * WARPS * LANE_ROOM * sizeof(float), n) &&
           LAUNCH(dev, err, (segment_affine<T>), affine, dim3(THREADS), THREADS * sizeof(Moments), n) &&
           LAUNCH(dev, err, (segment_apply<T>), grid, dim3(THREADS), 0, n);
}

/* ---- norm of a waveform ---- */

enum { WAVE_EACH = 16, WAVE_ROWS = THREADS * WAVE_EACH, WAVE_FOURS = WAVE_EACH / 4 };

template <typename T> struct WaveNorm {
    const float *x;
    T *y;
    const int32_t *segments;
    float *moments; /* mean, square of each slice */
    int64_t x_ld, y_ld;
    int slices, fours; /* blocks to a segment: of the moments; of what is written, from a whole four on */
    bool whole;        /* x and y are without gaps and begin at 16 bytes */
};

/* Where a segment's slices stand among all: room for a ragged end each, so that the whole is bounded by all samples and
 * segments, however their lengths are mixed. */
static __host__ __device__ inline int64_t wave_slice(int64_t samples_before, int64_t segment) {
    return samples_before / WAVE_ROWS + segment;
}

template <typename T> __global__ void __launch_bounds__(THREADS) wave_moments(WaveNorm<T> a) {
    float *partial = (float *)shared_memory();
    Slice s = slice_of(a.segments, a.slices, WAVE_ROWS, blockIdx.x);
    if (s.row >= s.end) return;
    int left = (int)(s.end - s.row) - (int)threadIdx.x;
    const float *from = a.x + (s.row + threadIdx.x) * a.x_ld;
    float x[WAVE_EACH], sum = 0.0f, square = 0.0f;
#pragma unroll
    for (int i = 0; i < WAVE_EACH; i++)
        x[i] = i * THREADS < left ? from[a.whole ? i * THREADS : i * THREADS * a.x_ld] : 0.0f;
#pragma unroll
    for (int i = 0; i < WAVE_EACH; i++) sum += x[i];
    float mean = block_sum(sum, partial) / (float)(s.end - s.row);
#pragma unroll
    for (int i = 0; i < WAVE_EACH; i++)
        if (i * THREADS < left) square += (x[i] - mean) * (x[i] - mean);
    square = block_sum(square, partial);
    if (threadIdx.x) return;
    float *to = a.moments + 2 * (wave_slice(a.segments[s.segment], s.segment) + s.number);
    to[0] = mean;
    to[1] = square;
}

/* Mean and 1 / standard deviation of a segment. Each block adds its slices up anew, a few dozen numbers. */
static __device__ __forceinline__ void wave_statistics(const float *moments, int64_t rows, float *partial, float *mean,
                                                       float *rstd) {
    float sum = 0.0f, square = 0.0f;
    for (int64_t i = threadIdx.x; i * WAVE_ROWS < rows; i += THREADS) {
        int64_t left = rows - i * WAVE_ROWS;
        sum += moments[2 * i] * (float)(left < WAVE_ROWS ? left : WAVE_ROWS);
    }
    *mean = block_sum(sum, partial) / (float)rows;
    for (int64_t i = threadIdx.x; i * WAVE_ROWS < rows; i += THREADS) {
        int64_t left = rows - i * WAVE_ROWS;
        float off = moments[2 * i] - *mean;
        square += moments[2 * i + 1] + off * off * (float)(left < WAVE_ROWS ? left : WAVE_ROWS);
    }
    *rstd = 1.0f / sqrtf(block_sum(square, partial) / (float)rows + 1e-7f);
}

/* Sums are cut by a segment's own samples alone; what is written may be cut by where these lie: into slices of fours,
 * from the last multiple of four at or before the segment's first. Other segments' samples in a four are left alone. */
struct WaveFours {
    int64_t first, begin, end;
};

static __device__ __forceinline__ int64_t wave_four(const WaveFours &s, int i) {
    return s.first + 4 * ((int)threadIdx.x + i * THREADS);
}

static __device__ __forceinline__ bool wave_has(const WaveFours &s, int64_t r) { return r >= s.begin && r < s.end; }

static __device__ __forceinline__ bool wave_whole(const WaveFours &s, int64_t r) {
    return r >= s.begin && r + 4 <= s.end;
}

template <typename T>
static __device__ __forceinline__ void take_fours(float x[WAVE_FOURS][4], const WaveNorm<T> &a, const WaveFours &s) {
#pragma unroll
    for (int i = 0; i < WAVE_FOURS; i++) {
        int64_t r = wave_four(s, i);
        if (a.whole && wave_whole(s, r))
            load4(x[i], a.x + r);
        else
            for (int e = 0; e < 4; e++) x[i][e] = wave_has(s, r + e) ? a.x[(r + e) * a.x_ld] : 0.0f;
    }
}

template <typename T> __global__ void __launch_bounds__(THREADS) wave_apply(WaveNorm<T> a) {
    float *partial = (float *)shared_memory(), x[WAVE_FOURS][4], mean, rstd;
    int segment = (int)blockIdx.x / a.fours;
    WaveFours s = {0, a.segments[segment], a.segments[segment + 1]};
    s.first = s.begin / 4 * 4 + (int64_t)((int)blockIdx.x % a.fours) * WAVE_ROWS;
    if (s.first >= s.end) return;
    take_fours(x, a, s);
    wave_statistics(a.moments + 2 * wave_slice(s.begin, segment), s.end - s.begin, partial, &mean, &rstd);
#pragma unroll
    for (int i = 0; i < WAVE_FOURS; i++) {
        int64_t r = wave_four(s, i);
        for (int e = 0; e < 4; e++) x[i][e] = (x[i][e] - mean) * rstd;
        if (a.whole && wave_whole(s, r)) {
            store4(a.y + r, x[i]);
        } else {
            for (int e = 0; e < 4; e++)
                if (wave_has(s, r + e)) a.y[(r + e) * a.y_ld] = from_float<T>(x[i][e]);
        }
    }
}

static size_t wave_norm_scratch_bytes(const WaveNormArgs *a) {
    return (size_t)wave_slice(a->segments.total, a->segments.count) * 2 * sizeof(float);
}

template <typename T> static bool wave_norm(Device *dev, const WaveNormArgs *a, Error *err) {
    if (!a->x.rows) return true;
    WaveNorm<T> w = {};
    w.moments = (float *)device_scratch(dev, wave_norm_scratch_bytes(a), err);
    if (!w.moments) return fail_in(err, "wave_norm");
    w.x = (const float *)a->x.data, w.x_ld = a->x.ld;
    w.y = (T *)a->y.data, w.y_ld = a->y.ld;
    w.segments = a->segments.device;
    w.slices = slices_of(a->segments, WAVE_ROWS);
    w.fours = (int)((a->segments.longest + 3 + WAVE_ROWS - 1) / WAVE_ROWS); /* up to three samples precede a segment */
    w.whole = a->x.ld == 1 && a->y.ld == 1 && (uintptr_t)a->x.data % 16 == 0 && (uintptr_t)a->y.data % 16 == 0;
    dim3 grid = slice_grid(a->segments, WAVE_ROWS, 1), fours((unsigned)(a->segments.count * w.fours));
    size_t shared = 32 * sizeof(float);
    return LAUNCH(dev, err, (wave_moments<T>), grid, dim3(THREADS), shared, w) &&
           LAUNCH(dev, err, (wave_apply<T>), fours, dim3(THREADS), shared, w);
}

/* ---- means ---- */

enum { MEAN_WARPS = 16, SPREAD_ROWS = 256 };

template <typename T> struct SegmentMean {
    const T *x; /* to be averaged, or the gradient to be spread */
    T *y;
    const int32_t *segments;
    int64_t x_ld, y_ld;
    int slices, cols;
    bool whole;
};

/* Segments (x) by 256 columns (y). */
template <typename T> __global__ void __launch_bounds__(32 * MEAN_WARPS) segment_average(SegmentMean<T> a) {
    float *room = (float *)shared_memory(), sum[8] = {0.0f};
    int first = (int)blockIdx.y * COLUMNS, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int c = first + 8 * lane;
    int64_t row = a.segments[blockIdx.x], end = a.segments[blockIdx.x + 1];
#pragma unroll 4
    for (int64_t r = row + warp; r < end; r += MEAN_WARPS) {
        Eight<T> x;
        float v[8];
        take8(x, a.x + r * a.x_ld + c, a.cols - c, a.whole);
        unpack8(v, x);
        for (int e = 0; e < 8; e++) sum[e] += v[e];
    }
    lane_put(room + warp * LANE_ROOM, sum);
    __syncthreads();
    int column = (int)threadIdx.x;
    if (column >= COLUMNS || first + column >= a.cols) return;
    float total = 0.0f;
    for (int w = 0; w < MEAN_WARPS; w++) total += lane_get(room + w * LANE_ROOM, column);
    a.y[blockIdx.x * a.y_ld + first + column] = from_float<T>(end > row ? total / (float)(end - row) : 0.0f);
}

/* y of a segment's rows: its x over their number. */
template <typename T> __global__ void __launch_bounds__(THREADS) segment_spread(SegmentMean<T> a) {
    Slice s = slice_of(a.segments, a.slices, SPREAD_ROWS, blockIdx.x);
    int c = (int)blockIdx.y * COLUMNS + (int)threadIdx.x % 32 * 8, count = a.cols - c;
    if (s.row >= s.end || count <= 0) return;
    float share = 1.0f / (float)(a.segments[s.segment + 1] - a.segments[s.segment]), v[8];
    Eight<T> x;
    take8(x, a.x + s.segment * a.x_ld + c, count, a.whole);
    unpack8(v, x);
    for (int e = 0; e < 8; e++) v[e] *= share;
    pack8(x, v);
    for (int64_t r = s.row + threadIdx.x / 32; r < s.end; r += WARPS) put8(a.y + r * a.y_ld + c, x, count, a.whole);
}

template <typename T> static SegmentMean<T> segment_mean_of(Tensor x, Tensor y, const Packed &segments) {
    SegmentMean<T> m = {};
    m.x = (const T *)x.data, m.x_ld = x.ld;
    m.y = (T *)y.data, m.y_ld = y.ld;
    m.segments = segments.device;
    m.slices = slices_of(segments, SPREAD_ROWS);
    m.cols = (int)x.cols;
    m.whole = rows_whole(x) && rows_whole(y);
    return m;
}

template <typename T> static bool segment_mean(Device *dev, const SegmentMeanArgs *a, Error *err) {
    dim3 grid((unsigned)a->segments.count, (unsigned)((a->x.cols + COLUMNS - 1) / COLUMNS));
    return LAUNCH(dev, err, (segment_average<T>), grid, dim3(32 * MEAN_WARPS), MEAN_WARPS * LANE_ROOM * sizeof(float),
                  segment_mean_of<T>(a->x, a->y, a->segments));
}

template <typename T> static bool segment_mean_backward(Device *dev, const SegmentMeanBackwardArgs *a, Error *err) {
    return LAUNCH(dev, err, (segment_spread<T>), slice_grid(a->segments, SPREAD_ROWS, a->dx.cols), dim3(THREADS), 0,
                  segment_mean_of<T>(a->dy, a->dx, a->segments));
}

extern "C" {

bool cuda_segment_norm(Device *dev, const SegmentNormArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? segment_norm<bf16>(dev, a, err) : segment_norm<float>(dev, a, err);
}

size_t cuda_segment_norm_scratch(const Device *dev, const SegmentNormArgs *a) {
    (void)dev;
    return segment_norm_scratch_bytes(a);
}

bool cuda_wave_norm(Device *dev, const WaveNormArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? wave_norm<bf16>(dev, a, err) : wave_norm<float>(dev, a, err);
}

size_t cuda_wave_norm_scratch(const Device *dev, const WaveNormArgs *a) {
    (void)dev;
    return wave_norm_scratch_bytes(a);
}

bool cuda_segment_mean(Device *dev, const SegmentMeanArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? segment_mean<bf16>(dev, a, err) : segment_mean<float>(dev, a, err);
}

size_t cuda_segment_mean_scratch(const Device *dev, const SegmentMeanArgs *a) {
    (void)dev, (void)a;
    return 0;
}

bool cuda_segment_mean_backward(Device *dev, const SegmentMeanBackwardArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? segment_mean_backward<bf16>(dev, a, err)
                                    : segment_mean_backward<float>(dev, a, err);
}

size_t cuda_segment_mean_backward_scratch(const Device *dev, const SegmentMeanBackwardArgs *a) {
    (void)dev, (void)a;
    return 0;
}
}
