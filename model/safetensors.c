#include "model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "model/folder.h"

enum { HEADER_LIMIT = 100000000, INDEX_LIMIT = 100000000, LENGTH_BYTES = 8 };

typedef struct Shard {
    char *path;
    FileMap map;
    json_t *header; /* owns the names */
} Shard;

typedef struct Entry {
    StoredTensor tensor;
    const char *type; /* the file's name of the dtype */
    bool opaque;      /* of a dtype that we check but do not read */
    size_t shard, begin, end;
} Entry;

struct TensorFiles {
    char *path;
    Shard *shards;
    size_t shard_count, shard_capacity;
    Entry *entries; /* readable ones in file order, then opaque ones */
    size_t count, capacity, readable;
    uint32_t *table; /* entry + 1, 0: free; open addressing */
    size_t table_size;
};

/* safetensors' types of whole bytes. BOOL is read as the bytes it is. */
static const struct StoredType {
    const char *name;
    size_t size;
    DType dtype;
    bool opaque;
} STORED_TYPES[] = {
    {"F32", 4, DTYPE_F32, false},   {"F16", 2, DTYPE_F16, false},       {"BF16", 2, DTYPE_BF16, false},
    {"I64", 8, DTYPE_I64, false},   {"I32", 4, DTYPE_I32, false},       {"U8", 1, DTYPE_U8, false},
    {"F64", 8, DTYPE_F64, false},   {"BOOL", 1, DTYPE_U8, false},       {"I8", 1, DTYPE_U8, true},
    {"I16", 2, DTYPE_U8, true},     {"U16", 2, DTYPE_U8, true},         {"U32", 4, DTYPE_U8, true},
    {"U64", 8, DTYPE_U8, true},     {"F8_E4M3", 1, DTYPE_U8, true},     {"F8_E5M2", 1, DTYPE_U8, true},
    {"F8_E8M0", 1, DTYPE_U8, true}, {"F8_E4M3FNUZ", 1, DTYPE_U8, true}, {"F8_E5M2FNUZ", 1, DTYPE_U8, true},
    {"C64", 8, DTYPE_U8, true},
};

static const struct StoredType *stored_type(const char *name) {
    for (size_t i = 0; i < sizeof STORED_TYPES / sizeof *STORED_TYPES; i++)
        if (!strcmp(STORED_TYPES[i].name, name)) return &STORED_TYPES[i];
    return NULL;
}

/* ---- one entry of a header ---- */

static bool read_shape(const json_t *shape, StoredTensor *tensor, size_t *elements, const char *where, Error *err) {
    if (!json_is_array(shape)) return fail(err, "%s: \"shape\" must be an array", where);
    if (json_array_size(shape) > TENSOR_DIMS_MAX)
        return fail(err, "%s: %zu dimensions, at most %d can be read", where, json_array_size(shape), TENSOR_DIMS_MAX);
    tensor->dims = (int)json_array_size(shape);
    *elements = 1;
    for (int i = 0; i < tensor->dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return fail(err, "%s: dimension %d of \"shape\" must be an integer of at least 0", where, i);
        tensor->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(*elements, (size_t)tensor->shape[i], elements))
            return fail(err, "%s: the product of \"shape\" overflows 64 bits", where);
    }
    return true;
}

static bool read_offset(const json_t *offsets, size_t index, size_t limit, size_t *offset, const char *where,
                        Error *err) {
    const json_t *value = json_array_get(offsets, index);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > limit)
        return fail(err, "%s: \"data_offsets\" must be two integers from 0 to %zu, the bytes of data in the file",
                    where, limit);
    *offset = (size_t)json_integer_value(value);
    return true;
}

/* `room`: bytes of the file after the header. */
static bool read_entry(Entry *entry, const json_t *json, size_t room, const char *where, Error *err) {
    const char *type;
    if (!json_is_object(json)) return fail(err, "%s: the entry must be an object", where);
    if (!json_get_string(json, "dtype", &type, where, err)) return false;
    const struct StoredType *stored = stored_type(type);
    if (!stored) return fail(err, "%s: unknown dtype \"%.40s\"", where, type);
    size_t elements = 1, bytes;
    if (!read_shape(json_object_get(json, "shape"), &entry->tensor, &elements, where, err)) return false;
    const json_t *offsets = json_object_get(json, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return fail(err, "%s: \"data_offsets\" must be an array of two integers", where);
    if (!read_offset(offsets, 0, room, &entry->begin, where, err) ||
        !read_offset(offsets, 1, room, &entry->end, where, err))
        return false;
    if (entry->end < entry->begin)
        return fail(err, "%s: \"data_offsets\" end (%zu) before they begin (%zu)", where, entry->end, entry->begin);
    if (__builtin_mul_overflow(elements, stored->size, &bytes) || bytes != entry->end - entry->begin)
        return fail(err, "%s: %zu elements of %s do not fill the %zu bytes of its \"data_offsets\"", where, elements,
                    type, entry->end - entry->begin);
    entry->tensor.dtype = stored->dtype;
    entry->tensor.bytes = bytes;
    entry->type = stored->name;
    entry->opaque = stored->opaque;
    return true;
}

static int by_offset(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* Sorted by place, the shard's tensors must tile its data without gap or overlap. */
static bool check_layout(Entry *entries, size_t count, size_t room, const char *path, Error *err) {
    if (count) qsort(entries, count, sizeof *entries, by_offset);
    size_t expected = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].begin != expected)
            return fail(err,
                        "%s: tensor \"%.200s\" begins at byte %zu of the data, expected %zu: tensors must follow "
                        "each other without gap or overlap",
                        path, entries[i].tensor.name, entries[i].begin, expected);
        expected = entries[i].end;
    }
    if (expected != room)
        return fail(err, "%s: the tensors end at byte %zu of the data, but the file holds %zu: it is damaged", path,
                    expected, room);
    return true;
}

/* ---- one file ---- */

static bool read_metadata(const json_t *metadata, const char *path, Error *err) {
    if (!json_is_object(metadata)) return fail(err, "%s: \"__metadata__\" must be an object", path);
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value))
            return fail(err, "%s: \"__metadata__\" must hold strings only, \"%.100s\" is none", path, key);
    }
    return true;
}

static bool read_header(Shard *shard, size_t *data_start, Error *err) {
    const FileMap *map = &shard->map;
    if (map->size < LENGTH_BYTES)
        return fail(err, "%s: %zu bytes are no safetensors file, expected at least 8 for the header's length",
                    shard->path, map->size);
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | map->data[i];
    if (length > HEADER_LIMIT)
        return fail(err, "%s: a header of %" PRIu64 " bytes is over the format's limit of %d: not a safetensors file?",
                    shard->path, length, HEADER_LIMIT);
    if (length > map->size - LENGTH_BYTES)
        return fail(err, "%s: a header of %" PRIu64 " bytes is announced, but the file holds %zu: it is cut short",
                    shard->path, length, map->size - LENGTH_BYTES);
    const char *text = (const char *)map->data + LENGTH_BYTES;
    if (length == 0 || text[0] != '{')
        return fail(err, "%s: the header does not begin with '{': not a safetensors file", shard->path);
    shard->header = json_read_text(text, (size_t)length, shard->path, err);
    *data_start = LENGTH_BYTES + (size_t)length;
    return shard->header != NULL;
}

static bool read_shard(TensorFiles *files, const char *path, Error *err) {
    if (!memory_grow(&files->shards, files->shard_count, &files->shard_capacity, sizeof *files->shards, err))
        return false;
    size_t number = files->shard_count++, start = 0, first = files->count;
    Shard *shard = &files->shards[number];
    *shard = (Shard){.path = text_copy(path, err)};
    if (!shard->path || !file_map(&shard->map, path, err) || !read_header(shard, &start, err)) return false;
    size_t room = shard->map.size - start;
    const char *name;
    const json_t *json;
    json_object_foreach(shard->header, name, json) {
        if (!strcmp(name, "__metadata__")) {
            if (!read_metadata(json, path, err)) return false;
            continue;
        }
        if (files->count >= UINT32_MAX - 1) return fail(err, "%s: too many tensors", path);
        if (!memory_grow(&files->entries, files->count, &files->capacity, sizeof *files->entries, err)) return false;
        char where[600];
        snprintf(where, sizeof where, "%.300s: tensor \"%.200s\"", path, name);
        Entry entry = {.shard = number};
        if (!read_entry(&entry, json, room, where, err)) return false;
        entry.tensor.name = name;
        entry.tensor.data = shard->map.data + start + entry.begin;
        files->entries[files->count++] = entry;
    }
    return check_layout(files->entries + first, files->count - first, room, path, err);
}

/* ---- looking up ---- */

static size_t slot_of(const TensorFiles *files, const char *name) {
    size_t slot = (size_t)XXH3_64bits(name, strlen(name)) & (files->table_size - 1);
    while (files->table[slot] && strcmp(files->entries[files->table[slot] - 1].tensor.name, name) != 0)
        slot = (slot + 1) & (files->table_size - 1);
    return slot;
}

static const Entry *find(const TensorFiles *files, const char *name) {
    uint32_t found = files->table[slot_of(files, name)];
    return found ? &files->entries[found - 1] : NULL;
}

static int by_use(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->opaque != y->opaque) return x->opaque ? 1 : -1;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return by_offset(a, b);
}

static bool index_names(TensorFiles *files, Error *err) {
    if (files->count) qsort(files->entries, files->count, sizeof *files->entries, by_use);
    for (files->table_size = 16; files->table_size < 2 * files->count;) files->table_size *= 2;
    files->table = memory_new(files->table_size, sizeof *files->table, err);
    if (!files->table) return false;
    for (size_t i = 0; i < files->count; i++) {
        const Entry *entry = &files->entries[i];
        size_t slot = slot_of(files, entry->tensor.name);
        if (files->table[slot])
            return fail(err, "%s: tensor \"%.200s\" is also in %s", files->shards[entry->shard].path,
                        entry->tensor.name, files->shards[files->entries[files->table[slot] - 1].shard].path);
        files->table[slot] = (uint32_t)(i + 1);
        if (!entry->opaque) files->readable++;
    }
    return true;
}

/* ---- a folder of shards ---- */

static bool open_named(TensorFiles *files, const char *folder, const char *name, Error *err) {
    char *path = path_join(folder, name, err);
    bool ok = path && read_shard(files, path, err);
    free(path);
    return ok;
}

/* Opens every file that the map names, once, in the order of first mention. */
static bool open_mapped(TensorFiles *files, const json_t *map, const char *folder, const char *index, Error *err) {
    json_t *seen = json_object();
    bool ok = seen || fail(err, "%s: out of memory", index);
    const char *tensor;
    const json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) {
        const char *name;
        char where[600];
        snprintf(where, sizeof where, "%.500s: \"weight_map\"", index);
        if (!(ok = ok && json_get_string(map, tensor, &name, where, err))) break;
        if (!is_plain_name(name)) {
            ok = fail(err, "%s: tensor \"%.200s\" is said to be in \"%.200s\", which is not a file of this folder",
                      index, tensor, name);
            break;
        }
        if (json_object_get(seen, name)) continue;
        ok = json_object_set_new(seen, name, json_true()) == 0 ? open_named(files, folder, name, err)
                                                               : fail(err, "%s: out of memory", index);
        if (!ok) break;
    }
    json_decref(seen);
    return ok;
}

static bool check_mapped(const TensorFiles *files, const json_t *map, const char *folder, const char *index,
                         Error *err) {
    const char *tensor;
    const json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) {
        const Entry *entry = find(files, tensor);
        const char *name = json_string_value(file);
        char *path = path_join(folder, name, err);
        if (!path) return false;
        bool there = entry && !strcmp(files->shards[entry->shard].path, path);
        free(path);
        if (!there) return fail(err, "%s: tensor \"%.200s\" is said to be in %s, but is not", index, tensor, name);
    }
    return true;
}

static bool open_sharded(TensorFiles *files, const char *folder, const char *index, Error *err) {
    json_t *json = json_read_file(index, INDEX_LIMIT, err);
    if (!json) return false;
    const json_t *map = json_object_get(json, "weight_map");
    bool ok = json_is_object(map) || fail(err, "%s: \"weight_map\" must be an object of tensor to file", index);
    ok = ok && open_mapped(files, map, folder, index, err) && index_names(files, err) &&
         check_mapped(files, map, folder, index, err);
    json_decref(json);
    return ok;
}

static bool open_folder(TensorFiles *files, const char *folder, Error *err) {
    if (folder_holds(folder, "model.safetensors"))
        return open_named(files, folder, "model.safetensors", err) && index_names(files, err);
    if (folder_holds(folder, "model.safetensors.index.json")) {
        char *index = path_join(folder, "model.safetensors.index.json", err);
        bool ok = index && open_sharded(files, folder, index, err);
        free(index);
        return ok;
    }
    if (folder_holds(folder, "pytorch_model.bin") || folder_holds(folder, "pytorch_model.bin.index.json"))
        return fail(err,
                    "%s: the weights are in pytorch_model.bin; `semollm convert %s -o NEW_FOLDER` makes a folder "
                    "with safetensors of it",
                    folder, folder);
    return fail(err, "%s: neither model.safetensors nor model.safetensors.index.json is there", folder);
}

TensorFiles *tensors_open(const char *path, Error *err) {
    TensorFiles *files = memory_new(1, sizeof *files, err);
    if (!files) return NULL;
    files->path = text_copy(path, err);
    bool ok = files->path && (folder_exists(path) ? open_folder(files, path, err)
                                                  : read_shard(files, path, err) && index_names(files, err));
    if (ok) return files;
    tensors_close(files);
    return NULL;
}

void tensors_close(TensorFiles *files) {
    if (!files) return;
    for (size_t i = 0; i < files->shard_count; i++) {
        json_decref(files->shards[i].header);
        file_unmap(&files->shards[i].map);
        free(files->shards[i].path);
    }
    free(files->shards);
    free(files->entries);
    free(files->table);
    free(files->path);
    free(files);
}

size_t tensors_count(const TensorFiles *files) { return files->readable; }

const StoredTensor *tensors_at(const TensorFiles *files, size_t index) { return &files->entries[index].tensor; }

const StoredTensor *tensors_find(const TensorFiles *files, const char *name) {
    const Entry *entry = find(files, name);
    return entry && !entry->opaque ? &entry->tensor : NULL;
}

const char *tensors_metadata(const TensorFiles *files, const char *key) {
    if (files->shard_count == 0) return NULL;
    const json_t *metadata = json_object_get(files->shards[0].header, "__metadata__");
    return json_string_value(json_object_get(metadata, key));
}

static void print_shape(char *out, size_t size, int dims, const int64_t *shape) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < dims && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

void tensors_release(const StoredTensor *tensor) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)tensor->data;
    const uintptr_t first = (begin + page - 1) / page * page, end = (begin + tensor->bytes) / page * page;
    if (end > first) madvise((void *)first, end - first, MADV_DONTNEED); /* of no consequence where it fails */
}

bool tensors_read(const TensorFiles *files, const char *name, int dims, const int64_t *shape, float *out, Error *err) {
    const Entry *entry = find(files, name);
    if (!entry) return fail(err, "%s: there is no tensor \"%s\"", files->path, name);
    const StoredTensor *tensor = &entry->tensor;
    const char *path = files->shards[entry->shard].path;
    bool floats = tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_F16 || tensor->dtype == DTYPE_BF16;
    if (!floats)
        return fail(err, "%s: tensor \"%s\" is stored as %s, expected F32, F16 or BF16", path, name, entry->type);
    bool same = tensor->dims == dims;
    for (int i = 0; same && i < dims; i++) same = tensor->shape[i] == shape[i];
    if (!same) {
        char expected[200], found[200];
        print_shape(expected, sizeof expected, dims, shape);
        print_shape(found, sizeof found, tensor->dims, tensor->shape);
        return fail(err, "%s: tensor \"%s\" has the shape %s, expected %s", path, name, found, expected);
    }
    floats_from(tensor->dtype, tensor->data, out, tensor->bytes / dtype_size(tensor->dtype));
    return true;
}
