/* Chat templates by name: chatml, qwen2, qwen2.5, qwen3, smollm2, llama2, llama3, llama3.1, vicuna,
 * tinyllama, plain; and a user's own format string with {system} {audio} {user} {answer} {today}. What
 * follows {answer} ends the turn; where nothing does, the tokenizer's end-of-text token. */
#ifndef SEMOLLM_MODEL_CHAT_H
#define SEMOLLM_MODEL_CHAT_H

#include "model/tokenizer.h"

typedef struct ChatTurn {
    const char *system; /* null: the template's default; empty: none */
    const char *user;   /* the instruction, {audio} in it where the speech goes; data: never special tokens */
    const char *today;  /* "24 Nov 2026" where a template shows the date; null: the template's fixed one */
    bool audio_first;   /* where no {audio} stands in `user`: speech before (true) or after the text */
} ChatTurn;

/* The prompt's ids before and after the speech rows, ready for the answer to follow. */
typedef struct ChatPrompt {
    Ids before, after;
} ChatPrompt;

bool chat_known(const char *name_or_format);
bool chat_prompt(const char *name_or_format, const Tokenizer *tokenizer, const ChatTurn *turn, ChatPrompt *prompt,
                 Error *err);
void chat_prompt_free(ChatPrompt *prompt);

/* The ids of an answer with the template's end-of-turn token after it. */
bool chat_answer(const char *name_or_format, const Tokenizer *tokenizer, const char *answer, Ids *ids, Error *err);

/* The ids that end an answer: those given (a folder's end-of-text tokens), and the template's end of turn; free() it.
 */
int32_t *chat_stops(const char *name_or_format, const Tokenizer *tokenizer, const int32_t *known, int known_count,
                    int *count, Error *err);

/* The template whose special tokens and model type fit a folder; null where none clearly does. */
const char *chat_guess(const char *llm_folder, const Tokenizer *tokenizer);

#endif
