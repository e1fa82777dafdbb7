/* The height and place of a maximum between samples, by Praat's sinc interpolation (70 samples to each
 * side under a raised cosine), for tracking pitch and finding syllables. Private to data/. */
#ifndef SEMOLLM_DATA_PEAK_H
#define SEMOLLM_DATA_PEAK_H

#include "base/base.h"

typedef struct Peak {
    double place, height;
} Peak;

typedef struct PeakTable PeakTable;

PeakTable *peak_table_new(Error *err);
void peak_table_free(PeakTable *table);

/* The maximum near the local maximum y[i] of a curve known from y[first] to y[last];
 * first < i < last, and `first` may be negative. */
Peak peak_refine(PeakTable *table, const float *y, int64_t first, int64_t last, int64_t i);

/* The weights of the samples left+1-depth .. left+depth, for the curve's value at `phase` (over 0, under 1) after
 * sample `left`. */
void sinc_taps(float *taps, int depth, double phase);

#endif
