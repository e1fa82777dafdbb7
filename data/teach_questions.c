#include "data/teach_questions.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const Utterance *utterance_of(const Questions *questions, const Question *question) {
    return &questions->job->manifest->items[question->utterance];
}

/* --- what is asked --- */

/* Beside the messages: whatever an answer is checked against, and which of several answers this is. A question that is
 * asked again with the same answer and reason as the last time is another one, too. */
static char *draw_of(const Questions *questions, const Question *question, Error *err) {
    size_t index = question->utterance;
    const Utterance *utterance = &questions->job->manifest->items[index];
    const Levels *levels = &questions->job->levels[index];
    uint64_t own = XXH64(utterance->id, strlen(utterance->id), 0), variants = (uint64_t)questions->options->variants;
    return text_format(err, "%s\n%s\n%d %d %d of %d\n%llu %llu %d", utterance->emotion ? utterance->emotion : "",
                       utterance->gender ? utterance->gender : "", levels->level[CUE_PITCH], levels->level[CUE_SPEED],
                       levels->level[CUE_VOLUME], questions->job->level_count, (unsigned long long)questions->job->seed,
                       (unsigned long long)(variants ? own % variants : own), question->asked);
}

bool question_asking(const Questions *questions, const Question *question, Asking *asking, Error *err) {
    *asking = (Asking){0};
    PromptValues values = {.utterance = utterance_of(questions, question),
                           .levels = &questions->job->levels[question->utterance],
                           .level_count = questions->job->level_count,
                           .answer = question->answer,
                           .reason = question->asked ? question->why : NULL};
    if (!prompt_fill(&questions->prompt, &values, &asking->system, &asking->user, err)) return false;
    asking->question = (TeacherQuestion){.system = asking->system, .user = asking->user};
    char *draw = draw_of(questions, question, err);
    bool done = draw && answer_key(questions->options->teacher, &asking->question, draw, &asking->key, err);
    asking->question.seed = (uint32_t)asking->key.low & INT32_MAX;
    free(draw);
    if (!done) asking_free(asking);
    return done;
}

void asking_free(Asking *asking) {
    free(asking->system);
    free(asking->user);
    *asking = (Asking){0};
}

/* --- which utterances share a question --- */

typedef struct Keyed {
    AnswerKey key;
    size_t utterance;
} Keyed;

static int compare_keyed(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->key.high != y->key.high) return x->key.high < y->key.high ? -1 : 1;
    if (x->key.low != y->key.low) return x->key.low < y->key.low ? -1 : 1;
    return (x->utterance > y->utterance) - (x->utterance < y->utterance);
}

static bool find_keys(const Questions *questions, Keyed *keyed, size_t count, Error *err) {
    bool done = true;
    for (size_t i = 0; i < count && done; i++) {
        Question question = {.utterance = i};
        Asking asking;
        done = question_asking(questions, &question, &asking, err);
        keyed[i] = (Keyed){asking.key, i};
        asking_free(&asking);
    }
    return done;
}

/* Questions come in the order of the first utterance of each: same input, same order. */
static void number_questions(Questions *questions, Keyed *keyed, size_t *first_of, size_t count) {
    qsort(keyed, count, sizeof *keyed, compare_keyed);
    for (size_t i = 0; i < count; i++) {
        bool same = i && keyed[i].key.high == keyed[i - 1].key.high && keyed[i].key.low == keyed[i - 1].key.low;
        first_of[keyed[i].utterance] = same ? first_of[keyed[i - 1].utterance] : keyed[i].utterance;
    }
    for (size_t i = 0; i < count; i++) {
        if (first_of[i] == i) {
            questions->of_utterance[i] = questions->count;
            questions->items[questions->count++].utterance = i;
        } else {
            questions->of_utterance[i] = questions->of_utterance[first_of[i]];
        }
        questions->items[questions->of_utterance[i]].utterances++;
    }
}

bool questions_open(Questions *questions, const TeachJob *job, const TeachOptions *options, Error *err) {
    size_t count = job->manifest->count;
    *questions = (Questions){.job = job, .options = options};
    if (!prompt_read(&questions->prompt, options->prompt, err)) return false;
    questions->shows_transcript = strstr(questions->prompt.texts->user, "{transcript}") != NULL;
    questions->items = memory_new(count, sizeof *questions->items, err);
    questions->of_utterance = memory_new(count, sizeof *questions->of_utterance, err);
    Keyed *keyed = memory_new(count, sizeof *keyed, err);
    size_t *first_of = memory_new(count, sizeof *first_of, err);
    bool done =
        questions->items && questions->of_utterance && keyed && first_of && find_keys(questions, keyed, count, err);
    if (done) number_questions(questions, keyed, first_of, count);
    free(keyed);
    free(first_of);
    if (!done) questions_free(questions);
    return done;
}

void questions_free(Questions *questions) {
    for (size_t i = 0; i < questions->count; i++) {
        free(questions->items[i].answer);
        free(questions->items[i].why);
    }
    free(questions->items);
    free(questions->of_utterance);
    prompt_free(&questions->prompt);
    *questions = (Questions){0};
}

/* --- what an answer is worth --- */

static bool judge(const Questions *questions, const Question *question, const char *text, bool cut, Fault *fault,
                  Error *err) {
    Utterance known = *utterance_of(questions, question);
    if (!questions->shows_transcript) known.transcript = NULL; /* the teacher cannot quote what it was not shown */
    if (!explanation_check(text, &known, &questions->job->levels[question->utterance], questions->job->level_count,
                           fault, err))
        return false;
    if (cut && fault->kind == FAULT_NONE) *fault = (Fault){FAULT_CUT, "it was cut off, because it was too long"};
    return true;
}

bool question_settle(const Questions *questions, Question *question, const char *text, bool cut, Error *err) {
    Fault fault;
    char *clean = explanation_clean(text, err), *why = NULL;
    bool done = clean && judge(questions, question, clean, cut, &fault, err) && (why = text_copy(fault.why, err));
    if (!done) {
        free(clean);
        return false;
    }
    free(question->answer);
    free(question->why);
    question->answer = clean;
    question->why = why;
    question->fault = fault.kind;
    question->asked++;
    question->state = fault.kind == FAULT_NONE                           ? QUESTION_KEPT
                      : question->asked >= (int)questions->options->asks ? QUESTION_SET_ASIDE
                                                                         : QUESTION_OPEN;
    return true;
}
