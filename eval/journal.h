/* Answers as they come, a JSON line each, so that a killed evaluation goes on where it was. */
#ifndef SEMOLLM_EVAL_JOURNAL_H
#define SEMOLLM_EVAL_JOURNAL_H

#include "eval/answer.h"

/* Opens options->journal: answers found there under the same settings are put into `answers`; what was
 * made under others, and a last line cut by a kill, are dropped. */
FILE *journal_open(const Run *run, const Split *split, const AnswerOptions *options, Answers *answers, Error *err);

/* Appends one line, flushed; takes over `json`. */
bool journal_line(FILE *journal, json_t *json, const char *path, Error *err);

#endif
