/* Answers and rankings: prompts through encoder and adapter into a decoder session. */
#include <inttypes.h>

#include "model/speech_llm_internal.h"

enum {
    CAPACITY_STEP = 128, /* so that the next batch, a little longer, finds room */
    RANK_TOGETHER = 64   /* candidates of a prompt that are scored side by side */
};

static int64_t longest_prompt(const SpeechBatch *prompts) {
    int64_t longest = 0;
    for (int s = 0; s < prompts->count; s++) {
        int64_t length = prompts->cu_tokens[s + 1] - prompts->cu_tokens[s];
        if (length > longest) longest = length;
    }
    return longest;
}

/* A session of at most `slots` slots, in multiples of `group`, fewer where they would take too much memory. */
static bool open_session(SpeechLlm *model, int64_t slots, int group, int64_t capacity, int64_t prefill, Error *err) {
    session_close(model->session);
    model->session = NULL;
    model->asked_slots = slots;
    const size_t most = device_cache_bytes(model->dev);
    if (slots > INT32_MAX / capacity) slots = INT32_MAX / capacity;
    while (slots > group && session_bytes(model->decoder, (int)slots, capacity, prefill) > most) slots /= 2;
    slots -= slots % group;
    if (slots < group) slots = group;
    model->prefill = prefill;
    model->session = session_open(model->decoder, (int)slots, capacity, prefill, err);
    return model->session != NULL;
}

/* Room for `count` groups of slots, each of a prompt and `more` tokens after it. */
static bool cover_session(SpeechLlm *model, const SpeechBatch *prompts, int64_t count, int group, int64_t more,
                          Error *err) {
    const int64_t longest = longest_prompt(prompts), capacity = longest + more;
    if (capacity > speech_llm_max_positions(model))
        return fail(err, "a prompt of %" PRId64 " tokens and %" PRId64 " more go past the LLM's %" PRId64 " positions",
                    longest, more, speech_llm_max_positions(model));
    int64_t prefill = device_prefill(model->dev);
    if (prefill < longest) prefill = longest;
    const DecoderSession *have = model->session;
    if (have && session_slots(have) >= group && model->asked_slots >= count * group &&
        session_capacity(have) >= capacity && model->prefill >= longest)
        return true;
    int64_t room = (capacity + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP,
            most = speech_llm_max_positions(model);
    return open_session(model, count * group, group, room < most ? room : most, prefill, err);
}

/* The prompts' embeddings, in the front's memory. */
static bool embed_prompts(SpeechLlm *model, const SpeechBatch *batch, Prompts *prompts, Error *err) {
    AdapterBatch adapter_batch;
    if (!batch_check(model, batch, err) || !front_cover(model, batch, true, err) ||
        !front_rows(model, batch, false, 0, &adapter_batch, err))
        return false;
    Tensor embeddings = tensor_rows(model->front.embeddings, 0, batch->cu_tokens[batch->count]);
    *prompts = (Prompts){.embeddings = embeddings,
                         .count = batch->count,
                         .cu = batch->cu_tokens,
                         .ids = batch->ids,
                         .sample = batch->sample};
    return front_embed(model, batch, embeddings, err);
}

bool speech_llm_generate(SpeechLlm *model, const SpeechBatch *batch, const GenerateOptions *options, Generated *results,
                         Error *err) {
    Prompts prompts;
    if (options->beams < 1 || options->max_new < 1)
        return fail_usage(err, "generation needs at least one beam and one new token");
    for (int i = 0; i < batch->count; i++) results[i] = (Generated){0};
    return embed_prompts(model, batch, &prompts, err) &&
           cover_session(model, batch, batch->count, options->beams, options->max_new, err) &&
           generate(model->session, &prompts, options, results, err);
}

bool speech_llm_rank(SpeechLlm *model, const SpeechBatch *batch, const Candidate *candidates, int candidate_count,
                     double *scores, Error *err) {
    Prompts prompts;
    int64_t longest = 1;
    const int group = candidate_count < RANK_TOGETHER ? candidate_count : RANK_TOGETHER;
    if (candidate_count < 1) return fail(err, "there are no candidates to rank");
    for (int c = 0; c < candidate_count; c++)
        if (candidates[c].count > longest) longest = candidates[c].count;
    return embed_prompts(model, batch, &prompts, err) &&
           cover_session(model, batch, batch->count, group, longest, err) &&
           rank_candidates(model->session, &prompts, candidates, candidate_count, scores, err);
}
