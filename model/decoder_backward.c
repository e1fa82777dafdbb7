/* Backward through the layers: LoRA gradients, and the gradient of the residual stream in acts->dx.
 * What is cheap is computed again: the MLP's product, Qwen3's rotated queries, norm outputs where they are read. What
 * LoRA wants of the MLP's product and its gradients comes of the one op that makes them. */
#include "model/decoder_internal.h"

/* What projections read: x, or RMSNorm's output of it. */
typedef struct Input {
    Tensor x, gamma, rstd;
} Input;

static Input plain(Tensor x) { return (Input){.x = x}; }

static Input normed(Tensor x, Tensor gamma, Tensor rstd) { return (Input){x, gamma, tensor_rows(rstd, 0, x.rows)}; }

/* A projection's pair's gradients; absent where it has none. */
static Tensor gradient_of(const Decoder *decoder, int layer, int projection, bool of_b) {
    if (!decoder->params || !decoder->lora.modules[layer][projection].rank) return (Tensor){0};
    const LoraModule *module = &decoder->lora.modules[layer][projection];
    return decoder->params->items[of_b ? module->b : module->a].grad;
}

/* How projections of one input, whose outputs' gradients are columns of dy, go back to dx. */
static LinearBackwardArgs group_back(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int first,
                                     Tensor dy, Tensor dx) {
    LinearBackwardArgs args = {.weight = group_weight(&decoder->layers[layer], first),
                               .tail = group_tail(decoder, layer, first),
                               .low = group_low(decoder, acts, layer, first, dy.rows),
                               .dy = dy,
                               .dx = dx};
    group_loras(decoder, acts, pass, layer, first, args.lora);
    return args;
}

/* Whose A's gradients come of the input. */
static void want_a(const Decoder *decoder, int layer, int first, Input in, LinearBackwardArgs *args) {
    args->x = in.x, args->gamma = in.gamma, args->rstd = in.rstd;
    for (int i = 0; i < group_size(first); i++) args->da[i] = gradient_of(decoder, layer, first + i, false);
}

static void want_b(const Decoder *decoder, int layer, int first, LinearBackwardArgs *args) {
    for (int i = 0; i < group_size(first); i++) args->db[i] = gradient_of(decoder, layer, first + i, true);
}

/* Projections with all of their LoRA's gradients. */
static bool project_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int first, Input in,
                         Tensor dy, Tensor dx, Error *err) {
    LinearBackwardArgs args = group_back(decoder, acts, pass, layer, first, dy, dx);
    want_a(decoder, layer, first, in, &args);
    want_b(decoder, layer, first, &args);
    return RUN(decoder, linear_backward, &args, err);
}

/* dx becomes the gradient through the norm (of dy) plus that which bypasses it (dx itself where `add`). */
static bool norm_back(Decoder *decoder, Tensor x, Tensor gamma, Tensor rstd, Tensor dy, Tensor dx, bool add,
                      Error *err) {
    RmsNormBackwardArgs args = {.x = x,
                                .gamma = gamma,
                                .rstd = tensor_rows(rstd, 0, x.rows),
                                .dy = dy,
                                .groups = 1,
                                .dx = dx,
                                .residual_grad = add ? dx : (Tensor){0}};
    return RUN(decoder, rms_norm_backward, &args, err);
}

/* Room for the inner rows of the gradient of a group's outputs. */
static Tensor group_dlow(const Decoder *decoder, Tensor room, int layer, int first, int64_t n) {
    int rank = group_rank(decoder, layer, first);
    return rank ? tensor_of(room.data, room.dtype, n, rank) : (Tensor){0};
}

/* The down projection, whose pair's A is left to gated_unit_back. */
static bool down_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Tensor dx, Tensor dprod,
                      Error *err) {
    LinearBackwardArgs args = group_back(decoder, acts, pass, layer, PROJ_DOWN, dx, dprod);
    want_b(decoder, layer, PROJ_DOWN, &args);
    args.dlow = group_dlow(decoder, acts->down_dlow, layer, PROJ_DOWN, dx.rows);
    return RUN(decoder, linear_backward, &args, err);
}

/* gate_up becomes its own gradient; all of LoRA that meets it or the product, but for gate's and up's A. */
static bool gated_unit_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Tensor dprod,
                            Tensor gate_up, Error *err) {
    int64_t n = dprod.rows;
    Tensor gate = projection_part(decoder, gate_up, PROJ_GATE), up = projection_part(decoder, gate_up, PROJ_UP);
    Lora down[LINEAR_PARTS], outputs[LINEAR_PARTS];
    group_loras(decoder, acts, pass, layer, PROJ_DOWN, down);
    group_loras(decoder, acts, pass, layer, PROJ_GATE, outputs);
    SwigluBackwardArgs args = {.gate = gate, .up = up, .dy = dprod, .dgate = gate, .dup = up};
    args.down.lora = down[0];
    args.down.dlow = group_dlow(decoder, acts->down_dlow, layer, PROJ_DOWN, n);
    args.down.da = gradient_of(decoder, layer, PROJ_DOWN, false);
    args.gate_up.low = group_low(decoder, acts, layer, PROJ_GATE, n);
    args.gate_up.dlow = group_dlow(decoder, acts->gate_dlow, layer, PROJ_GATE, n);
    for (int i = 0; i < 2; i++) {
        args.gate_up.lora[i] = outputs[i];
        args.gate_up.db[i] = gradient_of(decoder, layer, PROJ_GATE + i, true);
    }
    return RUN(decoder, swiglu_backward, &args, err);
}

/* Gate's and up's projections, whose pairs' B gated_unit_back has seen to. */
static bool gate_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Input in, Tensor gate_up,
                      Tensor dnormed, Error *err) {
    LinearBackwardArgs args = group_back(decoder, acts, pass, layer, PROJ_GATE, gate_up, dnormed);
    want_a(decoder, layer, PROJ_GATE, in, &args);
    args.dlow = group_dlow(decoder, acts->gate_dlow, layer, PROJ_GATE, gate_up.rows);
    args.dlow_known = tensor_present(args.dlow);
    return RUN(decoder, linear_backward, &args, err);
}

/* From the layer's output back to attention's: dx is the stream's gradient on both ends. */
static bool mlp_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Tensor dx, Tensor datt,
                     Error *err) {
    const LayerActs *la = &acts->layers[layer];
    Tensor mid = tensor_rows(la->mid, 0, dx.rows);
    Tensor dnormed = tensor_rows(acts->dnormed, 0, dx.rows), gate_up = tensor_rows(la->gate_up, 0, dx.rows);
    Tensor att = tensor_rows(layer_last(decoder, layer) ? acts->last_att : la->att, 0, dx.rows);
    Tensor gamma = decoder->layers[layer].post_norm, dprod = tensor_rows(acts->dprod, 0, dx.rows);
    return down_back(decoder, acts, pass, layer, dx, dprod, err) &&
           gated_unit_back(decoder, acts, pass, layer, dprod, gate_up, err) &&
           gate_back(decoder, acts, pass, layer, normed(mid, gamma, la->mid_rstd), gate_up, dnormed, err) &&
           norm_back(decoder, mid, gamma, la->mid_rstd, dnormed, dx, true, err) &&
           project_back(decoder, acts, pass, layer, PROJ_O, plain(att), dx, datt, err);
}

static bool heads_back(Decoder *decoder, Tensor raw, Tensor gamma, Tensor rstd, int heads, Tensor dx, Error *err) {
    RmsNormBackwardArgs args = {
        .x = raw, .gamma = gamma, .rstd = tensor_rows(rstd, 0, raw.rows), .dy = dx, .groups = heads, .dx = dx};
    return RUN(decoder, rms_norm_backward, &args, err);
}

/* Through Qwen3's norms of q and k, where there are. */
static bool head_norms_back(Decoder *decoder, const Acts *acts, int layer, Tensor dqkv, Error *err) {
    const DecoderConfig *c = &decoder->config;
    const LayerActs *la = &acts->layers[layer];
    const LayerWeights *w = &decoder->layers[layer];
    Tensor dq = projection_part(decoder, dqkv, PROJ_Q), dk = projection_part(decoder, dqkv, PROJ_K);
    if (!c->qk_norm) return true;
    Tensor raw = tensor_rows(la->qkv, 0, dqkv.rows);
    return heads_back(decoder, projection_part(decoder, raw, PROJ_Q), w->q_norm, la->q_rstd, c->heads, dq, err) &&
           heads_back(decoder, projection_part(decoder, raw, PROJ_K), w->k_norm, la->k_rstd, c->kv_heads, dk, err);
}

/* Qwen3's q and k as attention read them: computed again from the projections. */
static bool turned_again(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err) {
    return !decoder->config.qk_norm || turn_queries(decoder, acts, pass, layer, err);
}

static bool attention_back(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Tensor datt, Tensor dx,
                           Error *err) {
    const LayerActs *la = &acts->layers[layer];
    int64_t n = pass->n;
    Tensor x = tensor_rows(la->x, 0, n);
    Tensor dnormed = tensor_rows(acts->dnormed, 0, n), dqkv = tensor_rows(acts->dqkv, 0, n);
    Tensor gamma = decoder->layers[layer].input_norm;
    AttentionBackwardArgs args = {.forward = attention_args(decoder, acts, pass, layer),
                                  .dout = datt,
                                  .dq = projection_part(decoder, dqkv, PROJ_Q),
                                  .dk = projection_part(decoder, dqkv, PROJ_K),
                                  .dv = projection_part(decoder, dqkv, PROJ_V),
                                  .rope = decoder->rope,
                                  .position = acts->position};
    return turned_again(decoder, acts, pass, layer, err) && RUN(decoder, attention_backward, &args, err) &&
           head_norms_back(decoder, acts, layer, dqkv, err) &&
           project_back(decoder, acts, pass, layer, PROJ_Q, normed(x, gamma, la->x_rstd), dqkv, dnormed, err) &&
           norm_back(decoder, x, gamma, la->x_rstd, dnormed, dx, true, err);
}

static bool zero(Decoder *decoder, Tensor t, Error *err) {
    size_t bytes = (size_t)(t.rows * t.ld) * dtype_size(t.dtype);
    return decoder->planning || device_fill_zero(decoder->dev, t.data, bytes, err);
}

/* Spreads response rows' gradients over all rows, zeros elsewhere. */
static bool spread(Decoder *decoder, const Acts *acts, Tensor rows, Tensor to, Error *err) {
    return zero(decoder, to, err) &&
           RUN(decoder, scatter_rows, (&(ScatterRowsArgs){.x = rows, .index = acts->rows, .y = to}), err);
}

/* The last layer's MLP and output projection, for response rows alone. */
static bool last_rows_back(Decoder *decoder, const Acts *acts, const Pass *pass, Tensor dx, Tensor datt, Error *err) {
    int last = decoder->config.layers - 1;
    int64_t n = pass->responses;
    Tensor out = tensor_rows(acts->last_out, 0, n), rows = tensor_rows(acts->dlast, 0, n);
    Tensor datt_rows = tensor_rows(acts->dlast_att, 0, n);
    return norm_back(decoder, out, decoder->norm, acts->final_rstd, tensor_rows(acts->dfinal, 0, n), rows, false,
                     err) &&
           mlp_back(decoder, acts, pass, last, rows, datt_rows, err) && spread(decoder, acts, rows, dx, err) &&
           spread(decoder, acts, datt_rows, datt, err);
}

bool pass_backward(Decoder *decoder, Acts *acts, const Pass *pass, Error *err) {
    Tensor dx = tensor_rows(acts->dx, 0, pass->n), datt = tensor_rows(acts->datt, 0, pass->n);
    if (pass->responses == 0) return zero(decoder, dx, err);
    for (int l = decoder->config.layers - 1; l >= 0; l--) {
        bool last = layer_last(decoder, l);
        if (last ? !last_rows_back(decoder, acts, pass, dx, datt, err)
                 : !mlp_back(decoder, acts, pass, l, dx, datt, err))
            return false;
        if (!attention_back(decoder, acts, pass, l, datt, dx, err)) return false;
    }
    return true;
}
