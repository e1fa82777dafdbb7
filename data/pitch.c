#include "data/pitch.h"

#include <kissfft/kiss_fftr.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/peak.h"

static const double PI = 3.14159265358979323846;

enum { PERIODS_PER_WINDOW = 3 };

/* One frame's candidates: the unvoiced one, then those under the ceiling. */
typedef struct PitchFrame {
    int count;                            /* voiced ones */
    float strength[PITCH_CANDIDATES_MAX]; /* [0]: unvoiced; less the octave cost */
    float log2_hz[PITCH_CANDIDATES_MAX];
    uint8_t from[PITCH_CANDIDATES_MAX]; /* the path's candidate in the frame before */
} PitchFrame;

typedef struct PitchAnalysis {
    const Audio *audio;
    PitchOptions options;
    double global_peak;
    int64_t period, half_period;       /* samples of the longest period */
    int64_t half, lag_limit, lag_last; /* half a window; maxima lie under lag_limit, r reaches to lag_last */
    int64_t fft_size;
    float *window;    /* [2 half] */
    float *inverse_r; /* [lag_last + 1]: 1 / the window's normalised autocorrelation */
    float *frame;     /* [fft_size] */
    kiss_fft_cpx *spectrum;
    float *r; /* [2 lag_last + 1], r[lag_last] is lag 0 */
    kiss_fftr_cfg forward, backward;
    PeakTable *peaks;
} PitchAnalysis;

PitchOptions pitch_options_default(void) {
    return (PitchOptions){.step_s = 0.01,
                          .floor_hz = 75,
                          .ceiling_hz = 600,
                          .candidates = 15,
                          .silence = 0.03,
                          .voicing = 0.45,
                          .octave_cost = 0.01,
                          .octave_jump_cost = 0.35,
                          .voicing_change_cost = 0.14};
}

/* --- the autocorrelation of a frame --- */

/* Power spectrum and back: `frame` becomes its own autocorrelation, unscaled. */
static void autocorrelate(PitchAnalysis *a) {
    kiss_fftr(a->forward, a->frame, a->spectrum);
    for (int64_t i = 0; i <= a->fft_size / 2; i++) {
        kiss_fft_cpx *bin = &a->spectrum[i];
        *bin = (kiss_fft_cpx){bin->r * bin->r + bin->i * bin->i, 0};
    }
    kiss_fftri(a->backward, a->spectrum, a->frame);
}

static void prepare_window(PitchAnalysis *a) {
    int64_t size = 2 * a->half;
    for (int64_t i = 0; i < size; i++)
        a->window[i] = (float)(0.5 - 0.5 * cos(2 * PI * (double)(i + 1) / (double)(size + 1)));
    memcpy(a->frame, a->window, (size_t)size * sizeof *a->frame);
    memset(a->frame + size, 0, (size_t)(a->fft_size - size) * sizeof *a->frame);
    autocorrelate(a);
    for (int64_t i = 0; i <= a->lag_last; i++) a->inverse_r[i] = a->frame[0] / a->frame[i];
}

/* The greatest distance from `mean`, kept in lanes so that compilers vectorise it. */
static float loudest(const float *samples, int64_t count, float mean) {
    enum { LANES = 8 };
    float lane[LANES] = {0};
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t lanes = count - i < LANES ? count - i : LANES;
        for (int64_t k = 0; k < lanes; k++) {
            float value = fabsf(samples[i + k] - mean);
            lane[k] = value > lane[k] ? value : lane[k];
        }
    }
    for (int k = 1; k < LANES; k++) lane[0] = lane[k] > lane[0] ? lane[k] : lane[0];
    return lane[0];
}

static double global_peak(const Audio *audio) {
    double sum = 0;
    for (int64_t i = 0; i < audio->count; i++) sum += (double)audio->samples[i];
    return (double)loudest(audio->samples, audio->count, (float)(sum / (double)audio->count));
}

static void analysis_free(PitchAnalysis *a) {
    free(a->window);
    free(a->inverse_r);
    free(a->frame);
    free(a->spectrum);
    free(a->r);
    kiss_fftr_free(a->forward);
    kiss_fftr_free(a->backward);
    peak_table_free(a->peaks);
}

static bool analysis_new(PitchAnalysis *a, const Audio *audio, const PitchOptions *options, Error *err) {
    double rate = audio->rate;
    *a = (PitchAnalysis){.audio = audio, .options = *options};
    if (a->options.ceiling_hz > 0.5 * rate) a->options.ceiling_hz = 0.5 * rate;
    int needed = (int)floor(a->options.ceiling_hz / options->floor_hz);
    if (a->options.candidates < needed) a->options.candidates = needed;
    if (a->options.candidates > PITCH_CANDIDATES_MAX)
        return fail_usage(err, "a pitch range of %g to %g Hz is too wide; the ceiling may be %d times the floor",
                          options->floor_hz, options->ceiling_hz, PITCH_CANDIDATES_MAX);
    double interval = 1 / rate; /* what follows rounds in the same steps as Praat */
    a->period = (int64_t)floor(1 / interval / options->floor_hz);
    a->half_period = a->period / 2 + 1;
    a->half = (int64_t)floor(PERIODS_PER_WINDOW / options->floor_hz / interval) / 2 - 1;
    if (a->half < 2)
        return fail_usage(err, "a pitch floor of %g Hz leaves no window at %d Hz; choose a lower one",
                          options->floor_hz, audio->rate);
    a->lag_last = a->half;
    a->lag_limit = 2 * a->half / PERIODS_PER_WINDOW + 2;
    a->fft_size = kiss_fftr_next_fast_size_real((int)(2 * a->half + a->lag_last + 1));
    size_t size = (size_t)a->fft_size;
    a->window = memory_new((size_t)(2 * a->half), sizeof *a->window, err);
    a->inverse_r = memory_new((size_t)a->lag_last + 1, sizeof *a->inverse_r, err);
    a->frame = memory_new(size, sizeof *a->frame, err);
    a->spectrum = memory_new(size / 2 + 1, sizeof *a->spectrum, err);
    a->r = memory_new((size_t)(2 * a->lag_last + 1), sizeof *a->r, err);
    a->forward = kiss_fftr_alloc((int)size, 0, NULL, NULL);
    a->backward = kiss_fftr_alloc((int)size, 1, NULL, NULL);
    a->peaks = peak_table_new(err);
    if (!a->window || !a->inverse_r || !a->frame || !a->spectrum || !a->r || !a->peaks) return false;
    if (!a->forward || !a->backward) return fail(err, "out of memory: no room for an FFT of %zu samples", size);
    prepare_window(a);
    a->global_peak = global_peak(audio);
    return true;
}

/* --- candidates --- */

/* The window around `time` less its local mean (one period to both sides), and how loud its middle
 * is beside the loudest sample of all. */
static double load_frame(PitchAnalysis *a, double time) {
    const float *samples = a->audio->samples;
    int64_t right = (int64_t)floor(contour_sample(time, a->audio->rate)); /* the first sample after `time` */
    double sum = 0;
    for (int64_t i = right - a->period; i < right + a->period; i++) sum += (double)samples[i];
    float mean = (float)(sum / (2.0 * (double)a->period));
    const float *first = samples + right - a->half;
    for (int64_t i = 0; i < 2 * a->half; i++) a->frame[i] = (first[i] - mean) * a->window[i];
    int64_t from = a->half - a->half_period, to = a->half + a->half_period;
    if (from < 0) from = 0;
    if (to > 2 * a->half) to = 2 * a->half;
    float peak = loudest(a->frame + from, to - from, 0);
    return (double)peak > a->global_peak ? 1 : (double)peak / a->global_peak;
}

static void correlate_frame(PitchAnalysis *a) {
    memset(a->frame + 2 * a->half, 0, (size_t)(a->fft_size - 2 * a->half) * sizeof *a->frame);
    autocorrelate(a);
    float *r = a->r + a->lag_last, scale = 1 / a->frame[0];
    for (int64_t i = 0; i <= a->lag_last; i++) r[i] = a->frame[i] * scale * a->inverse_r[i];
    for (int64_t i = 1; i <= a->lag_last; i++) r[-i] = r[i];
}

/* Where a maximum has no room among the candidates: the weakest place it may take, or -1. High
 * frequencies are favoured, so that a perfectly periodic sound is not heard an octave low. */
static int weakest_place(const PitchAnalysis *a, const Peak *peaks, int count, const Peak *newcomer) {
    double cost = a->options.octave_cost, weakest = 2;
    int place = -1;
    for (int i = 0; i < count; i++) {
        double strength = peaks[i].height - cost * log2(peaks[i].place);
        if (strength < weakest) {
            weakest = strength;
            place = i;
        }
    }
    return newcomer->height - cost * log2(newcomer->place) > weakest ? place : -1;
}

static int find_peaks(const PitchAnalysis *a, Peak *peaks) {
    const float *r = a->r + a->lag_last;
    int count = 0, room = a->options.candidates - 1;
    for (int64_t i = 2; i < a->lag_limit && i < a->lag_last; i++) {
        if (!((double)r[i] > 0.5 * a->options.voicing && r[i] > r[i - 1] && r[i] >= r[i + 1])) continue;
        Peak peak = peak_refine(a->peaks, r, -a->lag_last, a->lag_last, i);
        if (peak.height > 1) peak.height = 1 / peak.height; /* short windows overshoot */
        int place = count < room ? count++ : weakest_place(a, peaks, count, &peak);
        if (place >= 0) peaks[place] = peak;
    }
    return count;
}

static void find_candidates(PitchAnalysis *a, PitchFrame *frame) {
    const PitchOptions *options = &a->options;
    Peak peaks[PITCH_CANDIDATES_MAX];
    correlate_frame(a);
    int count = find_peaks(a, peaks);
    for (int i = 0; i < count; i++) {
        double hz = a->audio->rate / peaks[i].place;
        if (!(hz < options->ceiling_hz)) continue; /* counts as unvoiced, and that candidate is there */
        int place = ++frame->count;
        frame->log2_hz[place] = (float)log2(hz);
        frame->strength[place] = (float)(peaks[i].height - options->octave_cost * log2(options->ceiling_hz / hz));
    }
}

/* A frame so quiet that voicing it could not pay, whatever its neighbours are, needs no candidates:
 * a voiced one's strength is at most 1, and leaving it out changes voicing at most twice. */
static void analyse_frame(PitchAnalysis *a, double time, double change_cost, PitchFrame *frame) {
    const PitchOptions *options = &a->options;
    double loudness = load_frame(a, time);
    double silent = options->silence > 0 ? 2 - loudness / (options->silence / (1 + options->voicing)) : 0;
    double unvoiced = options->voicing + (silent > 0 ? silent : 0);
    frame->count = 0;
    frame->strength[0] = (float)unvoiced;
    if (loudness > 0 && unvoiced <= 1 + 2 * change_cost) find_candidates(a, frame);
}

/* --- the path --- */

static float transition_cost(const PitchFrame *before, int i, const PitchFrame *frame, int j, float jump,
                             float change) {
    if (i == 0 || j == 0) return i == j ? 0 : change;
    return jump * fabsf(before->log2_hz[i] - frame->log2_hz[j]);
}

/* Adds to each candidate's strength the best way to it (Viterbi). */
static void extend_path(const PitchFrame *before, PitchFrame *frame, float jump, float change) {
    for (int j = 0; j <= frame->count; j++) {
        float best = -INFINITY;
        for (int i = 0; i <= before->count; i++) {
            float value = before->strength[i] - transition_cost(before, i, frame, j, jump, change);
            if (value > best) {
                best = value;
                frame->from[j] = (uint8_t)i;
            }
        }
        frame->strength[j] += best;
    }
    /* Only differences matter: without this, long recordings would eat the floats' digits. */
    float base = frame->strength[0];
    for (int j = 0; j <= frame->count; j++) frame->strength[j] -= base;
}

static void trace_path(const PitchFrame *frames, Contour *pitch) {
    const PitchFrame *last = &frames[pitch->count - 1];
    int place = 0;
    for (int j = 1; j <= last->count; j++)
        if (last->strength[j] > last->strength[place]) place = j;
    for (int64_t i = pitch->count - 1; i >= 0; i--) {
        pitch->value[i] = place ? exp2((double)frames[i].log2_hz[place]) : 0;
        place = frames[i].from[place];
    }
}

bool pitch_track(const Audio *audio, const PitchOptions *options, Contour *pitch, Error *err) {
    double window = PERIODS_PER_WINDOW / options->floor_hz;
    if (!contour_new(pitch, contour_duration(audio), window, options->step_s, err)) return false;
    if (pitch->count == 0) return true;
    PitchAnalysis analysis;
    PitchFrame *frames = memory_new((size_t)pitch->count, sizeof *frames, err);
    bool done = analysis_new(&analysis, audio, options, err) && frames;
    if (done && analysis.global_peak > 0) {
        double correction = 0.01 / options->step_s;
        double change = options->voicing_change_cost * correction, jump = options->octave_jump_cost * correction;
        for (int64_t i = 0; i < pitch->count; i++) {
            analyse_frame(&analysis, contour_time(pitch, i), change, &frames[i]);
            if (i) extend_path(&frames[i - 1], &frames[i], (float)jump, (float)change);
        }
        trace_path(frames, pitch);
    }
    analysis_free(&analysis);
    free(frames);
    if (!done) contour_free(pitch);
    return done;
}

double pitch_at(const Contour *pitch, double time) {
    double place = (time - pitch->start) / pitch->step;
    if (!(place >= -0.5 && place < (double)pitch->count - 0.5)) return 0;
    int64_t near = (int64_t)floor(place + 0.5), far = place < (double)near ? near - 1 : near + 1;
    double value = pitch->value[near];
    if (value == 0 || far < 0 || far >= pitch->count || pitch->value[far] == 0) return value;
    return value + fabs(place - (double)near) * (pitch->value[far] - value);
}
