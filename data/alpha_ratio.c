#include "data/alpha_ratio.h"

#include <kissfft/kiss_fftr.h>
#include <math.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;
static const double WINDOW_S = 0.04, LOWEST_HZ = 50, MIDDLE_HZ = 1000, HIGHEST_HZ = 5000;

typedef struct Spectra {
    const Audio *audio;
    int64_t window;
    int size;                              /* of the transform */
    float *taper, *frame, *lower, *higher; /* lower, higher: how much of each bin lies in the bands */
    kiss_fft_cpx *bins;
    kiss_fftr_cfg transform;
} Spectra;

/* Of the bin's width, half to each side of its frequency, the share that lies in a band. */
static float share(double place, double first, double last) {
    double from = fmax(place - 0.5, first), to = fmin(place + 0.5, last);
    return to > from ? (float)(to - from) : 0;
}

static bool spectra_new(Spectra *s, const Audio *audio, Error *err) {
    *s = (Spectra){.audio = audio, .window = (int64_t)floor(WINDOW_S * audio->rate + 0.5)};
    s->size = kiss_fftr_next_fast_size_real((int)s->window);
    size_t size = (size_t)s->size, bins = size / 2 + 1;
    s->taper = memory_new((size_t)s->window, sizeof *s->taper, err);
    s->frame = memory_new(size, sizeof *s->frame, err);
    s->lower = memory_new(bins, sizeof *s->lower, err);
    s->higher = memory_new(bins, sizeof *s->higher, err);
    s->bins = memory_new(bins, sizeof *s->bins, err);
    s->transform = kiss_fftr_alloc(s->size, 0, NULL, NULL);
    if (!s->taper || !s->frame || !s->lower || !s->higher || !s->bins) return false;
    if (!s->transform) return fail(err, "out of memory: no room for an FFT of %d", s->size);
    double width = (double)audio->rate / s->size;
    for (size_t i = 0; i < bins; i++) {
        s->lower[i] = share((double)i, LOWEST_HZ / width, MIDDLE_HZ / width);
        s->higher[i] = share((double)i, MIDDLE_HZ / width, HIGHEST_HZ / width);
    }
    for (int64_t i = 0; i < s->window; i++)
        s->taper[i] = (float)(0.5 - 0.5 * cos(2 * PI * ((double)i + 0.5) / (double)s->window));
    return true;
}

static void spectra_free(Spectra *s) {
    free(s->taper);
    free(s->frame);
    free(s->lower);
    free(s->higher);
    free(s->bins);
    kiss_fftr_free(s->transform);
}

/* Adds the energies of the window around `time`. */
static void add_frame(Spectra *s, double time, double *lower, double *higher) {
    int64_t first = (int64_t)floor(time * s->audio->rate + 0.5) - s->window / 2;
    for (int64_t i = 0; i < s->window; i++) {
        int64_t at = first + i;
        s->frame[i] = at >= 0 && at < s->audio->count ? s->audio->samples[at] * s->taper[i] : 0;
    }
    kiss_fftr(s->transform, s->frame, s->bins);
    float low = 0, high = 0;
#pragma omp simd reduction(+ : low, high)
    for (int i = 0; i <= s->size / 2; i++) {
        float energy = s->bins[i].r * s->bins[i].r + s->bins[i].i * s->bins[i].i;
        low += energy * s->lower[i];
        high += energy * s->higher[i];
    }
    *lower += (double)low;
    *higher += (double)high;
}

bool alpha_ratio_measure(const Audio *audio, const Contour *pitch, double *ratio_db, Error *err) {
    *ratio_db = NAN;
    if (audio->rate < 2 * HIGHEST_HZ) return true;
    Spectra spectra;
    double lower = 0, higher = 0;
    bool done = spectra_new(&spectra, audio, err);
    for (int64_t i = 0; i < pitch->count && done; i++)
        if (pitch->value[i] > 0) add_frame(&spectra, contour_time(pitch, i), &lower, &higher);
    if (done && lower > 0 && higher > 0) *ratio_db = 10 * log10(lower / higher);
    spectra_free(&spectra);
    return done;
}
