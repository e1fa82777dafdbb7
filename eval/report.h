/* What an evaluation found: the emotion's scores, and each stated cue's against what was measured. */
#ifndef SEMOLLM_EVAL_REPORT_H
#define SEMOLLM_EVAL_REPORT_H

#include "eval/answer.h"

enum { CUES_MAX = 4 }; /* gender, pitch, speed, volume */

typedef struct CueScore {
    Part part;
    int label_count;
    const char *labels[LEVELS_MAX]; /* from low to high, or female and male */
    int64_t unmeasured;             /* clips without a measured level; they are not scored */
    Scores scores;
} CueScore;

typedef struct Report {
    Scores emotion;
    CueScore cues[CUES_MAX];
    int cue_count;
    int64_t cut; /* answers that ran into the length limit */
} Report;

bool report_make(const Run *run, const Answers *answers, Report *report, Error *err);

/* A table for reading. */
void report_print(const Run *run, const Report *report, const char *title, FILE *out);

/* `count` clips spread over the answers and over the classes: measured cues beside the generated text. */
void report_examples(const Run *run, const Answers *answers, int64_t count, FILE *out);

/* scores.json and predictions.jsonl (one clip a line: true and predicted class, the answer, stated and
 * measured cues). `settings` (may be null) stands in scores.json under that name. */
bool report_write(const Run *run, const Answers *answers, const Report *report, const json_t *settings,
                  const char *folder, Error *err);

/* The word for an utterance's cue, measured or stated; null where there is none. */
const char *measured_cue(const Run *run, const Utterance *utterance, Part part);
const char *stated_cue(const Run *run, const Response *response, Part part);

#endif
