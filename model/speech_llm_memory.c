/* What the parts of an opened model take, for plans. */
#include <string.h>

#include "model/decoder_internal.h"
#include "model/speech_llm_internal.h"

SpeechLlmMemory speech_llm_memory(const SpeechLlm *model) {
    SpeechLlmMemory memory = {.encoder = model->has_encoder ? model->wavlm.weights.size : 0,
                              .llm = model->decoder->memory_bytes,
                              .front = model->front.arena.size,
                              .activations = model->shared_bytes};
    for (int i = 0; i < model->activations.slot_count; i++)
        if (!strcmp(model->activations.slots[i].name, "llm.logits")) memory.logits = model->activations.slots[i].bytes;
    return memory;
}
