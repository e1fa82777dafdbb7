/* The products of one LoRA pair, by the linear layer that it is of and by what passes that layer's rows. Tensors are
 * F32; `room` is scratch of x's shape, used where the pair has dropout, and may be x's own. */
#ifndef SEMOLLM_KERNELS_CPU_LORA_H
#define SEMOLLM_KERNELS_CPU_LORA_H

#include "kernels/ops.h"

bool lora_drops(const Lora *lora);

Lora lora_from_row(const Lora *lora, int64_t first); /* as the rows from `first` on see it */

bool lora_low(Tensor x, const Lora *lora, float *room, Tensor low, Error *err);            /* dropout(x)·Aᵀ */
bool lora_dlow(Tensor dy, const Lora *lora, Tensor dlow, Error *err);                      /* scale · dy·B */
bool lora_db(Tensor dy, const Lora *lora, Tensor low, Tensor db, Error *err);              /* += scale · dyᵀ·low */
bool lora_da(Tensor x, const Lora *lora, Tensor dlow, float *room, Tensor da, Error *err); /* += dlowᵀ·dropout(x) */

#endif
