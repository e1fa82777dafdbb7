/* The CPU's ops that take no scratch; the others say beside their code what they take. */
#include "kernels/cpu/cpu.h"

#define NONE(Name, name)                                                                                               \
    size_t cpu_##name##_scratch(const Name##Args *a) {                                                                 \
        (void)a;                                                                                                       \
        return 0;                                                                                                      \
    }

NONE(Matmul, matmul)
NONE(LayerNorm, layer_norm)
NONE(LayerNormBackward, layer_norm_backward)
NONE(RmsNorm, rms_norm)
NONE(RmsNormBackward, rms_norm_backward)
NONE(WaveNorm, wave_norm)
NONE(Conv, conv)
NONE(PosConv, pos_conv)
NONE(RelGate, rel_gate)
NONE(Attention, attention)
NONE(AttentionBackward, attention_backward)
NONE(CacheAppend, cache_append)
NONE(AttentionCached, attention_cached)
NONE(Rope, rope)
NONE(Activation, activation)
NONE(ActivationBackward, activation_backward)
NONE(Convert, convert)
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
NONE(Greedy, greedy)
NONE(Adamw, adamw)
