/* Beam search as transformers' generate does it (length penalty 1, no early stopping), a wave of
 * prompts at a time. Scores are kept in float, as there, so that the same beams are chosen. */
#include <math.h>
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
    bool done;
} Search;

typedef struct BeamWave {
    DecoderSession *session;
    const Prompts *prompts;
    const GenerateOptions *options;
    int first, count, beams, vocab, wide; /* wide: continuations looked at, enough to outlast stop ids */
    Search *searches;
    Continuation *best; /* [wide] */
    bool *seen;         /* [vocab] */
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

static void mark_seen(BeamWave *wave, const Search *search, const Beam *beam) {
    memcpy(wave->seen, search->prompt_seen, (size_t)wave->vocab * sizeof *wave->seen);
    for (int i = 0; i < beam->count; i++) wave->seen[beam->ids[i]] = true;
}

/* Log-probabilities of a beam's continuations, processed as transformers does, into the best. */
static int look_on(BeamWave *wave, Search *search, int b, float *logits, int count) {
    const Beam *beam = &search->running[b];
    const GenerateOptions *options = wave->options;
    double norm = log_sum_exp(logits, wave->vocab);
    float *raw = wave->logits + (int64_t)wave->count * wave->beams * wave->vocab; /* a spare row */
    for (int i = 0; i < wave->vocab; i++) raw[i] = logits[i] = (float)((double)logits[i] - norm);
    mark_seen(wave, search, beam);
    process_scores(logits, wave->vocab, wave->seen, options, beam->count);
    for (int32_t i = 0; i < wave->vocab; i++) {
        float score = logits[i] + beam->score;
        if (count == wave->wide && !(score > wave->best[count - 1].score)) continue;
        bool stops = is_stop(options, i) || beam->count + 1 == options->max_new;
        count = insert(wave->best, count, wave->wide,
                       (Continuation){score, b, i, beam->likelihood + (double)raw[i], stops});
    }
    return count;
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
static void keep(BeamWave *wave, Search *search, const Continuation *next) {
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
static void step_search(BeamWave *wave, Search *search, int options) {
    int running = 0;
    for (int i = 0; i < options && i < wave->beams; i++)
        if (wave->best[i].stops) keep(wave, search, &wave->best[i]);
    for (int i = 0; i < options && running < wave->beams; i++)
        if (!wave->best[i].stops)
            extend(&search->spare[running++], &search->running[wave->best[i].parent], &wave->best[i]);
    search->done = running == 0;
    if (search->done) return;
    for (int b = running; b < wave->beams; b++) { /* too few continuations: beams that never win */
        extend(&search->spare[b], &search->running[0], &wave->best[0]);
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
    int copies = 0;
    float *logits = wave->logits;
    for (int p = 0; p < wave->count; p++) {
        Search *search = &wave->searches[p];
        int options = 0;
        if (search->done) continue;
        for (int b = 0; b < rows; b++, logits += wave->vocab) options = look_on(wave, search, b, logits, options);
        step_search(wave, search, options);
        if (!search->done) copies = assign_slots(wave, search, p * wave->beams, copies);
    }
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
static bool wave_allocate(BeamWave *wave, Beam **beams, int32_t **ids, bool **seen, Error *err) {
    size_t each = (size_t)wave->beams, prompts = (size_t)wave->count, room = (size_t)wave->options->max_new;
    size_t slots = (size_t)session_slots(wave->session);
    wave->searches = memory_new(prompts, sizeof *wave->searches, err);
    wave->best = memory_new((size_t)wave->wide, sizeof *wave->best, err);
    wave->slot = memory_new(4 * slots, sizeof *wave->slot, err);
    *beams = memory_new(3 * each * prompts, sizeof **beams, err);
    *ids = memory_new(3 * each * prompts * room, sizeof **ids, err);
    *seen = memory_new((prompts + 1) * (size_t)wave->vocab, sizeof **seen, err);
    if (!wave->searches || !wave->best || !wave->slot || !*beams || !*ids || !*seen) return false;
    wave->next = wave->slot + slots;
    wave->from = wave->next + slots;
    wave->to = wave->from + slots;
    wave->seen = *seen + prompts * (size_t)wave->vocab;
    for (size_t i = 0; i < 3 * each * prompts; i++) (*beams)[i].ids = *ids + i * room;
    for (size_t p = 0; p < prompts; p++) {
        Beam *own = *beams + 3 * each * p;
        wave->searches[p] = (Search){.running = own,
                                     .kept = own + each,
                                     .spare = own + 2 * each,
                                     .prompt_seen = *seen + p * (size_t)wave->vocab};
    }
    return true;
}

bool beam_wave(DecoderSession *session, const Prompts *prompts, int first, int count, const GenerateOptions *options,
               float *room, Generated *results, Error *err) {
    int more = options->stop_count + 1 > 2 ? options->stop_count + 1 : 2;
    BeamWave wave = {.session = session,
                     .prompts = prompts,
                     .options = options,
                     .first = first,
                     .count = count,
                     .beams = options->beams,
                     .wide = more * options->beams,
                     .logits = room};
    wave.vocab = decoder_config(session_decoder(session))->vocab;
    Beam *beams = NULL;
    int32_t *ids = NULL;
    bool *seen = NULL;
    bool ok = wave_allocate(&wave, &beams, &ids, &seen, err) && run_beams(&wave, err);
    if (ok) hand_over(&wave, results);
    free(wave.searches);
    free(wave.best);
    free(wave.slot);
    free(beams);
    free(ids);
    free(seen);
    return ok;
}
