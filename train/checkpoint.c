#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static const char STATE_NAME[] = "state.json";
static const char OPTIMIZER_NAME[] = "optimizer.safetensors";
static const char ALGORITHMS_NAME[] = "algorithms.json";
static const char FOLDER[] = "checkpoints";
static const char PREFIX[] = "step-";
enum { STATE_VERSION = 1, STATE_BYTES_MAX = 1 << 20, ALGORITHMS_BYTES_MAX = 16 << 20 };

/* ---- names ---- */

/* The step of "step-N", or -1. */
static int64_t step_of(const char *name) {
    size_t lead = strlen(PREFIX);
    if (strncmp(name, PREFIX, lead) != 0 || !name[lead] || strspn(name + lead, "0123456789") != strlen(name + lead))
        return -1;
    errno = 0;
    long long step = strtoll(name + lead, NULL, 10);
    return errno ? -1 : step;
}

static char *checkpoint_path(const char *run_folder, int64_t step, Error *err) {
    return text_format(err, "%s/%s/%s%" PRId64, run_folder, FOLDER, PREFIX, step);
}

char *checkpoint_last(const char *run_folder, Error *err) {
    char *folder = path_join(run_folder, FOLDER, err);
    Names names = {0};
    int64_t last = -1;
    bool ok = folder && (!folder_exists(folder) || folder_list(folder, &names, err));
    for (size_t i = 0; ok && i < names.count; i++)
        if (step_of(names.items[i]) > last) last = step_of(names.items[i]);
    names_free(&names);
    free(folder);
    return ok && last >= 0 ? checkpoint_path(run_folder, last, err) : NULL;
}

static char *best_path(const char *run_folder, Error *err) {
    char *best = path_join(run_folder, "best", err);
    if (best && folder_exists(best)) return best;
    free(best);
    return NULL;
}

char *checkpoint_find(const char *run_folder, const char *name, Error *err) {
    char *found = NULL;
    if (!name || strcmp(name, "best") == 0) found = best_path(run_folder, err);
    if (!found && (!name || strcmp(name, "last") == 0)) found = checkpoint_last(run_folder, err);
    if (!found && name && step_of(name) >= 0)
        found = checkpoint_path(run_folder, step_of(name), err);
    else if (!found && name && strcmp(name, "best") != 0 && strcmp(name, "last") != 0)
        found = text_copy(name, err);
    if (found && folder_exists(found)) return found;
    if (found || !err || err->exit_code == EXIT_DONE)
        fail(err, "%s: has no checkpoint \"%s\"; name best, last, step-N, none or a folder", run_folder,
             name ? name : "last");
    free(found);
    return NULL;
}

bool checkpoint_mark_best(const char *run_folder, int64_t step, Error *err) {
    char *best = path_join(run_folder, "best", err), *temporary = path_join(run_folder, ".best.tmp", err);
    char *target = text_format(err, "%s/%s%" PRId64, FOLDER, PREFIX, step);
    bool ok = best && temporary && target && folder_remove(temporary, err);
    if (ok && (symlink(target, temporary) != 0 || rename(temporary, best) != 0))
        ok = fail(err, "%s: cannot be pointed at %s: %s", best, target, strerror(errno));
    free(best);
    free(temporary);
    free(target);
    return ok;
}

static int downwards(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

bool checkpoint_prune(const char *run_folder, int64_t keep, int64_t best_step, Error *err) {
    char *folder = path_join(run_folder, FOLDER, err);
    Names names = {0};
    bool ok = folder && (!folder_exists(folder) || folder_list(folder, &names, err));
    int64_t *steps = ok ? memory_new(names.count, sizeof *steps, err) : NULL, count = 0;
    ok = ok && steps;
    for (size_t i = 0; ok && i < names.count; i++) {
        char *path = path_join(folder, names.items[i], err);
        if (step_of(names.items[i]) >= 0)
            steps[count++] = step_of(names.items[i]);
        else if (path && strstr(names.items[i], ".tmp-"))
            ok = folder_remove(path, err);
        free(path);
    }
    if (ok) qsort(steps, (size_t)count, sizeof *steps, downwards);
    for (int64_t i = keep; ok && i < count; i++) {
        char *path = steps[i] == best_step ? NULL : checkpoint_path(run_folder, steps[i], err);
        if (path) ok = folder_remove(path, err);
        free(path);
    }
    free(steps);
    free(folder);
    names_free(&names);
    return ok;
}

/* ---- the optimizer ---- */

static bool add_moment(const Params *params, const float *flat, const char *letter, StoredTensor *stored, char **names,
                       Error *err) {
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        names[i] = text_format(err, "%s.%s", letter, param->name);
        if (!names[i]) return false;
        int64_t rows = param->value.rows, cols = param->value.cols;
        stored[i] = (StoredTensor){.name = names[i],
                                   .dtype = DTYPE_F32,
                                   .dims = param->dims,
                                   .shape = {param->dims == 1 ? cols : rows, cols},
                                   .data = flat + param->offset,
                                   .bytes = (size_t)(rows * cols) * sizeof(float)};
    }
    return true;
}

static bool save_optimizer(const Params *params, const Optimizer *optimizer, const char *path, Error *err) {
    size_t count = (size_t)params->count, bytes = (size_t)params->total * sizeof(float);
    float *m = memory_new((size_t)params->total, sizeof *m, err),
          *v = memory_new((size_t)params->total, sizeof *v, err);
    StoredTensor *stored = memory_new(2 * count, sizeof *stored, err);
    char **names = memory_new(2 * count, sizeof *names, err);
    bool ok = m && v && stored && names && device_download(params->dev, m, optimizer->m, bytes, err) &&
              device_download(params->dev, v, optimizer->v, bytes, err) &&
              add_moment(params, m, "m", stored, names, err) &&
              add_moment(params, v, "v", stored + count, names + count, err) &&
              tensors_write(path, stored, 2 * count, NULL, err);
    for (size_t i = 0; names && i < 2 * count; i++) free(names[i]);
    free(names);
    free(stored);
    free(m);
    free(v);
    return ok;
}

static bool read_moment(const Params *params, const TensorFiles *files, const char *letter, float *flat, Error *err) {
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        int64_t shape[] = {param->dims == 1 ? param->value.cols : param->value.rows, param->value.cols};
        char *name = text_format(err, "%s.%s", letter, param->name);
        bool ok = name && tensors_read(files, name, param->dims, shape, flat + param->offset, err);
        free(name);
        if (!ok) return false;
    }
    return true;
}

static bool load_optimizer(const Params *params, Optimizer *optimizer, const char *path, Error *err) {
    size_t bytes = (size_t)params->total * sizeof(float);
    float *m = memory_new((size_t)params->total, sizeof *m, err),
          *v = memory_new((size_t)params->total, sizeof *v, err);
    TensorFiles *files = m && v ? tensors_open(path, err) : NULL;
    bool ok = files && read_moment(params, files, "m", m, err) && read_moment(params, files, "v", v, err) &&
              device_upload(params->dev, optimizer->m, m, bytes, err) &&
              device_upload(params->dev, optimizer->v, v, bytes, err);
    tensors_close(files);
    free(m);
    free(v);
    return ok;
}

/* ---- state.json ---- */

typedef struct StateField {
    const char *name;
    size_t offset;
} StateField;

static const StateField COUNTS[] = {{"step", offsetof(TrainState, step)},
                                    {"position", offsetof(TrainState, position)},
                                    {"skipped", offsetof(TrainState, skipped)},
                                    {"skipped_in_row", offsetof(TrainState, skipped_in_row)},
                                    {"tokens", offsetof(TrainState, tokens)},
                                    {"best_step", offsetof(TrainState, best_step)},
                                    {"stale_validations", offsetof(TrainState, stale)},
                                    {"log_bytes", offsetof(TrainState, log_bytes)},
                                    {"event_bytes", offsetof(TrainState, event_bytes)}};
static const StateField HASHES[] = {{"shards", offsetof(TrainState, shards_hash)},
                                    {"config", offsetof(TrainState, config_hash)}};
enum { COUNT_FIELDS = sizeof COUNTS / sizeof *COUNTS, HASH_FIELDS = sizeof HASHES / sizeof *HASHES };

static json_t *hash_json(uint64_t hash) {
    char digits[17];
    snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    return json_string(digits);
}

static bool get_hash(const json_t *json, const char *key, uint64_t *hash, const char *path, Error *err) {
    const char *text;
    if (!json_get_string(json, key, &text, path, err)) return false;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return fail(err, "%s: \"%s\" must be 16 hexadecimal digits", path, key);
    *hash = strtoull(text, NULL, 16);
    return true;
}

static bool state_json(json_t *json, const TrainState *state) {
    bool ok = json_object_set_new(json, "version", json_integer(STATE_VERSION)) == 0;
    for (int i = 0; i < COUNT_FIELDS; i++) {
        int64_t value = *(const int64_t *)(const void *)((const char *)state + COUNTS[i].offset);
        ok = ok && json_object_set_new(json, COUNTS[i].name, json_integer(value)) == 0;
    }
    for (int i = 0; i < HASH_FIELDS; i++) {
        uint64_t value = *(const uint64_t *)(const void *)((const char *)state + HASHES[i].offset);
        ok = ok && json_object_set_new(json, HASHES[i].name, hash_json(value)) == 0;
    }
    json_t *best = isnan(state->best_loss) ? json_null() : json_real(state->best_loss);
    return ok && json_object_set_new(json, "best_loss", best) == 0 &&
           json_object_set_new(json, "seconds", json_real(state->seconds)) == 0;
}

static bool hash_file(const char *path, size_t *size, uint64_t *hash, Error *err) {
    FileMap map;
    if (!file_map(&map, path, err)) return false;
    *size = map.size;
    *hash = XXH64(map.data, map.size, 0);
    file_unmap(&map);
    return true;
}

static bool add_file(json_t *files, const char *folder, const char *name, Error *err) {
    size_t size;
    uint64_t hash = 0;
    char *path = path_join(folder, name, err);
    bool ok = path && hash_file(path, &size, &hash, err);
    if (ok) {
        json_t *entry = json_pack("{s:I, s:o}", "bytes", (json_int_t)size, "xxh64", hash_json(hash));
        ok = json_object_set_new(files, name, entry) == 0 || fail(err, "out of memory for %s", STATE_NAME);
    }
    free(path);
    return ok;
}

/* Lists every file of the folder; written last, so that it can. */
static bool write_state(const TrainState *state, const char *folder, Error *err) {
    json_t *json = json_object(), *files = json_object();
    Names names = {0};
    bool ok = json && files && folder_list(folder, &names, err);
    for (size_t i = 0; ok && i < names.count; i++) ok = add_file(files, folder, names.items[i], err);
    ok = ok && ((state_json(json, state) && json_object_set(json, "files", files) == 0) ||
                fail(err, "out of memory for %s", STATE_NAME));
    /* Over everything else in the object, so that a changed digit is found as well. */
    char *text = ok ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    ok = ok && text && json_object_set_new(json, "xxh64", hash_json(XXH64(text, strlen(text), 0))) == 0;
    char *path = path_join(folder, STATE_NAME, err);
    ok = ok && path && json_write_file(json, path, err);
    free(path);
    free(text);
    names_free(&names);
    json_decref(json);
    json_decref(files);
    return ok;
}

static json_t *read_state(const char *folder, Error *err) {
    char *path = path_join(folder, STATE_NAME, err);
    json_t *json = path ? json_read_file(path, STATE_BYTES_MAX, err) : NULL;
    uint64_t hash = 0;
    bool ok = json && get_hash(json, "xxh64", &hash, path, err);
    if (ok) {
        json_object_del(json, "xxh64");
        char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
        ok = text && XXH64(text, strlen(text), 0) == hash;
        if (!ok) fail(err, "%s: damaged: its content does not have the hash it names", path);
        free(text);
    }
    free(path);
    if (ok) return json;
    json_decref(json);
    return NULL;
}

bool checkpoint_state(const char *folder, TrainState *state, Error *err) {
    json_t *json = read_state(folder, err);
    if (!json) return false;
    int64_t version;
    *state = (TrainState){.best_loss = NAN};
    bool ok = json_get_int(json, "version", STATE_VERSION, STATE_VERSION, &version, folder, err);
    for (int i = 0; ok && i < COUNT_FIELDS; i++)
        ok = json_get_int(json, COUNTS[i].name, 0, INT64_MAX, (int64_t *)(void *)((char *)state + COUNTS[i].offset),
                          folder, err);
    for (int i = 0; ok && i < HASH_FIELDS; i++)
        ok = get_hash(json, HASHES[i].name, (uint64_t *)(void *)((char *)state + HASHES[i].offset), folder, err);
    ok = ok && json_number_or(json, "best_loss", &state->best_loss, folder, err) &&
         json_get_number(json, "seconds", &state->seconds, folder, err);
    json_decref(json);
    return ok;
}

/* ---- matrix products ---- */

/* Which algorithms they ran with, where the device chooses: a resumed run takes the same steps with the same. */
static bool save_algorithms(const Run *run, const char *folder, Error *err) {
    char *json = device_algorithms(run->dev, err), *path = path_join(folder, ALGORITHMS_NAME, err);
    bool ok = json && path && (!strcmp(json, "{}") || file_write(path, json, strlen(json), err));
    free(json);
    free(path);
    return ok;
}

static bool load_algorithms(Run *run, const char *folder, Error *err) {
    char *path = path_join(folder, ALGORITHMS_NAME, err), *json = NULL;
    bool there = path && file_exists(path), fits = true;
    if (there) json = file_read(path, ALGORITHMS_BYTES_MAX, NULL, err);
    bool ok = path && (!there || (json && device_use_algorithms(run->dev, json, &fits, err)));
    if (ok && !fits && comm_rank(run->comm) == 0)
        fprintf(stderr,
                "%s: was chosen on another GPU or library; steps may differ from those of an uninterrupted run "
                "by rounding\n",
                path);
    free(json);
    free(path);
    return ok;
}

/* ---- whole checkpoints ---- */

bool checkpoint_is(const char *folder) {
    char *path = path_join(folder, STATE_NAME, NULL);
    bool is = path && file_exists(path);
    free(path);
    return is;
}

static bool verify_file(const char *folder, const char *name, const json_t *entry, Error *err) {
    int64_t bytes;
    uint64_t hash = 0, found = 0;
    size_t size;
    if (strchr(name, '/')) return fail(err, "%s: %s names a file outside the folder", folder, STATE_NAME);
    char *path = path_join(folder, name, err);
    bool ok = path && json_get_int(entry, "bytes", 0, INT64_MAX, &bytes, folder, err) &&
              get_hash(entry, "xxh64", &hash, folder, err) && hash_file(path, &size, &found, err);
    if (ok && (size != (size_t)bytes || hash != found))
        ok = fail(err, "%s: damaged: it does not have the size and hash in %s; use another checkpoint", path,
                  STATE_NAME);
    free(path);
    return ok;
}

bool checkpoint_verify(const char *folder, Error *err) {
    json_t *json = read_state(folder, err);
    if (!json) return false;
    json_t *files = json_object_get(json, "files"), *entry;
    const char *name;
    bool ok = json_is_object(files) || fail(err, "%s: %s lists no files", folder, STATE_NAME);
    if (ok) json_object_foreach(files, name, entry) ok = ok && verify_file(folder, name, entry, err);
    json_decref(json);
    return ok;
}

static bool fill(const Run *run, const Optimizer *optimizer, const TrainState *state, const char *folder, Error *err) {
    char *path = path_join(folder, OPTIMIZER_NAME, err);
    bool ok = path && speech_llm_save(run->model, folder, err) &&
              save_optimizer(speech_llm_params(run->model), optimizer, path, err) &&
              save_algorithms(run, folder, err) && write_state(state, folder, err);
    free(path);
    return ok;
}

bool checkpoint_save(const Run *run, const Optimizer *optimizer, const TrainState *state, Error *err) {
    char *path = checkpoint_path(run->folder, state->step, err);
    if (!path) return false;
    AtomicFolder folder = {0};
    bool ok = folder_exists(path); /* of this very step already: the same bytes */
    if (!ok)
        ok = atomic_folder_open(&folder, path, err) && fill(run, optimizer, state, folder.temporary, err) &&
             atomic_folder_commit(&folder, err);
    atomic_folder_discard(&folder);
    if (!ok) fail_in(err, "checkpoint of step %" PRId64, state->step);
    free(path);
    return ok;
}

bool checkpoint_load(Run *run, const char *folder, Optimizer *optimizer, TrainState *state, Error *err) {
    char *path = path_join(folder, OPTIMIZER_NAME, err);
    bool ok = path && checkpoint_verify(folder, err) && checkpoint_state(folder, state, err) &&
              speech_llm_load(run->model, folder, err) &&
              load_optimizer(speech_llm_params(run->model), optimizer, path, err) && load_algorithms(run, folder, err);
    free(path);
    return ok;
}
