/* What semollm.c may include of evaluation. */
#ifndef SEMOLLM_EVAL_EVAL_H
#define SEMOLLM_EVAL_EVAL_H

#include "base/options.h"

/* Commands: eval, explain, export. */
extern const Command EVAL_COMMANDS[]; /* ended by a null name */

#endif
