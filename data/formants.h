/* Formants as Praat's `To Formant (burg)` finds them: the sound resampled to twice the ceiling, pre-emphasised from 50
 * Hz, and under each Gaussian window of 50 ms ten coefficients of linear prediction by Burg's method (Childers, "Modern
 * spectrum analysis", 1978, 252-255), whose polynomial's roots are the formants. */
#ifndef SEMOLLM_DATA_FORMANTS_H
#define SEMOLLM_DATA_FORMANTS_H

#include "data/contour.h"

enum { FORMANTS = 3 };

typedef struct FormantTrack {
    double start, step; /* seconds: the centre of frame 0, between centres */
    int64_t count;
    double (*hz)[FORMANTS]; /* [count]; NaN where there is none */
} FormantTrack;

/* `voiced`, if not null, leaves out the frames that no voiced frame of that contour of F0 lies at. */
bool formants_track(const Audio *audio, int ceiling_hz, const Contour *voiced, FormantTrack *track, Error *err);
void formants_free(FormantTrack *track);

/* `Get value at time`: between the frames beside `time`, if both have that formant; NaN where the nearer has none. */
double formant_at(const FormantTrack *track, int formant, double time);

#endif
