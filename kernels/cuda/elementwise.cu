/* Elementwise operations, each one read of its operands and one write. */
#include "kernels/cuda/functions.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/swiglu.cuh"

/* ---- the operations ----
 *
 * Each is a struct with its parameters and how many tensors it reads and writes; apply computes its outputs for
 * columns c .. c+WIDTH-1 of a row. */

struct Copy {
    enum { IN = 1, OUT = 1 };
};

template <int WIDTH>
static __device__ __forceinline__ void apply(Copy, int64_t, int64_t, const float (*in)[WIDTH], float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) out[0][i] = in[0][i];
}

template <int ACT> struct Activate {
    enum { IN = 1, OUT = 1 };
};

template <int WIDTH, int ACT>
static __device__ __forceinline__ void apply(Activate<ACT>, int64_t, int64_t, const float (*in)[WIDTH],
                                             float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) out[0][i] = activate<ACT>(in[0][i]);
}

/* Of x and dy. */
template <int ACT> struct ActivateBackward {
    enum { IN = 2, OUT = 1 };
};

template <int WIDTH, int ACT>
static __device__ __forceinline__ void apply(ActivateBackward<ACT>, int64_t, int64_t, const float (*in)[WIDTH],
                                             float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) {
        if (ACT == ACT_RELU)
            out[0][i] = in[0][i] > 0.0f ? in[1][i] : 0.0f;
        else
            out[0][i] = in[1][i] * activation_slope<ACT>(in[0][i]);
    }
}

struct Blend {
    enum { IN = 2, OUT = 1 };
    float alpha, beta;
};

template <int WIDTH>
static __device__ __forceinline__ void apply(Blend f, int64_t, int64_t, const float (*in)[WIDTH], float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) out[0][i] = f.alpha * in[0][i] + f.beta * in[1][i];
}

/* Of gate and up. */
struct GatedUnit {
    enum { IN = 2, OUT = 1 };
};

template <int WIDTH>
static __device__ __forceinline__ void apply(GatedUnit, int64_t, int64_t, const float (*in)[WIDTH],
                                             float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) out[0][i] = in[0][i] * sigmoid(in[0][i]) * in[1][i];
}

/* Of gate, up and dy: dgate, dup and y. */
struct GatedUnitBackward {
    enum { IN = 3, OUT = 3 };
};

template <int WIDTH>
static __device__ __forceinline__ void apply(GatedUnitBackward, int64_t, int64_t, const float (*in)[WIDTH],
                                             float (*out)[WIDTH]) {
    for (int i = 0; i < WIDTH; i++) {
        out[0][i] = in[0][i], out[1][i] = in[1][i], out[2][i] = in[2][i];
        gated_gradients(&out[0][i], &out[1][i], &out[2][i]);
    }
}

/* An element at a time; rows of whole vectors have a kernel of their own. */
struct Drop {
    enum { IN = 1, OUT = 1 };
    DropoutMask mask;
};

static __device__ __forceinline__ void apply(const Drop &f, int64_t row, int64_t c, const float (*in)[1],
                                             float (*out)[1]) {
    out[0][0] = in[0][0] * dropout_factor(f.mask, random_row(f.mask.key, row), c);
}

struct AddNoise {
    enum { IN = 1, OUT = 1 };
    RandomKey key;
    float sigma;
};

template <int WIDTH>
static __device__ __forceinline__ void apply(const AddNoise &f, int64_t row, int64_t c, const float (*in)[WIDTH],
                                             float (*out)[WIDTH]) {
    RandomRow of = random_row(f.key, row);
    if (WIDTH == 1) {
        out[0][0] = in[0][0] + f.sigma * noise1(f.key, of, c);
        return;
    }
    float normal[12];
    noise8(normal, f.key, of, c);
    for (int i = 0; i < WIDTH; i++) out[0][i] = in[0][i] + f.sigma * normal[i];
}

/* ---- the kernel ---- */

/* A thread takes EACH vectors, all loaded before the first is stored, so that enough is under way. */
enum { THREADS = 256, EACH = 2, OPERANDS = 3 };

/* Tensors of one shape; outputs may be absent. */
struct Map {
    const void *in[OPERANDS];
    void *out[OPERANDS];
    int64_t in_ld[OPERANDS], out_ld[OPERANDS];
    int64_t rows, cols, vectors;
};

template <typename In, typename Out, int WIDTH, typename F>
__global__ void __launch_bounds__(THREADS) map_kernel(Map m, F f) {
    int64_t first = (int64_t)blockIdx.x * (EACH * THREADS) + threadIdx.x, items = m.rows * m.vectors;
    Raw<In, WIDTH> raw[EACH][F::IN];
    Place place[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) place[e] = place_of(first + e * THREADS, m.vectors);
#pragma unroll
    for (int e = 0; e < EACH; e++)
#pragma unroll
        for (int i = 0; i < F::IN; i++)
            if (first + e * THREADS < items)
                take(raw[e][i], (const In *)m.in[i] + place[e].row * m.in_ld[i] + place[e].vector * WIDTH);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        if (first + e * THREADS >= items) return;
        float in[F::IN][WIDTH], out[F::OUT][WIDTH];
#pragma unroll
        for (int i = 0; i < F::IN; i++) unpack(in[i], raw[e][i]);
        apply(f, place[e].row, place[e].vector * WIDTH, in, out);
#pragma unroll
        for (int i = 0; i < F::OUT; i++)
            if (m.out[i]) put<WIDTH>((Out *)m.out[i] + place[e].row * m.out_ld[i] + place[e].vector * WIDTH, out[i]);
    }
}

/* ---- dropout of whole vectors ---- */

/* What counts here is instructions, of which the words take most: the rest is kept short, and a thread takes enough
 * vectors for the rounds' keys to be made for several. */
enum { DROPS = 4 };

struct DropRows {
    const void *x;
    void *y;
    int64_t x_ld, y_ld;
    uint32_t items; /* vectors of all rows, less than 2^31 */
    Divider vectors;
    DropoutMask mask;
};

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) drop_kernel(DropRows a) {
    uint32_t first = blockIdx.x * (DROPS * THREADS) + threadIdx.x, row[DROPS], vector[DROPS];
    uint32_t sample[DROPS], position[DROPS];
    Raw<T, WIDTH> raw[DROPS];
#pragma unroll
    for (int e = 0; e < DROPS; e++) {
        uint32_t item = first + e * THREADS;
        row[e] = divide(item, a.vectors), vector[e] = item - row[e] * a.vectors.divisor;
        if (item >= a.items) continue;
        take(raw[e], (const T *)a.x + row[e] * a.x_ld + vector[e] * WIDTH);
        sample[e] = (uint32_t)a.mask.key.sample[row[e]], position[e] = (uint32_t)a.mask.key.position[row[e]];
    }
#pragma unroll
    for (int e = 0; e < DROPS; e++) {
        if (first + e * THREADS >= a.items) return;
        uint32_t block = (position[e] * a.vectors.divisor + vector[e]) * (WIDTH / 4), word[WIDTH];
        float v[WIDTH];
        for (int i = 0; i < WIDTH; i += 4) random_words(word + i, a.mask.key, sample[e], block + i / 4);
        unpack(v, raw[e]);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[i] *= word[i] >= a.mask.threshold ? a.mask.scale : 0.0f;
        put<WIDTH>((T *)a.y + row[e] * a.y_ld + vector[e] * WIDTH, v);
    }
}

/* ---- launching them ---- */

/* As one row, where nothing lies between the rows of any tensor. */
static void flatten(Map *m) {
    for (int i = 0; i < OPERANDS; i++)
        if ((m->in[i] && m->in_ld[i] != m->cols) || (m->out[i] && m->out_ld[i] != m->cols)) return;
    m->cols *= m->rows;
    m->rows = m->rows ? 1 : 0;
}

/* Whether rows are so many vectors of this many elements, and begin at multiples of one. */
static bool aligned(const Map *m, int64_t elements, size_t in_size, size_t out_size) {
    for (int i = 0; i < OPERANDS; i++)
        if ((uintptr_t)m->in[i] % ((size_t)elements * in_size) ||
            (uintptr_t)m->out[i] % ((size_t)elements * out_size) ||
            (m->rows > 1 && (m->in_ld[i] % elements || m->out_ld[i] % elements)))
            return false;
    return m->cols % elements == 0;
}

template <typename In, typename Out, int WIDTH, typename F>
static bool map_vectors(Device *dev, Error *err, const char *name, Map m, F f) {
    m.vectors = m.cols / WIDTH;
    return launch(dev, err, name, map_kernel<In, Out, WIDTH, F>, blocks_for(m.rows * m.vectors, EACH * THREADS),
                  dim3(THREADS), 0, m, f);
}

template <typename In, typename Out, typename F>
static bool map_aligned(Device *dev, Error *err, const char *name, Map m, F f) {
    enum { WIDTH = sizeof(In) + sizeof(Out) == 4 ? 8 : 4 };
    return aligned(&m, WIDTH, sizeof(In), sizeof(Out)) ? map_vectors<In, Out, WIDTH>(dev, err, name, m, f)
                                                       : map_vectors<In, Out, 1>(dev, err, name, m, f);
}

/* Of tensors of one dtype. */
template <typename F> static bool map(Device *dev, Error *err, const char *name, DType dtype, Map m, F f) {
    return dtype == DTYPE_BF16 ? map_aligned<bf16, bf16>(dev, err, name, m, f)
                               : map_aligned<float, float>(dev, err, name, m, f);
}

static Map map_of(Tensor like) {
    Map m = {};
    m.rows = like.rows, m.cols = like.cols;
    return m;
}

static void reads(Map *m, int i, Tensor t) { m->in[i] = t.data, m->in_ld[i] = t.ld; }
static void writes(Map *m, int i, Tensor t) { m->out[i] = t.data, m->out_ld[i] = t.ld; }

/* From x to y. */
static Map map_one(Tensor x, Tensor y) {
    Map m = map_of(x);
    reads(&m, 0, x);
    writes(&m, 0, y);
    return m;
}

static Map flat(Map m) {
    flatten(&m);
    return m;
}

static bool copy(Device *dev, Error *err, const char *name, Tensor x, Tensor y) {
    return x.data == y.data || map(dev, err, name, x.dtype, flat(map_one(x, y)), Copy());
}

bool gated_unit(Device *dev, Tensor gate, Tensor up, Tensor y, Error *err) {
    Map m = map_of(y);
    reads(&m, 0, gate), reads(&m, 1, up);
    writes(&m, 0, y);
    return map(dev, err, "swiglu", dev->dtype, flat(m), GatedUnit());
}

bool gated_unit_backward(Device *dev, const SwigluBackwardArgs *a, Tensor y, Error *err) {
    Map m = map_of(a->dy);
    reads(&m, 0, a->gate), reads(&m, 1, a->up), reads(&m, 2, a->dy);
    writes(&m, 0, a->dgate), writes(&m, 1, a->dup), writes(&m, 2, y);
    return map(dev, err, "swiglu_backward", dev->dtype, flat(m), GatedUnitBackward());
}

extern "C" bool cuda_activation(Device *dev, const ActivationArgs *a, Error *err) {
    Map m = flat(map_one(a->x, a->y));
    if (a->act == ACT_GELU) return map(dev, err, "activation", dev->dtype, m, Activate<ACT_GELU>());
    if (a->act == ACT_RELU) return map(dev, err, "activation", dev->dtype, m, Activate<ACT_RELU>());
    return copy(dev, err, "activation", a->x, a->y);
}

extern "C" bool cuda_activation_backward(Device *dev, const ActivationBackwardArgs *a, Error *err) {
    Map m = map_of(a->dx);
    reads(&m, 0, a->x), reads(&m, 1, a->dy);
    writes(&m, 0, a->dx);
    m = flat(m);
    if (a->act == ACT_GELU) return map(dev, err, "activation_backward", dev->dtype, m, ActivateBackward<ACT_GELU>());
    if (a->act == ACT_RELU) return map(dev, err, "activation_backward", dev->dtype, m, ActivateBackward<ACT_RELU>());
    return copy(dev, err, "activation_backward", a->dy, a->dx);
}

extern "C" bool cuda_add(Device *dev, const AddArgs *a, Error *err) {
    Map m = map_of(a->y);
    reads(&m, 0, a->a), reads(&m, 1, a->b);
    writes(&m, 0, a->y);
    Blend blend = {a->alpha, a->beta};
    return map(dev, err, "add", a->y.dtype, flat(m), blend);
}

extern "C" bool cuda_convert(Device *dev, const ConvertArgs *a, Error *err) {
    Map m = flat(map_one(a->x, a->y));
    if (a->x.dtype == a->y.dtype) return copy(dev, err, "convert", a->x, a->y);
    return a->x.dtype == DTYPE_F32 ? map_aligned<float, bf16>(dev, err, "convert", m, Copy())
                                   : map_aligned<bf16, float>(dev, err, "convert", m, Copy());
}

template <typename T, int WIDTH> static bool drop_rows(Device *dev, const DropoutArgs *a, Error *err) {
    DropRows d = {a->x.data,
                  a->y.data,
                  a->x.ld,
                  a->y.ld,
                  0,
                  divider_of((uint32_t)(a->x.cols / WIDTH)),
                  dropout_mask(&a->dropout, a->x.cols)};
    d.items = (uint32_t)(a->x.rows * (a->x.cols / WIDTH));
    return launch(dev, err, "dropout", drop_kernel<T, WIDTH>, blocks_for(d.items, DROPS * THREADS), dim3(THREADS), 0,
                  d);
}

extern "C" bool cuda_dropout(Device *dev, const DropoutArgs *a, Error *err) {
    if (a->dropout.p == 0.0f) return copy(dev, err, "dropout", a->x, a->y);
    /* Vectors of fours are counted in 31 bits, the last threads' beyond the end too (Divider). */
    bool vectors = rows_vectors(a->x) && rows_vectors(a->y) && a->x.rows * a->x.cols / 4 <= INT32_MAX - DROPS * THREADS;
    if (vectors && a->x.rows && a->x.cols)
        return dev->dtype == DTYPE_BF16 ? drop_rows<bf16, 8>(dev, a, err) : drop_rows<float, 4>(dev, a, err);
    Drop drop = {dropout_mask(&a->dropout, a->x.cols)};
    Map m = map_one(a->x, a->y);
    return dev->dtype == DTYPE_BF16 ? map_vectors<bf16, bf16, 1>(dev, err, "dropout", m, drop)
                                    : map_vectors<float, float, 1>(dev, err, "dropout", m, drop);
}

extern "C" bool cuda_noise(Device *dev, const NoiseArgs *a, Error *err) {
    AddNoise noise = {random_key(&a->key, a->x.cols), a->sigma};
    return map(dev, err, "noise", dev->dtype, map_one(a->x, a->y), noise);
}

#define NO_SCRATCH(Name, name)                                                                                         \
    extern "C" size_t cuda_##name##_scratch(const Device *, const Name##Args *) { return 0; }

NO_SCRATCH(Activation, activation)
NO_SCRATCH(ActivationBackward, activation_backward)
NO_SCRATCH(Add, add)
NO_SCRATCH(Convert, convert)
NO_SCRATCH(Dropout, dropout)
NO_SCRATCH(Noise, noise)
