/* Linear layers with LoRA, forward and backward. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/lora.h"
#include "kernels/cpu/rows.h"

static bool has_lora(const Lora *lora) { return tensor_present(lora->a); }

static bool any_drops(const Lora *lora) {
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (lora_drops(&lora[i])) return true;
    return false;
}

/* Part i's columns of y or dy, and of low. */
static Tensor part_outputs(const Lora *lora, int i, Tensor t) {
    int64_t first = 0;
    for (int j = 0; j < i; j++) first += lora[j].b.rows;
    return tensor_cols(t, first, lora[i].b.rows);
}

static Tensor part_low(const Lora *lora, int i, Tensor low) {
    int64_t first = 0;
    for (int j = 0; j < i; j++) first += has_lora(&lora[j]) ? lora[j].a.rows : 0;
    return tensor_cols(low, first, lora[i].a.rows);
}

/* Whether the residual is added to what has been activated, and not within the product. */
static bool activated_apart(const LinearArgs *a) { return tensor_present(a->residual) && a->act != ACT_NONE; }

/* Forward: a part's dropout(x), and the product itself where it is activated apart. */
size_t cpu_linear_scratch(const LinearArgs *a) {
    int64_t n = a->x.rows;
    int64_t dropped = any_drops(a->lora) ? n * a->x.cols : 0;
    int64_t product = activated_apart(a) ? n * a->weight.rows : 0;
    return (size_t)(dropped + product) * sizeof(float);
}

/* y += LoRA, `room` for one part's dropout(x). */
static bool add_loras(const LinearArgs *a, Tensor y, float *room, Error *err) {
    for (int i = 0; i < LINEAR_PARTS; i++) {
        const Lora *lora = &a->lora[i];
        if (!has_lora(lora)) continue;
        Tensor low = part_low(a->lora, i, a->low);
        if (!a->low_known && !lora_low(a->x, lora, room, low, err)) return false;
        if (!multiply(low, false, lora->b, true, lora->scale, 1.0f, part_outputs(a->lora, i, y), err)) return false;
    }
    return true;
}

/* y = x, which may be y. */
static void copy_rows(Tensor x, Tensor y) {
    if (x.data == y.data) return;
#pragma omp parallel for schedule(static) if (x.rows * x.cols > PARALLEL_FROM)
    for (int64_t i = 0; i < x.rows; i++) row_activate(row_of(y, i), row_of(x, i), x.cols, ACT_NONE);
}

bool cpu_linear(Device *dev, const LinearArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_linear_scratch(a), err);
    if (!scratch) return fail_in(err, "linear");
    int64_t n = a->x.rows, out = a->weight.rows;
    bool adds = tensor_present(a->residual), apart = activated_apart(a);
    Tensor y = a->y;
    if (adds) copy_rows(a->residual, y);
    if (apart) {
        y = tensor_of(scratch, DTYPE_F32, n, out);
        scratch += n * out;
    }
    if (!multiply(a->x, false, a->weight, true, 1.0f, adds && !apart ? 1.0f : 0.0f, y, err) ||
        !add_loras(a, y, scratch, err))
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

/* Rows of what a layer read that are made again at a time: they stay in the cache until they are multiplied. */
enum { INPUT_ROWS = 256 };

/* Backward: a part's scale · dy·B, room for rows of its input, and with dropout for the gradient through it. */
size_t cpu_linear_backward_scratch(const LinearBackwardArgs *a) {
    int64_t n = a->dy.rows, rank = 0;
    for (int i = 0; i < LINEAR_PARTS; i++)
        if (has_lora(&a->lora[i]) && a->lora[i].a.rows > rank) rank = a->lora[i].a.rows;
    int64_t rows = any_drops(a->lora) ? n : tensor_present(a->gamma) ? least(n, INPUT_ROWS) : 0;
    return (size_t)(n * rank + rows * a->weight.cols) * sizeof(float);
}

/* dx += the gradient through a part's dropout(x), which is dlow·A. */
static bool add_through(const LinearBackwardArgs *a, const Lora *lora, Tensor dlow, float *room, Error *err) {
    if (!lora_drops(lora)) return multiply(dlow, false, lora->a, false, 1.0f, 1.0f, a->dx, err);
    Tensor through = tensor_of(room, DTYPE_F32, a->dx.rows, a->dx.cols);
    if (!multiply(dlow, false, lora->a, false, 1.0f, 0.0f, through, err)) return false;
    rows_dropout(through, through, &lora->dropout);
#pragma omp parallel for schedule(static) if (through.rows * through.cols > PARALLEL_FROM)
    for (int64_t i = 0; i < through.rows; i++) row_add(row_of(a->dx, i), 1.0f, row_of(through, i), through.cols);
    return true;
}

/* Rows `first` .. `first` + rows - 1 of what the layer read: x, or x·rstd·gamma. */
static Tensor input_rows(const LinearBackwardArgs *a, int64_t first, int64_t rows, float *room) {
    Tensor x = tensor_rows(a->x, first, rows), made = tensor_of(room, DTYPE_F32, rows, x.cols);
    if (!tensor_present(a->gamma)) return x;
    const float *gamma = floats(a->gamma);
#pragma omp parallel for schedule(static) if (rows * x.cols > PARALLEL_FROM)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = row_of(x, r), rstd = *row_of(a->rstd, first + r);
        float *to = row_of(made, r);
#pragma omp simd
        for (int64_t c = 0; c < x.cols; c++) to[c] = from[c] * rstd * gamma[c];
    }
    return made;
}

/* da += dlowᵀ · what A was multiplied with; by blocks of rows where that must be made again. */
static bool a_gradient(const LinearBackwardArgs *a, int i, Tensor dlow, float *room, Error *err) {
    int64_t n = dlow.rows, each = tensor_present(a->gamma) || lora_drops(&a->lora[i]) ? INPUT_ROWS : n;
    for (int64_t first = 0; first < n; first += each) {
        int64_t rows = least(each, n - first);
        Lora lora = lora_from_row(&a->lora[i], first);
        Tensor x = input_rows(a, first, rows, room);
        if (!lora_da(x, &lora, tensor_rows(dlow, first, rows), room, a->da[i], err)) return false;
    }
    return true;
}

static bool backward_lora(const LinearBackwardArgs *a, int i, float *scratch, Error *err) {
    const Lora *lora = &a->lora[i];
    int64_t n = a->dy.rows, r = lora->a.rows;
    Tensor dy = part_outputs(a->lora, i, a->dy), dlow = tensor_of(scratch, DTYPE_F32, n, r);
    float *room = scratch + n * r;
    if (tensor_present(a->dlow)) dlow = part_low(a->lora, i, a->dlow);
    if (!a->dlow_known && !lora_dlow(dy, lora, dlow, err)) return false;
    if (tensor_present(a->db[i]) && !lora_db(dy, lora, part_low(a->lora, i, a->low), a->db[i], err)) return false;
    if (tensor_present(a->da[i]) && !a_gradient(a, i, dlow, room, err)) return false;
    return !tensor_present(a->dx) || add_through(a, lora, dlow, room, err);
}

bool cpu_linear_backward(Device *dev, const LinearBackwardArgs *a, Error *err) {
    float *scratch = device_scratch(dev, cpu_linear_backward_scratch(a), err);
    bool ok = scratch != NULL;
    if (ok && tensor_present(a->dx))
        ok = multiply(a->dy, false, a->weight, false, 1.0f, a->accumulate_dx ? 1.0f : 0.0f, a->dx, err);
    for (int i = 0; i < LINEAR_PARTS && ok; i++)
        if (has_lora(&a->lora[i])) ok = backward_lora(a, i, scratch, err);
    if (ok && tensor_present(a->dweight)) ok = multiply(a->dy, true, a->x, false, 1.0f, 1.0f, a->dweight, err);
    if (!ok) return fail_in(err, "linear_backward");
    if (tensor_present(a->dbias)) rows_sum_columns(a->dy, floats(a->dbias));
    return true;
}
