/* What the ranks of a run agree on. Whatever decides how a run goes on is exchanged, or follows from what was: so
 * that all go on alike, or none. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "train/trainer.h"

/* Added up in order of rank, so that it is the same on all. */
bool ranks_meet(Trainer *trainer, double *loss, Error *err) {
    typedef struct Word {
        double loss;
        int64_t stop;
    } Word;
    Comm *comm = trainer->run->comm;
    const Word mine = {.loss = *loss, .stop = atomic_load(&trainer->stopper.asked)};
    Word *all = trainer->words;
    bool ok = comm_exchange(comm, &mine, sizeof mine, all, err);
    *loss = 0;
    for (int r = 0; ok && r < comm_size(comm); r++) {
        *loss += all[r].loss;
        trainer->stop = trainer->stop || all[r].stop;
    }
    return ok;
}

static bool hash_flat(const Params *params, const float *flat, uint64_t *hash, Error *err) {
    size_t bytes = (size_t)params->total * sizeof(float);
    float *host = memory_new((size_t)params->total, sizeof *host, err);
    bool ok = host && device_download(params->dev, host, flat, bytes, err);
    if (ok) *hash = XXH64(host, bytes, *hash);
    free(host);
    return ok;
}

/* Of all that a step changes. */
static bool hash_state(const Trainer *trainer, uint64_t *hash, Error *err) {
    const Params *params = speech_llm_params(trainer->run->model);
    *hash = 0;
    return hash_flat(params, params->value, hash, err) && hash_flat(params, trainer->optimizer.m, hash, err) &&
           hash_flat(params, trainer->optimizer.v, hash, err);
}

typedef struct Standing {
    int64_t step;
    uint64_t config, shards, state;
} Standing;

static bool fail_differing(const Standing *first, const Standing *other, int rank, Error *err) {
    if (other->config != first->config || other->shards != first->shards)
        return fail(err, "rank %d has another config or other shards than rank 0: all must read the same", rank);
    if (other->step != first->step)
        return fail(err,
                    "rank %d stands after step %" PRId64 " and rank 0 after step %" PRId64
                    ": the output folder must be one that all ranks see",
                    rank, other->step, first->step);
    return fail(err,
                "step %" PRId64 ": rank %d has other weights than rank 0: its machine, GPU or build computes "
                "differently; go on with --resume on machines that are alike",
                first->step, rank);
}

bool ranks_compare(Trainer *trainer, Error *err) {
    Comm *comm = trainer->run->comm;
    const TrainState *state = &trainer->state;
    Standing mine = {.step = state->step, .config = state->config_hash, .shards = state->shards_hash};
    const Standing *all = trainer->words;
    if (comm_size(comm) == 1) return true;
    if (!hash_state(trainer, &mine.state, err) || !comm_exchange(comm, &mine, sizeof mine, trainer->words, err))
        return false;
    for (int r = 1; r < comm_size(comm); r++)
        if (memcmp(&all[r], &all[0], sizeof *all) != 0) return fail_differing(&all[0], &all[r], r, err);
    return true;
}
