#include "eval/score.h"

#include <math.h>

static const double Z95 = 1.959963984540054;

Interval wilson_interval(double successes, double trials) {
    if (trials <= 0) return (Interval){0, 1};
    double share = successes / trials, z2 = Z95 * Z95;
    double centre = (share + z2 / (2 * trials)) / (1 + z2 / trials);
    double half = Z95 / (1 + z2 / trials) * sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials));
    return (Interval){fmax(0, centre - half), fmin(1, centre + half)};
}

/* The mean of independent recalls: variances add. Each is taken from Agresti and Coull's adjusted share
 * (two successes and two failures more), which stays honest where a recall is 0 or 1. */
static Interval mean_recall_interval(const Scores *scores, int present) {
    double variance = 0;
    for (int c = 0; c < scores->class_count; c++) {
        if (scores->count[c] == 0) continue;
        double n = (double)scores->count[c] + 4, share = ((double)scores->confusion[c][c] + 2) / n;
        variance += share * (1 - share) / n;
    }
    double half = Z95 * sqrt(variance) / present;
    return (Interval){fmax(0, scores->ua - half), fmin(1, scores->ua + half)};
}

static double f1(const Scores *scores, int c) {
    int64_t said = 0;
    for (int t = 0; t < scores->class_count; t++) said += scores->confusion[t][c];
    int64_t either = said + scores->count[c];
    return either ? 2.0 * (double)scores->confusion[c][c] / (double)either : 0;
}

static void add_class(Scores *scores, int c, int *present) {
    scores->recall[c] = NAN;
    if (scores->count[c] == 0) return;
    ++*present;
    scores->correct += scores->confusion[c][c];
    scores->unparsable += scores->confusion[c][scores->class_count];
    scores->recall[c] = (double)scores->confusion[c][c] / (double)scores->count[c];
    scores->ua += scores->recall[c];
    scores->macro_f1 += f1(scores, c);
    scores->majority = fmax(scores->majority, (double)scores->count[c] / (double)scores->total);
}

Scores scores_of(const int *truth, const int *predicted, int64_t total, int class_count) {
    Scores scores = {.class_count = class_count, .total = total, .ua_interval = {0, 1}, .wa_interval = {0, 1}};
    for (int64_t i = 0; i < total; i++) {
        scores.count[truth[i]]++;
        scores.confusion[truth[i]][predicted[i] == SCORE_UNPARSABLE ? class_count : predicted[i]]++;
    }
    int present = 0;
    for (int c = 0; c < class_count; c++) add_class(&scores, c, &present);
    if (total == 0) return scores;
    scores.ua /= present;
    scores.macro_f1 /= present;
    scores.wa = (double)scores.correct / (double)total;
    scores.ua_interval = mean_recall_interval(&scores, present);
    scores.wa_interval = wilson_interval((double)scores.correct, (double)total);
    return scores;
}
