/* speech_adapter.safetensors: the adapter's tensors, and as metadata the settings they fit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapter.h"
#include "model/safetensors.h"

enum { SETTINGS = 5, PARTS = 5, SETTING_BYTES = 32 };

/* A run's settings as metadata pairs: key, value, ..., null. */
typedef struct Settings {
    char value[SETTINGS][SETTING_BYTES];
    const char *pairs[2 * SETTINGS + 1];
} Settings;

static void write_settings(const Adapter *adapter, Settings *settings) {
    static const char *const keys[SETTINGS] = {"stack", "hidden", "prosody", "prosody_scale", "layers"};
    snprintf(settings->value[0], SETTING_BYTES, "%d", adapter->config.stack);
    snprintf(settings->value[1], SETTING_BYTES, "%d", adapter->config.hidden);
    snprintf(settings->value[2], SETTING_BYTES, "%d", adapter->config.prosody);
    snprintf(settings->value[3], SETTING_BYTES, "%.9g", (double)adapter->config.prosody_scale);
    snprintf(settings->value[4], SETTING_BYTES, "%s", adapter->mix >= 0 ? "weighted" : "last");
    for (int i = 0; i < SETTINGS; i++) {
        settings->pairs[2 * i] = keys[i];
        settings->pairs[2 * i + 1] = settings->value[i];
    }
    settings->pairs[(size_t)2 * SETTINGS] = NULL;
}

static int list_parts(const Adapter *adapter, int *parts) {
    const int all[] = {adapter->weight1, adapter->bias1, adapter->weight2, adapter->bias2, adapter->mix};
    const int count = adapter->mix >= 0 ? PARTS : PARTS - 1;
    memcpy(parts, all, (size_t)count * sizeof *parts);
    return count;
}

static int64_t elements(const Param *param) { return param->value.rows * param->value.cols; }

static bool store(const Adapter *adapter, int index, StoredTensor *stored, float **host, Error *err) {
    const Param *param = &adapter->params->items[index];
    *host = memory_new((size_t)elements(param), sizeof **host, err);
    if (!*host || !params_get(adapter->params, index, *host, err)) return false;
    *stored = (StoredTensor){.name = param->name,
                             .dtype = DTYPE_F32,
                             .dims = param->dims,
                             .shape = {param->dims == 2 ? param->value.rows : param->value.cols, param->value.cols},
                             .data = *host,
                             .bytes = (size_t)elements(param) * sizeof **host};
    return true;
}

bool adapter_save(const Adapter *adapter, const char *folder, Error *err) {
    Settings settings;
    StoredTensor stored[PARTS];
    float *host[PARTS] = {0};
    int parts[PARTS], count = list_parts(adapter, parts);
    write_settings(adapter, &settings);
    char *path = path_join(folder, "speech_adapter.safetensors", err);
    bool ok = path != NULL;
    for (int i = 0; ok && i < count; i++) ok = store(adapter, parts[i], &stored[i], &host[i], err);
    ok = ok && tensors_write(path, stored, (size_t)count, settings.pairs, err);
    for (int i = 0; i < count; i++) free(host[i]);
    free(path);
    return ok;
}

static bool check_settings(const Adapter *adapter, const TensorFiles *files, const char *path, Error *err) {
    Settings settings;
    write_settings(adapter, &settings);
    for (const char *const *pair = settings.pairs; *pair; pair += 2) {
        const char *found = tensors_metadata(files, pair[0]);
        if (!found || strcmp(found, pair[1]))
            return fail(err, "%s: it was trained with %s = %s, but this run has %s; use the run's own config", path,
                        pair[0], found ? found : "(nothing)", pair[1]);
    }
    return true;
}

static bool load_part(const Adapter *adapter, const TensorFiles *files, int index, Error *err) {
    const Param *param = &adapter->params->items[index];
    const int64_t shape[] = {param->dims == 2 ? param->value.rows : param->value.cols, param->value.cols};
    float *host = memory_new((size_t)elements(param), sizeof *host, err);
    bool ok = host && tensors_read(files, param->name, param->dims, shape, host, err);
    for (int64_t i = 0; ok && i < elements(param); i++)
        if (!isfinite(host[i])) ok = fail(err, "tensor %s: its numbers are not all finite", param->name);
    ok = ok && params_set(adapter->params, index, host, err) && device_wait(adapter->dev, err);
    free(host);
    return ok;
}

bool adapter_load(const Adapter *adapter, const char *folder, Error *err) {
    int parts[PARTS], count = list_parts(adapter, parts);
    char *path = path_join(folder, "speech_adapter.safetensors", err);
    TensorFiles *files = path ? tensors_open(path, err) : NULL;
    bool ok = files && check_settings(adapter, files, path, err);
    for (int i = 0; ok && i < count; i++) ok = load_part(adapter, files, parts[i], err) || fail_in(err, "%s", path);
    tensors_close(files);
    free(path);
    return ok;
}
