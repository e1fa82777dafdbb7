/* Praat's `Resample`: a Fourier filter that leaves nothing over half the new rate, then sinc interpolation, 50 samples
 * deep. For formants, whose LPC must see the spectrum up to the last hertz (base/audio.h resamples for all else). */
#ifndef SEMOLLM_DATA_RESAMPLE_H
#define SEMOLLM_DATA_RESAMPLE_H

#include "base/base.h"

/* `out` gets round(duration * rate) samples, centred in the same duration; audio_free it. */
bool resample_praat(const Audio *audio, int rate, Audio *out, Error *err);

#endif
