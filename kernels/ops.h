/* Every operation, declared once. kernels/cpu and kernels/cuda implement all of them.
 *
 * Shapes are [rows, cols], n stands for packed rows. A tensor said to be "or absent" may have null
 * data: then what it would hold is not computed (frozen: no gradient wanted) or not added. Inputs
 * and outputs must not overlap unless a comment says "may alias". Gradients named d* are written;
 * those marked "accumulated" are added to. Activations are the device's dtype (F32 on the CPU);
 * statistics, losses, gradients of parameters and optimizer state are F32; row tables are int32 in
 * device memory. Every op is ordered on the device's stream and returns without waiting.
 *
 * OP(Name, name) stands for three functions:
 *     bool op_name(Device *, const NameArgs *, Error *);
 *     OpCost name_cost(const NameArgs *);          compulsory bytes (each operand moved once) and FLOPs
 *     size_t name_scratch(const Device *, const NameArgs *);   bytes to reserve with device_reserve_scratch
 */
#ifndef SEMOLLM_KERNELS_OPS_H
#define SEMOLLM_KERNELS_OPS_H

#include "base/error.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

typedef struct OpCost {
    double bytes, flops;
} OpCost;

#define OP(Name, name)                                                                                                 \
    bool op_##name(Device *dev, const Name##Args *a, Error *err);                                                      \
    OpCost name##_cost(const Name##Args *a);                                                                           \
    size_t name##_scratch(const Device *dev, const Name##Args *a)

typedef enum Activation { ACT_NONE, ACT_GELU, ACT_RELU } Activation; /* GELU is the erf form */

/* ---- matrix products ---------------------------------------------------------------------- */

/* c = act(alpha · op(a)·op(b) + beta · c + bias), op transposing where told. op(a) is [m, k], op(b)
 * [k, n], c [m, n], bias [1, n] or absent. c may not alias a or b. */
typedef struct MatmulArgs {
    Tensor a, b, c, bias;
    bool transpose_a, transpose_b;
    float alpha, beta;
    Activation act;
} MatmulArgs;
OP(Matmul, matmul);

/* Inverted dropout, keyed by what a row is, never by where it lies in the batch: element (r, c) is
 * kept where rng_uniform(word) >= p and scaled by 1/(1-p), with word number e % 4 of
 * philox(seed, e / 4, place, sample[r], step) and e = position[r] * cols + c. p = 0: the identity. */
typedef struct Dropout {
    float p;
    uint64_t seed;
    uint32_t step, place;
    const int32_t *sample, *position; /* [n], device */
} Dropout;

/* A LoRA pair on outputs of a linear layer: + scale · dropout(x)·Aᵀ·Bᵀ (Hu et al. 2021; PEFT's semantics). */
typedef struct Lora {
    Tensor a; /* [r, in] F32; absent: no LoRA on these outputs */
    Tensor b; /* [outputs, r] F32; `outputs` is stated where a is absent too */
    float scale;
    Dropout dropout;
} Lora;

/* Maps of one input are one linear layer (q, k, v; gate, up), each a part with its own pair: lora[i] is of
 * the lora[i].b.rows outputs after those of the parts before it. Parts with no outputs come last; unless
 * no part has a pair, all parts' outputs are the layer's. Σr is the sum of the pairs' ranks. */
enum { LINEAR_PARTS = 3 };

/* How many elements of spare room, `tail`, let an op take LoRA into the product itself, as Σr more of the
 * sum's terms: x's and the weight's rows then go on for so many columns past the view (ld >= cols + tail),
 * dy's too, and so many rows of the weight's width lie past the weight's last. The op overwrites them at
 * will. 0: the device has no use for any. Results do not depend on it but for rounding. */
int64_t linear_tail(const Device *dev, int64_t rank); /* of Σr */

/* y = act(x·Wᵀ + bias + LoRA) (+ residual, after the activation). */
typedef struct LinearArgs {
    Tensor x;      /* [n, in] */
    Tensor weight; /* [out, in] */
    Tensor bias;   /* [1, out] or absent */
    Lora lora[LINEAR_PARTS];
    int64_t tail;   /* 0, or at least linear_tail's columns past x and weight */
    bool tail_kept; /* the weight's is as an earlier op_linear with these very pairs left it */
    Activation act;
    Tensor residual; /* [n, out] or absent; may be y itself */
    Tensor y;        /* [n, out] */
    Tensor low;      /* [n, Σr]: dropout(x)·Aᵀ of each pair, kept for backward; absent without LoRA */
    bool low_known;  /* low holds them already: what made x computed them (op_swiglu) */
} LinearArgs;
OP(Linear, linear);

/* Gradients of y = x·Wᵀ + bias + LoRA, without activation (apply its backward to dy first). */
typedef struct LinearBackwardArgs {
    Tensor x;           /* [n, in]; needed for da and dweight */
    Tensor gamma, rstd; /* [1, in] and [n, 1] F32, or absent: the layer read x·rstd·gamma, as op_rms_norm with one
                         * group wrote it, and da is of that; then no dweight is to be had */
    Tensor weight;      /* [out, in] */
    Lora lora[LINEAR_PARTS];
    int64_t tail;    /* 0, or at least linear_tail's columns past dy and rows past weight */
    Tensor low;      /* [n, Σr] from forward; needed for db */
    Tensor dlow;     /* [n, Σr]: scale · dy·B of each pair, written, or absent */
    bool dlow_known; /* dlow is read instead: what made dy computed it (op_swiglu_backward) */
    Tensor dy;       /* [n, out] */
    Tensor dx;       /* [n, in] or absent; written, or added to where accumulate_dx */
    bool accumulate_dx;
    Tensor da[LINEAR_PARTS], db[LINEAR_PARTS]; /* like the pairs' a and b, or absent; accumulated */
    Tensor dweight, dbias;                     /* like weight and bias, F32, or absent; accumulated */
} LinearBackwardArgs;
OP(LinearBackward, linear_backward);

/* ---- normalisation ------------------------------------------------------------------------ */

/* y = act((x - mean)·rstd·gamma + beta), population variance over the row. */
typedef struct LayerNormArgs {
    Tensor x;           /* [n, d] */
    Tensor gamma, beta; /* [1, d] */
    float eps;
    Activation act;
    Tensor y;          /* [n, d]; may alias x */
    Tensor mean, rstd; /* [1, n] F32 for backward, or absent */
} LayerNormArgs;
OP(LayerNorm, layer_norm);

/* Without activation. */
typedef struct LayerNormBackwardArgs {
    Tensor x; /* [n, d]: the forward's */
    Tensor gamma, mean, rstd, dy;
    Tensor dx;            /* [n, d] or absent; may alias dy */
    Tensor residual_grad; /* [n, d] or absent: added to dx (the gradient that bypasses the norm); may alias dx */
    Tensor dgamma, dbeta; /* [1, d] F32 or absent; accumulated */
} LayerNormBackwardArgs;
OP(LayerNormBackward, layer_norm_backward);

/* y = x·rstd·gamma with rstd = (mean(x²) + eps)^-½ over each of `groups` equal parts of the row (1 for a
 * layer's norm; heads for Qwen3's q and k norms). */
typedef struct RmsNormArgs {
    Tensor x;     /* [n, d] */
    Tensor gamma; /* [1, d / groups] */
    float eps;
    int groups;
    Tensor y;    /* [n, d]; may alias x */
    Tensor rstd; /* [n, groups] F32, or absent */
} RmsNormArgs;
OP(RmsNorm, rms_norm);

typedef struct RmsNormBackwardArgs {
    Tensor x, gamma, rstd, dy; /* x: the forward's */
    int groups;
    Tensor dx;            /* [n, d] or absent; may alias dy */
    Tensor residual_grad; /* [n, d] or absent: added to dx; may alias dx */
    Tensor dgamma;        /* [1, d / groups] F32 or absent; accumulated */
} RmsNormBackwardArgs;
OP(RmsNormBackward, rms_norm_backward);

/* Per segment and channel over time (GroupNorm with one channel a group, WavLM base's first layer):
 * y = act((x - mean)·rstd·gamma + beta), population variance. Mean and variance are of the first rows of each
 * segment, as many as it has in `counted`, at least one where it has any; all of its rows are normed. */
typedef struct SegmentNormArgs {
    Tensor x; /* [n, c] */
    Packed segments, counted;
    Tensor gamma, beta; /* [1, c] */
    float eps;
    Activation act;
    Tensor y; /* [n, c]; may alias x */
} SegmentNormArgs;
OP(SegmentNorm, segment_norm);

/* ---- speech front end --------------------------------------------------------------------- */

/* Each segment of a waveform to zero mean and unit variance: (x - mean) / sqrt(var + 1e-7). */
typedef struct WaveNormArgs {
    Tensor x; /* [n, 1] F32 */
    Packed segments;
    Tensor y; /* [n, 1]; may alias x */
} WaveNormArgs;
OP(WaveNorm, wave_norm);

/* 1-D convolution of a waveform without padding, channels last: y[t, o] = act(b[o] + Σ_j W[o, j] ·
 * x[stride·t + j]) within each segment. Convolutions of many channels are products of matrices, whose rows are
 * windows of x: op_linear. A segment of y has at least the (len - kernel) / stride + 1 rows, or 0, that are made of
 * whole windows; those past them are as if made of a window of zeros. Where there are gamma and beta, each row is
 * normalised over its channels before the activation, as op_layer_norm does. */
typedef struct ConvArgs {
    Tensor x;           /* [n_in, 1] */
    Tensor weight;      /* [cout, kernel] */
    Tensor bias;        /* [1, cout] or absent */
    Tensor gamma, beta; /* [1, cout] or both absent */
    float eps;
    int kernel, stride;
    Packed in_segments, out_segments;
    Activation act;
    Tensor y; /* [n_out, cout] */
} ConvArgs;
OP(Conv, conv);

/* WavLM's positional convolution: same length, `groups` groups, zero padding of kernel/2 on the left
 * (an even kernel's extra output dropped): y[t, o] = x[t, o] + GELU(b[o] + Σ_{j,c} W[o, j, c] ·
 * x[t + j - kernel/2, group(o)·w + c]) with w = h / groups. */
typedef struct PosConvArgs {
    Tensor x;      /* [n, h] */
    Tensor weight; /* [h, kernel · w], taps outermost, weight norm already folded */
    Tensor bias;   /* [1, h] */
    int kernel, groups;
    Packed segments;
    Tensor y; /* [n, h] */
} PosConvArgs;
OP(PosConv, pos_conv);

/* The gate of WavLM's relative position bias (reference: Chen et al. 2022, section 3.1): for head h of
 * row i, slice = u[i, h·dim ..], z = G·slice + b in R⁸, alpha = σ(z0+z1+z2+z3), beta = σ(z4+..+z7),
 * gate = alpha·(beta·c[h] - 1) + 2. */
typedef struct RelGateArgs {
    Tensor u;      /* [n, heads · dim]: the attention's input */
    Tensor weight; /* [8, dim] */
    Tensor bias;   /* [1, 8] */
    Tensor scale;  /* [1, heads]: gru_rel_pos_const */
    int heads;
    Tensor gate; /* [n, heads] F32 */
} RelGateArgs;
OP(RelGate, rel_gate);

/* ---- attention ---------------------------------------------------------------------------- */

/* out = softmax(scale·q·kᵀ + gate[i,h]·bias[h, j-i+L-1])·v per segment and head, blockwise: nothing
 * T×T is stored. Segment s of the queries attends to segment s of the keys. Query head h reads key
 * head h / (heads / kv_heads). Causal: query i of nq sees keys 0 .. nk - nq + i. */
typedef struct AttentionArgs {
    Tensor q;    /* [nq, heads · dim] */
    Tensor k, v; /* [nk, kv_heads · dim] */
    Packed queries, keys;
    int heads, kv_heads, dim; /* dim <= 128 */
    float scale;
    bool causal;
    Tensor bias; /* [heads, 2L-1] F32 with L >= keys.longest, or absent */
    Tensor gate; /* [nq, heads] F32; absent with bias: 1 */
    Tensor out;  /* [nq, heads · dim] */
    Tensor lse;  /* [nq, heads] F32 log-sum-exp of the scores for backward, or absent */
} AttentionArgs;
OP(Attention, attention);

typedef struct AttentionBackwardArgs {
    AttentionArgs forward;   /* as it was called, with out and lse filled */
    Tensor dout;             /* [nq, heads · dim] */
    Tensor dq, dk, dv;       /* like q, k, v; all written */
    Tensor dbias, dgate;     /* like bias and gate, F32, or absent; dbias accumulated */
    Tensor rope;             /* [positions, dim] F32, RopeArgs' table, or absent: q and k are what op_rope left, and
                              * dq and dk are gradients of what it was given */
    const int32_t *position; /* [nq], device, with rope: of the rows of q, which are those of k */
} AttentionBackwardArgs;
OP(AttentionBackward, attention_backward);

/* A KV cache is [slots · capacity, kv_heads · dim]; position p of slot s is row s·capacity + p. */
typedef struct CacheAppendArgs {
    Tensor k, v;                    /* [n, kv_heads · dim] */
    const int32_t *slot, *position; /* [n], device */
    int64_t capacity;
    Tensor k_cache, v_cache;
} CacheAppendArgs;
OP(CacheAppend, cache_append);

/* Slot to[i] becomes a copy of slot from[i] (beam search); the copies happen as if all at once. */
typedef struct CacheCopyArgs {
    const int32_t *from, *to, *length; /* [count], device: rows to copy of each */
    int32_t count;
    int64_t capacity;
    Tensor k_cache, v_cache;
} CacheCopyArgs;
OP(CacheCopy, cache_copy);

/* One query per row i, over positions 0 .. length[i]-1 of slot[i]. */
typedef struct AttentionCachedArgs {
    Tensor q; /* [n, heads · dim] */
    Tensor k_cache, v_cache;
    const int32_t *slot, *length; /* [n], device */
    int64_t capacity, longest;    /* longest: an upper bound of length */
    int heads, kv_heads, dim;
    float scale;
    Tensor out; /* [n, heads · dim] */
} AttentionCachedArgs;
OP(AttentionCached, attention_cached);

/* Rotary positions, half-split layout (Su et al. 2021; Llama), in place on each head of x. */
typedef struct RopeArgs {
    Tensor x;                /* [n, heads · dim] */
    const int32_t *position; /* [n], device */
    Tensor table;            /* [positions, dim] F32: cos of the dim/2 frequencies, then sin */
    int heads, dim;
    bool inverse; /* rotate back: the gradient */
} RopeArgs;
OP(Rope, rope);

/* ---- elementwise -------------------------------------------------------------------------- */

/* The gated unit of an MLP (Shazeer 2020), y = silu(gate) ⊙ up; y may alias either. It and its gradients are the widest
 * tensors of a layer: what LoRA wants of them is computed while they pass, so that the linear layers beside need not
 * read them again. */
typedef struct SwigluArgs {
    Tensor gate, up, y; /* [n, f] */
    Lora down;          /* the pair of the layer that takes y, or absent */
    Tensor low;         /* [n, r] with it: dropout(y)·Aᵀ, as that layer's op_linear would (LinearArgs.low_known) */
} SwigluArgs;
OP(Swiglu, swiglu);

typedef struct SwigluBackwardArgs {
    Tensor gate, up, dy; /* [n, f] */
    Tensor dgate, dup;   /* may alias gate and up */
    struct {             /* the layer that takes y */
        Lora lora;       /* or absent */
        Tensor dlow;     /* [n, r]: as its op_linear_backward left it */
        Tensor da;       /* [r, f] F32 or absent; accumulated: dlowᵀ·dropout(y), y being computed again */
    } down;
    struct {          /* the layer whose outputs are gate, then up */
        Lora lora[2]; /* or absent */
        Tensor low;   /* [n, Σr] from its forward; needed for db */
        Tensor dlow;  /* [n, Σr] or absent: scale · dgate·B, scale · dup·B (LinearBackwardArgs.dlow_known) */
        Tensor db[2]; /* [f, r] F32 or absent; accumulated: scale · dgateᵀ·low, scale · dupᵀ·low */
    } gate_up;
} SwigluBackwardArgs;
OP(SwigluBackward, swiglu_backward);

typedef struct ActivationArgs { /* y = act(x); y may alias x */
    Tensor x, y;
    Activation act;
} ActivationArgs;
OP(Activation, activation);

typedef struct ActivationBackwardArgs { /* dx = dy ⊙ act'(x); dx may alias dy */
    Tensor x, dy, dx;
    Activation act;
} ActivationBackwardArgs;
OP(ActivationBackward, activation_backward);

typedef struct ConvertArgs { /* y = x in y's dtype: F32 and the device's, either way; bf16 rounds to nearest even */
    Tensor x, y;
} ConvertArgs;
OP(Convert, convert);

typedef struct AddArgs { /* y = alpha·a + beta·b; y may alias either; all of the device's dtype or all F32 */
    Tensor a, b, y;
    float alpha, beta;
} AddArgs;
OP(Add, add);

typedef struct DropoutArgs { /* y = dropout(x); y may alias x; its own backward */
    Tensor x, y;
    Dropout dropout;
} DropoutArgs;
OP(Dropout, dropout);

/* y = x + sigma · noise, standard normal: elements e and e+1 (e even, e = position·cols + c) are the
 * pair made of words e%4 and e%4+1 of philox(seed, e / 4, place, sample, step). y may alias x. */
typedef struct NoiseArgs {
    Tensor x, y;
    float sigma;
    Dropout key; /* p unused */
} NoiseArgs;
OP(Noise, noise);

/* ---- rows --------------------------------------------------------------------------------- */

/* y[i] = x[index[i]], or zeros where index[i] < 0. Also the embedding lookup. */
typedef struct GatherRowsArgs {
    Tensor x; /* [rows, d] */
    const int32_t *index;
    Tensor y; /* [n, d] */
} GatherRowsArgs;
OP(GatherRows, gather_rows);

/* y[index[i]] = x[i], or += where accumulate; each index at most once, negative ones skipped. */
typedef struct ScatterRowsArgs {
    Tensor x; /* [n, d] */
    const int32_t *index;
    bool accumulate;
    Tensor y; /* [rows, d] */
} ScatterRowsArgs;
OP(ScatterRows, scatter_rows);

/* Stacks k frames to a row: row r of segment s is frames r·k .. r·k+k-1 of it, each frame being
 * x's columns then side's; frames past the segment's end are zeros. ⌈len / k⌉ rows a segment. */
typedef struct StackFramesArgs {
    Tensor x;    /* [n, h] */
    Tensor side; /* [n, p] F32 or absent */
    Packed frames, rows;
    int k;
    Tensor y; /* [rows.total, k · (h + p)] */
} StackFramesArgs;
OP(StackFrames, stack_frames);

typedef struct StackFramesBackwardArgs {
    Tensor dy;
    Packed frames, rows;
    int k;
    int side;  /* p */
    Tensor dx; /* [n, h] */
} StackFramesBackwardArgs;
OP(StackFramesBackward, stack_frames_backward);

/* y = Σ_i softmax(w)_i · state[i] (SUPERB's weighted sum of hidden states). */
enum { LAYER_MIX_MAX = 64 };
typedef struct LayerMixArgs {
    Tensor state[LAYER_MIX_MAX]; /* `count` of [n, h] */
    int count;
    Tensor weight; /* [1, count] F32 */
    Tensor y;      /* [n, h] */
} LayerMixArgs;
OP(LayerMix, layer_mix);

typedef struct LayerMixBackwardArgs {
    Tensor state[LAYER_MIX_MAX];
    int count;
    Tensor weight, dy;
    Tensor dweight; /* [1, count] F32; accumulated */
} LayerMixBackwardArgs;
OP(LayerMixBackward, layer_mix_backward);

/* Mean over the rows of each segment (an empty one gives zeros), and its gradient. */
typedef struct SegmentMeanArgs {
    Tensor x; /* [n, d] */
    Packed segments;
    Tensor y; /* [segments.count, d] */
} SegmentMeanArgs;
OP(SegmentMean, segment_mean);

typedef struct SegmentMeanBackwardArgs {
    Tensor dy;
    Packed segments;
    Tensor dx; /* [n, d] */
} SegmentMeanBackwardArgs;
OP(SegmentMeanBackward, segment_mean_backward);

/* ---- loss and optimizer ------------------------------------------------------------------- */

/* Softmax cross-entropy of a chunk of rows in fp32: row_loss[i] = -log softmax(logits[i])[target[i]].
 * Where `gradient`, logits become scale · (softmax - onehot). */
typedef struct CrossEntropyArgs {
    Tensor logits; /* [n, vocab] */
    const int32_t *target;
    float scale;
    bool gradient;
    Tensor row_loss; /* [1, n] F32 */
} CrossEntropyArgs;
OP(CrossEntropy, cross_entropy);

/* What greedy search takes of rows of logits: the greatest of each, as its column, the lowest where several are
 * equal, and itself; and log Σ exp of the row. A row with NaN has a log_sum of NaN and a token that means nothing,
 * but lies in the vocabulary. */
typedef struct GreedyArgs {
    Tensor logits;         /* [n, vocab] with vocab >= 1 */
    Tensor token;          /* [1, n] int32 */
    Tensor logit, log_sum; /* [1, n] F32 */
} GreedyArgs;
OP(Greedy, greedy);

/* Σ x² of an F32 tensor, deterministically, in double, stored as F64 [1, 1]. */
typedef struct SumSquaresArgs {
    Tensor x, out;
} SumSquaresArgs;
OP(SumSquares, sum_squares);

/* AdamW (Loshchilov & Hutter 2019; torch.optim.AdamW's order of operations) over flat F32 buffers:
 * g = grad_scale·grad; p *= 1 - lr·decay; m, v updated; p -= lr·m̂ / (√v̂ + eps). Each segment has its
 * own learning rate and decay. With norm_squared, Σ grad² as op_sum_squares leaves it, the device clips:
 * where norm = grad_scale·√norm_squared > max_norm > 0, grad_scale is multiplied by max_norm / (norm + 1e-6)
 * (torch.nn.utils.clip_grad_norm_), and a norm that is not finite leaves everything as it was. */
typedef struct AdamwSegment {
    int64_t offset, count;
    float lr, decay;
} AdamwSegment;

typedef struct AdamwArgs {
    Tensor param, grad, m, v;     /* [1, total] F32 */
    const AdamwSegment *segments; /* host */
    int segment_count;
    float beta1, beta2, eps, grad_scale;
    int64_t step;        /* 1 for the first */
    Tensor norm_squared; /* [1, 1] F64 or absent */
    double max_norm;     /* 0: none */
} AdamwArgs;
OP(Adamw, adamw);

#undef OP
#endif
