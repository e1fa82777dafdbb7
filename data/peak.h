/* The height and place of a maximum between samples, by Praat's sinc interpolation (70 samples to each
 * side under a raised cosine), for tracking pitch and finding syllables. Private to data/. */
#ifndef SEMOLLM_DATA_PEAK_H
#define SEMOLLM_DATA_PEAK_H

#include "base/base.h"

typedef struct Peak {
    double lag, height; /* the maximum: its place in samples; above 1, 1 / height */
} Peak;

typedef struct PeakTable PeakTable;

PeakTable *peak_table_new(Error *err);
void peak_table_free(PeakTable *table);

/* The maximum near the local maximum r[i] of a correlation known at lags -last .. last. */
Peak peak_refine(PeakTable *table, const float *r, int64_t last, int64_t i);

#endif
