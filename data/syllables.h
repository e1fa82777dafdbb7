/* Speech, pauses and syllable nuclei by N. H. de Jong & T. Wempe, "Praat script to detect syllable
 * nuclei and measure speech rate automatically", Behavior Research Methods 41, 2009 (their script's
 * defaults: silence 25 dB under the 99th percentile, pauses from 0.3 s, dips of 2 dB). */
#ifndef SEMOLLM_DATA_SYLLABLES_H
#define SEMOLLM_DATA_SYLLABLES_H

#include "data/contour.h"

typedef struct Syllables {
    bool exists; /* false where the sound is too short to measure */
    double speech_s;
    int stretches; /* of speech, with pauses between them */
    int nuclei;
} Syllables;

bool syllables_measure(const Audio *audio, Syllables *syllables, Error *err);

#endif
