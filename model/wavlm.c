#include "model/wavlm.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const float CONV_EPS = 1e-5f; /* PyTorch's default, whatever layer_norm_eps says */

/* ---- layout ------------------------------------------------------------------------------- */

static Tensor take(Arena *arena, const char *name, DType dtype, int64_t rows, int64_t cols) {
    return tensor_of(arena_take(arena, name, dtype, rows, cols), dtype, rows, cols);
}

/* The windows of a convolution end `kernel - stride` rows past what there is for all of them. */
static void layout_convs(const Wavlm *wavlm, WavlmWork *work, Arena *arena) {
    const WavlmConfig *config = &wavlm->config;
    const DType dtype = device_dtype(wavlm->dev);
    int64_t most[2] = {0, 0}, aligned = work->chunk_rows, past = 0;
    for (int i = config->convs; i-- > 0;) {
        int64_t elements = (aligned + past) * config->conv_dim[i];
        if (elements > most[i % 2]) most[i % 2] = elements;
        aligned *= config->conv_stride[i];
        past = config->conv_kernel[i] - config->conv_stride[i];
    }
    work->conv[0] = take(arena, "encoder.conv.even", dtype, 1, most[0]);
    work->conv[1] = take(arena, "encoder.conv.odd", dtype, 1, most[1]);
    int64_t rows = wavlm_frames(config, work->chunk);
    work->normed_conv = take(arena, "encoder.conv.normed", dtype, rows, config->conv_dim[config->convs - 1]);
}

/* In a group of clips, however short they are: each number of them is planned for. */
enum { CHUNK_CLIPS = 64 };

/* Clips go through the convolutions in groups of so many samples, which bounds their memory: the first layer makes
 * 512 channels of every 5. Two layers' outputs are there at once. */
static int64_t chunk_samples(const Wavlm *wavlm, const WavlmLimits *limits) {
    const WavlmConfig *config = &wavlm->config;
    int64_t samples = device_chunk(wavlm->dev) / 2 / config->conv_dim[0] * config->conv_stride[0];
    if (samples < limits->longest) samples = limits->longest;
    return samples < limits->samples ? samples : limits->samples;
}

/* Kernels are no shorter than strides, so that several clips never give more frames than one as long as all. */
static int64_t chunk_rows(const WavlmConfig *config, const WavlmLimits *limits, int64_t chunk) {
    int64_t clips = chunk / wavlm_receptive_field(config);
    if (clips > CHUNK_CLIPS) clips = CHUNK_CLIPS;
    if (clips > limits->clips) clips = limits->clips;
    return wavlm_frames(config, chunk) + clips * wavlm_padding(config);
}

bool wavlm_layout(const Wavlm *wavlm, WavlmWork *work, const WavlmLimits *limits, Arena *kept, Arena *arena,
                  Error *err) {
    const WavlmConfig *config = &wavlm->config;
    const DType dtype = device_dtype(wavlm->dev);
    const int64_t hidden = config->hidden, n = wavlm_frames(config, limits->samples);
    const int64_t widest = config->ffn > 3 * hidden ? config->ffn : 3 * hidden;
    if (limits->samples > INT32_MAX || limits->longest > limits->samples || limits->clips < 1 ||
        limits->clips > limits->samples || wavlm_frames(config, limits->longest) < 1)
        return fail(err,
                    "encoder: a batch of %" PRId64 " clips, %" PRId64 " samples, the longest %" PRId64
                    ", cannot be planned for: clips have at least %" PRId64 " samples and batches at most %d",
                    limits->clips, limits->samples, limits->longest, wavlm_receptive_field(config), INT32_MAX);
    work->limits = *limits;
    work->frames = n;
    work->longest_frames = wavlm_frames(config, limits->longest);
    work->chunk = chunk_samples(wavlm, limits);
    work->chunk_rows = chunk_rows(config, limits, work->chunk);
    if (work->chunk_rows * wavlm_stride(config) > INT32_MAX)
        return fail(err,
                    "encoder: clips of up to %" PRId64 " samples cannot be planned for: their rows are more than %d",
                    limits->longest, INT32_MAX);
    /* samples, frames, for each chunk three tables of its clips, of which there is at least one, and where each
     * frame lies. */
    work->table_entries = (limits->clips + 1) * 2 + limits->clips * 2 * 3 + n;
    work->tables = arena_take(arena, "encoder.segments", DTYPE_I32, 1, work->table_entries);
    work->wave = take(arena, "encoder.wave", DTYPE_F32, limits->samples, 1);
    work->input = dtype == DTYPE_F32 ? work->wave : take(arena, "encoder.input", dtype, limits->samples, 1);
    layout_convs(wavlm, work, arena);
    work->state[0] = take(arena, "encoder.state.even", dtype, n, hidden);
    work->state[1] = take(arena, "encoder.state.odd", dtype, n, hidden);
    if (config->pre_norm) work->attention_in = take(arena, "encoder.normed", dtype, n, hidden);
    work->attended = take(arena, "encoder.attended", dtype, n, hidden);
    work->wide = take(arena, "encoder.wide", dtype, 1, n * widest);
    work->gate = take(arena, "encoder.gate", DTYPE_F32, n, config->heads);
    work->bias = take(kept, "encoder.position", DTYPE_F32, config->heads, 2 * work->longest_frames - 1);
    return true;
}

/* ---- the relative position bias ----------------------------------------------------------- */

/* T5's bidirectional buckets, evaluated in fp32 in the order of Microsoft's code. */
static int bucket(const WavlmConfig *config, int64_t distance) {
    const int half = config->buckets / 2, exact = half / 2;
    const int64_t n = distance < 0 ? -distance : distance;
    const int start = distance > 0 ? half : 0;
    if (n < exact) return start + (int)n;
    float scale = (float)log((double)config->max_distance / exact);
    float place = (float)exact + logf((float)n / (float)exact) / scale * (float)(half - exact);
    return start + (place < (float)half ? (int)place : half - 1);
}

static bool upload_bias(const Wavlm *wavlm, const WavlmWork *work, Error *err) {
    const int64_t columns = work->bias.cols, longest = work->longest_frames;
    const int heads = wavlm->config.heads;
    float *table = memory_new((size_t)(columns * heads), sizeof *table, err);
    if (!table) return false;
    for (int64_t column = 0; column < columns; column++) {
        const float *row = wavlm->relative + (int64_t)bucket(&wavlm->config, column - longest + 1) * heads;
        for (int head = 0; head < heads; head++) table[head * columns + column] = row[head];
    }
    bool ok = device_upload(wavlm->dev, work->bias.data, table, (size_t)(columns * heads) * sizeof *table, err) &&
              device_wait(wavlm->dev, err);
    free(table);
    return ok;
}

/* ---- segment tables ----------------------------------------------------------------------- */

/* Tables are written once a batch, in the order they are read in: samples, frames, then chunk by chunk the samples,
 * the first convolution's rows, these and those that pad them, and the row that each frame of the last
 * convolution's lies in. */
typedef struct Tables {
    const WavlmWork *work;
    int64_t next;
} Tables;

static Packed next_table(Tables *tables, int32_t count) {
    Packed packed = packed_of(tables->work->host_tables + tables->next, count);
    packed.device = tables->work->tables + tables->next;
    tables->next += count + 1;
    return packed;
}

static const int32_t *next_index(Tables *tables, int64_t rows) {
    const int32_t *index = tables->work->tables + tables->next;
    tables->next += rows;
    return index;
}

/* One past the last clip of the chunk that begins with clip `first`: as many as would fit were all as long as
 * the longest of them, which bounds the chunk's tables of statistics too. */
static int chunk_end(const WavlmWork *work, const WavlmBatch *batch, int first) {
    int64_t longest = 0;
    int end = first;
    while (end < batch->count) {
        int64_t length = batch->start[end + 1] - batch->start[end];
        if (length > longest) longest = length;
        if (end > first && (longest * (end - first + 1) > work->chunk || end - first == CHUNK_CLIPS)) break;
        end++;
    }
    return end;
}

/* Lengths of clips first .. end-1 after `convs` convolutions, as a running sum from 0. */
static int32_t *write_table(const WavlmConfig *config, const WavlmBatch *batch, int first, int end, int convs,
                            int32_t *to) {
    *to++ = 0;
    for (int c = first; c < end; c++, to++) {
        int64_t samples = batch->start[c + 1] - batch->start[c];
        *to = to[-1] + (int32_t)wavlm_rows(config, convs, samples);
    }
    return to;
}

/* The same with clips padded, after the first convolution. */
static int32_t *write_aligned(const WavlmConfig *config, const WavlmBatch *batch, int first, int end, int32_t *to) {
    *to++ = 0;
    for (int c = first; c < end; c++, to++) {
        int64_t samples = batch->start[c + 1] - batch->start[c];
        *to = to[-1] + (int32_t)(wavlm_aligned(config, samples) * wavlm_stride(config));
    }
    return to;
}

/* Where the frames are among the last convolution's rows. */
static int32_t *write_index(const WavlmConfig *config, const WavlmBatch *batch, int first, int end, int32_t *to) {
    int64_t row = 0;
    for (int c = first; c < end; c++) {
        int64_t samples = batch->start[c + 1] - batch->start[c], frames = wavlm_frames(config, samples);
        for (int64_t f = 0; f < frames; f++) *to++ = (int32_t)(row + f);
        row += wavlm_aligned(config, samples);
    }
    return to;
}

static void write_tables(const Wavlm *wavlm, WavlmWork *work, const WavlmBatch *batch) {
    const WavlmConfig *config = &wavlm->config;
    int32_t *to = write_table(config, batch, 0, batch->count, 0, work->host_tables);
    to = write_table(config, batch, 0, batch->count, config->convs, to);
    for (int first = 0, end; first < batch->count; first = end) {
        end = chunk_end(work, batch, first);
        to = write_table(config, batch, first, end, 0, to);
        to = write_table(config, batch, first, end, 1, to);
        to = write_aligned(config, batch, first, end, to);
        to = write_index(config, batch, first, end, to);
    }
}

/* ---- forward ------------------------------------------------------------------------------ */

static Tensor shaped(Tensor buffer, int64_t rows, int64_t cols) {
    return tensor_of(buffer.data, buffer.dtype, rows, cols);
}

/* The first convolution, of the waveform, to aligned segments; normed over channels, or over time. */
static bool first_conv(const Wavlm *wavlm, OpPass *pass, Tensor x, Tensor y, Packed samples, Packed rows,
                       Packed aligned, Error *err) {
    const WavlmConfig *config = &wavlm->config;
    const WavlmConv *conv = &wavlm->conv[0];
    const bool over_channels = config->conv_layer_norm;
    return APPLY(pass, err, Conv, conv, .x = x, .weight = conv->weight, .bias = conv->bias,
                 .gamma = over_channels ? conv->gamma : (Tensor){0}, .beta = over_channels ? conv->beta : (Tensor){0},
                 .eps = CONV_EPS, .kernel = config->conv_kernel[0], .stride = config->conv_stride[0],
                 .in_segments = samples, .out_segments = aligned, .act = over_channels ? ACT_GELU : ACT_NONE, .y = y) &&
           (over_channels || APPLY(pass, err, SegmentNorm, segment_norm, .x = y, .segments = aligned, .counted = rows,
                                   .gamma = conv->gamma, .beta = conv->beta, .eps = CONV_EPS, .act = ACT_GELU, .y = y));
}

/* Row t of y is made of the window of x's rows from stride · t on, whichever clip they are of (wavlm.h). Neighbouring
 * windows overlap, but the first, second .. of every `sets` of them do not: each set is a matrix with a leading
 * dimension of its own, and its product with the weight is every so many-th row of y. */
static bool later_conv(const Wavlm *wavlm, OpPass *pass, int i, Tensor x, Tensor y, Error *err) {
    const WavlmConv *conv = &wavlm->conv[i];
    const int64_t kernel = wavlm->config.conv_kernel[i], stride = wavlm->config.conv_stride[i];
    const int64_t sets = (kernel + stride - 1) / stride;
    const bool normed = tensor_present(conv->gamma);
    for (int64_t set = 0; set < sets && set < y.rows; set++) {
        const int64_t rows = (y.rows - set + sets - 1) / sets;
        Tensor windows = tensor_rows(x, set * stride, rows), to = tensor_rows(y, set, rows);
        windows.cols = kernel * x.cols;
        windows.ld = sets * stride * x.cols;
        to.ld = sets * y.cols;
        if (!APPLY(pass, err, Linear, linear, .x = windows, .weight = conv->weight, .bias = conv->bias,
                   .act = normed ? ACT_NONE : ACT_GELU, .y = to))
            return false;
    }
    return !normed || APPLY(pass, err, LayerNorm, layer_norm, .x = y, .gamma = conv->gamma, .beta = conv->beta,
                            .eps = CONV_EPS, .act = ACT_GELU, .y = y);
}

/* A chunk's waveform through the convolutions and the projection to `y`. */
static bool conv_chunk(const Wavlm *wavlm, const WavlmWork *work, OpPass *pass, Tensor x, int clips, Tables *tables,
                       Tensor y, Error *err) {
    const WavlmConfig *config = &wavlm->config;
    Packed samples = next_table(tables, clips), rows = next_table(tables, clips), aligned = next_table(tables, clips);
    Tensor to = shaped(work->conv[0], aligned.total, config->conv_dim[0]);
    if (!first_conv(wavlm, pass, x, to, samples, rows, aligned, err)) return false;
    for (int i = 1; i < config->convs; i++) {
        x = to;
        to = shaped(work->conv[i % 2], x.rows / config->conv_stride[i], config->conv_dim[i]);
        if (!later_conv(wavlm, pass, i, x, to, err)) return false;
    }
    Tensor normed = tensor_rows(work->normed_conv, 0, y.rows);
    return APPLY(pass, err, GatherRows, gather_rows, .x = to, .index = next_index(tables, y.rows), .y = normed) &&
           APPLY(pass, err, LayerNorm, layer_norm, .x = normed, .gamma = wavlm->feature_gamma,
                 .beta = wavlm->feature_beta, .eps = config->eps, .y = normed) &&
           APPLY(pass, err, Linear, linear, .x = normed, .weight = wavlm->projection, .bias = wavlm->projection_bias,
                 .y = y);
}

/* Normalised where the model wants it, and in the device's dtype. */
static bool prepare_wave(const Wavlm *wavlm, OpPass *pass, Tensor wave, Tensor input, Packed samples, Error *err) {
    if (wavlm->config.normalize)
        return APPLY(pass, err, WaveNorm, wave_norm, .x = wave, .segments = samples, .y = input);
    return input.dtype == wave.dtype || APPLY(pass, err, Convert, convert, .x = wave, .y = input);
}

/* The whole batch's waveform to projected features in `y`. */
static bool features(const Wavlm *wavlm, const WavlmWork *work, OpPass *pass, const WavlmBatch *batch, Packed samples,
                     Packed frames, Tables *tables, Tensor y, Error *err) {
    Tensor input = tensor_rows(work->input, 0, samples.total);
    if (!prepare_wave(wavlm, pass, tensor_rows(work->wave, 0, samples.total), input, samples, err)) return false;
    const int32_t *wave = samples.host, *frame = frames.host;
    for (int first = 0, end; first < batch->count; first = end) {
        end = chunk_end(work, batch, first);
        Tensor x = tensor_rows(input, wave[first], wave[end] - wave[first]);
        Tensor to = tensor_rows(y, frame[first], frame[end] - frame[first]);
        if (!conv_chunk(wavlm, work, pass, x, end - first, tables, to, err)) return false;
    }
    return true;
}

/* y = x + gated attention of `u`. */
static bool attend(const Wavlm *wavlm, const WavlmWork *work, const WavlmLayer *layer, OpPass *pass, Packed frames,
                   Tensor u, Tensor x, Tensor y, Error *err) {
    const WavlmConfig *config = &wavlm->config;
    const int64_t hidden = config->hidden, n = frames.total;
    const int dim = (int)(hidden / config->heads);
    Tensor qkv = shaped(work->wide, n, 3 * hidden), gate = tensor_rows(work->gate, 0, n);
    Tensor attended = tensor_rows(work->attended, 0, n);
    return APPLY(pass, err, Linear, linear, .x = u, .weight = layer->qkv, .bias = layer->qkv_bias, .y = qkv) &&
           APPLY(pass, err, RelGate, rel_gate, .u = u, .weight = layer->gate, .bias = layer->gate_bias,
                 .scale = layer->gate_scale, .heads = config->heads, .gate = gate) &&
           APPLY(pass, err, Attention, attention, .q = tensor_cols(qkv, 0, hidden),
                 .k = tensor_cols(qkv, hidden, hidden), .v = tensor_cols(qkv, 2 * hidden, hidden), .queries = frames,
                 .keys = frames, .heads = config->heads, .kv_heads = config->heads, .dim = dim,
                 .scale = 1.0f / sqrtf((float)dim), .bias = work->bias, .gate = gate, .out = attended) &&
           APPLY(pass, err, Linear, linear, .x = attended, .weight = layer->out, .bias = layer->out_bias, .residual = x,
                 .y = y);
}

/* y += the feed-forward network of `u`. */
static bool feed_forward(const Wavlm *wavlm, const WavlmWork *work, const WavlmLayer *layer, OpPass *pass, Tensor u,
                         Tensor y, Error *err) {
    Tensor wide = shaped(work->wide, u.rows, wavlm->config.ffn);
    return APPLY(pass, err, Linear, linear, .x = u, .weight = layer->in, .bias = layer->in_bias, .act = ACT_GELU,
                 .y = wide) &&
           APPLY(pass, err, Linear, linear, .x = wide, .weight = layer->down, .bias = layer->down_bias, .residual = y,
                 .y = y);
}

static bool norm(const Wavlm *wavlm, OpPass *pass, Tensor x, Tensor gamma, Tensor beta, Tensor y, Error *err) {
    return APPLY(pass, err, LayerNorm, layer_norm, .x = x, .gamma = gamma, .beta = beta, .eps = wavlm->config.eps,
                 .y = y);
}

static bool pre_norm_layer(const Wavlm *wavlm, const WavlmWork *work, const WavlmLayer *layer, OpPass *pass,
                           Packed frames, Tensor x, Tensor y, Error *err) {
    Tensor normed = tensor_rows(work->attention_in, 0, frames.total);
    return norm(wavlm, pass, x, layer->gamma1, layer->beta1, normed, err) &&
           attend(wavlm, work, layer, pass, frames, normed, x, y, err) &&
           norm(wavlm, pass, y, layer->gamma2, layer->beta2, normed, err) &&
           feed_forward(wavlm, work, layer, pass, normed, y, err);
}

static bool post_norm_layer(const Wavlm *wavlm, const WavlmWork *work, const WavlmLayer *layer, OpPass *pass,
                            Packed frames, Tensor x, Tensor y, Error *err) {
    return attend(wavlm, work, layer, pass, frames, x, x, y, err) &&
           norm(wavlm, pass, y, layer->gamma1, layer->beta1, y, err) &&
           feed_forward(wavlm, work, layer, pass, y, y, err) &&
           norm(wavlm, pass, y, layer->gamma2, layer->beta2, y, err);
}

/* The first hidden state: positions added to the projected features in `x`. */
static bool positions(const Wavlm *wavlm, OpPass *pass, Packed frames, Tensor x, Tensor y, Error *err) {
    const WavlmConfig *config = &wavlm->config;
    if (!APPLY(pass, err, PosConv, pos_conv, .x = x, .weight = wavlm->pos, .bias = wavlm->pos_bias,
               .kernel = config->pos_kernel, .groups = config->pos_groups, .segments = frames, .y = y))
        return false;
    return config->pre_norm || norm(wavlm, pass, y, wavlm->gamma, wavlm->beta, y, err);
}

static Tensor state_of(const WavlmWork *work, const Tensor *states, int i, int64_t n) {
    if (states && tensor_present(states[i])) return states[i];
    return tensor_rows(work->state[i % 2], 0, n);
}

/* `batch`'s tables have been written; its samples, unless planning, are in work->wave. */
static bool forward(const Wavlm *wavlm, const WavlmWork *work, OpPass *pass, const WavlmBatch *batch,
                    const Tensor *states, Error *err) {
    const WavlmConfig *config = &wavlm->config;
    Tables tables = {.work = work};
    Packed samples = next_table(&tables, batch->count), frames = next_table(&tables, batch->count);
    const int64_t n = frames.total;
    Tensor projected = tensor_rows(work->attended, 0, n), x = state_of(work, states, 0, n);
    if (!features(wavlm, work, pass, batch, samples, frames, &tables, projected, err) ||
        !positions(wavlm, pass, frames, projected, x, err))
        return false;
    for (int i = 0; i < config->layers; i++) {
        Tensor y = state_of(work, states, i + 1, n);
        const WavlmLayer *layer = &wavlm->layers[i];
        bool ok = config->pre_norm ? pre_norm_layer(wavlm, work, layer, pass, frames, x, y, err)
                                   : post_norm_layer(wavlm, work, layer, pass, frames, x, y, err);
        if (!ok) return false;
        x = y;
    }
    return !config->pre_norm || norm(wavlm, pass, x, wavlm->gamma, wavlm->beta, x, err);
}

/* ---- planning and running ----------------------------------------------------------------- */

/* As many clips of `length` samples as the limits allow, the last one perhaps shorter. */
static void write_equal(const Wavlm *wavlm, const WavlmLimits *limits, int64_t length, WavlmBatch *batch,
                        int64_t *start) {
    const int64_t field = wavlm_receptive_field(&wavlm->config);
    batch->count = 0;
    batch->start = start;
    start[0] = 0;
    while (limits->samples - start[batch->count] >= field && batch->count < limits->clips) {
        int64_t left = limits->samples - start[batch->count];
        start[batch->count + 1] = start[batch->count] + (left < length ? left : length);
        batch->count++;
    }
}

static bool note_batch(const Wavlm *wavlm, WavlmWork *work, const WavlmBatch *batch, OpPass *pass, Error *err) {
    write_tables(wavlm, work, batch);
    return forward(wavlm, work, pass, batch, NULL, err);
}

/* A waveform's scratch is of all samples and all clips, which no batch of equal clips may come to. */
static bool note_wave(const Wavlm *wavlm, WavlmWork *work, OpPass *pass, Error *err) {
    Packed samples = {.count = (int32_t)work->limits.clips, .total = work->limits.samples};
    samples.longest = work->limits.longest;
    return prepare_wave(wavlm, pass, tensor_rows(work->wave, 0, samples.total),
                        tensor_rows(work->input, 0, samples.total), samples, err);
}

/* The scratch of the longest clips there may be, of the most, and of chunks of any number of clips. */
static bool note_batches(const Wavlm *wavlm, WavlmWork *work, OpPass *pass, int64_t *start, Error *err) {
    const WavlmLimits *limits = &work->limits;
    const int64_t field = wavlm_receptive_field(&wavlm->config);
    const int64_t share = limits->samples / limits->clips > field ? limits->samples / limits->clips : field;
    WavlmBatch batch = {0};
    if (!note_wave(wavlm, work, pass, err)) return false;
    write_equal(wavlm, limits, limits->longest, &batch, start);
    if (!note_batch(wavlm, work, &batch, pass, err)) return false;
    write_equal(wavlm, limits, share < limits->longest ? share : limits->longest, &batch, start);
    if (!note_batch(wavlm, work, &batch, pass, err)) return false;
    for (int64_t clips = 1; clips <= limits->clips && clips <= CHUNK_CLIPS && clips * field <= work->chunk; clips++) {
        const int64_t length = work->chunk / clips < limits->longest ? work->chunk / clips : limits->longest;
        const WavlmLimits chunk = {.clips = clips, .samples = clips * length};
        write_equal(wavlm, &chunk, length, &batch, start);
        if (!note_batch(wavlm, work, &batch, pass, err)) return false;
    }
    return true;
}

bool wavlm_prepare(const Wavlm *wavlm, WavlmWork *work, OpPass *pass, Error *err) {
    free(work->host_tables);
    work->host_tables = memory_new((size_t)work->table_entries, sizeof *work->host_tables, err);
    int64_t *start = memory_new((size_t)work->limits.clips + 1, sizeof *start, err);
    bool ok =
        work->host_tables && start && upload_bias(wavlm, work, err) && note_batches(wavlm, work, pass, start, err);
    free(start);
    return ok;
}

void wavlm_work_free(WavlmWork *work) {
    free(work->host_tables);
    work->host_tables = NULL;
}

bool wavlm_plan(const Wavlm *wavlm, WavlmWork *work, const WavlmLimits *limits, Arena *arena, Error *err) {
    OpPass pass = {.dev = wavlm->dev, .planning = true};
    if (!wavlm_layout(wavlm, work, limits, arena, arena, err) || !arena_check(arena, err)) return false;
    arena->size = arena->used;
    arena->base = device_alloc(wavlm->dev, arena->size, err);
    if (!arena->base) return false;
    arena_reset(arena);
    return wavlm_layout(wavlm, work, limits, arena, arena, err) && arena_check(arena, err) &&
           wavlm_prepare(wavlm, work, &pass, err) && device_reserve_scratch(wavlm->dev, pass.scratch, err);
}

static bool check_batch(const Wavlm *wavlm, const WavlmWork *work, const WavlmBatch *batch, Error *err) {
    const WavlmLimits *limits = &work->limits;
    const int64_t field = wavlm_receptive_field(&wavlm->config), total = batch->start[batch->count] - batch->start[0];
    if (batch->count > limits->clips || total > limits->samples)
        return fail(err,
                    "encoder: a batch of %d clips and %" PRId64 " samples, but %" PRId64 " clips and %" PRId64
                    " samples were planned for",
                    batch->count, total, limits->clips, limits->samples);
    for (int c = 0; c < batch->count; c++) {
        int64_t samples = batch->start[c + 1] - batch->start[c];
        if (samples < field)
            return fail(err,
                        "clip %d of the batch has %" PRId64 " samples, and the encoder needs at least %" PRId64
                        " (%.3f s at 16 kHz)",
                        c, samples, field, (double)field / AUDIO_RATE);
        if (samples > limits->longest)
            return fail(err, "clip %d of the batch has %" PRId64 " samples, and at most %" PRId64 " were planned for",
                        c, samples, limits->longest);
    }
    return true;
}

bool wavlm_forward(const Wavlm *wavlm, WavlmWork *work, const WavlmBatch *batch, const Tensor *states, Error *err) {
    OpPass pass = {.dev = wavlm->dev};
    if (!check_batch(wavlm, work, batch, err)) return false;
    if (!batch->count) return true;
    write_tables(wavlm, work, batch);
    size_t samples = (size_t)(batch->start[batch->count] - batch->start[0]);
    return device_upload(wavlm->dev, work->tables, work->host_tables,
                         (size_t)work->table_entries * sizeof *work->host_tables, err) &&
           device_upload(wavlm->dev, work->wave.data, batch->wave + batch->start[0], samples * sizeof(float), err) &&
           forward(wavlm, work, &pass, batch, states, err);
}
