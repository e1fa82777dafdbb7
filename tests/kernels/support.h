/* Shared by the tests of the operations: a device, tensors with guarded padding, references in
 * double. Every tensor is a heap block of its own, exactly as long as it may be touched, so that the
 * address sanitizer sees what reaches outside. */
#ifndef SEMOLLM_TESTS_KERNELS_SUPPORT_H
#define SEMOLLM_TESTS_KERNELS_SUPPORT_H

#include <math.h>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/test.h"

static const float GUARD = -12345.5f; /* what lies between the rows */

enum { BLOCKS = 256 };

typedef struct Bench {
    Device *dev;
    Error err;
    Rng rng;
    void *block[BLOCKS];
    int blocks;
} Bench;

static inline void bench_open(Bench *t, int threads, uint32_t seed) {
    *t = (Bench){.rng = rng_stream(seed, 77, 0, 0)};
    t->dev = device_open(DEVICE_CPU, threads, &t->err);
    assert_non_null(t->dev);
}

static inline void bench_close(Bench *t) {
    for (int i = 0; i < t->blocks; i++) free(t->block[i]);
    device_close(t->dev);
}

static inline void *room(Bench *t, size_t bytes) {
    assert_true(t->blocks < BLOCKS);
    void *memory = malloc(bytes ? bytes : sizeof(double));
    assert_non_null(memory);
    t->block[t->blocks++] = memory;
    return memory;
}

/* In [-1, 1]. */
static inline float draw(Bench *t) { return 2.0f * rng_uniform(rng_next(&t->rng)) - 1.0f; }

static inline float at(Tensor t, int64_t r, int64_t c) { return ((const float *)t.data)[r * t.ld + c]; }

/* Rows `pad` elements apart, filled with draws times `scale`. */
static inline Tensor scaled(Bench *t, int64_t rows, int64_t cols, int64_t pad, float scale) {
    size_t count = rows ? (size_t)((rows - 1) * (cols + pad) + cols) : 0;
    float *data = room(t, count * sizeof *data);
    for (size_t i = 0; i < count; i++) data[i] = GUARD;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) data[r * (cols + pad) + c] = scale * draw(t);
    return (Tensor){.data = data, .dtype = DTYPE_F32, .rows = rows, .cols = cols, .ld = cols + pad};
}

static inline Tensor tensor(Bench *t, int64_t rows, int64_t cols, int64_t pad) {
    return scaled(t, rows, cols, pad, 1.0f);
}

static inline Tensor absent(void) { return (Tensor){0}; }

static inline Tensor maybe(Bench *t, bool there, int64_t rows, int64_t cols, int64_t pad) {
    return there ? tensor(t, rows, cols, pad) : absent();
}

static inline Tensor copy_of(Bench *t, Tensor from) {
    Tensor to = tensor(t, from.rows, from.cols, from.ld - from.cols);
    for (int64_t r = 0; r < from.rows; r++)
        memcpy((float *)to.data + r * to.ld, (const float *)from.data + r * from.ld, (size_t)from.cols * sizeof(float));
    return to;
}

/* The elements, dense, in double; null for an absent tensor. */
static inline double *doubles(Bench *t, Tensor from) {
    if (!tensor_present(from)) return NULL;
    double *to = room(t, (size_t)(from.rows * from.cols) * sizeof *to);
    for (int64_t r = 0; r < from.rows; r++)
        for (int64_t c = 0; c < from.cols; c++) to[r * from.cols + c] = (double)at(from, r, c);
    return to;
}

static inline double *zeros(Bench *t, int64_t count) {
    double *to = room(t, (size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++) to[i] = 0.0;
    return to;
}

static inline Packed packed(Bench *t, const int32_t *lengths, int32_t count) {
    int32_t *cu = room(t, (size_t)(count + 1) * sizeof *cu);
    cu[0] = 0;
    for (int32_t s = 0; s < count; s++) cu[s + 1] = cu[s] + lengths[s];
    return packed_of(cu, count);
}

static inline int32_t *integers(Bench *t, int64_t count, uint32_t below) {
    int32_t *to = room(t, (size_t)count * sizeof *to);
    for (int64_t i = 0; i < count; i++) to[i] = (int32_t)rng_below(&t->rng, below);
    return to;
}

/* |got - want| <= tolerance · (1 + |want|) everywhere, and nothing written between the rows. */
static inline void expect_close(const char *what, Tensor got, const double *want, double tolerance) {
    for (int64_t r = 0; r < got.rows; r++) {
        for (int64_t c = 0; c < got.cols; c++) {
            double g = (double)at(got, r, c), w = want[r * got.cols + c];
            if (!(fabs(g - w) <= tolerance * (1.0 + fabs(w))) && !(isinf(w) && g == w))
                fail_msg("%s [%lld, %lld] is %.9g, expected %.9g (off by %.3g)", what, (long long)r, (long long)c, g, w,
                         fabs(g - w));
        }
        for (int64_t c = got.cols; r + 1 < got.rows && c < got.ld; c++)
            if (at(got, r, c) != GUARD) fail_msg("%s wrote past row %lld", what, (long long)r);
    }
}

/* The same relative to the largest |want|. */
static inline void expect_near(const char *what, Tensor got, const double *want, double tolerance) {
    double most = 0.0;
    for (int64_t i = 0; i < got.rows * got.cols; i++) most = fmax(most, fabs(want[i]));
    expect_close(what, got, want, tolerance * (1.0 + most));
}

static inline void expect_same(const char *what, Tensor a, Tensor b) {
    for (int64_t r = 0; r < a.rows; r++)
        if (memcmp((float *)a.data + r * a.ld, (float *)b.data + r * b.ld, (size_t)a.cols * sizeof(float)) != 0)
            fail_msg("%s: row %lld differs between two runs", what, (long long)r);
}

/* Runs an op with the scratch it asks for; its failure fails the test. */
#define RUN(t, name, args)                                                                                             \
    do {                                                                                                               \
        assert_true(device_reserve_scratch((t)->dev, name##_scratch((t)->dev, args), &(t)->err));                      \
        if (!op_##name((t)->dev, (args), &(t)->err)) fail_msg("%s", (t)->err.text);                                    \
    } while (0)

/* The op must refuse, and its error must hold `word`. */
#define REFUSED(t, name, args, word)                                                                                   \
    do {                                                                                                               \
        Error refusal = {0};                                                                                           \
        assert_false(op_##name((t)->dev, (args), &refusal));                                                           \
        if (!strstr(refusal.text, word)) fail_msg("\"%s\" does not mention \"%s\"", refusal.text, word);               \
    } while (0)

/* ---- references ---- */

static inline double act_ref(double x, Activation act) {
    if (act == ACT_GELU) return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    if (act == ACT_RELU) return x > 0.0 ? x : 0.0;
    return x;
}

static inline double sigmoid_ref(double x) { return 1.0 / (1.0 + exp(-x)); }

/* Element (row, c) of a dropout mask of `cols` columns: 0 or 1/(1-p). */
static inline double mask_ref(const Dropout *d, int64_t row, int64_t c, int64_t cols) {
    if (d->p == 0.0f) return 1.0;
    uint64_t e = (uint64_t)d->position[row] * (uint64_t)cols + (uint64_t)c;
    Philox block = philox(d->seed, (uint32_t)(e / 4), d->place, (uint32_t)d->sample[row], d->step);
    return rng_uniform(block.word[e % 4]) >= d->p ? 1.0 / (1.0 - (double)d->p) : 0.0;
}

static inline Dropout dropout_key(Bench *t, int64_t rows, float p) {
    return (Dropout){.p = p,
                     .seed = 0x123456789abcdefull,
                     .step = 3,
                     .place = PLACE_LORA,
                     .sample = integers(t, rows, 1000),
                     .position = integers(t, rows, 500)};
}

/* Central differences of `loss` over the `count` numbers at x, in double: good to about 1e-8. */
typedef double (*Loss)(const void *context);

static inline void differentiate(double *x, int64_t count, Loss loss, const void *context, double *gradient) {
    const double h = 1e-5;
    for (int64_t i = 0; i < count; i++) {
        double kept = x[i];
        x[i] = kept + h;
        double above = loss(context);
        x[i] = kept - h;
        gradient[i] = (above - loss(context)) / (2.0 * h);
        x[i] = kept;
    }
}

#endif
