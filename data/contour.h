/* A measure over time on Praat's frames, and the statistics Praat takes of one. Private to data/. */
#ifndef SEMOLLM_DATA_CONTOUR_H
#define SEMOLLM_DATA_CONTOUR_H

#include "base/base.h"

typedef struct Contour {
    double start, step; /* seconds: the centre of frame 0, between centres */
    int64_t count;
    double *value; /* [count] */
} Contour;

/* As many frames of `window` seconds, `step` apart, as fit, centred in `duration`; none where the
 * window is the longer. Allocates `value`. */
bool contour_new(Contour *contour, double duration, double window, double step, Error *err);
void contour_free(Contour *contour);

static inline double contour_time(const Contour *contour, int64_t frame) {
    return contour->start + (double)frame * contour->step;
}

/* As Praat computes it: the last bit decides which sample a frame's centre is nearest to. */
static inline double contour_duration(const Audio *audio) { return 1.0 / audio->rate * (double)audio->count; }

/* The place of `time` among samples, counted from 1, that stand in the middle of their intervals, rounded in the same
 * steps as Praat's: frames often fall right between two samples. */
static inline double contour_sample(double time, int rate) {
    double interval = 1.0 / rate;
    return (time - 0.5 * interval) / interval + 1;
}

/* Praat's quantile of values sorted upwards (points at (i + 0.5) / n, linear between, extended past
 * the ends); NaN of none. */
double quantile_praat(const double *sorted, int64_t count, double share);

void sort_values(double *values, int64_t count);

#endif
