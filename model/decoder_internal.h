/* What the decoder's files share; private to them. */
#ifndef SEMOLLM_MODEL_DECODER_INTERNAL_H
#define SEMOLLM_MODEL_DECODER_INTERNAL_H

#include "model/decoder.h"

enum { PROJ_Q, PROJ_K, PROJ_V, PROJ_O, PROJ_GATE, PROJ_UP, PROJ_DOWN };

/* Maps with one input are stored as one matrix (rows q, k, v; gate, up), so that one product computes
 * them: a group of projections, known by its first. */
typedef struct LayerWeights {
    Tensor input_norm, post_norm; /* [1, d] */
    Tensor q_norm, k_norm;        /* [1, head_dim], Qwen3's */
    Tensor qkv, o, gate_up, down; /* [out, in] */
    Tensor qkv_bias, o_bias, gate_up_bias, down_bias;
} LayerWeights;

/* What a layer leaves behind. In training each layer has its own, else all share one. */
typedef struct LayerActs {
    Tensor x;              /* [n, d]: the residual stream entering the layer */
    Tensor qkv;            /* [n, qkv]: rotated where there is no q and k norm, else as projected */
    Tensor q_rstd, k_rstd; /* [n, heads], [n, kv_heads]: with q and k norms */
    Tensor att;            /* [n, heads · dim] */
    Tensor lse;            /* [n, heads] */
    Tensor x_rstd, mid_rstd;
    Tensor mid;              /* [n, d]: the residual stream after attention */
    Tensor gate_up;          /* [n, 2 · ffn] */
    Tensor low[PROJECTIONS]; /* [n, Σr] of each group: LoRA's inner rows */
} LayerActs;

/* Buffers of one trip through the layers, for at most `limits`. */
typedef struct Acts {
    DecoderLimits limits;
    LayerActs *layers;
    Tensor normed, prod;     /* [n, d], [n, ffn] */
    Tensor rotated;          /* [n, qkv] with q and k norms: what attention reads */
    Tensor last_att;         /* [responses, heads · dim]: rows that leave the last layer */
    Tensor last_x, last_out; /* [responses, d]: the residual stream of those, entering the layer and leaving it */
    Tensor final_rstd, final;
    int64_t chunk; /* rows of logits at a time */
    Tensor logits, row_loss;
    Tensor dfinal, dlast, dlast_att, dx, datt, dnormed, dprod, dqkv; /* training */
    Tensor down_dlow, gate_dlow;                                     /* [n, Σr]: inner rows of gradients */
    int32_t *tables;                                                 /* device: one block, uploaded at once */
    int32_t *cu, *position, *sample, *rows, *row_position, *row_sample, *targets;
    int32_t *staging; /* host image of `tables` */
    int64_t table_size;
} Acts;

/* Where keys and values go, and come from, in generation. */
typedef struct Cache {
    Tensor *k, *v; /* [layers] of [slots · capacity, kv_heads · dim] */
    int64_t capacity, longest;
    const int32_t *slot, *length; /* [n], device */
    bool step; /* queries read the cache, LoRA lies beside the weights; else the packed keys, and it is packed */
} Cache;

/* One trip through the layers. */
typedef struct Pass {
    int64_t n, responses;
    Packed segments;
    Tensor input; /* [n, d]: embeddings, where the first layer reads them: its x, or without backward anywhere */
    bool dropout;
    uint32_t step;
    const Cache *cache;
} Pass;

struct Decoder {
    Device *dev;
    DecoderConfig config;
    char *folder;
    int64_t q_width, kv_width, qkv_width;
    void *memory; /* of all weights */
    size_t memory_bytes;
    Tensor embed, head, norm;
    LayerWeights *layers;
    Tensor rope; /* [positions, head_dim] F32 */
    LoraPlan lora;
    int64_t room[PROJECTIONS]; /* beside each group's weights: a tail (ops.h) of at most so many elements */
    Params *params;            /* null: no LoRA */
    uint64_t seed;
    bool planning; /* ops are not run: the scratch that they want is noted */
    size_t scratch;
    Acts acts;
    Pass pass; /* of the last decoder_forward */
    float loss_scale;
};

/* Runs an operation, or while planning notes what scratch it wants. */
#define RUN(decoder, name, args, err)                                                                                  \
    ((decoder)->planning ? note_scratch((decoder), name##_scratch((decoder)->dev, args))                               \
                         : op_##name((decoder)->dev, (args), (err)))

static inline bool note_scratch(Decoder *decoder, size_t bytes) {
    if (bytes > decoder->scratch) decoder->scratch = bytes;
    return true;
}

/* decoder_load.c */
bool decoder_positions(Decoder *decoder, int64_t positions, Error *err); /* a rope table of at least so many rows */

/* decoder_acts.c */
bool acts_layout(Decoder *decoder, Acts *acts, Arena *arena, const DecoderLimits *limits, Error *err);
void acts_free(Acts *acts);
/* Checks a batch, fills and uploads its row tables, and describes its pass. */
bool acts_tables(Decoder *decoder, const Acts *acts, const DecoderBatch *batch, Pass *pass, Error *err);
bool acts_reserve(Decoder *decoder, Acts *acts, const Cache *cache, Error *err); /* the ops' scratch */
/* Of a step of generation: as many segments as rows, each of one row. */
bool acts_reserve_step(Decoder *decoder, Acts *acts, const Cache *cache, int64_t rows, Error *err);

/* decoder_forward.c */
bool layer_last(const Decoder *decoder, int layer);
Tensor projection_part(const Decoder *decoder, Tensor whole, int projection); /* its columns of a fused output */
int group_size(int first);
int group_rank(const Decoder *decoder, int layer, int first); /* the sum of its ranks; 0: no LoRA */
int64_t group_tail(const Decoder *decoder, int layer, int first);
Tensor group_weight(const LayerWeights *w, int first);
void group_loras(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer, int first,
                 Lora lora[LINEAR_PARTS]);
Tensor group_low(const Decoder *decoder, const Acts *acts, int layer, int first, int64_t n);
bool turn_queries(Decoder *decoder, const Acts *acts, const Pass *pass, int layer, Error *err);
AttentionArgs attention_args(const Decoder *decoder, const Acts *acts, const Pass *pass, int layer);
bool pass_forward(Decoder *decoder, Acts *acts, const Pass *pass, Error *err);
bool rows_loss(Decoder *decoder, Acts *acts, int64_t responses, bool gradient, float scale, Error *err);
bool chunk_logits(Decoder *decoder, const Acts *acts, int64_t first, int64_t n, Error *err); /* at most acts->chunk */
bool rows_logits(Decoder *decoder, Acts *acts, int64_t first, int64_t count, float *logits, Error *err);

/* decoder_backward.c */
bool pass_backward(Decoder *decoder, Acts *acts, const Pass *pass, Error *err);

#endif
