/* The synthetic signals of tests/oracle/features.py, by the same formulae. */
#ifndef SEMOLLM_TESTS_DATA_SIGNALS_H
#define SEMOLLM_TESTS_DATA_SIGNALS_H

#include <math.h>

#include "base/base.h"

typedef struct Signal {
    double rate, count, f0, glide, vibrato_hz, vibrato_depth, harmonics, syllables_hz, level, noise, seed, pause_from,
        pause_to;
} Signal;

static inline double signal_noise(uint64_t seed, int64_t i) {
    uint32_t word = philox(seed, (uint32_t)(i / 4), 0, 0, 0).word[i % 4];
    return 2 * (((double)(word >> 8) + 0.5) * 0x1p-24) - 1;
}

static inline double signal_at(const Signal *s, int64_t i) {
    const double pi = 3.14159265358979323846;
    double t = (double)i / s->rate;
    double vibrato = s->vibrato_depth * sin(2 * pi * s->vibrato_hz * t) / (2 * pi * s->vibrato_hz);
    double phase = 2 * pi * (s->f0 * t + 0.5 * s->glide * t * t + s->f0 * vibrato), voice = 0;
    for (int h = 1; h <= (int)s->harmonics; h++) voice += sin(h * phase) / h;
    double syllable = sin(pi * s->syllables_hz * t);
    bool open = !(t >= s->pause_from && t < s->pause_to);
    return (open ? s->level * syllable * syllable * voice : 0) + s->noise * signal_noise((uint64_t)s->seed, i);
}

static inline bool signal_make(const Signal *s, Audio *audio, Error *err) {
    *audio = (Audio){.count = (int64_t)s->count, .rate = (int)s->rate};
    audio->samples = memory_new((size_t)audio->count, sizeof *audio->samples, err);
    for (int64_t i = 0; audio->samples && i < audio->count; i++) audio->samples[i] = (float)signal_at(s, i);
    return audio->samples != NULL;
}

#endif
