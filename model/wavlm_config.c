#include "model/wavlm.h"

#include <stdlib.h>
#include <string.h>

enum { CONFIG_LIMIT = 1 << 20, RECEPTIVE_FIELD_MAX = 1 << 20 };

static bool small_int(const json_t *json, const char *key, int low, int high, int *value, const char *where,
                      Error *err) {
    int64_t wide = *value;
    if (!json_int_or(json, key, low, high, &wide, where, err)) return false;
    *value = (int)wide;
    return true;
}

/* A list of one positive integer per convolution. */
static bool conv_list(const json_t *json, const char *key, int high, int *values, int *count, const char *where,
                      Error *err) {
    const json_t *list = json_object_get(json, key);
    if (!list || json_is_null(list)) return true;
    size_t size = json_array_size(list);
    if (!json_is_array(list) || size < 1 || size > WAVLM_CONVS_MAX)
        return fail(err, "%s: \"%s\" must be a list of 1 to %d integers", where, key, WAVLM_CONVS_MAX);
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t value = json_integer_value(item);
        if (!json_is_integer(item) || value < 1 || value > high)
            return fail(err, "%s: item %zu of \"%s\" must be an integer from 1 to %d", where, i + 1, key, high);
        values[i] = (int)value;
    }
    *count = (int)size;
    return true;
}

static bool read_convs(WavlmConfig *config, const json_t *json, const char *where, Error *err) {
    static const int kernel[] = {10, 3, 3, 3, 3, 2, 2}, stride[] = {5, 2, 2, 2, 2, 2, 2};
    int dims = 7, kernels = 7, strides = 7;
    for (int i = 0; i < dims; i++) {
        config->conv_dim[i] = 512;
        config->conv_kernel[i] = kernel[i];
        config->conv_stride[i] = stride[i];
    }
    if (!conv_list(json, "conv_dim", 1 << 16, config->conv_dim, &dims, where, err) ||
        !conv_list(json, "conv_kernel", 1 << 10, config->conv_kernel, &kernels, where, err) ||
        !conv_list(json, "conv_stride", 1 << 10, config->conv_stride, &strides, where, err))
        return false;
    if (dims != kernels || dims != strides)
        return fail(err,
                    "%s: \"conv_dim\", \"conv_kernel\" and \"conv_stride\" have %d, %d and %d items, not equally many",
                    where, dims, kernels, strides);
    config->convs = dims;
    int64_t field = 1; /* as wavlm_receptive_field, checked as it grows */
    for (int i = dims; i-- > 0;) {
        if (config->conv_stride[i] > config->conv_kernel[i])
            return fail(err, "%s: convolution %d has a stride of %d over a kernel of %d, and would skip samples", where,
                        i, config->conv_stride[i], config->conv_kernel[i]);
        field = (field - 1) * config->conv_stride[i] + config->conv_kernel[i];
        if (field > RECEPTIVE_FIELD_MAX)
            return fail(err, "%s: the convolutions' receptive field is over %d samples", where, RECEPTIVE_FIELD_MAX);
    }
    return true;
}

/* A setting whose only supported value is `wanted`. */
static bool only_string(const json_t *json, const char *key, const char *wanted, const char *where, Error *err) {
    const char *value = wanted;
    if (!json_string_or(json, key, &value, where, err)) return false;
    if (strcmp(value, wanted))
        return fail(err, "%s: \"%s\" is \"%s\", and only \"%s\" is supported", where, key, value, wanted);
    return true;
}

static bool read_norms(WavlmConfig *config, const json_t *json, const char *where, Error *err) {
    const char *norm = "group";
    bool has_adapter = false;
    double eps = 1e-5;
    if (!only_string(json, "model_type", "wavlm", where, err) || !only_string(json, "hidden_act", "gelu", where, err) ||
        !only_string(json, "feat_extract_activation", "gelu", where, err) ||
        !json_string_or(json, "feat_extract_norm", &norm, where, err) ||
        !json_bool_or(json, "do_stable_layer_norm", &config->pre_norm, where, err) ||
        !json_bool_or(json, "conv_bias", &config->conv_bias, where, err) ||
        !json_bool_or(json, "add_adapter", &has_adapter, where, err) ||
        !json_number_or(json, "layer_norm_eps", &eps, where, err))
        return false;
    if (has_adapter) return fail(err, "%s: \"add_adapter\" is true, and only encoders without are supported", where);
    if (strcmp(norm, "group") && strcmp(norm, "layer"))
        return fail(err, "%s: \"feat_extract_norm\" is \"%s\", expected \"group\" or \"layer\"", where, norm);
    if (!(eps > 0 && eps < 1)) return fail(err, "%s: \"layer_norm_eps\" is %g, expected 0 to 1", where, eps);
    config->conv_layer_norm = !strcmp(norm, "layer");
    config->eps = (float)eps;
    return true;
}

static bool read_sizes(WavlmConfig *config, const json_t *json, const char *where, Error *err) {
    *config = (WavlmConfig){.hidden = 768,
                            .layers = 12,
                            .heads = 12,
                            .ffn = 3072,
                            .pos_kernel = 128,
                            .pos_groups = 16,
                            .buckets = 320,
                            .max_distance = 800};
    if (!small_int(json, "hidden_size", 1, 1 << 16, &config->hidden, where, err) ||
        !small_int(json, "num_hidden_layers", 1, WAVLM_LAYERS_MAX, &config->layers, where, err) ||
        !small_int(json, "num_attention_heads", 1, 1 << 10, &config->heads, where, err) ||
        !small_int(json, "intermediate_size", 1, 1 << 18, &config->ffn, where, err) ||
        !small_int(json, "num_conv_pos_embeddings", 1, POS_KERNEL_MAX, &config->pos_kernel, where, err) ||
        !small_int(json, "num_conv_pos_embedding_groups", 1, 1 << 16, &config->pos_groups, where, err) ||
        !small_int(json, "num_buckets", 4, 1 << 16, &config->buckets, where, err) ||
        !small_int(json, "max_bucket_distance", 2, 1 << 24, &config->max_distance, where, err))
        return false;
    if (config->hidden % config->heads || config->hidden / config->heads > 128)
        return fail(err, "%s: %d heads do not divide \"hidden_size\" %d into heads of at most 128", where,
                    config->heads, config->hidden);
    if (config->hidden % config->pos_groups)
        return fail(err, "%s: \"num_conv_pos_embedding_groups\" %d does not divide \"hidden_size\" %d", where,
                    config->pos_groups, config->hidden);
    if (config->max_distance <= config->buckets / 4)
        return fail(err, "%s: \"max_bucket_distance\" %d must be more than a quarter of \"num_buckets\" %d", where,
                    config->max_distance, config->buckets);
    return true;
}

static json_t *read_object(const char *path, Error *err) {
    json_t *json = json_read_file(path, CONFIG_LIMIT, err);
    if (!json || json_is_object(json)) return json;
    fail(err, "%s: expected a JSON object", path);
    json_decref(json);
    return NULL;
}

static bool read_model(WavlmConfig *config, const char *path, Error *err) {
    json_t *json = read_object(path, err);
    bool ok = json && read_sizes(config, json, path, err) && read_convs(config, json, path, err) &&
              read_norms(config, json, path, err);
    json_decref(json);
    return ok;
}

/* Without the file: as Microsoft trained them, large on normalised waveforms and base on raw ones. A file
 * without the key means true, its default in transformers. */
static bool read_preprocessor(WavlmConfig *config, const char *path, Error *err) {
    config->normalize = config->conv_layer_norm;
    if (!file_exists(path)) return true;
    json_t *json = read_object(path, err);
    if (!json) return false;
    config->normalize = true;
    int64_t rate = AUDIO_RATE;
    bool ok = json_bool_or(json, "do_normalize", &config->normalize, path, err) &&
              json_int_or(json, "sampling_rate", AUDIO_RATE, AUDIO_RATE, &rate, path, err);
    json_decref(json);
    return ok;
}

bool wavlm_config_read(WavlmConfig *config, const char *folder, Error *err) {
    char *model = path_join(folder, "config.json", err);
    char *preprocessor = path_join(folder, "preprocessor_config.json", err);
    bool ok = model && preprocessor && read_model(config, model, err) && read_preprocessor(config, preprocessor, err);
    free(model);
    free(preprocessor);
    return ok;
}

int64_t wavlm_rows(const WavlmConfig *config, int convs, int64_t samples) {
    for (int i = 0; i < convs; i++) {
        if (samples < config->conv_kernel[i]) return 0;
        samples = (samples - config->conv_kernel[i]) / config->conv_stride[i] + 1;
    }
    return samples;
}

int64_t wavlm_frames(const WavlmConfig *config, int64_t samples) { return wavlm_rows(config, config->convs, samples); }

int64_t wavlm_receptive_field(const WavlmConfig *config) {
    int64_t field = 1;
    for (int i = config->convs; i-- > 0;) field = (field - 1) * config->conv_stride[i] + config->conv_kernel[i];
    return field;
}

int64_t wavlm_stride(const WavlmConfig *config) {
    int64_t stride = 1;
    for (int i = 1; i < config->convs; i++) stride *= config->conv_stride[i];
    return stride;
}

int64_t wavlm_aligned(const WavlmConfig *config, int64_t samples) {
    int64_t most = 0, stride = 1; /* of the convolutions after i */
    for (int i = config->convs; i-- > 0;) {
        int64_t wanted = (wavlm_rows(config, i + 1, samples) + stride - 1) / stride;
        if (wanted > most) most = wanted;
        stride *= config->conv_stride[i];
    }
    return most;
}

/* From n rows there are after a convolution, there were at most stride · n + kernel - 1 before it. */
int64_t wavlm_padding(const WavlmConfig *config) {
    int64_t most = 0, stride = 1, past = 0; /* rows past `stride` to a frame */
    for (int i = config->convs; i-- > 0;) {
        int64_t wanted = (past + stride - 1) / stride;
        if (wanted > most) most = wanted;
        past = past * config->conv_stride[i] + config->conv_kernel[i] - 1;
        stride *= config->conv_stride[i];
    }
    return most;
}
