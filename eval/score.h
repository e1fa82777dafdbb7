/* What predictions are worth: unweighted and weighted accuracy, recalls, confusion, cue accuracy. An
 * answer that names no class counts as wrong. */
#ifndef SEMOLLM_EVAL_SCORE_H
#define SEMOLLM_EVAL_SCORE_H

#include "base/base.h"

enum { SCORE_CLASSES_MAX = 64, SCORE_UNPARSABLE = -1 };

/* A 95 % interval of a proportion. */
typedef struct Interval {
    double low, high;
} Interval;

typedef struct Scores {
    int class_count;
    int64_t total, correct, unparsable;
    int64_t count[SCORE_CLASSES_MAX];                            /* of each true class */
    int64_t confusion[SCORE_CLASSES_MAX][SCORE_CLASSES_MAX + 1]; /* [true][predicted], unparsable last */
    double recall[SCORE_CLASSES_MAX];                            /* NaN for a class the set does not hold */
    double ua;       /* mean recall of the classes present (scikit-learn's balanced accuracy) */
    double wa;       /* accuracy */
    double macro_f1; /* mean F1 of the classes present */
    double majority; /* accuracy of always saying the commonest class */
    Interval ua_interval, wa_interval;
} Scores;

/* truth[i] in 0 .. class_count-1, predicted[i] likewise or SCORE_UNPARSABLE. */
Scores scores_of(const int *truth, const int *predicted, int64_t total, int class_count);

/* Wilson's interval of `successes` in `trials` (Wilson 1927); 0 to 1 for no trials. */
Interval wilson_interval(double successes, double trials);

#endif
