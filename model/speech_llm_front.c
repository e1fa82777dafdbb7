/* Everything before the LLM: waveforms to speech rows, tokens to embeddings. */
#include <inttypes.h>
#include <stdlib.h>

#include "model/speech_llm_internal.h"

/* ---- layout ------------------------------------------------------------------------------- */

static bool layout_speech(SpeechLlm *model, Front *front, Error *err) {
    const FrontLimits *limits = &front->limits;
    const WavlmLimits wavlm = {.clips = limits->clips, .samples = limits->samples, .longest = limits->longest};
    const AdapterLimits adapter = {
        .clips = limits->clips, .frames = speech_llm_frames(model, limits->samples), .training = limits->training};
    const int64_t width = model->adapter.states * model->adapter.width;
    const DType dtype = device_dtype(model->dev);
    if (limits->encoder && !wavlm_layout(&model->wavlm, &front->wavlm, &wavlm, &front->arena, &front->passing, err))
        return false;
    /* The layer mix's backward reads the features again. */
    Arena *arena = model->adapter.states > 1 ? &front->arena : &front->passing;
    void *features = arena_take(arena, "encoder.features", dtype, adapter.frames, width);
    front->features = tensor_of(features, dtype, adapter.frames, width);
    adapter_layout(&model->adapter, &front->adapter, &adapter, &front->arena);
    front->speech = arena_take(&front->arena, "tokens.speech", DTYPE_I32, 1, front->adapter.rows);
    return true;
}

bool front_layout(SpeechLlm *model, Front *front, const FrontLimits *limits, Error *err) {
    front->limits = *limits;
    if (model->has_encoder && !layout_speech(model, front, err)) return false;
    front->ids = arena_take(&front->arena, "tokens.ids", DTYPE_I32, 1, limits->tokens);
    front->embeddings = (Tensor){0};
    if (!limits->prompts) return true;
    const DType dtype = device_dtype(model->dev);
    const int64_t width = decoder_config(model->decoder)->hidden;
    void *embeddings = arena_take(&front->arena, "tokens.embeddings", dtype, limits->tokens, width);
    front->embeddings = tensor_of(embeddings, dtype, limits->tokens, width);
    return true;
}

void front_free(SpeechLlm *model, Front *front) {
    const char *name = front->arena.name, *passing = front->passing.name;
    device_free(model->dev, front->arena.base);
    arena_free(&front->arena);
    arena_free(&front->passing);
    wavlm_work_free(&front->wavlm);
    adapter_work_free(&front->adapter);
    free(front->speech_places);
    free(front->frames);
    *front = (Front){.arena = {.name = name}, .passing = {.name = passing}};
}

static bool prepare(SpeechLlm *model, Front *front, Error *err) {
    if (!model->has_encoder) return true;
    OpPass pass = {.dev = model->dev, .planning = true};
    front->speech_places = memory_new((size_t)front->adapter.rows, sizeof *front->speech_places, err);
    front->frames = memory_new((size_t)front->limits.clips, sizeof *front->frames, err);
    return front->speech_places && front->frames &&
           (!front->limits.encoder || wavlm_prepare(&model->wavlm, &front->wavlm, &pass, err)) &&
           adapter_prepare(&model->adapter, &front->adapter, &pass, err) &&
           device_reserve_scratch(model->dev, pass.scratch, err);
}

static bool commit(SpeechLlm *model, const FrontLimits *limits, Error *err) {
    Front *front = &model->front;
    Arena *arena = &front->arena, *passing = &front->passing;
    if (!front_layout(model, front, limits, err) || !arena_check(arena, err) || !arena_check(passing, err))
        return false;
    arena->size = arena->used;
    passing->size = passing->used;
    arena->base = device_alloc(model->dev, arena->size, err);
    if (!arena->base) return fail_in(err, "%s", arena->name);
    if (!share(model, passing->size, err)) return fail_in(err, "%s", passing->name);
    passing->base = model->shared;
    arena_reset(arena);
    arena_reset(passing);
    return front_layout(model, front, limits, err) && arena_check(arena, err) && arena_check(passing, err) &&
           prepare(model, front, err);
}

bool front_plan(SpeechLlm *model, const FrontLimits *limits, Error *err) {
    if (model->session) session_forget_graphs(model->session);
    front_free(model, &model->front);
    if (commit(model, limits, err)) return true;
    front_free(model, &model->front);
    return false;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

bool front_cover(SpeechLlm *model, const SpeechBatch *batch, bool prompts, Error *err) {
    const FrontLimits *have = &model->front.limits;
    FrontLimits want = *have;
    want.clips = most(have->clips, batch->count);
    if (batch->cu_tokens) want.tokens = most(have->tokens, batch->cu_tokens[batch->count]);
    want.prompts = have->prompts || prompts;
    want.encoder = have->encoder || !batch->features;
    if (model->has_encoder) {
        want.samples = most(have->samples, batch->wave_start[batch->count] - batch->wave_start[0]);
        for (int c = 0; c < batch->count; c++)
            want.longest = most(want.longest, batch->wave_start[c + 1] - batch->wave_start[c]);
    }
    if (model->front.arena.base && want.clips == have->clips && want.tokens == have->tokens &&
        want.samples == have->samples && want.longest == have->longest && want.prompts == have->prompts &&
        want.encoder == have->encoder)
        return true;
    return front_plan(model, &want, err);
}

/* ---- checks ------------------------------------------------------------------------------- */

static int64_t samples_of(const SpeechBatch *batch, int clip) {
    return batch->wave_start[clip + 1] - batch->wave_start[clip];
}

/* Places of speech rows in sample s: exactly as many as its clip gives, next to each other. */
static bool check_places(const SpeechLlm *model, const SpeechBatch *batch, int s, Error *err) {
    const int64_t expected = model->has_encoder ? speech_llm_rows(model, samples_of(batch, s)) : 0;
    int64_t found = 0, runs = 0;
    for (int32_t t = batch->cu_tokens[s]; t < batch->cu_tokens[s + 1]; t++) {
        if (batch->ids[t] != -1) continue;
        found++;
        if (t == batch->cu_tokens[s] || batch->ids[t - 1] != -1) runs++;
    }
    if (found == expected && runs <= 1) return true;
    return fail(err,
                "sample %d in the batch has %" PRId64 " places for speech in %" PRId64 " runs, expected %" PRId64
                " in one",
                s, found, runs, expected);
}

static bool check_tokens(const SpeechLlm *model, const SpeechBatch *batch, Error *err) {
    const DecoderConfig *llm = decoder_config(model->decoder);
    if (batch->count < 1 || batch->cu_tokens[0] != 0) return fail(err, "the batch has no samples or no first token 0");
    for (int s = 0; s < batch->count; s++) {
        int32_t length = batch->cu_tokens[s + 1] - batch->cu_tokens[s];
        if (length < 1 || length > llm->max_positions)
            return fail(err, "sample %d in the batch has %d tokens; the LLM takes 1 to %d", s, length,
                        llm->max_positions);
        if (!check_places(model, batch, s, err)) return false;
    }
    for (int32_t t = 0; t < batch->cu_tokens[batch->count]; t++)
        if (batch->ids[t] < -1 || batch->ids[t] >= llm->vocab)
            return fail(err, "token %d of the batch has the id %d, expected -1 to %d", t, batch->ids[t],
                        llm->vocab - 1);
    return true;
}

static bool check_clips(const SpeechLlm *model, const SpeechBatch *batch, Error *err) {
    const int64_t field = wavlm_receptive_field(&model->wavlm.config);
    if (!batch->wave_start || (!batch->wave && !batch->features))
        return fail(err, "the batch has neither waveforms nor features for the encoder's place");
    for (int c = 0; c < batch->count; c++)
        if (samples_of(batch, c) < field)
            return fail(err,
                        "clip %d of the batch has %" PRId64 " samples, and the encoder needs at least %" PRId64
                        " (%.3f s at 16 kHz)",
                        c, samples_of(batch, c), field, (double)field / AUDIO_RATE);
    return true;
}

bool batch_check(const SpeechLlm *model, const SpeechBatch *batch, Error *err) {
    return (!model->has_encoder || check_clips(model, batch, err)) && check_tokens(model, batch, err);
}

/* ---- running ------------------------------------------------------------------------------ */

static int64_t frames_of(const SpeechLlm *model, const SpeechBatch *batch) {
    int64_t frames = 0;
    for (int c = 0; c < batch->count; c++) frames += speech_llm_frames(model, samples_of(batch, c));
    return frames;
}

bool front_encode(SpeechLlm *model, const SpeechBatch *batch, Error *err) {
    const int64_t frames = frames_of(model, batch), width = model->adapter.width;
    const int layers = model->wavlm.config.layers;
    Tensor features = tensor_rows(model->front.features, 0, frames), states[WAVLM_LAYERS_MAX + 1] = {{0}};
    if (model->adapter.states == 1) states[layers] = features;
    for (int i = 0; model->adapter.states > 1 && i <= layers; i++) states[i] = tensor_cols(features, i * width, width);
    WavlmBatch wavlm = {.count = batch->count, .start = batch->wave_start, .wave = batch->wave};
    return wavlm_forward(&model->wavlm, &model->front.wavlm, &wavlm, states, err);
}

/* Cached features in the encoder's place. */
static bool upload_features(SpeechLlm *model, const SpeechBatch *batch, int64_t frames, Error *err) {
    size_t bytes = (size_t)(frames * speech_llm_feature_bytes(model));
    if (frames > model->front.features.rows)
        return fail(err, "a batch of %" PRId64 " frames, but %" PRId64 " were planned for", frames,
                    model->front.features.rows);
    return device_upload(model->dev, model->front.features.data, batch->features, bytes, err);
}

bool front_rows(SpeechLlm *model, const SpeechBatch *batch, bool train, uint32_t step, AdapterBatch *adapter_batch,
                Error *err) {
    Front *front = &model->front;
    if (!model->has_encoder) return true;
    const int64_t frames = frames_of(model, batch);
    bool ok = batch->features ? upload_features(model, batch, frames, err) : front_encode(model, batch, err);
    if (!ok) return false;
    for (int c = 0; c < batch->count; c++) front->frames[c] = speech_llm_frames(model, samples_of(batch, c));
    *adapter_batch = (AdapterBatch){.clips = batch->count,
                                    .frames = front->frames,
                                    .prosody = batch->prosody,
                                    .sample = batch->sample,
                                    .features = tensor_rows(front->features, 0, frames),
                                    .step = step,
                                    .train = train};
    if (!adapter_forward(&model->adapter, &front->adapter, adapter_batch, err)) return false;
    front->rows = front->adapter.row_segments.total;
    return true;
}

bool front_embed(SpeechLlm *model, const SpeechBatch *batch, Tensor to, Error *err) {
    Front *front = &model->front;
    const int32_t tokens = batch->cu_tokens[batch->count];
    if (!device_upload(model->dev, front->ids, batch->ids, (size_t)tokens * sizeof *batch->ids, err) ||
        !decoder_embed(model->decoder, front->ids, to, err))
        return false;
    if (!model->has_encoder) return true;
    int64_t row = 0;
    for (int32_t t = 0; t < tokens; t++)
        if (batch->ids[t] == -1) front->speech_places[row++] = t;
    ScatterRowsArgs scatter = {.x = tensor_rows(front->adapter.out, 0, row), .index = front->speech, .y = to};
    return device_upload(model->dev, front->speech, front->speech_places, (size_t)row * sizeof *front->speech, err) &&
           op_scatter_rows(model->dev, &scatter, err);
}

bool speech_llm_encode(SpeechLlm *model, const SpeechBatch *batch, void *features, Error *err) {
    if (!model->has_encoder) return fail(err, "the model has no encoder");
    if (!batch->wave || batch->count < 1) return fail(err, "there are no waveforms to encode");
    if (!check_clips(model, batch, err) || !front_cover(model, batch, false, err) || !front_encode(model, batch, err))
        return false;
    size_t bytes = (size_t)(frames_of(model, batch) * speech_llm_feature_bytes(model));
    return device_download(model->dev, features, model->front.features.data, bytes, err);
}
