#include "base/retry.h"

#include <math.h>
#include <time.h>

#include "base/progress.h"
#include "base/rng.h"

RetryPolicy retry_policy_default(void) { return (RetryPolicy){.tries = 8, .first_s = 0.5, .most_s = 60}; }

double retry_delay(const RetryPolicy *policy, uint32_t who, int tried, double asked_s) {
    double full = fmin(ldexp(policy->first_s, tried < 64 ? tried - 1 : 63), policy->most_s);
    Rng rng = rng_stream(policy->seed, PLACE_RETRY, who, (uint32_t)tried);
    double share = 0.5 + 0.5 * (double)rng_uniform(rng_next(&rng));
    /* Jitter comes on top of what a server asks for: all its clients were told the same. */
    return asked_s > 0 ? asked_s + full * (share - 0.5) : full * share;
}

bool retry_wait(double seconds, const atomic_bool *stop) {
    double until = clock_seconds() + seconds, left;
    while ((left = until - clock_seconds()) > 0) {
        if (stop && atomic_load(stop)) return false;
        double nap = fmin(left, 0.05);
        nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    }
    return !stop || !atomic_load(stop);
}
