/* Greedy search and sampling, a wave of prompts at a time; ranking of given continuations. */
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate_internal.h"

GenerateOptions generate_options_default(void) {
    return (GenerateOptions){.max_new = 128, .beams = 1, .top_p = 1, .repetition_penalty = 1};
}

void generated_free(Generated *results, int count) {
    for (int i = 0; results && i < count; i++) {
        free(results[i].ids);
        results[i] = (Generated){0};
    }
}

double log_sum_exp(const float *logits, int count) {
    float most = logits[0];
    for (int i = 1; i < count; i++)
        if (logits[i] > most) most = logits[i];
    double sum = 0;
    for (int i = 0; i < count; i++) sum += (double)expf(logits[i] - most);
    return (double)most + log(sum);
}

void mark_prompt(const Prompts *prompts, int prompt, bool *seen, int vocab) {
    memset(seen, 0, (size_t)vocab * sizeof *seen);
    for (int32_t t = prompts->cu[prompt]; prompts->ids && t < prompts->cu[prompt + 1]; t++)
        if (prompts->ids[t] >= 0 && prompts->ids[t] < vocab) seen[prompts->ids[t]] = true;
}

bool is_stop(const GenerateOptions *options, int32_t id) {
    for (int i = 0; i < options->stop_count; i++)
        if (options->stop[i] == id) return true;
    return false;
}

void process_scores(float *scores, int vocab, const bool *seen, const GenerateOptions *options, int generated) {
    float penalty = options->repetition_penalty;
    if (penalty < 1 || penalty > 1)
        for (int i = 0; i < vocab; i++)
            if (seen[i]) scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
    for (int i = 0; generated < options->min_new && i < options->stop_count; i++) scores[options->stop[i]] = -INFINITY;
}

/* ---- choosing a token ---- */

static int32_t greatest(const float *scores, int count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

typedef struct Heap { /* of ids, the likeliest first, the lower id where two are as likely */
    int32_t *ids;
    int count;
    const float *scores;
} Heap;

static bool before(const Heap *heap, int32_t a, int32_t b) {
    if (heap->scores[a] > heap->scores[b]) return true;
    return !(heap->scores[a] < heap->scores[b]) && a < b;
}

static void sink(Heap *heap, int at) {
    for (int child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && before(heap, heap->ids[child + 1], heap->ids[child])) child++;
        if (before(heap, heap->ids[at], heap->ids[child])) return;
        int32_t swap = heap->ids[at];
        heap->ids[at] = heap->ids[child];
        heap->ids[child] = swap;
    }
}

/* Zeroes the probability of ids outside the smallest set of likeliest ones that reaches top_p. */
static void keep_top(float *probability, int count, float top_p, int32_t *ids) {
    Heap heap = {.ids = ids, .count = count, .scores = probability};
    for (int i = 0; i < count; i++) ids[i] = i;
    for (int i = count / 2; i-- > 0;) sink(&heap, i);
    double reached = 0;
    while (heap.count > 0 && reached < (double)top_p) {
        reached += (double)probability[ids[0]];
        ids[0] = ids[--heap.count]; /* kept: it leaves the heap */
        sink(&heap, 0);
    }
    for (int i = 0; i < heap.count; i++) probability[ids[i]] = 0;
}

/* An id drawn from softmax(scores / temperature) within top_p. `scores` is overwritten. */
static int32_t draw(float *scores, int count, const GenerateOptions *options, float uniform, int32_t *ids) {
    for (int i = 0; i < count; i++) scores[i] /= options->temperature;
    double norm = log_sum_exp(scores, count), sum = 0;
    for (int i = 0; i < count; i++) scores[i] = (float)exp((double)scores[i] - norm);
    if (options->top_p < 1) keep_top(scores, count, options->top_p, ids);
    for (int i = 0; i < count; i++) sum += (double)scores[i];
    double left = (double)uniform * sum;
    int32_t last = 0;
    for (int32_t i = 0; i < count; i++) {
        if (scores[i] <= 0) continue;
        last = i;
        left -= (double)scores[i];
        if (left < 0) break;
    }
    return last;
}

/* ---- waves ---- */

typedef struct Answer {
    Generated *result;
    bool *seen; /* [vocab] */
    uint32_t sample;
    bool done;
} Answer;

typedef struct Wave {
    DecoderSession *session;
    const GenerateOptions *options;
    int count, vocab;
    Answer *answers;
    float *logits;        /* [count, vocab] */
    int32_t *order;       /* [vocab] */
    int32_t *slot, *next; /* [count]: of those that go on */
    int active;
} Wave;

static int32_t choose(Wave *wave, const Answer *answer, float *logits) {
    const GenerateOptions *options = wave->options;
    process_scores(logits, wave->vocab, answer->seen, options, answer->result->count);
    if (options->temperature <= 0) return greatest(logits, wave->vocab);
    uint32_t word = philox(options->seed, 0, PLACE_SAMPLING, answer->sample, (uint32_t)answer->result->count).word[0];
    return draw(logits, wave->vocab, options, rng_uniform(word), wave->order);
}

/* Takes the next token of an answer from its row of logits. */
static int32_t take_token(Wave *wave, Answer *answer, float *logits) {
    Generated *result = answer->result;
    double norm = log_sum_exp(logits, wave->vocab);
    float *scores = logits;
    float *raw = wave->logits + (int64_t)wave->count * wave->vocab; /* a spare row */
    memcpy(raw, logits, (size_t)wave->vocab * sizeof *raw);
    int32_t token = choose(wave, answer, scores);
    result->log_likelihood += (double)raw[token] - norm;
    if (is_stop(wave->options, token)) {
        result->stopped = answer->done = true;
        return token;
    }
    result->ids[result->count++] = token;
    answer->seen[token] = true;
    answer->done = result->count == wave->options->max_new;
    return token;
}

/* Rows of logits belong to the active slots in order; those that go on are kept. */
static void take_tokens(Wave *wave) {
    int going = 0;
    for (int i = 0; i < wave->active; i++) {
        Answer *answer = &wave->answers[wave->slot[i]];
        int32_t token = take_token(wave, answer, wave->logits + (int64_t)i * wave->vocab);
        if (answer->done) continue;
        wave->slot[going] = wave->slot[i];
        wave->next[going++] = token;
    }
    wave->active = going;
}

static bool run_wave(Wave *wave, const Prompts *prompts, int first, Error *err) {
    for (int i = 0; i < wave->count; i++) {
        mark_prompt(prompts, first + i, wave->answers[i].seen, wave->vocab);
        wave->slot[i] = i;
    }
    wave->active = wave->count;
    if (!session_prefill(wave->session, prompts->embeddings, prompts->cu + first, wave->slot, wave->count, wave->logits,
                         err))
        return false;
    for (take_tokens(wave); wave->active > 0; take_tokens(wave))
        if (!session_step(wave->session, wave->slot, wave->next, wave->active, wave->logits, err)) return false;
    return true;
}

static bool choose_all(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, int most,
                       float *logits, Generated *results, Error *err) {
    int vocab = decoder_config(session_decoder(session))->vocab;
    Wave wave = {.session = session, .options = options, .vocab = vocab, .logits = logits};
    wave.answers = memory_new((size_t)most, sizeof *wave.answers, err);
    wave.order = memory_new((size_t)vocab, sizeof *wave.order, err);
    wave.slot = memory_new(2 * (size_t)most, sizeof *wave.slot, err);
    bool *seen = memory_new((size_t)most * (size_t)vocab, sizeof *seen, err);
    bool ok = wave.answers && wave.order && wave.slot && seen;
    wave.next = ok ? wave.slot + most : NULL;
    for (int first = 0; ok && first < prompts->count; first += most) {
        wave.count = prompts->count - first < most ? prompts->count - first : most;
        for (int i = 0; i < wave.count; i++) {
            int32_t sample = prompts->sample ? prompts->sample[first + i] : first + i;
            wave.answers[i] = (Answer){.result = &results[first + i], .sample = (uint32_t)sample};
            wave.answers[i].seen = seen + (size_t)i * (size_t)vocab;
        }
        ok = run_wave(&wave, prompts, first, err);
    }
    free(wave.answers);
    free(wave.order);
    free(wave.slot);
    free(seen);
    return ok;
}

/* ---- entry ---- */

static bool check_options(const DecoderSession *session, const Prompts *prompts, const GenerateOptions *options,
                          Error *err) {
    int vocab = decoder_config(session_decoder(session))->vocab;
    if (options->max_new < 1 || options->min_new < 0 || options->beams < 1)
        return fail_usage(err, "generation needs max_new of at least 1, min_new of at least 0, beams of at least 1");
    if (!(options->temperature >= 0) || !(options->top_p > 0) || !(options->repetition_penalty > 0))
        return fail_usage(err, "generation needs a temperature of at least 0, top_p and repetition_penalty over 0");
    if (options->beams > 1 && options->temperature > 0)
        return fail_usage(err, "beam search does not sample: give a temperature of 0, or one beam");
    if (options->beams > session_slots(session))
        return fail(err, "%d beams need as many slots; the session has %d", options->beams, session_slots(session));
    for (int i = 0; i < options->stop_count; i++)
        if (options->stop[i] < 0 || options->stop[i] >= vocab)
            return fail_usage(err, "stop id %d; expected an id from 0 to %d", options->stop[i], vocab - 1);
    for (int p = 0; p < prompts->count; p++) {
        int64_t length = prompts->cu[p + 1] - prompts->cu[p];
        if (length < 1 || length + options->max_new - 1 > session_capacity(session))
            return fail(err, "prompt %d has %lld tokens and %d may follow; the session holds 1 to %lld", p,
                        (long long)length, options->max_new, (long long)session_capacity(session));
    }
    return true;
}

bool generate(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, Generated *results,
              Error *err) {
    memset(results, 0, (size_t)prompts->count * sizeof *results);
    if (!check_options(session, prompts, options, err)) return false;
    int most = session_slots(session) / options->beams, vocab = decoder_config(session_decoder(session))->vocab;
    if (most > prompts->count) most = prompts->count;
    size_t rows = (size_t)most * (size_t)options->beams + 1;
    float *logits = memory_new(rows * (size_t)vocab, sizeof *logits, err);
    bool ok = logits != NULL;
    for (int i = 0; ok && i < prompts->count; i++) {
        results[i].ids = memory_new((size_t)options->max_new, sizeof *results[i].ids, err);
        ok = results[i].ids != NULL;
    }
    if (ok && options->beams == 1) ok = choose_all(session, prompts, options, most, logits, results, err);
    for (int first = 0; ok && options->beams > 1 && first < prompts->count; first += most) {
        int count = prompts->count - first < most ? prompts->count - first : most;
        ok = beam_wave(session, prompts, first, count, options, logits, results + first, err);
    }
    free(logits);
    if (!ok) generated_free(results, prompts->count);
    return ok;
}

/* ---- ranking ---- */

typedef struct Ranking {
    DecoderSession *session;
    const Candidate *candidates;
    int count, vocab, group; /* group: slots of a prompt */
    float *logits;           /* [slots, vocab] */
    int32_t *slot, *from, *next, *row;
    float *start; /* [prompts of a wave, vocab]: logits of each prompt's last row */
} Ranking;

static bool rank_allocate(Ranking *r, int prompts, Error *err) {
    size_t slots = (size_t)session_slots(r->session), vocab = (size_t)r->vocab;
    r->logits = memory_new(slots * vocab, sizeof *r->logits, err);
    r->start = memory_new((size_t)prompts * vocab, sizeof *r->start, err);
    r->slot = memory_new(4 * slots, sizeof *r->slot, err);
    if (!r->logits || !r->start || !r->slot) return false;
    r->from = r->slot + slots;
    r->next = r->from + slots;
    r->row = r->next + slots;
    return true;
}

/* Prompts go into the first slot of their group and are copied to the others. */
static bool rank_prefill(Ranking *r, const Prompts *prompts, int first, int count, Error *err) {
    int copies = 0;
    for (int p = 0; p < count; p++) r->slot[p] = p * r->group;
    if (!session_prefill(r->session, prompts->embeddings, prompts->cu + first, r->slot, count, r->start, err))
        return false;
    for (int p = 0; p < count; p++)
        for (int g = 1; g < r->group; g++, copies++) {
            r->from[copies] = p * r->group;
            r->slot[copies] = p * r->group + g;
        }
    return session_copy(r->session, r->from, r->slot, copies, err);
}

/* Feeds token `at` of each candidate from `begin` on that has one after it, in every group. */
static int rank_rows(Ranking *r, int prompts, int begin, int end, int at) {
    int rows = 0;
    for (int p = 0; p < prompts; p++)
        for (int c = begin; c < end; c++) {
            if (at + 1 >= r->candidates[c].count) continue;
            r->slot[rows] = p * r->group + c - begin;
            r->next[rows] = r->candidates[c].ids[at];
            r->row[rows++] = p * r->count + c;
        }
    return rows;
}

static bool rank_chunk(Ranking *r, int prompts, int begin, int end, double *scores, Error *err) {
    for (int p = 0; p < prompts; p++) {
        const float *start = r->start + (int64_t)p * r->vocab;
        double norm = log_sum_exp(start, r->vocab);
        for (int c = begin; c < end; c++)
            scores[p * r->count + c] = r->candidates[c].count ? (double)start[r->candidates[c].ids[0]] - norm : 0;
    }
    for (int at = 0;; at++) {
        int rows = rank_rows(r, prompts, begin, end, at);
        if (rows == 0) return true;
        if (!session_step(r->session, r->slot, r->next, rows, r->logits, err)) return false;
        for (int i = 0; i < rows; i++) {
            const float *row = r->logits + (int64_t)i * r->vocab;
            const Candidate *candidate = &r->candidates[r->row[i] % r->count];
            scores[r->row[i]] += (double)row[candidate->ids[at + 1]] - log_sum_exp(row, r->vocab);
        }
    }
}

static bool rank_wave(Ranking *r, const Prompts *prompts, int first, int count, double *scores, Error *err) {
    if (!rank_prefill(r, prompts, first, count, err)) return false;
    for (int begin = 0; begin < r->count; begin += r->group) {
        int end = begin + r->group < r->count ? begin + r->group : r->count;
        if (!rank_chunk(r, count, begin, end, scores, err)) return false;
        for (int s = 0; s < count * r->group; s++)
            session_shorten(r->session, s, prompts->cu[first + s / r->group + 1] - prompts->cu[first + s / r->group]);
    }
    return true;
}

static bool check_candidates(const Ranking *r, const Prompts *prompts, Error *err) {
    int longest = 1;
    for (int c = 0; c < r->count; c++) {
        if (r->candidates[c].count > longest) longest = r->candidates[c].count;
        for (int i = 0; i < r->candidates[c].count; i++)
            if (r->candidates[c].ids[i] < 0 || r->candidates[c].ids[i] >= r->vocab)
                return fail(err, "candidate %d holds the token %d; expected an id from 0 to %d", c,
                            r->candidates[c].ids[i], r->vocab - 1);
    }
    for (int p = 0; p < prompts->count; p++)
        if (prompts->cu[p + 1] - prompts->cu[p] + longest - 1 > session_capacity(r->session))
            return fail(err, "prompt %d has %d tokens and a candidate %d; the session holds %lld", p,
                        prompts->cu[p + 1] - prompts->cu[p], longest, (long long)session_capacity(r->session));
    return true;
}

bool rank_candidates(DecoderSession *session, const Prompts *prompts, const Candidate *candidates, int candidate_count,
                     double *scores, Error *err) {
    if (prompts->count == 0 || candidate_count == 0) return true;
    int slots = session_slots(session), group = candidate_count < slots ? candidate_count : slots;
    Ranking r = {.session = session, .candidates = candidates, .count = candidate_count, .group = group};
    r.vocab = decoder_config(session_decoder(session))->vocab;
    int most = slots / group;
    bool ok = check_candidates(&r, prompts, err) && rank_allocate(&r, most, err);
    for (int first = 0; ok && first < prompts->count; first += most) {
        int count = prompts->count - first < most ? prompts->count - first : most;
        ok = rank_wave(&r, prompts, first, count, scores + (int64_t)first * candidate_count, err);
    }
    free(r.logits);
    free(r.start);
    free(r.slot);
    return ok;
}
