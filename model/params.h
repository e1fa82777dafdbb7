/* What trains: every trainable tensor in one flat F32 buffer, its gradients in another, so that
 * clipping, AdamW and all-reduce are one operation each. Slots are aligned to 64 elements. */
#ifndef SEMOLLM_MODEL_PARAMS_H
#define SEMOLLM_MODEL_PARAMS_H

#include "base/base.h"
#include "kernels/kernels.h"

typedef enum ParamGroup { PARAM_LORA, PARAM_ADAPTER, PARAM_LAYER_MIX } ParamGroup;

typedef struct Param {
    char name[160]; /* PEFT's name for LoRA ("base_model.model.model.layers.0....lora_A.weight") */
    ParamGroup group;
    bool decay;         /* weight decay applies: matrices, not biases, norms or mix weights */
    int dims;           /* of the stored shape: 1 or 2 */
    int64_t offset;     /* elements from the start of the flat buffers */
    Tensor value, grad; /* F32 [rows, cols] views; a 1-d tensor is [1, cols] */
} Param;

typedef struct Params {
    Device *dev;
    Param *items;
    int count;
    size_t capacity;
    int64_t total;       /* elements of each flat buffer, padding (always zero) included */
    float *value, *grad; /* device memory; null until params_commit */
} Params;

/* Declares a tensor; returns its index, or -1 with an error. Views are filled by params_commit. */
int params_add(Params *params, const char *name, ParamGroup group, int dims, int64_t rows, int64_t cols, bool decay,
               Error *err);
bool params_commit(Params *params, Device *dev, Error *err); /* allocates both buffers, zeroed */
void params_free(Params *params);
const Param *params_find(const Params *params, const char *name);

/* Host copies of one tensor, params->items[index].value.rows * cols floats. */
bool params_get(const Params *params, int index, float *host, Error *err);
bool params_set(const Params *params, int index, const float *host, Error *err);

#endif
