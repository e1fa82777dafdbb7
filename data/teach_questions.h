/* The questions of a manifest, each asked once for all utterances that share its label and cues. Private to teach*.c.
 */
#ifndef SEMOLLM_DATA_TEACH_QUESTIONS_H
#define SEMOLLM_DATA_TEACH_QUESTIONS_H

#include "data/answer_cache.h"
#include "data/explanation_check.h"
#include "data/teach.h"

typedef enum QuestionState { QUESTION_OPEN, QUESTION_KEPT, QUESTION_SET_ASIDE, QUESTION_UNANSWERED } QuestionState;

typedef struct Question {
    size_t utterance; /* the first that it is asked for */
    size_t utterances;
    QuestionState state;
    int asked;    /* answers so far */
    char *answer; /* the last, cleaned; null before */
    char *why;    /* what was wrong with it, or why there was none */
    FaultKind fault;
} Question;

typedef struct Questions {
    const TeachJob *job;
    const TeachOptions *options;
    Prompt prompt;
    bool shows_transcript;
    Question *items;
    size_t count;
    size_t *of_utterance; /* [manifest->count] */
} Questions;

bool questions_open(Questions *questions, const TeachJob *job, const TeachOptions *options, Error *err);
void questions_free(Questions *questions);

/* A question as it is to be asked now, and the key of its answer; free with asking_free. */
typedef struct Asking {
    char *system, *user;
    TeacherQuestion question;
    AnswerKey key;
} Asking;

bool question_asking(const Questions *questions, const Question *question, Asking *asking, Error *err);
void asking_free(Asking *asking);

/* What follows from an answer: kept, to be asked again with the reason, or set aside. */
bool question_settle(const Questions *questions, Question *question, const char *text, bool cut, Error *err);

#endif
