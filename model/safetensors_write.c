#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

enum { HEADER_ALIGNMENT = 8, LENGTH_BYTES = 8 };

/* The entry of a tensor whose data begins at *offset, which moves on; null if it cannot be had. */
static json_t *describe(const StoredTensor *tensor, size_t *offset, const char *path, Error *err) {
    size_t elements = 1, bytes, end;
    json_t *shape = json_array();
    for (int i = 0; i < tensor->dims; i++) {
        json_array_append_new(shape, json_integer(tensor->shape[i]));
        if (tensor->shape[i] < 0 || __builtin_mul_overflow(elements, (size_t)tensor->shape[i], &elements))
            elements = SIZE_MAX;
    }
    if (__builtin_mul_overflow(elements, dtype_size(tensor->dtype), &bytes) || bytes != tensor->bytes ||
        __builtin_add_overflow(*offset, bytes, &end)) {
        fail(err, "%s: tensor \"%s\" has %zu bytes, which its shape and dtype do not explain", path, tensor->name,
             tensor->bytes);
        json_decref(shape);
        return NULL;
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_name(tensor->dtype), "shape", shape, "data_offsets",
                              (json_int_t)*offset, (json_int_t)end);
    if (!entry) fail(err, "%s: out of memory", path);
    *offset = end;
    return entry;
}

static json_t *describe_metadata(const char *const *pairs, const char *path, Error *err) {
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    bool ok = metadata != NULL;
    for (; ok && pairs && pairs[0]; pairs += 2)
        ok = json_object_set_new(metadata, pairs[0], json_string(pairs[1])) == 0;
    if (ok) return metadata;
    fail(err, "%s: metadata must be UTF-8 text", path);
    json_decref(metadata);
    return NULL;
}

static json_t *build_header(const char *path, const StoredTensor *tensors, size_t count, const char *const *metadata,
                            Error *err) {
    json_t *header = json_object(), *described = describe_metadata(metadata, path, err);
    bool ok = header && described && json_object_set_new(header, "__metadata__", described) == 0;
    size_t offset = 0;
    for (size_t i = 0; ok && i < count; i++) {
        if (json_object_get(header, tensors[i].name)) {
            ok = fail(err, "%s: two tensors are to be written as \"%s\"", path, tensors[i].name);
            break;
        }
        json_t *entry = describe(&tensors[i], &offset, path, err);
        ok = entry && (json_object_set_new(header, tensors[i].name, entry) == 0 ||
                       fail(err, "%s: the tensor name \"%s\" is not UTF-8", path, tensors[i].name));
    }
    if (ok) return header;
    fail(err, "%s: out of memory", path);
    json_decref(header);
    return NULL;
}

static void write_header(FILE *stream, const char *text) {
    size_t length = strlen(text);
    size_t padded = (length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    for (int i = 0; i < LENGTH_BYTES; i++) fputc((int)(padded >> (8 * i) & 0xff), stream);
    fwrite(text, 1, length, stream);
    for (size_t i = length; i < padded; i++) fputc(' ', stream);
}

bool tensors_write(const char *path, const StoredTensor *tensors, size_t count, const char *const *metadata,
                   Error *err) {
    json_t *header = build_header(path, tensors, count, metadata, err);
    if (!header) return false;
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    AtomicFile file;
    if (!text) return fail(err, "%s: out of memory", path);
    bool ok = atomic_open(&file, path, err);
    if (ok) {
        write_header(file.stream, text);
        for (size_t i = 0; i < count && !ferror(file.stream); i++)
            if (tensors[i].bytes) fwrite(tensors[i].data, 1, tensors[i].bytes, file.stream);
        ok = atomic_commit(&file, err);
    }
    free(text);
    return ok;
}
