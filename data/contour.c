#include "data/contour.h"

#include <math.h>
#include <stdlib.h>

bool contour_new(Contour *contour, double duration, double window, double step, Error *err) {
    *contour = (Contour){.step = step};
    if (duration >= window && duration > 0) contour->count = (int64_t)floor((duration - window) / step) + 1;
    contour->start = 0.5 * duration - 0.5 * (double)contour->count * step + 0.5 * step;
    contour->value = memory_new((size_t)contour->count, sizeof *contour->value, err);
    return contour->value != NULL;
}

void contour_free(Contour *contour) {
    free(contour->value);
    *contour = (Contour){0};
}

double quantile_praat(const double *sorted, int64_t count, double share) {
    if (count < 1) return NAN;
    if (count == 1) return sorted[0];
    double place = share * (double)count - 0.5;
    int64_t left = (int64_t)floor(place);
    if (left < 0) left = 0;
    if (left > count - 2) left = count - 2;
    return sorted[left] + (place - (double)left) * (sorted[left + 1] - sorted[left]);
}

static int compare_values(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_values(double *values, int64_t count) {
    if (count > 1) qsort(values, (size_t)count, sizeof *values, compare_values);
}
