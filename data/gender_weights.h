/* Written by configs/gender/train.py: a man's log odds by the standardised features (logarithms of those in Hz). */
#ifndef SEMOLLM_DATA_GENDER_WEIGHTS_H
#define SEMOLLM_DATA_GENDER_WEIGHTS_H

#include "data/features.h"

typedef struct GenderWeight {
    FeatureId feature;
    double mean, spread, weight;
} GenderWeight;

static const GenderWeight GENDER_WEIGHTS[] = {
    {FEATURE_F0_MEDIAN_HZ, 5.2910526, 0.40046016, -1.2984964},
    {FEATURE_F0_MEAN_HZ, 5.3222513, 0.38358484, -1.9681335},
    {FEATURE_F0_SD_ST, 3.6575848, 1.5837605, 0.87111924},
    {FEATURE_F0_RANGE_ST, 11.418123, 5.6225237, -0.062234029},
    {FEATURE_F1_HZ, 6.2620776, 0.15725103, 1.2097839},
    {FEATURE_F2_HZ, 7.4164642, 0.076491703, 0.16314236},
    {FEATURE_F3_HZ, 7.9107299, 0.062016992, -0.96673516},
};
static const double GENDER_BIAS = 0.16969725;

/* Of 100 whose gender is estimated, how many wrongly: by utterances of RAVDESS's actors, each left out of
 * training in its turn, alone and by means over as many of one actor; and by utterances of espeak-ng's voices. */
enum { GENDER_FEW = 5 };
static const double GENDER_WRONG_ALONE = 16.7;
static const double GENDER_WRONG_FEW = 4.9;
static const double GENDER_WRONG_ESPEAK = 9.0;

#endif
