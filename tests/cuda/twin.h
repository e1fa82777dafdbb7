/* Twins: a CUDA device (or the emulator in its place) and a CPU device that are given the same numbers and
 * run the same op, so that one can be held against the other.
 *
 *     Twin t;
 *     twin_open(&t, dtype, seed);                               skips the test where there is no GPU
 *     Pair x = pair(&t, rows, cols, pad), y = pair(&t, rows, cols, pad);
 *     Table index = table(&t, host_values, rows);
 *     TWIN_ARGS(GatherRowsArgs, a, {.x = x.on[on], .index = index.on[on], .y = y.on[on]});
 *     TWIN_RUN(&t, gather_rows, a);
 *     expect_twin(&t, "y", y, 0.0, 0.0);
 *     twin_close(&t);
 *
 * TWIN_RUN runs the op on both, with exactly the scratch that each asks for, full of NaN; on the CUDA device
 * twice, from the same numbers, and the bits of everything must be the same. Before, between and after the
 * rows of every tensor lie NaN, which must neither be written nor reach a result. */
#ifndef SEMOLLM_TESTS_CUDA_TWIN_H
#define SEMOLLM_TESTS_CUDA_TWIN_H

#include <math.h>

#include "base/rng.h"
#include "kernels/device_impl.h"
#include "kernels/kernels.h"
#include "tests/test.h"

enum { GPU, CPU, SIDES };
enum { TWIN_BLOCKS = 128, TWIN_AROUND = 128, TWIN_SCRATCH_GUARD = 4096 };

/* What one op's argument is on either device; .on[on] within TWIN_ARGS. */
typedef struct Pair {
    Tensor on[SIDES];
} Pair;

typedef struct Table {
    const int32_t *on[SIDES];
} Table;

typedef struct Packs {
    Packed on[SIDES];
} Packs;

/* The memory of a Pair on the CUDA device, guards included, and a copy of it on the host. */
typedef struct TwinBlock {
    void *device;
    char *before, *first, *after; /* before a run, after its first pass, now */
    size_t bytes;
    int64_t lead; /* elements before row 0 */
    Tensor layout;
} TwinBlock;

typedef struct Twin {
    Device *dev[SIDES];
    DType dtype; /* of the CUDA device's activations */
    Error err;
    Rng rng;
    int shift; /* elements by which tensors made from now on start past an aligned address */
    TwinBlock block[TWIN_BLOCKS];
    int blocks;
    void *device_memory[TWIN_BLOCKS], *host_memory[16 * TWIN_BLOCKS];
    int device_memories, host_memories;
} Twin;

/* Skips the test where there is no GPU; the emulator is always there. */
static inline void need_gpu(void) {
#ifndef SEMOLLM_EMU
    Error err = {0};
    if (device_cuda_count(&err)) return;
    printf("skipped: %s\n", err.text);
    skip();
#endif
}

static inline void twin_open(Twin *t, DType dtype, uint32_t seed) {
    *t = (Twin){.dtype = dtype, .rng = rng_stream(seed, 78, 0, 0)};
    need_gpu();
    assert_ok(t->dev[GPU] = device_open_cuda(0, dtype, &t->err), &t->err);
    assert_ok(t->dev[CPU] = device_open(DEVICE_CPU, 2, &t->err), &t->err);
}

static inline void twin_close(Twin *t) {
    for (int i = 0; i < t->device_memories; i++) device_free(t->dev[GPU], t->device_memory[i]);
    for (int i = 0; i < t->host_memories; i++) free(t->host_memory[i]);
    device_close(t->dev[GPU]);
    device_close(t->dev[CPU]);
}

/* ---- memory ---- */

static inline void *twin_host(Twin *t, size_t bytes) {
    assert_true(t->host_memories < 16 * TWIN_BLOCKS);
    void *memory = calloc(1, bytes ? bytes : 1);
    assert_non_null(memory);
    return t->host_memory[t->host_memories++] = memory;
}

static inline void *twin_device(Twin *t, size_t bytes) {
    assert_true(t->device_memories < TWIN_BLOCKS);
    void *memory;
    assert_ok(memory = device_alloc(t->dev[GPU], bytes, &t->err), &t->err);
    return t->device_memory[t->device_memories++] = memory;
}

/* In [-1, 1]. */
static inline float twin_draw(Twin *t) { return 2.0f * rng_uniform(rng_next(&t->rng)) - 1.0f; }

static inline void twin_store(void *data, DType dtype, int64_t index, float value) {
    if (dtype == DTYPE_BF16)
        ((uint16_t *)data)[index] = f32_to_bf16(value);
    else if (dtype == DTYPE_F64)
        ((double *)data)[index] = (double)value;
    else
        ((float *)data)[index] = value;
}

static inline double twin_load(const void *data, DType dtype, int64_t index) {
    if (dtype == DTYPE_BF16) return (double)bf16_to_f32(((const uint16_t *)data)[index]);
    if (dtype == DTYPE_F64) return ((const double *)data)[index];
    return (double)((const float *)data)[index];
}

/* ---- what ops take ---- */

/* Rows `pad` elements apart, both sides full of guards; `dtype` is the CUDA side's. */
static inline Pair twin_pair(Twin *t, DType dtype, int64_t rows, int64_t cols, int64_t pad) {
    assert_true(t->blocks < TWIN_BLOCKS);
    int64_t ld = cols + pad, lead = TWIN_AROUND + t->shift;
    size_t count = (size_t)(lead + (rows ? (rows - 1) * ld + cols : 0) + TWIN_AROUND), size = dtype_size(dtype);
    TwinBlock *b = &t->block[t->blocks++];
    *b = (TwinBlock){.device = twin_device(t, count * size), .bytes = count * size, .lead = lead};
    b->before = twin_host(t, b->bytes), b->first = twin_host(t, b->bytes), b->after = twin_host(t, b->bytes);
    memset(b->after, 0xff, b->bytes);
    DType wide = dtype == DTYPE_BF16 ? DTYPE_F32 : dtype;
    char *host = twin_host(t, count * dtype_size(wide));
    memset(host, 0xff, count * dtype_size(wide));
    b->layout = (Tensor){b->device, dtype, rows, cols, ld};
    Pair p = {.on = {b->layout, {host, wide, rows, cols, ld}}};
    for (int on = 0; on < SIDES; on++)
        p.on[on].data = (char *)p.on[on].data + (size_t)lead * dtype_size(p.on[on].dtype);
    return p;
}

static inline TwinBlock *twin_block(Twin *t, Pair p) {
    for (int i = 0; i < t->blocks; i++) {
        char *start = t->block[i].device;
        if ((char *)p.on[GPU].data >= start && (char *)p.on[GPU].data < start + t->block[i].bytes) return &t->block[i];
    }
    fail_msg("the pair is not of this twin");
    return NULL;
}

/* Gives both sides values[r * cols + c], rounded alike. */
static inline void pair_set(Twin *t, Pair p, const float *values) {
    TwinBlock *b = twin_block(t, p);
    Tensor gpu = p.on[GPU], cpu = p.on[CPU];
    char *copy = b->after + ((char *)gpu.data - (char *)b->device);
    for (int64_t r = 0; r < gpu.rows; r++)
        for (int64_t c = 0; c < gpu.cols; c++) {
            twin_store(copy, gpu.dtype, r * gpu.ld + c, values[r * gpu.cols + c]);
            twin_store(cpu.data, cpu.dtype, r * cpu.ld + c, (float)twin_load(copy, gpu.dtype, r * gpu.ld + c));
        }
    assert_ok(device_upload(t->dev[GPU], b->device, b->after, b->bytes, &t->err), &t->err);
}

/* Filled with draws times `scale`. */
static inline Pair pair_scaled(Twin *t, DType dtype, int64_t rows, int64_t cols, int64_t pad, float scale) {
    Pair p = twin_pair(t, dtype, rows, cols, pad);
    float *values = twin_host(t, (size_t)(rows * cols) * sizeof *values);
    for (int64_t i = 0; i < rows * cols; i++) values[i] = scale * twin_draw(t);
    pair_set(t, p, values);
    return p;
}

/* Activations and frozen weights. */
static inline Pair pair(Twin *t, int64_t rows, int64_t cols, int64_t pad) {
    return pair_scaled(t, t->dtype, rows, cols, pad, 1.0f);
}

/* What is F32 on every device. */
static inline Pair pair32(Twin *t, int64_t rows, int64_t cols, int64_t pad) {
    return pair_scaled(t, DTYPE_F32, rows, cols, pad, 1.0f);
}

static inline Pair no_pair(void) { return (Pair){0}; }

static inline Pair maybe_pair(Twin *t, bool there, int64_t rows, int64_t cols, int64_t pad) {
    return there ? pair(t, rows, cols, pad) : no_pair();
}

static inline Pair maybe_pair32(Twin *t, bool there, int64_t rows, int64_t cols, int64_t pad) {
    return there ? pair32(t, rows, cols, pad) : no_pair();
}

/* `values` is copied. */
static inline Table table(Twin *t, const int32_t *values, int64_t count) {
    size_t bytes = (size_t)count * sizeof *values;
    int32_t *host = twin_host(t, bytes), *device = twin_device(t, bytes);
    if (bytes) memcpy(host, values, bytes);
    assert_ok(device_upload(t->dev[GPU], device, host, bytes, &t->err), &t->err);
    return (Table){.on = {device, host}};
}

static inline Table random_table(Twin *t, int64_t count, uint32_t below) {
    int32_t *values = twin_host(t, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = (int32_t)rng_below(&t->rng, below);
    return table(t, values, count);
}

static inline Packs packs(Twin *t, const int32_t *lengths, int32_t count) {
    int32_t *cu = twin_host(t, (size_t)(count + 1) * sizeof *cu);
    for (int32_t s = 0; s < count; s++) cu[s + 1] = cu[s] + lengths[s];
    Packs p;
    p.on[GPU] = p.on[CPU] = packed_of(cu, count);
    p.on[GPU].device = table(t, cu, count + 1).on[GPU];
    return p;
}

/* ---- running ---- */

/* Each side's arguments, written once: `on` is the side. */
#define TWIN_ARGS(Type, a, ...)                                                                                        \
    Type a[SIDES];                                                                                                     \
    for (int on = 0; on < SIDES; on++) a[on] = (Type)__VA_ARGS__

static inline void twin_fetch(Twin *t) {
    for (int i = 0; i < t->blocks; i++) {
        TwinBlock *b = &t->block[i];
        assert_ok(device_download(t->dev[GPU], b->after, b->device, b->bytes, &t->err), &t->err);
    }
}

static inline void twin_keep(Twin *t) {
    twin_fetch(t);
    for (int i = 0; i < t->blocks; i++) memcpy(t->block[i].before, t->block[i].after, t->block[i].bytes);
}

static inline void twin_restore(Twin *t) {
    twin_fetch(t);
    for (int i = 0; i < t->blocks; i++) {
        TwinBlock *b = &t->block[i];
        memcpy(b->first, b->after, b->bytes);
        assert_ok(device_upload(t->dev[GPU], b->device, b->before, b->bytes, &t->err), &t->err);
    }
}

static inline void twin_check_guards(const TwinBlock *b, const char *op) {
    size_t size = dtype_size(b->layout.dtype);
    for (int64_t i = 0; i < (int64_t)(b->bytes / size); i++) {
        int64_t from = i - b->lead, ld = b->layout.ld ? b->layout.ld : 1;
        if (from >= 0 && from / ld < b->layout.rows && from % ld < b->layout.cols) continue;
        for (size_t byte = 0; byte < size; byte++)
            if ((unsigned char)b->after[(size_t)i * size + byte] != 0xff)
                fail_msg("%s wrote outside a [%lld, %lld] tensor, at element %lld of its memory (row length %lld)", op,
                         (long long)b->layout.rows, (long long)b->layout.cols, (long long)from,
                         (long long)b->layout.ld);
    }
}

static inline void twin_check(Twin *t, const char *op) {
    twin_fetch(t);
    for (int i = 0; i < t->blocks; i++) {
        TwinBlock *b = &t->block[i];
        if (memcmp(b->first, b->after, b->bytes) != 0)
            fail_msg("%s: two runs of it differ in a [%lld, %lld] tensor", op, (long long)b->layout.rows,
                     (long long)b->layout.cols);
        twin_check_guards(b, op);
    }
}

/* Exactly `bytes` of scratch, full of NaN, and a guard past it. */
static inline void twin_scratch(Twin *t, size_t bytes) {
    Device *dev = t->dev[GPU];
    assert_ok(device_reserve_scratch(dev, bytes + TWIN_SCRATCH_GUARD, &t->err), &t->err);
    char *nan = malloc(bytes + TWIN_SCRATCH_GUARD);
    assert_non_null(nan);
    memset(nan, 0xff, bytes + TWIN_SCRATCH_GUARD);
    assert_ok(device_upload(dev, dev->scratch, nan, bytes + TWIN_SCRATCH_GUARD, &t->err), &t->err);
    free(nan);
}

static inline void twin_check_scratch(Twin *t, size_t bytes, const char *op) {
    unsigned char guard[TWIN_SCRATCH_GUARD];
    assert_ok(device_download(t->dev[GPU], guard, t->dev[GPU]->scratch + bytes, sizeof guard, &t->err), &t->err);
    for (size_t i = 0; i < sizeof guard; i++)
        if (guard[i] != 0xff) fail_msg("%s wrote past its %zu bytes of scratch", op, bytes);
}

#define TWIN_PASS(t, name, a)                                                                                          \
    do {                                                                                                               \
        Device *gpu_ = (t)->dev[GPU];                                                                                  \
        size_t asked_ = name##_scratch(gpu_, &(a)[GPU]);                                                               \
        twin_scratch((t), asked_);                                                                                     \
        size_t reserved_ = gpu_->scratch_bytes;                                                                        \
        gpu_->scratch_bytes = asked_;                                                                                  \
        assert_ok(op_##name(gpu_, &(a)[GPU], &(t)->err), &(t)->err);                                                   \
        gpu_->scratch_bytes = reserved_;                                                                               \
        twin_check_scratch((t), asked_, #name);                                                                        \
    } while (0)

#define TWIN_RUN(t, name, a)                                                                                           \
    do {                                                                                                               \
        twin_keep(t);                                                                                                  \
        TWIN_PASS(t, name, a);                                                                                         \
        twin_restore(t);                                                                                               \
        TWIN_PASS(t, name, a);                                                                                         \
        twin_check((t), #name);                                                                                        \
        size_t wanted_ = name##_scratch((t)->dev[CPU], &(a)[CPU]);                                                     \
        assert_ok(device_reserve_scratch((t)->dev[CPU], wanted_, &(t)->err), &(t)->err);                               \
        assert_ok(op_##name((t)->dev[CPU], &(a)[CPU], &(t)->err), &(t)->err);                                          \
    } while (0)

/* ---- comparing ---- */

/* Element (r, c) of either side, as of the last TWIN_RUN or pair_set. */
static inline double twin_at(Twin *t, Pair p, int side, int64_t r, int64_t c) {
    Tensor of = p.on[side];
    const char *data = of.data;
    if (side == GPU) {
        TwinBlock *b = twin_block(t, p);
        data = b->after + (data - (char *)b->device);
    }
    return twin_load(data, of.dtype, r * of.ld + c);
}

/* |gpu - cpu| <= absolute + relative · |cpu| everywhere; infinities and NaN where the CPU has them. */
static inline void expect_twin(Twin *t, const char *what, Pair p, double relative, double absolute) {
    for (int64_t r = 0; r < p.on[GPU].rows; r++)
        for (int64_t c = 0; c < p.on[GPU].cols; c++) {
            double got = twin_at(t, p, GPU, r, c), want = twin_at(t, p, CPU, r, c);
            if (fabs(got - want) <= absolute + relative * fabs(want)) continue;
            if (got == want || (isnan(got) && isnan(want))) continue;
            fail_msg("%s [%lld, %lld] is %.9g, the CPU's %.9g (off by %.3g)", what, (long long)r, (long long)c, got,
                     want, fabs(got - want));
        }
}

/* One rounding to bf16, which may fall either way where the two results lie about a tie. */
static inline void expect_rounded(Twin *t, const char *what, Pair p) {
    if (t->dtype == DTYPE_BF16)
        expect_twin(t, what, p, 0x1p-8, 1e-6);
    else
        expect_twin(t, what, p, 3e-6, 1e-6);
}

/* ‖gpu - cpu‖ <= relative · ‖cpu‖: for sums whose terms cancel. */
static inline void expect_twin_norm(Twin *t, const char *what, Pair p, double relative) {
    double off = 0.0, size = 0.0;
    for (int64_t r = 0; r < p.on[GPU].rows; r++)
        for (int64_t c = 0; c < p.on[GPU].cols; c++) {
            double got = twin_at(t, p, GPU, r, c), want = twin_at(t, p, CPU, r, c);
            off += (got - want) * (got - want);
            size += want * want;
        }
    if (!(sqrt(off) <= relative * sqrt(size)))
        fail_msg("%s is off by %.3g of the CPU's norm, at most %.3g is right", what, sqrt(off / size), relative);
}

/* The CPU side becomes what the CUDA side holds, so that the next op starts from the same numbers on both. */
static inline void twin_adopt(Twin *t, Pair p) {
    Tensor cpu = p.on[CPU];
    for (int64_t r = 0; r < cpu.rows; r++)
        for (int64_t c = 0; c < cpu.cols; c++)
            twin_store(cpu.data, cpu.dtype, r * cpu.ld + c, (float)twin_at(t, p, GPU, r, c));
}

#endif
