/* LayerNorm and RMSNorm over rows. A part (a row, or one of RMSNorm's groups of it) stays in registers between
 * its statistics and what is written, so that each operand is read once. Narrow parts belong to 1 to 32 lanes of
 * a warp, wide ones to a whole block; gamma and beta lie in shared memory for all parts of a block. */
#include "kernels/cuda/eight.cuh"

/* A thread holds up to CHUNKS times eight elements of a part, `lanes` · 8 columns apart. */
enum { NARROW_THREADS = 256, NARROW_REPEAT = 4, NARROW_CHUNKS = 2, NORM_THREADS = 512, NORM_REPEAT = 8 };
enum { NORM_PARTIAL = 128 /* bytes for block_sum */ };

/* For gradients of gamma and beta a block takes at least so many parts, and there are at most so many blocks. */
enum { SUM_PARTS = 32, SUM_BLOCKS = 512, FINISH_THREADS = 256 };

/* How parts lie on threads. */
typedef struct NormShape {
    uint32_t parts, groups;
    int width, lanes, threads, repeat; /* of a part; of threads to a part, to a block; of parts to a thread */
    int chunks;
    int lane_bits, together; /* lanes are 1 << lane_bits, or the whole block's; parts side by side */
    float each;              /* 1 / width */
    bool whole;              /* everything can be read eight elements at a time */
} NormShape;

template <typename T> struct NormForward {
    NormShape shape;
    const T *x, *gamma, *beta;
    T *y;
    float *mean, *rstd;
    int64_t x_ld, y_ld, rstd_ld;
    float eps;
    int act;
};

template <typename T> struct NormBackward {
    NormShape shape;
    const T *x, *gamma, *dy, *bypass;
    const float *mean, *rstd;
    T *dx;
    float *sums; /* [block, 2, width]: Σ dy·n and Σ dy of a block's parts, for dgamma and dbeta */
    int64_t x_ld, dy_ld, bypass_ld, dx_ld, rstd_ld;
};

/* Where a thread's part and columns are. */
struct NormPlace {
    bool live;
    int64_t row;
    int group, lane;
};

static __device__ __forceinline__ NormPlace norm_place(const NormShape &s, int repetition) {
    uint32_t part = (repetition * gridDim.x + blockIdx.x) * s.together + (threadIdx.x >> s.lane_bits);
    NormPlace p;
    p.live = part < s.parts;
    p.row = s.groups == 1 ? part : part / s.groups;
    p.group = s.groups == 1 ? 0 : part % s.groups;
    p.lane = (int)threadIdx.x & ((1 << s.lane_bits) - 1);
    return p;
}

/* Over the lanes of a part. */
static __device__ __forceinline__ float part_sum(float x, int lanes, float *partial) {
    if (lanes > 32) return block_sum(x, partial);
    for (int step = lanes / 2; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* The columns' parameters to shared memory, padded with zeros to whole chunks; to be waited for. */
template <typename T> static __device__ __forceinline__ void stage_columns(T *to, const T *from, const NormShape &s) {
    if (s.whole) {
        int bytes = s.width * (int)sizeof(T);
        for (int i = (int)threadIdx.x * 16; i < bytes; i += s.threads * 16)
            copy_async16((char *)to + i, (const char *)from + i, true);
    } else {
        for (int c = (int)threadIdx.x; c < (s.width + 7) / 8 * 8; c += s.threads)
            to[c] = c < s.width ? from[c] : from_float<T>(0.0f);
    }
}

/* What is known of a forward pass when it is compiled: nothing; or that everything is read eight elements at a time
 * and what is done besides the norm. */
enum NormMode { NORM_ANY, NORM_PLAIN, NORM_GELU };

/* Lanes of a part: parts of more than one chunk that are not a block's belong to a whole warp. */
template <int CHUNKS, bool WIDE> static __device__ __forceinline__ int part_lanes(const NormShape &s) {
    return !WIDE && CHUNKS > 1 ? 32 : s.lanes;
}

/* Of a column's parameters in shared memory those of narrow parts are kept as floats, which spares every part their
 * conversion: the first halves of all octets, then the second ones, so that lanes do not meet in a bank. */
template <typename T, bool WIDE> struct NormColumn { typedef T Type; };
template <typename T> struct NormColumn<T, false> { typedef float Type; };

static __device__ __forceinline__ int norm_octets(const NormShape &s) { return (s.width + 7) / 8; }

template <typename T>
static __device__ __forceinline__ void stage_parameters(float *to, const T *from, const NormShape &s, bool whole) {
    for (int octet = (int)threadIdx.x; octet < norm_octets(s); octet += s.threads) {
        Eight<T> stored;
        Eight<float> wider;
        float v[8];
        take8(stored, from + 8 * octet, s.width - 8 * octet, whole);
        unpack8(v, stored);
        pack8(wider, v);
        for (int half = 0; half < 2; half++) store16(to + 4 * (half * norm_octets(s) + octet), wider.part[half]);
    }
}

static __device__ __forceinline__ void stage_parameters(bf16 *to, const bf16 *from, const NormShape &s, bool) {
    stage_columns(to, from, s);
}

static __device__ __forceinline__ void column8(float v[8], const bf16 *from, int octet, const NormShape &) {
    load8(v, from + 8 * octet);
}

static __device__ __forceinline__ void column8(float v[8], const float *from, int octet, const NormShape &s) {
    Eight<float> stored;
    for (int half = 0; half < 2; half++) stored.part[half] = load16(from + 4 * (half * norm_octets(s) + octet));
    unpack8(v, stored);
}

/* Parameters of wide rows of floats stay where they are: both would not fit every GPU's shared memory. */
template <typename T, bool WIDE> static __host__ __device__ constexpr bool norm_staged(void) {
    return !WIDE || sizeof(T) == 2;
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void parameters8(float v[8], const typename NormColumn<T, WIDE>::Type *staged,
                                                   const T *from, int octet, const NormShape &s, bool whole) {
    if (norm_staged<T, WIDE>()) {
        column8(v, staged, octet, s);
        return;
    }
    Eight<T> stored;
    take8(stored, from + 8 * octet, s.width - 8 * octet, whole);
    unpack8(v, stored);
}

/* Over a block's threads. Two sums that follow one another have rooms of their own, and each needs one barrier: who
 * writes a room again has passed the other's. */
enum { SUM_ROOM = NORM_THREADS / 32 };
static __device__ __forceinline__ float wide_sum(float x, float *room) {
    int lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
    x = warp_sum(x);
    if (lane == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = lane % SUM_ROOM < warps ? room[lane % SUM_ROOM] : 0.0f;
    for (int step = SUM_ROOM / 2; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

template <int CHUNKS, bool WIDE>
static __device__ __forceinline__ float forward_sum(float x, const NormShape &s, float *room) {
    return WIDE ? wide_sum(x, room) : part_sum(x, part_lanes<CHUNKS, false>(s), NULL);
}

/* Chunks of a part that may be of single columns: more of those would want more addresses than there are registers. */
enum { SINGLE_CHUNKS = 4 };
template <int CHUNKS, int MODE> static __device__ __forceinline__ bool norm_whole(const NormShape &s) {
    return MODE != NORM_ANY || CHUNKS > SINGLE_CHUNKS || s.whole;
}

/* What a thread has of a part, as stored. */
template <typename T, int CHUNKS, bool WIDE, int MODE>
static __device__ __forceinline__ void norm_fetch(Eight<T> x[CHUNKS], const NormForward<T> &a, const NormPlace &p) {
    const NormShape &shape = a.shape;
    const T *from = a.x + p.row * a.x_ld + (int64_t)p.group * shape.width + 8 * p.lane;
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int off = 8 * i * part_lanes<CHUNKS, WIDE>(shape), count = p.live ? shape.width - 8 * p.lane - off : 0;
        take8(x[i], from + off, count, norm_whole<CHUNKS, MODE>(shape));
    }
}

template <typename T, int CHUNKS>
static __device__ __forceinline__ void norm_unpack(float s[CHUNKS][8], const Eight<T> x[CHUNKS]) {
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) unpack8(s[i], x[i]);
}

/* What lies past the part's end stays zero. */
static __device__ __forceinline__ void centre(float s[8], float mean, int count, bool whole) {
    for (int e = 0; e < 8; e++)
        if (whole ? count > 0 : e < count) s[e] -= mean;
}

/* Statistics of a part, and what is written of it. */
template <typename T, int CHUNKS, bool CENTRED, bool WIDE, int MODE>
static __device__ __forceinline__ void norm_part(float s[CHUNKS][8], const NormForward<T> &a, const NormPlace &p,
                                                 const typename NormColumn<T, WIDE>::Type *gamma,
                                                 const typename NormColumn<T, WIDE>::Type *beta, float *room) {
    const NormShape &shape = a.shape;
    const int lanes = part_lanes<CHUNKS, WIDE>(shape);
    const bool whole = norm_whole<CHUNKS, MODE>(shape);
    float mean = 0.0f, square = 0.0f;
    if (CENTRED) {
#pragma unroll
        for (int i = 0; i < CHUNKS; i++)
            for (int e = 0; e < 8; e++) mean += s[i][e];
        mean = forward_sum<CHUNKS, WIDE>(mean, shape, room + SUM_ROOM) * shape.each;
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int count = shape.width - 8 * (p.lane + i * lanes);
        if (CENTRED) centre(s[i], mean, count, whole);
        for (int e = 0; e < 8; e++) square += s[i][e] * s[i][e];
    }
    square = forward_sum<CHUNKS, WIDE>(square, shape, room);
    float rstd = reciprocal_fast(sqrtf(square * shape.each + a.eps));
    if (!p.live) return;
    T *y = a.y + p.row * a.y_ld + (int64_t)p.group * shape.width + 8 * p.lane;
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int octet = p.lane + i * lanes;
        if (8 * octet >= shape.width) continue;
        float scale[8], shift[8];
        parameters8<T, WIDE>(scale, gamma, a.gamma, octet, shape, whole);
        if (CENTRED) parameters8<T, WIDE>(shift, beta, a.beta, octet, shape, whole);
        for (int e = 0; e < 8; e++) s[i][e] = s[i][e] * rstd * scale[e] + (CENTRED ? shift[e] : 0.0f);
        if (MODE == NORM_ANY || MODE == NORM_GELU) activate8(s[i], MODE == NORM_GELU ? ACT_GELU : a.act);
        put8(y + 8 * i * lanes, s[i], shape.width - 8 * octet, whole);
    }
    if (p.lane == 0 && CENTRED && a.mean) a.mean[p.row] = mean;
    if (p.lane == 0 && a.rstd) a.rstd[p.row * a.rstd_ld + p.group] = rstd;
}

/* Threads that a processor is to hold: bytes under way count for more than registers at hand. */
template <typename T> static constexpr int forward_threads(int chunks, bool centred, bool wide, int mode) {
    int bytes = chunks * (int)sizeof(T) * (mode == NORM_ANY ? 2 : 1);
    if (wide) return bytes <= (centred ? 4 : 8) ? 2 * NORM_THREADS : NORM_THREADS;
    return NARROW_THREADS * (bytes <= 4 ? 4 : bytes <= 8 ? 3 : bytes <= 32 ? 2 : 1);
}

/* As many blocks as the GPU holds take parts in turn. The next part is fetched while one is worked on, where registers
 * allow it, so that something is always under way. */
template <typename T, int CHUNKS, bool CENTRED, bool WIDE, int MODE>
__global__ void __launch_bounds__(WIDE ? NORM_THREADS : NARROW_THREADS,
                                  forward_threads<T>(CHUNKS, CENTRED, WIDE, MODE) /
                                      (WIDE ? NORM_THREADS : NARROW_THREADS)) norm_forward(NormForward<T> a) {
    constexpr bool AHEAD = CHUNKS * sizeof(T) <= (MODE == NORM_ANY ? 4 : 8);
    typedef typename NormColumn<T, WIDE>::Type Column;
    const NormShape &shape = a.shape;
    float *room = (float *)shared_memory();
    Column *gamma = (Column *)(shared_memory() + NORM_PARTIAL), *beta = gamma + 8 * norm_octets(shape);
    Eight<T> ahead[CHUNKS];
    if (AHEAD) norm_fetch<T, CHUNKS, WIDE, MODE>(ahead, a, norm_place(shape, 0));
    if (norm_staged<T, WIDE>()) {
        stage_parameters(gamma, a.gamma, shape, MODE != NORM_ANY || shape.whole);
        if (CENTRED) stage_parameters(beta, a.beta, shape, MODE != NORM_ANY || shape.whole);
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    float s[CHUNKS][8];
#pragma unroll 1
    for (int repetition = 0; repetition < shape.repeat; repetition++) {
        NormPlace p = norm_place(shape, repetition);
        if (AHEAD) {
            norm_unpack<T, CHUNKS>(s, ahead);
            NormPlace next = norm_place(shape, repetition + 1);
            next.live = next.live && repetition + 1 < shape.repeat;
            norm_fetch<T, CHUNKS, WIDE, MODE>(ahead, a, next);
        } else {
            Eight<T> now[CHUNKS];
            norm_fetch<T, CHUNKS, WIDE, MODE>(now, a, p);
            norm_unpack<T, CHUNKS>(s, now);
        }
        norm_part<T, CHUNKS, CENTRED, WIDE, MODE>(s, a, p, gamma, beta,
                                                  room + (CENTRED ? 0 : repetition % 2 * SUM_ROOM));
    }
}

/* The sums of a block's threads that have the same columns, an eight of them at a time. */
template <int CHUNKS>
static __device__ __forceinline__ void store_sums(float *to, const float v[CHUNKS][8], const NormShape &shape) {
    float *room = (float *)shared_memory(); /* [slot][8][lane], so that neither lanes nor columns meet in a bank */
    int stride = shape.lanes + 4, slot = (int)threadIdx.x >> shape.lane_bits;
    int lane = (int)threadIdx.x & ((1 << shape.lane_bits) - 1);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        __syncthreads();
        for (int e = 0; e < 8; e++) room[(8 * slot + e) * stride + lane] = v[i][e];
        __syncthreads();
        for (int c = (int)threadIdx.x; c < 8 * shape.lanes; c += shape.threads) {
            float total = 0.0f;
            for (int k = 0; k < shape.together; k++) total += room[(8 * k + c % 8) * stride + c / 8];
            if (8 * i * shape.lanes + c < shape.width) to[8 * i * shape.lanes + c] = total;
        }
    }
}

/* dx = rstd · (dy·gamma - mean(dy·gamma) - n·mean(dy·gamma·n)) + what bypasses, n = (s - mean)·rstd; RMSNorm's
 * without the first mean. With PARAMETERS the sums for dgamma and dbeta come of the same reading. */
template <typename T, int CHUNKS, bool CENTRED, bool PARAMETERS>
__global__ void __launch_bounds__(PARAMETERS &&CHUNKS > 2 ? NARROW_THREADS : NORM_THREADS, 1)
    norm_backward(NormBackward<T> a) {
    const NormShape &shape = a.shape;
    float *partial = (float *)shared_memory();
    T *gamma = (T *)(shared_memory() + NORM_PARTIAL);
    stage_columns(gamma, a.gamma, shape);
    copy_async_commit();
    Eight<T> s[CHUNKS], dy[CHUNKS], bypass[CHUNKS];
    float scale_sum[CHUNKS][8] = {}, shift_sum[CHUNKS][8] = {};
#pragma unroll 1
    for (int repetition = 0; repetition < shape.repeat; repetition++) {
        NormPlace p = norm_place(shape, repetition);
        int64_t from = (int64_t)p.group * shape.width;
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            int c = 8 * (p.lane + i * shape.lanes), count = p.live ? shape.width - c : 0;
            take8(dy[i], a.dy + p.row * a.dy_ld + from + c, count, shape.whole);
            take8(s[i], a.x + p.row * a.x_ld + from + c, count, shape.whole);
            if (a.bypass) take8(bypass[i], a.bypass + p.row * a.bypass_ld + from + c, count, shape.whole);
        }
        float mean = CENTRED && p.live ? a.mean[p.row] : 0.0f;
        float rstd = p.live ? a.rstd[p.row * a.rstd_ld + p.group] : 0.0f;
        if (repetition == 0) {
            copy_async_wait<0>();
            __syncthreads();
        }
        float plain = 0.0f, along = 0.0f;
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            int c = 8 * (p.lane + i * shape.lanes);
            if (c >= shape.width) continue;
            float g[8], n[8], scale[8];
            unpack8(g, dy[i]);
            unpack8(n, s[i]);
            load8(scale, gamma + c);
            for (int e = 0; e < 8; e++) {
                n[e] = (n[e] - mean) * rstd;
                if (PARAMETERS) scale_sum[i][e] += g[e] * n[e];
                if (PARAMETERS && CENTRED) shift_sum[i][e] += g[e];
                g[e] *= scale[e];
                plain += g[e];
                along += g[e] * n[e];
            }
        }
        if (!a.dx) continue;
        if (CENTRED) plain = part_sum(plain, shape.lanes, partial) * shape.each;
        along = part_sum(along, shape.lanes, partial) * shape.each;
        if (!p.live) continue;
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            int c = 8 * (p.lane + i * shape.lanes);
            if (c >= shape.width) continue;
            float g[8], n[8], scale[8], add[8];
            unpack8(g, dy[i]);
            unpack8(n, s[i]);
            load8(scale, gamma + c);
            if (a.bypass) unpack8(add, bypass[i]);
            for (int e = 0; e < 8; e++) {
                float centred = CENTRED ? g[e] * scale[e] - plain : g[e] * scale[e];
                g[e] = rstd * (centred - (n[e] - mean) * rstd * along) + (a.bypass ? add[e] : 0.0f);
            }
            put8(a.dx + p.row * a.dx_ld + from + c, g, shape.width - c, shape.whole);
        }
    }
    if (!PARAMETERS) return;
    float *to = a.sums + (int64_t)blockIdx.x * 2 * shape.width;
    store_sums<CHUNKS>(to, scale_sum, shape);
    if (CENTRED) store_sums<CHUNKS>(to + shape.width, shift_sum, shape);
}

/* dgamma and dbeta += the sums of all blocks: a warp to 32 columns' every eighth block, the first to the warps. */
__global__ void __launch_bounds__(FINISH_THREADS)
    norm_parameters(const float *sums, int blocks, int width, float *dgamma, float *dbeta) {
    float(*room)[2] = (float(*)[2])shared_memory();
    int lane = (int)threadIdx.x % 32, c = (int)blockIdx.x * 32 + lane;
    float scale = 0.0f, shift = 0.0f;
    for (int i = (int)threadIdx.x / 32; i < blocks && c < width; i += FINISH_THREADS / 32) {
        scale += sums[(int64_t)2 * i * width + c];
        if (dbeta) shift += sums[((int64_t)2 * i + 1) * width + c];
    }
    room[threadIdx.x][0] = scale, room[threadIdx.x][1] = shift;
    __syncthreads();
    if ((int)threadIdx.x >= 32 || c >= width) return;
    for (int k = 1; k < FINISH_THREADS / 32; k++) scale += room[32 * k + lane][0], shift += room[32 * k + lane][1];
    if (dgamma) dgamma[c] += scale;
    if (dbeta) dbeta[c] += shift;
}

/* ---- launching ---- */

/* Chunks that a thread's registers hold, forward and backward. */
template <typename T> constexpr int MOST = sizeof(T) == 2 ? 8 : 4;
template <typename T> constexpr int MOST_BACK = sizeof(T) == 2 ? 4 : 2;

/* Up to `most` chunks to a thread; of wide parts, whose blocks are larger, up to four. */
static bool norm_shape(NormShape *s, int64_t rows, int64_t cols, int groups, int most, bool whole, Error *err) {
    int64_t width = cols / groups, octets = (width + 7) / 8, widest = (most < 4 ? most : 4) * 8 * NORM_THREADS;
    if (width > widest)
        return fail(err, "a norm over %lld columns: at most %lld are provided for", (long long)width,
                    (long long)widest);
    if (rows * groups > UINT32_MAX / 2)
        return fail(err, "a norm over %lld rows in %d groups is too large", (long long)rows, groups);
    *s = NormShape();
    s->parts = (uint32_t)(rows * groups);
    s->groups = (uint32_t)groups;
    s->width = (int)width;
    s->each = 1.0f / (float)width;
    s->whole = whole && width % 8 == 0;
    if (!s->whole && most > SINGLE_CHUNKS) most = SINGLE_CHUNKS;
    s->lanes = s->chunks = 1;
    while (s->lanes < 32 && s->lanes < octets) s->lanes *= 2, s->lane_bits++;
    while (s->chunks < most && s->lanes * s->chunks < octets) s->chunks *= 2;
    s->threads = NARROW_THREADS;
    s->repeat = s->chunks <= NARROW_CHUNKS ? NARROW_REPEAT : NARROW_REPEAT / 2;
    s->together = s->threads / s->lanes;
    if (s->lanes * s->chunks >= octets) return true;
    s->chunks = octets > 2 * NORM_THREADS ? 4 : 2;
    s->lanes = s->threads = (int)((octets + s->chunks * 32 - 1) / (s->chunks * 32) * 32);
    s->together = 1;
    s->lane_bits = 10; /* more than any block has */
    s->repeat = NORM_REPEAT;
    return true;
}

static dim3 norm_grid(const NormShape &s) { return blocks_for(s.parts, (int64_t)s.together * s.repeat); }

static size_t norm_shared(const NormShape &s, int vectors, size_t size) {
    return NORM_PARTIAL + (size_t)((s.width + 7) / 8 * 8) * size * vectors;
}

template <typename T, bool CENTRED, int MODE> static void (*forward_kernel(const NormShape &s))(NormForward<T>) {
    if (s.lanes > 32)
        return s.chunks == 2 ? norm_forward<T, 2, CENTRED, true, MODE> : norm_forward<T, 4, CENTRED, true, MODE>;
    return s.chunks == 1   ? norm_forward<T, 1, CENTRED, false, MODE>
           : s.chunks == 2 ? norm_forward<T, 2, CENTRED, false, MODE>
           : s.chunks == 4 ? norm_forward<T, 4, CENTRED, false, MODE>
                           : norm_forward<T, MOST<T>, CENTRED, false, MODE>;
}

template <typename T, bool CENTRED, int MODE> static bool launch_forward(Device *dev, NormForward<T> a, Error *err) {
    NormShape &s = a.shape;
    bool wide = s.lanes > 32;
    int blocks = forward_threads<T>(s.chunks, CENTRED, wide, MODE) / s.threads;
    bool staged = wide ? norm_staged<T, true>() : norm_staged<T, false>();
    size_t shared = norm_shared(s, staged ? CENTRED ? 2 : 1 : 0, wide ? sizeof(T) : sizeof(float));
    uint32_t at_once = (uint32_t)(dev->cuda->processors * (blocks > 0 ? blocks : 1) * s.together);
    s.repeat = (int)((s.parts + at_once - 1) / at_once);
    return launch(dev, err, CENTRED ? "layer_norm" : "rms_norm", forward_kernel<T, CENTRED, MODE>(s), norm_grid(s),
                  dim3(s.threads), shared, a);
}

template <typename T, bool CENTRED> static bool run_forward(Device *dev, const NormForward<T> &a, Error *err) {
    if (!a.shape.parts) return true;
    if (a.shape.whole && a.act == ACT_NONE) return launch_forward<T, CENTRED, NORM_PLAIN>(dev, a, err);
    if (a.shape.whole && a.act == ACT_GELU && CENTRED) return launch_forward<T, true, NORM_GELU>(dev, a, err);
    return launch_forward<T, CENTRED, NORM_ANY>(dev, a, err);
}

/* As many parts to a block as make few sums of much. */
static void norm_shape_for_sums(NormShape *s) {
    uint32_t together = (uint32_t)s->together, most = (s->parts + SUM_BLOCKS - 1) / SUM_BLOCKS;
    s->repeat = (int)(((most > SUM_PARTS ? most : SUM_PARTS) + together - 1) / together);
}

/* Before the shape is known: a block holds at least SUM_PARTS parts, or there are at most SUM_BLOCKS. */
static size_t sums_bytes(int64_t parts, int64_t width) {
    int64_t blocks = (parts + SUM_PARTS - 1) / SUM_PARTS;
    return (size_t)(blocks < SUM_BLOCKS ? blocks : SUM_BLOCKS) * 2 * (size_t)width * sizeof(float);
}

template <typename T, bool CENTRED, bool PARAMETERS>
static bool launch_backward(Device *dev, const NormBackward<T> &a, Error *err) {
    void (*kernel)(NormBackward<T>) = a.shape.chunks == 1   ? norm_backward<T, 1, CENTRED, PARAMETERS>
                                      : a.shape.chunks == 2 ? norm_backward<T, 2, CENTRED, PARAMETERS>
                                                            : norm_backward<T, MOST_BACK<T>, CENTRED, PARAMETERS>;
    const NormShape &s = a.shape;
    size_t shared = norm_shared(s, 1, sizeof(T)), room = (size_t)(s.together * 8 * (s.lanes + 4)) * sizeof(float);
    return launch(dev, err, CENTRED ? "layer_norm_backward" : "rms_norm_backward", kernel, norm_grid(s),
                  dim3(s.threads), PARAMETERS && room > shared ? room : shared, a);
}

template <typename T, bool CENTRED>
static bool run_backward(Device *dev, NormBackward<T> a, Tensor dgamma, Tensor dbeta, Error *err) {
    bool parameters = tensor_present(dgamma) || tensor_present(dbeta);
    if (!a.shape.parts || (!a.dx && !parameters)) return true;
    if (!parameters) return launch_backward<T, CENTRED, false>(dev, a, err);
    if (a.shape.chunks > 2 && a.shape.lanes > 32)
        return fail(err, "gradients of a norm over %d columns: at most %d are provided for", a.shape.width,
                    16 * NORM_THREADS);
    norm_shape_for_sums(&a.shape);
    a.sums = (float *)device_scratch(dev, sums_bytes(a.shape.parts, a.shape.width), err);
    return a.sums && launch_backward<T, CENTRED, true>(dev, a, err) &&
           LAUNCH(dev, err, norm_parameters, blocks_for(a.shape.width, 32), dim3(FINISH_THREADS),
                  FINISH_THREADS * 2 * sizeof(float), a.sums, (int)norm_grid(a.shape).x, a.shape.width,
                  (float *)dgamma.data, (float *)dbeta.data);
}

/* What both norms' arguments hold; LayerNorm's are RMSNorm's and more. */
template <typename T, typename Args> static NormForward<T> forward_of(const Args *a, const NormShape &shape) {
    NormForward<T> f = {};
    f.shape = shape;
    f.x = (const T *)a->x.data, f.x_ld = a->x.ld;
    f.y = (T *)a->y.data, f.y_ld = a->y.ld;
    f.gamma = (const T *)a->gamma.data;
    f.rstd = (float *)a->rstd.data;
    f.eps = a->eps;
    return f;
}

template <typename T, typename Args> static NormBackward<T> backward_of(const Args *a, const NormShape &shape) {
    NormBackward<T> b = {};
    b.shape = shape;
    b.x = (const T *)a->x.data, b.x_ld = a->x.ld;
    b.dy = (const T *)a->dy.data, b.dy_ld = a->dy.ld;
    b.bypass = (const T *)a->residual_grad.data, b.bypass_ld = a->residual_grad.ld;
    b.dx = (T *)a->dx.data, b.dx_ld = a->dx.ld;
    b.gamma = (const T *)a->gamma.data;
    b.rstd = (const float *)a->rstd.data;
    return b;
}

template <typename Args> static bool forward_whole(const Args *a) {
    return rows_whole(a->x) && rows_whole(a->y) && (uintptr_t)a->gamma.data % 16 == 0;
}

template <typename Args> static bool backward_whole(const Args *a) {
    return rows_whole(a->x) && rows_whole(a->dy) && rows_whole(a->dx) && rows_whole(a->residual_grad) &&
           (uintptr_t)a->gamma.data % 16 == 0;
}

template <typename T> static bool layer_norm(Device *dev, const LayerNormArgs *a, Error *err) {
    NormShape shape;
    bool whole = forward_whole(a) && (uintptr_t)a->beta.data % 16 == 0;
    if (!norm_shape(&shape, a->x.rows, a->x.cols, 1, MOST<T>, whole, err)) return false;
    NormForward<T> f = forward_of<T>(a, shape);
    f.beta = (const T *)a->beta.data;
    f.mean = (float *)a->mean.data;
    f.rstd_ld = 1;
    f.act = a->act;
    return run_forward<T, true>(dev, f, err);
}

template <typename T> static bool layer_norm_backward(Device *dev, const LayerNormBackwardArgs *a, Error *err) {
    NormShape shape;
    if (!norm_shape(&shape, a->dy.rows, a->dy.cols, 1, MOST_BACK<T>, backward_whole(a), err)) return false;
    NormBackward<T> b = backward_of<T>(a, shape);
    b.mean = (const float *)a->mean.data;
    b.rstd_ld = 1;
    return run_backward<T, true>(dev, b, a->dgamma, a->dbeta, err);
}

template <typename T> static bool rms_norm(Device *dev, const RmsNormArgs *a, Error *err) {
    NormShape shape;
    if (!norm_shape(&shape, a->x.rows, a->x.cols, a->groups, MOST<T>, forward_whole(a), err)) return false;
    NormForward<T> f = forward_of<T>(a, shape);
    f.rstd_ld = a->rstd.ld;
    return run_forward<T, false>(dev, f, err);
}

template <typename T> static bool rms_norm_backward(Device *dev, const RmsNormBackwardArgs *a, Error *err) {
    NormShape shape;
    if (!norm_shape(&shape, a->dy.rows, a->dy.cols, a->groups, MOST_BACK<T>, backward_whole(a), err)) return false;
    NormBackward<T> b = backward_of<T>(a, shape);
    b.rstd_ld = a->rstd.ld;
    return run_backward<T, false>(dev, b, a->dgamma, Tensor(), err);
}

extern "C" {

bool cuda_layer_norm(Device *dev, const LayerNormArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? layer_norm<bf16>(dev, a, err) : layer_norm<float>(dev, a, err);
}

size_t cuda_layer_norm_scratch(const Device *dev, const LayerNormArgs *a) {
    (void)dev, (void)a;
    return 0;
}

bool cuda_layer_norm_backward(Device *dev, const LayerNormBackwardArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? layer_norm_backward<bf16>(dev, a, err) : layer_norm_backward<float>(dev, a, err);
}

size_t cuda_layer_norm_backward_scratch(const Device *dev, const LayerNormBackwardArgs *a) {
    (void)dev;
    bool wanted = tensor_present(a->dgamma) || tensor_present(a->dbeta);
    return wanted ? sums_bytes(a->dy.rows, a->dy.cols) : 0;
}

bool cuda_rms_norm(Device *dev, const RmsNormArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? rms_norm<bf16>(dev, a, err) : rms_norm<float>(dev, a, err);
}

size_t cuda_rms_norm_scratch(const Device *dev, const RmsNormArgs *a) {
    (void)dev, (void)a;
    return 0;
}

bool cuda_rms_norm_backward(Device *dev, const RmsNormBackwardArgs *a, Error *err) {
    return dev->dtype == DTYPE_BF16 ? rms_norm_backward<bf16>(dev, a, err) : rms_norm_backward<float>(dev, a, err);
}

size_t cuda_rms_norm_backward_scratch(const Device *dev, const RmsNormBackwardArgs *a) {
    (void)dev;
    return tensor_present(a->dgamma) ? sums_bytes(a->dy.rows * a->groups, a->dy.cols / a->groups) : 0;
}
}
