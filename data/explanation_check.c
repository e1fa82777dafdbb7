#include "data/explanation_check.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/explanation_words.h"
#include "data/quote.h"

const char *const FAULT_NAMES[FAULT_COUNT] = {[FAULT_NONE] = "kept",
                                              [FAULT_LEVEL] = "contradicts a level",
                                              [FAULT_UNMEASURED] = "a level of what was not measured",
                                              [FAULT_EMOTION] = "contradicts the emotion",
                                              [FAULT_GENDER] = "names a wrong gender",
                                              [FAULT_NUMBER] = "invents a number",
                                              [FAULT_REFUSAL] = "refuses, or speaks of the task",
                                              [FAULT_CUT] = "cut off",
                                              [FAULT_LONG] = "too long",
                                              [FAULT_FORM] = "not plain text",
                                              [FAULT_EMPTY] = "leaves out emotion or cues"};

static const char BULLET[] = "\xE2\x80\xA2"; /* what begins a list's lines, in a cleaned text */

typedef struct Check {
    Tokens tokens;
    const Utterance *utterance;
    const Levels *levels;
    int level_count;
    EmotionFamily family;
    bool told_emotion, told_cue;
    Fault *fault;
} Check;

__attribute__((format(printf, 3, 4))) static void set_fault(Check *check, FaultKind kind, const char *format, ...) {
    if (check->fault->kind != FAULT_NONE) return;
    va_list args;
    va_start(args, format);
    check->fault->kind = kind;
    vsnprintf(check->fault->why, sizeof check->fault->why, format, args);
    va_end(args);
    text_make_utf8(check->fault->why); /* words are shortened without regard for their characters */
}

/* --- looking around; a place outside the text is a full stop --- */

static const Token *token_at(const Check *check, size_t at) {
    static const Word NONE = {"", WORD_OTHER, 0, 0, 0, 0};
    static const Token END = {"", '.', &NONE, false};
    return at < check->tokens.count ? &check->tokens.items[at] : &END;
}

static WordRole role_at(const Check *check, size_t at) { return token_at(check, at)->word->role; }

static bool is(const Check *check, size_t at, const char *words) {
    const char *text = token_at(check, at)->text, *found = *text ? strstr(words, text) : NULL;
    size_t length = strlen(text);
    for (; found; found = strstr(found + 1, text))
        if ((found == words || found[-1] == ' ') && (found[length] == ' ' || !found[length])) return true;
    return false;
}

static bool level_word_at(const Check *check, size_t at) {
    return role_at(check, at) == WORD_LEVEL || role_at(check, at) == WORD_CUE_LEVEL;
}

static bool adverb(const Check *check, size_t at) {
    const char *text = token_at(check, at)->text;
    size_t length = strlen(text);
    return role_at(check, at) == WORD_OTHER && length > 3 && strcmp(text + length - 2, "ly") == 0;
}

static bool filler(const Check *check, size_t at) { return role_at(check, at) == WORD_FILLER || adverb(check, at); }

static size_t after_fillers(const Check *check, size_t at) {
    while (filler(check, at) || (is(check, at, "a") && is(check, at + 1, "little bit touch tad"))) at++;
    return at;
}

/* --- denial --- */

/* "sad, happy or angry": a comma in a list does not end what denies its first member. */
static bool list_comma(const Check *check, size_t at) {
    size_t next = at + 1;
    while (role_at(check, next) == WORD_JOIN || filler(check, next)) next++;
    bool levels = level_word_at(check, at - 1) && level_word_at(check, next);
    return levels || (token_at(check, at - 1)->word->emotions && token_at(check, next)->word->emotions);
}

/* Whether a clause ends before the token at `at`, seen from its right. */
static bool clause_ends(const Check *check, size_t at) {
    const Token *token = token_at(check, at);
    if (token->mark == ',') return at == 0 || !list_comma(check, at);
    if (token->mark) return token->mark != '"';
    if (token->word->role == WORD_BREAK) return true;
    return token->word->role == WORD_JOIN && role_at(check, at + 1) == WORD_OWNER && !is(check, at, "or");
}

static bool emphasis(const Check *check, size_t at) { /* "not only", "without a doubt" */
    return is(check, at + 1, "only just merely simply doubt") ||
           (is(check, at + 1, "a any") && is(check, at + 2, "doubt"));
}

static bool denied(const Check *check, size_t at) {
    for (size_t i = at; i-- > 0 && !clause_ends(check, i);) {
        if (token_at(check, i)->masked) continue;
        if (role_at(check, i) == WORD_NEGATION) return !emphasis(check, i);
        if (is(check, i, "rather") && is(check, i + 1, "than")) return true;
        if (is(check, i, "far") && is(check, i + 1, "from")) return true;
    }
    return false;
}

/* "higher than normal": what it is compared with says nothing of its own. */
static bool compared(const Check *check, size_t at) {
    for (size_t i = at; i-- > 0 && !clause_ends(check, i);)
        if (is(check, i, "than")) return !is(check, i - 1, "rather");
    return false;
}

/* "Fear is often loud" is not said of this voice. */
static bool of_others(const Check *check, size_t at) {
    for (size_t i = at; i-- > 0 && !clause_ends(check, i);)
        if (is(check, i, "often usually typically commonly")) return true;
    return false;
}

/* "Not typical of anger", "would not suggest anger": the cues are denied, not the label. */
static bool of_evidence(const Check *check, size_t at) {
    for (size_t i = at; i-- > 0 && !clause_ends(check, i) && role_at(check, i) != WORD_NEGATION;)
        if (is(check, i, "suggest indicate typical associated fit match point")) return true;
    return false;
}

/* --- levels --- */

static const char *measured_word(const Check *check, Cue cue) {
    return level_word(cue, check->levels->level[cue], check->level_count);
}

static bool fits(const Check *check, Cue cue, int direction, bool denial) {
    int middle = check->level_count / 2, level = check->levels->level[cue];
    int measured = (level > middle) - (level < middle);
    return level == LEVEL_NONE || (measured == direction) != denial;
}

static void claim(Check *check, Cue cue, int direction, size_t at) {
    const char *said = token_at(check, at)->text, *word = measured_word(check, cue);
    bool denial = denied(check, at);
    check->told_cue = true;
    if (!word) {
        set_fault(check, FAULT_UNMEASURED, "it says \"%.40s\" of the %s, which could not be measured", said,
                  CUE_NAMES[cue]);
    } else if (!fits(check, cue, direction, denial)) {
        set_fault(check, FAULT_LEVEL, "it says \"%s%.40s\", but the %s is %s", denial ? "not " : "", said,
                  CUE_NAMES[cue], word);
    }
}

/* A "low voice" may be low in pitch or in volume: wrong only where it is neither. */
static void claim_voice(Check *check, int direction, size_t at) {
    bool denial = denied(check, at);
    if (direction > 0) {
        claim(check, is(check, at, "raised elevated") ? CUE_VOLUME : CUE_PITCH, direction, at);
    } else if (direction < 0 && is(check, at, "deep deeper")) {
        claim(check, CUE_PITCH, direction, at);
    } else if (direction < 0 && !denial && !fits(check, CUE_PITCH, -1, false) && !fits(check, CUE_VOLUME, -1, false)) {
        claim(check, CUE_PITCH, direction, at);
    }
}

/* "above average" is raised. */
static int direction_of(const Check *check, size_t at) {
    int direction = token_at(check, at)->word->direction;
    if (direction == 0 && is(check, at - 1, "above over")) return 1;
    if (direction == 0 && is(check, at - 1, "below under")) return -1;
    return direction;
}

static void claim_of(Check *check, size_t cue_at, size_t level_at) {
    int cue = token_at(check, cue_at)->word->cue, direction = direction_of(check, level_at);
    if (cue == CUE_COUNT) {
        claim_voice(check, direction, level_at);
    } else {
        claim(check, (Cue)cue, direction, level_at);
    }
}

/* "normal pitch, speed and volume": cues after the first, unless they begin a statement of their own. */
static void claim_following(Check *check, size_t cue_at, size_t level_at) {
    for (size_t i = cue_at + 1;;) {
        size_t next = i;
        while (token_at(check, next)->mark == ',' || role_at(check, next) == WORD_JOIN) next++;
        if (next == i) return;
        next = after_fillers(check, next);
        if (role_at(check, next) != WORD_CUE || role_at(check, next + 1) == WORD_VERB) return;
        claim_of(check, next, level_at);
        i = next + 1;
    }
}

/* "pitch, speed and volume are normal": cues before the last. */
static void claim_preceding(Check *check, size_t cue_at, size_t level_at) {
    for (size_t i = cue_at;;) {
        while (i > 0 && (role_at(check, i - 1) == WORD_OWNER || filler(check, i - 1))) i--;
        size_t before = i;
        while (i > 0 && (token_at(check, i - 1)->mark == ',' || role_at(check, i - 1) == WORD_JOIN)) i--;
        if (i == 0 || i == before || role_at(check, i - 1) != WORD_CUE) return;
        if (i > 1 && level_word_at(check, i - 2)) return; /* it has its own level */
        claim_of(check, --i, level_at);
    }
}

/* "high vocal pitch": the cue directly after a level. */
static bool cue_after(const Check *check, size_t at, size_t *cue_at) {
    *cue_at = after_fillers(check, at + 1);
    return role_at(check, *cue_at) == WORD_CUE;
}

/* "pitch is rather strained and high", "pitch: high", "volume low": the cue that a level is said of. */
static bool cue_before(const Check *check, size_t at, size_t *cue_at) {
    bool stated = false; /* a verb or a colon was passed */
    for (size_t i = at; i-- > 0;) {
        const Token *token = token_at(check, i);
        bool linked = role_at(check, i + 1) == WORD_JOIN || token_at(check, i + 1)->mark == ',';
        if (token->word->role == WORD_CUE) {
            *cue_at = i;
            return stated || i + 1 == at;
        }
        if (token->word->role == WORD_VERB || is(check, i, "all both") || strstr(token->text, "n't") ||
            token->mark == ':' || token->mark == '(') {
            stated = true;
        } else if (token->mark == ',') {
            if (!linked && role_at(check, i + 1) != WORD_VERB && !level_word_at(check, i - 1)) return false;
        } else if (token->word->role == WORD_JOIN || token->word->role == WORD_NEGATION || filler(check, i) ||
                   level_word_at(check, i) || (is(check, i, "a") && is(check, i + 1, "little bit touch tad"))) {
            continue;
        } else if (token->mark || token->word->role != WORD_OTHER || !linked || stated) {
            return false;
        }
    }
    return false;
}

/* "volume stays at a high level": the last cue that was spoken of in the clause. */
static bool cue_of_noun(const Check *check, size_t at, size_t *cue_at) {
    if (!is(check, at + 1, "level levels")) return false;
    for (size_t i = at; i-- > 0 && !clause_ends(check, i) && !level_word_at(check, i);)
        if (role_at(check, i) == WORD_CUE) {
            *cue_at = i;
            return true;
        }
    return false;
}

/* "high, strained and trembling pitch": further on, past other adjectives. */
static bool cue_further(const Check *check, size_t at, size_t *cue_at) {
    size_t i = at + 1;
    for (int adjectives = 0; adjectives < 3; adjectives++) {
        size_t joined = i;
        while (token_at(check, i)->mark == ',' || role_at(check, i) == WORD_JOIN || is(check, i, "to")) i++;
        if (i == joined) return false;
        i = after_fillers(check, i);
        if (token_at(check, i)->mark || (role_at(check, i) != WORD_OTHER && !level_word_at(check, i))) return false;
        i = after_fillers(check, i + 1);
        *cue_at = i;
        if (role_at(check, i) == WORD_CUE) return role_at(check, i + 1) != WORD_VERB;
    }
    return false;
}

static void check_level(Check *check, size_t at) {
    size_t cue_at;
    if (compared(check, at) || of_others(check, at) || is(check, at + 1, "of for")) return; /* "typical of anger" */
    if (cue_after(check, at, &cue_at)) {
        claim_of(check, cue_at, at);
        claim_following(check, cue_at, at);
    } else if (cue_before(check, at, &cue_at) || cue_of_noun(check, at, &cue_at)) {
        claim_of(check, cue_at, at);
        claim_preceding(check, cue_at, at);
    } else if (cue_further(check, at, &cue_at)) {
        claim_of(check, cue_at, at);
    }
}

/* "loud"; but a "soft pitch" is not of volume. */
static void check_cue_level(Check *check, size_t at) {
    const Word *word = token_at(check, at)->word, *next = token_at(check, at + 1)->word;
    bool of_another = next->role == WORD_CUE && next->cue != CUE_COUNT && next->cue != word->cue;
    bool said = !compared(check, at) && !of_others(check, at) && !is(check, at - 2, "above"); /* "above a whisper" */
    if (said && !of_another) claim(check, (Cue)word->cue, word->direction, at);
}

/* "raised her voice", "raises his volume" */
static void check_raised(Check *check, size_t at) {
    if (!is(check, at, "raise raises raised raising") || role_at(check, at + 1) != WORD_OWNER) return;
    const Token *object = token_at(check, at + 2);
    if (object->word->role == WORD_CUE)
        claim(check, object->word->cue == CUE_COUNT ? CUE_VOLUME : (Cue)object->word->cue, 1, at);
}

/* --- emotion, gender, numbers --- */

static void check_emotion(Check *check, size_t at) {
    const Token *token = token_at(check, at);
    const char *label = check->utterance->emotion;
    size_t cue_at;
    if (!check->family.own || !token->word->emotions) return;
    bool denial = denied(check, at), fitting = token->word->emotions & check->family.fitting;
    check->told_emotion = check->told_emotion || (fitting && !denial);
    /* A "neutral pitch" is not of the emotion, a "neutral tone" is. */
    if (token->word->role == WORD_LEVEL && (cue_after(check, at, &cue_at) || cue_before(check, at, &cue_at)) &&
        token_at(check, cue_at)->word->cue != CUE_COUNT)
        return;
    if (!fitting && !denial)
        set_fault(check, FAULT_EMOTION, "it says \"%.40s\", but the emotion is %.60s", token->text, label);
    if (denial && token->word->emotions == check->family.own && !of_evidence(check, at))
        set_fault(check, FAULT_EMOTION, "it says \"not %.40s\", but the emotion is %.60s", token->text, label);
}

/* A label of a corpus's own, in its own words. */
static void check_label(Check *check, size_t at) {
    const char *label = check->utterance->emotion;
    if (!label || check->family.own || strcasecmp(label, token_at(check, at)->text) != 0) return;
    check->told_emotion = true;
    if (denied(check, at))
        set_fault(check, FAULT_EMOTION, "it says \"not %.40s\", but the emotion is %.60s", label, label);
}

static void check_gender(Check *check, size_t at) {
    const char *known = check->utterance->gender, *said = token_at(check, at)->text;
    char gender = token_at(check, at)->word->gender;
    if (!gender) return;
    if (!known) {
        set_fault(check, FAULT_GENDER, "it says \"%.40s\", but the speaker's gender is not known", said);
    } else if (*known != gender) {
        set_fault(check, FAULT_GENDER, "it says \"%.40s\", but the speaker is %s", said, known);
    }
}

static void check_number(Check *check, size_t at) {
    const char *text = token_at(check, at)->text;
    if (strcmp(text, "f0") == 0) return;
    if (strpbrk(text, "0123456789") || role_at(check, at) == WORD_UNIT)
        set_fault(check, FAULT_NUMBER, "it gives a figure (\"%.40s\"), and none was asked for", text);
}

static void check_token(Check *check, size_t at) {
    check_number(check, at);
    check_gender(check, at);
    check_emotion(check, at);
    check_label(check, at);
    check_raised(check, at);
    if (role_at(check, at) == WORD_LEVEL && !token_at(check, at)->masked) check_level(check, at);
    if (role_at(check, at) == WORD_CUE_LEVEL) check_cue_level(check, at);
}

/* --- the text as a whole --- */

/* Signs of a refusal, and of talk about the task instead of the voice. */
static void check_refusal(Check *check, const char *text) {
    static const char *const SIGNS[] = {"as an ai",        "language model",   "i cannot",
                                        "i can't",         "i'm sorry",        "i am sorry",
                                        "i apologi",       "i am unable",      "i'm unable",
                                        "i don't have",    "i do not have",    "i am not able",
                                        "please provide",  "happy to help",    "an explanation",
                                        "the explanation", "this explanation", "another explanation",
                                        "this example",    "described here",   "you wrote",
                                        "this sentence",   "the sentence",     "plain english",
                                        "here is ",        "here's "};
    char *plain = tokens_plain(text, NULL); /* typographic apostrophes as ASCII's */
    for (size_t i = 0; plain && i < sizeof SIGNS / sizeof *SIGNS; i++) {
        const char *found = strstr(plain, SIGNS[i]);
        if (found && (found == plain || !isalpha((unsigned char)found[-1])) &&
            !(check->utterance->transcript && strcasestr(check->utterance->transcript, SIGNS[i])))
            set_fault(check, FAULT_REFUSAL, "it speaks of something else than the voice (\"%s\")", SIGNS[i]);
    }
    free(plain);
}

/* An explanation names the emotion and at least one cue, of those that there are. */
static void check_content(Check *check) {
    bool measured = false;
    for (int cue = 0; cue < CUE_COUNT; cue++) measured = measured || check->levels->level[cue] != LEVEL_NONE;
    /* A label of a corpus's own may be said in words that are not known here. */
    if (check->family.own && !check->told_emotion)
        set_fault(check, FAULT_EMPTY, "it does not name the emotion, %.60s", check->utterance->emotion);
    if (measured && !check->told_cue) set_fault(check, FAULT_EMPTY, "it names no level of pitch, speed or volume");
}

static void check_form(Check *check, const char *text) {
    if (!*text) set_fault(check, FAULT_EMPTY, "it is empty");
    if (check->tokens.words > EXPLANATION_WORDS_MOST)
        set_fault(check, FAULT_LONG, "it has %d words, and %d are the most", check->tokens.words,
                  EXPLANATION_WORDS_MOST);
    if (strstr(text, "\xEF\xBF\xBD")) set_fault(check, FAULT_FORM, "it holds characters that cannot be read");
    if (strstr(text, BULLET)) set_fault(check, FAULT_FORM, "it is a list, and whole sentences were asked for");
    if (quote_holds_label(text))
        set_fault(check, FAULT_FORM,
                  "it holds a label such as \"Pitch:\" or \"saying\" with a quote, instead of "
                  "whole sentences alone");
}

bool explanation_check(const char *text, const Utterance *utterance, const Levels *levels, int level_count,
                       Fault *fault, Error *err) {
    *fault = (Fault){0};
    Check check = {.utterance = utterance, .levels = levels, .level_count = level_count, .fault = fault};
    if (utterance->emotion) check.family = emotion_family(utterance->emotion);
    if (!tokens_read(&check.tokens, text, utterance->transcript, err)) return false;
    check_form(&check, text);
    check_refusal(&check, text);
    for (size_t i = 0; i < check.tokens.count; i++)
        if (!check.tokens.items[i].masked) check_token(&check, i);
    check_content(&check);
    tokens_free(&check.tokens);
    return true;
}

/* --- cleaning --- */

static const char *after_thoughts(const char *answer) {
    const char *end = strstr(answer, "</think>");
    return end ? end + strlen("</think>") : answer;
}

static bool begins_list_line(const char *text, const char *start) {
    return (*text == '-' || *text == '*') && text[1] == ' ' && (text == start || text[-1] == '\n');
}

static void add_line(Text *line, const char *text) {
    for (const char *start = text; *text; text++) {
        bool space = (unsigned char)*text <= ' ' || *text == '\x7f';
        if (begins_list_line(text, start)) {
            text_add_string(line, BULLET);
        } else if (space) {
            if (line->length && line->data[line->length - 1] != ' ') text_add(line, " ", 1);
        } else if (*text != '*' && *text != '#' && *text != '`') {
            text_add(line, text, 1);
        }
    }
}

/* After "Here is an explanation:" and the like. */
static char *after_preamble(char *line) {
    static const char *const STARTS[] = {"here is",   "here's",    "here\xE2\x80\x99s", "sure",
                                         "certainly", "of course", "explanation:",      "the explanation"};
    for (size_t i = 0; i < sizeof STARTS / sizeof *STARTS; i++) {
        if (strncasecmp(line, STARTS[i], strlen(STARTS[i])) != 0) continue;
        size_t length = strcspn(line, ":\"");
        if (line[length] == ':' && length < 100) return line + length + 1 + strspn(line + length + 1, " ");
    }
    return line;
}

/* The text within quotes that stand around all of it. */
static char *unquoted(char *line) {
    size_t length = strlen(line);
    bool around = length > 1 && line[0] == '"' && line[length - 1] == '"' && strchr(line + 1, '"') == line + length - 1;
    if (!around) return line;
    line[length - 1] = '\0';
    return line + 1;
}

char *explanation_clean(const char *answer, Error *err) {
    Text line = {0};
    text_add(&line, "", 0);
    add_line(&line, after_thoughts(answer));
    char *text = text_finish(&line, err);
    if (!text) return NULL;
    size_t length = strlen(text);
    if (length && text[length - 1] == ' ') text[length - 1] = '\0';
    char *clean = text_copy(unquoted(after_preamble(text)), err);
    free(text);
    return clean;
}
