/* Opening, planning and stepping the assembled model. */
#include "model/speech_llm.h"

#include <inttypes.h>
#include <stdlib.h>

#include "model/speech_llm_internal.h"
#include "model/transfer.h"

/* ---- opening ------------------------------------------------------------------------------ */

static bool open_encoder(SpeechLlm *model, const char *folder, Error *err) {
    const SpeechLlmConfig *config = &model->config;
    const Toggle normalize = config->normalize_waveform;
    bool ok = config->drawn ? wavlm_open_drawn(&model->wavlm, model->dev, folder, normalize, config->seed, err)
                            : wavlm_open(&model->wavlm, model->dev, folder, normalize, err);
    if (!ok) return false;
    model->has_encoder = true;
    int states = config->layers == LAYERS_WEIGHTED ? model->wavlm.config.layers + 1 : 1;
    return adapter_declare(&model->adapter, model->dev, &config->adapter, states, model->wavlm.config.hidden,
                           decoder_config(model->decoder)->hidden, config->seed, &model->params, err);
}

static bool open_parts(SpeechLlm *model, const SpeechLlmConfig *config, Error *err) {
    DecoderOptions options = {.drawn = config->drawn, .seed = config->seed, .lora = config->lora};
    model->decoder = decoder_open_as(model->dev, config->llm, &options, err);
    return model->decoder && (!config->encoder || open_encoder(model, config->encoder, err)) &&
           decoder_lora_declare(model->decoder, &config->lora, config->seed, &model->params, err) &&
           params_commit(&model->params, model->dev, err) &&
           (!model->has_encoder || adapter_init(&model->adapter, err)) && decoder_lora_init(model->decoder, err);
}

SpeechLlm *speech_llm_open(Device *dev, const SpeechLlmConfig *config, Error *err) {
    SpeechLlm *model = memory_new(1, sizeof *model, err);
    if (!model) return NULL;
    model->dev = dev;
    model->config = *config;
    model->config.encoder = model->config.llm = NULL; /* the caller's, who may free them */
    model->front.arena.name = "activations of the adapter";
    model->front.passing.name = "activations of the encoder";
    model->activations.name = "activations of the LLM";
    if (open_parts(model, config, err)) return model;
    speech_llm_close(model);
    return NULL;
}

static void free_activations(SpeechLlm *model) {
    front_free(model, &model->front);
    device_free(model->dev, model->shared);
    model->shared = NULL;
    model->shared_bytes = 0;
    arena_free(&model->activations);
    free(model->rows);
    free(model->targets);
    free(model->row_loss);
    model->rows = model->targets = NULL;
    model->row_loss = NULL;
    model->planned = false;
}

void speech_llm_close(SpeechLlm *model) {
    if (!model) return;
    session_close(model->session);
    free_activations(model);
    decoder_close(model->decoder);
    if (model->has_encoder) wavlm_close(&model->wavlm);
    params_free(&model->params);
    free(model);
}

/* ---- what the model is -------------------------------------------------------------------- */

Params *speech_llm_params(SpeechLlm *model) { return &model->params; }

int64_t speech_llm_frames(const SpeechLlm *model, int64_t samples) {
    return model->has_encoder ? wavlm_frames(&model->wavlm.config, samples) : 0;
}

int64_t speech_llm_rows(const SpeechLlm *model, int64_t samples) {
    return model->has_encoder ? adapter_rows(&model->adapter, speech_llm_frames(model, samples)) : 0;
}

int64_t speech_llm_feature_bytes(const SpeechLlm *model) {
    if (!model->has_encoder) return 0;
    return model->adapter.states * model->adapter.width * (int64_t)dtype_size(device_dtype(model->dev));
}

int64_t speech_llm_max_positions(const SpeechLlm *model) { return decoder_config(model->decoder)->max_positions; }

int64_t speech_llm_width(const SpeechLlm *model) { return decoder_config(model->decoder)->hidden; }

bool speech_llm_normalizes(const SpeechLlm *model) { return model->has_encoder && model->wavlm.config.normalize; }

int speech_llm_stop_ids(const SpeechLlm *model, const int32_t **ids) {
    const DecoderConfig *config = decoder_config(model->decoder);
    *ids = config->stop;
    return config->stop_count;
}

/* ---- planning ----------------------------------------------------------------------------- */

/* Over the shared memory. */
static bool lay_out_llm(SpeechLlm *model, Error *err) {
    Arena *arena = &model->activations;
    arena->base = model->shared;
    arena_reset(arena);
    return decoder_layout(model->decoder, arena, &model->llm_limits, err);
}

bool share(SpeechLlm *model, size_t bytes, Error *err) {
    if (bytes <= model->shared_bytes) return true;
    device_free(model->dev, model->shared);
    model->shared = device_alloc(model->dev, bytes, err);
    model->shared_bytes = model->shared ? bytes : 0;
    if (model->planned) model->planned = model->shared && lay_out_llm(model, err);
    return model->shared != NULL;
}

/* Measures all, without memory of its own, for the report. */
static bool measure(SpeechLlm *model, const FrontLimits *limits, FILE *report, size_t *shared, Error *err) {
    Front front = {.arena = {.name = model->front.arena.name}, .passing = {.name = model->front.passing.name}};
    Arena *llm = &model->activations;
    bool ok = front_layout(model, &front, limits, err) && arena_check(&front.arena, err) &&
              arena_check(&front.passing, err) && decoder_layout(model->decoder, llm, &model->llm_limits, err) &&
              arena_check(llm, err);
    *shared = front.passing.used > llm->used ? front.passing.used : llm->used;
    if (ok && report) {
        arena_print(&front.arena, report);
        arena_print(&front.passing, report);
        arena_print(llm, report);
    }
    arena_free(&front.arena);
    arena_free(&front.passing);
    llm->size = llm->used;
    return ok;
}

static bool allocate_step(SpeechLlm *model, const FrontLimits *front, size_t shared, Error *err) {
    const size_t responses = (size_t)model->llm_limits.responses;
    model->rows = memory_new(responses, sizeof *model->rows, err);
    model->targets = memory_new(responses, sizeof *model->targets, err);
    model->row_loss = memory_new(responses, sizeof *model->row_loss, err);
    return model->rows && model->targets && model->row_loss && share(model, shared, err) &&
           front_plan(model, front, err) && lay_out_llm(model, err);
}

bool speech_llm_plan(SpeechLlm *model, const SpeechLimits *limits, bool training, FILE *report, bool allocate,
                     Error *err) {
    const FrontLimits front = {.clips = limits->clips,
                               .samples = limits->samples,
                               .longest = limits->longest ? limits->longest : limits->samples,
                               .tokens = limits->tokens,
                               .training = training,
                               .encoder = !limits->features};
    size_t shared;
    free_activations(model);
    model->llm_limits = (DecoderLimits){
        .tokens = limits->tokens, .segments = limits->clips, .responses = limits->responses, .training = training};
    if (!measure(model, &front, report, &shared, err)) return false;
    if (!allocate) return true;
    if (!allocate_step(model, &front, shared, err)) {
        free_activations(model);
        return fail_in(err, "%.2f GiB for a micro-batch of %" PRId64 " tokens", (double)shared / (1 << 30),
                       limits->tokens);
    }
    model->limits = *limits;
    model->training = training;
    model->planned = true;
    return true;
}

/* ---- a step ------------------------------------------------------------------------------- */

/* Which rows predict something, and what: token t's label is predicted by row t - 1. */
static bool gather_targets(SpeechLlm *model, const SpeechBatch *batch, int64_t *count, Error *err) {
    const int vocab = decoder_config(model->decoder)->vocab;
    *count = 0;
    for (int s = 0; s < batch->count; s++)
        for (int32_t t = batch->cu_tokens[s]; t < batch->cu_tokens[s + 1]; t++) {
            int32_t label = batch->labels[t];
            if (label == -100) continue;
            if (label < 0 || label >= vocab)
                return fail(err, "label %d of sample %d in the batch, expected -100 or an id from 0 to %d", label, s,
                            vocab - 1);
            if (t == batch->cu_tokens[s])
                return fail(err, "sample %d in the batch has a label on its first token, which nothing predicts", s);
            if (*count == model->limits.responses)
                return fail(err, "the batch has more than the planned %" PRId64 " response tokens",
                            model->limits.responses);
            model->rows[*count] = t - 1;
            model->targets[(*count)++] = label;
        }
    return true;
}

static bool check_step(const SpeechLlm *model, const SpeechBatch *batch, const StepOptions *options, Error *err) {
    if (!model->planned) return fail(err, "a step was asked for before speech_llm_plan");
    if (options->train && !model->training) return fail(err, "a training step over a plan without training");
    if (!batch->labels) return fail(err, "a step was asked for of a batch without labels");
    if (batch->count > model->limits.clips || batch->cu_tokens[batch->count] > model->limits.tokens)
        return fail(err, "a batch of %d samples and %d tokens is larger than the planned %" PRId64 " and %" PRId64,
                    batch->count, batch->cu_tokens[batch->count], model->limits.clips, model->limits.tokens);
    return batch_check(model, batch, err);
}

static bool step_backward(SpeechLlm *model, const AdapterBatch *adapter_batch, Error *err) {
    if (!model->has_encoder) return decoder_backward(model->decoder, NULL, err);
    Tensor gradient;
    AdapterWork *work = &model->front.adapter;
    GatherRowsArgs gather = {.index = model->front.speech, .y = tensor_rows(work->dout, 0, model->front.rows)};
    if (!decoder_backward(model->decoder, &gradient, err)) return false;
    gather.x = gradient;
    return op_gather_rows(model->dev, &gather, err) && adapter_backward(&model->adapter, work, adapter_batch, err);
}

bool speech_llm_step(SpeechLlm *model, const SpeechBatch *batch, const StepOptions *options, double *loss_sum,
                     float *row_loss, Error *err) {
    int64_t responses = 0;
    AdapterBatch adapter_batch = {0};
    *loss_sum = 0;
    if (!check_step(model, batch, options, err) || !gather_targets(model, batch, &responses, err) ||
        !front_rows(model, batch, options->train, options->step, &adapter_batch, err))
        return false;
    if (responses == 0) return true;
    DecoderBatch llm = {.count = batch->count,
                        .cu = batch->cu_tokens,
                        .sample = options->train ? batch->sample : NULL,
                        .step = options->step,
                        .responses = responses,
                        .rows = model->rows};
    float *losses = row_loss ? row_loss : model->row_loss;
    Tensor input = decoder_input(model->decoder, batch->cu_tokens[batch->count]);
    if (!front_embed(model, batch, input, err) || !decoder_forward(model->decoder, &llm, err) ||
        !decoder_loss(model->decoder, model->targets, options->train, options->loss_scale, losses, err))
        return false;
    for (int64_t i = 0; i < responses; i++) *loss_sum += (double)losses[i];
    return !options->train || step_backward(model, &adapter_batch, err);
}

bool speech_llm_speech_rows(SpeechLlm *model, float *rows, Error *err) {
    if (!model->has_encoder) return true;
    Tensor out = tensor_rows(model->front.adapter.out, 0, model->front.rows);
    return floats_download(model->dev, out, rows, err);
}
