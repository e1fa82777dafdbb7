/* The assembled model's inside, shared by its files. */
#ifndef SEMOLLM_MODEL_SPEECH_LLM_INTERNAL_H
#define SEMOLLM_MODEL_SPEECH_LLM_INTERNAL_H

#include "model/adapter.h"
#include "model/decoder.h"
#include "model/speech_llm.h"
#include "model/wavlm.h"

/* What the front is laid out for: SpeechLimits' clips, samples, longest and tokens. */
typedef struct FrontLimits {
    int64_t clips, samples, longest, tokens;
    bool training;
    bool encoder; /* waveforms may come; else features alone, made before */
    bool prompts; /* the embeddings of all tokens have a place here, for generation */
} FrontLimits;

/* Everything before the LLM: encoder, adapter, the tokens' ids and places. */
typedef struct Front {
    FrontLimits limits;
    Arena arena;   /* what a step keeps to its end */
    Arena passing; /* the encoder's work, over once the LLM begins: the two share memory */
    WavlmWork wavlm;
    AdapterWork adapter;
    Tensor features;        /* [frames, feature width] */
    int32_t *ids, *speech;  /* device: [tokens], and the packed places of the speech rows */
    int32_t *speech_places; /* host image of `speech` */
    int64_t *frames;        /* [clips] */
    Tensor embeddings;      /* [tokens, d], for prompts */
    int64_t rows;           /* speech rows of the last batch */
} Front;

struct SpeechLlm {
    Device *dev;
    SpeechLlmConfig config; /* without the folders' names */
    bool has_encoder;
    Wavlm wavlm;
    Adapter adapter;
    Decoder *decoder;
    Params params;
    Front front;
    Arena activations; /* the LLM's, in `shared` */
    void *shared;
    size_t shared_bytes;
    bool planned;
    DecoderLimits llm_limits;
    SpeechLimits limits;
    bool training;
    int32_t *rows, *targets; /* [responses], host */
    float *row_loss;         /* [responses] */
    DecoderSession *session; /* of the last generation, kept for the next */
    int64_t asked_slots;     /* of it; it has fewer where memory did not do */
    int64_t prefill;         /* tokens that enter the session at a time */
};

/* Makes the shared memory at least so large; an LLM that is planned moves along. */
bool share(SpeechLlm *model, size_t bytes, Error *err);

/* Lays the front out anew over its own memory. */
bool front_plan(SpeechLlm *model, const FrontLimits *limits, Error *err);
bool front_layout(SpeechLlm *model, Front *front, const FrontLimits *limits, Error *err);
void front_free(SpeechLlm *model, Front *front);

/* Makes sure that the front has room for the batch, beyond the plan if need be. */
bool front_cover(SpeechLlm *model, const SpeechBatch *batch, bool prompts, Error *err);

/* Whether ids, speech rows and lengths of a batch fit each other and the model. */
bool batch_check(const SpeechLlm *model, const SpeechBatch *batch, Error *err);

/* Speech rows of a checked batch into front.adapter.out. `batch_adapter` gets what adapter_backward needs. */
bool front_rows(SpeechLlm *model, const SpeechBatch *batch, bool train, uint32_t step, AdapterBatch *adapter_batch,
                Error *err);

/* The embeddings of the batch's tokens, speech rows in their places. */
bool front_embed(SpeechLlm *model, const SpeechBatch *batch, Tensor to, Error *err);

bool front_encode(SpeechLlm *model, const SpeechBatch *batch, Error *err); /* into front.features */

#endif
