/* A forward or a backward is written once. Over a OpPass it runs; while planning it only asks each op for
 * the scratch it will need, so that a plan cannot forget one. */
#ifndef SEMOLLM_MODEL_OP_PASS_H
#define SEMOLLM_MODEL_OP_PASS_H

#include "kernels/kernels.h"

typedef struct OpPass {
    Device *dev;
    bool planning;
    size_t scratch; /* the largest asked for while planning */
} OpPass;

static inline bool pass_note(OpPass *pass, size_t scratch) {
    if (scratch > pass->scratch) pass->scratch = scratch;
    return true;
}

/* APPLY(pass, err, LayerNorm, layer_norm, .x = x, .y = y, ...) */
#define APPLY(pass, err, Name, name, ...)                                                                              \
    ((pass)->planning ? pass_note(pass, name##_scratch((pass)->dev, &(Name##Args){__VA_ARGS__}))                       \
                      : op_##name((pass)->dev, &(Name##Args){__VA_ARGS__}, err))

#endif
