/* The operations of ops.h as a list, for what must be said once for each of them. Private to kernels/. */
#ifndef SEMOLLM_KERNELS_OP_LIST_H
#define SEMOLLM_KERNELS_OP_LIST_H

#define OP_LIST(X)                                                                                                     \
    X(Matmul, matmul)                                                                                                  \
    X(Linear, linear)                                                                                                  \
    X(LinearBackward, linear_backward)                                                                                 \
    X(LayerNorm, layer_norm)                                                                                           \
    X(LayerNormBackward, layer_norm_backward)                                                                          \
    X(RmsNorm, rms_norm)                                                                                               \
    X(RmsNormBackward, rms_norm_backward)                                                                              \
    X(SegmentNorm, segment_norm)                                                                                       \
    X(WaveNorm, wave_norm)                                                                                             \
    X(Conv, conv)                                                                                                      \
    X(PosConv, pos_conv)                                                                                               \
    X(RelGate, rel_gate)                                                                                               \
    X(Attention, attention)                                                                                            \
    X(AttentionBackward, attention_backward)                                                                           \
    X(CacheAppend, cache_append)                                                                                       \
    X(CacheCopy, cache_copy)                                                                                           \
    X(AttentionCached, attention_cached)                                                                               \
    X(Rope, rope)                                                                                                      \
    X(Swiglu, swiglu)                                                                                                  \
    X(SwigluBackward, swiglu_backward)                                                                                 \
    X(Activation, activation)                                                                                          \
    X(ActivationBackward, activation_backward)                                                                         \
    X(Convert, convert)                                                                                                \
    X(Add, add)                                                                                                        \
    X(Dropout, dropout)                                                                                                \
    X(Noise, noise)                                                                                                    \
    X(GatherRows, gather_rows)                                                                                         \
    X(ScatterRows, scatter_rows)                                                                                       \
    X(StackFrames, stack_frames)                                                                                       \
    X(StackFramesBackward, stack_frames_backward)                                                                      \
    X(LayerMix, layer_mix)                                                                                             \
    X(LayerMixBackward, layer_mix_backward)                                                                            \
    X(SegmentMean, segment_mean)                                                                                       \
    X(SegmentMeanBackward, segment_mean_backward)                                                                      \
    X(CrossEntropy, cross_entropy)                                                                                     \
    X(Greedy, greedy)                                                                                                  \
    X(SumSquares, sum_squares)                                                                                         \
    X(Adamw, adamw)

#endif
