/* WavLM's weights: Hugging Face names, with or without the "wavlm." of task models in front, and weight
 * norm in the old and the new spelling. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "model/draw.h"
#include "model/safetensors.h"
#include "model/wavlm.h"

/* All weights are walked twice, by the same function: first to measure their arena, then to fill it. */
typedef struct Loader {
    Wavlm *wavlm;
    const TensorFiles *files; /* null: the weights are drawn */
    const char *prefix;
    bool measuring;
    float *staging, *reordered; /* host, as large as the largest tensor */
    int64_t largest;
    uint64_t seed; /* of drawn weights, and the number of the next tensor to be drawn */
    int32_t drawn;
    Error *err;
} Loader;

enum { NAME_MAX_BYTES = 160, FIRST_DRAWN = 1 << 20 /* past the LLM's */ };

static void full_name(const Loader *loader, char *out, const char *name) {
    snprintf(out, NAME_MAX_BYTES, "%s%s", loader->prefix, name);
}

static bool stored_as(const Loader *loader, const char *name, int dims, const int64_t *shape) {
    const StoredTensor *stored = tensors_find(loader->files, name);
    bool same = stored && stored->dims == dims;
    for (int i = 0; same && i < dims; i++) same = stored->shape[i] == shape[i];
    return same;
}

/* Reads a stored tensor to the staging buffer, refusing numbers that are not finite. While measuring only
 * looks whether it is there, so that no memory is asked for that the file does not fill. */
static bool read_floats(Loader *loader, const char *name, int dims, const int64_t *shape) {
    char full[NAME_MAX_BYTES];
    if (!loader->files) return true;
    full_name(loader, full, name);
    bool looking = loader->measuring || device_plans(loader->wavlm->dev);
    if (looking && stored_as(loader, full, dims, shape)) return true;
    if (!tensors_read(loader->files, full, dims, shape, loader->staging, loader->err)) return false;
    tensors_release(tensors_find(loader->files, full));
    int64_t count = 1;
    for (int i = 0; i < dims; i++) count *= shape[i];
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(loader->staging[i]))
            return fail(loader->err, "tensor %s: element %" PRId64 " is not finite: the file is damaged", full, i);
    return true;
}

static bool upload(Loader *loader, Tensor to, const float *from) {
    if (loader->measuring) return true;
    if (!loader->files) return draw_weights(loader->wavlm->dev, to, loader->seed, loader->drawn++, loader->err);
    size_t count = (size_t)(to.rows * to.cols);
    Device *dev = loader->wavlm->dev;
    if (to.dtype == DTYPE_F32) return device_upload(dev, to.data, from, count * sizeof(float), loader->err);
    uint16_t *narrow = memory_new(count, sizeof *narrow, loader->err);
    if (!narrow) return false;
    for (size_t i = 0; i < count; i++) narrow[i] = f32_to_bf16(from[i]);
    bool ok = device_upload(dev, to.data, narrow, count * sizeof *narrow, loader->err) && device_wait(dev, loader->err);
    free(narrow);
    return ok;
}

static void take(Loader *loader, Tensor *tensor, const char *name, int64_t rows, int64_t cols) {
    DType dtype = device_dtype(loader->wavlm->dev);
    *tensor = tensor_of(arena_take(&loader->wavlm->weights, name, dtype, rows, cols), dtype, rows, cols);
    if (rows * cols > loader->largest) loader->largest = rows * cols;
}

/* Rows from `first` of a taken tensor from a stored matrix. */
static bool fill(Loader *loader, Tensor tensor, int64_t first, int64_t rows, const char *name) {
    const int64_t shape[] = {rows, tensor.cols};
    Tensor part = loader->measuring ? tensor : tensor_rows(tensor, first, rows);
    return read_floats(loader, name, 2, shape) && upload(loader, part, loader->staging);
}

/* Elements from `first` of a taken vector from a stored one. */
static bool fill_vector(Loader *loader, Tensor tensor, int64_t first, int64_t count, const char *name) {
    Tensor part = loader->measuring ? tensor : tensor_cols(tensor, first, count);
    return read_floats(loader, name, 1, &count) && upload(loader, part, loader->staging);
}

static bool matrix(Loader *loader, Tensor *tensor, const char *name, int64_t rows, int64_t cols) {
    take(loader, tensor, name, rows, cols);
    return fill(loader, *tensor, 0, rows, name);
}

static bool vector(Loader *loader, Tensor *tensor, const char *name, int64_t count) {
    take(loader, tensor, name, 1, count);
    return fill_vector(loader, *tensor, 0, count, name);
}

/* STEM.weight and STEM.bias. */
static bool linear(Loader *loader, Tensor *weight, Tensor *bias, const char *stem, int64_t rows, int64_t cols) {
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (!matrix(loader, weight, name, rows, cols)) return false;
    snprintf(name, sizeof name, "%s.bias", stem);
    return vector(loader, bias, name, rows);
}

static bool norm(Loader *loader, Tensor *gamma, Tensor *beta, const char *stem, int64_t count) {
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (!vector(loader, gamma, name, count)) return false;
    if (!loader->files && !loader->measuring && !draw_ones(loader->wavlm->dev, *gamma, loader->err)) return false;
    snprintf(name, sizeof name, "%s.bias", stem);
    return vector(loader, beta, name, count);
}

/* [out, in, taps] as stored to [out, taps · in]. */
static void taps_outermost(const float *from, float *to, int64_t out, int64_t in, int64_t taps) {
    for (int64_t o = 0; o < out; o++)
        for (int64_t c = 0; c < in; c++)
            for (int64_t j = 0; j < taps; j++) to[(o * taps + j) * in + c] = from[(o * in + c) * taps + j];
}

static bool load_conv(Loader *loader, int i) {
    const WavlmConfig *config = &loader->wavlm->config;
    WavlmConv *conv = &loader->wavlm->conv[i];
    char name[NAME_MAX_BYTES];
    const int64_t in = i ? config->conv_dim[i - 1] : 1, out = config->conv_dim[i], taps = config->conv_kernel[i];
    const int64_t shape[] = {out, in, taps};
    snprintf(name, sizeof name, "feature_extractor.conv_layers.%d.conv.weight", i);
    take(loader, &conv->weight, name, out, taps * in);
    if (!read_floats(loader, name, 3, shape)) return false;
    if (!loader->measuring) taps_outermost(loader->staging, loader->reordered, out, in, taps);
    if (!upload(loader, conv->weight, loader->reordered)) return false;
    snprintf(name, sizeof name, "feature_extractor.conv_layers.%d.conv.bias", i);
    if (config->conv_bias && !vector(loader, &conv->bias, name, out)) return false;
    if (i && !config->conv_layer_norm) return true;
    snprintf(name, sizeof name, "feature_extractor.conv_layers.%d.layer_norm", i);
    return norm(loader, &conv->gamma, &conv->beta, name, out);
}

/* Weight norm over the taps (dim 2): W[o, c, j] = g[j] · V[o, c, j] / ‖V[:, :, j]‖, here in place. */
static void fold_weight_norm(float *v, const float *g, int64_t pairs, int64_t taps) {
    for (int64_t j = 0; j < taps; j++) {
        double squares = 0;
        for (int64_t p = 0; p < pairs; p++) squares += (double)v[p * taps + j] * (double)v[p * taps + j];
        double scale = squares > 0 ? (double)g[j] / sqrt(squares) : 0;
        for (int64_t p = 0; p < pairs; p++) v[p * taps + j] = (float)((double)v[p * taps + j] * scale);
    }
}

static bool load_pos(Loader *loader) {
    static const char *const names[2][2] = {
        {"encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.weight_v"},
        {"encoder.pos_conv_embed.conv.parametrizations.weight.original0",
         "encoder.pos_conv_embed.conv.parametrizations.weight.original1"}};
    Wavlm *wavlm = loader->wavlm;
    const int64_t hidden = wavlm->config.hidden, width = hidden / wavlm->config.pos_groups,
                  taps = wavlm->config.pos_kernel;
    const int64_t g_shape[] = {1, 1, taps}, v_shape[] = {hidden, width, taps};
    char old[NAME_MAX_BYTES];
    full_name(loader, old, names[0][0]);
    const char *const *name = names[loader->files && !tensors_find(loader->files, old)];
    float g[POS_KERNEL_MAX];
    take(loader, &wavlm->pos, "encoder.pos_conv_embed.conv.weight", hidden, taps * width);
    if (!read_floats(loader, name[0], 3, g_shape)) return false;
    if (!loader->measuring) memcpy(g, loader->staging, (size_t)taps * sizeof *g);
    if (!read_floats(loader, name[1], 3, v_shape)) return false;
    if (!loader->measuring) {
        fold_weight_norm(loader->staging, g, hidden * width, taps);
        taps_outermost(loader->staging, loader->reordered, hidden, width, taps);
    }
    return upload(loader, wavlm->pos, loader->reordered) &&
           vector(loader, &wavlm->pos_bias, "encoder.pos_conv_embed.conv.bias", hidden);
}

static bool load_qkv(Loader *loader, WavlmLayer *layer, int i) {
    static const char *const part[] = {"q", "k", "v"};
    const int64_t hidden = loader->wavlm->config.hidden;
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "encoder.layers.%d.attention.qkv_proj.weight", i);
    take(loader, &layer->qkv, name, 3 * hidden, hidden);
    snprintf(name, sizeof name, "encoder.layers.%d.attention.qkv_proj.bias", i);
    take(loader, &layer->qkv_bias, name, 1, 3 * hidden);
    for (int p = 0; p < 3; p++) {
        snprintf(name, sizeof name, "encoder.layers.%d.attention.%s_proj.weight", i, part[p]);
        if (!fill(loader, layer->qkv, p * hidden, hidden, name)) return false;
        snprintf(name, sizeof name, "encoder.layers.%d.attention.%s_proj.bias", i, part[p]);
        if (!fill_vector(loader, layer->qkv_bias, p * hidden, hidden, name)) return false;
    }
    return true;
}

static bool load_gate(Loader *loader, WavlmLayer *layer, int i) {
    const WavlmConfig *config = &loader->wavlm->config;
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "encoder.layers.%d.attention.gru_rel_pos_linear", i);
    if (!linear(loader, &layer->gate, &layer->gate_bias, name, 8, config->hidden / config->heads)) return false;
    snprintf(name, sizeof name, "encoder.layers.%d.attention.gru_rel_pos_const", i);
    take(loader, &layer->gate_scale, name, 1, config->heads);
    const int64_t shape[] = {1, config->heads, 1, 1};
    return read_floats(loader, name, 4, shape) && upload(loader, layer->gate_scale, loader->staging);
}

static bool load_layer(Loader *loader, int i) {
    const WavlmConfig *config = &loader->wavlm->config;
    WavlmLayer *layer = &loader->wavlm->layers[i];
    const int64_t hidden = config->hidden, ffn = config->ffn;
    char name[6][NAME_MAX_BYTES];
    static const char *const stem[] = {"attention.out_proj", "feed_forward.intermediate_dense",
                                       "feed_forward.output_dense", "layer_norm", "final_layer_norm"};
    for (int s = 0; s < 5; s++) snprintf(name[s], sizeof name[s], "encoder.layers.%d.%s", i, stem[s]);
    return load_qkv(loader, layer, i) && load_gate(loader, layer, i) &&
           linear(loader, &layer->out, &layer->out_bias, name[0], hidden, hidden) &&
           linear(loader, &layer->in, &layer->in_bias, name[1], ffn, hidden) &&
           linear(loader, &layer->down, &layer->down_bias, name[2], hidden, ffn) &&
           norm(loader, &layer->gamma1, &layer->beta1, name[3], hidden) &&
           norm(loader, &layer->gamma2, &layer->beta2, name[4], hidden);
}

static bool load_all(Loader *loader) {
    Wavlm *wavlm = loader->wavlm;
    const WavlmConfig *config = &wavlm->config;
    const int64_t last = config->conv_dim[config->convs - 1], hidden = config->hidden;
    for (int i = 0; i < config->convs; i++)
        if (!load_conv(loader, i)) return false;
    if (!norm(loader, &wavlm->feature_gamma, &wavlm->feature_beta, "feature_projection.layer_norm", last) ||
        !linear(loader, &wavlm->projection, &wavlm->projection_bias, "feature_projection.projection", hidden, last) ||
        !load_pos(loader) || !norm(loader, &wavlm->gamma, &wavlm->beta, "encoder.layer_norm", hidden))
        return false;
    for (int i = 0; i < config->layers; i++)
        if (!load_layer(loader, i)) return false;
    return true;
}

/* The relative position embedding, owned by layer 0 and used by all. It stays on the host, where the
 * table of a plan is made from it. */
static bool load_relative(Loader *loader) {
    Wavlm *wavlm = loader->wavlm;
    const int64_t shape[] = {wavlm->config.buckets, wavlm->config.heads};
    size_t count = (size_t)(shape[0] * shape[1]);
    if (!read_floats(loader, "encoder.layers.0.attention.rel_attn_embed.weight", 2, shape)) return false;
    if (loader->measuring) return true;
    wavlm->relative = memory_new(count, sizeof *wavlm->relative, loader->err);
    if (wavlm->relative) memcpy(wavlm->relative, loader->staging, count * sizeof *wavlm->relative);
    return wavlm->relative != NULL;
}

static bool load_files(Wavlm *wavlm, const TensorFiles *files, uint64_t seed, Error *err) {
    Loader loader = {.wavlm = wavlm,
                     .files = files,
                     .prefix = "",
                     .measuring = true,
                     .seed = seed,
                     .drawn = FIRST_DRAWN,
                     .err = err};
    if (files && tensors_find(files, "wavlm.feature_projection.layer_norm.weight")) loader.prefix = "wavlm.";
    Arena *weights = &wavlm->weights;
    weights->name = "encoder weights";
    loader.largest = (int64_t)wavlm->config.buckets * wavlm->config.heads;
    if (!load_all(&loader) || !load_relative(&loader) || !arena_check(weights, err)) return false;
    loader.staging = memory_new((size_t)loader.largest, sizeof(float), err);
    loader.reordered = loader.staging ? memory_new((size_t)loader.largest, sizeof(float), err) : NULL;
    weights->base = loader.reordered ? device_alloc(wavlm->dev, weights->used, err) : NULL;
    weights->size = weights->used;
    arena_reset(weights);
    loader.measuring = false;
    bool ok = weights->base && load_all(&loader) && arena_check(weights, err) && load_relative(&loader);
    free(loader.staging);
    free(loader.reordered);
    return ok;
}

static bool load(Wavlm *wavlm, const char *folder, bool drawn, uint64_t seed, Error *err) {
    wavlm->layers = memory_new((size_t)wavlm->config.layers, sizeof *wavlm->layers, err);
    TensorFiles *files = wavlm->layers && !drawn ? tensors_open(folder, err) : NULL;
    bool ok = wavlm->layers && (files || drawn) && load_files(wavlm, files, seed, err);
    tensors_close(files);
    return ok || fail_in(err, "encoder %s", folder);
}

static bool open_folder(Wavlm *wavlm, Device *dev, const char *folder, Toggle normalize, bool drawn, uint64_t seed,
                        Error *err) {
    *wavlm = (Wavlm){.dev = dev};
    if (!wavlm_config_read(&wavlm->config, folder, err)) return false;
    if (normalize != TOGGLE_AUTO) wavlm->config.normalize = normalize == TOGGLE_ON;
    if (load(wavlm, folder, drawn, seed, err)) return true;
    wavlm_close(wavlm);
    return false;
}

bool wavlm_open(Wavlm *wavlm, Device *dev, const char *folder, Toggle normalize, Error *err) {
    return open_folder(wavlm, dev, folder, normalize, false, 0, err);
}

bool wavlm_open_drawn(Wavlm *wavlm, Device *dev, const char *folder, Toggle normalize, uint64_t seed, Error *err) {
    return open_folder(wavlm, dev, folder, normalize, true, seed, err);
}

void wavlm_close(Wavlm *wavlm) {
    if (wavlm->dev) device_free(wavlm->dev, wavlm->weights.base);
    arena_free(&wavlm->weights);
    free(wavlm->layers);
    free(wavlm->relative);
    *wavlm = (Wavlm){0};
}
