/* What the ranks of a run agree on. Whatever decides how a run goes on is exchanged, or follows from what was: so
 * that all go on alike, or none. */
#include <inttypes.h>
#include <stdlib.h>
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

bool ranks_compare(Trainer *trainer, Error *err) {
    typedef struct Word {
        int64_t step;
        uint64_t hash;
    } Word;
    Comm *comm = trainer->run->comm;
    int ranks = comm_size(comm), other = 0;
    if (ranks == 1) return true;
    Word mine = {.step = trainer->state.step}, *all = trainer->words;
    bool ok = hash_state(trainer, &mine.hash, err) && comm_exchange(comm, &mine, sizeof mine, all, err);
    while (ok && other < ranks && all[other].step == all[0].step && all[other].hash == all[0].hash) other++;
    if (ok && other < ranks && all[other].step != all[0].step)
        ok = fail(err,
                  "rank %d stands after step %" PRId64 " and rank 0 after step %" PRId64
                  ": the output folder must be one that all ranks see",
                  other, all[other].step, all[0].step);
    else if (ok && other < ranks)
        ok = fail(err,
                  "step %" PRId64 ": the weights of rank %d are no longer those of rank 0: its machine, GPU or build "
                  "computes otherwise; go on with --resume on machines that are alike",
                  all[0].step, other);
    return ok;
}
