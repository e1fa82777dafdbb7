/* Fundamental frequency as Praat's `To Pitch (ac)` finds it (P. Boersma, "Accurate short-term analysis
 * of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound", IFA Proceedings
 * 17, 1993): candidates are maxima of a frame's autocorrelation divided by the window's, and the
 * cheapest path through them, with costs for jumps and voicing changes, is the contour. */
#ifndef SEMOLLM_DATA_PITCH_H
#define SEMOLLM_DATA_PITCH_H

#include "data/contour.h"

/* As in Praat there are at least ceiling / floor candidates; this bounds that quotient. */
enum { PITCH_CANDIDATES_MAX = 60 };

typedef struct PitchOptions {
    double step_s, floor_hz, ceiling_hz;
    int candidates; /* with the unvoiced one */
    double silence, voicing, octave_cost, octave_jump_cost, voicing_change_cost;
} PitchOptions;

PitchOptions pitch_options_default(void); /* 0.01 s, 75 to 600 Hz, 15, 0.03, 0.45, 0.01, 0.35, 0.14 */

/* Hz, 0 where unvoiced. No frame where the sound is shorter than three periods of the floor. */
bool pitch_track(const Audio *audio, const PitchOptions *options, Contour *pitch, Error *err);

/* Whether a contour is voiced at `time`, by its nearest frame; and its value there, linear between
 * voiced neighbours (0 where unvoiced). */
double pitch_at(const Contour *pitch, double time);

#endif
