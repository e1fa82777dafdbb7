/* A step over packed sequences: layout, forward, loss, backward; and the decoder's LoRA. */
#include "model/decoder.h"

#include <math.h>
#include <stdlib.h>

#include "model/decoder_internal.h"

/* ---- LoRA ---- */

/* Names and sizes of one projection's parameters, [r, in] and [out, r], as PEFT calls them. */
static bool declare_module(Decoder *decoder, int layer, int projection, Error *err) {
    LoraModule *module = &decoder->lora.modules[layer][projection];
    const DecoderConfig *c = &decoder->config;
    int64_t q = decoder->q_width, kv = decoder->kv_width, d = c->hidden, f = c->ffn;
    const int64_t in[PROJECTIONS] = {d, d, d, q, d, d, f}, out[PROJECTIONS] = {q, kv, kv, d, f, f, d};
    int64_t narrow = in[projection] < out[projection] ? in[projection] : out[projection];
    char a[160], b[160];
    if (!module->rank) return true;
    if (module->rank > 4 * narrow)
        return fail_usage(err, "LoRA's rank %d makes no sense for %s, which is a %lld x %lld matrix", module->rank,
                          projection_name(projection), (long long)out[projection], (long long)in[projection]);
    lora_names(layer, projection, a, b);
    module->a = params_add(decoder->params, a, PARAM_LORA, 2, module->rank, in[projection], true, err);
    module->b =
        module->a < 0 ? -1 : params_add(decoder->params, b, PARAM_LORA, 2, out[projection], module->rank, true, err);
    return module->b >= 0;
}

static bool declare(Decoder *decoder, uint64_t seed, Params *params, Error *err) {
    decoder->params = params;
    decoder->seed = seed;
    for (int l = 0; l < decoder->config.layers; l++)
        for (int p = 0; p < PROJECTIONS; p++)
            if (!declare_module(decoder, l, p, err)) return false;
    return true;
}

bool decoder_lora_declare(Decoder *decoder, const LoraConfig *config, uint64_t seed, Params *params, Error *err) {
    lora_plan_free(&decoder->lora);
    return lora_plan(&decoder->lora, config, decoder->config.layers, err) && declare(decoder, seed, params, err);
}

bool decoder_lora_declare_from(Decoder *decoder, const char *folder, uint64_t seed, Params *params, Error *err) {
    lora_plan_free(&decoder->lora);
    return lora_plan_read(&decoder->lora, folder, decoder->config.layers, err) && declare(decoder, seed, params, err);
}

static bool init_tensor(const Decoder *decoder, int index, bool zero, Error *err) {
    const Tensor t = decoder->params->items[index].value;
    int64_t count = t.rows * t.cols;
    float *host = memory_new((size_t)count, sizeof *host, err);
    if (!host) return false;
    Rng rng = rng_stream(decoder->seed, PLACE_INIT, (uint32_t)index, 0);
    float bound = 1.0f / sqrtf((float)t.cols);
    for (int64_t i = 0; !zero && i < count; i++) host[i] = (2.0f * rng_uniform(rng_next(&rng)) - 1.0f) * bound;
    bool ok = params_set(decoder->params, index, host, err);
    free(host);
    return ok;
}

bool decoder_lora_init(Decoder *decoder, Error *err) {
    for (int l = 0; decoder->params && l < decoder->config.layers; l++)
        for (int p = 0; p < PROJECTIONS; p++) {
            const LoraModule *module = &decoder->lora.modules[l][p];
            if (module->rank &&
                (!init_tensor(decoder, module->a, false, err) || !init_tensor(decoder, module->b, true, err)))
                return false;
        }
    return true;
}

bool decoder_lora_save(const Decoder *decoder, const char *folder, Error *err) {
    if (!decoder->params) return fail(err, "%s: there is no LoRA to be saved", folder);
    return lora_save(&decoder->lora, decoder->params, folder, decoder->folder, err);
}

bool decoder_lora_load(Decoder *decoder, const char *folder, Error *err) {
    if (!decoder->params) return fail(err, "%s: the model was opened without LoRA", folder);
    return lora_load(&decoder->lora, decoder->params, folder, err);
}

/* ---- a step ---- */

bool decoder_layout(Decoder *decoder, Arena *arena, const DecoderLimits *limits, Error *err) {
    if (!acts_layout(decoder, &decoder->acts, arena, limits, err)) return false;
    if (!arena->base) return true;
    return arena_check(arena, err) && decoder_positions(decoder, limits->tokens, err) &&
           acts_reserve(decoder, &decoder->acts, NULL, err);
}

Tensor decoder_input(const Decoder *decoder, int64_t n) { return tensor_rows(decoder->acts.layers[0].x, 0, n); }

bool decoder_forward(Decoder *decoder, const DecoderBatch *batch, Error *err) {
    return acts_tables(decoder, &decoder->acts, batch, &decoder->pass, err) &&
           pass_forward(decoder, &decoder->acts, &decoder->pass, err);
}

static bool check_targets(const Decoder *decoder, const int32_t *targets, Error *err) {
    for (int64_t i = 0; i < decoder->pass.responses; i++)
        if (targets[i] < 0 || targets[i] >= decoder->config.vocab)
            return fail(err, "target %lld is %d; expected an id from 0 to %d", (long long)i, targets[i],
                        decoder->config.vocab - 1);
    return true;
}

bool decoder_loss(Decoder *decoder, const int32_t *targets, bool gradient, float loss_scale, float *row_loss,
                  Error *err) {
    Acts *acts = &decoder->acts;
    int64_t n = decoder->pass.responses;
    if (gradient && !acts->limits.training) return fail(err, "gradients were asked for of a layout without training");
    return check_targets(decoder, targets, err) &&
           device_upload(decoder->dev, acts->targets, targets, (size_t)n * sizeof *targets, err) &&
           rows_loss(decoder, acts, n, gradient, loss_scale, err) &&
           device_download(decoder->dev, row_loss, acts->row_loss.data, (size_t)n * sizeof *row_loss, err);
}

bool decoder_backward(Decoder *decoder, Tensor *d_input, Error *err) {
    if (d_input) *d_input = tensor_rows(decoder->acts.dx, 0, decoder->pass.n);
    return pass_backward(decoder, &decoder->acts, &decoder->pass, err);
}

bool decoder_logits(Decoder *decoder, int64_t first, int64_t count, float *logits, Error *err) {
    if (first < 0 || count < 0 || first + count > decoder->pass.responses)
        return fail(err, "logits of rows %lld to %lld were asked for; there are %lld", (long long)first,
                    (long long)(first + count), (long long)decoder->pass.responses);
    return rows_logits(decoder, &decoder->acts, first, count, logits, err);
}
