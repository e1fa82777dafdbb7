/* Integrated loudness by EBU R128 (libebur128). */
#ifndef SEMOLLM_DATA_LOUDNESS_H
#define SEMOLLM_DATA_LOUDNESS_H

#include "base/base.h"

/* LUFS; NaN for silence. A sound shorter than a gate block (0.4 s) is one block of what is there. */
bool loudness_measure(const Audio *audio, double *lufs, Error *err);

#endif
