/* LoRA's skinny products beside the large ones of a linear layer: what linear.cu asks of lora.cu. */
#ifndef SEMOLLM_KERNELS_CUDA_LORA_CUH
#define SEMOLLM_KERNELS_CUDA_LORA_CUH

#include "kernels/cuda/random.cuh"

/* A pair on outputs `output` .. output + outputs - 1, whose inner columns are first .. first + rank - 1. */
struct LoraPart {
    const float *a, *b;
    int64_t lda, ldb, output, outputs;
    int rank, first; /* rank 0: no pair */
    float scale;
    bool drops;
    DropoutMask mask;
};

struct LoraParts {
    LoraPart part[LINEAR_PARTS];
    int rank; /* Σr */
    bool drops;
};

LoraParts lora_parts(const Lora lora[LINEAR_PARTS], int64_t in);

/* One read of `large`, which is x or dy. Where gate and up are present, which is with x and inner alone, large is
 * written instead: silu(gate) ⊙ up.
 * With A's rows end to end as A and scale · B's columns side by side as sB,
 * both of all parts:
 *     inner   = dropout(x)·Aᵀ  or  dy·sB         [n, Σr], rounded to the device's dtype
 *     da[i]  += lowᵀ·dropout(x)                  low being dy·sB; of x·rstd·gamma for x, where gamma is there
 *     db[i]  += scale · dyᵀ·low                  low being dropout(x)·Aᵀ */
struct Skinny {
    Tensor large;
    bool of_dy;
    Tensor gate, up;               /* like large, or absent */
    Tensor inner;                  /* [n, Σr] or absent */
    Tensor tail;                   /* [n, at least Σr] or absent: inner once more, then zeros */
    Tensor low;                    /* [n, at least Σr], zeros past it; where gradients are wanted */
    Tensor gradient[LINEAR_PARTS]; /* or absent */
    Tensor gamma, rstd;            /* as in LinearBackwardArgs, where da is wanted alone; or absent */
};

size_t skinny_scratch(const Device *dev, const Skinny *s, const LoraParts *lora);
bool skinny(Device *dev, const Skinny *s, const LoraParts *lora, void *scratch, Error *err);

/* tail = low, then zeros. */
bool fill_tail(Device *dev, Tensor low, Tensor tail, Error *err);

/* sB, [out, Σr], and A, [Σr, in], in the device's dtype, zeros where `to` is wider or longer. */
bool pack_b(Device *dev, const LoraParts *lora, Tensor to, Error *err);
bool pack_a(Device *dev, const LoraParts *lora, Tensor to, Error *err);

/* dx += what reaches x through each part's dropout: mask ⊙ (dlow·A). */
bool add_through(Device *dev, const LoraParts *lora, Tensor dlow, Tensor dx, Error *err);

#endif
