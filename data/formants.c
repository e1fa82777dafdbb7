#include "data/formants.h"

#include <math.h>
#include <stdlib.h>

#include "data/pitch.h"
#include "data/resample.h"
#include "data/roots.h"

static const double PI = 3.14159265358979323846;
static const double HALF_WINDOW_S = 0.025, PRE_EMPHASIS_HZ = 50, MARGIN_HZ = 50;

enum { ORDER = 10 };

typedef struct Analysis {
    Audio sound;                      /* at twice the ceiling, pre-emphasised */
    double first;                     /* seconds: the middle of its first sample, as all are centred */
    int64_t size;                     /* samples of a window */
    double *window, *frame, *scratch; /* [size], [2 size], [2 size] */
    Root guesses[ORDER];              /* roots of the frame before */
} Analysis;

/* --- linear prediction --- */

/* Sums of b1 b2 and of both squares, of which a reflection coefficient is made. */
typedef struct Sums {
    double product, squares;
} Sums;

static Sums sums_of(const double *b1, const double *b2, int64_t count) {
    double product = 0, squares = 0;
#pragma omp simd reduction(+ : product, squares)
    for (int64_t i = 0; i < count; i++) {
        product += b1[i] * b2[i];
        squares += b1[i] * b1[i] + b2[i] * b2[i];
    }
    return (Sums){product, squares};
}

/* The errors of prediction forwards and backwards, one order on. */
static void reflect(const double *restrict b1, const double *restrict b2, double k, int64_t count, double *restrict c1,
                    double *restrict c2) {
    for (int64_t i = 0; i < count; i++) {
        c1[i] = b1[i] - k * b2[i];
        c2[i] = b2[i + 1] - k * b1[i + 1];
    }
}

/* a[1..ORDER] of x[n] ≈ Σ a[i] x[n - i]; those that silence leaves unknown are 0. */
static void burg(const Analysis *analysis, int64_t size, double *a) {
    double *b1 = analysis->frame, *b2 = b1 + analysis->size, *c1 = analysis->scratch, *c2 = c1 + analysis->size;
    double old[ORDER + 1] = {0};
    for (int i = 0; i <= ORDER; i++) a[i] = 0;
    for (int64_t i = 0; i + 1 < size; i++) b2[i] = b1[i + 1];
    for (int order = 1; order <= ORDER; order++) {
        Sums sums = sums_of(b1, b2, size - order);
        if (!(sums.squares > 0)) return;
        a[order] = 2 * sums.product / sums.squares;
        for (int i = 1; i < order; i++) a[i] = old[i] - a[order] * old[order - i];
        for (int i = 1; i <= order; i++) old[i] = a[i];
        reflect(b1, b2, a[order], size - order - 1, c1, c2);
        double *spare1 = b1, *spare2 = b2;
        b1 = c1;
        b2 = c2;
        c1 = spare1;
        c2 = spare2;
    }
}

/* --- formants of a frame --- */

static void add_sorted(double *hz, int *count, double value) {
    int place = (*count)++;
    for (; place > 0 && hz[place - 1] > value; place--) hz[place] = hz[place - 1];
    hz[place] = value;
}

static void formants_of(Analysis *analysis, const double *a, double *hz) {
    double c[ORDER + 1], found[ORDER], nyquist = 0.5 * analysis->sound.rate;
    for (int i = 0; i < ORDER; i++) c[i] = -a[ORDER - i];
    c[ORDER] = 1;
    int count = 0, roots = roots_find(c, ORDER, analysis->guesses);
    for (int i = 0; i < roots; i++) {
        double value = atan2(analysis->guesses[i].imaginary, analysis->guesses[i].real) * nyquist / PI;
        if (value >= MARGIN_HZ && value <= nyquist - MARGIN_HZ) add_sorted(found, &count, value);
    }
    for (int i = 0; i < FORMANTS; i++) hz[i] = i < count ? found[i] : NAN;
}

static void analyse_frame(Analysis *analysis, double time, double *hz) {
    const Audio *sound = &analysis->sound;
    /* Frames often fall right on a sample: this rounds in the same steps as Praat. */
    int64_t left = (int64_t)floor((time - analysis->first) / (1.0 / sound->rate) + 1), half = analysis->size / 2;
    int64_t first = left + 1 - half, last = left + half; /* counted from 1 */
    if (first < 1) first = 1;
    if (last > sound->count) last = sound->count;
    double loudest = 0, a[ORDER + 1];
    for (int64_t i = first; i <= last; i++) {
        double value = (double)sound->samples[i - 1];
        loudest = fmax(loudest, fabs(value));
        analysis->frame[i - first] = value * analysis->window[i - first];
    }
    for (int i = 0; i < FORMANTS; i++) hz[i] = NAN;
    if (loudest == 0) return;
    burg(analysis, last - first + 1, a);
    formants_of(analysis, a, hz);
}

/* --- the track --- */

static void pre_emphasise(Audio *sound) {
    float share = (float)exp(-2 * PI * PRE_EMPHASIS_HZ / sound->rate);
    for (int64_t i = sound->count - 1; i > 0; i--) sound->samples[i] -= share * sound->samples[i - 1];
}

static bool analysis_new(Analysis *analysis, int64_t size, Error *err) {
    analysis->size = size;
    analysis->window = memory_new((size_t)size, sizeof(double), err);
    analysis->frame = memory_new((size_t)(2 * size), sizeof(double), err);
    analysis->scratch = memory_new((size_t)(2 * size), sizeof(double), err);
    if (!analysis->window || !analysis->frame || !analysis->scratch) return false;
    double middle = 0.5 * (double)(size + 1), edge = exp(-12);
    for (int64_t i = 0; i < size; i++) {
        double place = ((double)(i + 1) - middle) / (double)(size + 1);
        analysis->window[i] = (exp(-48 * place * place) - edge) / (1 - edge);
    }
    for (int i = 0; i < ORDER; i++) analysis->guesses[i] = (Root){cos(0.6 * (i + 1)), sin(0.6 * (i + 1))};
    return true;
}

static void analysis_free(Analysis *analysis) {
    audio_free(&analysis->sound);
    free(analysis->window);
    free(analysis->frame);
    free(analysis->scratch);
}

/* Frames as Praat lays them; a sound shorter than a window is one frame. */
static bool lay_frames(const Audio *sound, double first, FormantTrack *track, int64_t *window, Error *err) {
    double interval = 1.0 / sound->rate, duration = (double)sound->count * interval;
    track->step = HALF_WINDOW_S / 4;
    track->count = 1 + (int64_t)floor((duration - 2 * HALF_WINDOW_S) / track->step);
    track->start = first + 0.5 * (duration - interval - (double)(track->count - 1) * track->step);
    *window = (int64_t)floor(2 * HALF_WINDOW_S / interval);
    if (track->count < 1) {
        track->count = sound->count > 0;
        track->start = first + 0.5 * duration;
        *window = sound->count;
    }
    track->hz = memory_new((size_t)track->count, sizeof *track->hz, err);
    return track->hz != NULL;
}

/* Whether a voiced frame's value would be taken from this one. */
static bool wanted(const Contour *voiced, const FormantTrack *track, double time) {
    int64_t first = (int64_t)ceil((time - track->step - voiced->start) / voiced->step);
    int64_t last = (int64_t)floor((time + track->step - voiced->start) / voiced->step);
    if (first < 0) first = 0;
    if (last >= voiced->count) last = voiced->count - 1;
    for (int64_t i = first; i <= last; i++)
        if (voiced->value[i] > 0) return true;
    return false;
}

bool formants_track(const Audio *audio, int ceiling_hz, const Contour *voiced, FormantTrack *track, Error *err) {
    *track = (FormantTrack){0};
    Analysis analysis = {0};
    int64_t window = 0;
    bool done = resample_praat(audio, 2 * ceiling_hz, &analysis.sound, err);
    if (done) {
        const Audio *sound = &analysis.sound;
        analysis.first = 0.5 * (contour_duration(audio) - (double)(sound->count - 1) / sound->rate);
        done = lay_frames(sound, analysis.first, track, &window, err) && analysis_new(&analysis, window, err);
    }
    if (done) pre_emphasise(&analysis.sound);
    for (int64_t i = 0; i < track->count && done; i++) {
        double time = track->start + (double)i * track->step;
        for (int k = 0; k < FORMANTS; k++) track->hz[i][k] = NAN;
        if (!voiced || wanted(voiced, track, time)) analyse_frame(&analysis, time, track->hz[i]);
    }
    analysis_free(&analysis);
    if (!done) formants_free(track);
    return done;
}

void formants_free(FormantTrack *track) {
    free(track->hz);
    *track = (FormantTrack){0};
}

double formant_at(const FormantTrack *track, int formant, double time) {
    double place = (time - track->start) / track->step;
    if (!(place >= -0.5 && place < (double)track->count - 0.5)) return NAN;
    int64_t near = (int64_t)floor(place + 0.5), far = place < (double)near ? near - 1 : near + 1;
    double value = track->hz[near][formant];
    if (isnan(value) || far < 0 || far >= track->count || isnan(track->hz[far][formant])) return value;
    return value + fabs(place - (double)near) * (track->hz[far][formant] - value);
}
