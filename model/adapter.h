/* The speech adapter: (mix of hidden states →) stack k frames, with their prosody channels → Linear → GELU →
 * Linear, a row of the LLM's width each. Its weights live in Params:
 *
 *     adapter.linear1.weight [hidden, k · (H + P)], adapter.linear1.bias [hidden]
 *     adapter.linear2.weight [d, hidden],           adapter.linear2.bias [d]
 *     layer_mix.weight [states]                     where hidden states are mixed by softmax(weight)
 *
 * Initial weights and biases are torch's default for Linear, U(-1/sqrt(in), 1/sqrt(in)): element e of the
 * tensor with number i in Params is word e % 4 of philox(seed, e / 4, PLACE_INIT, i, 0), u -> (2u - 1) / sqrt(in).
 * The mix begins with zeros: all states alike. */
#ifndef SEMOLLM_MODEL_ADAPTER_H
#define SEMOLLM_MODEL_ADAPTER_H

#include "base/base.h"
#include "model/op_pass.h"
#include "model/speech_llm.h"

typedef struct Adapter {
    Device *dev;
    AdapterConfig config;
    uint64_t seed;
    int states;         /* hidden states to mix; 1: the last alone, and no mix */
    int64_t width, out; /* columns of a frame (H), of a row (d) */
    Params *params;
    int weight1, bias1, weight2, bias2, mix; /* numbers in params; mix -1 where there is none */
} Adapter;

/* Checks the config and declares the parameters. */
bool adapter_declare(Adapter *adapter, Device *dev, const AdapterConfig *config, int states, int64_t width, int64_t out,
                     uint64_t seed, Params *params, Error *err);
bool adapter_init(const Adapter *adapter, Error *err); /* after params_commit */

int64_t adapter_rows(const Adapter *adapter, int64_t frames); /* of one clip */

typedef struct AdapterLimits {
    int64_t clips, frames;
    bool training;
} AdapterLimits;

/* What a step works in. Zeroed, it is ready for adapter_layout. */
typedef struct AdapterWork {
    AdapterLimits limits;
    int64_t rows;                  /* at most */
    int32_t *host_tables, *tables; /* frames and rows of the clips; sample and position of each row */
    float *scaled;                 /* host: prosody as it is uploaded */
    Tensor side, mixed, stacked, inner, hidden, out;
    Tensor dhidden, dstacked, dmixed, dout;
    Packed frame_segments, row_segments; /* of the last forward */
} AdapterWork;

void adapter_layout(const Adapter *adapter, AdapterWork *work, const AdapterLimits *limits, Arena *arena);
bool adapter_prepare(const Adapter *adapter, AdapterWork *work, OpPass *pass, Error *err);
void adapter_work_free(AdapterWork *work);

typedef struct AdapterBatch {
    int clips;
    const int64_t *frames; /* [clips], host */
    const float *prosody;  /* [sum of frames, config.prosody], host; null where it is 0 */
    const int32_t *sample; /* [clips], host: keys of dropout and noise; null: zeros */
    Tensor features;       /* [sum of frames, states · H], device */
    uint32_t step;
    bool train; /* dropout and noise on */
} AdapterBatch;

/* Leaves the rows in work->out, [row_segments.total, d] of it used. */
bool adapter_forward(const Adapter *adapter, AdapterWork *work, const AdapterBatch *batch, Error *err);

/* From the rows' gradient in work->dout: adds to the parameters' gradients. Follows a forward with `train`
 * over the same batch. */
bool adapter_backward(const Adapter *adapter, AdapterWork *work, const AdapterBatch *batch, Error *err);

/* speech_adapter.safetensors in `folder`. */
bool adapter_save(const Adapter *adapter, const char *folder, Error *err);
bool adapter_load(const Adapter *adapter, const char *folder, Error *err); /* settings and shapes must fit */

#endif
