/* PyTorch checkpoints to a folder of safetensors. */
#ifndef SEMOLLM_MODEL_CONVERT_H
#define SEMOLLM_MODEL_CONVERT_H

#include "base/base.h"

#define CONVERT_SHARD_BYTES ((size_t)5000000000) /* what transformers writes */

typedef struct ConvertSummary {
    size_t tensors, bytes, files;
} ConvertSummary;

/* `source`: a Hugging Face folder with pytorch_model.bin (or its index and shards), whose JSON and
 * tokenizer files are copied; a .bin or .pt file, whose neighbours are copied likewise; or one of
 * Microsoft's WavLM .pt files, which carries its own configuration. `target` must not exist; it
 * appears whole or not at all. Tensors keep their names and types (bool becomes U8); Microsoft's
 * names become those of Hugging Face. */
bool convert_model(const char *source, const char *target, size_t shard_bytes, ConvertSummary *summary, Error *err);

#endif
