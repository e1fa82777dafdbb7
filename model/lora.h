/* LoRA on the decoder's projections: what a run asks for, and PEFT's files of it. */
#ifndef SEMOLLM_MODEL_LORA_H
#define SEMOLLM_MODEL_LORA_H

#include "base/base.h"
#include "model/params.h"

enum { /* bits of LoraConfig.targets */
       LORA_Q = 1,
       LORA_K = 2,
       LORA_V = 4,
       LORA_O = 8,
       LORA_GATE = 16,
       LORA_UP = 32,
       LORA_DOWN = 64,
       LORA_ALL = 127
};

typedef struct LoraConfig {
    int rank; /* 0: no LoRA */
    float alpha, dropout;
    bool rslora; /* scale alpha / √rank instead of alpha / rank */
    unsigned targets;
} LoraConfig;

enum { PROJECTIONS = 7 }; /* a layer's linear maps, in the order q k v o gate up down */

/* The name of projection 0..6 as modules and PEFT call it: "q_proj". */
const char *projection_name(int projection);

enum { LORA_NAME = 160 };

/* PEFT's names of a projection's two tensors. */
void lora_names(int layer, int projection, char a[LORA_NAME], char b[LORA_NAME]);

/* A module's path within the model, as PEFT's target_modules match it: "model.layers.0.mlp.up_proj". */
void lora_module_path(int layer, int projection, char path[LORA_NAME]);

/* What each projection of each layer gets. A run's LoraConfig gives all targets the same; an adapter
 * trained elsewhere may differ by module (PEFT's rank_pattern, alpha_pattern). */
typedef struct LoraModule {
    int rank; /* 0: none */
    float alpha, scale;
    int a, b; /* numbers in Params, -1 before they are declared */
} LoraModule;

typedef struct LoraPlan {
    int layers;
    float dropout;
    bool rslora;
    int rank; /* adapter_config.json's r and lora_alpha, which patterns override */
    float alpha;
    LoraModule (*modules)[PROJECTIONS]; /* [layers] */
} LoraPlan;

/* The plan of a run's config; rank 0 gives an empty one. */
bool lora_plan(LoraPlan *plan, const LoraConfig *config, int layers, Error *err);

/* The plan that a PEFT folder's adapter_config.json describes. DoRA, modules_to_save, trained biases
 * and other PEFT methods are errors that say so. */
bool lora_plan_read(LoraPlan *plan, const char *folder, int layers, Error *err);
void lora_plan_free(LoraPlan *plan);

/* Writes adapter_config.json and adapter_model.safetensors (F32) into an existing folder. */
bool lora_save(const LoraPlan *plan, const Params *params, const char *folder, const char *base_model, Error *err);

/* Reads adapter_model.safetensors into the plan's parameters; a tensor that is missing, left over or
 * of another shape is an error, as is an adapter_config.json that gives another scale. */
bool lora_load(const LoraPlan *plan, Params *params, const char *folder, Error *err);

#endif
