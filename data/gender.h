/* An estimate of gender for speakers whose corpus does not give it: logistic regression on F0 and formants, trained by
 * configs/gender/train.py. Utterances it was given to hold "gender_source": "estimated" in their manifest. */
#ifndef SEMOLLM_DATA_GENDER_H
#define SEMOLLM_DATA_GENDER_H

#include "data/manifest.h"

/* Whether an utterance's gender was given with its corpus. */
bool gender_given(const Utterance *utterance);

/* A man's log odds, of features measured with voice quality; NaN where one that it needs does not exist. */
double gender_log_odds(const Features *features);

/* Sets the gender of utterances that were given none, by the mean of all utterances of a speaker where one is named,
 * and says to stderr of how many, and how often such estimates are wrong. */
bool gender_estimate(Manifest *manifest, Error *err);

#endif
