/* SIGINT, SIGTERM and SIGUSR1 (which mpirun hands on to its ranks): the first asks what runs to end soon, the second
 * ends it at once. */
#ifndef SEMOLLM_TRAIN_STOP_H
#define SEMOLLM_TRAIN_STOP_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/error.h"

typedef struct Stopper {
    atomic_bool asked, quiet; /* quiet: says nothing of it */
    pthread_t thread;
    sigset_t signals, before;
    bool running;
    const char *saying; /* what it tells at the first; null: that training stops after its step */
} Stopper;

/* Blocks the signals for this thread and all that it starts, and waits for them in a thread of its own; so
 * it comes before any other thread is started. */
bool stopper_start(Stopper *stopper, Error *err);
void stopper_end(Stopper *stopper);

#endif
