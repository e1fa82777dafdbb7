#include "train/cache_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Raised whenever what is stored would mean something else. */
static const char FORMAT[] = "semollm encoder cache 1";

/* ---- the name ---- */

static void add_number(XXH64_state_t *state, int64_t number) { XXH64_update(state, &number, sizeof number); }

static bool add_file(XXH64_state_t *state, const char *folder, const char *name, Error *err) {
    FileMap map = {0};
    char *path = path_join(folder, name, err);
    bool ok = path && file_map(&map, path, err);
    if (ok) {
        XXH64_update(state, name, strlen(name) + 1);
        add_number(state, (int64_t)map.size);
        if (map.size) XXH64_update(state, map.data, map.size);
        file_unmap(&map);
    }
    free(path);
    return ok;
}

static bool ends(const char *name, const char *ending) {
    size_t all = strlen(name), end = strlen(ending);
    return all >= end && !strcmp(name + all - end, ending);
}

/* Of all that the encoder is read from; gigabytes, so once a run. */
static bool hash_encoder(Run *run, Error *err) {
    const char *folder = run->config->model.encoder;
    Names names = {0};
    if (run->encoder_hash) return true;
    XXH64_state_t *state = XXH64_createState();
    bool ok = (state || fail(err, "out of memory")) && folder_list(folder, &names, err);
    if (state) XXH64_reset(state, 0);
    for (size_t i = 0; ok && i < names.count; i++)
        if (ends(names.items[i], ".json") || ends(names.items[i], ".safetensors"))
            ok = add_file(state, folder, names.items[i], err);
    if (ok) run->encoder_hash = XXH64_digest(state);
    names_free(&names);
    XXH64_freeState(state);
    return ok;
}

static void add_settings(XXH64_state_t *state, const Run *run) {
    const RunConfig *config = run->config;
    XXH64_update(state, FORMAT, sizeof FORMAT);
    add_number(state, config->model.layers);
    add_number(state, speech_llm_normalizes(run->model));
    add_number(state, speech_llm_feature_bytes(run->model));
    add_number(state, device_kind(run->dev)); /* devices round apart */
    add_number(state, device_dtype(run->dev));
    add_number(state, config_prosody_channels(config));
    add_number(state, (int64_t)run->encoder_hash);
    add_number(state, (int64_t)shards_hash(run->shards));
}

static void add_examples(XXH64_state_t *state, const Examples *examples) {
    add_number(state, (int64_t)examples->count);
    for (size_t i = 0; i < examples->count; i++) {
        add_number(state, examples->items[i].sample);
        add_number(state, examples->items[i].start);
        add_number(state, examples->items[i].samples);
    }
}

char *cache_file_path(Run *run, const Examples *examples, Error *err) {
    char *folder = cache_folder(run->config->data.cache, "data.cache", err), *path = NULL;
    XXH64_state_t *state = XXH64_createState();
    if (!state) fail(err, "out of memory");
    if (folder && state && hash_encoder(run, err)) {
        XXH64_reset(state, 0);
        add_settings(state, run);
        add_examples(state, examples);
        path = text_format(err, "%s/features/%016" PRIx64 ".safetensors", folder, (uint64_t)XXH64_digest(state));
    }
    XXH64_freeState(state);
    free(folder);
    return path;
}

/* ---- the file ---- */

enum { PARTS = 2 };

/* Features, and prosody where the adapter wants it. */
static size_t parts_of(const FeatureCache *cache, const Run *run, const Examples *examples, StoredTensor parts[PARTS]) {
    int64_t frames = cache->first[examples->count], channels = config_prosody_channels(run->config);
    DType dtype = device_dtype(run->dev);
    int64_t width = speech_llm_feature_bytes(run->model) / (int64_t)dtype_size(dtype);
    parts[0] = (StoredTensor){.name = "features",
                              .dtype = dtype,
                              .dims = 2,
                              .shape = {frames, width},
                              .data = cache->features,
                              .bytes = (size_t)(frames * width) * dtype_size(dtype)};
    parts[1] = (StoredTensor){.name = "prosody",
                              .dtype = DTYPE_F32,
                              .dims = 2,
                              .shape = {frames, channels},
                              .data = cache->prosody,
                              .bytes = (size_t)(frames * channels) * sizeof(float)};
    return channels ? 2 : 1;
}

static void content_of(const StoredTensor *parts, size_t count, char text[17]) {
    uint64_t hash = 0;
    for (size_t i = 0; i < count; i++) hash = XXH64(parts[i].data, parts[i].bytes, hash);
    snprintf(text, 17, "%016" PRIx64, hash);
}

bool cache_file_save(const FeatureCache *cache, const Run *run, const Examples *examples, const char *path,
                     Error *err) {
    StoredTensor parts[PARTS];
    char content[17];
    size_t count = parts_of(cache, run, examples, parts);
    content_of(parts, count, content);
    char *folder = path_folder(path, err);
    const char *const metadata[] = {"format_of", FORMAT, "content", content, NULL};
    bool ok = folder && folder_make(folder, err) && tensors_write(path, parts, count, metadata, err);
    free(folder);
    return ok || fail_in(err, "train.encoder_cache: disk");
}

/* Copies a tensor where one of the same shape is to lie. */
static bool take(const TensorFiles *files, const StoredTensor *part) {
    const StoredTensor *stored = tensors_find(files, part->name);
    if (!stored || stored->dtype != part->dtype || stored->dims != part->dims || stored->bytes != part->bytes ||
        memcmp(stored->shape, part->shape, sizeof(int64_t) * (size_t)part->dims))
        return false;
    memcpy((void *)(uintptr_t)part->data, stored->data, part->bytes);
    return true;
}

static bool load(const TensorFiles *files, const StoredTensor *parts, size_t count) {
    const char *content = tensors_metadata(files, "content");
    char found[17];
    for (size_t i = 0; i < count; i++)
        if (!take(files, &parts[i])) return false;
    content_of(parts, count, found);
    return content && !strcmp(content, found);
}

bool cache_file_load(FeatureCache *cache, const Run *run, const Examples *examples, const char *path) {
    StoredTensor parts[PARTS];
    Error why = {0};
    if (!file_exists(path)) return false;
    size_t count = parts_of(cache, run, examples, parts);
    TensorFiles *files = tensors_open(path, &why);
    bool found = files && load(files, parts, count);
    tensors_close(files);
    if (!found) fprintf(stderr, "%s: %s; the encoder runs again\n", path, files ? "damaged" : why.text);
    return found;
}
