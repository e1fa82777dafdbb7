#include "kernels/cpu/lora.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

bool lora_drops(const Lora *lora) { return tensor_present(lora->a) && lora->dropout.p > 0.0f; }

Lora lora_from_row(const Lora *lora, int64_t first) {
    Lora from = *lora;
    if (lora_drops(lora)) from.dropout.sample += first, from.dropout.position += first;
    return from;
}

static Tensor dropped_input(Tensor x, const Lora *lora, float *room) {
    if (!lora_drops(lora)) return x;
    Tensor dropped = tensor_of(room, DTYPE_F32, x.rows, x.cols);
    rows_dropout(dropped, x, &lora->dropout);
    return dropped;
}

bool lora_low(Tensor x, const Lora *lora, float *room, Tensor low, Error *err) {
    return multiply(dropped_input(x, lora, room), false, lora->a, true, 1.0f, 0.0f, low, err);
}

bool lora_dlow(Tensor dy, const Lora *lora, Tensor dlow, Error *err) {
    return multiply(dy, false, lora->b, false, lora->scale, 0.0f, dlow, err);
}

bool lora_db(Tensor dy, const Lora *lora, Tensor low, Tensor db, Error *err) {
    return multiply(dy, true, low, false, lora->scale, 1.0f, db, err);
}

bool lora_da(Tensor x, const Lora *lora, Tensor dlow, float *room, Tensor da, Error *err) {
    return multiply(dlow, true, dropped_input(x, lora, room), false, 1.0f, 1.0f, da, err);
}
