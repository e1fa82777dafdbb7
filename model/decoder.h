/* The decoder LLM: Llama, Qwen2 and Qwen3 from a Hugging Face folder, frozen, with LoRA on any of its
 * projections. Sequences are packed; positions restart at 0 in each. Tables (cu, rows, targets) are
 * given in host memory and uploaded here; rows of numbers stay in device memory.
 *
 * A step:   x = decoder_input(decoder, n)        write the embeddings there (decoder_embed, speech rows)
 *           decoder_forward, decoder_loss        row losses, gradients of the logits' inputs
 *           decoder_backward                     LoRA gradients added to, d(embeddings) handed out */
#ifndef SEMOLLM_MODEL_DECODER_H
#define SEMOLLM_MODEL_DECODER_H

#include "base/base.h"
#include "kernels/kernels.h"
#include "model/generate.h"
#include "model/lora.h"
#include "model/params.h"

typedef enum DecoderKind { DECODER_LLAMA, DECODER_QWEN2, DECODER_QWEN3 } DecoderKind;
typedef enum RopeScaling { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 } RopeScaling;

enum { STOP_IDS_MAX = 16 };

typedef struct DecoderConfig {
    DecoderKind kind;
    int vocab, hidden, layers, heads, kv_heads, head_dim, ffn, max_positions;
    float eps;
    double theta;
    RopeScaling scaling;
    double factor, low_freq, high_freq, original_positions; /* of the scaling */
    bool tied;                                              /* the head is the embedding */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    int32_t stop[STOP_IDS_MAX]; /* eos ids: generation_config.json's, else config.json's */
    int stop_count;
} DecoderConfig;

/* Reads config.json (and generation_config.json) of a folder; refuses what would be computed wrongly. */
bool decoder_config_read(DecoderConfig *config, const char *folder, Error *err);

typedef struct Decoder Decoder;

Decoder *decoder_open(Device *dev, const char *folder, Error *err);

typedef struct DecoderOptions {
    bool drawn; /* weights, from `seed`: the folder needs no more than config.json */
    uint64_t seed;
    LoraConfig lora; /* leave room for such LoRA beside the weights; what finds none is slower, not wrong */
} DecoderOptions;

Decoder *decoder_open_as(Device *dev, const char *folder, const DecoderOptions *options, Error *err);
void decoder_close(Decoder *decoder);
const DecoderConfig *decoder_config(const Decoder *decoder);

/* ---- LoRA: once, before the first layout ---- */

/* Declares the LoRA parameters (PEFT's names) of a run's config, or those of an adapter on disk with its
 * own ranks and scales. `params` must outlive the decoder; after params_commit call decoder_lora_init, or
 * load an adapter. `seed` keys initial weights and dropout. */
bool decoder_lora_declare(Decoder *decoder, const LoraConfig *config, uint64_t seed, Params *params, Error *err);
bool decoder_lora_declare_from(Decoder *decoder, const char *folder, uint64_t seed, Params *params, Error *err);

/* A = U(-1/sqrt(in), 1/sqrt(in)), which is PEFT's kaiming_uniform(a = sqrt 5): element e of the tensor with
 * number i in Params is word e % 4 of philox(seed, e / 4, PLACE_INIT, i, 0), u -> (2u - 1) / sqrt(in). B = 0. */
bool decoder_lora_init(Decoder *decoder, Error *err);
bool decoder_lora_save(const Decoder *decoder, const char *folder, Error *err); /* PEFT's two files */
bool decoder_lora_load(Decoder *decoder, const char *folder, Error *err);       /* must fit what was declared */

/* ---- a step over packed sequences ---- */

typedef struct DecoderLimits {
    int64_t tokens, segments;
    int64_t responses; /* rows that logits are wanted of */
    bool training;     /* keep what backward needs */
} DecoderLimits;

/* Takes everything a step of at most this size needs from `arena` and remembers it: once while planning,
 * once over committed memory, when it also reserves the device's scratch. May be done again for other
 * limits. */
bool decoder_layout(Decoder *decoder, Arena *arena, const DecoderLimits *limits, Error *err);

/* The rows [n, d] of the residual stream that decoder_forward starts from: write embeddings here. */
Tensor decoder_input(const Decoder *decoder, int64_t n);

/* y[i] = embedding of ids[i] (device memory), zeros where negative. */
bool decoder_embed(Decoder *decoder, const int32_t *ids, Tensor y, Error *err);

typedef struct DecoderBatch { /* all in host memory */
    int count;
    const int32_t *cu;     /* [count + 1], cu[0] = 0 */
    const int32_t *sample; /* [count]: keys of dropout; null: none */
    uint32_t step;
    int64_t responses;
    const int32_t *rows; /* [responses], ascending packed rows that logits are wanted of */
} DecoderBatch;

/* Through all layers and the final norm; only response rows leave the last layer. LoRA dropout is on where
 * the layout is for training and batch->sample is given. */
bool decoder_forward(Decoder *decoder, const DecoderBatch *batch, Error *err);

/* row_loss[i] = -log softmax(logits of response row i)[targets[i]] (both host). With `gradient`, prepares
 * backward of loss_scale · (their sum). Logits exist only a chunk of rows at a time. */
bool decoder_loss(Decoder *decoder, const int32_t *targets, bool gradient, float loss_scale, float *row_loss,
                  Error *err);

/* After decoder_loss with `gradient`: adds to the LoRA gradients in Params; *d_input, if not null, becomes
 * a view [n, d] of the gradient of decoder_input, good until the next step. */
bool decoder_backward(Decoder *decoder, Tensor *d_input, Error *err);

/* Logits of response rows first .. first + count - 1 to host memory, [count, vocab]. */
bool decoder_logits(Decoder *decoder, int64_t first, int64_t count, float *logits, Error *err);

/* ---- generation: a KV cache of `slots` sequences of at most `capacity` tokens ---- */

/* Owns its memory. Prompts enter at most `prefill_tokens` at a time (0: `capacity`); a longer prompt is an
 * error. */
DecoderSession *session_open(Decoder *decoder, int slots, int64_t capacity, int64_t prefill_tokens, Error *err);
void session_close(DecoderSession *session);

/* To be called where the device's scratch may have grown since: steps are recorded anew. */
void session_forget_graphs(DecoderSession *session);
size_t session_bytes(Decoder *decoder, int slots, int64_t capacity, int64_t prefill_tokens);
Decoder *session_decoder(const DecoderSession *session);
int session_slots(const DecoderSession *session);
int64_t session_capacity(const DecoderSession *session);
int64_t session_length(const DecoderSession *session, int slot);

/* What it has done so far: trips through the layers with prompts and with single tokens, and how many of the latter
 * were recorded to be replayed (one for each size of a step, at most). */
typedef struct SessionUse {
    int64_t prefills, steps, recordings;
} SessionUse;
SessionUse session_use(const DecoderSession *session);

/* Fills slot[i] with segment i, rows cu[i] .. cu[i+1]-1 of `embeddings` (device memory), from position 0;
 * logits [count, vocab] (host, null: not wanted) of each segment's last row. All host tables. */
bool session_prefill(DecoderSession *session, Tensor embeddings, const int32_t *cu, const int32_t *slot, int count,
                     float *logits, Error *err);

/* Appends token[i] to slot[i]; logits [count, vocab] (or null) of what follows. Each slot at most once. LoRA's
 * parameters are those of the last session_prefill. */
bool session_step(DecoderSession *session, const int32_t *slot, const int32_t *token, int count, float *logits,
                  Error *err);

/* Of each row of logits of the last session_prefill or session_step: the likeliest token, its logit and the row's
 * log-sum-exp, found on the device. The session's host memory, good until the next of either. */
typedef struct Choices {
    const int32_t *token;
    const float *logit, *log_sum;
} Choices;
Choices session_choices(const DecoderSession *session);

/* Forgets what a slot holds past `length` tokens. */
void session_shorten(DecoderSession *session, int slot, int64_t length);

/* Slot to[i] becomes a copy of slot from[i], as if all at once. */
bool session_copy(DecoderSession *session, const int32_t *from, const int32_t *to, int count, Error *err);

#endif
