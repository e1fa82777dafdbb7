#include "train/stop.h"

#include <stdio.h>
#include <unistd.h>

static void *wait_for_signals(void *argument) {
    Stopper *stopper = argument;
    int number;
    if (sigwait(&stopper->signals, &number) != 0) return NULL;
    atomic_store(&stopper->asked, true);
    const char *saying = stopper->saying ? stopper->saying : "stopping after this step and its checkpoint";
    if (!atomic_load(&stopper->quiet)) fprintf(stderr, "\n%s; once more to quit at once\n", saying);
    if (sigwait(&stopper->signals, &number) == 0) _exit(128 + number);
    return NULL;
}

bool stopper_start(Stopper *stopper, Error *err) {
    atomic_init(&stopper->asked, false);
    atomic_init(&stopper->quiet, false);
    sigemptyset(&stopper->signals);
    sigaddset(&stopper->signals, SIGINT);
    sigaddset(&stopper->signals, SIGTERM);
    sigaddset(&stopper->signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &stopper->signals, &stopper->before);
    stopper->running = pthread_create(&stopper->thread, NULL, wait_for_signals, stopper) == 0;
    if (stopper->running) return true;
    pthread_sigmask(SIG_SETMASK, &stopper->before, NULL);
    return fail(err, "the thread that waits for signals could not be started");
}

void stopper_end(Stopper *stopper) {
    if (!stopper->running) return;
    pthread_cancel(stopper->thread); /* sigwait is a cancellation point */
    pthread_join(stopper->thread, NULL);
    pthread_sigmask(SIG_SETMASK, &stopper->before, NULL);
    stopper->running = false;
}
