/* Progress lines of many small runs would bury a test's own output: stderr to /dev/null for a while. */
#ifndef SEMOLLM_TESTS_QUIET_H
#define SEMOLLM_TESTS_QUIET_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Returns what quiet_end wants back. SHOW_RUNS in the environment keeps the lines. */
static inline int quiet_begin(void) {
    if (getenv("SHOW_RUNS")) return -1;
    fflush(stderr);
    int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept < 0 || nowhere < 0) abort();
    dup2(nowhere, STDERR_FILENO);
    close(nowhere);
    return kept;
}

static inline void quiet_end(int kept) {
    if (kept < 0) return;
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
}

#endif
