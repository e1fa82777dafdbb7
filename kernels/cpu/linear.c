/* Linear layers with LoRA, forward and backward. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

static bool has_lora(const Lora *lora) { return tensor_present(lora->a); }
static bool drops(const Lora *lora) { return has_lora(lora) && lora->dropout.p > 0.0f; }

/* Forward: dropout(x), and the product itself where it must be activated before it is added. */
size_t cpu_linear_scratch(const LinearArgs *a) {
    int64_t n = a->x.rows;
    int64_t dropped = drops(&a->lora) ? n * a->x.cols : 0;
    int64_t product = a->accumulate && a->act != ACT_NONE ? n * a->weight.rows : 0;
    return (size_t)(dropped + product) * sizeof(float);
}

static Tensor dropped_input(Tensor x, const Lora *lora, float *room) {
    if (!drops(lora)) return x;
    Tensor dropped = tensor_of(room, DTYPE_F32, x.rows, x.cols);
    rows_dropout(dropped, x, &lora->dropout);
    return dropped;
}

static bool add_lora(const LinearArgs *a, Tensor x, Tensor y, Error *err) {
    int64_t n = x.rows, in = x.cols, out = y.cols, r = a->lora.a.rows;
    Gemm down = {.transpose_b = true,
                 .m = n,
                 .n = r,
                 .k = in,
                 .alpha = 1.0f,
                 .a = floats(x),
                 .lda = x.ld,
                 .b = floats(a->lora.a),
                 .ldb = a->lora.a.ld,
                 .c = floats(a->low),
                 .ldc = a->low.ld};
    Gemm up = {.transpose_b = true,
               .m = n,
               .n = out,
               .k = r,
               .alpha = a->lora.scale,
               .beta = 1.0f,
               .a = floats(a->low),
               .lda = a->low.ld,
               .b = floats(a->lora.b),
               .ldb = a->lora.b.ld,
               .c = floats(y),
               .ldc = y.ld};
    return gemm(&down, err) && gemm(&up, err);
}

bool cpu_linear(Device *dev, const LinearArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_linear_scratch(a), err);
    if (!scratch) return fail_in(err, "linear");
    int64_t n = a->x.rows, in = a->x.cols, out = a->weight.rows;
    bool apart = a->accumulate && a->act != ACT_NONE;
    Tensor y = a->y;
    if (apart) {
        y = tensor_of(scratch, DTYPE_F32, n, out);
        scratch += n * out;
    }
    Gemm g = {.transpose_b = true,
              .m = n,
              .n = out,
              .k = in,
              .alpha = 1.0f,
              .beta = a->accumulate && !apart ? 1.0f : 0.0f,
              .a = floats(a->x),
              .lda = a->x.ld,
              .b = floats(a->weight),
              .ldb = a->weight.ld,
              .c = floats(y),
              .ldc = y.ld};
    if (!gemm(&g, err)) return fail_in(err, "linear");
    if (has_lora(&a->lora) && !add_lora(a, dropped_input(a->x, &a->lora, scratch), y, err))
        return fail_in(err, "linear");
    const float *bias = floats(a->bias);
    if (!bias && a->act == ACT_NONE) return true;
#pragma omp parallel for schedule(static) if (n * out > PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++) {
        rows_finish(row_of(y, i), y.ld, 1, out, bias, a->act);
        if (apart) row_add(row_of(a->y, i), 1.0f, row_of(y, i), out);
    }
    return true;
}

/* Backward: scale · dy·B, and with dropout a copy of x's shape: first dropout(x), then its gradient. */
size_t cpu_linear_backward_scratch(const LinearBackwardArgs *a) {
    if (!has_lora(&a->lora)) return 0;
    int64_t n = a->dy.rows;
    return (size_t)(n * a->lora.a.rows + (drops(&a->lora) ? n * a->weight.cols : 0)) * sizeof(float);
}

static bool backward_lora(const LinearBackwardArgs *a, float *scratch, Error *err) {
    const Lora *lora = &a->lora;
    int64_t n = a->dy.rows, out = a->weight.rows, in = a->weight.cols, r = lora->a.rows;
    float *dlow = scratch, *room = scratch + n * r;
    Gemm low = {.m = n,
                .n = r,
                .k = out,
                .alpha = lora->scale,
                .a = floats(a->dy),
                .lda = a->dy.ld,
                .b = floats(lora->b),
                .ldb = lora->b.ld,
                .c = dlow,
                .ldc = r};
    if (!gemm(&low, err)) return false;
    if (tensor_present(a->db)) {
        Gemm db = {.transpose_a = true,
                   .m = out,
                   .n = r,
                   .k = n,
                   .alpha = lora->scale,
                   .beta = 1.0f,
                   .a = floats(a->dy),
                   .lda = a->dy.ld,
                   .b = floats(a->low),
                   .ldb = a->low.ld,
                   .c = floats(a->db),
                   .ldc = a->db.ld};
        if (!gemm(&db, err)) return false;
    }
    if (tensor_present(a->da)) {
        Tensor x = dropped_input(a->x, lora, room);
        Gemm da = {.transpose_a = true,
                   .m = r,
                   .n = in,
                   .k = n,
                   .alpha = 1.0f,
                   .beta = 1.0f,
                   .a = dlow,
                   .lda = r,
                   .b = floats(x),
                   .ldb = x.ld,
                   .c = floats(a->da),
                   .ldc = a->da.ld};
        if (!gemm(&da, err)) return false;
    }
    if (!tensor_present(a->dx)) return true;
    Gemm dx = {.m = n,
               .n = in,
               .k = r,
               .alpha = 1.0f,
               .beta = 1.0f,
               .a = dlow,
               .lda = r,
               .b = floats(lora->a),
               .ldb = lora->a.ld,
               .c = floats(a->dx),
               .ldc = a->dx.ld};
    if (!drops(lora)) return gemm(&dx, err);
    dx.c = room;
    dx.ldc = in;
    dx.beta = 0.0f;
    if (!gemm(&dx, err)) return false;
    Tensor through = tensor_of(room, DTYPE_F32, n, in);
    rows_dropout(through, through, &lora->dropout);
#pragma omp parallel for schedule(static) if (n * in > PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++) row_add(row_of(a->dx, i), 1.0f, row_of(through, i), in);
    return true;
}

bool cpu_linear_backward(Device *dev, const LinearBackwardArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_linear_backward_scratch(a), err);
    if (!scratch) return fail_in(err, "linear_backward");
    int64_t n = a->dy.rows, out = a->weight.rows, in = a->weight.cols;
    if (tensor_present(a->dx)) {
        Gemm dx = {.m = n,
                   .n = in,
                   .k = out,
                   .alpha = 1.0f,
                   .beta = a->accumulate_dx ? 1.0f : 0.0f,
                   .a = floats(a->dy),
                   .lda = a->dy.ld,
                   .b = floats(a->weight),
                   .ldb = a->weight.ld,
                   .c = floats(a->dx),
                   .ldc = a->dx.ld};
        if (!gemm(&dx, err)) return fail_in(err, "linear_backward");
    }
    if (has_lora(&a->lora) && !backward_lora(a, scratch, err)) return fail_in(err, "linear_backward");
    if (tensor_present(a->dweight)) {
        Gemm dw = {.transpose_a = true,
                   .m = out,
                   .n = in,
                   .k = n,
                   .alpha = 1.0f,
                   .beta = 1.0f,
                   .a = floats(a->dy),
                   .lda = a->dy.ld,
                   .b = floats(a->x),
                   .ldb = a->x.ld,
                   .c = floats(a->dweight),
                   .ldc = a->dweight.ld};
        if (!gemm(&dw, err)) return fail_in(err, "linear_backward");
    }
    if (tensor_present(a->dbias)) rows_sum_columns(a->dy, floats(a->dbias));
    return true;
}
