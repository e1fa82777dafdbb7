/* Whether an explanation that a teacher wrote may be believed: it must not contradict a measured level or the label,
 * name a wrong gender, or invent numbers. Private to data/. */
#ifndef SEMOLLM_DATA_EXPLANATION_CHECK_H
#define SEMOLLM_DATA_EXPLANATION_CHECK_H

#include "data/levels.h"

enum { EXPLANATION_WORDS_MOST = 120 };

typedef enum FaultKind {
    FAULT_NONE,
    FAULT_LEVEL,      /* another level than the measured one */
    FAULT_UNMEASURED, /* a level of what was not measured */
    FAULT_EMOTION,    /* another emotion than the label, or the label denied */
    FAULT_GENDER,     /* the wrong one, or one where it is not known */
    FAULT_NUMBER,
    FAULT_REFUSAL, /* "I cannot"; and talk about the task, "this explanation" */
    FAULT_CUT,     /* at the limit of tokens */
    FAULT_LONG,
    FAULT_FORM,  /* a list, labels of an answer's other parts, characters that are none */
    FAULT_EMPTY, /* nothing, or not the emotion, or no cue */
    FAULT_COUNT
} FaultKind;
extern const char *const FAULT_NAMES[FAULT_COUNT]; /* "contradicts a level", ... */

typedef struct Fault {
    FaultKind kind;
    char why[240]; /* a clause with "it" for the text: `it says "loud", but the volume is quiet` */
} Fault;

/* The first fault of a cleaned text. What the transcript says in quotes, or in three and more words, counts for
 * nothing. A level that is denied ("not loud") may be any other; what is said of other voices counts for nothing where
 * it says so ("fear is often loud"), and as said of this one where it does not ("a loud voice would be angrier"). False
 * only for lack of memory. */
bool explanation_check(const char *text, const Utterance *utterance, const Levels *levels, int level_count,
                       Fault *fault, Error *err);

/* An answer as an explanation may stand: one line, without what models like to put around it (their thoughts in
 * <think>, quotes, "Here is an explanation:", stars); free() it. */
char *explanation_clean(const char *answer, Error *err);

#endif
