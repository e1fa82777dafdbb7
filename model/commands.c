#include "model/commands.h"

#include "model/model.h"

const Command MODEL_COMMANDS[] = {
    {"convert", "SRC -o DIR", "a .bin or .pt checkpoint as a safetensors folder", command_convert},
    {"encode", "WAVLM_DIR AUDIO -o X.safetensors", "every hidden state of a recording", command_encode},
    {"logits", "LLM_DIR (--ids L | --text T) -o Y", "an LLM's logits of a text", command_logits},
    {"tokenize", "LLM_DIR [--decode]", "text lines to ids and back, on stdin and stdout", command_tokenize},
    {0},
};
