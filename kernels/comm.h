/* The ranks of a run: processes that a launcher (mpirun, or srun) started together. Between them they add up
 * what lies on their devices (MPI on CPUs, NCCL on GPUs) and exchange small messages (MPI). A process that was
 * started alone has a null Comm, with which everything here is allowed and costs nothing. */
#ifndef SEMOLLM_KERNELS_COMM_H
#define SEMOLLM_KERNELS_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"

typedef struct Comm Comm;

/* *comm is null for a process started alone. Where a launcher started several that cannot reach each other (the
 * build has no MPI, or not the launcher's) it is an error: they would do the same work side by side. Once in a
 * process, and before it starts threads but those that block the signals it waits for. */
bool comm_open(Comm **comm, Error *err);

/* The same error for what one process is to do: `what` is named in it. */
bool comm_alone(const char *what, Error *err);

/* From now on comm_sum adds up what lies on this device, which must outlive the Comm. */
bool comm_join(Comm *comm, Device *dev, Error *err);

/* Ends it. `ok`: whether this rank has done its work; where another has not, the result is false. What went wrong is
 * then printed by rank 0, with the number of the rank in front unless it went wrong on all, and no rank's error has a
 * text any more. When the others do not come within seconds to hear of it, a rank that failed prints it and ends
 * them all. */
bool comm_close(Comm *comm, bool ok, Error *err);

int comm_rank(const Comm *comm);
int comm_size(const Comm *comm);
int comm_local_rank(const Comm *comm); /* among those on this machine */
int comm_local_size(const Comm *comm);

/* Each rank's message, in order of rank: all[size * bytes]. Waits for all ranks; where one of them called
 * comm_close without being well, all get false. */
enum { COMM_MESSAGE = 48 };
bool comm_exchange(Comm *comm, const void *mine, size_t bytes, void *all, Error *err);

/* data[0..count), F32 or F64 on the joined device, becomes the sum over the ranks, in the order of its stream and
 * bit by bit the same everywhere. To be called only where all ranks have just been seen to be well
 * (comm_exchange), as they all wait for each other here. */
bool comm_sum(Comm *comm, void *data, DType dtype, int64_t count, Error *err);

/* Of host memory of first[size] bytes rank r has filled those from first[r] to first[r + 1]; then all have all. As
 * comm_sum, to be called where all are well. */
bool comm_collect(Comm *comm, void *data, const size_t *first, Error *err);

#endif
