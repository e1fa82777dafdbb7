/* Greedy search and sampling, prompts taking the places of those that are answered; ranking of given
 * continuations. */
#include "model/generate.h"

#include <math.h>
#include <omp.h>
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

bool processes_scores(const GenerateOptions *options, int generated) {
    float penalty = options->repetition_penalty;
    return penalty < 1 || penalty > 1 || (generated < options->min_new && options->stop_count > 0);
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

/* Zeroes the probability of ids outside the smallest set of likeliest ones that reaches `top`. */
static void keep_top(float *probability, int count, double top, int32_t *ids) {
    Heap heap = {.ids = ids, .count = count, .scores = probability};
    for (int i = 0; i < count; i++) ids[i] = i;
    for (int i = count / 2; i-- > 0;) sink(&heap, i);
    double reached = 0;
    while (heap.count > 0 && reached < top) {
        reached += (double)probability[ids[0]];
        ids[0] = ids[--heap.count]; /* kept: it leaves the heap */
        sink(&heap, 0);
    }
    for (int i = 0; i < heap.count; i++) probability[ids[i]] = 0;
}

/* An id drawn from softmax(scores / temperature) within top_p. `scores` is overwritten. */
static int32_t draw(float *scores, int count, const GenerateOptions *options, float uniform, int32_t *ids) {
    double sum = 0;
    for (int i = 0; i < count; i++) scores[i] /= options->temperature;
    softmax_terms(scores, count);
    for (int i = 0; i < count; i++) sum += (double)scores[i];
    if (options->top_p < 1) {
        keep_top(scores, count, (double)options->top_p * sum, ids);
        sum = 0;
        for (int i = 0; i < count; i++) sum += (double)scores[i];
    }
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

/* ---- answers in progress ---- */

/* Rows are the sequences that go on, in any order. */
typedef struct Decoding {
    DecoderSession *session;
    const Prompts *prompts;
    const GenerateOptions *options;
    Generated *results;
    int slots, vocab, threads;
    int entered;           /* prompts that have a slot, or had one */
    int rows;              /* sequences that go on */
    int32_t *answer;       /* [slots]: which prompt a row answers */
    int32_t *slot, *token; /* [slots]: where a row's sequence is, and what it goes on with */
    double *likelihood;    /* [slots]: of that token */
    int32_t *idle;         /* [slots - rows]: the other slots */
    float *logits;         /* [slots, vocab], or null: the device chooses alone */
    bool *seen;            /* [slots, vocab], with the repetition penalty */
    float *scores;         /* [threads, vocab], with logits */
    int32_t *order;        /* [threads, vocab], with top_p */
} Decoding;

static uint32_t sample_of(const Prompts *prompts, int prompt) {
    return (uint32_t)(prompts->sample ? prompts->sample[prompt] : prompt);
}

static bool *seen_of(const Decoding *d, int row) { return d->seen ? d->seen + (int64_t)d->slot[row] * d->vocab : NULL; }

/* A token for a row that the device's choice is not good for. */
static int32_t choose(const Decoding *d, int row, const float *logits) {
    const GenerateOptions *options = d->options;
    int64_t thread = omp_get_thread_num();
    int generated = d->results[d->answer[row]].count;
    float *scores = d->scores + thread * d->vocab;
    memcpy(scores, logits, (size_t)d->vocab * sizeof *scores);
    process_scores(scores, d->vocab, seen_of(d, row), options, generated);
    if (options->temperature <= 0) return greatest(scores, d->vocab);
    uint32_t sample = sample_of(d->prompts, d->answer[row]);
    uint32_t word = philox(options->seed, 0, PLACE_SAMPLING, sample, (uint32_t)generated).word[0];
    return draw(scores, d->vocab, options, rng_uniform(word), d->order ? d->order + thread * d->vocab : NULL);
}

/* Tokens of rows `first` and on, of which the session has just said what follows. */
static void choose_tokens(Decoding *d, int first) {
    const Choices choices = session_choices(d->session);
    const GenerateOptions *options = d->options;
#pragma omp parallel for schedule(dynamic) num_threads(d->threads) if (d->logits)
    for (int row = first; row < d->rows; row++) {
        int i = row - first;
        float logit = choices.logit[i];
        d->token[row] = choices.token[i];
        if (options->temperature > 0 || processes_scores(options, d->results[d->answer[row]].count)) {
            const float *logits = d->logits + (int64_t)i * d->vocab;
            d->token[row] = choose(d, row, logits);
            logit = logits[d->token[row]];
        }
        d->likelihood[row] = (double)logit - (double)choices.log_sum[i];
    }
}

/* Whether the answer goes on. */
static bool take_token(const Decoding *d, int row) {
    Generated *result = &d->results[d->answer[row]];
    int32_t token = d->token[row];
    bool *seen = seen_of(d, row);
    result->log_likelihood += d->likelihood[row];
    result->stopped = is_stop(d->options, token);
    if (result->stopped) return false;
    result->ids[result->count++] = token;
    if (seen) seen[token] = true;
    return result->count < d->options->max_new;
}

/* Chooses for rows `first` and on; those that end leave. */
static void advance(Decoding *d, int first) {
    int going = first;
    choose_tokens(d, first);
    for (int row = first; row < d->rows; row++) {
        if (!take_token(d, row)) {
            d->idle[d->slots - d->rows + row - going] = d->slot[row];
            continue;
        }
        d->answer[going] = d->answer[row];
        d->slot[going] = d->slot[row];
        d->token[going++] = d->token[row];
    }
    d->rows = going;
}

/* Logits come to the host only where a choice needs them. */
static float *wanted_logits(const Decoding *d) {
    bool wanted = d->options->temperature > 0;
    for (int row = 0; !wanted && row < d->rows; row++)
        wanted = processes_scores(d->options, d->results[d->answer[row]].count);
    return wanted ? d->logits : NULL;
}

/* How many prompts are to enter now: prompts are dear beside steps, so they wait until a good part of the slots is
 * idle, unless they are the last. */
static int entering(const Decoding *d) {
    enum { PART = 4 };
    int idle = d->slots - d->rows, left = d->prompts->count - d->entered;
    if (left <= idle) return left;
    return d->rows == 0 || PART * idle >= d->slots ? idle : 0;
}

static bool enter(Decoding *d, int count, Error *err) {
    int first = d->rows, prompt = d->entered;
    for (int i = 0; i < count; i++) {
        int row = first + i;
        d->answer[row] = prompt + i;
        d->slot[row] = d->idle[d->slots - row - 1];
        if (d->seen) mark_prompt(d->prompts, prompt + i, seen_of(d, row), d->vocab);
    }
    d->rows += count;
    d->entered += count;
    if (!session_prefill(d->session, d->prompts->embeddings, d->prompts->cu + prompt, d->slot + first, count,
                         wanted_logits(d), err))
        return false;
    advance(d, first);
    return true;
}

static bool choose_all(Decoding *d, Error *err) {
    for (int count; (count = entering(d)) > 0 || d->rows > 0;) {
        if (count > 0) {
            if (!enter(d, count, err)) return false;
            continue;
        }
        if (!session_step(d->session, d->slot, d->token, d->rows, wanted_logits(d), err)) return false;
        advance(d, 0);
    }
    return true;
}

static void release(Decoding *d) {
    free(d->answer);
    free(d->likelihood);
    free(d->logits);
    free(d->seen);
    free(d->scores);
    free(d->order);
}

static bool allocate(Decoding *d, Error *err) {
    const GenerateOptions *options = d->options;
    size_t slots = (size_t)d->slots, vocab = (size_t)d->vocab, threads = (size_t)d->threads;
    bool host = options->temperature > 0 || processes_scores(options, 0), top = options->top_p < 1;
    bool penalty = options->repetition_penalty < 1 || options->repetition_penalty > 1;
    d->answer = memory_new(4 * slots, sizeof *d->answer, err);
    d->likelihood = memory_new(slots, sizeof *d->likelihood, err);
    if (host) d->logits = memory_new(slots * vocab, sizeof *d->logits, err);
    if (host) d->scores = memory_new(threads * vocab, sizeof *d->scores, err);
    if (penalty) d->seen = memory_new(slots * vocab, sizeof *d->seen, err);
    if (top) d->order = memory_new(threads * vocab, sizeof *d->order, err);
    if (!d->answer || !d->likelihood || (host && (!d->logits || !d->scores)) || (penalty && !d->seen) ||
        (top && !d->order))
        return false;
    d->slot = d->answer + slots;
    d->token = d->slot + slots;
    d->idle = d->token + slots;
    for (int i = 0; i < d->slots; i++) d->idle[i] = d->slots - 1 - i;
    return true;
}

/* Greedy search and sampling. */
static bool decode(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, Generated *results,
                   Error *err) {
    Decoding d = {.session = session, .prompts = prompts, .options = options, .results = results};
    d.slots = session_slots(session) < prompts->count ? session_slots(session) : prompts->count;
    d.vocab = decoder_config(session_decoder(session))->vocab;
    d.threads = omp_get_max_threads();
    bool ok = allocate(&d, err) && choose_all(&d, err);
    release(&d);
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
    bool ok = true;
    for (int i = 0; ok && i < prompts->count; i++) {
        results[i].ids = memory_new((size_t)options->max_new, sizeof *results[i].ids, err);
        ok = results[i].ids != NULL;
    }
    if (ok && prompts->count)
        ok = options->beams == 1 ? decode(session, prompts, options, results, err)
                                 : beam_search(session, prompts, options, results, err);
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
    float *start, *norm; /* [prompts of a wave, vocab], [.. ]: logits of each prompt's last row; their log-sum-exp */
} Ranking;

static bool rank_allocate(Ranking *r, int prompts, Error *err) {
    size_t slots = (size_t)session_slots(r->session), vocab = (size_t)r->vocab;
    r->logits = memory_new(slots * vocab, sizeof *r->logits, err);
    r->start = memory_new((size_t)prompts * (vocab + 1), sizeof *r->start, err);
    r->slot = memory_new(4 * slots, sizeof *r->slot, err);
    if (!r->logits || !r->start || !r->slot) return false;
    r->norm = r->start + (size_t)prompts * vocab;
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
    memcpy(r->norm, session_choices(r->session).log_sum, (size_t)count * sizeof *r->norm);
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
        for (int c = begin; c < end; c++)
            scores[p * r->count + c] =
                r->candidates[c].count ? (double)start[r->candidates[c].ids[0]] - (double)r->norm[p] : 0;
    }
    for (int at = 0;; at++) {
        int rows = rank_rows(r, prompts, begin, end, at);
        if (rows == 0) return true;
        if (!session_step(r->session, r->slot, r->next, rows, r->logits, err)) return false;
        const float *norm = session_choices(r->session).log_sum;
        for (int i = 0; i < rows; i++) {
            const float *row = r->logits + (int64_t)i * r->vocab;
            const Candidate *candidate = &r->candidates[r->row[i] % r->count];
            scores[r->row[i]] += (double)row[candidate->ids[at + 1]] - (double)norm[i];
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
