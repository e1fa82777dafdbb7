/* safetensors files (huggingface/safetensors README): memory-mapped reading of one file or of a
 * sharded model folder, and atomic writing. Every rule of the format is checked on opening: header
 * length and JSON, dtypes, shapes times sizes, offsets in range, contiguous and without holes or
 * overlap, unique names, the file's end. */
#ifndef SEMOLLM_MODEL_SAFETENSORS_H
#define SEMOLLM_MODEL_SAFETENSORS_H

#include "base/base.h"

enum { TENSOR_DIMS_MAX = 8 };

typedef struct StoredTensor {
    const char *name;
    DType dtype;
    int dims;
    int64_t shape[TENSOR_DIMS_MAX];
    const void *data; /* little-endian, any alignment */
    size_t bytes;
} StoredTensor;

typedef struct TensorFiles TensorFiles;

/* `path`: a .safetensors file, or a folder with model.safetensors or model.safetensors.index.json.
 * A folder that has only pytorch_model.bin is an error that names `semollm convert`. */
TensorFiles *tensors_open(const char *path, Error *err);
void tensors_close(TensorFiles *files);

size_t tensors_count(const TensorFiles *files);
const StoredTensor *tensors_at(const TensorFiles *files, size_t index);       /* in file order */
const StoredTensor *tensors_find(const TensorFiles *files, const char *name); /* null: not there */
const char *tensors_metadata(const TensorFiles *files, const char *key);      /* null: not there */

/* Reads a tensor of exactly this shape as floats (from F32, F16 or BF16) into `out`. Errors name
 * file, tensor, expected and found shape. */
bool tensors_read(const TensorFiles *files, const char *name, int dims, const int64_t *shape, float *out, Error *err);

/* Its data has been read and is not wanted soon: its pages need no memory. They can still be read. */
void tensors_release(const StoredTensor *tensor);

/* Writes `count` tensors in this order, with {"format": "pt"} and the given metadata pairs
 * ("key", "value", ..., null; may be null). Atomic. */
bool tensors_write(const char *path, const StoredTensor *tensors, size_t count, const char *const *metadata,
                   Error *err);

#endif
