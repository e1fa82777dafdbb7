/* The alpha ratio (F. Eyben et al., "The Geneva minimalistic acoustic parameter set", 2016): how much stronger a voice
 * is below 1 kHz than over it, which falls with vocal effort. */
#ifndef SEMOLLM_DATA_ALPHA_RATIO_H
#define SEMOLLM_DATA_ALPHA_RATIO_H

#include "data/contour.h"

/* dB: the energy from 50 to 1000 Hz over that from 1 to 5 kHz, each summed over the voiced frames of `pitch` (Hann
 * windows of 40 ms); NaN where either is nothing or the sample rate ends below 10 kHz. */
bool alpha_ratio_measure(const Audio *audio, const Contour *pitch, double *ratio_db, Error *err);

#endif
