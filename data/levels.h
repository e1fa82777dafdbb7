/* Levels of pitch, speed and volume: where an utterance lies among those of its corpus (and gender,
 * for pitch), by cut points at type-7 quantiles of a run's own training split (design, section 4). */
#ifndef SEMOLLM_DATA_LEVELS_H
#define SEMOLLM_DATA_LEVELS_H

#include "data/manifest.h"

typedef enum Cue { CUE_PITCH, CUE_SPEED, CUE_VOLUME, CUE_COUNT } Cue;
extern const char *const CUE_NAMES[CUE_COUNT];  /* "pitch", "speed", "volume" */
extern const FeatureId CUE_FEATURES[CUE_COUNT]; /* what each is judged by */

enum { LEVELS_MAX = 5, LEVEL_NONE = -1 };

/* 0..count-1 from low to high; LEVEL_NONE where the feature is null. */
typedef struct Levels {
    int8_t level[CUE_COUNT];
} Levels;

typedef struct CutPoints CutPoints;

/* What an utterance's features are compared with. */
typedef enum Relative { RELATIVE_CORPUS, RELATIVE_SPEAKER } Relative;

/* Of the training split's utterances; `count` is 3 or 5. */
CutPoints *cut_points_fit(const Utterance *const *utterances, size_t n, int count, Error *err);

/* Gives each speaker of SPEAKER_LEAST utterances or more cut points of its own, of all its utterances here; others keep
 * those of their corpus. They are no one else's, so the utterances may be of any split: a speaker that is held out has
 * none in training. */
enum { SPEAKER_LEAST = 10 };
bool cut_points_fit_speakers(CutPoints *cuts, const Utterance *const *utterances, size_t n, Error *err);

Levels cut_points_apply(const CutPoints *cuts, const Utterance *utterance);

/* The cut points (count - 1, rising) that judge such an utterance, by its corpus and gender alone; null where there are
 * none. *fitted (may be null) is set to how many training utterances they come from. */
const double *cut_points_of(const CutPoints *cuts, Cue cue, const Utterance *utterance, int64_t *fitted);

json_t *cut_points_json(const CutPoints *cuts, Error *err);
CutPoints *cut_points_parse(const json_t *json, const char *where, Error *err);
void cut_points_print(const CutPoints *cuts, FILE *out); /* and where unknown gender used the cuts of all */
void cut_points_free(CutPoints *cuts);

const char *level_word(Cue cue, int level, int count);   /* "high", "very slow", ... */
int level_of_word(Cue cue, const char *word, int count); /* LEVEL_NONE: not one */

/* Levels as a manifest keeps them with an explanation, in words: {"pitch": "high", "speed": null, ...};
 * and whether the ones kept with an utterance are these. */
json_t *levels_json(const Levels *levels, int count, Error *err);
bool levels_kept(const Utterance *utterance, const Levels *levels, int count);

#endif
