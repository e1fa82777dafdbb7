/* A stand-in for NCCL over MPI, in the order of the emulated device's streams: what kernels/cuda/nccl.c opens in
 * tests. It ends everything where ranks do not ask for the same. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emu/cuda_runtime.h"

enum { SUCCESS, INVALID_ARGUMENT = 4, FLOAT32 = 7, FLOAT64 = 8, SUM = 0, ID_BYTES = 128 };

typedef struct Id {
    char bytes[ID_BYTES];
} Id;

typedef struct Comm {
    MPI_Comm ranks;
} Comm;

typedef struct Sum {
    Comm *comm;
    void *data;
    size_t count;
    int dtype;
} Sum;

const char *ncclGetErrorString(int status);
int ncclGetUniqueId(Id *id);
int ncclCommInitRank(Comm **comm, int size, Id id, int rank);
int ncclCommDestroy(Comm *comm);
int ncclCommAbort(Comm *comm);
int ncclAllReduce(const void *from, void *to, size_t count, int dtype, int op, Comm *comm, cudaStream_t stream);

static void need(int held, const char *what) {
    if (held) return;
    fprintf(stderr, "the stand-in for NCCL: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 99);
}

/* Whether all ranks say so. */
static int same(const Comm *comm, unsigned long long value) {
    unsigned long long both[2] = {value, ~value}, most[2];
    MPI_Allreduce(both, most, 2, MPI_UNSIGNED_LONG_LONG, MPI_MAX, comm->ranks);
    return most[0] == value && most[1] == ~value;
}

const char *ncclGetErrorString(int status) { return status == INVALID_ARGUMENT ? "invalid argument" : "no error"; }

int ncclGetUniqueId(Id *id) {
    for (int i = 0; i < ID_BYTES; i++) id->bytes[i] = (char)(i * 37 + 11);
    return SUCCESS;
}

int ncclCommInitRank(Comm **comm, int size, Id id, int rank) {
    int ranks, number;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &number);
    Id drawn;
    ncclGetUniqueId(&drawn);
    if (size != ranks || rank != number || memcmp(&id, &drawn, sizeof id) != 0) return INVALID_ARGUMENT;
    *comm = calloc(1, sizeof **comm);
    need(*comm != NULL, "out of memory");
    MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->ranks);
    return SUCCESS;
}

int ncclCommDestroy(Comm *comm) {
    MPI_Comm_free(&comm->ranks);
    free(comm);
    return SUCCESS;
}

int ncclCommAbort(Comm *comm) { return ncclCommDestroy(comm); }

static void add_up(void *state) {
    const Sum *sum = state;
    need(same(sum->comm, sum->count) && same(sum->comm, (unsigned)sum->dtype), "ranks add up different numbers");
    MPI_Allreduce(MPI_IN_PLACE, sum->data, (int)sum->count, sum->dtype == FLOAT64 ? MPI_DOUBLE : MPI_FLOAT, MPI_SUM,
                  sum->comm->ranks);
}

int ncclAllReduce(const void *from, void *to, size_t count, int dtype, int op, Comm *comm, cudaStream_t stream) {
    const Sum sum = {comm, to, count, dtype};
    if (from != to || !comm || !stream || op != SUM || (dtype != FLOAT32 && dtype != FLOAT64)) return INVALID_ARGUMENT;
    return emu_enqueue_host(add_up, &sum, sizeof sum, stream) == cudaSuccess ? SUCCESS : INVALID_ARGUMENT;
}
