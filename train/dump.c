#include "train/dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A growing tensor of one dimension, or of rows of `width`. */
typedef struct Column {
    char *data;
    size_t bytes, capacity;
} Column;

typedef struct Dump {
    Trainer *trainer;
    Column wave, wave_lengths, prosody, ids, labels, cu, rows;
    int32_t tokens;
    int64_t row_count;
    StoredTensor *tensors; /* the fixed ones, then two a parameter */
    char **names;
    size_t count;
    float *values, *grads; /* host copies, flat */
} Dump;

enum { FIXED_TENSORS = 8 };

static bool append(Column *column, const void *data, size_t bytes, Error *err) {
    if (column->bytes + bytes > column->capacity) {
        size_t capacity = 2 * (column->bytes + bytes);
        char *grown = realloc(column->data, capacity);
        if (!grown) return fail(err, "out of memory: %zu bytes for a dump", capacity);
        column->data = grown;
        column->capacity = capacity;
    }
    if (bytes) memcpy(column->data + column->bytes, data, bytes);
    column->bytes += bytes;
    return true;
}

/* The waveform as the encoder's first layer gets it. */
static bool add_wave(Dump *dump, const float *wave, int64_t count, Error *err) {
    int32_t length = (int32_t)count;
    if (!append(&dump->wave_lengths, &length, sizeof length, err)) return false;
    if (!speech_llm_normalizes(dump->trainer->run->model))
        return append(&dump->wave, wave, (size_t)count * sizeof *wave, err);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) mean += (double)wave[i];
    mean /= (double)count;
    for (int64_t i = 0; i < count; i++) variance += ((double)wave[i] - mean) * ((double)wave[i] - mean);
    double scale = 1 / sqrt(variance / (double)count + 1e-7);
    for (int64_t i = 0; i < count; i++) {
        float value = (float)(((double)wave[i] - mean) * scale);
        if (!append(&dump->wave, &value, sizeof value, err)) return false;
    }
    return true;
}

static bool add_speech_rows(Dump *dump, const Batch *batch, Error *err) {
    const Run *run = dump->trainer->run;
    int64_t width = speech_llm_width(run->model);
    float *rows = memory_new((size_t)(batch->rows * width), sizeof *rows, err);
    bool ok = rows && speech_llm_speech_rows(run->model, rows, err) &&
              append(&dump->rows, rows, (size_t)(batch->rows * width) * sizeof *rows, err);
    dump->row_count += batch->rows;
    free(rows);
    return ok;
}

static bool see_batch(void *context, const Batch *batch, Error *err) {
    Dump *dump = context;
    size_t tokens = (size_t)batch->cu_tokens[batch->count];
    bool ok = append(&dump->ids, batch->ids, tokens * sizeof *batch->ids, err) &&
              append(&dump->labels, batch->labels, tokens * sizeof *batch->labels, err);
    for (int s = 0; ok && s < batch->count; s++) {
        int32_t end = dump->tokens + batch->cu_tokens[s + 1];
        ok = append(&dump->cu, &end, sizeof end, err);
        if (ok && batch->has_wave)
            ok = add_wave(dump, batch->wave + batch->wave_start[s], batch->wave_start[s + 1] - batch->wave_start[s],
                          err);
    }
    dump->tokens += (int32_t)tokens;
    size_t channels = (size_t)config_prosody_channels(dump->trainer->run->config);
    if (ok && batch->has_prosody)
        ok = append(&dump->prosody, batch->prosody, (size_t)batch->frames * channels * sizeof *batch->prosody, err);
    return ok && (!batch->has_wave || add_speech_rows(dump, batch, err));
}

/* ---- writing ---- */

static void add_tensor(Dump *dump, const char *name, DType dtype, const Column *column, int64_t width) {
    int64_t elements = (int64_t)(column->bytes / dtype_size(dtype));
    StoredTensor *tensor = &dump->tensors[dump->count++];
    *tensor = (StoredTensor){.name = name,
                             .dtype = dtype,
                             .dims = width ? 2 : 1,
                             .data = column->data ? column->data : "",
                             .bytes = column->bytes};
    tensor->shape[0] = width ? elements / width : elements;
    tensor->shape[1] = width;
}

static bool add_param(Dump *dump, const char *kind, const float *flat, const Param *param, Error *err) {
    int64_t rows = param->value.rows, cols = param->value.cols;
    char *name = text_format(err, "%s.%s", kind, param->name);
    if (!name) return false;
    dump->names[dump->count] = name;
    dump->tensors[dump->count++] = (StoredTensor){.name = name,
                                                  .dtype = DTYPE_F32,
                                                  .dims = param->dims,
                                                  .shape = {param->dims == 1 ? cols : rows, cols},
                                                  .data = flat + param->offset,
                                                  .bytes = (size_t)(rows * cols) * sizeof(float)};
    return true;
}

static bool write_dump(Dump *dump, const char *path, double loss, Error *err) {
    const Params *params = speech_llm_params(dump->trainer->run->model);
    float loss_value = (float)loss;
    Column loss_column = {.data = (char *)&loss_value, .bytes = sizeof loss_value};
    int64_t width = speech_llm_width(dump->trainer->run->model);
    add_tensor(dump, "waveform", DTYPE_F32, &dump->wave, 0);
    add_tensor(dump, "wave_seqlens", DTYPE_I32, &dump->wave_lengths, 0);
    int channels = config_prosody_channels(dump->trainer->run->config);
    if (channels) add_tensor(dump, "prosody", DTYPE_F32, &dump->prosody, channels);
    add_tensor(dump, "input_ids", DTYPE_I32, &dump->ids, 0);
    add_tensor(dump, "labels", DTYPE_I32, &dump->labels, 0);
    add_tensor(dump, "cu_seqlens", DTYPE_I32, &dump->cu, 0);
    add_tensor(dump, "speech_rows", DTYPE_F32, &dump->rows, width);
    add_tensor(dump, "loss", DTYPE_F32, &loss_column, 0);
    bool ok = true;
    for (int i = 0; ok && i < params->count; i++)
        ok = add_param(dump, "param", dump->values, &params->items[i], err) &&
             add_param(dump, "grad", dump->grads, &params->items[i], err);
    return ok && tensors_write(path, dump->tensors, dump->count, NULL, err);
}

static void dump_free(Dump *dump) {
    free(dump->wave.data);
    free(dump->wave_lengths.data);
    free(dump->prosody.data);
    free(dump->ids.data);
    free(dump->labels.data);
    free(dump->cu.data);
    free(dump->rows.data);
    for (size_t i = 0; dump->names && i < dump->count; i++) free(dump->names[i]);
    free(dump->names);
    free(dump->tensors);
    free(dump->values);
    free(dump->grads);
}

bool dump_step(Trainer *trainer, const char *folder, StepResult *result, Error *err) {
    const Params *params = speech_llm_params(trainer->run->model);
    size_t most = FIXED_TENSORS + 2 * (size_t)params->count, bytes = (size_t)params->total * sizeof(float);
    Dump dump = {.trainer = trainer};
    int32_t zero = 0;
    dump.tensors = memory_new(most, sizeof *dump.tensors, err);
    dump.names = memory_new(most, sizeof *dump.names, err);
    dump.values = memory_new((size_t)params->total, sizeof *dump.values, err);
    dump.grads = memory_new((size_t)params->total, sizeof *dump.grads, err);
    char *path = text_format(err, "%s/step-%" PRId64 ".safetensors", folder, trainer->state.step + 1);
    bool ok = dump.tensors && dump.names && dump.values && dump.grads && path &&
              append(&dump.cu, &zero, sizeof zero, err) &&
              device_download(params->dev, dump.values, params->value, bytes, err) &&
              trainer_gradients(trainer, result, see_batch, &dump, err) &&
              device_download(params->dev, dump.grads, params->grad, bytes, err) &&
              write_dump(&dump, path, result->loss, err);
    dump_free(&dump);
    free(path);
    return ok;
}

static json_t *optimizer_json(const TrainSection *train, int64_t steps) {
    static const char *const SCHEDULES[] = {"cosine", "linear", "constant"};
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:I, s:I}", "lr", train->lr, "adapter_lr",
                     train->adapter_lr > 0 ? train->adapter_lr : train->lr, "weight_decay", train->weight_decay,
                     "beta1", train->beta1, "beta2", train->beta2, "eps", train->eps, "clip", train->clip, "schedule",
                     SCHEDULES[train->schedule], "warmup", (json_int_t)train->warmup, "steps", (json_int_t)steps);
}

static json_t *adapter_json(const Run *run) {
    const AdapterSection *adapter = &run->config->model.adapter;
    return json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f}", "kind", "mlp", "stack", (json_int_t)adapter->stack,
                     "hidden", (json_int_t)adapter->hidden, "prosody", config_prosody_channels(run->config),
                     "prosody_scale", adapter->prosody_scale, "dropout", adapter->dropout, "noise", adapter->noise);
}

bool dump_config(const Run *run, int64_t steps, const char *folder, Error *err) {
    const ModelSection *model = &run->config->model;
    bool speech = run->config->prompt.input == INPUT_SPEECH;
    json_t *json =
        json_pack("{s:s?, s:s, s:{s:I, s:f, s:f, s:b}, s:s, s:b, s:o, s:o}", "encoder", speech ? model->encoder : NULL,
                  "llm", model->llm, "lora", "r", (json_int_t)model->lora.rank, "alpha", model->lora.alpha, "dropout",
                  model->lora.dropout, "rslora", model->lora.rslora, "layers",
                  model->layers == LAYERS_LAST ? "last" : "weighted", "normalized", speech_llm_normalizes(run->model),
                  "adapter", adapter_json(run), "optimizer", optimizer_json(&run->config->train, steps));
    char *path = path_join(folder, "config.json", err);
    bool ok = path && (json || fail(err, "out of memory for %s", path)) && folder_make(folder, err) &&
              json_write_file(json, path, err);
    free(path);
    json_decref(json);
    return ok;
}
