#include "train/batch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NO_LOSS = -100, SPEECH_ROW = -1 };

/* Room for `wanted` elements. */
static bool reserve(void *items, size_t *capacity, size_t wanted, size_t size, Error *err) {
    void **array = items;
    if (wanted <= *capacity) return true;
    size_t room = wanted + wanted / 2, bytes;
    if (__builtin_mul_overflow(room, size, &bytes)) return fail(err, "out of memory: a batch of %zu elements", wanted);
    void *grown = realloc(*array, bytes);
    if (!grown) return fail(err, "out of memory: %zu bytes for a batch", bytes);
    *array = grown;
    *capacity = room;
    return true;
}

void batch_clear(Batch *batch) {
    batch->count = 0;
    batch->frames = batch->responses = batch->rows = batch->longest = 0;
    batch->has_wave = batch->has_features = batch->has_prosody = batch->has_labels = false;
}

void batch_free(Batch *batch) {
    free(batch->wave_start);
    free(batch->wave);
    free(batch->features);
    free(batch->prosody);
    free(batch->sample);
    free(batch->cu_tokens);
    free(batch->ids);
    free(batch->labels);
    *batch = (Batch){0};
}

Clip clip_of(const Run *run, const Sample *sample) {
    return (Clip){.id = (int32_t)sample->index,
                  .utterance = sample->utterance,
                  .wave = sample->audio.samples,
                  .samples = run_clip_samples(run, sample->audio.count),
                  .prosody = sample->prosody};
}

/* ---- what the encoder gets ---- */

static bool add_values(float **to, size_t *capacity, int64_t used, const float *from, int64_t count, Error *err) {
    if (!reserve(to, capacity, (size_t)(used + count), sizeof **to, err)) return false;
    memcpy(*to + used, from, (size_t)count * sizeof **to);
    return true;
}

static bool add_features(Batch *batch, const void *from, int64_t frames, int64_t frame_bytes, Error *err) {
    size_t used = (size_t)(batch->frames * frame_bytes), more = (size_t)(frames * frame_bytes);
    if (!reserve(&batch->features, &batch->feature_capacity, used + more, 1, err)) return false;
    memcpy(batch->features + used, from, more);
    return true;
}

static bool add_speech(Batch *batch, const Run *run, const Clip *clip, int64_t *rows, Error *err) {
    int64_t frames = speech_llm_frames(run->model, clip->samples), start = batch->wave_start[batch->count];
    *rows = speech_llm_rows(run->model, clip->samples);
    if (frames == 0)
        return fail(err, "sample \"%s\" has %" PRId64 " audio samples; the encoder needs 400 (25 ms) at least",
                    clip->utterance->id, clip->samples);
    int channels = config_prosody_channels(run->config);
    if (clip->features) {
        if (!add_features(batch, clip->features, frames, speech_llm_feature_bytes(run->model), err)) return false;
    } else if (!add_values(&batch->wave, &batch->wave_capacity, start, clip->wave, clip->samples, err)) {
        return false;
    }
    if (channels && !add_values(&batch->prosody, &batch->prosody_capacity, batch->frames * channels, clip->prosody,
                                frames * channels, err))
        return false;
    batch->has_features = clip->features != NULL;
    batch->has_wave = !clip->features;
    batch->has_prosody = channels > 0;
    batch->frames += frames;
    batch->rows += *rows;
    if (clip->samples > batch->longest) batch->longest = clip->samples;
    batch->wave_start[batch->count + 1] = start + clip->samples;
    return true;
}

/* ---- tokens ---- */

static void put(Batch *batch, int64_t *at, const Ids *ids, bool loss) {
    for (size_t i = 0; i < ids->count; i++, ++*at) {
        batch->ids[*at] = ids->items[i];
        batch->labels[*at] = loss ? ids->items[i] : NO_LOSS;
    }
}

static bool add_tokens(Batch *batch, const ChatPrompt *prompt, int64_t rows, const Ids *answer, Error *err) {
    int64_t at = batch->cu_tokens[batch->count];
    size_t count = prompt->before.count + (size_t)rows + prompt->after.count + (answer ? answer->count : 0);
    if (count > INT32_MAX || at + (int64_t)count > INT32_MAX) return fail(err, "a batch of more than 2^31 tokens");
    size_t wanted = (size_t)at + count, labels = batch->token_capacity;
    if (!reserve(&batch->labels, &labels, wanted, sizeof *batch->labels, err) ||
        !reserve(&batch->ids, &batch->token_capacity, wanted, sizeof *batch->ids, err))
        return false;
    put(batch, &at, &prompt->before, false);
    for (int64_t i = 0; i < rows; i++, at++) {
        batch->ids[at] = SPEECH_ROW;
        batch->labels[at] = NO_LOSS;
    }
    put(batch, &at, &prompt->after, false);
    if (answer) {
        put(batch, &at, answer, true);
        batch->responses += (int64_t)answer->count;
    }
    batch->cu_tokens[batch->count + 1] = (int32_t)at;
    return true;
}

static bool reserve_samples(Batch *batch, Error *err) {
    size_t wanted = (size_t)batch->count + 2, starts = batch->sample_capacity, tokens = batch->sample_capacity;
    if (!reserve(&batch->wave_start, &starts, wanted, sizeof *batch->wave_start, err) ||
        !reserve(&batch->cu_tokens, &tokens, wanted, sizeof *batch->cu_tokens, err) ||
        !reserve(&batch->sample, &batch->sample_capacity, wanted, sizeof *batch->sample, err))
        return false;
    if (batch->count == 0) {
        batch->wave_start[0] = 0;
        batch->cu_tokens[0] = 0;
    }
    return true;
}

bool batch_add(Batch *batch, const Run *run, const Clip *clip, const Ids *answer, Error *err) {
    int64_t rows = 0;
    bool speech = run->config->prompt.input == INPUT_SPEECH;
    ChatPrompt own = {0};
    bool ok = reserve_samples(batch, err) &&
              (speech ? add_speech(batch, run, clip, &rows, err) : run_prompt(run, clip->utterance, &own, err));
    if (ok && !speech) batch->wave_start[batch->count + 1] = batch->wave_start[batch->count];
    ok = ok && add_tokens(batch, speech ? &run->prompt : &own, rows, answer, err);
    chat_prompt_free(&own);
    if (!ok) return false;
    int64_t tokens = batch->cu_tokens[batch->count + 1] - batch->cu_tokens[batch->count];
    if (tokens > speech_llm_max_positions(run->model))
        return fail(err,
                    "sample \"%s\" takes %" PRId64 " tokens, more than the LLM's %" PRId64
                    " positions; lower data.max_seconds or raise model.adapter.stack",
                    clip->utterance->id, tokens, speech_llm_max_positions(run->model));
    batch->sample[batch->count++] = clip->id;
    batch->has_labels = answer != NULL;
    return true;
}

SpeechBatch batch_view(const Batch *batch) {
    return (SpeechBatch){.count = batch->count,
                         .wave_start = batch->wave_start,
                         .wave = batch->has_wave ? batch->wave : NULL,
                         .features = batch->has_features ? batch->features : NULL,
                         .prosody = batch->has_prosody ? batch->prosody : NULL,
                         .sample = batch->sample,
                         .cu_tokens = batch->cu_tokens,
                         .ids = batch->ids,
                         .labels = batch->has_labels ? batch->labels : NULL};
}

SpeechLimits batch_limits(const Batch *batch) {
    if (batch->count == 0) return (SpeechLimits){0};
    return (SpeechLimits){.clips = batch->count,
                          .samples = batch->wave_start[batch->count],
                          .tokens = batch->cu_tokens[batch->count],
                          .responses = batch->responses,
                          .longest = batch->longest};
}

static void raise_to(int64_t *value, int64_t other) {
    if (other > *value) *value = other;
}

void limits_raise(SpeechLimits *limits, const SpeechLimits *other) {
    raise_to(&limits->clips, other->clips);
    raise_to(&limits->samples, other->samples);
    raise_to(&limits->tokens, other->tokens);
    raise_to(&limits->responses, other->responses);
    raise_to(&limits->longest, other->longest);
}

/* ---- showing ---- */

static bool show_text(const Run *run, const int32_t *ids, int64_t count, FILE *out, Error *err) {
    char *text = tokenizer_decode(run->tokenizer, ids, (size_t)count, false, err);
    if (text) fputs(text, out);
    free(text);
    return text != NULL;
}

/* Runs of one kind: 0 prompt, 1 speech rows, 2 tokens that bear loss. */
static int kind_at(const Batch *batch, int64_t at) {
    if (batch->ids[at] == SPEECH_ROW) return 1;
    return batch->has_labels && batch->labels[at] != NO_LOSS ? 2 : 0;
}

static bool show_loss_tokens(const Batch *batch, int64_t first, int64_t end, const Run *run, FILE *out, Error *err) {
    fputs("tokens that bear loss:", out);
    for (int64_t t = first; t < end; t++) {
        if (kind_at(batch, t) != 2) continue;
        fprintf(out, " %" PRId32 "\"", batch->labels[t]);
        if (!show_text(run, &batch->labels[t], 1, out, err)) return false;
        fputc('"', out);
    }
    fputc('\n', out);
    return true;
}

bool batch_show(const Batch *batch, int index, const Run *run, FILE *out, Error *err) {
    int64_t first = batch->cu_tokens[index], end = batch->cu_tokens[index + 1], next;
    fprintf(out,
            "--- sample %" PRId32 ": %" PRId64 " tokens, [speech ...] are the adapter's rows, [[...]] bears loss\n",
            batch->sample[index], end - first);
    for (int64_t t = first; t < end; t = next) {
        int kind = kind_at(batch, t);
        for (next = t; next < end && kind_at(batch, next) == kind; next++) {
        }
        if (kind == 1) {
            fprintf(out, "[speech: %" PRId64 " rows]", next - t);
            continue;
        }
        if (kind == 2) fputs("[[", out);
        if (!show_text(run, batch->ids + t, next - t, out, err)) return false;
        if (kind == 2) fputs("]]", out);
    }
    fputc('\n', out);
    return show_loss_tokens(batch, first, end, run, out, err);
}
