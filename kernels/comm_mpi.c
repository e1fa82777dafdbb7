/* Ranks over MPI. What waits for other ranks' work sleeps between looks: MPI's own waiting would take the cores
 * that they compute on. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/progress.h"
#include "kernels/comm_impl.h"

enum { COUNT_MOST = 1 << 28 }; /* elements of one call; MPI counts in int */
static const double GRACE = 3; /* seconds that the others have to hear of a failure */

typedef struct Message {
    int32_t failed, bytes;
    unsigned char data[COMM_MESSAGE];
} Message;

typedef struct CommMpi {
    MPI_Comm world;
    Message *messages; /* [size] */
} CommMpi;

/* ---- opening and closing ---- */

static bool find_neighbours(Comm *comm) {
    MPI_Comm local;
    if (MPI_Comm_split_type(comm->mpi->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local) != MPI_SUCCESS)
        return false;
    MPI_Comm_rank(local, &comm->local_rank);
    MPI_Comm_size(local, &comm->local_size);
    return MPI_Comm_free(&local) == MPI_SUCCESS;
}

/* MPI ends the program by itself where one of its calls fails, and says so. */
Comm *mpi_open(Error *err) {
    int given;
    Comm *comm = memory_new(1, sizeof *comm, err);
    if (comm) comm->mpi = memory_new(1, sizeof *comm->mpi, err);
    if (comm && comm->mpi && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) == MPI_SUCCESS) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comm->mpi->world);
        MPI_Comm_rank(comm->mpi->world, &comm->rank);
        MPI_Comm_size(comm->mpi->world, &comm->size);
        comm->mpi->messages = memory_new((size_t)comm->size, sizeof *comm->mpi->messages, err);
        if (comm->mpi->messages && find_neighbours(comm)) return comm;
    }
    mpi_close(comm);
    return NULL;
}

void mpi_close(Comm *comm) {
    int begun = 0;
    if (!comm) return;
    MPI_Initialized(&begun);
    if (begun) MPI_Comm_free(&comm->mpi->world);
    if (begun) MPI_Finalize();
    if (comm->mpi) free(comm->mpi->messages);
    free(comm->mpi);
    free(comm);
}

/* ---- messages ---- */

/* Whether it came to its end within so many seconds. */
static bool await(MPI_Request *request, double seconds) {
    double began = clock_seconds();
    int done = 0;
    for (long turn = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done; turn++) {
        if (clock_seconds() - began > seconds) return false;
        long pause = turn < 100 ? 0 : turn < 1100 ? turn - 100 : 1000; /* microseconds */
        if (pause) nanosleep(&(struct timespec){.tv_nsec = 1000 * pause}, NULL);
    }
    return true;
}

static bool send_messages(Comm *comm, const Message *mine, double seconds) {
    MPI_Request request;
    MPI_Iallgather(mine, sizeof *mine, MPI_BYTE, comm->mpi->messages, sizeof *mine, MPI_BYTE, comm->mpi->world,
                   &request);
    return await(&request, seconds);
}

/* The error of the lowest rank that failed becomes rank 0's. Where all failed, all most likely for the same reason,
 * it needs no rank. */
static bool share_failure(Comm *comm, Error *err) {
    Error shared = *err;
    MPI_Request request;
    int first = 0, count = 0;
    while (!comm->mpi->messages[first].failed) first++;
    for (int r = 0; r < comm->size; r++) count += comm->mpi->messages[r].failed;
    MPI_Ibcast(&shared, sizeof shared, MPI_BYTE, first, comm->mpi->world, &request);
    await(&request, GRACE);
    comm->over = true;
    *err = shared;
    if (comm->rank != 0)
        err->text[0] = '\0';
    else if (count < comm->size)
        fail_in(err, "rank %d", first);
    return false;
}

static bool any_failed(const Comm *comm) {
    bool failed = false;
    for (int r = 0; r < comm->size; r++) failed = failed || comm->mpi->messages[r].failed;
    return failed;
}

bool mpi_exchange(Comm *comm, const void *mine, size_t bytes, void *all, Error *err) {
    Message message = {.bytes = (int32_t)bytes};
    if (bytes) memcpy(message.data, mine, bytes);
    if (comm->over) return false;
    send_messages(comm, &message, HUGE_VAL);
    if (any_failed(comm)) return share_failure(comm, err);
    for (int r = 0; r < comm->size; r++) {
        if (comm->mpi->messages[r].bytes != message.bytes) return fail(err, "the ranks are not at the same place");
        if (bytes) memcpy((char *)all + (size_t)r * bytes, comm->mpi->messages[r].data, bytes);
    }
    return true;
}

static void say(const Error *err) {
    fprintf(stderr, "semollm: %s\n", err->text);
    fflush(stderr);
}

static _Noreturn void end_all(const Comm *comm, Error *err) {
    fail_in(err, "rank %d", comm->rank);
    say(err);
    MPI_Abort(comm->mpi->world, err->exit_code);
    _Exit(err->exit_code);
}

/* Said before anybody leaves: a launcher that sees one fail ends the others. */
static bool leave(Comm *comm, Error *err) {
    MPI_Request request;
    if (comm->rank == 0) say(err);
    err->text[0] = '\0';
    MPI_Ibarrier(comm->mpi->world, &request);
    await(&request, GRACE);
    return false;
}

bool mpi_finish(Comm *comm, bool ok, Error *err) {
    const Message message = {.failed = !ok};
    if (comm->over) return leave(comm, err);
    if (comm->broken || !send_messages(comm, &message, ok ? HUGE_VAL : GRACE)) end_all(comm, err);
    if (!any_failed(comm)) return true;
    share_failure(comm, err);
    return leave(comm, err);
}

/* ---- memory ---- */

bool mpi_sum(Comm *comm, void *data, DType dtype, int64_t count, Error *err) {
    MPI_Datatype type = dtype == DTYPE_F64 ? MPI_DOUBLE : MPI_FLOAT;
    (void)err;
    for (int64_t done = 0, part; done < count; done += part) {
        part = count - done < COUNT_MOST ? count - done : COUNT_MOST;
        MPI_Allreduce(MPI_IN_PLACE, (char *)data + (size_t)done * dtype_size(dtype), (int)part, type, MPI_SUM,
                      comm->mpi->world);
    }
    return true;
}

bool mpi_collect(Comm *comm, void *data, const size_t *first, Error *err) {
    (void)err;
    for (int r = 0; r < comm->size; r++)
        for (size_t done = first[r], part; done < first[r + 1]; done += part) {
            part = first[r + 1] - done < COUNT_MOST ? first[r + 1] - done : COUNT_MOST;
            MPI_Bcast((char *)data + done, (int)part, MPI_BYTE, r, comm->mpi->world);
        }
    return true;
}
