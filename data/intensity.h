/* Praat's `To Intensity`: dB above 2e-5 Pa of the energy under a Kaiser-20 window of 6.4 / floor
 * seconds, 0.8 / floor apart, the window's mean subtracted. No frame where the sound is shorter. */
#ifndef SEMOLLM_DATA_INTENSITY_H
#define SEMOLLM_DATA_INTENSITY_H

#include "data/contour.h"

bool intensity_track(const Audio *audio, double floor_hz, Contour *intensity, Error *err);

#endif
