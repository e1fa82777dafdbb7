#include "data/resample.h"

#include <kissfft/kiss_fftr.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/peak.h"

enum {
    PADDING = 1000,                              /* zeros around all, against what a transform wraps round */
    CONTEXT = 1 << 13,                           /* samples around a block, against the filter's ringing */
    BLOCK = (1 << 18) - 2 * (CONTEXT + PADDING), /* so that long recordings need no long transforms */
    DEPTH = 50,
    TAPS = 2 * DEPTH,
    PHASES_MOST = 1 << 12, /* whose taps are kept */
};

static const double GRID = 1 << 24; /* places to a sample */

/* --- the filter --- */

/* As in Praat: of the last bin that stays the imaginary part may go. */
static void cut(kiss_fft_cpx *bins, int size, int limit) {
    for (int i = (limit - 2) / 2; i <= size / 2; i++) {
        if (2 * i + 1 >= limit || i == size / 2) bins[i].r = 0;
        if (2 * i + 2 >= limit) bins[i].i = 0;
    }
}

static bool filter_part(const float *samples, int64_t count, double share, float *filtered, Error *err) {
    int size = 1;
    while (size < count + 2 * PADDING)
        size *= 2; /* Praat's size: which bins are the last ones is heard in near silence */
    float *wave = memory_new((size_t)size, sizeof *wave, err);
    kiss_fft_cpx *bins = memory_new((size_t)(size / 2 + 1), sizeof *bins, err);
    kiss_fftr_cfg forward = kiss_fftr_alloc(size, 0, NULL, NULL), backward = kiss_fftr_alloc(size, 1, NULL, NULL);
    bool done = wave && bins && ((forward && backward) || fail(err, "out of memory: no room for an FFT of %d", size));
    if (done) {
        memcpy(wave + PADDING, samples, (size_t)count * sizeof *wave);
        kiss_fftr(forward, wave, bins);
        cut(bins, size, (int)(share * size));
        kiss_fftri(backward, bins, wave);
        for (int64_t i = 0; i < count; i++) filtered[i] = wave[PADDING + i] / (float)size;
    }
    free(wave);
    free(bins);
    kiss_fftr_free(forward);
    kiss_fftr_free(backward);
    return done;
}

/* Leaves of the spectrum the lowest `share`. */
static bool low_pass(const Audio *audio, double share, float *filtered, Error *err) {
    int64_t most = BLOCK + 2 * CONTEXT;
    float *part = memory_new((size_t)(audio->count < most ? audio->count : most), sizeof *part, err);
    bool done = part != NULL;
    for (int64_t start = 0; start < audio->count && done; start += BLOCK) {
        int64_t from = start > CONTEXT ? start - CONTEXT : 0, end = start + BLOCK;
        if (end > audio->count) end = audio->count;
        int64_t to = audio->count - end > CONTEXT ? end + CONTEXT : audio->count;
        done = filter_part(audio->samples + from, to - from, share, part, err);
        if (done) memcpy(filtered + start, part + (start - from), (size_t)(end - start) * sizeof *filtered);
    }
    free(part);
    return done;
}

/* --- the interpolation --- */

/* The places of new samples among the old ones repeat their phases after `period` samples; taps are kept for those. */
typedef struct Interpolator {
    const float *samples;
    int64_t count;
    double first, stride; /* the place of sample 0, and from one to the next */
    int64_t period;
    float *taps; /* [period][TAPS] */
} Interpolator;

/* Rounded, so that a place right on a sample is just there however its sum came out: else that phase's taps, kept for
 * all such places, would now and then be those of the sample beside it. */
static double place_of(const Interpolator *in, int64_t i) {
    return floor((in->first + (double)i * in->stride) * GRID + 0.5) / GRID;
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

static bool interpolator_new(Interpolator *in, const Audio *audio, const Audio *out, Error *err) {
    double duration = (double)audio->count / audio->rate,
           centre = 0.5 * (duration - (double)(out->count - 1) / out->rate);
    in->count = audio->count;
    in->first = centre * audio->rate - 0.5;
    in->stride = (double)audio->rate / out->rate;
    in->period = out->rate / common_divisor(audio->rate, out->rate);
    if (in->period > out->count) in->period = out->count;
    if (in->period > PHASES_MOST) in->period = 1; /* too many to keep */
    in->taps = memory_new((size_t)in->period * TAPS, sizeof *in->taps, err);
    if (!in->taps) return false;
    for (int64_t i = 0; i < in->period; i++) {
        double place = place_of(in, i), phase = place - floor(place);
        if (phase > 0) sinc_taps(in->taps + i * TAPS, DEPTH, phase);
    }
    return true;
}

/* Near the ends, where fewer samples than DEPTH are on one side, as in Praat. */
static float value_near_end(const Interpolator *in, int64_t left, double phase) {
    if (left < 0) return in->samples[0];
    if (left >= in->count - 1) return in->samples[in->count - 1];
    int64_t depth = left + 1 < in->count - 1 - left ? left + 1 : in->count - 1 - left;
    if (depth < 2) return in->samples[left] + (float)phase * (in->samples[left + 1] - in->samples[left]);
    float taps[TAPS], sum = 0;
    if (depth > DEPTH) depth = DEPTH;
    sinc_taps(taps, (int)depth, phase);
    for (int64_t k = 0; k < 2 * depth; k++) sum += taps[k] * in->samples[left + 1 - depth + k];
    return sum;
}

static float value_at(const Interpolator *in, int64_t i, bool kept) {
    double place = place_of(in, i);
    int64_t left = (int64_t)floor(place);
    double phase = place - (double)left;
    bool inside = left + 1 >= DEPTH && left + DEPTH < in->count;
    if (phase == 0 && left >= 0 && left < in->count) return in->samples[left];
    if (!inside || !kept) return value_near_end(in, left, phase);
    const float *taps = in->taps + i % in->period * TAPS, *samples = in->samples + left + 1 - DEPTH;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < TAPS; k++) sum += samples[k] * taps[k];
    return sum;
}

static bool interpolate(const Audio *audio, const float *samples, Audio *out, Error *err) {
    Interpolator in = {.samples = samples};
    if (!interpolator_new(&in, audio, out, err)) return false;
    bool kept = in.period > 1 || out->count == 1;
    for (int64_t i = 0; i < out->count; i++) out->samples[i] = value_at(&in, i, kept);
    free(in.taps);
    return true;
}

bool resample_praat(const Audio *audio, int rate, Audio *out, Error *err) {
    double share = (double)rate / audio->rate;
    int64_t count = (int64_t)floor((double)audio->count / audio->rate * rate + 0.5);
    *out = (Audio){.samples = memory_new((size_t)count, sizeof(float), err), .count = count, .rate = rate};
    float *filtered = share < 1 ? memory_new((size_t)audio->count, sizeof *filtered, err) : NULL;
    bool done = out->samples && (share >= 1 || filtered);
    if (done && share == 1) {
        memcpy(out->samples, audio->samples, (size_t)count * sizeof(float));
    } else if (done && count > 0) {
        done = (share > 1 || low_pass(audio, share, filtered, err)) &&
               interpolate(audio, filtered ? filtered : audio->samples, out, err);
    }
    free(filtered);
    if (!done) audio_free(out);
    return done;
}
