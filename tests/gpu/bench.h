/* What gpu-check's programs share: a device of the kind that is asked for, clocks, made-up clips, lines of JSON. */
#ifndef SEMOLLM_TESTS_GPU_BENCH_H
#define SEMOLLM_TESTS_GPU_BENCH_H

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "kernels/kernels.h"
#include "model/draw.h"

enum { BENCH_PROMPT = 50, BENCH_ANSWER = 60, BENCH_REPEATS = 7 };

static inline double bench_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline int bench_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, bench_order);
    return values[count / 2];
}

/* Clip i of a mixture from 1 to 15 s: the same that `--estimate` assumes and gpu_peer.py takes. */
static inline int64_t bench_samples(int64_t i) {
    return (int64_t)((1 + 14 * fmod((double)i * 0.6180339887498949, 1)) * 16000);
}

static inline int64_t bench_frames(int64_t samples) {
    static const int kernel[] = {10, 3, 3, 3, 3, 2, 2}, stride[] = {5, 2, 2, 2, 2, 2, 2};
    for (int i = 0; i < 7; i++) samples = (samples - kernel[i]) / stride[i] + 1;
    return samples;
}

/* Seconds that a call takes when many are under way: the median of several runs of enough calls. With `least` 0 of one
 * call, as sanitizers are slow. */
typedef bool BenchCall(Device *dev, const void *args, Error *err);

static inline bool bench_runs(Device *dev, BenchCall *call, const void *args, int count, double *seconds, Error *err) {
    double start = bench_clock();
    for (int i = 0; i < count; i++)
        if (!call(dev, args, err)) return false;
    if (!device_wait(dev, err)) return false;
    *seconds = (bench_clock() - start) / count;
    return true;
}

static inline bool bench_seconds(Device *dev, BenchCall *call, const void *args, double least, double *seconds,
                                 Error *err) {
    double times[BENCH_REPEATS], once;
    if (least <= 0) return bench_runs(dev, call, args, 1, seconds, err);
    if (!bench_runs(dev, call, args, 1, &once, err) || !bench_runs(dev, call, args, 2, &once, err)) return false;
    int count = (int)fmin(fmax(least / once, 1), 2000);
    for (int i = 0; i < BENCH_REPEATS; i++)
        if (!bench_runs(dev, call, args, count, &times[i], err)) return false;
    *seconds = bench_median(times, BENCH_REPEATS);
    return true;
}

/* The device named by a program's first argument. */
static inline Device *bench_device(const char *name, Error *err) {
    if (!strcmp(name, "cpu")) return device_open(DEVICE_CPU, 0, err);
    return device_open_cuda(0, DTYPE_BF16, err);
}

static inline const char *bench_escape(const char *text) {
    static char out[600];
    size_t n = 0;
    for (; *text && n < sizeof out - 2; text++)
        if (*text != '"' && *text != '\\' && (unsigned char)*text >= 32) out[n++] = *text;
    out[n] = '\0';
    return out;
}

#endif
