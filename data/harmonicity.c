#include "data/harmonicity.h"

#include <math.h>
#include <stdlib.h>

#include "data/contour.h"
#include "data/peak.h"

static const double STEP_S = 0.01, FLOOR_HZ = 75, SILENCE = 0.1;

enum {
    LAGS = 32,    /* correlations found side by side */
    STRETCH = 32, /* products whose sums are kept in single precision */
};

typedef struct Harmonicity {
    const Audio *audio;
    double global_peak;
    int64_t period, window; /* samples; lags reach to the window's length */
    float *sound;           /* [2 window + LAGS]: a frame less its mean, zeros after it */
    float *r;               /* [2 window + 1], r[window] is lag 0 */
    PeakTable *peaks;
} Harmonicity;

static void harmonicity_free(Harmonicity *h) {
    free(h->sound);
    free(h->r);
    peak_table_free(h->peaks);
}

static double distance(const float *samples, int64_t count, double mean) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        double away = fabs((double)samples[i] - mean);
        if (away > most) most = away;
    }
    return most;
}

static double mean_of(const float *samples, int64_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += (double)samples[i];
    return sum / (double)count;
}

/* `window` stays 0 where there is nothing to measure. */
static bool harmonicity_new(Harmonicity *h, const Audio *audio, Error *err) {
    double interval = 1.0 / audio->rate; /* what follows rounds in the same steps as Praat */
    int64_t half = (int64_t)floor(1 / FLOOR_HZ / interval) / 2 - 1;
    *h = (Harmonicity){.audio = audio, .period = (int64_t)floor(1 / interval / FLOOR_HZ)};
    h->global_peak = distance(audio->samples, audio->count, mean_of(audio->samples, audio->count));
    if (half < 2 || !(h->global_peak > 0)) return true;
    h->window = 2 * half;
    h->sound = memory_new((size_t)(2 * h->window + LAGS), sizeof *h->sound, err);
    h->r = memory_new((size_t)(2 * h->window + 1), sizeof *h->r, err);
    h->peaks = peak_table_new(err);
    return h->sound && h->r && h->peaks;
}

/* How loud a frame is beside the loudest sample of all; the sound it is compared in is loaded less its mean. */
static double load_frame(Harmonicity *h, double time) {
    const float *samples = h->audio->samples;
    int64_t right = (int64_t)floor(contour_sample(time, h->audio->rate)); /* the first sample after `time` */
    double mean = mean_of(samples + right - h->period, 2 * h->period);
    double peak = distance(samples + right - h->window / 2, h->window, mean);
    double begin = contour_sample(time - 0.5 * (1 / FLOOR_HZ + 1 / FLOOR_HZ), h->audio->rate);
    int64_t first = begin < 1 ? 0 : (int64_t)floor(begin) - 1;
    for (int64_t i = 0; i < 2 * h->window; i++) {
        int64_t at = first + i;
        h->sound[i] = at < h->audio->count ? (float)((double)samples[at] - mean) : 0;
    }
    return peak > h->global_peak ? 1 : peak / h->global_peak;
}

/* Sums of few products are added up in double: over all of a window floats would be off by a good part of the noise. */
static void correlate(const Harmonicity *h, int64_t lag, double *products) {
    for (int k = 0; k < LAGS; k++) products[k] = 0;
    for (int64_t start = 0; start < h->window; start += STRETCH) {
        const float *x = h->sound + start, *y = h->sound + start + lag;
        int64_t count = h->window - start < STRETCH ? h->window - start : STRETCH;
        float sum[LAGS] = {0};
        for (int64_t i = 0; i < count; i++)
            for (int k = 0; k < LAGS; k++) sum[k] += x[i] * y[i + k];
        for (int k = 0; k < LAGS; k++) products[k] += (double)sum[k];
    }
}

static void correlate_frame(Harmonicity *h) {
    float *r = h->r + h->window;
    double own = 0, other;
    for (int64_t i = 0; i < h->window; i++) own += (double)h->sound[i] * (double)h->sound[i];
    other = own;
    r[0] = 1;
    for (int64_t lag = 1; lag <= h->window; lag += LAGS) {
        double products[LAGS];
        correlate(h, lag, products);
        for (int64_t k = 0; k < LAGS && lag + k <= h->window; k++) {
            double in = (double)h->sound[lag + k - 1 + h->window], out = (double)h->sound[lag + k - 1];
            other += in * in - out * out;
            double norm = own * other;
            r[lag + k] = norm > 0 ? (float)(products[k] / sqrt(norm)) : 0;
            r[-lag - k] = r[lag + k];
        }
    }
}

static bool is_maximum(const float *r, int64_t i) { return r[i] > 0 && r[i] > r[i - 1] && r[i] >= r[i + 1]; }

/* Over the parabola's top by half its bend: so much, at most, do peaks that are hardly sampled rise between samples. */
static double bound(const float *r, int64_t i) {
    double slope = 0.5 * ((double)r[i + 1] - (double)r[i - 1]);
    double bend = 2 * (double)r[i] - (double)r[i - 1] - (double)r[i + 1];
    return (double)r[i] + 0.5 * slope * slope / bend + 0.5 * bend;
}

/* The strength of the maximum at lag i between samples; 0 where its frequency is no lower than half the sample rate. */
static double strength_at(const Harmonicity *h, int64_t i) {
    Peak peak = peak_refine(h->peaks, h->r + h->window, -h->window, h->window, i);
    if (!(peak.place > 2)) return 0;
    return peak.height > 1 ? 1 / peak.height : peak.height;
}

/* The greatest strength over `least`, or `least`: the likeliest maximum first, so that few others need a look. */
static double strongest(const Harmonicity *h, double least) {
    const float *r = h->r + h->window;
    int64_t likeliest = 0;
    for (int64_t i = 2; i < h->window; i++)
        if (is_maximum(r, i) && (likeliest == 0 || r[i] > r[likeliest])) likeliest = i;
    if (likeliest == 0) return least;
    double best = fmax(least, strength_at(h, likeliest));
    for (int64_t i = 2; i < h->window; i++)
        if (i != likeliest && is_maximum(r, i) && bound(r, i) > best) best = fmax(best, strength_at(h, i));
    return best;
}

static double decibels(double strength) {
    if (strength <= 1e-15) return -150;
    return strength > 1 - 1e-15 ? 150 : 10 * log10(strength / (1 - strength));
}

static double mean_harmonicity(Harmonicity *h, const Contour *frames) {
    double sum = 0;
    int64_t sounding = 0;
    for (int64_t i = 0; i < frames->count; i++) {
        double loudness = load_frame(h, contour_time(frames, i)), unvoiced = fmax(0, 2 - loudness / SILENCE);
        if (!(loudness > 0) || unvoiced >= 1) continue; /* no strength is over 1 */
        correlate_frame(h);
        double strength = strongest(h, unvoiced);
        if (!(strength > unvoiced)) continue;
        sum += decibels(strength);
        sounding++;
    }
    return sounding ? sum / (double)sounding : NAN;
}

bool harmonicity_measure(const Audio *audio, double *mean_db, Error *err) {
    *mean_db = NAN;
    Contour frames;
    if (!contour_new(&frames, contour_duration(audio), 1 / FLOOR_HZ + 1 / FLOOR_HZ, STEP_S, err)) return false;
    Harmonicity harmonicity = {0};
    bool done = frames.count == 0 || harmonicity_new(&harmonicity, audio, err);
    if (done && harmonicity.window) *mean_db = mean_harmonicity(&harmonicity, &frames);
    harmonicity_free(&harmonicity);
    contour_free(&frames);
    return done;
}
