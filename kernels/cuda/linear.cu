/* Linear layers with LoRA. Where operands have a tail, LoRA is some more of the product's terms: forward
 * [x | low]·[W | sB]ᵀ, backward [dy | dlow]·[W ; A] with dlow = dy·sB, so that y and dx are written once and x
 * and dy read once more, by the skinny products of lora.cu. A and sB are packed beside the weight by each call,
 * unless it is told that they lie there: they are small beside it, though not beside a few rows. With dropout, what
 * reaches x through the pairs is masked, and so is added to dx apart. */
#include "kernels/cuda/carve.cuh"
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/lora.cuh"

/* t and the `more` columns, or rows, past it. */
static Tensor widened(Tensor t, int64_t more) {
    t.cols += more;
    return t;
}

static Tensor past_cols(Tensor t, int64_t count) { return tensor_cols(t, t.cols, count); }
static Tensor past_rows(Tensor t, int64_t count) { return tensor_rows(t, t.rows, count); }

/* c = a·b (+ residual) */
static CudaGemm gemm_of(Tensor a, Tensor b, Tensor residual, Tensor c) {
    CudaGemm g = {};
    bool adds = tensor_present(residual);
    if (!adds) residual = c;
    g.m = c.rows, g.n = c.cols, g.k = a.cols;
    g.alpha = 1.0f, g.beta = adds ? 1.0f : 0.0f;
    g.dtype = a.dtype, g.c_dtype = c.dtype;
    g.a = a.data, g.b = b.data, g.residual = residual.data, g.c = c.data;
    g.lda = a.ld, g.ldb = b.ld, g.ld_residual = residual.ld, g.ldc = c.ld;
    return g;
}

/* ---- forward ---- */

/* c = x·weightᵀ (+ residual), then bias and activation. */
static bool product(Device *dev, const LinearArgs *a, Tensor x, Tensor weight, Tensor residual, Tensor c, bool finish,
                    Error *err) {
    CudaGemm g = gemm_of(x, weight, residual, c);
    g.transpose_b = true;
    if (finish) g.bias = a->bias.data, g.act = a->act;
    return cuda_gemm(dev, &g, err);
}

struct Forward {
    Tensor y;        /* where the product goes: y, or scratch where it is activated before the residual is added */
    Tensor residual; /* what the product adds, or absent */
    Tensor b;        /* sB, where there is no tail for it */
    void *walk;      /* scratch of the skinny product */
    size_t used;     /* of scratch */
};

static Forward forward_plan(const Device *dev, const LinearArgs *a, const LoraParts *lora, const Skinny *s,
                            char *scratch) {
    Carve c = carve_from(scratch);
    Forward f = {};
    bool apart = tensor_present(a->residual) && a->act != ACT_NONE;
    f.y = apart ? carve_tensor(&c, a->y.dtype, a->y.rows, a->y.cols) : a->y;
    if (!apart) f.residual = a->residual;
    if (lora->rank && !a->tail) f.b = carve_tensor(&c, a->weight.dtype, a->weight.rows, (lora->rank + 7) / 8 * 8);
    if (!a->low_known) f.walk = carve(&c, skinny_scratch(dev, s, lora));
    f.used = c.used;
    return f;
}

static Skinny forward_skinny(const Device *dev, const LinearArgs *a, const LoraParts *lora) {
    Skinny s = {};
    s.large = a->x, s.inner = a->low;
    if (a->tail) s.tail = past_cols(a->x, linear_tail(dev, lora->rank));
    return s;
}

/* y = x·Wᵀ + LoRA with bias and activation, into f->y. */
static bool forward_lora(Device *dev, const LinearArgs *a, const LoraParts *lora, const Skinny *s, const Forward *f,
                         Error *err) {
    if (a->low_known ? !fill_tail(dev, a->low, s->tail, err) : !skinny(dev, s, lora, f->walk, err)) return false;
    if (a->tail) {
        int64_t tail = linear_tail(dev, lora->rank);
        return (a->tail_kept || pack_b(dev, lora, past_cols(a->weight, tail), err)) &&
               product(dev, a, widened(a->x, tail), widened(a->weight, tail), f->residual, f->y, true, err);
    }
    Tensor b = f->b;
    b.cols = lora->rank;
    return pack_b(dev, lora, b, err) && product(dev, a, a->x, a->weight, f->residual, f->y, false, err) &&
           product(dev, a, a->low, b, f->y, f->y, true, err);
}

extern "C" size_t cuda_linear_scratch(const Device *dev, const LinearArgs *a) {
    LoraParts lora = lora_parts(a->lora, a->x.cols);
    Skinny s = forward_skinny(dev, a, &lora);
    return forward_plan(dev, a, &lora, &s, NULL).used;
}

extern "C" bool cuda_linear(Device *dev, const LinearArgs *a, Error *err) {
    if (!a->x.rows || !a->weight.rows) return true;
    LoraParts lora = lora_parts(a->lora, a->x.cols);
    Skinny s = forward_skinny(dev, a, &lora);
    char *scratch = (char *)device_scratch(dev, cuda_linear_scratch(dev, a), err);
    if (!scratch) return fail_in(err, "linear");
    Forward f = forward_plan(dev, a, &lora, &s, scratch);
    bool ok = lora.rank ? forward_lora(dev, a, &lora, &s, &f, err)
                        : product(dev, a, a->x, a->weight, f.residual, f.y, true, err);
    AddArgs sum = {a->residual, f.y, a->y, 1.0f, 1.0f};
    return (ok && (f.y.data == a->y.data || cuda_add(dev, &sum, err))) || fail_in(err, "linear");
}

/* ---- backward ---- */

struct Backward {
    Tensor tail; /* of dy, where there is one for dlow */
    Tensor dlow; /* [n, a multiple of 8]: dy·sB, there or in scratch; [n, Σr] as the caller knows it */
    Tensor a;    /* A, where there is no tail for it */
    void *walk;
    float *column_sums;
    size_t used;
};

static bool any_gradient(const Tensor gradient[LINEAR_PARTS]) {
    return tensor_present(gradient[0]) || tensor_present(gradient[1]) || tensor_present(gradient[2]);
}

/* dy's walk, then x's. */
static Skinny dy_skinny(const LinearBackwardArgs *a, Tensor dlow) {
    Skinny s = {};
    s.large = a->dy, s.of_dy = true, s.low = a->low;
    if (!a->dlow_known) {
        s.inner = a->dlow;
        if (tensor_present(a->dx) || any_gradient(a->da)) s.tail = dlow;
    }
    for (int i = 0; i < LINEAR_PARTS; i++) s.gradient[i] = a->db[i];
    return s;
}

static Skinny x_skinny(const LinearBackwardArgs *a, Tensor dlow) {
    Skinny s = {};
    s.large = a->x, s.low = dlow;
    s.gamma = a->gamma, s.rstd = a->rstd;
    for (int i = 0; i < LINEAR_PARTS; i++) s.gradient[i] = a->da[i];
    return s;
}

enum { SUM_THREADS = 256, SUM_COLS = 32 * 8 }; /* of dbias */

static int64_t sum_groups(int64_t rows) {
    int64_t groups = (rows + 63) / 64;
    return groups < 64 ? groups : 64;
}

static Backward backward_plan(const Device *dev, const LinearBackwardArgs *a, const LoraParts *lora, char *scratch) {
    Carve c = carve_from(scratch);
    Backward b = {};
    int64_t n = a->dy.rows;
    if (lora->rank && a->tail) b.tail = b.dlow = past_cols(a->dy, linear_tail(dev, lora->rank));
    if (a->dlow_known)
        b.dlow = a->dlow;
    else if (lora->rank && !a->tail)
        b.dlow = carve_tensor(&c, a->dy.dtype, n, (lora->rank + 7) / 8 * 8);
    if (lora->rank && !a->tail) b.a = carve_tensor(&c, a->weight.dtype, lora->rank, a->weight.cols);
    Skinny first = dy_skinny(a, b.dlow), second = x_skinny(a, b.dlow);
    size_t one = skinny_scratch(dev, &first, lora), two = any_gradient(a->da) ? skinny_scratch(dev, &second, lora) : 0;
    b.walk = carve(&c, one > two ? one : two);
    if (tensor_present(a->dbias))
        b.column_sums = (float *)carve(&c, (size_t)(sum_groups(n) * a->dy.cols) * sizeof(float));
    b.used = c.used;
    return b;
}

/* dx = dy·weight (+ what `before` holds) */
static bool input_gradient(Device *dev, Tensor dy, Tensor weight, Tensor before, Tensor dx, Error *err) {
    CudaGemm g = gemm_of(dy, weight, before, dx);
    return cuda_gemm(dev, &g, err);
}

/* dx of the weight and of the pairs, dlow being there. */
static bool dx_of(Device *dev, const LinearBackwardArgs *a, const LoraParts *lora, const Backward *b, Error *err) {
    Tensor before = a->accumulate_dx ? a->dx : Tensor();
    if (lora->rank && a->tail && !lora->drops) {
        int64_t tail = b->tail.cols;
        if (a->dlow_known && !fill_tail(dev, b->dlow, b->tail, err)) return false;
        return pack_a(dev, lora, past_rows(a->weight, tail), err) &&
               input_gradient(dev, widened(a->dy, tail), a->weight, before, a->dx, err);
    }
    if (!input_gradient(dev, a->dy, a->weight, before, a->dx, err)) return false;
    if (!lora->rank) return true;
    if (lora->drops) return add_through(dev, lora, b->dlow, a->dx, err);
    Tensor dlow = b->dlow;
    dlow.cols = lora->rank;
    return pack_a(dev, lora, b->a, err) && input_gradient(dev, dlow, b->a, a->dx, a->dx, err);
}

static bool weight_gradient(Device *dev, const LinearBackwardArgs *a, Error *err) {
    CudaGemm g = gemm_of(a->dy, a->x, a->dweight, a->dweight);
    g.transpose_a = true, g.k = a->dy.rows;
    return cuda_gemm(dev, &g, err);
}

/* ---- dbias ---- */

/* Sums of 256 columns over a group of rows: a warp takes every eighth row, then they are summed in order. */
template <typename T>
static __global__ void __launch_bounds__(SUM_THREADS)
    column_sums_kernel(const T *dy, int64_t ld, int64_t rows, int64_t cols, int64_t each, bool whole, float *sums) {
    float *shared = (float *)shared_memory();
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, warps = SUM_THREADS / 32;
    int64_t begin = (int64_t)blockIdx.x * SUM_COLS, first = begin + 8 * lane, row = blockIdx.y * each;
    int64_t last = row + each < rows ? row + each : rows;
    int count = cols - first < 8 ? (int)(cols - first) : 8;
    float total[8] = {};
    for (row += warp; row < last && count > 0; row += warps) {
        Eight<T> held;
        float v[8];
        take8(held, dy + row * ld + first, count, whole);
        unpack8(v, held);
#pragma unroll
        for (int i = 0; i < 8; i++) total[i] += v[i];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) shared[(warp * 8 + i) * 32 + lane] = total[i];
    __syncthreads();
    int c = (int)threadIdx.x;
    float sum = 0.0f;
    for (int w = 0; w < warps; w++) sum += shared[(w * 8 + c % 8) * 32 + c / 8];
    if (begin + c < cols) sums[blockIdx.y * cols + begin + c] = sum;
}

static __global__ void __launch_bounds__(SUM_THREADS)
    add_sums_kernel(float *dbias, const float *sums, int64_t cols, int groups) {
    int64_t c = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x;
    float total = 0.0f;
    if (c >= cols) return;
    for (int g = 0; g < groups; g++) total += sums[g * cols + c];
    dbias[c] += total;
}

static bool bias_gradient(Device *dev, const LinearBackwardArgs *a, float *sums, Error *err) {
    Tensor dy = a->dy;
    int64_t groups = sum_groups(dy.rows), each = (dy.rows + groups - 1) / groups;
    dim3 grid = blocks_for(dy.cols, SUM_COLS);
    grid.y = (unsigned)((dy.rows + each - 1) / each);
    size_t shared = SUM_THREADS * 8 * sizeof(float);
    bool whole = rows_whole(dy), ok;
    if (dy.dtype == DTYPE_BF16)
        ok = LAUNCH(dev, err, column_sums_kernel<bf16>, grid, SUM_THREADS, shared, (const bf16 *)dy.data, dy.ld,
                    dy.rows, dy.cols, each, whole, sums);
    else
        ok = LAUNCH(dev, err, column_sums_kernel<float>, grid, SUM_THREADS, shared, (const float *)dy.data, dy.ld,
                    dy.rows, dy.cols, each, whole, sums);
    return ok && LAUNCH(dev, err, add_sums_kernel, blocks_for(dy.cols, SUM_THREADS), SUM_THREADS, 0,
                        (float *)a->dbias.data, sums, dy.cols, (int)grid.y);
}

extern "C" size_t cuda_linear_backward_scratch(const Device *dev, const LinearBackwardArgs *a) {
    LoraParts lora = lora_parts(a->lora, a->weight.cols);
    return backward_plan(dev, a, &lora, NULL).used;
}

extern "C" bool cuda_linear_backward(Device *dev, const LinearBackwardArgs *a, Error *err) {
    if (!a->dy.rows) return true;
    LoraParts lora = lora_parts(a->lora, a->weight.cols);
    char *scratch = (char *)device_scratch(dev, cuda_linear_backward_scratch(dev, a), err);
    if (!scratch) return fail_in(err, "linear_backward");
    Backward b = backward_plan(dev, a, &lora, scratch);
    Skinny of_dy = dy_skinny(a, b.dlow), of_x = x_skinny(a, b.dlow);
    bool ok = skinny(dev, &of_dy, &lora, b.walk, err);
    if (ok && tensor_present(a->dx)) ok = dx_of(dev, a, &lora, &b, err);
    if (ok && any_gradient(a->da)) ok = skinny(dev, &of_x, &lora, b.walk, err);
    if (ok && tensor_present(a->dweight)) ok = weight_gradient(dev, a, err);
    if (ok && tensor_present(a->dbias)) ok = bias_gradient(dev, a, b.column_sums, err);
    return ok || fail_in(err, "linear_backward");
}
