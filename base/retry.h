/* Waits between tries: exponential back-off with jitter, so that clients that failed together do not come back
 * together. A wait is a pure function of (seed, who, try). */
#ifndef SEMOLLM_BASE_RETRY_H
#define SEMOLLM_BASE_RETRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct RetryPolicy {
    int tries;              /* in all, the first included */
    double first_s, most_s; /* the wait after the first failure, doubled after each more, up to most_s */
    uint64_t seed;
} RetryPolicy;

RetryPolicy retry_policy_default(void); /* 8 tries, 0.5 s doubled up to 60 s */

/* Seconds to wait after the failed try number `tried` (1, 2, ...) of `who` (a request's number): between half of the
 * doubled time and all of it; more than `asked_s` where a
 * server named a time (negative: it did not). */
double retry_delay(const RetryPolicy *policy, uint32_t who, int tried, double asked_s);

/* False as soon as *stop (may be null) is set. */
bool retry_wait(double seconds, const atomic_bool *stop);

#endif
