/* What a Comm holds, and MPI's side of it (comm_mpi.c; a build without MPI has neither). Private to kernels/. */
#ifndef SEMOLLM_KERNELS_COMM_IMPL_H
#define SEMOLLM_KERNELS_COMM_IMPL_H

#include "kernels/comm.h"

struct Comm {
    int rank, size, local_rank, local_size;
    Device *dev;
    struct CudaNccl *nccl; /* of a CUDA device */
    bool over;             /* a failure was told to all: nobody waits any more */
    bool broken;           /* a sum failed midway: others may wait for ever */
    struct CommMpi *mpi;
};

/* Of all ranks that MPI sees. */
Comm *mpi_open(Error *err);
void mpi_close(Comm *comm);

/* Tells the others how this rank ended and hears of them. */
bool mpi_finish(Comm *comm, bool ok, Error *err);

bool mpi_exchange(Comm *comm, const void *mine, size_t bytes, void *all, Error *err);
bool mpi_collect(Comm *comm, void *data, const size_t *first, Error *err);
bool mpi_sum(Comm *comm, void *data, DType dtype, int64_t count, Error *err); /* of host memory */

#endif
