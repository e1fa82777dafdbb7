#include "data/peak.h"

#include <math.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;

/* The interpolated curve is taken on a grid of PHASES points a sample, fine enough that a parabola
 * through three of them is the curve's top to within single precision. */
enum { DEPTH = 70, PHASES = 16, TAPS = 2 * DEPTH };

struct PeakTable {
    float taps[PHASES][TAPS];
    float shallow[TAPS]; /* scratch where the curve's end is nearer than DEPTH */
};

typedef struct Curve {
    PeakTable *table;
    const float *y;
    int64_t first, last;
} Curve;

/* Weights of the samples on one side of a point: the first at `distance` (0..1), the others `stride`
 * places on; sin(π x) / (π x) under half a raised cosine, whose angles are stepped by rotation. */
static void fill_side(float *taps, int stride, int depth, double distance) {
    double width = distance + depth, sine = 0.5 * sin(PI * distance) / PI;
    double cosine = cos(PI * distance / width), wave = sin(PI * distance / width);
    double turn_cosine = cos(PI / width), turn_sine = sin(PI / width);
    for (int k = 0; k < depth; k++) {
        taps[k * stride] = (float)(sine / (distance + k) * (1 + cosine));
        double turned = cosine * turn_cosine - wave * turn_sine;
        wave = wave * turn_cosine + cosine * turn_sine;
        cosine = turned;
        sine = -sine;
    }
}

void sinc_taps(float *taps, int depth, double phase) {
    fill_side(taps + depth - 1, -1, depth, phase);
    fill_side(taps + depth, 1, depth, 1 - phase);
}

PeakTable *peak_table_new(Error *err) {
    PeakTable *table = memory_new(1, sizeof *table, err);
    if (!table) return NULL;
    for (int phase = 1; phase < PHASES; phase++) sinc_taps(table->taps[phase], DEPTH, (double)phase / PHASES);
    return table;
}

void peak_table_free(PeakTable *table) { free(table); }

/* How many samples on either side of left + phase are known, at most DEPTH. */
static int depth_at(const Curve *curve, int64_t left) {
    int64_t before = left - curve->first + 1, after = curve->last - left;
    int64_t depth = before < after ? before : after;
    return depth < DEPTH ? (int)depth : DEPTH;
}

static double value_at(const Curve *curve, int64_t point) {
    int phase = (int)(point & (PHASES - 1));
    int64_t left = (point - phase) / PHASES;
    if (phase == 0) return (double)curve->y[left];
    int depth = depth_at(curve, left);
    const float *taps = curve->table->taps[phase], *y = curve->y + left + 1 - depth;
    if (depth < DEPTH) {
        sinc_taps(curve->table->shallow, depth, (double)phase / PHASES);
        taps = curve->table->shallow;
    }
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < 2 * depth; k++) sum += y[k] * taps[k];
    return (double)sum;
}

/* The top of the parabola through (-1, below), (0, here), (1, above). */
static Peak parabola_top(double below, double here, double above) {
    double slope = 0.5 * (above - below), bend = 2 * here - above - below;
    double offset = bend > 0 ? slope / bend : 0;
    return (Peak){offset, here + 0.5 * slope * offset};
}

Peak peak_refine(PeakTable *table, const float *y, int64_t first, int64_t last, int64_t i) {
    Curve curve = {table, y, first, last};
    double guess = parabola_top((double)y[i - 1], (double)y[i], (double)y[i + 1]).place;
    int64_t point = i * PHASES + (int64_t)lround(guess * PHASES);
    double below = value_at(&curve, point - 1), here = value_at(&curve, point), above = value_at(&curve, point + 1);
    while (above > here && point < (i + 1) * PHASES - 1) {
        point++;
        below = here;
        here = above;
        above = value_at(&curve, point + 1);
    }
    while (below > here && point > (i - 1) * PHASES + 1) {
        point--;
        above = here;
        here = below;
        below = value_at(&curve, point - 1);
    }
    Peak top = parabola_top(below, here, above);
    return (Peak){((double)point + top.place) / PHASES, top.height};
}
