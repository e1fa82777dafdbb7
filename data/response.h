/* What the model is taught to say: an ordered list of parts in one of two styles, and the one parser
 * that reads both. */
#ifndef SEMOLLM_DATA_RESPONSE_H
#define SEMOLLM_DATA_RESPONSE_H

#include "data/levels.h"

typedef enum Part {
    PART_EMOTION,
    PART_GENDER,
    PART_PITCH,
    PART_SPEED,
    PART_VOLUME,
    PART_TRANSCRIPT,
    PART_EXPLANATION,
    PART_COUNT
} Part;
extern const char *const PART_NAMES[PART_COUNT]; /* "emotion", ... as in configs */

typedef enum ResponseStyle { STYLE_LABELLED, STYLE_PAPER } ResponseStyle;

typedef struct ResponseFormat {
    Part parts[PART_COUNT];
    int part_count;
    ResponseStyle style;
    int level_count; /* 3 or 5 */
} ResponseFormat;

/* The answer for an utterance. An explanation that was written from other levels than `levels` (or is
 * missing) is replaced by the template's, and *replaced set. Unknown parts are left out. */
char *response_write(const ResponseFormat *format, const Utterance *utterance, const Levels *levels, uint64_t seed,
                     bool *replaced, Error *err);

/* The template's explanation of an emotion from measured levels, varied by seed and id. */
char *explanation_write(const Utterance *utterance, const Levels *levels, int level_count, uint64_t seed, Error *err);

typedef struct Response { /* what was found in an answer; null or LEVEL_NONE where nothing was */
    char *emotion, *gender, *transcript, *explanation;
    Levels levels;
} Response;

/* Reads any text: `classes` are the emotions it may name (case-insensitive; configs' spellings). False
 * only for lack of memory. */
bool response_parse(const char *text, const char *const *classes, int class_count, int level_count, Response *response,
                    Error *err);
void response_free(Response *response);

/* The measured cues as text, for `input: description`: "gender: female, pitch: high, ...". */
char *description_write(const Utterance *utterance, const Levels *levels, int level_count, const Part *parts,
                        int part_count, Error *err);

#endif
