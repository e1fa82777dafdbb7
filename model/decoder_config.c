/* config.json and generation_config.json of Llama, Qwen2 and Qwen3 folders, in the keys of transformers
 * 4 (rope_theta, rope_scaling) and 5 (rope_parameters). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/decoder.h"

enum {
    CONFIG_LIMIT = 16 << 20,
    HIDDEN_MOST = 1 << 17,
    LAYERS_MOST = 1024,
    HEADS_MOST = 4096,
    HEAD_DIM_MOST = 128, /* what the attention kernels take */
    FFN_MOST = 1 << 20,
    VOCAB_MOST = 1 << 24,
    POSITIONS_MOST = 1 << 24,
};

static bool int_or(const json_t *json, const char *key, int64_t high, int *value, const char *where, Error *err) {
    int64_t number = *value;
    if (!json_int_or(json, key, 1, high, &number, where, err)) return false;
    *value = (int)number;
    return true;
}

static bool int_of(const json_t *json, const char *key, int64_t high, int *value, const char *where, Error *err) {
    int64_t number = 0;
    if (!json_get_int(json, key, 1, high, &number, where, err)) return false;
    *value = (int)number;
    return true;
}

static bool given(const json_t *json, const char *key) {
    const json_t *value = json_object_get(json, key);
    return value && !json_is_null(value);
}

static bool read_kind(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    const char *type = NULL;
    if (!json_get_string(json, "model_type", &type, where, err)) return false;
    for (int i = 0; i < 3; i++)
        if (!strcmp(type, names[i])) {
            config->kind = (DecoderKind)i;
            return true;
        }
    return fail(err, "%s: \"model_type\" is \"%.60s\"; the models that can be computed are llama, qwen2 and qwen3",
                where, type);
}

static bool read_sizes(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    if (!int_of(json, "hidden_size", HIDDEN_MOST, &config->hidden, where, err) ||
        !int_of(json, "num_hidden_layers", LAYERS_MOST, &config->layers, where, err) ||
        !int_of(json, "num_attention_heads", HEADS_MOST, &config->heads, where, err) ||
        !int_of(json, "intermediate_size", FFN_MOST, &config->ffn, where, err) ||
        !int_of(json, "vocab_size", VOCAB_MOST, &config->vocab, where, err))
        return false;
    config->kv_heads = config->heads;
    config->max_positions = config->kind == DECODER_LLAMA ? 2048 : 32768; /* transformers' defaults */
    if (!int_or(json, "num_key_value_heads", HEADS_MOST, &config->kv_heads, where, err) ||
        !int_or(json, "max_position_embeddings", POSITIONS_MOST, &config->max_positions, where, err) ||
        !int_or(json, "head_dim", HEAD_DIM_MOST, &config->head_dim, where, err))
        return false;
    if (!config->head_dim && config->kind == DECODER_QWEN3) config->head_dim = 128; /* transformers' default */
    if (!config->head_dim) {
        if (config->hidden % config->heads != 0)
            return fail(err,
                        "%s: \"hidden_size\" %d is not a multiple of \"num_attention_heads\" %d, and no "
                        "\"head_dim\" is given",
                        where, config->hidden, config->heads);
        config->head_dim = config->hidden / config->heads;
    }
    if (config->head_dim % 2 != 0 || config->head_dim > HEAD_DIM_MOST)
        return fail(err, "%s: heads are %d wide; expected an even width of at most %d", where, config->head_dim,
                    HEAD_DIM_MOST);
    if (config->heads % config->kv_heads != 0)
        return fail(err, "%s: \"num_attention_heads\" %d is not a multiple of \"num_key_value_heads\" %d", where,
                    config->heads, config->kv_heads);
    return true;
}

static bool read_number(const json_t *json, const char *key, double low, double high, double *value, const char *where,
                        Error *err) {
    if (!json_number_or(json, key, value, where, err)) return false;
    if (*value > low && *value < high) return true;
    return fail(err, "%s: \"%s\" must lie between %g and %g, found %g", where, key, low, high, *value);
}

static bool read_llama3(DecoderConfig *config, const json_t *rope, const char *where, Error *err) {
    config->scaling = ROPE_LLAMA3;
    config->low_freq = config->high_freq = config->original_positions = 0;
    if (!read_number(rope, "low_freq_factor", 0, 1e6, &config->low_freq, where, err) ||
        !read_number(rope, "high_freq_factor", 0, 1e6, &config->high_freq, where, err) ||
        !read_number(rope, "original_max_position_embeddings", 0, 1e9, &config->original_positions, where, err))
        return false;
    if (config->high_freq > config->low_freq) return true;
    return fail(err, "%s: \"high_freq_factor\" %g must be greater than \"low_freq_factor\" %g", where,
                config->high_freq, config->low_freq);
}

static bool read_scaling(DecoderConfig *config, const json_t *rope, const char *where, Error *err) {
    const char *type = "default";
    if (!json_string_or(rope, "type", &type, where, err) || !json_string_or(rope, "rope_type", &type, where, err))
        return false;
    double partial = 1;
    if (!json_number_or(rope, "partial_rotary_factor", &partial, where, err)) return false;
    if (partial != 1) return fail(err, "%s: \"partial_rotary_factor\" %g is not supported; expected 1", where, partial);
    if (!strcmp(type, "default")) return true;
    bool llama3 = !strcmp(type, "llama3");
    if (!llama3 && strcmp(type, "linear") != 0)
        return fail(err, "%s: rope type \"%.60s\" is not supported; those that are: default, linear, llama3", where,
                    type);
    config->scaling = ROPE_LINEAR;
    config->factor = 0;
    if (!read_number(rope, "factor", 0, 1e6, &config->factor, where, err)) return false;
    return !llama3 || read_llama3(config, rope, where, err);
}

static bool read_rope(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    config->theta = 10000;
    if (!read_number(json, "rope_theta", 0, 1e15, &config->theta, where, err)) return false;
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        if (!given(json, keys[i])) continue;
        const json_t *rope = json_object_get(json, keys[i]);
        if (!json_is_object(rope)) return fail(err, "%s: \"%s\" must be an object", where, keys[i]);
        if (!read_number(rope, "rope_theta", 0, 1e15, &config->theta, where, err) ||
            !read_scaling(config, rope, where, err))
            return false;
    }
    double partial = 1;
    if (!json_number_or(json, "partial_rotary_factor", &partial, where, err)) return false;
    return partial == 1 || fail(err, "%s: \"partial_rotary_factor\" %g is not supported; expected 1", where, partial);
}

static bool read_biases(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    bool attention = false;
    if (config->kind != DECODER_QWEN2 && !json_bool_or(json, "attention_bias", &attention, where, err)) return false;
    if (config->kind == DECODER_LLAMA && !json_bool_or(json, "mlp_bias", &config->mlp_bias, where, err)) return false;
    config->o_bias = attention;
    config->qkv_bias = attention || config->kind == DECODER_QWEN2;
    config->qk_norm = config->kind == DECODER_QWEN3;
    return json_bool_or(json, "tie_word_embeddings", &config->tied, where, err);
}

/* What would be computed otherwise than the model was trained. */
static bool refuse_others(const json_t *json, const char *where, Error *err) {
    bool window = false;
    if (!json_bool_or(json, "use_sliding_window", &window, where, err)) return false;
    const json_t *types = json_object_get(json, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "full_attention") != 0) window = true;
    }
    if (window)
        return fail(err,
                    "%s: layers with sliding-window attention are not supported; \"use_sliding_window\" must be "
                    "false",
                    where);
    if (given(json, "quantization_config"))
        return fail(err,
                    "%s: the weights are quantised (\"quantization_config\"), which is not supported; use the "
                    "folder with F32, F16 or BF16 weights",
                    where);
    const char *act = "silu";
    if (!json_string_or(json, "hidden_act", &act, where, err)) return false;
    return !strcmp(act, "silu") || fail(err, "%s: \"hidden_act\" is \"%.60s\"; expected \"silu\"", where, act);
}

static bool add_stop(DecoderConfig *config, const json_t *id, const char *where, Error *err) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= config->vocab)
        return fail(err, "%s: \"eos_token_id\" must be an id from 0 to %d, or a list of such", where,
                    config->vocab - 1);
    if (config->stop_count == STOP_IDS_MAX)
        return fail(err, "%s: \"eos_token_id\" lists more than %d ids", where, STOP_IDS_MAX);
    config->stop[config->stop_count++] = (int32_t)json_integer_value(id);
    return true;
}

static bool read_stops(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    const json_t *eos = json_object_get(json, "eos_token_id");
    if (!eos || json_is_null(eos)) return true;
    config->stop_count = 0;
    if (!json_is_array(eos)) return add_stop(config, eos, where, err);
    for (size_t i = 0; i < json_array_size(eos); i++)
        if (!add_stop(config, json_array_get(eos, i), where, err)) return false;
    return true;
}

static bool read_config(DecoderConfig *config, const json_t *json, const char *where, Error *err) {
    if (!json_is_object(json)) return fail(err, "%s: expected a JSON object", where);
    double eps = 1e-6;
    if (!read_kind(config, json, where, err) || !refuse_others(json, where, err) ||
        !read_sizes(config, json, where, err) || !read_number(json, "rms_norm_eps", 0, 1, &eps, where, err) ||
        !read_rope(config, json, where, err) || !read_biases(config, json, where, err) ||
        !read_stops(config, json, where, err))
        return false;
    config->eps = (float)eps;
    return true;
}

static bool read_generation(DecoderConfig *config, const char *path, Error *err) {
    if (!file_exists(path)) return true;
    json_t *json = json_read_file(path, CONFIG_LIMIT, err);
    bool ok = json && read_stops(config, json, path, err);
    json_decref(json);
    return ok;
}

bool decoder_config_read(DecoderConfig *config, const char *folder, Error *err) {
    *config = (DecoderConfig){0};
    char *path = path_join(folder, "config.json", err), *generation = path_join(folder, "generation_config.json", err);
    json_t *json = path ? json_read_file(path, CONFIG_LIMIT, err) : NULL;
    bool ok = generation && json && read_config(config, json, path, err) && read_generation(config, generation, err);
    json_decref(json);
    free(path);
    free(generation);
    return ok;
}
