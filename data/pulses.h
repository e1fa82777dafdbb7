/* Glottal pulses as Praat's `Sound & Pitch: To PointProcess (cc)` places them, and what Praat takes of them: jitter
 * (how irregular their periods are) and shimmer (how irregular their amplitudes are). */
#ifndef SEMOLLM_DATA_PULSES_H
#define SEMOLLM_DATA_PULSES_H

#include "data/contour.h"

typedef struct Pulses {
    double *time; /* [count], seconds, rising */
    size_t count, capacity;
} Pulses;

/* `pitch`: the contour of the same audio. */
bool pulses_find(const Audio *audio, const Contour *pitch, Pulses *pulses, Error *err);
void pulses_free(Pulses *pulses);

/* `Get jitter (local)` and `Get shimmer (local)` over all of the sound with periods of 0.1 to 20 ms, neighbours at most
 * 1.3 times each other (amplitudes 1.6 times); NaN where there are too few. */
double pulses_jitter(const Pulses *pulses);
bool pulses_shimmer(const Pulses *pulses, const Audio *audio, double *shimmer, Error *err);

#endif
