/* semollm info and verify: what a folder holds, and whether it is whole. */
#include "train/info.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/splits.h"

enum { CONFIG_BYTES_MAX = 16 << 20 };

static bool has(const char *folder, const char *name) {
    char *path = path_join(folder, name, NULL);
    bool found = path && (file_exists(path) || folder_exists(path));
    free(path);
    return found;
}

typedef enum FolderKind { KIND_UNKNOWN, KIND_SHARDS, KIND_RUN, KIND_CHECKPOINT, KIND_MODEL } FolderKind;

static FolderKind kind_of(const char *path) {
    if (shards_is_url(path)) return KIND_SHARDS;
    if (has(path, "state.json")) return KIND_CHECKPOINT;
    if (has(path, "config.yaml") && has(path, "setup.json")) return KIND_RUN;
    if (has(path, "index.json")) return KIND_SHARDS;
    if (has(path, "config.json")) return KIND_MODEL;
    return KIND_UNKNOWN;
}

/* ---- info ---- */

static bool info_shards(const char *path, Error *err) {
    Shards *shards = shards_open(path, err);
    if (!shards) return false;
    size_t count = shards_count(shards), features = 0, explained = 0;
    int64_t samples = 0;
    for (size_t i = 0; i < count; i++) {
        samples += shards_samples(shards, i);
        features += shards_utterance(shards, i)->has_features;
        explained += shards_utterance(shards, i)->explanation != NULL;
    }
    printf("shards: %zu samples, %.2f hours of audio, hash %016" PRIx64 "\n", count,
           (double)samples / AUDIO_RATE / 3600, shards_hash(shards));
    printf("  %zu with measured features, %zu with an explanation\n", features, explained);
    shards_close(shards);
    return true;
}

static bool info_tensors(const char *path, Error *err) {
    TensorFiles *files = tensors_open(path, err);
    if (!files) return false;
    int64_t parameters = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < tensors_count(files); i++) {
        const StoredTensor *tensor = tensors_at(files, i);
        int64_t elements = 1;
        for (int d = 0; d < tensor->dims; d++) elements *= tensor->shape[d];
        parameters += elements;
        bytes += tensor->bytes;
    }
    printf("  %zu tensors, %" PRId64 " parameters, %.1f MB\n", tensors_count(files), parameters, (double)bytes / 1e6);
    tensors_close(files);
    return true;
}

static bool info_model(const char *path, Error *err) {
    static const char *const KEYS[] = {"hidden_size",         "num_hidden_layers", "num_attention_heads",
                                       "num_key_value_heads", "intermediate_size", "vocab_size"};
    char *file = path_join(path, "config.json", err);
    json_t *json = file ? json_read_file(file, CONFIG_BYTES_MAX, err) : NULL;
    if (json) {
        const char *type = json_string_value(json_object_get(json, "model_type"));
        printf("model: %s\n", type ? type : "of an unnamed type");
        for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
            if (json_is_integer(json_object_get(json, KEYS[i])))
                printf("  %s: %" JSON_INTEGER_FORMAT "\n", KEYS[i], json_integer_value(json_object_get(json, KEYS[i])));
    }
    bool ok = json != NULL;
    json_decref(json);
    free(file);
    return ok && info_tensors(path, err);
}

static bool info_checkpoint(const char *path, Error *err) {
    TrainState state;
    if (!checkpoint_state(path, &state, err)) return false;
    printf("checkpoint of step %" PRId64 ": %" PRId64 " samples and %" PRId64 " tokens seen, %.1f s of training\n",
           state.step, state.position, state.tokens, state.seconds);
    if (state.skipped) printf("  %" PRId64 " steps skipped for losses that were not finite\n", state.skipped);
    if (!isnan(state.best_loss))
        printf("  best validation loss %.4f, at step %" PRId64 "\n", state.best_loss, state.best_step);
    return true;
}

static bool info_run(const char *path, Error *err) {
    RunOptions options = {0};
    Run *run = run_open(path, &options, err);
    if (!run) return false;
    printf("run %s\n  encoder %s\n  LLM %s (%s template)\n  shards %s\n  classes:", path,
           run->config->model.encoder ? run->config->model.encoder : "none", run->config->model.llm, run->template,
           run->config->data.shards);
    for (int i = 0; i < run->class_count; i++) printf(" %s", run->classes[i]);
    printf("\n");
    cut_points_print(run->cuts, stdout);
    run_close(run);
    char *last = checkpoint_last(path, err);
    bool ok = err->exit_code == EXIT_DONE && (!last || info_checkpoint(last, err));
    if (ok && !last) printf("no checkpoint yet\n");
    free(last);
    return ok;
}

bool info(const char *path, Error *err) {
    switch (kind_of(path)) {
    case KIND_SHARDS:
        return info_shards(path, err);
    case KIND_RUN:
        return info_run(path, err);
    case KIND_CHECKPOINT:
        return info_checkpoint(path, err);
    case KIND_MODEL:
        return info_model(path, err);
    case KIND_UNKNOWN:
        break;
    }
    return fail(err, "%s: neither a model folder, a run, a checkpoint nor a shard folder", path);
}

/* ---- verify ---- */

static bool verify_run(const char *path, Error *err) {
    char *folder = path_join(path, "checkpoints", err);
    Names names = {0};
    bool ok = folder && folder_list(folder, &names, err);
    for (size_t i = 0; ok && i < names.count; i++) {
        char *checkpoint = path_join(folder, names.items[i], err);
        ok = checkpoint && checkpoint_verify(checkpoint, err);
        if (ok) printf("%s: intact\n", checkpoint);
        free(checkpoint);
    }
    names_free(&names);
    free(folder);
    return ok;
}

bool verify(const char *path, Error *err) {
    switch (kind_of(path)) {
    case KIND_SHARDS:
        return shards_verify(path, err);
    case KIND_RUN:
        return verify_run(path, err);
    case KIND_CHECKPOINT:
        if (!checkpoint_verify(path, err)) return false;
        printf("%s: intact\n", path);
        return true;
    case KIND_MODEL:
    case KIND_UNKNOWN:
        break;
    }
    return fail(err, "%s: neither a shard folder, a run nor a checkpoint", path);
}
