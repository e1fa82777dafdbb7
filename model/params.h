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
    bool wanted_stored; /* `stored` is kept */
    Tensor stored;      /* the value in the device's dtype, for ops that want it so; params_refresh renews it */
} Param;

typedef struct Params {
    Device *dev;
    Param *items;
    int count;
    size_t capacity;
    int64_t total;       /* elements of each flat buffer, padding (always zero) included */
    float *value, *grad; /* device memory; null until params_commit */
    void *stored;        /* of all `stored` that are no view of a value; null where there is none */
    int64_t changes;     /* what is made of the values holds for so many changes of them */
    int64_t refreshed;   /* `changes` when `stored` was made */
} Params;

/* Declares a tensor; returns its index, or -1 with an error. Views are filled by params_commit. */
int params_add(Params *params, const char *name, ParamGroup group, int dims, int64_t rows, int64_t cols, bool decay,
               Error *err);
void params_store(Params *params, int index);                /* before the commit: wants `stored` of this one */
bool params_commit(Params *params, Device *dev, Error *err); /* allocates the buffers, zeroed */
void params_free(Params *params);
const Param *params_find(const Params *params, const char *name);

/* To be called by whoever writes to `value` (the optimizer); params_set does. */
void params_changed(Params *params);

/* Makes `stored` anew where values have changed since; nothing to do where the device stores F32. */
bool params_refresh(Params *params, Error *err);

/* Host copies of one tensor, params->items[index].value.rows * cols floats. */
bool params_get(const Params *params, int index, float *host, Error *err);
bool params_set(Params *params, int index, const float *host, Error *err);

#endif
