#include "kernels/profile.h"

#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "kernels/device_impl.h"
#include "kernels/profile_impl.h"

#ifdef SEMOLLM_CUDA
#include "kernels/cuda/cuda.h"
#endif

typedef struct Span {
    const char *op;
    void *mark[2];     /* CUDA: events before and after */
    double seconds[2]; /* the CPU's clock */
} Span;

struct Profile {
    Span *spans;
    size_t count, capacity;
};

static bool take_mark(Device *dev, Span *span, int which, Error *err) {
#ifdef SEMOLLM_CUDA
    if (dev->kind == DEVICE_CUDA) return cuda_mark(dev, &span->mark[which], err);
#endif
    (void)dev, (void)err;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    span->seconds[which] = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return true;
}

static bool seconds_of(Device *dev, const Span *span, double *seconds, Error *err) {
#ifdef SEMOLLM_CUDA
    if (dev->kind == DEVICE_CUDA) return cuda_mark_seconds(span->mark[0], span->mark[1], seconds, err);
#endif
    (void)dev, (void)err;
    *seconds = span->seconds[1] - span->seconds[0];
    return true;
}

static void profile_free(Device *dev) {
    struct Profile *profile = dev->profile;
#ifdef SEMOLLM_CUDA
    for (size_t i = 0; i < profile->count; i++)
        for (int which = 0; which < 2; which++) cuda_mark_free(profile->spans[i].mark[which]);
#endif
    free(profile->spans);
    free(profile);
    dev->profile = NULL;
}

bool profile_begin(Device *dev, Error *err) {
    if (dev->profile) return fail(err, "this device's operations are being timed already");
    dev->profile = memory_new(1, sizeof *dev->profile, err);
    return dev->profile != NULL;
}

bool profile_op_begin(Device *dev, const char *op, Error *err) {
    struct Profile *profile = dev->profile;
    if (!memory_grow(&profile->spans, profile->count, &profile->capacity, sizeof *profile->spans, err)) return false;
    Span *span = &profile->spans[profile->count++];
    *span = (Span){.op = op};
    return take_mark(dev, span, 0, err);
}

bool profile_op_end(Device *dev, Error *err) {
    return take_mark(dev, &dev->profile->spans[dev->profile->count - 1], 1, err);
}

static bool add_span(Device *dev, const Span *span, ProfiledOp *times, int *count, Error *err) {
    double seconds;
    int i = 0;
    if (!seconds_of(dev, span, &seconds, err)) return false;
    while (i < *count && times[i].op != span->op) i++;
    if (i == *count) times[(*count)++] = (ProfiledOp){.op = span->op};
    times[i].calls++;
    times[i].seconds += seconds;
    return true;
}

static int longer(const void *a, const void *b) {
    double x = ((const ProfiledOp *)a)->seconds, y = ((const ProfiledOp *)b)->seconds;
    return (x < y) - (x > y);
}

bool profile_end(Device *dev, ProfiledOp *times, int *count, Error *err) {
    *count = 0;
    if (!dev->profile) return fail(err, "this device's operations were not being timed");
    bool ok = device_wait(dev, err);
    for (size_t i = 0; ok && i < dev->profile->count; i++)
        ok = add_span(dev, &dev->profile->spans[i], times, count, err);
    profile_free(dev);
    if (ok) qsort(times, (size_t)*count, sizeof *times, longer);
    return ok;
}
