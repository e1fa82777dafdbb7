/* The harmonics-to-noise ratio as Praat's `To Harmonicity (cc)` finds it (Boersma 1993): of each frame the greatest
 * correlation r of a period's length of sound with what follows it, as 10 log10(r / (1 - r)). */
#ifndef SEMOLLM_DATA_HARMONICITY_H
#define SEMOLLM_DATA_HARMONICITY_H

#include "base/base.h"

/* dB, the mean of the frames that sound, with Praat's standard settings (0.01 s, 75 Hz, 0.1, 1 period); NaN where there
 * is none. */
bool harmonicity_measure(const Audio *audio, double *mean_db, Error *err);

#endif
