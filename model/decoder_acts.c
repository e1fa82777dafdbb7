/* What a trip through the layers needs: activations in an arena, row tables, scratch. */
#include <stdlib.h>
#include <string.h>

#include "model/decoder_internal.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows of logits at a time: each chunk reads the whole head. */
static int64_t chunk_rows(const Device *dev, int64_t vocab, int64_t responses) {
    int64_t rows = device_chunk(dev) / vocab;
    return least(rows < 16 ? 16 : rows, responses);
}

typedef struct Layout {
    const Decoder *decoder;
    Arena *arena;
} Layout;

static Tensor take(const Layout *to, const char *name, int layer, DType dtype, int64_t rows, int64_t cols) {
    char label[72];
    snprintf(label, sizeof label, layer < 0 ? "llm.%s" : "llm.%s.%d", name, layer);
    return tensor_of(arena_take(to->arena, label, dtype, rows, cols), dtype, rows, cols);
}

/* With a tail (ops.h) for whichever of the groups first, or first and second, wants the longest. */
static Tensor take_tailed(const Layout *to, const char *name, int layer, int64_t rows, int64_t cols, int first,
                          int second) {
    int64_t tail = 0;
    for (int l = 0; l < to->decoder->config.layers; l++) {
        int64_t one = group_tail(to->decoder, l, first), two = group_tail(to->decoder, l, second);
        if (one > tail) tail = one;
        if (two > tail) tail = two;
    }
    Tensor whole = take(to, name, layer, device_dtype(to->decoder->dev), rows, cols + tail);
    whole.cols = cols;
    return whole;
}

static void take_attention(const Layout *to, LayerActs *acts, int l, const DecoderLimits *limits) {
    const DecoderConfig *c = &to->decoder->config;
    DType dtype = device_dtype(to->decoder->dev);
    int64_t n = limits->tokens;
    acts->x = take(to, "x", l, dtype, n, c->hidden);
    acts->qkv = take(to, "qkv", l, dtype, n, to->decoder->qkv_width);
    acts->att = take_tailed(to, "attention", l, n, to->decoder->q_width, PROJ_O, PROJ_O);
    if (!limits->training) return;
    acts->lse = take(to, "lse", l, DTYPE_F32, n, c->heads);
    acts->x_rstd = take(to, "x_rstd", l, DTYPE_F32, n, 1);
    if (!c->qk_norm) return;
    acts->q_rstd = take(to, "q_rstd", l, DTYPE_F32, n, c->heads);
    acts->k_rstd = take(to, "k_rstd", l, DTYPE_F32, n, c->kv_heads);
}

static void take_mlp(const Layout *to, LayerActs *acts, int l, const DecoderLimits *limits) {
    const DecoderConfig *c = &to->decoder->config;
    DType dtype = device_dtype(to->decoder->dev);
    bool last = layer_last(to->decoder, l) && limits->training;
    int64_t n = last ? limits->responses : limits->tokens;
    acts->gate_up = take_tailed(to, "gate_up", l, n, 2 * (int64_t)c->ffn, PROJ_GATE, PROJ_GATE);
    acts->mid = acts->x; /* without backward the residual stream is updated in place */
    if (!limits->training) return;
    acts->mid = take(to, "mid", l, dtype, n, c->hidden);
    acts->mid_rstd = take(to, "mid_rstd", l, DTYPE_F32, n, 1);
}

static void take_low(const Layout *to, LayerActs *acts, int l, const DecoderLimits *limits) {
    static const int groups[] = {PROJ_Q, PROJ_O, PROJ_GATE, PROJ_DOWN};
    DType dtype = device_dtype(to->decoder->dev);
    for (int g = 0; g < 4; g++) {
        int rank = 0;
        for (int other = 0; other < to->decoder->config.layers; other++) { /* shared: room for the widest */
            int r = group_rank(to->decoder, other, groups[g]);
            if (limits->training ? other == l : r > rank) rank = r;
        }
        if (rank) acts->low[groups[g]] = take(to, "low", l, dtype, limits->tokens, rank);
    }
}

/* Inner rows of the gradient of a group's outputs, for the layer with the most of them. */
static Tensor take_dlow(const Layout *to, const char *name, int first, int64_t n) {
    int rank = 0;
    for (int l = 0; l < to->decoder->config.layers; l++) {
        int r = group_rank(to->decoder, l, first);
        if (r > rank) rank = r;
    }
    return rank ? take(to, name, -1, device_dtype(to->decoder->dev), n, rank) : (Tensor){0};
}

static void take_layers(const Layout *to, Acts *acts, const DecoderLimits *limits) {
    for (int l = 0; l < to->decoder->config.layers; l++) {
        acts->layers[l] = (LayerActs){0};
        if (l > 0 && !limits->training) {
            acts->layers[l] = acts->layers[0];
            continue;
        }
        take_attention(to, &acts->layers[l], l, limits);
        take_mlp(to, &acts->layers[l], l, limits);
        take_low(to, &acts->layers[l], l, limits);
    }
}

static void take_shared(const Layout *to, Acts *acts, const DecoderLimits *limits) {
    const DecoderConfig *c = &to->decoder->config;
    DType dtype = device_dtype(to->decoder->dev);
    int64_t n = limits->tokens, r = limits->responses, q = to->decoder->q_width, d = c->hidden;
    acts->normed = take_tailed(to, "normed", -1, n, d, PROJ_Q, PROJ_GATE);
    acts->prod = take_tailed(to, "product", -1, n, c->ffn, PROJ_DOWN, PROJ_DOWN);
    if (c->qk_norm) acts->rotated = take(to, "rotated", -1, dtype, n, to->decoder->qkv_width);
    acts->last_att = take_tailed(to, "last_attention", -1, r, q, PROJ_O, PROJ_O);
    acts->last_x = take(to, "last_x", -1, dtype, r, d);
    acts->last_out = limits->training ? take(to, "last_out", -1, dtype, r, d) : acts->last_x;
    acts->final_rstd = take(to, "final_rstd", -1, DTYPE_F32, r, 1);
    acts->final = take(to, "final", -1, dtype, r, d);
    acts->chunk = chunk_rows(to->decoder->dev, c->vocab, r);
    acts->logits = take(to, "logits", -1, dtype, acts->chunk, c->vocab);
    acts->row_loss = take(to, "row_loss", -1, DTYPE_F32, 1, r);
    if (!limits->training) return;
    acts->dfinal = take(to, "d_final", -1, dtype, r, d);
    acts->dlast = take_tailed(to, "d_last", -1, r, d, PROJ_O, PROJ_DOWN);
    acts->dlast_att = take(to, "d_last_attention", -1, dtype, r, q);
    acts->dx = take_tailed(to, "d_x", -1, n, d, PROJ_O, PROJ_DOWN);
    acts->datt = take(to, "d_attention", -1, dtype, n, q);
    acts->dnormed = take(to, "d_normed", -1, dtype, n, d);
    acts->dprod = take(to, "d_product", -1, dtype, n, c->ffn);
    acts->down_dlow = take_dlow(to, "d_down_low", PROJ_DOWN, n);
    acts->gate_dlow = take_dlow(to, "d_gate_low", PROJ_GATE, n);
    acts->dqkv = take_tailed(to, "d_qkv", -1, n, to->decoder->qkv_width, PROJ_Q, PROJ_Q);
}

static void split_tables(Acts *acts, const DecoderLimits *limits) {
    int32_t *at = acts->tables;
    struct {
        int32_t **table;
        int64_t size;
    } parts[] = {{&acts->cu, limits->segments + 1},        {&acts->position, limits->tokens},
                 {&acts->sample, limits->tokens},          {&acts->rows, limits->responses},
                 {&acts->row_position, limits->responses}, {&acts->row_sample, limits->responses},
                 {&acts->targets, limits->responses}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].table = at;
        at += parts[i].size;
    }
}

static int64_t table_size(const DecoderLimits *limits) {
    return limits->segments + 1 + 2 * limits->tokens + 4 * limits->responses;
}

static bool make_host_side(Acts *acts, int layers, Error *err) {
    free(acts->layers);
    free(acts->staging);
    acts->layers = memory_new((size_t)layers, sizeof *acts->layers, err);
    acts->staging = memory_new((size_t)acts->table_size, sizeof *acts->staging, err);
    return acts->layers && acts->staging;
}

bool acts_layout(Decoder *decoder, Acts *acts, Arena *arena, const DecoderLimits *limits, Error *err) {
    acts->limits = *limits;
    if (limits->tokens < 1 || limits->segments < 1 || limits->responses < 0 || limits->tokens > INT32_MAX ||
        limits->segments > INT32_MAX - 1 || limits->responses > limits->tokens)
        return fail(err, "the decoder cannot be planned for %lld tokens in %lld segments with %lld responses",
                    (long long)limits->tokens, (long long)limits->segments, (long long)limits->responses);
    acts->table_size = table_size(limits);
    if (!make_host_side(acts, decoder->config.layers, err)) return false;
    Layout to = {.decoder = decoder, .arena = arena};
    take_layers(&to, acts, limits);
    take_shared(&to, acts, limits);
    acts->tables = arena_take(arena, "llm.tables", DTYPE_I32, 1, acts->table_size);
    if (acts->tables) split_tables(acts, limits);
    return true;
}

void acts_free(Acts *acts) {
    free(acts->layers);
    free(acts->staging);
    *acts = (Acts){0};
}

/* Host images of the tables lie in staging as they do on the device. */
static int32_t *host_table(const Acts *acts, const int32_t *table) { return acts->staging + (table - acts->tables); }

static bool check_batch(const Acts *acts, const DecoderBatch *batch, Error *err) {
    const DecoderLimits *limits = &acts->limits;
    int64_t n = batch->count > 0 ? batch->cu[batch->count] : 0;
    if (batch->count < 1 || n < 1) return fail(err, "the decoder got a batch without tokens");
    if (n > limits->tokens || batch->count > limits->segments || batch->responses > limits->responses)
        return fail(err,
                    "a batch of %lld tokens in %d segments with %lld responses is larger than the planned %lld, "
                    "%lld, %lld",
                    (long long)n, batch->count, (long long)batch->responses, (long long)limits->tokens,
                    (long long)limits->segments, (long long)limits->responses);
    for (int s = 0; s < batch->count; s++)
        if (batch->cu[0] != 0 || batch->cu[s] > batch->cu[s + 1])
            return fail(err, "segment %d reaches from %d to %d; expected segments end to end from 0", s, batch->cu[s],
                        batch->cu[s + 1]);
    for (int64_t i = 0; i < batch->responses; i++)
        if (batch->rows[i] < 0 || batch->rows[i] >= n || (i > 0 && batch->rows[i] <= batch->rows[i - 1]))
            return fail(err, "response row %lld is %d; expected ascending rows under %lld", (long long)i,
                        batch->rows[i], (long long)n);
    return true;
}

bool acts_tables(Decoder *decoder, const Acts *acts, const DecoderBatch *batch, Pass *pass, Error *err) {
    if (!check_batch(acts, batch, err)) return false;
    int32_t *cu = host_table(acts, acts->cu), *position = host_table(acts, acts->position);
    int32_t *sample = host_table(acts, acts->sample), *rows = host_table(acts, acts->rows);
    int32_t *row_position = host_table(acts, acts->row_position), *row_sample = host_table(acts, acts->row_sample);
    for (int s = 0; s <= batch->count; s++) cu[s] = batch->cu[s];
    for (int s = 0; s < batch->count; s++)
        for (int32_t t = cu[s]; t < cu[s + 1]; t++) {
            position[t] = t - cu[s];
            sample[t] = batch->sample ? batch->sample[s] : 0;
        }
    for (int64_t i = 0; i < batch->responses; i++) {
        rows[i] = batch->rows[i];
        row_position[i] = position[rows[i]];
        row_sample[i] = sample[rows[i]];
    }
    *pass = (Pass){.n = cu[batch->count], .responses = batch->responses, .step = batch->step};
    pass->segments = packed_of(cu, batch->count);
    pass->segments.device = acts->cu;
    pass->dropout = acts->limits.training && batch->sample;
    pass->input = tensor_rows(acts->layers[0].x, 0, pass->n);
    return device_upload(decoder->dev, acts->tables, acts->staging, (size_t)acts->table_size * sizeof *acts->staging,
                         err);
}

/* A pass over `count` equal segments of `n` tokens, for what its operations ask. */
static bool note_pass(Decoder *decoder, Acts *acts, const Cache *cache, int64_t n, int64_t count, Error *err) {
    const DecoderLimits *limits = &acts->limits;
    int32_t *cu = host_table(acts, acts->cu);
    for (int64_t s = 0; s <= count; s++) cu[s] = (int32_t)(n * s / count);
    Pass pass = {.n = n, .responses = least(n, limits->responses), .cache = cache, .dropout = limits->training};
    pass.segments = packed_of(cu, (int32_t)count);
    pass.input = tensor_rows(acts->layers[0].x, 0, n);
    return pass_forward(decoder, acts, &pass, err) &&
           rows_loss(decoder, acts, pass.responses, limits->training, 1, err) &&
           (!limits->training || pass_backward(decoder, acts, &pass, err));
}

bool acts_reserve(Decoder *decoder, Acts *acts, const Cache *cache, Error *err) {
    const DecoderLimits *limits = &acts->limits;
    decoder->planning = true;
    decoder->scratch = 0;
    bool ok = note_pass(decoder, acts, cache, limits->tokens, 1, err) &&
              note_pass(decoder, acts, cache, limits->tokens, least(limits->segments, limits->tokens), err);
    decoder->planning = false;
    return ok && device_reserve_scratch(decoder->dev, decoder->scratch, err);
}

bool acts_reserve_step(Decoder *decoder, Acts *acts, const Cache *cache, int64_t rows, Error *err) {
    decoder->planning = true;
    decoder->scratch = 0;
    bool ok = note_pass(decoder, acts, cache, rows, rows, err);
    decoder->planning = false;
    return ok && device_reserve_scratch(decoder->dev, decoder->scratch, err);
}
