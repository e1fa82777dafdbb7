/* Explanations from a teacher for a whole manifest: what is asked, checked, asked again and set aside. Private to
 * data/ but for the options. */
#ifndef SEMOLLM_DATA_TEACH_H
#define SEMOLLM_DATA_TEACH_H

#include "data/prompt.h"
#include "data/teacher.h"

typedef struct TeachOptions {
    const Teacher *teacher;
    const char *prompt;         /* the file of its texts */
    const char *answers;        /* the file where answers are kept; null: OUTPUT.answers.jsonl */
    int64_t asks;               /* how often a question is asked before it is set aside */
    int64_t variants;           /* different answers for utterances with the same label and cues; 0: one an utterance */
    int64_t tokens_most;        /* of all answers and their prompts in the file; 0: any number */
    double cost_most;           /* 0: any */
    double price_in, price_out; /* of a million tokens */
    bool dry_run;               /* print sample prompts, tokens and cost to stdout, and ask nothing */
} TeachOptions;

typedef struct TeachJob {
    Manifest *manifest; /* explained by the template; what the teacher explains is replaced */
    const Levels *levels;
    int level_count;
    uint64_t seed;
    const atomic_bool *stop; /* may be null */
} TeachJob;

/* Utterances whose question was set aside, or got no answer, keep the template's explanation, and `set_aside` in their
 * JSON says why. Stopped, killed, at a ceiling or without any answer it fails, and goes on from the answers' file when
 * called again. */
bool teach(const TeachJob *job, const TeachOptions *options, Error *err);

#endif
