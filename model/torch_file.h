/* PyTorch's .bin and .pt files: the zip archives that torch.save has written since version 1.6. */
#ifndef SEMOLLM_MODEL_TORCH_FILE_H
#define SEMOLLM_MODEL_TORCH_FILE_H

#include "model/pickle.h"
#include "model/safetensors.h"
#include "model/zip.h"

typedef struct TorchFile {
    char *path, *root; /* `root`: the folder inside the archive, "archive" or the file's name */
    Zip zip;
    Pickle pickle;
} TorchFile;

bool torch_open(TorchFile *file, const char *path, Error *err);
void torch_close(TorchFile *file);

/* The dict of tensors: the file's own root, or what stands there under "model", "state_dict" or
 * "model_state_dict". */
const PickleValue *torch_state(const TorchFile *file, Error *err);

/* A tensor as it is written, contiguous: its data is the mapped file, or `copy` (free() it) where the
 * file has it strided. `name` is the tensor's in errors and in the result. */
bool torch_tensor(const TorchFile *file, const PickleTensor *tensor, const char *name, StoredTensor *stored,
                  void **copy, Error *err);

/* The bytes that torch_tensor would give; false if they overflow. */
bool torch_tensor_bytes(const PickleTensor *tensor, size_t *bytes);

#endif
