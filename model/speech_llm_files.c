/* What training changed, in files: PEFT's two for LoRA, our own for the speech adapter. */
#include "model/speech_llm_internal.h"

bool speech_llm_save(const SpeechLlm *model, const char *folder, Error *err) {
    return (model->config.lora.rank == 0 || decoder_lora_save(model->decoder, folder, err)) &&
           (!model->has_encoder || adapter_save(&model->adapter, folder, err));
}

bool speech_llm_load(SpeechLlm *model, const char *folder, Error *err) {
    return (model->config.lora.rank == 0 || decoder_lora_load(model->decoder, folder, err)) &&
           (!model->has_encoder || adapter_load(&model->adapter, folder, err));
}
