/* What a teacher is asked: the texts of a file such as configs/prompts/explain.yaml, filled with an utterance's label
 * and measured cues, and with nothing else that is known of it. Private to data/. */
#ifndef SEMOLLM_DATA_PROMPT_H
#define SEMOLLM_DATA_PROMPT_H

#include "data/levels.h"

/* Placeholders: {emotion} {gender} {pitch} {speed} {volume} {transcript}, and in `again` also {answer}, {reason}. A
 * line that holds one without a value is left out. */
typedef struct PromptTexts {
    char *system; /* null: none */
    char *user;
    char *again; /* what is added to `user` where an answer could not stand */
} PromptTexts;

typedef struct Prompt {
    PromptTexts *texts;
    char hash[17]; /* of the file's texts, in hexadecimal */
} Prompt;

bool prompt_read(Prompt *prompt, const char *path, Error *err);
void prompt_free(Prompt *prompt);

typedef struct PromptValues {
    const Utterance *utterance;
    const Levels *levels;
    int level_count;
    const char *answer, *reason; /* of the last try; null at the first */
} PromptValues;

/* The two messages; *system may become null. free() both. */
bool prompt_fill(const Prompt *prompt, const PromptValues *values, char **system, char **user, Error *err);

#endif
