/* SwiGLU, and what LoRA's pairs beside it want of its rows. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lora.h"
#include "kernels/cpu/rows.h"

/* Forward: dropout(y), where it is wanted. */
size_t cpu_swiglu_scratch(const SwigluArgs *a) {
    return lora_drops(&a->down) ? (size_t)(a->y.rows * a->y.cols) * sizeof(float) : 0;
}

static void row_product(float *y, const float *gate, const float *up, int64_t n) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) y[c] = gate[c] * vec_sigmoid(gate[c]) * up[c];
}

bool cpu_swiglu(Device *dev, const SwigluArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_swiglu_scratch(a), err);
    if (!scratch) return fail_in(err, "swiglu");
#pragma omp parallel for schedule(static) if (a->y.rows * a->y.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->y.rows; r++)
        row_product(row_of(a->y, r), row_of(a->gate, r), row_of(a->up, r), a->y.cols);
    if (!tensor_present(a->down.a)) return true;
    return lora_low(a->y, &a->down, scratch, a->low, err) || fail_in(err, "swiglu");
}

/* Backward: so many rows' product at a time. */
enum { PRODUCT_ROWS = 256 };

static int64_t product_rows(const SwigluBackwardArgs *a) {
    if (!tensor_present(a->down.da)) return 0;
    return a->dy.rows < PRODUCT_ROWS ? a->dy.rows : PRODUCT_ROWS;
}

size_t cpu_swiglu_backward_scratch(const SwigluBackwardArgs *a) {
    return (size_t)(product_rows(a) * a->dy.cols) * sizeof(float);
}

/* down.da += dlowᵀ·dropout(y), before gate and up may be overwritten. */
static bool add_da(const SwigluBackwardArgs *a, float *scratch, Error *err) {
    int64_t most = product_rows(a), f = a->dy.cols;
    for (int64_t first = 0; first < a->dy.rows; first += most) {
        int64_t n = a->dy.rows - first < most ? a->dy.rows - first : most;
        Tensor y = tensor_of(scratch, DTYPE_F32, n, f);
        Lora lora = lora_from_row(&a->down.lora, first);
#pragma omp parallel for schedule(static) if (n * f > PARALLEL_FROM)
        for (int64_t r = 0; r < n; r++)
            row_product(row_of(y, r), row_of(a->gate, first + r), row_of(a->up, first + r), f);
        Tensor dlow = tensor_rows(a->down.dlow, first, n);
        if (!lora_da(y, &lora, dlow, scratch, a->down.da, err)) return false;
    }
    return true;
}

static void row_gradients(const SwigluBackwardArgs *a, int64_t r) {
    const float *gate = row_of(a->gate, r), *up = row_of(a->up, r), *dy = row_of(a->dy, r);
    float *dgate = row_of(a->dgate, r), *dup = row_of(a->dup, r);
#pragma omp simd
    for (int64_t c = 0; c < a->dy.cols; c++) {
        float g = gate[c], u = up[c], d = dy[c], sigma = vec_sigmoid(g);
        dgate[c] = d * u * sigma * (1.0f + g * (1.0f - sigma));
        dup[c] = d * g * sigma;
    }
}

/* dlow and db of the pairs on gate and up, whose gradients are there. */
static bool gate_up_lora(const SwigluBackwardArgs *a, Error *err) {
    const Tensor outputs[2] = {a->dgate, a->dup};
    int64_t first = 0;
    for (int i = 0; i < 2; i++) {
        const Lora *lora = &a->gate_up.lora[i];
        int64_t r = tensor_present(lora->a) ? lora->a.rows : 0;
        if (!r) continue;
        if (tensor_present(a->gate_up.dlow) &&
            !lora_dlow(outputs[i], lora, tensor_cols(a->gate_up.dlow, first, r), err))
            return false;
        if (tensor_present(a->gate_up.db[i]) &&
            !lora_db(outputs[i], lora, tensor_cols(a->gate_up.low, first, r), a->gate_up.db[i], err))
            return false;
        first += r;
    }
    return true;
}

bool cpu_swiglu_backward(Device *dev, const SwigluBackwardArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_swiglu_backward_scratch(a), err);
    if (!scratch || (product_rows(a) && !add_da(a, scratch, err))) return fail_in(err, "swiglu_backward");
#pragma omp parallel for schedule(static) if (a->dy.rows * a->dy.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < a->dy.rows; r++) row_gradients(a, r);
    return gate_up_lora(a, err) || fail_in(err, "swiglu_backward");
}
