/* The voice-quality features: jitter, shimmer, harmonics-to-noise ratio, alpha ratio and formants. Private to data/. */
#ifndef SEMOLLM_DATA_VOICE_QUALITY_H
#define SEMOLLM_DATA_VOICE_QUALITY_H

#include "data/contour.h"
#include "data/features.h"
#include "data/formants.h"

/* `pitch`: the contour of the same audio. `track` may be null; free it with formants_free. Where it is wanted all
 * frames' formants are found, else only those that the features need. */
bool voice_quality_measure(const Audio *audio, const Contour *pitch, int formant_ceiling_hz, Features *features,
                           FormantTrack *track, Error *err);

#endif
