/* Written by configs/gender/train.py: a man's log odds by the standardised features (logarithms of those in Hz). */
#ifndef SEMOLLM_DATA_GENDER_WEIGHTS_H
#define SEMOLLM_DATA_GENDER_WEIGHTS_H

#include "data/features.h"

typedef struct GenderWeight {
    FeatureId feature;
    double mean, spread, weight;
} GenderWeight;

static const GenderWeight GENDER_WEIGHTS[] = {
    {FEATURE_F0_MEDIAN_HZ, 5.2910526, 0.40046016, -1.295448}, {FEATURE_F0_MEAN_HZ, 5.3222513, 0.38358484, -1.9707818},
    {FEATURE_F0_SD_ST, 3.6575848, 1.5837605, 0.88178152},     {FEATURE_F0_RANGE_ST, 11.418123, 5.6225237, -0.072378774},
    {FEATURE_F1_HZ, 6.2611759, 0.1573822, 1.2086912},         {FEATURE_F2_HZ, 7.4147476, 0.076765947, 0.16938513},
    {FEATURE_F3_HZ, 7.9094954, 0.062242454, -0.96404391},
};
static const double GENDER_BIAS = 0.16602311;

/* Of 100 whose gender is estimated, how many wrongly: by utterances of RAVDESS's actors, each left out of
 * training in its turn, alone and by means over as many of one actor; and by utterances of espeak-ng's voices. */
enum { GENDER_FEW = 5 };
static const double GENDER_WRONG_ALONE = 16.7;
static const double GENDER_WRONG_FEW = 4.9;
static const double GENDER_WRONG_ESPEAK = 8.9;

#endif
