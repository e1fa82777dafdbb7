#include "model/torch_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TAR_MAGIC_AT = 257 };

/* What a file that is no zip archive may be instead. */
static bool fail_foreign(const FileMap *map, const char *path, Error *err) {
    static const unsigned char magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46}; /* torch < 1.6's */
    bool old = map->size >= sizeof magic && !memcmp(map->data, magic, sizeof magic);
    bool tar = map->size >= TAR_MAGIC_AT + 5 && !memcmp(map->data + TAR_MAGIC_AT, "ustar", 5);
    if (old || tar)
        return fail(err,
                    "%s: written in the old format of PyTorch before 1.6, which is not read here; load it with "
                    "torch.load(path, weights_only=True) and torch.save it again",
                    path);
    if (map->size >= 2 && map->data[0] == 0x80 && map->data[1] <= 5)
        return fail(err, "%s: a bare Python pickle, not a file that torch.save wrote", path);
    return fail(err, "%s: not a PyTorch file: it does not begin as a zip archive does", path);
}

/* The one entry FOLDER/data.pkl. */
static ZipEntry *find_pickle(TorchFile *file, Error *err) {
    ZipEntry *found = NULL;
    for (size_t i = 0; i < file->zip.count; i++) {
        const char *name = file->zip.entries[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash, "/data.pkl") != 0) continue;
        if (found) {
            fail(err, "%s: the archive holds two data.pkl", file->path);
            return NULL;
        }
        found = &file->zip.entries[i];
        free(file->root);
        file->root = text_format(err, "%.*s", (int)(slash - name), name);
        if (!file->root) return NULL;
    }
    if (!found) fail(err, "%s: the archive holds no data.pkl: not a file that torch.save wrote", file->path);
    return found;
}

static bool check_byte_order(const TorchFile *file, Error *err) {
    char *name = text_format(err, "%s/byteorder", file->root);
    if (!name) return false;
    ZipEntry *entry = zip_find(&file->zip, name);
    free(name);
    if (!entry) return true; /* older files have none and are little-endian */
    if (!zip_open_entry(&file->zip, entry, err)) return false;
    if (entry->size == 6 && !memcmp(entry->data, "little", 6)) return true;
    return fail(err, "%s: its numbers are not little-endian, as is expected here", file->path);
}

static bool read_root(TorchFile *file, Error *err) {
    ZipEntry *entry = find_pickle(file, err);
    if (!entry || !check_byte_order(file, err) || !zip_open_entry(&file->zip, entry, err)) return false;
    if (entry->size > PICKLE_LIMIT)
        return fail(err, "%s: data.pkl has %" PRIu64 " bytes, at most %d are read", file->path, entry->size,
                    PICKLE_LIMIT);
    size_t used;
    return pickle_read(&file->pickle, entry->data, (size_t)entry->size, file->path, &used, err);
}

bool torch_open(TorchFile *file, const char *path, Error *err) {
    *file = (TorchFile){.path = text_copy(path, err)};
    FileMap map;
    bool ok = file->path && file_map(&map, path, err);
    if (ok && !zip_is(&map)) {
        ok = fail_foreign(&map, path, err);
        file_unmap(&map);
    } else if (ok) {
        ok = zip_open(&file->zip, map, file->path, err) && read_root(file, err);
    }
    if (!ok) torch_close(file);
    return ok;
}

void torch_close(TorchFile *file) {
    pickle_free(&file->pickle);
    zip_close(&file->zip);
    free(file->root);
    free(file->path);
    *file = (TorchFile){0};
}

static bool holds_tensors(const PickleValue *value) {
    if (!value || value->kind != PICKLE_DICT) return false;
    for (size_t i = 1; i < value->as.list.count; i += 2)
        if (value->as.list.items[i]->kind == PICKLE_TENSOR) return true;
    return false;
}

const PickleValue *torch_state(const TorchFile *file, Error *err) {
    static const char *const inside[] = {"model", "state_dict", "model_state_dict"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        const PickleValue *value = pickle_get(file->pickle.root, inside[i]);
        if (holds_tensors(value)) return value;
    }
    if (holds_tensors(file->pickle.root)) return file->pickle.root;
    fail(err, "%s: no dict of tensors is at its root or under \"model\" or \"state_dict\"", file->path);
    return NULL;
}

/* ---- tensors ---- */

static bool count_elements(const PickleTensor *tensor, size_t *elements) {
    *elements = 1;
    for (int i = 0; i < tensor->dims; i++)
        if (__builtin_mul_overflow(*elements, (size_t)tensor->shape[i], elements)) return false;
    return true;
}

bool torch_tensor_bytes(const PickleTensor *tensor, size_t *bytes) {
    size_t elements;
    return count_elements(tensor, &elements) &&
           !__builtin_mul_overflow(elements, dtype_size(tensor->storage->dtype), bytes);
}

/* Whether every element lies in the storage. */
static bool inside_storage(const PickleTensor *tensor, size_t elements) {
    int64_t last = tensor->offset, reach;
    if (elements == 0) return true;
    for (int i = 0; i < tensor->dims; i++)
        if (__builtin_mul_overflow(tensor->shape[i] - 1, tensor->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return false;
    return last < tensor->storage->count;
}

static bool is_contiguous(const PickleTensor *tensor, size_t elements) {
    int64_t expected = 1;
    for (int i = tensor->dims; elements > 0 && i-- > 0;) {
        if (tensor->shape[i] != 1 && tensor->stride[i] != expected) return false;
        expected *= tensor->shape[i];
    }
    return true;
}

static const unsigned char *storage_data(const TorchFile *file, const PickleStorage *storage, const char *name,
                                         Error *err) {
    char *key = text_format(err, "%s/data/%s", file->root, storage->key);
    if (!key) return NULL;
    ZipEntry *entry = zip_find(&file->zip, key);
    size_t bytes;
    bool ok = entry ||
              fail(err, "%s: the storage \"%.100s\" of tensor \"%.200s\" is not in the archive", file->path, key, name);
    ok = ok && zip_open_entry(&file->zip, entry, err);
    if (ok &&
        (__builtin_mul_overflow((size_t)storage->count, dtype_size(storage->dtype), &bytes) || bytes > entry->size))
        ok = fail(err,
                  "%s: the storage of tensor \"%.200s\" should hold %" PRId64 " elements of %s, but has %" PRIu64
                  " bytes",
                  file->path, name, storage->count, dtype_name(storage->dtype), entry->size);
    free(key);
    return ok ? entry->data : NULL;
}

/* Elements in row-major order; the counter over all dimensions needs no recursion. */
static void copy_strided(const PickleTensor *tensor, const unsigned char *data, size_t elements, unsigned char *out) {
    size_t size = dtype_size(tensor->storage->dtype);
    int64_t index[PICKLE_DIMS_MAX] = {0}, stride[PICKLE_DIMS_MAX], at = tensor->offset;
    for (int d = 0; d < tensor->dims; d++) stride[d] = tensor->shape[d] == 1 ? 0 : tensor->stride[d]; /* may be wild */
    for (size_t i = 0; i < elements; i++) {
        memcpy(out + i * size, data + (size_t)at * size, size);
        for (int d = tensor->dims; d-- > 0;) {
            at += stride[d];
            if (++index[d] < tensor->shape[d]) break;
            at -= tensor->shape[d] * stride[d];
            index[d] = 0;
        }
    }
}

bool torch_tensor(const TorchFile *file, const PickleTensor *tensor, const char *name, StoredTensor *stored,
                  void **copy, Error *err) {
    size_t elements, bytes;
    *copy = NULL;
    if (!count_elements(tensor, &elements) || !torch_tensor_bytes(tensor, &bytes) || !inside_storage(tensor, elements))
        return fail(err, "%s: tensor \"%.200s\" reaches outside its storage of %" PRId64 " elements: damaged",
                    file->path, name, tensor->storage->count);
    const unsigned char *data = elements ? storage_data(file, tensor->storage, name, err) : NULL;
    if (elements && !data) return false;
    DType dtype = tensor->storage->dtype;
    *stored = (StoredTensor){.name = name, .dtype = dtype, .dims = tensor->dims, .bytes = bytes};
    memcpy(stored->shape, tensor->shape, sizeof stored->shape);
    if (elements > 0 && is_contiguous(tensor, elements)) {
        stored->data = data + (size_t)tensor->offset * dtype_size(dtype);
        return true;
    }
    *copy = memory_new(elements, dtype_size(dtype), err);
    if (!*copy) return false;
    if (elements > 0) copy_strided(tensor, data, elements, *copy);
    stored->data = *copy;
    return true;
}
