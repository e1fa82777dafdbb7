#include "data/intensity.h"

#include <math.h>
#include <stdlib.h>

static const double SILENCE_DB = -300, REFERENCE_PA2 = 4e-10, PI = 3.14159265358979323846;

/* The modified Bessel function I0 (Abramowitz & Stegun 9.8.1 and 9.8.2). */
static double bessel_i0(double x) {
    if (x < 3.75) {
        double t = (x / 3.75) * (x / 3.75);
        return 1 +
               t * (3.5156229 + t * (3.0899424 + t * (1.2067492 + t * (0.2659732 + t * (0.0360768 + t * 0.0045813)))));
    }
    double t = 3.75 / x;
    double poly = 0.00916281 + t * (-0.02057706 + t * (0.02635537 + t * (-0.01647633 + t * 0.00392377)));
    poly = 0.39894228 + t * (0.01328592 + t * (0.00225319 + t * (-0.00157565 + t * poly)));
    return exp(x) / sqrt(x) * poly;
}

static float *kaiser_window(int64_t half, double rate, double half_seconds, Error *err) {
    float *window = memory_new((size_t)(2 * half + 1), sizeof *window, err);
    if (!window) return NULL;
    double peak = bessel_i0(2 * PI * PI + 0.5);
    for (int64_t i = 0; i <= half; i++) {
        double x = (double)i / rate / half_seconds, root = 1 - x * x;
        double weight = root <= 0 ? 0 : bessel_i0((2 * PI * PI + 0.5) * sqrt(root)) / peak;
        window[half + i] = window[half - i] = (float)weight;
    }
    return window;
}

static double energy_db(const float *samples, const float *window, int64_t count) {
    float sum = 0, energy = 0, weights = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += samples[i];
    float mean = sum / (float)count;
#pragma omp simd reduction(+ : energy, weights)
    for (int64_t i = 0; i < count; i++) {
        float value = samples[i] - mean;
        energy += value * value * window[i];
        weights += window[i];
    }
    double pressure = (double)energy / (double)weights / REFERENCE_PA2;
    return pressure < 1e-30 ? SILENCE_DB : 10 * log10(pressure);
}

bool intensity_track(const Audio *audio, double floor_hz, Contour *intensity, Error *err) {
    double rate = audio->rate, half_seconds = 3.2 / floor_hz;
    if (!contour_new(intensity, contour_duration(audio), 2 * half_seconds, 0.8 / floor_hz, err)) return false;
    if (intensity->count == 0) return true;
    int64_t half = (int64_t)floor(half_seconds / (1 / rate));
    float *window = kaiser_window(half, rate, half_seconds, err);
    if (!window) {
        contour_free(intensity);
        return false;
    }
    for (int64_t frame = 0; frame < intensity->count; frame++) {
        int64_t middle = (int64_t)floor(contour_sample(contour_time(intensity, frame), audio->rate) + 0.5) - 1;
        int64_t left = middle - half, right = middle + half;
        int64_t skipped = left < 0 ? -left : 0;
        if (right > audio->count - 1) right = audio->count - 1;
        intensity->value[frame] =
            energy_db(audio->samples + left + skipped, window + skipped, right - left - skipped + 1);
    }
    free(window);
    return true;
}
