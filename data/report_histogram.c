#include <math.h>

#include "data/report.h"

enum { STEPS_WANTED = 36 }; /* at most, but for the ends; rounding the step leaves no fewer than 14 */
static const double LEAST_SPREAD = 0.1;

double round_step(double value) {
    double power = pow(10, floor(log10(value))), first = value / power;
    if (first <= 1) return power;
    return first <= 2 ? 2 * power : first <= 5 ? 5 * power : 10 * power;
}

double histogram_edge(const Histogram *histogram, int bin) { return histogram->low + bin * histogram->step; }

Histogram histogram_over(const double *sorted, size_t count) {
    if (count == 0) return (Histogram){.step = 1, .bins = 1};
    size_t beyond = count / 200;
    double low = sorted[beyond], high = sorted[count - 1 - beyond];
    double lacking = fmax(fabs(high) * LEAST_SPREAD, LEAST_SPREAD) - (high - low);
    if (lacking > 0) { /* (almost) equal values stand in the middle of some room */
        low -= lacking / 2;
        high += lacking / 2;
    }
    Histogram histogram = {.step = round_step((high - low) / STEPS_WANTED)};
    histogram.low = floor(low / histogram.step) * histogram.step;
    while (histogram.bins < HISTOGRAM_BINS && histogram_edge(&histogram, histogram.bins) <= high) histogram.bins++;
    return histogram;
}

void histogram_add(Histogram *histogram, double value) {
    histogram->total++;
    double place = floor((value - histogram->low) / histogram->step);
    if (!(place >= -1)) place = -1;
    if (place > histogram->bins) place = histogram->bins;
    int bin = (int)place; /* off by one where the quotient was rounded: the edges decide */
    if (value >= histogram_edge(histogram, bin + 1)) bin++;
    if (value < histogram_edge(histogram, bin)) bin--;
    if (bin < 0)
        histogram->below++;
    else if (bin >= histogram->bins)
        histogram->above++;
    else
        histogram->count[bin]++;
}
