#include "model/convert_wavlm.h"

#include <stdlib.h>
#include <string.h>

enum { CONV_LAYERS_MAX = 16 };

/* ---- names ---- */

/* A name ending in '.' stands for all that begin so; a null target leaves the tensor out. */
typedef struct Renaming {
    const char *from, *to;
} Renaming;

static const Renaming MODEL_NAMES[] = {
    {"mask_emb", "masked_spec_embed"},
    {"layer_norm.", "feature_projection.layer_norm."},
    {"post_extract_proj.", "feature_projection.projection."},
    {"encoder.pos_conv.0.", "encoder.pos_conv_embed.conv."},
    {"encoder.layer_norm.", "encoder.layer_norm."},
    {"final_proj.", NULL},
    {"label_embs_concat", NULL},
    {NULL, NULL},
};

static const Renaming CONV_NAMES[] = {
    {"0.", "conv."},
    {"2.1.", "layer_norm."}, /* large: between two transpositions */
    {"2.", "layer_norm."},
    {NULL, NULL},
};

static const Renaming LAYER_NAMES[] = {
    {"self_attn.k_proj.", "attention.k_proj."},
    {"self_attn.v_proj.", "attention.v_proj."},
    {"self_attn.q_proj.", "attention.q_proj."},
    {"self_attn.out_proj.", "attention.out_proj."},
    {"self_attn.grep_linear.", "attention.gru_rel_pos_linear."},
    {"self_attn.grep_a", "attention.gru_rel_pos_const"},
    {"self_attn.relative_attention_bias.", "attention.rel_attn_embed."},
    {"self_attn_layer_norm.", "layer_norm."},
    {"fc1.", "feed_forward.intermediate_dense."},
    {"fc2.", "feed_forward.output_dense."},
    {"final_layer_norm.", "final_layer_norm."},
    {NULL, NULL},
};

static const Renaming *find_renaming(const Renaming *table, const char *name) {
    for (; table->from; table++) {
        size_t length = strlen(table->from);
        bool prefix = table->from[length - 1] == '.';
        if (prefix ? !strncmp(name, table->from, length) : !strcmp(name, table->from)) return table;
    }
    return NULL;
}

/* The length of `prefix` and a number and a dot at the front of `name`, or 0. */
static size_t numbered_prefix(const char *name, const char *prefix) {
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0) return 0;
    size_t digits = strspn(name + length, "0123456789");
    return digits && name[length + digits] == '.' ? length + digits + 1 : 0;
}

char *wavlm_tensor_name(const char *name, const char *where, Error *err) {
    const Renaming *table = MODEL_NAMES;
    size_t front = numbered_prefix(name, "feature_extractor.conv_layers.");
    if (front) table = CONV_NAMES;
    size_t layer = numbered_prefix(name, "encoder.layers.");
    if (layer) {
        front = layer;
        table = LAYER_NAMES;
    }
    const Renaming *renaming = find_renaming(table, name + front);
    if (!renaming) {
        fail(err, "%s: tensor \"%.200s\" is none that WavLM has", where, name);
        return NULL;
    }
    if (!renaming->to) return NULL;
    return text_format(err, "%.*s%s%s", (int)front, name, renaming->to, name + front + strlen(renaming->from));
}

/* ---- configuration ---- */

typedef struct Cfg {
    const PickleValue *dict;
    const char *where;
    Error *err;
    bool ok; /* false once any key was wrong */
} Cfg;

static const PickleValue *cfg_value(Cfg *cfg, const char *key, PickleKind kind, const char *what) {
    const PickleValue *value = pickle_get(cfg->dict, key);
    if (!value || value->kind == PICKLE_NONE) return NULL;
    if (value->kind == kind || (kind == PICKLE_FLOAT && value->kind == PICKLE_INT)) return value;
    cfg->ok = fail(cfg->err, "%s: cfg[\"%s\"] must be %s", cfg->where, key, what);
    return NULL;
}

static int64_t cfg_int(Cfg *cfg, const char *key, int64_t otherwise) {
    const PickleValue *value = cfg_value(cfg, key, PICKLE_INT, "an integer");
    if (!value) return otherwise;
    if (value->as.integer < 1 || value->as.integer > 1 << 20)
        cfg->ok = fail(cfg->err, "%s: cfg[\"%s\"] must lie between 1 and %d, found %lld", cfg->where, key, 1 << 20,
                       (long long)value->as.integer);
    return value->as.integer;
}

static bool cfg_bool(Cfg *cfg, const char *key, bool otherwise) {
    const PickleValue *value = cfg_value(cfg, key, PICKLE_BOOL, "True or False");
    return value ? value->as.truth : otherwise;
}

static double cfg_number(Cfg *cfg, const char *key, double otherwise) {
    const PickleValue *value = cfg_value(cfg, key, PICKLE_FLOAT, "a number");
    if (!value) return otherwise;
    double number = value->kind == PICKLE_INT ? (double)value->as.integer : value->as.number;
    if (number >= 0 && number <= 1) return number;
    cfg->ok = fail(cfg->err, "%s: cfg[\"%s\"] must lie between 0 and 1", cfg->where, key);
    return otherwise;
}

static const char *cfg_text(Cfg *cfg, const char *key, const char *otherwise) {
    const PickleValue *value = cfg_value(cfg, key, PICKLE_TEXT, "a text");
    const char *text = pickle_text(value);
    if (value && !text) cfg->ok = fail(cfg->err, "%s: cfg[\"%s\"] holds a NUL character", cfg->where, key);
    return text ? text : otherwise;
}

/* ---- the convolutions: "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2" ---- */

typedef struct Convs {
    int64_t dim[CONV_LAYERS_MAX], kernel[CONV_LAYERS_MAX], stride[CONV_LAYERS_MAX];
    int count;
} Convs;

/* Skips blanks and then exactly this character. */
static bool skip(const char **text, char wanted) {
    *text += strspn(*text, " \t\n");
    if (**text != wanted) return false;
    ++*text;
    return true;
}

static bool read_integer(const char **text, int64_t *number) {
    *text += strspn(*text, " \t\n");
    size_t digits = strspn(*text, "0123456789");
    if (digits == 0 || digits > 6) return false;
    *number = strtol(*text, NULL, 10);
    *text += digits;
    return *number > 0;
}

static bool read_conv(const char **text, Convs *convs) {
    int64_t dim, kernel, stride;
    if (!skip(text, '(') || !read_integer(text, &dim) || !skip(text, ',') || !read_integer(text, &kernel) ||
        !skip(text, ',') || !read_integer(text, &stride) || !skip(text, ')') || convs->count == CONV_LAYERS_MAX)
        return false;
    convs->dim[convs->count] = dim;
    convs->kernel[convs->count] = kernel;
    convs->stride[convs->count++] = stride;
    return true;
}

/* A bracketed list and how often it is repeated. */
static bool read_conv_list(const char **text, Convs *convs) {
    int first = convs->count;
    if (!skip(text, '[')) return false;
    do
        if (!read_conv(text, convs)) return false;
    while (skip(text, ','));
    if (!skip(text, ']')) return false;
    int length = convs->count - first;
    int64_t times = 1;
    if (skip(text, '*') && !read_integer(text, &times)) return false;
    if (times > CONV_LAYERS_MAX || (times - 1) * length > CONV_LAYERS_MAX - convs->count) return false;
    for (int i = 0; i < (int)(times - 1) * length; i++) {
        convs->dim[convs->count] = convs->dim[first + i];
        convs->kernel[convs->count] = convs->kernel[first + i];
        convs->stride[convs->count++] = convs->stride[first + i];
    }
    return true;
}

static bool read_convs(const char *text, Convs *convs) {
    *convs = (Convs){0};
    do
        if (!read_conv_list(&text, convs)) return false;
    while (skip(&text, '+'));
    return skip(&text, '\0');
}

static json_t *integers(const int64_t *items, int count) {
    json_t *array = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(array, json_integer(items[i]));
    return array;
}

static void set(json_t *object, const char *key, json_t *value) { json_object_set_new(object, key, value); }

/* Defaults are those of Microsoft's WavLMConfig. */
static json_t *model_config(Cfg *cfg, const Convs *convs, bool layer_norm) {
    json_t *config = json_object();
    set(config, "architectures", json_pack("[s]", "WavLMModel"));
    set(config, "model_type", json_string("wavlm"));
    set(config, "hidden_size", json_integer(cfg_int(cfg, "encoder_embed_dim", 768)));
    set(config, "num_hidden_layers", json_integer(cfg_int(cfg, "encoder_layers", 12)));
    set(config, "num_attention_heads", json_integer(cfg_int(cfg, "encoder_attention_heads", 12)));
    set(config, "intermediate_size", json_integer(cfg_int(cfg, "encoder_ffn_embed_dim", 3072)));
    set(config, "hidden_act", json_string(cfg_text(cfg, "activation_fn", "gelu")));
    set(config, "feat_extract_norm", json_string(layer_norm ? "layer" : "group"));
    set(config, "feat_extract_activation", json_string("gelu"));
    set(config, "do_stable_layer_norm", json_boolean(cfg_bool(cfg, "layer_norm_first", false)));
    set(config, "conv_dim", integers(convs->dim, convs->count));
    set(config, "conv_kernel", integers(convs->kernel, convs->count));
    set(config, "conv_stride", integers(convs->stride, convs->count));
    set(config, "num_feat_extract_layers", json_integer(convs->count));
    set(config, "conv_bias", json_boolean(cfg_bool(cfg, "conv_bias", false)));
    set(config, "num_conv_pos_embeddings", json_integer(cfg_int(cfg, "conv_pos", 128)));
    set(config, "num_conv_pos_embedding_groups", json_integer(cfg_int(cfg, "conv_pos_groups", 16)));
    set(config, "num_buckets", json_integer(cfg_int(cfg, "num_buckets", 320)));
    set(config, "max_bucket_distance", json_integer(cfg_int(cfg, "max_distance", 1280)));
    set(config, "layer_norm_eps", json_real(1e-5));
    set(config, "hidden_dropout", json_real(cfg_number(cfg, "dropout", 0.1)));
    set(config, "attention_dropout", json_real(cfg_number(cfg, "attention_dropout", 0.1)));
    set(config, "activation_dropout", json_real(cfg_number(cfg, "activation_dropout", 0)));
    set(config, "feat_proj_dropout", json_real(cfg_number(cfg, "dropout_input", 0)));
    set(config, "layerdrop", json_real(cfg_number(cfg, "encoder_layerdrop", 0)));
    return config;
}

static json_t *preprocessor_config(bool normalize, bool layer_norm) {
    return json_pack("{s:s, s:i, s:i, s:s, s:f, s:b, s:b}", "feature_extractor_type", "Wav2Vec2FeatureExtractor",
                     "feature_size", 1, "sampling_rate", AUDIO_RATE, "padding_side", "right", "padding_value", 0.0,
                     "do_normalize", normalize, "return_attention_mask", layer_norm);
}

/* What WavLM's structure here cannot be. */
static bool check_structure(Cfg *cfg) {
    const char *mode = cfg_text(cfg, "extractor_mode", "default");
    if (strcmp(mode, "default") != 0 && strcmp(mode, "layer_norm") != 0)
        return fail(cfg->err, "%s: cfg[\"extractor_mode\"] must be default or layer_norm, found \"%.40s\"", cfg->where,
                    mode);
    const char *activation = cfg_text(cfg, "activation_fn", "gelu");
    if (strcmp(activation, "gelu") != 0)
        return fail(cfg->err, "%s: cfg[\"activation_fn\"] must be gelu, found \"%.40s\"", cfg->where, activation);
    if (!cfg_bool(cfg, "relative_position_embedding", false) || !cfg_bool(cfg, "gru_rel_pos", false))
        return fail(cfg->err, "%s: cfg has no gated relative positions: this is no WavLM", cfg->where);
    return cfg->ok;
}

static bool write_json(json_t *json, const char *folder, const char *name, Error *err) {
    char *path = path_join(folder, name, err);
    bool ok = json && path && json_write_file(json, path, err);
    if (!json) fail(err, "%s: out of memory", name);
    free(path);
    json_decref(json);
    return ok;
}

bool wavlm_write_configs(const PickleValue *dict, const char *folder, const char *where, Error *err) {
    Cfg cfg = {.dict = dict, .where = where, .err = err, .ok = true};
    if (!check_structure(&cfg)) return false;
    const char *layers = cfg_text(&cfg, "conv_feature_layers", "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2");
    Convs convs;
    if (!read_convs(layers, &convs))
        return fail(err,
                    "%s: cfg[\"conv_feature_layers\"] must look like \"[(512,10,5)] + [(512,3,2)] * 4\", found "
                    "\"%.200s\"",
                    where, layers);
    bool layer_norm = !strcmp(cfg_text(&cfg, "extractor_mode", "default"), "layer_norm");
    bool normalize = cfg_bool(&cfg, "normalize", false);
    json_t *config = model_config(&cfg, &convs, layer_norm);
    if (!cfg.ok) {
        json_decref(config);
        return false;
    }
    return write_json(config, folder, "config.json", err) &&
           write_json(preprocessor_config(normalize, layer_norm), folder, "preprocessor_config.json", err);
}
