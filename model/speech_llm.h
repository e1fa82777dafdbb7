/* The assembled model: WavLM → layer choice → adapter → decoder LLM with LoRA. It takes packed
 * batches of waveforms and token ids and knows nothing of corpora or prompts. Everything it needs in
 * a step is laid out by speech_llm_plan. */
#ifndef SEMOLLM_MODEL_SPEECH_LLM_H
#define SEMOLLM_MODEL_SPEECH_LLM_H

#include "kernels/kernels.h"
#include "model/generate.h"
#include "model/lora.h"
#include "model/params.h"

typedef enum LayerChoice { LAYERS_LAST, LAYERS_WEIGHTED } LayerChoice;
typedef enum Toggle { TOGGLE_AUTO, TOGGLE_ON, TOGGLE_OFF } Toggle;

typedef struct AdapterConfig {
    int stack;   /* k frames to a row */
    int hidden;  /* width of the MLP's hidden layer */
    int prosody; /* side channels per frame: 0 none, 1 energy, 3 energy + f0 + voicing */
    float prosody_scale;
    float dropout; /* on the hidden layer, in training */
    float noise;   /* sigma of Gaussian noise on the stacked features, in training */
} AdapterConfig;

typedef struct SpeechLlmConfig {
    const char *encoder; /* folder; null: no speech (input: description) */
    const char *llm;     /* folder */
    LayerChoice layers;
    Toggle normalize_waveform;
    AdapterConfig adapter;
    LoraConfig lora;
    uint64_t seed; /* of initial weights, dropout and noise */
    bool drawn;    /* frozen weights are drawn, not read: for plans and benchmarks, which need but config.json */
} SpeechLlmConfig;

typedef struct SpeechLlm SpeechLlm;

SpeechLlm *speech_llm_open(Device *dev, const SpeechLlmConfig *config, Error *err);
void speech_llm_close(SpeechLlm *model);

Params *speech_llm_params(SpeechLlm *model);
int64_t speech_llm_frames(const SpeechLlm *model, int64_t samples); /* 0 under the receptive field (400) */
int64_t speech_llm_rows(const SpeechLlm *model, int64_t samples);   /* ⌈frames / k⌉ */
int64_t speech_llm_feature_bytes(const SpeechLlm *model);           /* a frame: H numbers, or states · H if weighted */
int64_t speech_llm_max_positions(const SpeechLlm *model);
int64_t speech_llm_width(const SpeechLlm *model);                     /* d, the columns of a speech row */
bool speech_llm_normalizes(const SpeechLlm *model);                   /* waveforms to zero mean and unit variance */
int speech_llm_stop_ids(const SpeechLlm *model, const int32_t **ids); /* eos tokens of the folder */

/* A packed batch, in host memory. */
typedef struct SpeechBatch {
    int count;                 /* samples */
    const int64_t *wave_start; /* [count + 1] into wave, in samples */
    const float *wave;         /* raw 16 kHz audio; null where features are given */
    const void *features;      /* encoder output cached by speech_llm_encode, [frames, feature bytes], or null */
    const float *prosody;      /* [frames, adapter.prosody], or null */
    const int32_t *sample;     /* [count] sample ids: keys of dropout and noise */
    const int32_t *cu_tokens;  /* [count + 1] */
    const int32_t *ids;        /* [tokens]; -1 at speech rows, exactly speech_llm_rows of them a sample, in a run */
    const int32_t *labels;     /* [tokens], the id at each place that bears loss, else -100; shifted inside:
                                  logits of token t-1 predict labels[t]. Null for generation */
} SpeechBatch;

/* Upper bounds of a batch. */
typedef struct SpeechLimits {
    int64_t clips, samples, tokens, responses; /* responses: tokens that bear loss */
    int64_t longest;                           /* samples of the longest clip; 0: as many as `samples` */
    bool features;                             /* batches come with the encoder's output, not with waveforms */
} SpeechLimits;

/* Lays out and allocates what a step of at most this size needs; may be called again for other sizes.
 * With `report` prints every activation there; with `allocate` false it stops after that. */
bool speech_llm_plan(SpeechLlm *model, const SpeechLimits *limits, bool training, FILE *report, bool allocate,
                     Error *err);

/* Bytes of device memory: frozen weights, and what the last plan laid out. */
typedef struct SpeechLlmMemory {
    size_t encoder, llm;
    size_t front;       /* activations that a step keeps: the adapter's */
    size_t activations; /* of the encoder and then, in the same place, of the LLM */
    size_t logits;      /* a chunk of them, among the LLM's */
} SpeechLlmMemory;

SpeechLlmMemory speech_llm_memory(const SpeechLlm *model);

/* Forward, and with `train` backward: dropout and noise on (keyed by the seed, `step` and sample ids),
 * gradients += loss_scale · d(sum of token losses). *loss_sum gets the sum over the batch's response
 * tokens; `row_loss` (may be null) each of them, in order. */
typedef struct StepOptions {
    bool train;
    uint32_t step;
    float loss_scale;
} StepOptions;

bool speech_llm_step(SpeechLlm *model, const SpeechBatch *batch, const StepOptions *options, double *loss_sum,
                     float *row_loss, Error *err);

/* The frozen encoder's output for a batch of waveforms to host memory, as the device stores it: [frames] of
 * speech_llm_feature_bytes. */
bool speech_llm_encode(SpeechLlm *model, const SpeechBatch *batch, void *features, Error *err);

/* The adapter's output rows of the last step, [rows, d] to host memory (for --dump). */
bool speech_llm_speech_rows(SpeechLlm *model, float *rows, Error *err);

/* ---- generation ---- */

/* Answers for the prompts of a batch (labels null), results[count], to be freed with generated_free. Needs
 * no plan: memory grows to the largest batch seen. */
bool speech_llm_generate(SpeechLlm *model, const SpeechBatch *prompts, const GenerateOptions *options,
                         Generated *results, Error *err);

/* Log-likelihood of each candidate as the continuation of each prompt: scores[count · candidates]. */
bool speech_llm_rank(SpeechLlm *model, const SpeechBatch *prompts, const Candidate *candidates, int candidate_count,
                     double *scores, Error *err);

/* ---- files: adapter_config.json + adapter_model.safetensors (PEFT), speech_adapter.safetensors ---- */

bool speech_llm_save(const SpeechLlm *model, const char *folder, Error *err);
bool speech_llm_load(SpeechLlm *model, const char *folder, Error *err); /* shapes and settings must fit */

#endif
