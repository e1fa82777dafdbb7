/* A progress line on stderr: a bar with rate and ETA on a terminal, redrawn at most ten times a
 * second; elsewhere a plain line every ten seconds and one at the end. */
#ifndef SEMOLLM_BASE_PROGRESS_H
#define SEMOLLM_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Progress {
    const char *label, *unit;
    int64_t total, done, first; /* `first`: done when it began, so that a resumed run's rate is right */
    double began, drawn;        /* seconds, monotonic */
    bool terminal, quiet;
} Progress;

void progress_begin(Progress *progress, const char *label, const char *unit, int64_t first, int64_t total);
/* `note` (may be null) is shown after the rate: "loss 1.23". */
void progress_update(Progress *progress, int64_t done, const char *note);
void progress_end(Progress *progress);

double clock_seconds(void); /* monotonic */

#endif
