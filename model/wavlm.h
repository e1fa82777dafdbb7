/* WavLM base, base-plus and large (Chen et al. 2022, "WavLM: Large-Scale Self-Supervised Pre-Training for
 * Full Stack Speech Processing") from a Hugging Face folder: a frozen encoder of packed waveforms, with
 * evaluation semantics always. */
#ifndef SEMOLLM_MODEL_WAVLM_H
#define SEMOLLM_MODEL_WAVLM_H

#include "base/base.h"
#include "model/op_pass.h"
#include "model/speech_llm.h"

enum { WAVLM_CONVS_MAX = 16, WAVLM_LAYERS_MAX = LAYER_MIX_MAX - 1, POS_KERNEL_MAX = 1 << 10 };

typedef struct WavlmConfig {
    int hidden, layers, heads, ffn;
    int convs, conv_dim[WAVLM_CONVS_MAX], conv_kernel[WAVLM_CONVS_MAX], conv_stride[WAVLM_CONVS_MAX];
    bool conv_bias;
    bool conv_layer_norm; /* every conv normed over channels (large); else the first alone, over time (base) */
    bool pre_norm;        /* do_stable_layer_norm */
    int pos_kernel, pos_groups;
    int buckets, max_distance;
    float eps;
    bool normalize; /* waveforms to zero mean and unit variance, as preprocessor_config.json says */
} WavlmConfig;

/* Reads config.json and preprocessor_config.json; refuses what would be computed wrongly. */
bool wavlm_config_read(WavlmConfig *config, const char *folder, Error *err);

int64_t wavlm_frames(const WavlmConfig *config, int64_t samples);          /* 0 under the receptive field */
int64_t wavlm_rows(const WavlmConfig *config, int convs, int64_t samples); /* after the first `convs` convolutions */
int64_t wavlm_receptive_field(const WavlmConfig *config);                  /* samples of the first frame */

/* The convolutions run over all clips at once: clips lie so that one that begins at row stride · r of a convolution's
 * input begins at row r of its output. For that each is padded: after the last convolution to wavlm_aligned rows, which
 * are wavlm_frames and at most wavlm_padding more, and before a convolution to `stride` times what it has after it. */
int64_t wavlm_aligned(const WavlmConfig *config, int64_t samples);
int64_t wavlm_padding(const WavlmConfig *config);
int64_t wavlm_stride(const WavlmConfig *config); /* rows of the first convolution's output to a frame */

typedef struct WavlmConv {
    Tensor weight, bias, gamma, beta; /* bias, and gamma and beta, or absent */
} WavlmConv;

typedef struct WavlmLayer {
    Tensor qkv, qkv_bias, out, out_bias; /* q, k and v stacked */
    Tensor gate, gate_bias, gate_scale;
    Tensor gamma1, beta1, gamma2, beta2; /* layer_norm, final_layer_norm */
    Tensor in, in_bias, down, down_bias; /* the feed-forward's two maps */
} WavlmLayer;

typedef struct Wavlm {
    Device *dev;
    WavlmConfig config;
    Arena weights;
    WavlmConv conv[WAVLM_CONVS_MAX];
    Tensor feature_gamma, feature_beta, projection, projection_bias;
    Tensor pos, pos_bias; /* weight norm folded */
    Tensor gamma, beta;   /* encoder.layer_norm */
    WavlmLayer *layers;
    float *relative; /* [buckets, heads], host: rel_attn_embed */
} Wavlm;

/* `normalize` may override the folder's preprocessor_config.json. Weights that are not finite are an error
 * that names the tensor. */
bool wavlm_open(Wavlm *wavlm, Device *dev, const char *folder, Toggle normalize, Error *err);

/* With drawn weights: the folder needs no more than config.json. */
bool wavlm_open_drawn(Wavlm *wavlm, Device *dev, const char *folder, Toggle normalize, uint64_t seed, Error *err);
void wavlm_close(Wavlm *wavlm);

typedef struct WavlmLimits {
    int64_t clips, samples, longest; /* longest: samples of the longest clip */
} WavlmLimits;

/* What a forward works in. Zeroed, it is ready for wavlm_layout. */
typedef struct WavlmWork {
    WavlmLimits limits;
    int64_t frames, longest_frames;
    int64_t chunk, chunk_rows; /* samples that enter the convolutions at a time; rows after them, at most */
    int64_t table_entries;
    int32_t *host_tables, *tables; /* of segments and of rows to gather, host and device */
    Tensor wave, input;            /* F32 as it came; as the convolutions take it, one memory where that is F32 */
    Tensor conv[2], normed_conv;   /* the convolutions' ping and pong; the last one's output, normed */
    Tensor state[2];               /* hidden states that nobody asked for take turns here */
    Tensor attention_in, attended, wide, gate, bias;
} WavlmWork;

/* Takes what a batch within `limits` needs: from `kept` what must stay as it is between batches, from `passing`,
 * which may be the same, what is only used within one. */
bool wavlm_layout(const Wavlm *wavlm, WavlmWork *work, const WavlmLimits *limits, Arena *kept, Arena *passing,
                  Error *err);

/* After a layout over committed memory: fills the position table, gets host tables and notes the scratch
 * of the largest batch in `pass`, which is planning. */
bool wavlm_prepare(const Wavlm *wavlm, WavlmWork *work, OpPass *pass, Error *err);
void wavlm_work_free(WavlmWork *work);

/* All of it for an encoder on its own: measures `arena`, gives it memory (device_free its base), lays out and
 * reserves scratch. */
bool wavlm_plan(const Wavlm *wavlm, WavlmWork *work, const WavlmLimits *limits, Arena *arena, Error *err);

typedef struct WavlmBatch { /* in host memory */
    int count;
    const int64_t *start; /* [count + 1] */
    const float *wave;    /* clip c is wave[start[c] .. start[c + 1] - 1] */
} WavlmBatch;

/* Writes hidden state i of 0 .. layers to states[i], [frames, hidden], where its data is present; the last
 * one is last_hidden_state. Clips shorter than the receptive field are an error. */
bool wavlm_forward(const Wavlm *wavlm, WavlmWork *work, const WavlmBatch *batch, const Tensor *states, Error *err);

#endif
