/* A trip through the layers, the loss and the logits of what leaves them. */
#include <math.h>

#include "model/decoder_internal.h"
#include "model/transfer.h"

bool layer_last(const Decoder *decoder, int layer) { return layer == decoder->config.layers - 1; }

/* ---- projections ---- */

/* Where a projection's outputs begin, and how many they are, in its fused matrix. */
static int64_t part_of(const Decoder *decoder, int projection, int64_t *width) {
    int64_t q = decoder->q_width, kv = decoder->kv_width, ffn = decoder->config.ffn, d = decoder->config.hidden;
    const int64_t first[PROJECTIONS] = {0, q, q + kv, 0, 0, ffn, 0};
    const int64_t widths[PROJECTIONS] = {q, kv, kv, d, ffn, ffn, d};
    *width = widths[projection];
    return first[projection];
}

Tensor projection_part(const Decoder *decoder, Tensor whole, int projection) {
    int64_t width, first = part_of(decoder, projection, &width);
    return tensor_cols(whole, first, width);
}

int group_size(int first) { return first == PROJ_Q ? 3 : first == PROJ_GATE ? 2 : 1; }

int group_rank(const Decoder *decoder, int layer, int first) {
    int rank = 0;
    for (int p = first; decoder->params && p < first + group_size(first); p++)
        rank += decoder->lora.modules[layer][p].rank;
    return rank;
}

/* What its linear layer uses of the room beside weights; its inputs, and their gradients, have as much. */
int64_t group_tail(const Decoder *decoder, int layer, int first) {
    int64_t tail = linear_tail(decoder->dev, group_rank(decoder, layer, first));
    return tail <= decoder->room[first] ? tail : 0;
}

Tensor group_weight(const LayerWeights *w, int first) {
    return first == PROJ_Q ? w->qkv : first == PROJ_O ? w->o : first == PROJ_GATE ? w->gate_up : w->down;
}

static Tensor group_bias(const LayerWeights *w, int first) {
    return first == PROJ_Q      ? w->qkv_bias
           : first == PROJ_O    ? w->o_bias
           : first == PROJ_GATE ? w->gate_up_bias
                                : w->down_bias;
}

static Lora projection_lora(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int projection) {
    const LoraModule *module = &decoder->lora.modules[layer][projection];
    const Param *params = decoder->params->items;
    bool responses = layer_last(decoder, layer) && projection >= PROJ_O;
    Dropout dropout = {.p = pass->dropout ? decoder->lora.dropout : 0,
                       .seed = decoder->seed,
                       .step = pass->step,
                       .place = (uint32_t)(PLACE_LORA + 8 * layer + projection),
                       .sample = responses ? acts->row_sample : acts->sample,
                       .position = responses ? acts->row_position : acts->position};
    return (Lora){
        .a = params[module->a].value, .b = params[module->b].value, .scale = module->scale, .dropout = dropout};
}

void group_loras(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int first,
                 Lora lora[LINEAR_PARTS]) {
    for (int i = 0; i < LINEAR_PARTS; i++) lora[i] = (Lora){0};
    for (int i = 0; i < group_size(first); i++) {
        part_of(decoder, first + i, &lora[i].b.rows);
        if (decoder->params && decoder->lora.modules[layer][first + i].rank)
            lora[i] = projection_lora(decoder, acts, pass, layer, first + i);
    }
}

Tensor group_low(const Decoder *decoder, const Acts *acts, int layer, int first, int64_t n) {
    Tensor low = acts->layers[layer].low[first];
    int rank = group_rank(decoder, layer, first);
    return rank ? tensor_of(low.data, low.dtype, n, rank) : (Tensor){0};
}

/* The projections of one input x into their columns of y, on top of the residual stream where that is given. */
static bool project(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int first, Tensor x,
                    Tensor residual, Tensor y, Error *err) {
    LinearArgs args = {.x = x,
                       .weight = group_weight(&decoder->layers[layer], first),
                       .bias = group_bias(&decoder->layers[layer], first),
                       .tail = group_tail(decoder, layer, first),
                       .residual = residual,
                       .y = y,
                       .low = group_low(decoder, acts, layer, first, x.rows)};
    group_loras(decoder, acts, pass, layer, first, args.lora);
    args.low_known = first == PROJ_DOWN && tensor_present(args.low);    /* of gated_unit */
    args.tail_kept = args.tail > 0 && pass->cache && pass->cache->step; /* of the prompt's pass */
    return RUN(decoder, linear, &args, err);
}

/* ---- attention ---- */

/* The tensor that holds q and k as attention reads them. */
static Tensor turned(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer) {
    return tensor_rows(decoder->config.qk_norm ? acts->rotated : acts->layers[layer].qkv, 0, pass->n);
}

static bool norm_heads(Decoder *decoder, Tensor x, Tensor gamma, int heads, Tensor rstd, Tensor y, Error *err) {
    if (tensor_present(rstd)) rstd = tensor_rows(rstd, 0, x.rows);
    RmsNormArgs args = {.x = x, .gamma = gamma, .eps = decoder->config.eps, .groups = heads, .y = y, .rstd = rstd};
    return RUN(decoder, rms_norm, &args, err);
}

static bool turn(Decoder *decoder, const Acts *acts, Tensor x, int heads, Error *err) {
    RopeArgs args = {.x = x, .position = acts->position, .table = decoder->rope, .heads = heads};
    args.dim = decoder->config.head_dim;
    return RUN(decoder, rope, &args, err);
}

/* Qwen3's norms of q and k where there are, then the rotation. */
bool turn_queries(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err) {
    const DecoderConfig *c = &decoder->config;
    const LayerActs *la = &acts->layers[layer];
    const LayerWeights *w = &decoder->layers[layer];
    Tensor raw = tensor_rows(la->qkv, 0, pass->n), to = turned(decoder, acts, pass, layer);
    Tensor q = projection_part(decoder, to, PROJ_Q), k = projection_part(decoder, to, PROJ_K);
    if (c->qk_norm &&
        (!norm_heads(decoder, projection_part(decoder, raw, PROJ_Q), w->q_norm, c->heads, la->q_rstd, q, err) ||
         !norm_heads(decoder, projection_part(decoder, raw, PROJ_K), w->k_norm, c->kv_heads, la->k_rstd, k, err)))
        return false;
    return turn(decoder, acts, q, c->heads, err) && turn(decoder, acts, k, c->kv_heads, err);
}

AttentionArgs attention_args(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer) {
    const DecoderConfig *c = &decoder->config;
    const LayerActs *la = &acts->layers[layer];
    Tensor qk = turned(decoder, acts, pass, layer);
    AttentionArgs args = {.q = projection_part(decoder, qk, PROJ_Q),
                          .k = projection_part(decoder, qk, PROJ_K),
                          .v = projection_part(decoder, tensor_rows(la->qkv, 0, pass->n), PROJ_V),
                          .queries = pass->segments,
                          .keys = pass->segments,
                          .heads = c->heads,
                          .kv_heads = c->kv_heads,
                          .dim = c->head_dim,
                          .scale = 1.0f / sqrtf((float)c->head_dim),
                          .causal = true,
                          .out = tensor_rows(la->att, 0, pass->n)};
    if (tensor_present(la->lse)) args.lse = tensor_rows(la->lse, 0, pass->n);
    return args;
}

static bool attend_cache(Decoder *decoder, const AttentionArgs *a, const Cache *cache, int layer, Error *err) {
    AttentionCachedArgs args = {.q = a->q,
                                .k_cache = cache->k[layer],
                                .v_cache = cache->v[layer],
                                .slot = cache->slot,
                                .length = cache->length,
                                .capacity = cache->capacity,
                                .longest = cache->longest,
                                .heads = a->heads,
                                .kv_heads = a->kv_heads,
                                .dim = a->dim,
                                .scale = a->scale,
                                .out = a->out};
    return RUN(decoder, attention_cached, &args, err);
}

static bool attend(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err) {
    AttentionArgs args = attention_args(decoder, acts, pass, layer);
    const Cache *cache = pass->cache;
    if (cache) {
        CacheAppendArgs append = {.k = args.k,
                                  .v = args.v,
                                  .slot = cache->slot,
                                  .position = acts->position,
                                  .capacity = cache->capacity,
                                  .k_cache = cache->k[layer],
                                  .v_cache = cache->v[layer]};
        if (!RUN(decoder, cache_append, &append, err)) return false;
        if (cache->step) return attend_cache(decoder, &args, cache, layer, err);
    }
    return RUN(decoder, attention, &args, err);
}

/* ---- layers ---- */

static bool norm(Decoder *decoder, Tensor x, Tensor gamma, Tensor rstd, Tensor y, Error *err) {
    if (tensor_present(rstd)) rstd = tensor_rows(rstd, 0, x.rows);
    RmsNormArgs args = {.x = x, .gamma = gamma, .eps = decoder->config.eps, .groups = 1, .y = y, .rstd = rstd};
    return RUN(decoder, rms_norm, &args, err);
}

/* The residual stream entering a layer. */
static Tensor stream_into(const Acts *acts, const Pass *pass, int layer) {
    return layer == 0 ? pass->input : tensor_rows(acts->layers[layer].x, 0, pass->n);
}

/* From the residual stream to attention's output. */
static bool attention_block(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err) {
    const LayerActs *la = &acts->layers[layer];
    Tensor normed = tensor_rows(acts->normed, 0, pass->n), none = {0};
    return norm(decoder, stream_into(acts, pass, layer), decoder->layers[layer].input_norm, la->x_rstd, normed, err) &&
           project(decoder, acts, pass, layer, PROJ_Q, normed, none, tensor_rows(la->qkv, 0, pass->n), err) &&
           turn_queries(decoder, acts, pass, layer, err) && attend(decoder, acts, pass, layer, err);
}

static bool gather(Decoder *decoder, Tensor x, const int32_t *index, Tensor y, Error *err) {
    return RUN(decoder, gather_rows, (&(GatherRowsArgs){.x = x, .index = index, .y = y}), err);
}

/* The MLP's product, and with it the down projection's inner rows. */
static bool gated_unit(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Tensor gate_up, Tensor y,
                       Error *err) {
    Lora lora[LINEAR_PARTS];
    group_loras(decoder, acts, pass, layer, PROJ_DOWN, lora);
    SwigluArgs args = {.gate = projection_part(decoder, gate_up, PROJ_GATE),
                       .up = projection_part(decoder, gate_up, PROJ_UP),
                       .y = y,
                       .down = lora[0],
                       .low = group_low(decoder, acts, layer, PROJ_DOWN, y.rows)};
    return RUN(decoder, swiglu, &args, err);
}

/* From attention's output to the residual stream that leaves the layer. Row by row, so the last layer does it for
 * response rows alone. */
static bool mlp_block(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err) {
    const LayerActs *la = &acts->layers[layer];
    bool last = layer_last(decoder, layer);
    int64_t n = last ? pass->responses : pass->n;
    Tensor att = tensor_rows(last ? acts->last_att : la->att, 0, n);
    Tensor stream = stream_into(acts, pass, layer), x = last ? tensor_rows(acts->last_x, 0, n) : stream;
    Tensor mid = tensor_rows(acts->limits.training || !last ? la->mid : acts->last_x, 0, n);
    Tensor out = tensor_rows(last ? acts->last_out : acts->layers[layer + 1].x, 0, n);
    Tensor normed = tensor_rows(acts->normed, 0, n), none = {0};
    Tensor gate_up = tensor_rows(la->gate_up, 0, n), prod = tensor_rows(acts->prod, 0, n);
    if (last && (!gather(decoder, tensor_rows(la->att, 0, pass->n), acts->rows, att, err) ||
                 !gather(decoder, stream, acts->rows, x, err)))
        return false;
    return project(decoder, acts, pass, layer, PROJ_O, att, x, mid, err) &&
           norm(decoder, mid, decoder->layers[layer].post_norm, la->mid_rstd, normed, err) &&
           project(decoder, acts, pass, layer, PROJ_GATE, normed, none, gate_up, err) &&
           gated_unit(decoder, acts, pass, layer, gate_up, prod, err) &&
           project(decoder, acts, pass, layer, PROJ_DOWN, prod, mid, out, err);
}

bool pass_forward(Decoder *decoder, Acts *acts, const Pass *pass, Error *err) {
    int last = decoder->config.layers - 1;
    for (int l = 0; l <= last; l++) {
        if (!attention_block(decoder, acts, pass, l, err)) return false;
        if (l == last && pass->responses == 0) return true;
        if (!mlp_block(decoder, acts, pass, l, err)) return false;
    }
    int64_t n = pass->responses;
    return norm(decoder, tensor_rows(acts->last_out, 0, n), decoder->norm, acts->final_rstd,
                tensor_rows(acts->final, 0, n), err);
}

/* ---- logits ---- */

bool chunk_logits(Decoder *decoder, const Acts *acts, int64_t first, int64_t n, Error *err) {
    LinearArgs args = {
        .x = tensor_rows(acts->final, first, n), .weight = decoder->head, .y = tensor_rows(acts->logits, 0, n)};
    return RUN(decoder, linear, &args, err);
}

bool rows_loss(Decoder *decoder, Acts *acts, int64_t responses, bool gradient, float scale, Error *err) {
    for (int64_t first = 0; first < responses; first += acts->chunk) {
        int64_t n = responses - first < acts->chunk ? responses - first : acts->chunk;
        CrossEntropyArgs loss = {.logits = tensor_rows(acts->logits, 0, n),
                                 .target = acts->targets + first,
                                 .scale = scale,
                                 .gradient = gradient,
                                 .row_loss = tensor_cols(acts->row_loss, first, n)};
        if (!chunk_logits(decoder, acts, first, n, err) || !RUN(decoder, cross_entropy, &loss, err)) return false;
        if (!gradient) continue;
        LinearBackwardArgs back = {
            .weight = decoder->head, .dy = loss.logits, .dx = tensor_rows(acts->dfinal, first, n)};
        if (!RUN(decoder, linear_backward, &back, err)) return false;
    }
    return true;
}

bool rows_logits(Decoder *decoder, Acts *acts, int64_t first, int64_t count, float *logits, Error *err) {
    int64_t vocab = decoder->config.vocab;
    for (int64_t done = 0; done < count; done += acts->chunk) {
        int64_t n = count - done < acts->chunk ? count - done : acts->chunk;
        if (!chunk_logits(decoder, acts, first + done, n, err) ||
            !floats_download(decoder->dev, tensor_rows(acts->logits, 0, n), logits + done * vocab, err))
            return false;
    }
    return true;
}
