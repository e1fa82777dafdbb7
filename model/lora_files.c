/* adapter_config.json and adapter_model.safetensors, as PEFT writes and reads them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/lora.h"
#include "model/safetensors.h"

/* ---- writing ---- */

/* Whether a projection has LoRA in all layers or in none. */
static bool uniform(const LoraPlan *plan, int projection) {
    for (int l = 1; l < plan->layers; l++)
        if ((plan->modules[l][projection].rank > 0) != (plan->modules[0][projection].rank > 0)) return false;
    return true;
}

/* Names of projections, or, where layers differ, whole paths. */
static json_t *target_list(const LoraPlan *plan) {
    json_t *list = json_array();
    for (int p = 0; p < PROJECTIONS; p++) {
        bool short_name = uniform(plan, p);
        for (int l = 0; l < (short_name ? 1 : plan->layers); l++) {
            char path[LORA_NAME];
            lora_module_path(l, p, path);
            if (plan->modules[l][p].rank)
                json_array_append_new(list, json_string(short_name ? projection_name(p) : path));
        }
    }
    return list;
}

/* Modules whose rank or alpha is not the adapter's own. */
static void add_patterns(const LoraPlan *plan, json_t *ranks, json_t *alphas) {
    for (int l = 0; l < plan->layers; l++)
        for (int p = 0; p < PROJECTIONS; p++) {
            const LoraModule *module = &plan->modules[l][p];
            char path[LORA_NAME];
            lora_module_path(l, p, path);
            if (module->rank && module->rank != plan->rank)
                json_object_set_new(ranks, path, json_integer(module->rank));
            if (module->rank && (module->alpha < plan->alpha || module->alpha > plan->alpha))
                json_object_set_new(alphas, path, json_real((double)module->alpha));
        }
}

/* The shortest decimal that is this float again. */
static json_t *number_of(float value) {
    char text[32];
    if (value == floorf(value) && fabsf(value) < 1e9f) return json_integer((json_int_t)value);
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *config_json(const LoraPlan *plan, const char *base_model) {
    json_t *ranks = json_object(), *alphas = json_object();
    add_patterns(plan, ranks, alphas);
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:n, s:o, s:o, s:b}", "peft_type",
                     "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base_model, "r", plan->rank,
                     "lora_alpha", number_of(plan->alpha), "lora_dropout", number_of(plan->dropout), "target_modules",
                     target_list(plan), "bias", "none", "use_rslora", plan->rslora, "use_dora", 0, "fan_in_fan_out", 0,
                     "inference_mode", 1, "modules_to_save", "rank_pattern", ranks, "alpha_pattern", alphas,
                     "init_lora_weights", 1);
}

static bool save_config(const LoraPlan *plan, const char *folder, const char *base_model, Error *err) {
    char *path = path_join(folder, "adapter_config.json", err);
    json_t *json = path ? config_json(plan, base_model) : NULL;
    bool ok = json ? json_write_file(json, path, err)
                   : fail(err, "%s: adapter_config.json cannot be built; is the model's name UTF-8?", folder);
    json_decref(json);
    free(path);
    return ok;
}

static int count_modules(const LoraPlan *plan) {
    int count = 0;
    for (int l = 0; l < plan->layers; l++)
        for (int p = 0; p < PROJECTIONS; p++) count += plan->modules[l][p].rank > 0;
    return count;
}

static bool store(const Params *params, int index, StoredTensor *stored, Error *err) {
    const Param *param = &params->items[index];
    size_t count = (size_t)(param->value.rows * param->value.cols);
    float *host = memory_new(count, sizeof *host, err);
    *stored = (StoredTensor){.name = param->name, .dtype = DTYPE_F32, .dims = 2, .data = host};
    stored->shape[0] = param->value.rows;
    stored->shape[1] = param->value.cols;
    stored->bytes = count * sizeof *host;
    return host && params_get(params, index, host, err);
}

static bool save_tensors(const LoraPlan *plan, const Params *params, const char *folder, Error *err) {
    size_t count = 2 * (size_t)count_modules(plan), at = 0;
    StoredTensor *tensors = memory_new(count, sizeof *tensors, err);
    char *path = path_join(folder, "adapter_model.safetensors", err);
    bool ok = tensors && path;
    for (int l = 0; l < plan->layers; l++)
        for (int p = 0; ok && p < PROJECTIONS; p++) {
            const LoraModule *module = &plan->modules[l][p];
            if (module->rank)
                ok = store(params, module->a, &tensors[at], err) && store(params, module->b, &tensors[at + 1], err);
            at += module->rank ? 2 : 0;
        }
    ok = ok && tensors_write(path, tensors, count, NULL, err);
    for (size_t i = 0; tensors && i < count; i++) free((void *)(uintptr_t)tensors[i].data);
    free(tensors);
    free(path);
    return ok;
}

bool lora_save(const LoraPlan *plan, const Params *params, const char *folder, const char *base_model, Error *err) {
    return save_tensors(plan, params, folder, err) && save_config(plan, folder, base_model, err);
}

/* ---- reading ---- */

static bool same_plan(const LoraPlan *plan, const char *folder, Error *err) {
    LoraPlan found;
    if (!lora_plan_read(&found, folder, plan->layers, err)) return false;
    bool ok = true;
    for (int l = 0; ok && l < plan->layers; l++)
        for (int p = 0; ok && p < PROJECTIONS; p++) {
            const LoraModule *want = &plan->modules[l][p], *have = &found.modules[l][p];
            char path[LORA_NAME];
            lora_module_path(l, p, path);
            if (want->rank != have->rank)
                ok = fail(err,
                          "%s: the adapter's rank is %d at %s, the run's %d (0: no LoRA); use the adapter's own "
                          "settings",
                          folder, have->rank, path, want->rank);
            else if (fabsf(want->scale - have->scale) > 1e-6f * fabsf(want->scale))
                ok = fail(err, "%s: the adapter's scale is %g at %s, the run's %g; check alpha, rank and rsLoRA",
                          folder, (double)have->scale, path, (double)want->scale);
        }
    lora_plan_free(&found);
    return ok;
}

static bool load_tensor(const TensorFiles *files, Params *params, int index, Error *err) {
    const Param *param = &params->items[index];
    int64_t shape[2] = {param->value.rows, param->value.cols};
    float *host = memory_new((size_t)(shape[0] * shape[1]), sizeof *host, err);
    bool ok = host && tensors_read(files, param->name, 2, shape, host, err) && params_set(params, index, host, err);
    free(host);
    return ok;
}

static bool nothing_left(const TensorFiles *files, const Params *params, const char *path, Error *err) {
    for (size_t i = 0; i < tensors_count(files); i++)
        if (!params_find(params, tensors_at(files, i)->name))
            return fail(err, "%s: tensor \"%.200s\" belongs to no LoRA of this model", path,
                        tensors_at(files, i)->name);
    return true;
}

static bool load_tensors(const LoraPlan *plan, Params *params, const char *path, Error *err) {
    TensorFiles *files = tensors_open(path, err);
    bool ok = files && nothing_left(files, params, path, err);
    for (int l = 0; l < plan->layers; l++)
        for (int p = 0; ok && p < PROJECTIONS; p++) {
            const LoraModule *module = &plan->modules[l][p];
            if (module->rank)
                ok = load_tensor(files, params, module->a, err) && load_tensor(files, params, module->b, err);
        }
    tensors_close(files);
    return ok;
}

bool lora_load(const LoraPlan *plan, Params *params, const char *folder, Error *err) {
    char *path = path_join(folder, "adapter_model.safetensors", err);
    bool ok = path && same_plan(plan, folder, err) && load_tensors(plan, params, path, err);
    free(path);
    return ok;
}
