#include "train/examples.h"

#include <inttypes.h>
#include <stdlib.h>

enum { HOP = 320 };

static bool measure(Example *example, const Run *run, const Utterance *utterance, Error *err) {
    int64_t prompt = (int64_t)(run->prompt.before.count + run->prompt.after.count), rows = 0;
    if (run->config->prompt.input == INPUT_SPEECH) {
        rows = speech_llm_rows(run->model, example->samples);
        if (rows == 0)
            return fail(err,
                        "sample \"%s\" has %" PRId64 " audio samples; the encoder needs 400 (25 ms) at least: "
                        "leave it out of the shards",
                        utterance->id, example->samples);
    } else {
        ChatPrompt own;
        if (!run_prompt(run, utterance, &own, err)) return false;
        prompt = (int64_t)(own.before.count + own.after.count);
        chat_prompt_free(&own);
    }
    int64_t tokens = prompt + rows + (int64_t)example->answer.count;
    if (tokens > speech_llm_max_positions(run->model))
        return fail(err,
                    "sample \"%s\" takes %" PRId64 " tokens, more than the LLM's %" PRId64
                    " positions; lower data.max_seconds or raise model.adapter.stack",
                    utterance->id, tokens, speech_llm_max_positions(run->model));
    example->tokens = (int32_t)tokens;
    return true;
}

static bool add_example(Examples *examples, const Run *run, Example example, Error *err) {
    const Utterance *utterance = shards_utterance(run->shards, example.sample);
    bool replaced = false;
    if (!memory_grow(&examples->items, examples->count, &examples->capacity, sizeof *examples->items, err))
        return false;
    char *answer = run_answer(run, utterance, &replaced, err);
    bool ok = answer && chat_answer(run->template, run->tokenizer, answer, &example.answer, err) &&
              measure(&example, run, utterance, err);
    free(answer);
    if (!ok) {
        ids_free(&example.answer);
        return false;
    }
    examples->replaced += replaced;
    examples->items[examples->count++] = example;
    return true;
}

/* Pieces of whole hops, so that frame t of a piece is frame start / HOP + t of the clip. A rest too short
 * for a frame is left out. */
static bool add_pieces(Examples *examples, const Run *run, Example whole, Error *err) {
    int64_t most = run_clip_samples(run, INT64_MAX) / HOP * HOP, all = whole.samples;
    size_t samples = shards_count(run->shards), piece = 0;
    for (int64_t start = 0; start < all; start += most, piece++) {
        Example part = whole;
        part.start = start;
        part.samples = all - start < most ? all - start : most;
        if (piece > 0 && speech_llm_frames(run->model, part.samples) == 0) break;
        if (whole.sample + piece * samples > INT32_MAX) return fail(err, "too many pieces of clips to number");
        part.id = (int32_t)(whole.sample + piece * samples);
        if (!add_example(examples, run, part, err)) return false;
    }
    return true;
}

bool examples_make(Examples *examples, const Run *run, const Split *split, Error *err) {
    *examples = (Examples){0};
    bool speech = run->config->prompt.input == INPUT_SPEECH, ok = true;
    Overlong overlong = run->config->data.overlong;
    for (size_t i = 0; ok && i < split->count; i++) {
        uint32_t index = split->items[i];
        int64_t samples = shards_samples(run->shards, index), most = run_clip_samples(run, INT64_MAX);
        Example example = {.sample = index, .id = (int32_t)index, .samples = samples, .class = run->class_of[index]};
        bool long_clip = speech && samples > most;
        examples->cut += long_clip;
        if (long_clip && overlong == OVERLONG_REFUSE)
            ok = fail(err, "sample \"%s\" lasts %.2f s, more than data.max_seconds (%g), and data.overlong is refuse",
                      shards_utterance(run->shards, index)->id, (double)samples / AUDIO_RATE,
                      run->config->data.max_seconds);
        else if (long_clip && overlong == OVERLONG_SPLIT)
            ok = add_pieces(examples, run, example, err);
        else {
            if (long_clip) example.samples = most;
            ok = add_example(examples, run, example, err);
        }
    }
    if (!ok) examples_free(examples);
    return ok;
}

void examples_free(Examples *examples) {
    for (size_t i = 0; i < examples->count; i++) ids_free(&examples->items[i].answer);
    free(examples->items);
    *examples = (Examples){0};
}

Clip example_clip(const Example *example, const Run *run, const Sample *sample) {
    int channels = config_prosody_channels(run->config);
    return (Clip){.id = example->id,
                  .utterance = sample->utterance,
                  .wave = sample->audio.samples ? sample->audio.samples + example->start : NULL,
                  .samples = example->samples,
                  .prosody = sample->prosody ? sample->prosody + example->start / HOP * channels : NULL};
}
