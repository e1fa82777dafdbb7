/* Answers of a run's model: generated, parsed, and set against what was measured. */
#ifndef SEMOLLM_EVAL_ANSWER_H
#define SEMOLLM_EVAL_ANSWER_H

#include "eval/control.h"
#include "eval/score.h"

typedef struct AnswerOptions {
    GenerateOptions generate; /* stop ids are filled in by answers_make */
    Control control;
    bool rank;           /* the emotion by likelihood of each class instead of the generated one */
    int64_t clips;       /* generated together; 0: as many as suit the device */
    const char *journal; /* answers are kept here as they come, and found again after a kill; null: nowhere */
} AnswerOptions;

AnswerOptions answer_options_default(void);

typedef struct Answer {
    uint32_t index;       /* in the shards */
    char *text;           /* null: not answered yet */
    bool stopped;         /* false: cut at the length limit */
    Response stated;      /* parsed from text */
    int truth, predicted; /* classes; predicted may be SCORE_UNPARSABLE */
} Answer;

typedef struct Answers {
    Answer *items;
    size_t count;
} Answers;

/* Parses `text`, which the answer takes over, and finds its class. */
bool answer_settle(const Run *run, Answer *answer, char *text, bool stopped, Error *err);

bool answers_make(Run *run, const Split *split, const AnswerOptions *options, Answers *answers, Error *err);
void answers_free(Answers *answers);

/* Options' stop ids: the model's end-of-text tokens and the template's end of turn; free(). */
int32_t *stop_ids(const Run *run, int *count, Error *err);

/* Generates for the prompts of a batch and decodes: texts[batch->count], each to be freed. */
bool batch_answer(Run *run, const Batch *batch, const GenerateOptions *options, char **texts, bool *stopped,
                  Error *err);

#endif
