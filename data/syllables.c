#include "data/syllables.h"

#include <math.h>
#include <stdlib.h>

#include "data/intensity.h"
#include "data/peak.h"
#include "data/pitch.h"

static const double INTENSITY_FLOOR_HZ = 50, SILENCE_DB = -25, DIP_DB = 2, MIN_PAUSE_S = 0.3, MIN_SPEECH_S = 0.1;
static const double ABSOLUTE_SILENCE_DB = -299; /* Praat's intensity of digital silence is -300 dB */

/* A stretch of time, all speech or all silence. */
typedef struct Stretch {
    double start, end;
    bool speech;
} Stretch;

typedef struct Stretches {
    Stretch *items;
    size_t count, capacity;
} Stretches;

typedef struct NucleusSearch {
    const Contour *intensity;
    const Contour *pitch;
    const Stretches *stretches;
    double threshold; /* dB: quieter peaks are no syllables */
} NucleusSearch;

/* --- levels of the intensity contour --- */

/* The top of the parabola through a contour's point i and its neighbours. */
static double parabola_top(const double *y, int64_t i) {
    double slope = 0.5 * (y[i + 1] - y[i - 1]), bend = 2 * y[i] - y[i - 1] - y[i + 1];
    return bend == 0 ? y[i] : y[i] + 0.5 * slope * slope / bend;
}

/* The greatest (sign 1) or least (sign -1) value, between frames too. */
static double extreme(const Contour *contour, int sign) {
    const double *y = contour->value;
    double best = y[0] * sign;
    if (y[contour->count - 1] * sign > best) best = y[contour->count - 1] * sign;
    for (int64_t i = 1; i < contour->count - 1; i++) {
        if (!(y[i] * sign > y[i - 1] * sign && y[i] * sign >= y[i + 1] * sign)) continue;
        double top = parabola_top(y, i) * sign;
        if (top > best) best = top;
    }
    return best * sign;
}

static bool quantile_of(const Contour *contour, double share, double *quantile, Error *err) {
    double *sorted = memory_new((size_t)contour->count, sizeof *sorted, err);
    if (!sorted) return false;
    for (int64_t i = 0; i < contour->count; i++) sorted[i] = contour->value[i];
    sort_values(sorted, contour->count);
    *quantile = quantile_praat(sorted, contour->count, share);
    free(sorted);
    return true;
}

/* --- speech and silence --- */

static bool add_stretch(Stretches *stretches, double start, double end, bool speech, Error *err) {
    if (!memory_grow(&stretches->items, stretches->count, &stretches->capacity, sizeof *stretches->items, err))
        return false;
    stretches->items[stretches->count++] = (Stretch){start, end, speech};
    return true;
}

static void merge_equal(Stretches *stretches) {
    size_t kept = 0;
    for (size_t i = 0; i < stretches->count; i++) {
        if (kept && stretches->items[kept - 1].speech == stretches->items[i].speech) {
            stretches->items[kept - 1].end = stretches->items[i].end;
        } else {
            stretches->items[kept++] = stretches->items[i];
        }
    }
    stretches->count = kept;
}

/* Stretches of one kind that are too short become part of what is around them. */
static void drop_short(Stretches *stretches, bool speech, double least_s) {
    if (stretches->count < 2) return;
    for (size_t i = 0; i < stretches->count; i++) {
        Stretch *stretch = &stretches->items[i];
        if (stretch->speech == speech && stretch->end - stretch->start < least_s) stretch->speech = !speech;
    }
    merge_equal(stretches);
}

static bool find_stretches(const Contour *intensity, double duration, double threshold, Stretches *stretches,
                           Error *err) {
    double start = 0;
    bool speech = intensity->value[0] >= threshold;
    for (int64_t i = 1; i < intensity->count; i++) {
        if ((intensity->value[i] >= threshold) == speech) continue;
        double time = contour_time(intensity, i);
        if (!add_stretch(stretches, start, time, speech, err)) return false;
        start = time;
        speech = !speech;
    }
    if (!add_stretch(stretches, start, duration, speech, err)) return false;
    drop_short(stretches, true, MIN_SPEECH_S);
    drop_short(stretches, false, MIN_PAUSE_S);
    return true;
}

static bool speech_at(const Stretches *stretches, double time) {
    for (size_t i = 0; i < stretches->count; i++)
        if (time < stretches->items[i].end) return stretches->items[i].speech;
    return false;
}

/* --- nuclei: voiced peaks of intensity, each with a dip after it --- */

/* Praat's cubic interpolation of a contour at a place between its frames. */
static double cubic_at(const Contour *contour, double place) {
    const double *y = contour->value;
    int64_t left = (int64_t)floor(place);
    if (left < 0) return y[0];
    if (left >= contour->count - 1) return y[contour->count - 1];
    double after = place - (double)left, before = 1 - after;
    if (left < 1 || left + 2 >= contour->count) return y[left] * before + y[left + 1] * after;
    double dy_left = 0.5 * (y[left + 1] - y[left - 1]), dy_right = 0.5 * (y[left + 2] - y[left]);
    return y[left] * before + y[left + 1] * after -
           after * before *
               (0.5 * (dy_right - dy_left) + (after - 0.5) * (dy_left + dy_right - 2 * (y[left + 1] - y[left])));
}

/* Places (in frames) and heights of the peaks over the threshold. */
typedef struct Peaks {
    Peak *items;
    int64_t count;
} Peaks;

static void find_peaks(const NucleusSearch *search, const float *curve, PeakTable *table, Peaks *peaks) {
    const Contour *intensity = search->intensity;
    const double *y = intensity->value;
    for (int64_t i = 1; i < intensity->count - 1; i++) {
        if (!(y[i] > y[i - 1] && y[i] >= y[i + 1])) continue;
        Peak peak = peak_refine(table, curve, 0, intensity->count - 1, i);
        peak.height = cubic_at(intensity, peak.place); /* as the script asks for it */
        if (peak.height > search->threshold) peaks->items[peaks->count++] = peak;
    }
}

/* The least frame between two peaks. */
static double dip_between(const Contour *intensity, double from, double to) {
    int64_t first = (int64_t)ceil(from), last = (int64_t)floor(to);
    double least = INFINITY;
    for (int64_t i = first; i <= last; i++)
        if (intensity->value[i] < least) least = intensity->value[i];
    return least;
}

static int count_nuclei(const NucleusSearch *search, const Peaks *peaks) {
    int nuclei = 0;
    for (int64_t i = 0; i + 1 < peaks->count; i++) {
        const Peak *peak = &peaks->items[i];
        double dip = dip_between(search->intensity, peak->place, peak[1].place);
        if (!(fabs(peak->height - dip) > DIP_DB)) continue;
        double time = search->intensity->start + peak->place * search->intensity->step;
        if (pitch_at(search->pitch, time) > 0 && speech_at(search->stretches, time)) nuclei++;
    }
    return nuclei;
}

static bool find_nuclei(const NucleusSearch *search, int *nuclei, Error *err) {
    int64_t frames = search->intensity->count;
    Peaks peaks = {memory_new((size_t)frames, sizeof *peaks.items, err), 0};
    float *curve = memory_new((size_t)frames, sizeof *curve, err);
    PeakTable *table = peak_table_new(err);
    bool done = peaks.items && curve && table;
    if (done) {
        for (int64_t i = 0; i < frames; i++) curve[i] = (float)search->intensity->value[i];
        find_peaks(search, curve, table, &peaks);
        *nuclei = count_nuclei(search, &peaks);
    }
    free(peaks.items);
    free(curve);
    peak_table_free(table);
    return done;
}

/* The script's own pitch settings: low floor, few candidates, easily voiced. */
static PitchOptions nucleus_pitch(void) {
    PitchOptions options = pitch_options_default();
    options.step_s = 0.02;
    options.floor_hz = 30;
    options.ceiling_hz = 450;
    options.candidates = 4;
    options.voicing = 0.25;
    options.voicing_change_cost = 0.25;
    return options;
}

static bool measure(const Audio *audio, const Contour *intensity, Syllables *syllables, Error *err) {
    double loudest = extreme(intensity, 1), least = extreme(intensity, -1), high;
    if (loudest < ABSOLUTE_SILENCE_DB) return true;
    if (!quantile_of(intensity, 0.99, &high, err)) return false;
    double duration = (double)audio->count / audio->rate;
    double threshold = high + SILENCE_DB, silence = loudest - fabs(SILENCE_DB - (loudest - high));
    if (silence < least || duration < MIN_PAUSE_S) silence = -INFINITY; /* nothing is silent */
    Stretches stretches = {0};
    Contour pitch = {0};
    PitchOptions options = nucleus_pitch();
    NucleusSearch search = {intensity, &pitch, &stretches, threshold < least ? least : threshold};
    bool done = find_stretches(intensity, duration, silence, &stretches, err) &&
                pitch_track(audio, &options, &pitch, err) && find_nuclei(&search, &syllables->nuclei, err);
    for (size_t i = 0; i < stretches.count; i++) {
        if (!stretches.items[i].speech) continue;
        syllables->speech_s += stretches.items[i].end - stretches.items[i].start;
        syllables->stretches++;
    }
    contour_free(&pitch);
    free(stretches.items);
    return done;
}

bool syllables_measure(const Audio *audio, Syllables *syllables, Error *err) {
    *syllables = (Syllables){0};
    Contour intensity;
    if (!intensity_track(audio, INTENSITY_FLOOR_HZ, &intensity, err)) return false;
    syllables->exists = intensity.count > 0;
    bool done = !syllables->exists || measure(audio, &intensity, syllables, err);
    contour_free(&intensity);
    return done;
}
