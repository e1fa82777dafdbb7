#include "data/pulses.h"

#include <math.h>
#include <stdlib.h>

#include "data/pitch.h"

static const double SHORTEST_S = 0.0001, LONGEST_S = 0.02, PERIOD_FACTOR = 1.3, AMPLITUDE_FACTOR = 1.6;
static const double LEAST_STEP = 0.5; /* periods; so that walks end, however few samples a period has */
static const double PI = 3.14159265358979323846;

/* --- where the sound is most like it is here --- */

/* Windows of `size` samples that begin at first..last (counted from 1) are compared with the one that begins at `here`.
 */
typedef struct Search {
    const Audio *audio;
    int64_t here, size, first, last;
} Search;

typedef struct Likeness {
    double begin, correlation, peak; /* begin: of the likest window, between samples; correlation -1: none is */
} Likeness;

/* Of the samples of both windows those that exist: [from, to). */
static void shared_part(const Search *search, int64_t other, int64_t *from, int64_t *to) {
    int64_t low = search->here < other ? search->here : other, high = search->here > other ? search->here : other;
    int64_t room = search->audio->count + 1 - high;
    *from = low < 1 ? 1 - low : 0;
    *to = search->size < room ? search->size : room;
}

static double correlation_with(const Search *search, int64_t other) {
    const float *a = search->audio->samples + search->here - 1, *b = search->audio->samples + other - 1;
    int64_t from, to;
    shared_part(search, other, &from, &to);
    double norm1 = 0, norm2 = 0, product = 0;
#pragma omp simd reduction(+ : norm1, norm2, product)
    for (int64_t i = from; i < to; i++) {
        double x = (double)a[i], y = (double)b[i];
        norm1 += x * x;
        norm2 += y * y;
        product += x * y;
    }
    return norm1 > 0 && norm2 > 0 ? product / sqrt(norm1 * norm2) : 0;
}

static double peak_of(const Search *search, int64_t other) {
    int64_t from, to;
    shared_part(search, other, &from, &to);
    double peak = 0;
    for (int64_t i = from; i < to; i++) {
        double value = fabs((double)search->audio->samples[other - 1 + i]);
        if (value > peak) peak = value;
    }
    return peak;
}

/* The greatest of the correlations that are maxima, the parabola's top through it and its neighbours. As in Praat the
 * curve begins with zeros, and the peak is taken a sample on. */
static Likeness find_likest(const Search *search) {
    Likeness likest = {0, -1, 0};
    double r1, r2 = 0, r3 = 0, before = 0, after = 0;
    for (int64_t other = search->first; other <= search->last; other++) {
        r1 = r2;
        r2 = r3;
        r3 = correlation_with(search, other);
        if (!(r2 > likest.correlation && r2 >= r1 && r2 >= r3)) continue;
        likest = (Likeness){(double)(other - 1), r2, 0};
        before = r1;
        after = r3;
    }
    if (likest.correlation > -1) {
        double slope = 0.5 * (after - before), bend = 2 * likest.correlation - before - after;
        likest.peak = peak_of(search, (int64_t)likest.begin + 1);
        if (bend != 0) {
            likest.correlation += 0.5 * slope * slope / bend;
            likest.begin += slope / bend;
        }
    }
    return likest;
}

/* --- pulses of a stretch of voicing, from its middle to both ends --- */

typedef struct Walk {
    const Audio *audio;
    const Contour *pitch;
    double duration, loudest;
    double left, right; /* the stretch, seconds */
    double rightmost;   /* the last pulse that a walk to the right added */
    Pulses *pulses;
} Walk;

static double f0_at(const Walk *walk, double time) {
    return time < 0 || time > walk->duration ? 0 : pitch_at(walk->pitch, time);
}

static bool add_pulse(Pulses *pulses, double time, Error *err) {
    if (!memory_grow(&pulses->time, pulses->count, &pulses->capacity, sizeof *pulses->time, err)) return false;
    pulses->time[pulses->count++] = time;
    return true;
}

/* The next pulse about 1 / f0 after (sign 1) or before (sign -1) `time`, which it replaces. */
static Likeness step(const Walk *walk, int sign, double f0, double *time) {
    int rate = walk->audio->rate;
    double half = 0.5 / f0, near = 0.8 / f0, far = 1.25 / f0;
    double least = *time + (sign > 0 ? near : -far), most = *time + (sign > 0 ? far : -near);
    Search search = {.audio = walk->audio,
                     .here = (int64_t)floor(contour_sample(*time - half, rate) + 0.5),
                     .first = (int64_t)floor(contour_sample(least - half, rate)),
                     .last = (int64_t)ceil(contour_sample(most - half, rate))};
    search.size = (int64_t)floor(contour_sample(*time + half, rate) + 0.5) - search.here + 1;
    Likeness likest = find_likest(&search);
    double found = *time + (likest.begin - (double)search.here) / rate;
    bool onward = likest.correlation > -1 && sign * (found - *time) > LEAST_STEP / f0;
    *time = onward ? found : *time + sign / f0;
    return likest;
}

static bool walk_left(Walk *walk, double time, Error *err) {
    for (double f0; (f0 = f0_at(walk, time)) > 0;) {
        Likeness likest = step(walk, -1, f0, &time);
        bool apart = time - walk->rightmost > 0.8 / f0; /* two stretches may meet in one that is unvoiced */
        if (time < walk->left) {
            if (likest.correlation > 0.7 && likest.peak > 0.023333 * walk->loudest && apart)
                return add_pulse(walk->pulses, time, err);
            return true;
        }
        if (likest.correlation > 0.3 && (likest.peak == 0 || likest.peak > 0.01 * walk->loudest) && apart &&
            !add_pulse(walk->pulses, time, err))
            return false;
    }
    return true;
}

static bool walk_right(Walk *walk, double time, Error *err) {
    for (double f0; (f0 = f0_at(walk, time)) > 0;) {
        Likeness likest = step(walk, 1, f0, &time);
        bool last = time > walk->right;
        if (last ? likest.correlation > 0.7 && likest.peak > 0.023333 * walk->loudest
                 : likest.correlation > 0.3 && (likest.peak == 0 || likest.peak > 0.01 * walk->loudest)) {
            if (!add_pulse(walk->pulses, time, err)) return false;
            walk->rightmost = time;
        }
        if (last) break;
    }
    return true;
}

/* The sample farthest from zero within half a period of the middle, between samples. */
static double first_pulse(const Walk *walk, double middle, double f0) {
    const float *samples = walk->audio->samples;
    int rate = walk->audio->rate;
    int64_t first = (int64_t)floor(contour_sample(middle - 0.5 / f0, rate));
    int64_t last = (int64_t)ceil(contour_sample(middle + 0.5 / f0, rate));
    if (first < 1) first = 1;
    if (last > walk->audio->count) last = walk->audio->count;
    if (first > last) return middle;
    int64_t low = first, high = first;
    for (int64_t i = first + 1; i <= last; i++) {
        if (samples[i - 1] < samples[low - 1]) low = i;
        if (samples[i - 1] > samples[high - 1]) high = i;
    }
    double place = 0.5 * (double)(first + last); /* all are equal */
    if (low != high) {
        int64_t top = fabsf(samples[low - 1]) > fabsf(samples[high - 1]) ? low : high;
        place = (double)top;
        if (top > first && top < last) {
            double before = (double)samples[top - 2], here = (double)samples[top - 1], after = (double)samples[top];
            place += 0.5 * (after - before) / (2 * here - before - after);
        }
    }
    return (place - 0.5) / rate;
}

/* The voiced frames from `frame` on; gives the first after them. */
static int64_t next_stretch(Walk *walk, int64_t frame) {
    const Contour *pitch = walk->pitch;
    while (frame < pitch->count && pitch->value[frame] == 0) frame++;
    int64_t end = frame;
    while (end < pitch->count && pitch->value[end] != 0) end++;
    walk->left = contour_time(pitch, frame) - 0.5 * pitch->step;
    walk->right = contour_time(pitch, end - 1) + 0.5 * pitch->step;
    if (walk->left < 0) walk->left = 0;
    if (walk->right > walk->duration) walk->right = walk->duration;
    return end;
}

static bool find_in_stretch(Walk *walk, Error *err) {
    double middle = 0.5 * (walk->left + walk->right), f0 = f0_at(walk, middle);
    if (!(f0 > 0)) return true;
    double time = first_pulse(walk, middle, f0);
    return add_pulse(walk->pulses, time, err) && walk_left(walk, time, err) && walk_right(walk, time, err);
}

static double loudest(const Audio *audio) {
    float most = 0;
    for (int64_t i = 0; i < audio->count; i++) most = fmaxf(most, fabsf(audio->samples[i]));
    return (double)most;
}

bool pulses_find(const Audio *audio, const Contour *pitch, Pulses *pulses, Error *err) {
    *pulses = (Pulses){0};
    Walk walk = {.audio = audio,
                 .pitch = pitch,
                 .duration = contour_duration(audio),
                 .loudest = loudest(audio),
                 .rightmost = -INFINITY,
                 .pulses = pulses};
    for (int64_t frame = 0; frame < pitch->count;) {
        frame = next_stretch(&walk, frame);
        if (walk.left < walk.right && !find_in_stretch(&walk, err)) {
            pulses_free(pulses);
            return false;
        }
    }
    sort_values(pulses->time, (int64_t)pulses->count); /* walks to the left found theirs backwards */
    return true;
}

void pulses_free(Pulses *pulses) {
    free(pulses->time);
    *pulses = (Pulses){0};
}

/* --- jitter and shimmer --- */

static double factor(double a, double b) { return a > b ? a / b : b / a; }

static bool is_period(double seconds) { return seconds >= SHORTEST_S && seconds <= LONGEST_S; }

static double period(const Pulses *pulses, size_t i) { return pulses->time[i + 1] - pulses->time[i]; }

/* Whether the periods before and after pulse i are both periods, and alike. */
static bool regular(const Pulses *pulses, size_t i) {
    double before = period(pulses, i - 1), after = period(pulses, i);
    return is_period(before) && is_period(after) && factor(before, after) <= PERIOD_FACTOR;
}

/* Of the intervals that are periods and not unlike both their neighbours. */
static double mean_period(const Pulses *pulses) {
    double sum = 0;
    size_t found = 0;
    for (size_t i = 0; i + 1 < pulses->count; i++) {
        double length = period(pulses, i);
        bool first = i == 0, last = i + 2 == pulses->count;
        bool unlike_before = !first && factor(length, period(pulses, i - 1)) > PERIOD_FACTOR;
        bool unlike_after = !last && factor(length, period(pulses, i + 1)) > PERIOD_FACTOR;
        if (!is_period(length) || (unlike_before && unlike_after)) continue;
        sum += length;
        found++;
    }
    return sum / (double)found;
}

double pulses_jitter(const Pulses *pulses) {
    double sum = 0;
    size_t found = 0;
    for (size_t i = 1; i + 1 < pulses->count; i++) {
        if (!regular(pulses, i)) continue;
        sum += fabs(period(pulses, i - 1) - period(pulses, i));
        found++;
    }
    return found ? sum / (double)found / mean_period(pulses) : NAN;
}

/* The root mean square around a pulse under a Hann window of a fifth of the periods beside it; NaN of too few samples.
 */
static double amplitude(const Audio *audio, double time, double left, double right) {
    double square = 0, weight = 0;
    int64_t first = (int64_t)ceil(contour_sample(time - left, audio->rate));
    int64_t last = (int64_t)floor(contour_sample(time + right, audio->rate));
    if (first < 1) first = 1;
    if (last > audio->count) last = audio->count;
    if (last - first < 2) return NAN;
    for (int64_t i = first; i <= last; i++) {
        double distance = ((double)i - 0.5) / audio->rate - time;
        double window = 0.5 + 0.5 * cos(PI * distance / (distance < 0 ? left : right));
        double value = (double)audio->samples[i - 1] * window;
        square += value * value;
        weight += window * window;
    }
    return sqrt(square / weight);
}

typedef struct Beat {
    double time, amplitude;
} Beat;

static size_t find_beats(const Pulses *pulses, const Audio *audio, Beat *beats) {
    size_t count = 0;
    for (size_t i = 1; i + 1 < pulses->count; i++) {
        if (!regular(pulses, i)) continue;
        double time = pulses->time[i];
        double value = amplitude(audio, time, 0.2 * period(pulses, i - 1), 0.2 * period(pulses, i));
        if (value > 0) beats[count++] = (Beat){time, value};
    }
    return count;
}

bool pulses_shimmer(const Pulses *pulses, const Audio *audio, double *shimmer, Error *err) {
    *shimmer = NAN;
    Beat *beats = memory_new(pulses->count, sizeof *beats, err);
    if (!beats) return false;
    size_t count = find_beats(pulses, audio, beats), pairs = 0;
    double difference = 0, sum = 0;
    for (size_t i = 1; i < count; i++) {
        sum += beats[i - 1].amplitude;
        if (!is_period(beats[i].time - beats[i - 1].time) ||
            factor(beats[i].amplitude, beats[i - 1].amplitude) > AMPLITUDE_FACTOR)
            continue;
        difference += fabs(beats[i].amplitude - beats[i - 1].amplitude);
        pairs++;
    }
    if (pairs) *shimmer = difference / (double)pairs / (sum / (double)(count - 1));
    free(beats);
    return true;
}
