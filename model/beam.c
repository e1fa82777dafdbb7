/* Beam search as transformers' generate does it (length penalty 1, no early stopping), a wave of
 * prompts at a time, a thread a prompt. Scores are kept in float, as there, so that the same beams are chosen. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate_internal.h"

static const float NEVER = -1e9f; /* the score of a beam that does not exist (yet) */

typedef struct Beam {
    int32_t *ids; /* [max_new] */
    int count;
    float score;       /* running: the sum of log-probabilities; finished: that over the length */
    double likelihood; /* under the model, without penalties */
    bool finished, stopped;
    int slot;
} Beam;

typedef struct Continuation { /* a continuation of a running beam */
    float score;
    int parent;
    int32_t token;
    double likelihood;
    bool stops; /* ends its sequence */
} Continuation;

typedef struct Search {           /* of one prompt */
    Beam *running, *kept, *spare; /* [beams] each; kept: finished, best first */
    bool *prompt_seen;            /* [vocab] */
    int row;                      /* of the logits: where its own begin */
    bool done;
} Search;

typedef struct Looks {  /* of a thread, at what may follow a beam */
    Continuation *best; /* [wide] */
    int count;
    bool *seen;    /* [vocab] */
    float *scores; /* [vocab] */
} Looks;

typedef struct BeamWave {
    DecoderSession *session;
    const Prompts *prompts;
    const GenerateOptions *options;
    int first, count, beams, vocab, threads, wide; /* wide: continuations looked at, enough to outlast stop ids */
    Search *searches;
    Looks *looks; /* [threads] */
    int32_t *slot, *next, *from, *to;
    float *logits;
} BeamWave;

/* ---- the best continuations ---- */

/* Keeps the `wide` greatest, in order; of equal ones that which came first. */
static int insert(Continuation *best, int count, int wide, Continuation option) {
    int at = count < wide ? count : wide;
    while (at > 0 && best[at - 1].score < option.score) at--;
    if (at >= wide) return count;
    int last = count < wide ? count : wide - 1;
    memmove(best + at + 1, best + at, (size_t)(last - at) * sizeof *best);
    best[at] = option;
    return count < wide ? count + 1 : wide;
}

/* Log-probabilities of a beam's continuations, in `looks`, processed as transformers does. */
static void score(const BeamWave *wave, const Search *search, const Beam *beam, const float *logits, double norm,
                  Looks *looks) {
    for (int i = 0; i < wave->vocab; i++) looks->scores[i] = (float)((double)logits[i] - norm);
    if (!processes_scores(wave->options, beam->count)) return;
    memcpy(looks->seen, search->prompt_seen, (size_t)wave->vocab * sizeof *looks->seen);
    for (int i = 0; i < beam->count; i++) looks->seen[beam->ids[i]] = true;
    process_scores(looks->scores, wave->vocab, looks->seen, wave->options, beam->count);
}

/* The best of a beam's continuations, among those of the beams before it. */
static void look_on(const BeamWave *wave, const Search *search, int b, Looks *looks) {
    const Beam *beam = &search->running[b];
    const GenerateOptions *options = wave->options;
    const float *logits = wave->logits + (int64_t)(search->row + b) * wave->vocab;
    double norm = (double)session_choices(wave->session).log_sum[search->row + b];
    score(wave, search, beam, logits, norm, looks);
    for (int32_t i = 0; i < wave->vocab; i++) {
        float sum = looks->scores[i] + beam->score;
        if (looks->count == wave->wide && !(sum > looks->best[looks->count - 1].score)) continue;
        bool stops = is_stop(options, i) || beam->count + 1 == options->max_new;
        double likelihood = beam->likelihood + (double)(float)((double)logits[i] - norm);
        looks->count = insert(looks->best, looks->count, wave->wide, (Continuation){sum, b, i, likelihood, stops});
    }
}

/* ---- one step of a search ---- */

static void extend(Beam *to, const Beam *parent, const Continuation *next) {
    memcpy(to->ids, parent->ids, (size_t)parent->count * sizeof *to->ids);
    to->ids[parent->count] = next->token;
    to->count = parent->count + 1;
    to->score = next->score;
    to->likelihood = next->likelihood;
    to->finished = to->stopped = false;
    to->slot = parent->slot;
}

/* A finished sequence takes its place among the kept ones if it is good enough. */
static void keep(const BeamWave *wave, Search *search, const Continuation *next) {
    const Beam *parent = &search->running[next->parent];
    float score = next->score / (float)(parent->count + 1);
    int at = wave->beams;
    while (at > 0 && search->kept[at - 1].score < score) at--;
    if (at == wave->beams) return;
    Beam last = search->kept[wave->beams - 1];
    memmove(search->kept + at + 1, search->kept + at, (size_t)(wave->beams - 1 - at) * sizeof last);
    extend(&last, parent, next);
    last.score = score;
    last.finished = true;
    last.stopped = is_stop(wave->options, next->token);
    search->kept[at] = last;
}

/* transformers' rule: none of the kept can be beaten any more by the best that still runs. */
static bool settled(const BeamWave *wave, const Search *search) {
    for (int b = 0; b < wave->beams; b++)
        if (!search->kept[b].finished) return false;
    const Beam *best = &search->running[0];
    return !(best->score / (float)best->count > search->kept[wave->beams - 1].score);
}

/* Of the continuations, those that end are kept (if among the first `beams`), the others run on. */
static void step_search(const BeamWave *wave, Search *search, const Looks *looks) {
    const Continuation *best = looks->best;
    int running = 0;
    for (int i = 0; i < looks->count && i < wave->beams; i++)
        if (best[i].stops) keep(wave, search, &best[i]);
    for (int i = 0; i < looks->count && running < wave->beams; i++)
        if (!best[i].stops) extend(&search->spare[running++], &search->running[best[i].parent], &best[i]);
    search->done = running == 0;
    if (search->done) return;
    for (int b = running; b < wave->beams; b++) { /* too few continuations: beams that never win */
        extend(&search->spare[b], &search->running[0], &best[0]);
        search->spare[b].score = NEVER;
    }
    Beam *swap = search->running;
    search->running = search->spare;
    search->spare = swap;
    search->done = settled(wave, search);
}

/* Each beam needs a slot of its own: the first child of a parent stays in the parent's, the others get
 * copies in slots whose beams have no child. */
static int assign_slots(BeamWave *wave, Search *search, int base, int copies) {
    for (int s = base; s < base + wave->beams; s++) wave->slot[s] = -1; /* here: who has the slot */
    for (int b = 0; b < wave->beams; b++)
        if (wave->slot[search->running[b].slot] < 0) wave->slot[search->running[b].slot] = b;
    int spare = base;
    for (int b = 0; b < wave->beams; b++) {
        Beam *beam = &search->running[b];
        if (wave->slot[beam->slot] == b) continue;
        while (wave->slot[spare] >= 0) spare++;
        wave->from[copies] = beam->slot;
        wave->to[copies++] = spare;
        wave->slot[spare] = b;
        beam->slot = spare;
    }
    return copies;
}

/* ---- waves ---- */

static bool start_wave(BeamWave *wave, Error *err) {
    for (int p = 0; p < wave->count; p++) wave->slot[p] = p * wave->beams;
    if (!session_prefill(wave->session, wave->prompts->embeddings, wave->prompts->cu + wave->first, wave->slot,
                         wave->count, wave->logits, err))
        return false;
    for (int p = 0; p < wave->count; p++) {
        Search *search = &wave->searches[p];
        mark_prompt(wave->prompts, wave->first + p, search->prompt_seen, wave->vocab);
        for (int b = 0; b < wave->beams; b++) {
            search->running[b].slot = p * wave->beams;
            search->kept[b].score = NEVER;
        }
    }
    return true;
}

/* Takes the logits of `rows` rows a search and advances all that run; false where an error is. */
static bool advance(BeamWave *wave, int rows, Error *err) {
    int copies = 0, row = 0;
    for (int p = 0; p < wave->count; p++) {
        wave->searches[p].row = row;
        if (!wave->searches[p].done) row += rows;
    }
#pragma omp parallel for schedule(dynamic) num_threads(wave->threads)
    for (int p = 0; p < wave->count; p++) {
        Search *search = &wave->searches[p];
        Looks *looks = &wave->looks[omp_get_thread_num()];
        if (search->done) continue;
        looks->count = 0;
        for (int b = 0; b < rows; b++) look_on(wave, search, b, looks);
        step_search(wave, search, looks);
    }
    for (int p = 0; p < wave->count; p++)
        if (!wave->searches[p].done) copies = assign_slots(wave, &wave->searches[p], p * wave->beams, copies);
    return session_copy(wave->session, wave->from, wave->to, copies, err);
}

static int list_rows(BeamWave *wave) {
    int rows = 0;
    for (int p = 0; p < wave->count; p++)
        for (int b = 0; !wave->searches[p].done && b < wave->beams; b++) {
            const Beam *beam = &wave->searches[p].running[b];
            wave->slot[rows] = beam->slot;
            wave->next[rows++] = beam->ids[beam->count - 1];
        }
    return rows;
}

static bool run_beams(BeamWave *wave, Error *err) {
    if (!start_wave(wave, err) || !advance(wave, 1, err)) return false;
    for (int rows; (rows = list_rows(wave)) > 0;)
        if (!session_step(wave->session, wave->slot, wave->next, rows, wave->logits, err) ||
            !advance(wave, wave->beams, err))
            return false;
    return true;
}

static void hand_over(const BeamWave *wave, Generated *results) {
    for (int p = 0; p < wave->count; p++) {
        const Beam *best = &wave->searches[p].kept[0];
        results[p].count = best->stopped ? best->count - 1 : best->count;
        results[p].stopped = best->stopped;
        results[p].log_likelihood = best->likelihood;
        memcpy(results[p].ids, best->ids, (size_t)results[p].count * sizeof *best->ids);
    }
}

/* Three sets of beams a prompt, each beam with room for max_new ids. */
typedef struct BeamMemory {
    Beam *beams;
    int32_t *ids;
    bool *seen; /* of prompts, then of threads */
    float *scores, *logits;
    Continuation *best;
} BeamMemory;

static void share_out(BeamWave *wave, const BeamMemory *m) {
    size_t each = (size_t)wave->beams, prompts = (size_t)wave->count, room = (size_t)wave->options->max_new;
    size_t vocab = (size_t)wave->vocab, slots = (size_t)session_slots(wave->session);
    wave->next = wave->slot + slots;
    wave->from = wave->next + slots;
    wave->to = wave->from + slots;
    wave->logits = m->logits;
    for (size_t i = 0; i < 3 * each * prompts; i++) m->beams[i] = (Beam){.ids = m->ids + i * room};
    for (size_t p = 0; p < prompts; p++) {
        Beam *own = m->beams + 3 * each * p;
        wave->searches[p] =
            (Search){.running = own, .kept = own + each, .spare = own + 2 * each, .prompt_seen = m->seen + p * vocab};
    }
    for (size_t t = 0; t < (size_t)wave->threads; t++)
        wave->looks[t] = (Looks){.best = m->best + t * (size_t)wave->wide,
                                 .seen = m->seen + (prompts + t) * vocab,
                                 .scores = m->scores + t * vocab};
}

static bool wave_allocate(BeamWave *wave, BeamMemory *m, Error *err) {
    size_t each = (size_t)wave->beams, prompts = (size_t)wave->count, room = (size_t)wave->options->max_new;
    size_t vocab = (size_t)wave->vocab, threads = (size_t)wave->threads;
    wave->searches = memory_new(prompts, sizeof *wave->searches, err);
    wave->looks = memory_new(threads, sizeof *wave->looks, err);
    wave->slot = memory_new(4 * (size_t)session_slots(wave->session), sizeof *wave->slot, err);
    m->beams = memory_new(3 * each * prompts, sizeof *m->beams, err);
    m->ids = memory_new(3 * each * prompts * room, sizeof *m->ids, err);
    m->seen = memory_new((prompts + threads) * vocab, sizeof *m->seen, err);
    m->scores = memory_new(threads * vocab, sizeof *m->scores, err);
    m->logits = memory_new(prompts * each * vocab, sizeof *m->logits, err);
    m->best = memory_new(threads * (size_t)wave->wide, sizeof *m->best, err);
    return wave->searches && wave->looks && wave->slot && m->beams && m->ids && m->seen && m->scores && m->logits &&
           m->best;
}

static void wave_free(BeamWave *wave, BeamMemory *m) {
    free(wave->searches);
    free(wave->looks);
    free(wave->slot);
    free(m->beams);
    free(m->ids);
    free(m->seen);
    free(m->scores);
    free(m->logits);
    free(m->best);
}

bool beam_search(DecoderSession *session, const Prompts *prompts, const GenerateOptions *options, Generated *results,
                 Error *err) {
    int more = options->stop_count + 1 > 2 ? options->stop_count + 1 : 2, beams = options->beams;
    int most = session_slots(session) / beams, count = most < prompts->count ? most : prompts->count;
    BeamWave wave = {.session = session, .prompts = prompts, .options = options, .count = count, .beams = beams};
    wave.wide = more * beams;
    wave.vocab = decoder_config(session_decoder(session))->vocab;
    wave.threads = omp_get_max_threads();
    BeamMemory memory = {0};
    bool ok = wave_allocate(&wave, &memory, err);
    for (; ok && wave.first < prompts->count; wave.first += count) {
        int left = prompts->count - wave.first;
        wave.count = left < count ? left : count;
        share_out(&wave, &memory);
        ok = run_beams(&wave, err);
        if (ok) hand_over(&wave, results + wave.first);
    }
    wave_free(&wave, &memory);
    return ok;
}
