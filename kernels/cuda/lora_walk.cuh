/* What the kernels of LoRA's skinny products share: the walk that is to be made, and where inner rows go. Private to
 * lora.cu, lora_rows.cu, lora_plain.cu, lora_pack.cu and swiglu.cu. */
#ifndef SEMOLLM_KERNELS_CUDA_LORA_WALK_CUH
#define SEMOLLM_KERNELS_CUDA_LORA_WALK_CUH

#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/lora.cuh"
#include "kernels/cuda/rows.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS };

template <typename T> struct Walk {
    const T *large, *low;
    const T *gamma; /* or null: x is what a layer read */
    const float *rstd;
    int64_t ldrstd;
    int64_t ld, ldlow, rows, cols, group_rows;
    LoraParts lora;
    bool of_dy;
    int strip;       /* columns of one */
    int width;       /* columns of the partial sums below: Σr or the largest rank, padded */
    int groups;      /* of rows */
    float *inner;    /* [strips, rows, width] */
    float *gradient; /* of x [groups, width, cols]; of dy [groups, cols, width] */
};

static __host__ __device__ inline int strips_of(int64_t cols, int strip) { return (int)((cols + strip - 1) / strip); }

/* Of dy, each part with a pair has its own strips, in order. */
template <typename T> static __host__ __device__ inline int part_strips(const Walk<T> &k, int part) {
    return k.lora.part[part].rank ? strips_of(k.lora.part[part].outputs, k.strip) : 0;
}

/* Groups of rows, at most, for so many strips and blocks beside each other on a processor. */
int64_t most_groups(int strips, int64_t rows, int beside);

/* Where results go. */
template <typename T> struct Inner {
    T *dense, *tail;
    int64_t ld, ldtail;
    int tail_cols;
};

static __device__ __forceinline__ int part_of_inner(const LoraParts &lora, int j) {
    int i = 0;
    while (i + 1 < LINEAR_PARTS && j >= lora.part[i].first + lora.part[i].rank) i++;
    return i;
}

static __device__ __forceinline__ int part_of_output(const LoraParts &lora, int64_t o) {
    int i = 0;
    while (i + 1 < LINEAR_PARTS && o >= lora.part[i].output + lora.part[i].outputs) i++;
    return i;
}

/* The most inner columns that a block works on at once. */
enum { ONE_PASS = 64 };

/* How many it does, in eighths: as its registers hold. */
static inline int tiles_across(int rank) { return rank <= 16 ? 2 : rank <= 32 ? 4 : rank <= 48 ? 6 : 8; }

/* ---- what is wanted ---- */

static inline bool wants_gradient(const Skinny *s) {
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (tensor_present(s->gradient[i])) return true;
    return false;
}

static inline bool wants_inner(const Skinny *s) { return tensor_present(s->inner) || tensor_present(s->tail); }

static inline int largest_rank(const LoraParts *lora) {
    int rank = 0;
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (lora->part[i].rank > rank) rank = lora->part[i].rank;
    return rank;
}

/* Inner columns that a strip meets. */
static inline int rank_across(const Skinny *s, const LoraParts *lora) { return s->of_dy ? largest_rank(lora) : lora->rank; }

/* ---- a strip, and what it meets of the small operand ---- */

/* Columns begin .. end - 1 of the large operand, the first of a strip; `rank` inner columns from `first` on. */
struct Strip {
    int part; /* of dy */
    int64_t begin, end;
    int first, rank;
};

/* Aᵀ[c, j] or sB[c, j] with j counted from the strip's first inner column. */
template <typename T>
static __device__ __forceinline__ float small_at(const Walk<T> &k, const Strip &strip, int64_t c, int j) {
    if (c >= strip.end || j >= strip.rank) return 0.0f;
    const LoraPart &p = k.lora.part[k.of_dy ? strip.part : part_of_inner(k.lora, j)];
    return k.of_dy ? p.scale * p.b[(c - p.output) * p.ldb + j] : p.a[(j - p.first) * p.lda + c];
}

/* 16 rows of a small operand as the right side of products that sum over rows; `row` is the lane's own, of the first
 * sixteen lanes and again of the others. */
template <int NT>
static __device__ __forceinline__ void load_small_rows(uint32_t (*b)[2], const char *row, int lane) {
#pragma unroll
    for (int pair = 0; pair < NT / 2; pair++) {
        uint32_t both[4];
        load_matrix_x4_transposed(both, row + 16 * (2 * pair + lane / 16));
        b[2 * pair][0] = both[0], b[2 * pair][1] = both[1];
        b[2 * pair + 1][0] = both[2], b[2 * pair + 1][1] = both[3];
    }
}

/* ---- where inner rows go ---- */

template <typename T>
static __device__ __forceinline__ void put_inner_element(const Inner<T> &to, int64_t row, int j, int rank,
                                                         float value) {
    T stored = from_float<T>(value);
    if (to.dense && j < rank) to.dense[row * to.ld + j] = stored;
    if (to.tail) to.tail[row * to.ldtail + j] = stored;
}

template <typename T> static __host__ __device__ inline int inner_cols(const Inner<T> &to, int rank) {
    return to.tail ? to.tail_cols : rank;
}

template <typename T> static inline Inner<T> inner_of(const Skinny *s) {
    return Inner<T>{(T *)s->inner.data, (T *)s->tail.data, s->inner.ld, s->tail.ld, (int)s->tail.cols};
}

/* ---- where gradients go ---- */

struct Gradient {
    float *to; /* null: not wanted */
    int64_t ld;
};

struct Gradients {
    Gradient of[LINEAR_PARTS];
};

static inline Gradients gradients_of(const Tensor gradient[LINEAR_PARTS]) {
    Gradients to;
    for (int i = 0; i < LINEAR_PARTS; i++) to.of[i] = Gradient{(float *)gradient[i].data, gradient[i].ld};
    return to;
}

/* The element of the gradients that sum (j, c) is of, or null. */
template <typename T>
static __device__ __forceinline__ float *gradient_at(const Walk<T> &k, const Gradients &to, int j, int64_t c) {
    int i = k.of_dy ? part_of_output(k.lora, c) : part_of_inner(k.lora, j);
    const LoraPart &p = k.lora.part[i];
    Gradient g = i == 0 ? to.of[0] : i == 1 ? to.of[1] : to.of[2];
    if (!g.to || (k.of_dy && j >= p.rank)) return NULL;
    return k.of_dy ? g.to + (c - p.output) * g.ld + j : g.to + (j - p.first) * g.ld + c;
}

/* Inner rows of x alone, by whole rows (lora_rows.cu). `scratch`: room for A in bf16. */
bool inner_by_rows(Device *dev, const Walk<bf16> &k, const Skinny *s, void *scratch, Error *err);

/* The sums over strips, to where inner rows go, and over groups of rows, to the gradients that are present. */
bool sum_strips(Device *dev, const Walk<bf16> &k, const Inner<bf16> &to, Error *err);
bool sum_groups(Device *dev, const Walk<bf16> &k, const Tensor gradient[LINEAR_PARTS], Error *err);

/* All of it without tensor cores (lora_plain.cu): any size, any dtype. */
bool skinny_plain(Device *dev, const Skinny *s, const LoraParts *lora, Error *err);

#endif
