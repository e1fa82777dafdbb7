#include "model/convert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/convert_wavlm.h"
#include "model/folder.h"
#include "model/torch_file.h"

enum { INDEX_LIMIT = 100000000 };

static const char BIN[] = "pytorch_model.bin", BIN_INDEX[] = "pytorch_model.bin.index.json";

/* More than this over what the files hold is a bomb: tensors that share or repeat storages. */
static const size_t SLACK_BYTES = (size_t)64 << 20;

typedef struct Named {
    char *name;
    const PickleTensor *tensor;
    size_t file, bytes, shard;
} Named;

typedef struct Conversion {
    char *folder; /* where config.json and the tokenizer lie */
    TorchFile *files;
    size_t file_count, file_capacity;
    Named *tensors;
    size_t count, capacity, shards, bytes;
    const PickleValue *cfg; /* of a Microsoft checkpoint, else null */
} Conversion;

static void close_all(Conversion *job) {
    for (size_t i = 0; i < job->count; i++) free(job->tensors[i].name);
    for (size_t i = 0; i < job->file_count; i++) torch_close(&job->files[i]);
    free(job->tensors);
    free(job->files);
    free(job->folder);
}

/* ---- what there is ---- */

static bool add_tensor(Conversion *job, const PickleValue *key, const PickleValue *value, Error *err) {
    const char *path = job->files[job->file_count - 1].path, *name = pickle_text(key);
    if (!name) return fail(err, "%s: a tensor's name is no text, or holds a NUL character", path);
    if (value->kind != PICKLE_TENSOR) return fail(err, "%s: \"%.200s\" in the dict of tensors is none", path, name);
    if (!memory_grow(&job->tensors, job->count, &job->capacity, sizeof *job->tensors, err)) return false;
    Named named = {.tensor = value->as.tensor, .file = job->file_count - 1};
    if (!torch_tensor_bytes(named.tensor, &named.bytes) || __builtin_add_overflow(job->bytes, named.bytes, &job->bytes))
        return fail(err, "%s: the size of tensor \"%.200s\" overflows 64 bits", path, name);
    Error renaming = {0};
    named.name = job->cfg ? wavlm_tensor_name(name, path, &renaming) : text_copy(name, &renaming);
    if (renaming.exit_code) return fail(err, "%s", renaming.text);
    if (named.name)
        job->tensors[job->count++] = named;
    else
        job->bytes -= named.bytes;
    return true;
}

static bool add_file(Conversion *job, const char *path, Error *err) {
    if (!memory_grow(&job->files, job->file_count, &job->file_capacity, sizeof *job->files, err)) return false;
    TorchFile *file = &job->files[job->file_count];
    if (!torch_open(file, path, err)) return false;
    job->file_count++;
    const PickleValue *state = torch_state(file, err);
    if (!state) return false;
    const PickleValue *cfg = pickle_get(file->pickle.root, "cfg");
    if (cfg && cfg->kind == PICKLE_DICT && state == pickle_get(file->pickle.root, "model")) job->cfg = cfg;
    for (size_t i = 0; i + 1 < state->as.list.count; i += 2)
        if (!add_tensor(job, state->as.list.items[i], state->as.list.items[i + 1], err)) return false;
    return true;
}

static bool add_named(Conversion *job, const char *name, Error *err) {
    char *path = path_join(job->folder, name, err);
    bool ok = path && add_file(job, path, err);
    free(path);
    return ok;
}

/* Every file that the index names, once, in the order of first mention. */
static bool add_mapped(Conversion *job, const json_t *map, const char *index, Error *err) {
    json_t *seen = json_object();
    bool ok = seen || fail(err, "%s: out of memory", index);
    const char *tensor, *name;
    const json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) {
        if (!(ok = ok && json_get_string(map, tensor, &name, index, err))) break;
        if (json_object_get(seen, name)) continue;
        ok = is_plain_name(name) || fail(err, "%s: \"%.200s\" is not the name of a file in this folder", index, name);
        ok = ok && (json_object_set_new(seen, name, json_true()) == 0 || fail(err, "%s: out of memory", index));
        if (!(ok = ok && add_named(job, name, err))) break;
    }
    json_decref(seen);
    return ok;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(Named *const *)a)->name, (*(Named *const *)b)->name);
}

/* The tensors in the order of their names, each of which must be there once; free() the array. */
static Named **sort_names(const Conversion *job, Error *err) {
    Named **sorted = memory_new(job->count, sizeof(Named *), err);
    if (!sorted) return NULL;
    for (size_t i = 0; i < job->count; i++) sorted[i] = &job->tensors[i];
    if (job->count) qsort(sorted, job->count, sizeof *sorted, by_name);
    for (size_t i = 1; i < job->count; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) != 0) continue;
        fail(err, "%s: tensor \"%.200s\" is there twice", job->files[sorted[i]->file].path, sorted[i]->name);
        free(sorted);
        return NULL;
    }
    return sorted;
}

static bool check_mapped(const Conversion *job, const json_t *map, const char *index, Error *err) {
    Named **sorted = sort_names(job, err);
    if (!sorted) return false;
    bool ok = true;
    const char *tensor;
    const json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) {
        Named wanted = {.name = (char *)(uintptr_t)tensor}, *key = &wanted;
        Named **found = bsearch(&key, sorted, job->count, sizeof *sorted, by_name);
        char *path = path_join(job->folder, json_string_value(file), err);
        ok = path && ((found && !strcmp(job->files[(*found)->file].path, path)) ||
                      fail(err, "%s: tensor \"%.200s\" is said to be in %s, but is not", index, tensor,
                           json_string_value(file)));
        free(path);
        if (!ok) break;
    }
    free(sorted);
    return ok;
}

static bool add_sharded(Conversion *job, const char *index, Error *err) {
    json_t *json = json_read_file(index, INDEX_LIMIT, err);
    if (!json) return false;
    const json_t *map = json_object_get(json, "weight_map");
    bool ok = json_is_object(map) || fail(err, "%s: \"weight_map\" must be an object of tensor to file", index);
    ok = ok && add_mapped(job, map, index, err) && check_mapped(job, map, index, err);
    json_decref(json);
    return ok;
}

static bool add_folder(Conversion *job, Error *err) {
    const char *folder = job->folder;
    if (folder_holds(folder, "model.safetensors") || folder_holds(folder, "model.safetensors.index.json"))
        return fail(err, "%s: it holds safetensors already, there is nothing to convert", folder);
    if (folder_holds(folder, BIN)) return add_named(job, BIN, err);
    if (!folder_holds(folder, BIN_INDEX)) return fail(err, "%s: neither %s nor %s is there", folder, BIN, BIN_INDEX);
    char *index = path_join(folder, BIN_INDEX, err);
    bool ok = index && add_sharded(job, index, err);
    free(index);
    return ok;
}

static bool check_sizes(const Conversion *job, Error *err) {
    size_t held = SLACK_BYTES;
    for (size_t i = 0; i < job->file_count; i++) held += 2 * job->files[i].zip.map.size;
    if (job->bytes <= held) return true;
    return fail(err, "%s: its tensors would take %zu bytes, more than twice what the files hold: refused",
                job->files[0].path, job->bytes);
}

static bool open_source(Conversion *job, const char *source, Error *err) {
    bool folder = folder_exists(source);
    job->folder = folder ? text_copy(source, err) : path_folder(source, err);
    if (!job->folder || !(folder ? add_folder(job, err) : add_file(job, source, err))) return false;
    if (!job->cfg && !folder_holds(job->folder, "config.json"))
        return fail(err, "%s: there is no config.json beside the weights, which says what model they are of", source);
    Named **sorted = sort_names(job, err);
    free(sorted);
    return sorted && check_sizes(job, err);
}

/* ---- weights ---- */

static char *shard_name(size_t shard, size_t shards, Error *err) {
    if (shards == 1) return text_copy("model.safetensors", err);
    return text_format(err, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
}

/* Fills one file after the other, in order. */
static void deal_shards(Conversion *job, size_t limit) {
    size_t bytes = 0;
    job->shards = 1;
    for (size_t i = 0; i < job->count; i++) {
        Named *named = &job->tensors[i];
        if (bytes > 0 && (bytes >= limit || named->bytes > limit - bytes)) {
            job->shards++;
            bytes = 0;
        }
        named->shard = job->shards - 1;
        bytes += named->bytes;
    }
}

static bool write_tensors(const Conversion *job, size_t first, size_t count, const char *path, Error *err) {
    StoredTensor *stored = memory_new(count, sizeof *stored, err);
    void **copies = memory_new(count, sizeof *copies, err);
    bool ok = stored && copies;
    for (size_t i = 0; ok && i < count; i++) {
        const Named *named = &job->tensors[first + i];
        ok = torch_tensor(&job->files[named->file], named->tensor, named->name, &stored[i], &copies[i], err);
    }
    ok = ok && tensors_write(path, stored, count, NULL, err);
    for (size_t i = 0; copies && i < count; i++) free(copies[i]);
    free(copies);
    free(stored);
    return ok;
}

static bool write_shards(const Conversion *job, const char *target, Error *err) {
    size_t first = 0;
    bool ok = true;
    for (size_t shard = 0; ok && shard < job->shards; shard++) {
        size_t count = 0;
        while (first + count < job->count && job->tensors[first + count].shard == shard) count++;
        char *name = shard_name(shard, job->shards, err), *path = name ? path_join(target, name, err) : NULL;
        ok = path && write_tensors(job, first, count, path, err);
        free(path);
        free(name);
        first += count;
    }
    return ok;
}

static bool write_index(const Conversion *job, const char *target, Error *err) {
    if (job->shards == 1) return true;
    json_t *map = json_object();
    bool ok = map != NULL;
    for (size_t i = 0; ok && i < job->count; i++) {
        char *name = shard_name(job->tensors[i].shard, job->shards, err);
        ok = name && json_object_set_new(map, job->tensors[i].name, json_string(name)) == 0;
        free(name);
    }
    json_t *index =
        ok ? json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)job->bytes, "weight_map", map) : NULL;
    json_decref(map);
    if (!index) return fail(err, "%s: out of memory", target);
    char *path = path_join(target, "model.safetensors.index.json", err);
    ok = path && json_write_file(index, path, err);
    free(path);
    json_decref(index);
    return ok;
}

/* ---- the other files ---- */

static bool has_ending(const char *name, const char *ending) {
    size_t length = strlen(name), tail = strlen(ending);
    return length > tail && !strcmp(name + length - tail, ending);
}

/* Configuration, tokenizer, chat template; no weights. */
static bool is_companion(const char *name) {
    return !has_ending(name, ".index.json") && (has_ending(name, ".json") || has_ending(name, ".txt") ||
                                                has_ending(name, ".model") || has_ending(name, ".jinja"));
}

static bool copy_file(const char *from, const char *to, Error *err) {
    FileMap map;
    if (!file_map(&map, from, err)) return false;
    bool ok = file_write(to, map.data, map.size, err);
    file_unmap(&map);
    return ok;
}

static bool copy_companions(const char *from, const char *to, Error *err) {
    Names names;
    if (!folder_list(from, &names, err)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!is_companion(names.items[i]) || !folder_holds(from, names.items[i])) continue;
        char *source = path_join(from, names.items[i], err), *target = path_join(to, names.items[i], err);
        ok = source && target && copy_file(source, target, err);
        free(source);
        free(target);
    }
    names_free(&names);
    return ok;
}

static bool write_all(Conversion *job, const char *target, Error *err) {
    if (!write_shards(job, target, err) || !write_index(job, target, err)) return false;
    if (job->cfg) return wavlm_write_configs(job->cfg, target, job->files[0].path, err);
    return copy_companions(job->folder, target, err);
}

bool convert_model(const char *source, const char *target, size_t shard_bytes, ConvertSummary *summary, Error *err) {
    Conversion job = {0};
    AtomicFolder folder = {0};
    bool ok = open_source(&job, source, err) && atomic_folder_open(&folder, target, err);
    if (ok) {
        deal_shards(&job, shard_bytes);
        ok = write_all(&job, folder.temporary, err);
        if (ok)
            ok = atomic_folder_commit(&folder, err);
        else
            atomic_folder_discard(&folder);
    }
    *summary = (ConvertSummary){.tensors = job.count, .bytes = job.bytes, .files = job.shards};
    close_all(&job);
    return ok;
}
