/* English as explanations of voices use it: what a word says of pitch, speed and volume, of emotions and of gender;
 * and a text as a row of such words. Private to data/. */
#ifndef SEMOLLM_DATA_EXPLANATION_WORDS_H
#define SEMOLLM_DATA_EXPLANATION_WORDS_H

#include "data/levels.h"

typedef enum WordRole {
    WORD_OTHER,
    WORD_CUE,       /* "pitch", "pace"; cue CUE_COUNT: "voice", whose "high" is pitch and "raised" is volume */
    WORD_LEVEL,     /* "high", "normal": of whatever cue it stands beside */
    WORD_CUE_LEVEL, /* "loud", "rapidly": of its own cue */
    WORD_NEGATION,  /* "not", "without" */
    WORD_FILLER,    /* "very", "vocal": may stand between a level and its cue */
    WORD_VERB,      /* "is", "remains": a cue stands before it, a level after */
    WORD_JOIN,      /* "and", "or" */
    WORD_BREAK,     /* "but", "although": where another clause begins */
    WORD_OWNER,     /* "her", "the", "speaks": after "and", another clause begins */
    WORD_EMOTION,
    WORD_UNIT, /* "hertz", "percent": of numbers */
} WordRole;

/* Emotions in families, a bit each. */
enum {
    ANGRY = 1,
    HAPPY = 2,
    SAD = 4,
    NEUTRAL = 8,
    CALM = 16,
    AFRAID = 32,
    DISGUSTED = 64,
    SURPRISED = 128,
    BORED = 256,
    FRUSTRATED = 512,
    EXCITED = 1024,
    CONTEMPT = 2048
};

typedef struct Word {
    const char *text;
    WordRole role;
    int8_t cue, direction; /* direction: 1 raised, -1 lowered, 0 ordinary */
    uint16_t emotions;     /* families that it may mean */
    char gender;           /* 'f', 'm', or 0 */
} Word;

/* Never null: a word that is not in the table is WORD_OTHER. */
const Word *word_look_up(const char *text);

/* The family of a corpus's label, and all that may be said of it without a contradiction; 0: not known. */
typedef struct EmotionFamily {
    uint16_t own, fitting;
} EmotionFamily;

EmotionFamily emotion_family(const char *label);

/* A word in lower case, or a mark: one of . , : ( ) " */
typedef struct Token {
    const char *text; /* of a mark: "" */
    char mark;
    const Word *word;
    bool masked; /* it is the transcript's */
} Token;

typedef struct Tokens {
    Token *items;
    size_t count, capacity;
    char *text; /* that the tokens point into */
    int words;
} Tokens;

/* Hyphens part words, 's is left away. Words that are quoted from `transcript` (may be null), or three and more in a
 * row as there, are masked. */
bool tokens_read(Tokens *tokens, const char *text, const char *transcript, Error *err);
void tokens_free(Tokens *tokens);

/* A text in lower case, with typographic quotes, apostrophes and dashes as ASCII has them; free() it. */
char *tokens_plain(const char *text, Error *err);

#endif
