#include "kernels/comm.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/comm_impl.h"
#include "kernels/device_impl.h"

#ifdef SEMOLLM_CUDA
#include "kernels/cuda/cuda.h"
#endif
#ifdef SEMOLLM_MPI
#define BY_MPI(name, ...)                                                                                              \
    if (comm) return mpi_##name(comm, __VA_ARGS__)
#else
#define BY_MPI(name, ...) (void)comm
#endif

/* ---- launchers ---- */

/* How each tells a process among how many it is, the innermost first: mpirun under Slurm starts its daemons by
 * srun. (SLURM_NTASKS would be set in a batch script too, which is one process.) */
static const char *const LAUNCHED[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};

/* 1 where none says so. */
static int launched(const char **variable) {
    for (size_t i = 0; i < sizeof LAUNCHED / sizeof *LAUNCHED; i++) {
        const char *count = getenv(LAUNCHED[i]);
        *variable = LAUNCHED[i];
        if (count && *count) return atoi(count);
    }
    *variable = "WORLD_SIZE";
    const char *world = getenv("LOCAL_RANK") ? getenv("WORLD_SIZE") : NULL;
    return world ? atoi(world) : 1;
}

bool comm_alone(const char *what, Error *err) {
    const char *variable;
    int count = launched(&variable);
    if (count <= 1) return true;
    return fail_usage(err, "%s is work for one process, but %d were started (%s): start it without mpirun or srun",
                      what, count, variable);
}

bool comm_open(Comm **comm, Error *err) {
    const char *variable;
    int count = launched(&variable);
    *comm = NULL;
    if (count <= 1) return true;
#ifdef SEMOLLM_MPI
    *comm = mpi_open(err);
    if (!*comm || comm_size(*comm) == count) return *comm;
    /* MPI knows other ranks than the launcher: nobody would come to hear of it. */
    fail(err,
         "%d processes were started (%s), but MPI sees %d: they were not started by this build's MPI; use its "
         "mpirun, or srun with a --mpi= that it knows (srun --mpi=list; pmix for Open MPI)",
         count, variable, comm_size(*comm));
    mpi_close(*comm);
    *comm = NULL;
    return false;
#else
    return fail(err,
                "%d processes were started (%s), but this build has no MPI, so that each would do all the work by "
                "itself: install libopenmpi-dev and build anew, or start one",
                count, variable);
#endif
}

#ifdef SEMOLLM_MPI

bool comm_close(Comm *comm, bool ok, Error *err) {
    if (!comm) return ok;
    ok = mpi_finish(comm, ok, err);
#ifdef SEMOLLM_CUDA
    if (comm->nccl) cuda_nccl_close(comm->nccl, ok);
#endif
    mpi_close(comm);
    return ok;
}

#else

bool comm_close(Comm *comm, bool ok, Error *err) {
    (void)comm, (void)err;
    return ok;
}

#endif

/* ---- who is who ---- */

int comm_rank(const Comm *comm) { return comm ? comm->rank : 0; }
int comm_size(const Comm *comm) { return comm ? comm->size : 1; }
int comm_local_rank(const Comm *comm) { return comm ? comm->local_rank : 0; }
int comm_local_size(const Comm *comm) { return comm ? comm->local_size : 1; }

/* ---- what they do together ---- */

bool comm_exchange(Comm *comm, const void *mine, size_t bytes, void *all, Error *err) {
    assert(bytes <= COMM_MESSAGE);
    BY_MPI(exchange, mine, bytes, all, err);
    (void)err;
    if (bytes) memcpy(all, mine, bytes);
    return true;
}

bool comm_collect(Comm *comm, void *data, const size_t *first, Error *err) {
    BY_MPI(collect, data, first, err);
    (void)data, (void)first, (void)err;
    return true;
}

#if defined SEMOLLM_CUDA && defined SEMOLLM_MPI

/* NCCL's ranks find each other by a number that one of them drew. */
static bool join_nccl(Comm *comm, Error *err) {
    char id[CUDA_NCCL_ID];
    comm->nccl = cuda_nccl_open(comm->dev, err);
    if (!comm->nccl || (comm->rank == 0 && !cuda_nccl_draw(comm->nccl, id, err)) ||
        !comm_exchange(comm, NULL, 0, NULL, err))
        return false;
    size_t *first = memory_new((size_t)comm->size + 1, sizeof *first, err);
    if (!first) return false;
    for (int r = 1; r <= comm->size; r++) first[r] = sizeof id;
    bool ok = comm_collect(comm, id, first, err);
    free(first);
    return ok && cuda_nccl_join(comm->nccl, id, comm->rank, comm->size, err);
}

#endif

bool comm_join(Comm *comm, Device *dev, Error *err) {
    if (!comm) return true;
    comm->dev = dev;
#if defined SEMOLLM_CUDA && defined SEMOLLM_MPI
    if (device_kind(dev) == DEVICE_CUDA && !dev->plan) return join_nccl(comm, err);
#endif
    (void)err;
    return true;
}

bool comm_sum(Comm *comm, void *data, DType dtype, int64_t count, Error *err) {
    assert(dtype == DTYPE_F32 || dtype == DTYPE_F64);
    if (!comm || count == 0) return true;
    assert(comm->dev);
#ifdef SEMOLLM_CUDA
    if (comm->nccl && !cuda_nccl_sum(comm->nccl, data, dtype, count, err)) comm->broken = true;
    if (comm->nccl) return !comm->broken;
#endif
    BY_MPI(sum, data, dtype, count, err);
    (void)data, (void)err;
    return true;
}
