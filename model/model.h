/* What train/ and eval/ may include of the models. */
#ifndef SEMOLLM_MODEL_MODEL_H
#define SEMOLLM_MODEL_MODEL_H

#include "model/chat.h"
#include "model/decoder.h"
#include "model/device_choice.h"
#include "model/params.h"
#include "model/safetensors.h"
#include "model/speech_llm.h"
#include "model/tokenizer.h"

/* Commands: convert, encode, logits, tokenize. */
extern const Command MODEL_COMMANDS[]; /* ended by a null name */

#endif
