/* Progress lines of many small runs would bury a test's own output: stderr to /dev/null for a while. */
#ifndef SEMOLLM_TESTS_QUIET_H
#define SEMOLLM_TESTS_QUIET_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Sends a stream to /dev/null. Returns what hush_end wants back. SHOW_RUNS in the environment keeps the lines. */
static inline int hush_begin(FILE *stream) {
    if (getenv("SHOW_RUNS")) return -1;
    fflush(stream);
    int kept = dup(fileno(stream)), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept < 0 || nowhere < 0) abort();
    dup2(nowhere, fileno(stream));
    close(nowhere);
    return kept;
}

static inline void hush_end(FILE *stream, int kept) {
    if (kept < 0) return;
    fflush(stream);
    dup2(kept, fileno(stream));
    close(kept);
}

static inline int quiet_begin(void) { return hush_begin(stderr); }
static inline void quiet_end(int kept) { hush_end(stderr, kept); }

#endif
