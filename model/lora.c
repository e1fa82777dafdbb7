/* Which projections have LoRA, from a run's config or from PEFT's adapter_config.json. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/lora.h"

#include <math.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_LIMIT = 16 << 20, RANK_MOST = 1 << 16 };

static const char *const NAMES[PROJECTIONS] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                               "gate_proj", "up_proj", "down_proj"};

const char *projection_name(int projection) { return NAMES[projection]; }

void lora_module_path(int layer, int projection, char path[LORA_NAME]) {
    const char *block = projection < 4 ? "self_attn" : "mlp";
    snprintf(path, LORA_NAME, "model.layers.%d.%s.%s", layer, block, NAMES[projection]);
}

void lora_names(int layer, int projection, char a[LORA_NAME], char b[LORA_NAME]) {
    char path[LORA_NAME];
    lora_module_path(layer, projection, path);
    snprintf(a, LORA_NAME, "base_model.model.%.100s.lora_A.weight", path);
    snprintf(b, LORA_NAME, "base_model.model.%.100s.lora_B.weight", path);
}

static void set_module(const LoraPlan *plan, LoraModule *module, int rank, float alpha) {
    float divisor = plan->rslora ? sqrtf((float)rank) : (float)rank;
    *module = (LoraModule){.rank = rank, .alpha = alpha, .scale = alpha / divisor, .a = -1, .b = -1};
}

static bool new_modules(LoraPlan *plan, int layers, Error *err) {
    plan->layers = layers;
    plan->modules = memory_new((size_t)layers, sizeof *plan->modules, err);
    return plan->modules != NULL;
}

bool lora_plan(LoraPlan *plan, const LoraConfig *config, int layers, Error *err) {
    *plan = (LoraPlan){.dropout = config->dropout, .rslora = config->rslora};
    plan->rank = config->rank;
    plan->alpha = config->alpha;
    if (config->rank < 0 || config->rank > RANK_MOST)
        return fail_usage(err, "LoRA's rank is %d; expected 0 (none) to %d", config->rank, RANK_MOST);
    if (!(config->dropout >= 0 && config->dropout < 1))
        return fail_usage(err, "LoRA's dropout is %g; expected 0 or more, and less than 1", (double)config->dropout);
    if (!isfinite(config->alpha)) return fail_usage(err, "LoRA's alpha must be a finite number");
    if (config->rank > 0 && !(config->targets & LORA_ALL))
        return fail_usage(err, "LoRA has the rank %d but no target; name at least one projection", config->rank);
    if (!new_modules(plan, layers, err)) return false;
    for (int l = 0; config->rank && l < layers; l++)
        for (int p = 0; p < PROJECTIONS; p++)
            if (config->targets >> p & 1) set_module(plan, &plan->modules[l][p], config->rank, config->alpha);
    return true;
}

void lora_plan_free(LoraPlan *plan) {
    free(plan->modules);
    *plan = (LoraPlan){0};
}

/* ---- adapter_config.json ---- */

/* Whether all of `text` matches `pattern`; a pattern that does not compile is an error. */
static bool full_match(const char *pattern, const char *text, const char *where, bool *matched, Error *err) {
    int code;
    PCRE2_SIZE offset;
    uint32_t flags = PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, &code, &offset, NULL);
    if (!compiled) {
        PCRE2_UCHAR reason[120];
        pcre2_get_error_message(code, reason, sizeof reason);
        return fail(err, "%s: \"%.200s\" is not a regular expression: %s at character %zu", where, pattern,
                    (const char *)reason, offset);
    }
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
    int found = data ? pcre2_match(compiled, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, data, NULL) : -1;
    bool ok = data && (found >= 0 || found == PCRE2_ERROR_NOMATCH);
    *matched = found >= 0;
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return ok || fail(err, "%s: the expression \"%.200s\" cannot be matched (error %d)", where, pattern, found);
}

/* PEFT matches a list's entries by name or by a suffix that begins at a dot. */
static bool listed(const json_t *list, const char *path) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *entry = json_string_value(json_array_get(list, i));
        size_t length = entry ? strlen(entry) : 0, whole = strlen(path);
        if (length == 0 || length > whole || strcmp(path + whole - length, entry) != 0) continue;
        if (length == whole || path[whole - length - 1] == '.') return true;
    }
    return false;
}

/* A list, or an expression that all of the path must match. */
static bool selected(const json_t *targets, const char *path, const char *where, bool *found, Error *err) {
    if (json_is_string(targets)) return full_match(json_string_value(targets), path, where, found, err);
    *found = listed(targets, path);
    return true;
}

static bool is_all_linear(const json_t *targets) {
    return json_is_string(targets) && !strcasecmp(json_string_value(targets), "all-linear");
}

/* Settings under which PEFT computes something else than plain LoRA. */
static bool refuse_others(const json_t *json, const char *where, Error *err) {
    static const char *const others[] = {"use_dora",
                                         "modules_to_save",
                                         "trainable_token_indices",
                                         "layer_replication",
                                         "lora_bias",
                                         "fan_in_fan_out",
                                         "use_qalora",
                                         "target_parameters",
                                         "megatron_config",
                                         "alora_invocation_tokens",
                                         "use_bdlora",
                                         "arrow_config",
                                         "kasa_config",
                                         "monteclora_config",
                                         "velora_config"};
    const char *type = NULL, *bias = "none";
    if (!json_get_string(json, "peft_type", &type, where, err)) return false;
    if (strcmp(type, "LORA") != 0)
        return fail(err, "%s: \"peft_type\" is \"%.40s\"; only LORA adapters can be used", where, type);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const json_t *value = json_object_get(json, others[i]);
        bool empty = !value || json_is_null(value) || json_is_false(value) ||
                     (json_is_array(value) && json_array_size(value) == 0) ||
                     (json_is_object(value) && json_object_size(value) == 0);
        if (!empty)
            return fail(err, "%s: \"%s\" is set, which is not supported; train the adapter without it", where,
                        others[i]);
    }
    if (!json_string_or(json, "bias", &bias, where, err)) return false;
    return !strcmp(bias, "none") || fail(err, "%s: \"bias\" is \"%.40s\"; expected \"none\"", where, bias);
}

/* Initialisations that also change the base model's weights. */
static bool refuse_init(const json_t *json, const char *where, Error *err) {
    static const char *const changing[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *init = json_string_value(json_object_get(json, "init_lora_weights"));
    for (size_t i = 0; init && i < sizeof changing / sizeof *changing; i++)
        if (!strncmp(init, changing[i], strlen(changing[i])))
            return fail(err,
                        "%s: \"init_lora_weights\" is \"%.40s\", which changes the base model's weights; convert "
                        "the adapter to plain LoRA with PEFT first",
                        where, init);
    return true;
}

static bool layer_chosen(const json_t *json, int layer, const char *where, bool *chosen, Error *err) {
    const json_t *layers = json_object_get(json, "layers_to_transform"), *of = json_object_get(json, "layers_pattern");
    *chosen = !layers || json_is_null(layers) || (json_is_array(layers) && json_array_size(layers) == 0);
    if (*chosen) return true;
    if (json_is_array(of)) of = json_array_get(of, 0);
    const char *pattern = json_string_value(of);
    if (pattern && *pattern && strcmp(pattern, "layers") != 0)
        return fail(err, "%s: \"layers_pattern\" is \"%.40s\"; expected \"layers\"", where, pattern);
    if (json_is_integer(layers)) *chosen = json_integer_value(layers) == layer;
    for (size_t i = 0; i < json_array_size(layers); i++)
        if (json_integer_value(json_array_get(layers, i)) == layer) *chosen = true;
    return true;
}

/* The value of the first pattern that a path ends in, or null. */
static bool pattern_value(const json_t *json, const char *key, const char *path, const char *where,
                          const json_t **found, Error *err) {
    const json_t *patterns = json_object_get(json, key);
    *found = NULL;
    if (!patterns || json_is_null(patterns)) return true;
    if (!json_is_object(patterns)) return fail(err, "%s: \"%s\" must be an object", where, key);
    const char *pattern;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patterns, pattern, value) {
        bool matched = false;
        char *suffix = text_format(err, "(?:.*\\.)?(?:%s)", pattern);
        bool ok = suffix && full_match(suffix, path, where, &matched, err);
        free(suffix);
        if (!ok) return false;
        if (!matched) continue;
        *found = value;
        return true;
    }
    return true;
}

static bool module_settings(const LoraPlan *plan, const json_t *json, const char *path, const char *where,
                            LoraModule *module, Error *err) {
    const json_t *rank, *alpha;
    if (!pattern_value(json, "rank_pattern", path, where, &rank, err) ||
        !pattern_value(json, "alpha_pattern", path, where, &alpha, err))
        return false;
    json_int_t r = rank ? json_integer_value(rank) : plan->rank; /* 0 for what is no integer */
    if (r < 1 || r > RANK_MOST) return fail(err, "%s: the rank of %s must be 1 to %d", where, path, RANK_MOST);
    if (alpha && !json_is_number(alpha)) return fail(err, "%s: the alpha of %s must be a number", where, path);
    set_module(plan, module, (int)r, alpha ? (float)json_number_value(alpha) : plan->alpha);
    return true;
}

/* Whether PEFT would put LoRA on the module of this path. */
static bool targeted(const json_t *json, const char *path, const char *where, bool *found, Error *err) {
    const json_t *targets = json_object_get(json, "target_modules"), *not = json_object_get(json, "exclude_modules");
    bool excluded = false;
    *found = is_all_linear(targets);
    if (!*found && !selected(targets, path, where, found, err)) return false;
    if (json_is_string(not ) ? *json_string_value(not ) != '\0' : json_array_size(not ) > 0)
        if (!selected(not, path, where, &excluded, err)) return false;
    *found = *found && !excluded;
    return true;
}

/* LoRA on what is no projection would be lost. */
static bool refuse_other_targets(const json_t *json, const char *where, Error *err) {
    static const char *const others[] = {"lm_head", "model.embed_tokens"};
    if (is_all_linear(json_object_get(json, "target_modules"))) return true;
    for (int i = 0; i < 2; i++) {
        bool found = false;
        if (!targeted(json, others[i], where, &found, err)) return false;
        if (found)
            return fail(err, "%s: LoRA on %s is not supported; only on the layers' projections", where, others[i]);
    }
    return true;
}

static bool read_modules(LoraPlan *plan, const json_t *json, const char *where, Error *err) {
    int count = 0;
    for (int l = 0; l < plan->layers; l++)
        for (int p = 0; p < PROJECTIONS; p++) {
            char path[LORA_NAME];
            bool found = false, chosen = true;
            lora_module_path(l, p, path);
            if (!targeted(json, path, where, &found, err)) return false;
            if (json_is_array(json_object_get(json, "target_modules")) && !layer_chosen(json, l, where, &chosen, err))
                return false;
            if (!found || !chosen) continue;
            if (!module_settings(plan, json, path, where, &plan->modules[l][p], err)) return false;
            count++;
        }
    return count > 0 || fail(err, "%s: \"target_modules\" names no projection of this model", where);
}

static bool read_plan(LoraPlan *plan, const json_t *json, int layers, const char *where, Error *err) {
    if (!json_is_object(json)) return fail(err, "%s: expected a JSON object", where);
    const json_t *targets = json_object_get(json, "target_modules");
    int64_t rank = 0;
    double alpha = 8, dropout = 0; /* PEFT's defaults */
    if (!refuse_others(json, where, err) || !refuse_init(json, where, err) ||
        !json_get_int(json, "r", 1, RANK_MOST, &rank, where, err) ||
        !json_number_or(json, "lora_alpha", &alpha, where, err) ||
        !json_number_or(json, "lora_dropout", &dropout, where, err) ||
        !json_bool_or(json, "use_rslora", &plan->rslora, where, err))
        return false;
    if (!json_is_string(targets) && !json_is_array(targets))
        return fail(err, "%s: \"target_modules\" must be a list or a string", where);
    if (!(dropout >= 0 && dropout < 1) || !isfinite((float)alpha))
        return fail(err, "%s: \"lora_dropout\" must be at least 0 and less than 1, and \"lora_alpha\" finite", where);
    plan->rank = (int)rank;
    plan->alpha = (float)alpha;
    plan->dropout = (float)dropout;
    return new_modules(plan, layers, err) && refuse_other_targets(json, where, err) &&
           read_modules(plan, json, where, err);
}

bool lora_plan_read(LoraPlan *plan, const char *folder, int layers, Error *err) {
    *plan = (LoraPlan){0};
    char *path = path_join(folder, "adapter_config.json", err);
    json_t *json = path ? json_read_file(path, CONFIG_LIMIT, err) : NULL;
    bool ok = json && read_plan(plan, json, layers, path, err);
    json_decref(json);
    free(path);
    if (!ok) lora_plan_free(plan);
    return ok;
}
