/* Opening a decoder: its weights from safetensors into one block of device memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/decoder_internal.h"
#include "model/draw.h"
#include "model/safetensors.h"

enum { STAGING = 1 << 18 }; /* floats converted and uploaded at a time */

/* The weights are walked twice: first, with no memory at the arena, every tensor's presence and shape
 * is checked, so that a config that fits no file never gets to ask for memory; then they are read. */
typedef struct Loader {
    Decoder *decoder;
    const TensorFiles *files; /* null: the weights are drawn */
    Arena arena;
    float *staging;
    uint64_t seed; /* of drawn weights, and how many tensors have been drawn */
    int32_t drawn;
    Error *err;
} Loader;

static void to_dtype(DType dtype, float *values, size_t count) {
    uint16_t *halves = (uint16_t *)values; /* in place: a half never lies past the float it came from */
    for (size_t i = 0; dtype != DTYPE_F32 && i < count; i++) {
        float value;
        memcpy(&value, values + i, sizeof value);
        uint16_t half = dtype == DTYPE_BF16 ? f32_to_bf16(value) : f32_to_f16(value);
        memcpy((char *)halves + 2 * i, &half, sizeof half);
    }
}

/* `count` stored values to memory without gaps. */
static bool upload_values(Loader *loader, DType stored, const char *from, DType dtype, char *to, size_t count) {
    Device *dev = loader->decoder->dev;
    if (stored == dtype) return device_upload(dev, to, from, count * dtype_size(dtype), loader->err);
    for (size_t at = 0; at < count; at += STAGING) {
        size_t some = count - at < STAGING ? count - at : STAGING;
        floats_from(stored, from + at * dtype_size(stored), loader->staging, some);
        to_dtype(dtype, loader->staging, some);
        if (!device_upload(dev, to + at * dtype_size(dtype), loader->staging, some * dtype_size(dtype), loader->err))
            return false;
    }
    return true;
}

/* `rows` stored rows to rows with gaps, which are zeroed, by way of an image of both in half of the staging. */
static bool upload_image(Loader *loader, DType stored, const char *from, Tensor to) {
    float *values = loader->staging;
    char *image = (char *)(loader->staging + STAGING / 2);
    size_t cols = (size_t)to.cols, size = dtype_size(to.dtype), row = (size_t)to.ld * size;
    memset(image, 0, (size_t)to.rows * row);
    for (int64_t r = 0; r < to.rows; r++) {
        floats_from(stored, from + (size_t)r * cols * dtype_size(stored), values, cols);
        to_dtype(to.dtype, values, cols);
        memcpy(image + (size_t)r * row, values, cols * size);
    }
    return device_upload(loader->decoder->dev, to.data, image, (size_t)to.rows * row, loader->err);
}

static bool upload(Loader *loader, const StoredTensor *stored, Tensor to) {
    size_t stored_row = (size_t)to.cols * dtype_size(stored->dtype);
    int64_t each = STAGING / 2 / to.ld; /* rows at a time */
    const char *from = stored->data;
    if (to.ld == to.cols)
        return upload_values(loader, stored->dtype, from, to.dtype, to.data, stored->bytes / dtype_size(stored->dtype));
    for (int64_t r = 0; r < to.rows; r += each ? each : 1) {
        Tensor some = tensor_rows(to, r, to.rows - r < each ? to.rows - r : each ? each : 1);
        const char *rows = from + (size_t)r * stored_row;
        if (!(each ? upload_image(loader, stored->dtype, rows, some)
                   : upload_values(loader, stored->dtype, rows, to.dtype, some.data, (size_t)to.cols)))
            return false;
    }
    return true;
}

static Tensor take(Loader *loader, const char *name, int64_t rows, int64_t cols) {
    DType dtype = device_dtype(loader->decoder->dev);
    return tensor_of(arena_take(&loader->arena, name, dtype, rows, cols), dtype, rows, cols);
}

/* A group's weights, with room for its LoRA. */
static Tensor take_group(Loader *loader, const char *name, int group, int64_t rows, int64_t cols) {
    int64_t room = loader->decoder->room[group];
    Tensor whole = take(loader, name, rows + room, cols + room);
    whole.rows = rows, whole.cols = cols;
    return whole;
}

static bool draw(Loader *loader, Tensor to, int dims, const char *name) {
    Device *dev = loader->decoder->dev;
    if (dims == 1 && strstr(name, "norm.weight")) return draw_ones(dev, to, loader->err);
    return draw_weights(dev, to, loader->seed, loader->drawn++, loader->err);
}

/* Rows first .. first + rows - 1 of `whole` from the tensor of this name; `dims` 1 for vectors [cols]. */
static bool fill(Loader *loader, Tensor whole, int64_t first, int64_t rows, int dims, const char *name) {
    int64_t shape[2] = {rows, whole.cols};
    if (!loader->files) return !loader->arena.base || draw(loader, tensor_rows(whole, first, rows), dims, name);
    if (dims == 1) shape[0] = whole.cols;
    const StoredTensor *stored = tensors_find(loader->files, name);
    bool fits = stored && stored->dims == dims && stored->shape[0] == shape[0] &&
                (dims == 1 || stored->shape[1] == shape[1]) &&
                (stored->dtype == DTYPE_F32 || stored->dtype == DTYPE_F16 || stored->dtype == DTYPE_BF16);
    if (!fits) return tensors_read(loader->files, name, dims, shape, NULL, loader->err); /* fails, saying why */
    bool reads = loader->arena.base && !device_plans(loader->decoder->dev);
    if (!reads) return true;
    bool ok = upload(loader, stored, tensor_rows(whole, first, rows));
    tensors_release(stored);
    return ok;
}

/* One weight: a slot and what fills it. */
static bool place(Loader *loader, Tensor *to, int dims, int64_t rows, int64_t cols, const char *name) {
    *to = take(loader, name, rows, cols);
    return fill(loader, *to, 0, rows, dims, name);
}

static bool place_layer_tensor(Loader *loader, Tensor *to, int layer, const char *part, int dims, int64_t rows,
                               int64_t cols) {
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
    return place(loader, to, dims, rows, cols, name);
}

typedef struct Part { /* of a fused matrix */
    const char *name;
    int64_t rows;
} Part;

static bool fill_parts(Loader *loader, Tensor whole, int layer, const Part *parts, int count, bool bias) {
    int64_t first = 0;
    for (int i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.%s.%s", layer, parts[i].name, bias ? "bias" : "weight");
        Tensor view = whole;
        if (bias) { /* a vector's parts lie in columns */
            view.cols = parts[i].rows;
            if (view.data) view = tensor_cols(whole, first, parts[i].rows);
        }
        if (!fill(loader, view, bias ? 0 : first, bias ? 1 : parts[i].rows, bias ? 1 : 2, name)) return false;
        first += parts[i].rows;
    }
    return true;
}

static bool place_attention(Loader *loader, LayerWeights *w, int layer) {
    const Decoder *decoder = loader->decoder;
    const DecoderConfig *c = &decoder->config;
    const Part parts[] = {{"self_attn.q_proj", decoder->q_width},
                          {"self_attn.k_proj", decoder->kv_width},
                          {"self_attn.v_proj", decoder->kv_width}};
    w->qkv = take_group(loader, "qkv", PROJ_Q, decoder->qkv_width, c->hidden);
    if (!fill_parts(loader, w->qkv, layer, parts, 3, false)) return false;
    if (c->qkv_bias) {
        w->qkv_bias = take(loader, "qkv bias", 1, decoder->qkv_width);
        if (!fill_parts(loader, w->qkv_bias, layer, parts, 3, true)) return false;
    }
    if (c->qk_norm && (!place_layer_tensor(loader, &w->q_norm, layer, "self_attn.q_norm.weight", 1, 1, c->head_dim) ||
                       !place_layer_tensor(loader, &w->k_norm, layer, "self_attn.k_norm.weight", 1, 1, c->head_dim)))
        return false;
    const Part o = {"self_attn.o_proj", c->hidden};
    w->o = take_group(loader, "o", PROJ_O, c->hidden, decoder->q_width);
    return fill_parts(loader, w->o, layer, &o, 1, false) &&
           (!c->o_bias || place_layer_tensor(loader, &w->o_bias, layer, "self_attn.o_proj.bias", 1, 1, c->hidden));
}

static bool place_mlp(Loader *loader, LayerWeights *w, int layer) {
    const DecoderConfig *c = &loader->decoder->config;
    const Part parts[] = {{"mlp.gate_proj", c->ffn}, {"mlp.up_proj", c->ffn}}, down = {"mlp.down_proj", c->hidden};
    w->gate_up = take_group(loader, "gate_up", PROJ_GATE, 2 * (int64_t)c->ffn, c->hidden);
    w->down = take_group(loader, "down", PROJ_DOWN, c->hidden, c->ffn);
    if (!fill_parts(loader, w->gate_up, layer, parts, 2, false) || !fill_parts(loader, w->down, layer, &down, 1, false))
        return false;
    if (!c->mlp_bias) return true;
    w->gate_up_bias = take(loader, "gate_up bias", 1, 2 * (int64_t)c->ffn);
    return fill_parts(loader, w->gate_up_bias, layer, parts, 2, true) &&
           place_layer_tensor(loader, &w->down_bias, layer, "mlp.down_proj.bias", 1, 1, c->hidden);
}

static bool place_all(Loader *loader) {
    Decoder *decoder = loader->decoder;
    const DecoderConfig *c = &decoder->config;
    if (!place(loader, &decoder->embed, 2, c->vocab, c->hidden, "model.embed_tokens.weight")) return false;
    for (int l = 0; l < c->layers; l++) {
        LayerWeights *w = &decoder->layers[l];
        if (!place_layer_tensor(loader, &w->input_norm, l, "input_layernorm.weight", 1, 1, c->hidden) ||
            !place_layer_tensor(loader, &w->post_norm, l, "post_attention_layernorm.weight", 1, 1, c->hidden) ||
            !place_attention(loader, w, l) || !place_mlp(loader, w, l))
            return false;
    }
    if (!place(loader, &decoder->norm, 1, 1, c->hidden, "model.norm.weight")) return false;
    if (!c->tied) return place(loader, &decoder->head, 2, c->vocab, c->hidden, "lm_head.weight");
    decoder->head = decoder->embed;
    return true;
}

static bool load(Decoder *decoder, bool drawn, uint64_t seed, Error *err) {
    Loader loader = {.decoder = decoder, .arena = {.name = "LLM weights"}, .err = err};
    TensorFiles *files = drawn ? NULL : tensors_open(decoder->folder, err);
    loader.files = files;
    loader.seed = seed;
    loader.staging = memory_new(STAGING, sizeof(float), err);
    bool ok = (files || drawn) && loader.staging && place_all(&loader);
    if (ok) {
        decoder->memory = device_alloc(decoder->dev, loader.arena.used, err);
        if (!decoder->memory) fail_in(err, "LLM %s", decoder->folder);
        decoder->memory_bytes = loader.arena.used;
        loader.arena.base = decoder->memory;
        loader.arena.size = loader.arena.used;
        arena_reset(&loader.arena);
        ok = decoder->memory && place_all(&loader) && arena_check(&loader.arena, err);
    }
    arena_free(&loader.arena);
    free(loader.staging);
    tensors_close(files);
    return ok;
}

/* Room for the LoRA to be declared, all of a group's. */
static void make_room(Decoder *decoder, const LoraConfig *lora) {
    static const int groups[] = {PROJ_Q, PROJ_O, PROJ_GATE, PROJ_DOWN};
    for (int g = 0; g < 4; g++) {
        int pairs = 0;
        for (int p = groups[g]; p < groups[g] + group_size(groups[g]); p++) pairs += (lora->targets >> p & 1) != 0;
        if (lora->rank > 0) decoder->room[groups[g]] = linear_tail(decoder->dev, (int64_t)lora->rank * pairs);
    }
}

Decoder *decoder_open_as(Device *dev, const char *folder, const DecoderOptions *options, Error *err) {
    Decoder *decoder = memory_new(1, sizeof *decoder, err);
    if (!decoder) return NULL;
    decoder->dev = dev;
    DecoderConfig *c = &decoder->config;
    bool ok = decoder_config_read(c, folder, err);
    decoder->folder = text_copy(folder, err);
    decoder->q_width = (int64_t)c->heads * c->head_dim;
    decoder->kv_width = (int64_t)c->kv_heads * c->head_dim;
    decoder->qkv_width = decoder->q_width + 2 * decoder->kv_width;
    if (ok) decoder->layers = memory_new((size_t)c->layers, sizeof *decoder->layers, err);
    make_room(decoder, &options->lora);
    if (ok && decoder->folder && decoder->layers && load(decoder, options->drawn, options->seed, err)) return decoder;
    decoder_close(decoder);
    return NULL;
}

Decoder *decoder_open(Device *dev, const char *folder, Error *err) {
    return decoder_open_as(dev, folder, &(DecoderOptions){0}, err);
}

void decoder_close(Decoder *decoder) {
    if (!decoder) return;
    acts_free(&decoder->acts);
    lora_plan_free(&decoder->lora);
    device_free(decoder->dev, decoder->rope.data);
    device_free(decoder->dev, decoder->memory);
    free(decoder->layers);
    free(decoder->folder);
    free(decoder);
}

const DecoderConfig *decoder_config(const Decoder *decoder) { return &decoder->config; }

/* The rotary frequency of pair i, scaled; llama3's rule leaves high frequencies, divides low ones and
 * goes smoothly between. */
static double frequency(const DecoderConfig *c, int i) {
    double f = pow(c->theta, -2.0 * i / c->head_dim);
    if (c->scaling == ROPE_LINEAR) return f / c->factor;
    if (c->scaling != ROPE_LLAMA3) return f;
    double wave = 2 * M_PI / f;
    if (wave < c->original_positions / c->high_freq) return f;
    if (wave > c->original_positions / c->low_freq) return f / c->factor;
    double m = (c->original_positions / wave - c->low_freq) / (c->high_freq - c->low_freq);
    return (1 - m) * f / c->factor + m * f;
}

/* Angles are products of floats, as transformers takes them. */
static void fill_rope(const DecoderConfig *c, int64_t positions, float *table) {
    int half = c->head_dim / 2;
    for (int i = 0; i < half; i++) {
        float f = (float)frequency(c, i);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * f;
            table[p * c->head_dim + i] = (float)cos((double)angle);
            table[p * c->head_dim + half + i] = (float)sin((double)angle);
        }
    }
}

/* A device that plans has no use for what would be in the table. */
static bool upload_rope(const Decoder *decoder, void *table, int64_t positions, Error *err) {
    size_t width = (size_t)decoder->config.head_dim * sizeof(float);
    if (device_plans(decoder->dev)) return true;
    float *host = memory_new((size_t)positions, width, err);
    if (host) fill_rope(&decoder->config, positions, host);
    bool ok = host && device_upload(decoder->dev, table, host, (size_t)positions * width, err);
    free(host);
    return ok;
}

bool decoder_positions(Decoder *decoder, int64_t positions, Error *err) {
    int dim = decoder->config.head_dim;
    if (positions <= decoder->rope.rows) return true;
    void *table = device_alloc(decoder->dev, (size_t)positions * (size_t)dim * sizeof(float), err);
    if (!table) return false;
    device_free(decoder->dev, decoder->rope.data);
    decoder->rope = tensor_of(table, DTYPE_F32, positions, dim);
    return upload_rope(decoder, table, positions, err);
}

bool decoder_embed(Decoder *decoder, const int32_t *ids, Tensor y, Error *err) {
    return op_gather_rows(decoder->dev, &(GatherRowsArgs){.x = decoder->embed, .index = ids, .y = y}, err);
}
