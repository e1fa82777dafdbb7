/* How much scratch an op wants reserved: the most that any device of this build uses for it. */
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

#define FROM_CPU(Name, name)                                                                                           \
    size_t name##_scratch(const Name##Args *a) { return cpu_##name##_scratch(a); }
#define NONE(Name, name)                                                                                               \
    size_t name##_scratch(const Name##Args *a) {                                                                       \
        (void)a;                                                                                                       \
        return 0;                                                                                                      \
    }

NONE(Matmul, matmul)
FROM_CPU(Linear, linear)
FROM_CPU(LinearBackward, linear_backward)
NONE(LayerNorm, layer_norm)
NONE(LayerNormBackward, layer_norm_backward)
NONE(RmsNorm, rms_norm)
NONE(RmsNormBackward, rms_norm_backward)
FROM_CPU(SegmentNorm, segment_norm)
NONE(WaveNorm, wave_norm)
NONE(Conv, conv)
NONE(PosConv, pos_conv)
NONE(RelGate, rel_gate)
NONE(Attention, attention)
NONE(AttentionBackward, attention_backward)
NONE(CacheAppend, cache_append)
FROM_CPU(CacheCopy, cache_copy)
NONE(AttentionCached, attention_cached)
NONE(Rope, rope)
NONE(Swiglu, swiglu)
NONE(SwigluBackward, swiglu_backward)
NONE(Activation, activation)
NONE(ActivationBackward, activation_backward)
NONE(Add, add)
NONE(Dropout, dropout)
NONE(Noise, noise)
NONE(GatherRows, gather_rows)
NONE(ScatterRows, scatter_rows)
NONE(StackFrames, stack_frames)
NONE(StackFramesBackward, stack_frames_backward)
NONE(LayerMix, layer_mix)
NONE(LayerMixBackward, layer_mix_backward)
NONE(SegmentMean, segment_mean)
NONE(SegmentMeanBackward, segment_mean_backward)
NONE(CrossEntropy, cross_entropy)
FROM_CPU(SumSquares, sum_squares)
NONE(Adamw, adamw)
