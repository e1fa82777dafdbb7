/* How free text stands inside an answer: quoted, with \ before the quote and before \, so that the
 * parser finds its end whatever it holds. Private to data/. */
#ifndef SEMOLLM_DATA_QUOTE_H
#define SEMOLLM_DATA_QUOTE_H

#include "data/response.h"

bool quote_opens(char character); /* " or ' */
void quote_add(Text *text, const char *value, char quote);

/* Reads the quoted text at `*at`, which is at its opening quote, and moves behind the closing one (or
 * to the end of an answer cut short); free() it. */
char *quote_read(const char **at, Error *err);

/* The part whose label ("Emotion:") begins at `at`, where `before` is the character ahead of it;
 * PART_COUNT if none does. *end is set behind the colon. */
Part quote_label(const char *at, char before, const char **end);

/* Whether a parser would find one of these labels, or a quoted transcript, in a text. */
bool quote_holds_label(const char *text);

/* Whether "saying" and a quote stand at `at`; *quote is set to the quote. */
bool quote_saying(const char *at, char before, const char **quote);

bool quote_word_character(char character); /* a letter, digit, _ or part of a longer UTF-8 character */

#endif
