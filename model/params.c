#include "model/params.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PARAM_ALIGNMENT = 64, STORED_ALIGNMENT = 128 };

static int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

int params_add(Params *params, const char *name, ParamGroup group, int dims, int64_t rows, int64_t cols, bool decay,
               Error *err) {
    Param param = {.group = group, .decay = decay, .dims = dims, .offset = params->total};
    int64_t elements, end;
    if (rows < 1 || cols < 1 || (dims != 1 && dims != 2) || (dims == 1 && rows != 1) ||
        __builtin_mul_overflow(rows, cols, &elements) ||
        __builtin_add_overflow(elements, params->total + PARAM_ALIGNMENT - 1, &end) ||
        end > INT64_MAX / (int64_t)sizeof(float)) {
        fail(err, "trainable tensor %s: a shape of [%" PRId64 ", %" PRId64 "] cannot be laid out", name, rows, cols);
        return -1;
    }
    if (strlen(name) >= sizeof param.name) {
        fail(err, "trainable tensor %s: the name is longer than %zu bytes", name, sizeof param.name - 1);
        return -1;
    }
    if (params_find(params, name)) {
        fail(err, "trainable tensor %s: the name is already in use", name);
        return -1;
    }
    if (!memory_grow(&params->items, (size_t)params->count, &params->capacity, sizeof *params->items, err)) return -1;
    memcpy(param.name, name, strlen(name) + 1);
    param.value = param.grad = tensor_of(NULL, DTYPE_F32, rows, cols);
    params->items[params->count] = param;
    params->total = end / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
    return params->count++;
}

void params_store(Params *params, int index) { params->items[index].wanted_stored = true; }

/* Copies in the device's dtype, 256-byte aligned as their values are; where that is F32, the values themselves. */
static bool commit_stored(Params *params, Error *err) {
    const DType dtype = device_dtype(params->dev);
    int64_t elements = 0;
    for (int i = 0; i < params->count; i++) {
        Param *param = &params->items[i];
        if (!param->wanted_stored) continue;
        param->stored =
            dtype == DTYPE_F32 ? param->value : tensor_of(NULL, dtype, param->value.rows, param->value.cols);
        elements += padded(param->value.rows * param->value.cols, STORED_ALIGNMENT);
    }
    if (dtype == DTYPE_F32 || elements == 0) return true;
    char *at = params->stored = device_alloc(params->dev, (size_t)elements * dtype_size(dtype), err);
    for (int i = 0; at && i < params->count; i++) {
        Param *param = &params->items[i];
        if (!param->wanted_stored) continue;
        param->stored.data = at;
        at += (size_t)padded(param->value.rows * param->value.cols, STORED_ALIGNMENT) * dtype_size(dtype);
    }
    return at != NULL;
}

bool params_commit(Params *params, Device *dev, Error *err) {
    size_t bytes = (size_t)params->total * sizeof(float);
    params->dev = dev;
    params->value = device_alloc(dev, bytes, err);
    params->grad = params->value ? device_alloc(dev, bytes, err) : NULL;
    if (!params->grad) return fail_in(err, "trainable weights");
    for (int i = 0; i < params->count; i++) {
        Param *param = &params->items[i];
        param->value.data = params->value + param->offset;
        param->grad.data = params->grad + param->offset;
    }
    params_changed(params);
    return commit_stored(params, err) || fail_in(err, "trainable weights");
}

void params_free(Params *params) {
    if (params->dev) {
        device_free(params->dev, params->value);
        device_free(params->dev, params->grad);
        device_free(params->dev, params->stored);
    }
    free(params->items);
    *params = (Params){0};
}

const Param *params_find(const Params *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (!strcmp(params->items[i].name, name)) return &params->items[i];
    return NULL;
}

static size_t value_bytes(const Param *param) {
    return (size_t)(param->value.rows * param->value.cols) * sizeof(float);
}

void params_changed(Params *params) { params->changes++; }

bool params_refresh(Params *params, Error *err) {
    if (params->refreshed == params->changes) return true;
    for (int i = 0; params->stored && i < params->count; i++) {
        const Param *param = &params->items[i];
        const ConvertArgs args = {.x = param->value, .y = param->stored};
        if (param->wanted_stored && !op_convert(params->dev, &args, err)) return false;
    }
    params->refreshed = params->changes;
    return true;
}

bool params_get(const Params *params, int index, float *host, Error *err) {
    const Param *param = &params->items[index];
    return device_download(params->dev, host, param->value.data, value_bytes(param), err);
}

bool params_set(Params *params, int index, const float *host, Error *err) {
    const Param *param = &params->items[index];
    params_changed(params);
    return device_upload(params->dev, param->value.data, host, value_bytes(param), err);
}
