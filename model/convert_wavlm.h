/* Microsoft's own WavLM checkpoints, {cfg, model}, in Hugging Face's terms. */
#ifndef SEMOLLM_MODEL_CONVERT_WAVLM_H
#define SEMOLLM_MODEL_CONVERT_WAVLM_H

#include "model/pickle.h"

/* Hugging Face's name of a tensor; null with an error for one that WavLM does not have, null without
 * for one that is left out (the pretraining's heads). free() it. */
char *wavlm_tensor_name(const char *name, const char *where, Error *err);

/* config.json and preprocessor_config.json of a checkpoint's cfg, into the folder. */
bool wavlm_write_configs(const PickleValue *cfg, const char *folder, const char *where, Error *err);

#endif
