#include "model/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- parameters --------------------------------------------------------------------------- */

static bool check_config(const AdapterConfig *config, Error *err) {
    if (config->stack < 1 || config->stack > 1024)
        return fail_usage(err, "adapter: %d frames cannot be stacked to a row, expected 1 to 1024", config->stack);
    if (config->hidden < 1 || config->hidden > 1 << 20)
        return fail_usage(err, "adapter: a hidden layer of %d is not from 1 to %d", config->hidden, 1 << 20);
    if (config->prosody != 0 && config->prosody != 1 && config->prosody != 3)
        return fail_usage(err, "adapter: %d prosody channels, expected 0, 1 (energy) or 3 (energy, f0, voicing)",
                          config->prosody);
    if (!isfinite(config->prosody_scale)) return fail_usage(err, "adapter: the prosody scale is not a finite number");
    if (!(config->dropout >= 0 && config->dropout < 1))
        return fail_usage(err, "adapter: a dropout of %g is outside [0, 1)", (double)config->dropout);
    if (!(config->noise >= 0 && isfinite(config->noise)))
        return fail_usage(err, "adapter: a noise of %g, expected 0 or more", (double)config->noise);
    return true;
}

static int64_t stacked_width(const Adapter *adapter) {
    return adapter->config.stack * (adapter->width + adapter->config.prosody);
}

bool adapter_declare(Adapter *adapter, Device *dev, const AdapterConfig *config, int states, int64_t width, int64_t out,
                     uint64_t seed, Params *params, Error *err) {
    *adapter = (Adapter){.dev = dev,
                         .config = *config,
                         .seed = seed,
                         .states = states,
                         .width = width,
                         .out = out,
                         .params = params,
                         .mix = -1};
    if (!check_config(config, err)) return false;
    const int64_t hidden = config->hidden;
    adapter->weight1 =
        params_add(params, "adapter.linear1.weight", PARAM_ADAPTER, 2, hidden, stacked_width(adapter), true, err);
    adapter->bias1 = params_add(params, "adapter.linear1.bias", PARAM_ADAPTER, 1, 1, hidden, false, err);
    adapter->weight2 = params_add(params, "adapter.linear2.weight", PARAM_ADAPTER, 2, out, hidden, true, err);
    adapter->bias2 = params_add(params, "adapter.linear2.bias", PARAM_ADAPTER, 1, 1, out, false, err);
    if (adapter->weight1 < 0 || adapter->bias1 < 0 || adapter->weight2 < 0 || adapter->bias2 < 0) return false;
    params_store(params, adapter->weight1);
    params_store(params, adapter->bias1);
    params_store(params, adapter->weight2);
    params_store(params, adapter->bias2);
    if (states == 1) return true;
    adapter->mix = params_add(params, "layer_mix.weight", PARAM_LAYER_MIX, 1, 1, states, false, err);
    return adapter->mix >= 0;
}

static bool init_uniform(const Adapter *adapter, int index, int64_t fan_in, Error *err) {
    const Param *param = &adapter->params->items[index];
    size_t count = (size_t)(param->value.rows * param->value.cols);
    float *values = memory_new(count, sizeof *values, err);
    if (!values) return false;
    const double bound = 1 / sqrt((double)fan_in);
    Philox block = {{0}};
    for (size_t e = 0; e < count; e++) {
        if (e % 4 == 0) block = philox(adapter->seed, (uint32_t)(e / 4), PLACE_INIT, (uint32_t)index, 0);
        values[e] = (float)((2 * (double)rng_uniform(block.word[e % 4]) - 1) * bound);
    }
    bool ok = params_set(adapter->params, index, values, err) && device_wait(adapter->dev, err);
    free(values);
    return ok;
}

bool adapter_init(const Adapter *adapter, Error *err) {
    const int64_t in = stacked_width(adapter), hidden = adapter->config.hidden;
    return init_uniform(adapter, adapter->weight1, in, err) && init_uniform(adapter, adapter->bias1, in, err) &&
           init_uniform(adapter, adapter->weight2, hidden, err) && init_uniform(adapter, adapter->bias2, hidden, err);
}

int64_t adapter_rows(const Adapter *adapter, int64_t frames) {
    return (frames + adapter->config.stack - 1) / adapter->config.stack;
}

/* ---- layout ------------------------------------------------------------------------------- */

static Tensor take(Arena *arena, const char *name, DType dtype, int64_t rows, int64_t cols) {
    return tensor_of(arena_take(arena, name, dtype, rows, cols), dtype, rows, cols);
}

void adapter_layout(const Adapter *adapter, AdapterWork *work, const AdapterLimits *limits, Arena *arena) {
    const AdapterConfig *config = &adapter->config;
    const DType dtype = device_dtype(adapter->dev);
    const int64_t n = limits->frames, stacked = stacked_width(adapter), hidden = config->hidden;
    const int64_t rows = n / config->stack + limits->clips; /* each clip's last row may be partly filled */
    work->limits = *limits;
    work->rows = rows < n ? rows : n;
    work->tables = arena_take(arena, "adapter.tables", DTYPE_I32, 1, 2 * (limits->clips + 1) + 2 * work->rows);
    work->side = config->prosody ? take(arena, "adapter.prosody", DTYPE_F32, n, config->prosody) : (Tensor){0};
    work->mixed = adapter->mix >= 0 ? take(arena, "adapter.mixed", dtype, n, adapter->width) : (Tensor){0};
    work->stacked = take(arena, "adapter.stacked", dtype, work->rows, stacked);
    work->hidden = take(arena, "adapter.hidden", dtype, work->rows, hidden);
    work->out = take(arena, "adapter.out", dtype, work->rows, adapter->out);
    if (!limits->training) return;
    work->inner = take(arena, "adapter.inner", dtype, work->rows, hidden);
    work->dout = take(arena, "adapter.d_out", dtype, work->rows, adapter->out);
    work->dhidden = take(arena, "adapter.d_hidden", dtype, work->rows, hidden);
    if (adapter->mix < 0) return;
    work->dstacked = take(arena, "adapter.d_stacked", dtype, work->rows, stacked);
    work->dmixed = take(arena, "adapter.d_mixed", dtype, n, adapter->width);
}

static void write_tables(const Adapter *adapter, AdapterWork *work, const AdapterBatch *batch) {
    const int clips = batch->clips;
    int32_t *frames = work->host_tables, *rows = frames + clips + 1, *sample = rows + clips + 1;
    frames[0] = rows[0] = 0;
    for (int c = 0; c < clips; c++) {
        frames[c + 1] = frames[c] + (int32_t)batch->frames[c];
        rows[c + 1] = rows[c] + (int32_t)adapter_rows(adapter, batch->frames[c]);
    }
    int32_t *position = sample + rows[clips];
    for (int c = 0; c < clips; c++)
        for (int32_t r = rows[c]; r < rows[c + 1]; r++) {
            sample[r] = batch->sample ? batch->sample[c] : 0;
            position[r] = r - rows[c];
        }
    work->frame_segments = packed_of(frames, clips);
    work->frame_segments.device = work->tables;
    work->row_segments = packed_of(rows, clips);
    work->row_segments.device = work->tables + (rows - frames);
}

static Dropout key(const Adapter *adapter, const AdapterWork *work, const AdapterBatch *batch, uint32_t place,
                   float p) {
    const int32_t *sample = work->tables + 2 * (batch->clips + 1);
    return (Dropout){.p = p,
                     .seed = adapter->seed,
                     .step = batch->step,
                     .place = place,
                     .sample = sample,
                     .position = sample + work->row_segments.total};
}

/* ---- forward and backward ----------------------------------------------------------------- */

static Tensor weight(const Adapter *adapter, int index) { return adapter->params->items[index].stored; }
static Tensor mix_weight(const Adapter *adapter) { return adapter->params->items[adapter->mix].value; }
static Tensor grad(const Adapter *adapter, int index) { return adapter->params->items[index].grad; }

static void list_states(const Adapter *adapter, Tensor features, Tensor *states) {
    for (int i = 0; i < adapter->states; i++) states[i] = tensor_cols(features, i * adapter->width, adapter->width);
}

/* Hidden states to the frames that are stacked. */
static bool mix_states(const Adapter *adapter, const AdapterWork *work, OpPass *pass, Tensor features, Tensor *frames,
                       Error *err) {
    *frames = features;
    if (adapter->mix < 0) return true;
    *frames = tensor_rows(work->mixed, 0, features.rows);
    LayerMixArgs args = {.count = adapter->states, .weight = mix_weight(adapter), .y = *frames};
    list_states(adapter, features, args.state);
    return pass->planning ? pass_note(pass, layer_mix_scratch(pass->dev, &args)) : op_layer_mix(pass->dev, &args, err);
}

static bool stack(const Adapter *adapter, const AdapterWork *work, OpPass *pass, const AdapterBatch *batch,
                  Tensor frames, Tensor y, Error *err) {
    Tensor side = adapter->config.prosody ? tensor_rows(work->side, 0, frames.rows) : (Tensor){0};
    if (!APPLY(pass, err, StackFrames, stack_frames, .x = frames, .side = side, .frames = work->frame_segments,
               .rows = work->row_segments, .k = adapter->config.stack, .y = y))
        return false;
    return !batch->train || adapter->config.noise == 0 ||
           APPLY(pass, err, Noise, noise, .x = y, .y = y, .sigma = adapter->config.noise,
                 .key = key(adapter, work, batch, PLACE_FEATURE_NOISE, 0));
}

/* The hidden layer; where it trains, what came before the activation is kept. */
static bool hidden_layer(const Adapter *adapter, const AdapterWork *work, OpPass *pass, const AdapterBatch *batch,
                         Tensor x, Tensor y, Error *err) {
    Tensor inner = batch->train ? tensor_rows(work->inner, 0, x.rows) : y;
    if (!APPLY(pass, err, Linear, linear, .x = x, .weight = weight(adapter, adapter->weight1),
               .bias = weight(adapter, adapter->bias1), .act = batch->train ? ACT_NONE : ACT_GELU, .y = inner))
        return false;
    if (!batch->train) return true;
    if (!APPLY(pass, err, Activation, activation, .x = inner, .y = y, .act = ACT_GELU)) return false;
    return adapter->config.dropout == 0 ||
           APPLY(pass, err, Dropout, dropout, .x = y, .y = y,
                 .dropout = key(adapter, work, batch, PLACE_ADAPTER_DROPOUT, adapter->config.dropout));
}

static bool forward(const Adapter *adapter, const AdapterWork *work, OpPass *pass, const AdapterBatch *batch,
                    Error *err) {
    const int64_t rows = work->row_segments.total;
    Tensor frames, stacked = tensor_rows(work->stacked, 0, rows), hidden = tensor_rows(work->hidden, 0, rows);
    return mix_states(adapter, work, pass, batch->features, &frames, err) &&
           stack(adapter, work, pass, batch, frames, stacked, err) &&
           hidden_layer(adapter, work, pass, batch, stacked, hidden, err) &&
           APPLY(pass, err, Linear, linear, .x = hidden, .weight = weight(adapter, adapter->weight2),
                 .bias = weight(adapter, adapter->bias2), .y = tensor_rows(work->out, 0, rows));
}

static bool mix_backward(const Adapter *adapter, const AdapterWork *work, OpPass *pass, const AdapterBatch *batch,
                         Tensor dstacked, Error *err) {
    Tensor dmixed = tensor_rows(work->dmixed, 0, work->frame_segments.total);
    if (!APPLY(pass, err, StackFramesBackward, stack_frames_backward, .dy = dstacked, .frames = work->frame_segments,
               .rows = work->row_segments, .k = adapter->config.stack, .side = adapter->config.prosody, .dx = dmixed))
        return false;
    LayerMixBackwardArgs args = {
        .count = adapter->states, .weight = mix_weight(adapter), .dy = dmixed, .dweight = grad(adapter, adapter->mix)};
    list_states(adapter, batch->features, args.state);
    return pass->planning ? pass_note(pass, layer_mix_backward_scratch(pass->dev, &args))
                          : op_layer_mix_backward(pass->dev, &args, err);
}

static bool backward(const Adapter *adapter, const AdapterWork *work, OpPass *pass, const AdapterBatch *batch,
                     Error *err) {
    const int64_t rows = work->row_segments.total;
    Tensor stacked = tensor_rows(work->stacked, 0, rows), hidden = tensor_rows(work->hidden, 0, rows);
    Tensor dhidden = tensor_rows(work->dhidden, 0, rows);
    Tensor dstacked = adapter->mix >= 0 ? tensor_rows(work->dstacked, 0, rows) : (Tensor){0};
    if (!APPLY(pass, err, LinearBackward, linear_backward, .x = hidden, .weight = weight(adapter, adapter->weight2),
               .dy = tensor_rows(work->dout, 0, rows), .dx = dhidden, .dweight = grad(adapter, adapter->weight2),
               .dbias = grad(adapter, adapter->bias2)))
        return false;
    if (adapter->config.dropout > 0 &&
        !APPLY(pass, err, Dropout, dropout, .x = dhidden, .y = dhidden,
               .dropout = key(adapter, work, batch, PLACE_ADAPTER_DROPOUT, adapter->config.dropout)))
        return false;
    return APPLY(pass, err, ActivationBackward, activation_backward, .x = tensor_rows(work->inner, 0, rows),
                 .dy = dhidden, .dx = dhidden, .act = ACT_GELU) &&
           APPLY(pass, err, LinearBackward, linear_backward, .x = stacked, .weight = weight(adapter, adapter->weight1),
                 .dy = dhidden, .dx = dstacked, .dweight = grad(adapter, adapter->weight1),
                 .dbias = grad(adapter, adapter->bias1)) &&
           (adapter->mix < 0 || mix_backward(adapter, work, pass, batch, dstacked, err));
}

bool adapter_prepare(const Adapter *adapter, AdapterWork *work, OpPass *pass, Error *err) {
    const AdapterLimits *limits = &work->limits;
    adapter_work_free(work);
    work->host_tables = memory_new((size_t)(2 * (limits->clips + 1) + 2 * work->rows), sizeof(int32_t), err);
    work->scaled = memory_new((size_t)limits->frames, (size_t)adapter->config.prosody * sizeof(float), err);
    if (!work->host_tables || !work->scaled) return false;
    const DType dtype = device_dtype(adapter->dev);
    AdapterBatch largest = {.clips = 1,
                            .frames = &limits->frames,
                            .features =
                                tensor_of(work->out.data, dtype, limits->frames, adapter->states * adapter->width),
                            .train = limits->training};
    write_tables(adapter, work, &largest);
    return forward(adapter, work, pass, &largest, err) &&
           (!limits->training || backward(adapter, work, pass, &largest, err));
}

void adapter_work_free(AdapterWork *work) {
    free(work->host_tables);
    free(work->scaled);
    work->host_tables = NULL;
    work->scaled = NULL;
}

static bool upload_prosody(const Adapter *adapter, AdapterWork *work, const float *prosody, int64_t frames,
                           Error *err) {
    const int64_t count = frames * adapter->config.prosody;
    for (int64_t i = 0; i < count; i++) work->scaled[i] = adapter->config.prosody_scale * prosody[i];
    return count == 0 || device_upload(adapter->dev, work->side.data, work->scaled, (size_t)count * sizeof(float), err);
}

bool adapter_forward(const Adapter *adapter, AdapterWork *work, const AdapterBatch *batch, Error *err) {
    const int channels = adapter->config.prosody;
    int64_t frames = 0;
    for (int c = 0; c < batch->clips; c++) frames += batch->frames[c];
    if (batch->clips > work->limits.clips || frames > work->limits.frames || (batch->train && !work->limits.training))
        return fail(err,
                    "adapter: a batch of %d clips and %" PRId64 " frames, but %" PRId64 " and %" PRId64
                    " were planned for",
                    batch->clips, frames, work->limits.clips, work->limits.frames);
    if (channels && !batch->prosody)
        return fail(err, "adapter: the batch has no prosody, but the adapter takes %d channels of it", channels);
    write_tables(adapter, work, batch);
    size_t entries = 2 * ((size_t)batch->clips + 1) + 2 * (size_t)work->row_segments.total;
    OpPass pass = {.dev = adapter->dev};
    return params_refresh(adapter->params, err) &&
           device_upload(adapter->dev, work->tables, work->host_tables, entries * sizeof(int32_t), err) &&
           upload_prosody(adapter, work, batch->prosody, frames, err) && forward(adapter, work, &pass, batch, err);
}

bool adapter_backward(const Adapter *adapter, AdapterWork *work, const AdapterBatch *batch, Error *err) {
    OpPass pass = {.dev = adapter->dev};
    return backward(adapter, work, &pass, batch, err);
}
