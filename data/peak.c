#include "data/peak.h"

#include <math.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;

/* The interpolated curve is taken on a grid of PHASES points a sample, fine enough that a parabola
 * through three of them is the curve's top to within single precision. */
enum { DEPTH = 70, PHASES = 16, TAPS = 2 * DEPTH };

struct PeakTable {
    float taps[PHASES][TAPS];
    float shallow[TAPS]; /* scratch where a lag lies closer to the end than DEPTH */
};

/* Weights of the samples left+1-depth .. left+depth for a point `phase` (0..1) after sample left. */
static void fill_taps(float *taps, int depth, double phase) {
    for (int k = 0; k < 2 * depth; k++) {
        double distance = phase - (double)(k - depth + 1); /* from the sample to the point */
        double width = distance >= 0 ? phase + depth : 1 - phase + depth;
        double sine = distance == 0 ? 1 : sin(PI * distance) / (PI * distance);
        taps[k] = (float)(sine * 0.5 * (1 + cos(PI * distance / width)));
    }
}

PeakTable *peak_table_new(Error *err) {
    PeakTable *table = memory_new(1, sizeof *table, err);
    if (!table) return NULL;
    for (int phase = 0; phase < PHASES; phase++) fill_taps(table->taps[phase], DEPTH, (double)phase / PHASES);
    return table;
}

void peak_table_free(PeakTable *table) { free(table); }

static double curve_at(PeakTable *table, const float *r, int64_t last, int64_t point) {
    int64_t left = point / PHASES; /* points are positive */
    int phase = (int)(point % PHASES);
    if (phase == 0) return (double)r[left];
    int depth = last - left < DEPTH ? (int)(last - left) : DEPTH;
    const float *taps = table->taps[phase], *first = r + left + 1 - depth;
    if (depth < DEPTH) {
        fill_taps(table->shallow, depth, (double)phase / PHASES);
        taps = table->shallow;
    }
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < 2 * depth; k++) sum += first[k] * taps[k];
    return (double)sum;
}

Peak peak_refine(PeakTable *table, const float *r, int64_t last, int64_t i) {
    double slope = 0.5 * ((double)r[i + 1] - (double)r[i - 1]);
    double bend = 2 * (double)r[i] - (double)r[i - 1] - (double)r[i + 1];
    double offset = bend > 0 ? slope / bend : 0;
    int64_t point = i * PHASES + (int64_t)lround(offset * PHASES);
    double below = curve_at(table, r, last, point - 1), here = curve_at(table, r, last, point);
    double above = curve_at(table, r, last, point + 1);
    while (above > here && point < (i + 1) * PHASES - 1) {
        point++;
        below = here;
        here = above;
        above = curve_at(table, r, last, point + 1);
    }
    while (below > here && point > (i - 1) * PHASES + 1) {
        point--;
        above = here;
        here = below;
        below = curve_at(table, r, last, point - 1);
    }
    slope = 0.5 * (above - below);
    bend = 2 * here - above - below;
    offset = bend > 0 ? slope / bend : 0;
    double height = here + 0.5 * slope * offset;
    if (height > 1) height = 1 / height;
    return (Peak){.lag = ((double)point + offset) / PHASES, .height = height};
}
