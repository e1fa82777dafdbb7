#include "data/explanation_words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CUES(cue, words)                                                                                               \
    { words, WORD_CUE, cue, 0, 0, 0 }
#define LEVELS(direction, words)                                                                                       \
    { words, WORD_LEVEL, CUE_COUNT, direction, 0, 0 }
#define OF_CUE(cue, direction, words)                                                                                  \
    { words, WORD_CUE_LEVEL, cue, direction, 0, 0 }
#define FEELING(families, words)                                                                                       \
    { words, WORD_EMOTION, 0, 0, families, 0 }
#define ROLE(role, words)                                                                                              \
    { words, role, 0, 0, 0, 0 }
#define GENDER(role, gender, words)                                                                                    \
    { words, role, 0, 0, 0, gender }

/* Each row's text is a list of the words that mean the same. */
static const Word WORDS[] = {
    CUES(CUE_PITCH, "pitch pitched register f0"),
    CUES(CUE_SPEED, "speed pace paced rate tempo"),
    CUES(CUE_VOLUME, "volume loudness amplitude"),
    CUES(CUE_COUNT, "voice tone voices"),

    LEVELS(1, "high higher highest raised elevated increased heightened"),
    LEVELS(-1, "low lower lowest lowered reduced decreased diminished deep deeper"),
    LEVELS(0, "normal average moderate medium ordinary usual regular standard typical conversational"),
    {"neutral", WORD_LEVEL, CUE_COUNT, 0, NEUTRAL, 0},

    OF_CUE(CUE_VOLUME, 1,
           "loud louder loudest loudly shout shouts shouted shouting yell yells yelled yelling scream "
           "screams screamed screaming booming thunderous deafening"),
    OF_CUE(CUE_VOLUME, -1,
           "quiet quieter quietest quietly soft softer softest softly hushed whisper whispers whispered "
           "whispering whispery faint faintly muted murmur murmurs murmured murmuring"),
    OF_CUE(CUE_SPEED, 1,
           "fast faster fastest quick quicker quickest quickly rapid rapidly hurried hurriedly brisk "
           "briskly swift swiftly rushed rushing hasty hastily speedy accelerated quickened"),
    OF_CUE(CUE_SPEED, -1, "slow slower slowest slowly slowed sluggish sluggishly unhurried leisurely plodding languid"),
    OF_CUE(CUE_PITCH, 1, "shrill shrilly squeaky falsetto"),
    OF_CUE(CUE_PITCH, -1, "baritone"),

    ROLE(WORD_NEGATION, "not no never neither nor without instead opposed unlike lack lacks lacked lacking absence "
                        "avoid avoids avoiding hardly cannot less none nothing isn't aren't wasn't weren't doesn't "
                        "don't didn't can't won't wouldn't hasn't haven't couldn't"),
    ROLE(WORD_FILLER, "very quite rather somewhat slightly fairly relatively extremely noticeably notably remarkably "
                      "particularly especially moderately comparatively generally overall vocal speech speaking "
                      "talking speaker sound both all also too so more most much little bit touch tad steady even "
                      "than above below over under only just merely simply"),
    ROLE(WORD_VERB, "is are was were be being been remains remain remained stays stay stayed seems seem sounds sound "
                    "appears appear keeps kept becomes became which measured"),
    ROLE(WORD_JOIN, "and or"),
    ROLE(WORD_BREAK, "but yet although though while whereas because since so however despite"),
    ROLE(WORD_OWNER, "their the a an they it its this with speaks speak speaking at in"),
    ROLE(WORD_UNIT, "hz hertz khz db decibel decibels percent semitone semitones octave octaves"),

    GENDER(WORD_OWNER, 'f', "she her hers herself"),
    GENDER(WORD_OTHER, 'f', "woman women female females lady girl feminine"),
    GENDER(WORD_OWNER, 'm', "he him his himself"),
    GENDER(WORD_OTHER, 'm', "man men male males gentleman guy boy masculine"),

    FEELING(ANGRY, "angry anger angrily angered furious fury rage enraged outrage outraged hostile hostility "
                   "aggressive aggression"),
    FEELING(ANGRY | FRUSTRATED | DISGUSTED, "annoyed annoyance irritated irritation displeasure displeased"),
    FEELING(HAPPY, "happy happier happiness happily joy joyful joyous joyfully cheerful cheerfully cheerfulness "
                   "delight delighted glad elated elation upbeat jubilant pleased merry"),
    FEELING(EXCITED | HAPPY | SURPRISED, "excited excitement excitedly thrilled enthusiastic enthusiasm exhilarated"),
    FEELING(SAD, "sad sadness sadly sorrow sorrowful grief grieving melancholy melancholic mournful gloomy gloom "
                 "despair despondent downcast unhappy unhappiness depressed depression dejected dejection"),
    FEELING(SAD | FRUSTRATED | ANGRY | DISGUSTED, "disappointed disappointment"),
    FEELING(SAD | ANGRY | AFRAID | DISGUSTED | FRUSTRATED, "upset distress distressed"),
    FEELING(ANGRY | AFRAID | FRUSTRATED | SURPRISED | EXCITED, "agitated agitation"),
    FEELING(NEUTRAL | BORED, "emotionless unemotional indifferent indifference"),
    FEELING(CALM, "calm calmly calmness relaxed serene serenity peaceful tranquil"),
    FEELING(AFRAID, "afraid fear fearful fearfully fears scared frightened terrified terror anxious anxiously anxiety "
                    "nervous nervously nervousness worried worry panic panicked"),
    FEELING(DISGUSTED, "disgust disgusted disgusting revulsion repulsed repulsion distaste loathing aversion"),
    FEELING(SURPRISED, "surprise surprised astonished astonishment amazed amazement"),
    FEELING(SURPRISED | AFRAID, "startled"),
    FEELING(SURPRISED | AFRAID | DISGUSTED, "shock shocked"),
    FEELING(BORED, "bored boredom"),
    FEELING(BORED | NEUTRAL | SAD, "uninterested disinterested apathy apathetic"),
    FEELING(FRUSTRATED | ANGRY, "frustrated frustration exasperated exasperation"),
    FEELING(CONTEMPT | DISGUSTED | ANGRY, "contempt contemptuous scorn scornful"),
};

static bool in_list(const char *list, const char *text, size_t length) {
    for (const char *at = list; *at; at += strspn(at, " ")) {
        size_t word = strcspn(at, " ");
        if (word == length && memcmp(at, text, length) == 0) return true;
        at += word;
    }
    return false;
}

const Word *word_look_up(const char *text) {
    static const Word OTHER = {"", WORD_OTHER, 0, 0, 0, 0};
    size_t length = strlen(text);
    for (size_t i = 0; length && i < sizeof WORDS / sizeof *WORDS; i++)
        if (in_list(WORDS[i].text, text, length)) return &WORDS[i];
    return &OTHER;
}

EmotionFamily emotion_family(const char *label) {
    static const struct {
        const char *labels;
        EmotionFamily family;
    } FAMILIES[] = {
        {"angry anger ang", {ANGRY, ANGRY | FRUSTRATED}},
        {"happy happiness hap joy joyful", {HAPPY, HAPPY | EXCITED}},
        {"sad sadness", {SAD, SAD}},
        {"neutral neutrality neu", {NEUTRAL, NEUTRAL | CALM}},
        {"calm calmness", {CALM, CALM | NEUTRAL}},
        {"fear fearful fea", {AFRAID, AFRAID}},
        {"disgust disgusted dis", {DISGUSTED, DISGUSTED}},
        {"surprise surprised sur", {SURPRISED, SURPRISED | EXCITED}},
        {"bored boredom", {BORED, BORED}},
        {"frustrated frustration fru", {FRUSTRATED, FRUSTRATED | ANGRY}},
        {"excited excitement exc", {EXCITED, EXCITED | HAPPY | SURPRISED}},
        {"contempt contemptuous", {CONTEMPT, CONTEMPT | DISGUSTED}},
    };
    char lower[32];
    size_t length = strlen(label);
    if (length == 0 || length >= sizeof lower) return (EmotionFamily){0};
    for (size_t i = 0; i <= length; i++) lower[i] = (char)tolower((unsigned char)label[i]);
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++)
        if (in_list(FAMILIES[i].labels, lower, length)) return FAMILIES[i].family;
    return (EmotionFamily){0};
}

/* --- a text as words --- */

char *tokens_plain(const char *text, Error *err) {
    static const struct {
        const char *from, *to;
    } MARKS[] = {{"\xE2\x80\x98", "'"},  {"\xE2\x80\x99", "'"},  {"\xE2\x80\x9C", "\""}, {"\xE2\x80\x9D", "\""},
                 {"\xE2\x80\x93", ", "}, {"\xE2\x80\x94", ", "}, {"\xE2\x80\x91", "-"},  {"\xC2\xA0", " "}};
    Text plain = {0};
    text_add(&plain, "", 0);
    while (*text) {
        size_t i = 0, count = sizeof MARKS / sizeof *MARKS;
        while (i < count && strncmp(text, MARKS[i].from, strlen(MARKS[i].from)) != 0) i++;
        char lower = (char)tolower((unsigned char)*text);
        if (i < count) {
            text_add_string(&plain, MARKS[i].to);
        } else {
            text_add(&plain, &lower, 1);
        }
        text += i < count ? strlen(MARKS[i].from) : 1;
    }
    return text_finish(&plain, err);
}

static bool letter(char c) { return (unsigned char)c >= 0x80 || isalnum((unsigned char)c); }

static bool add_token(Tokens *tokens, Token token, Error *err) {
    if (!memory_grow(&tokens->items, tokens->count, &tokens->capacity, sizeof *tokens->items, err)) return false;
    tokens->words += token.mark == 0;
    tokens->items[tokens->count++] = token;
    return true;
}

/* A word from `at` on, an apostrophe or a number's point inside it included; its end. */
static char *word_end(char *at) {
    while (letter(*at) || (strchr("'.,", *at) && *at && letter(at[-1]) && letter(at[1]) &&
                           (*at == '\'' || (isdigit((unsigned char)at[-1]) && isdigit((unsigned char)at[1])))))
        at++;
    return at;
}

static char mark_of(char c) {
    if (c == '\0') return 0;
    if (strchr(".!?;", c)) return '.';
    if (c == '\'') return '"';
    return strchr(",:()\"", c) ? c : 0;
}

static bool split(Tokens *tokens, Error *err) {
    for (char *at = tokens->text; *at;) {
        char *end = letter(*at) ? word_end(at) : at + 1, mark = letter(*at) ? 0 : mark_of(*at), after = *end;
        if (letter(*at)) {
            /* The null that ends the word may overwrite a mark: kept in `after` until it is read. */
            *end = '\0';
            size_t length = (size_t)(end - at);
            if (length > 2 && strcmp(end - 2, "'s") == 0) end[-2] = '\0';
            if (!add_token(tokens, (Token){.text = at, .word = word_look_up(at)}, err)) return false;
            if (mark_of(after) && !add_token(tokens, (Token){"", mark_of(after), word_look_up(""), false}, err))
                return false;
            at = end + (after != '\0');
        } else {
            if (mark && !add_token(tokens, (Token){"", mark, word_look_up(""), false}, err)) return false;
            at = end;
        }
    }
    return true;
}

static void mask(Tokens *tokens, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) tokens->items[i].masked = true;
}

/* How many words from tokens->items[at] on stand in a row somewhere in `said`; marks do not count, *span says how
 * many tokens they are with the marks between them. */
static int longest_run(const Tokens *tokens, size_t at, const Tokens *said, size_t *span) {
    int longest = 0;
    *span = 0;
    for (size_t from = 0; from < said->count; from++) {
        size_t i = at, j = from, last = at;
        int run = 0;
        while (i < tokens->count && j < said->count) {
            if (tokens->items[i].mark) {
                i++;
            } else if (said->items[j].mark) {
                j++;
            } else if (strcmp(tokens->items[i].text, said->items[j].text) == 0) {
                run++, last = i, i++, j++;
            } else {
                break;
            }
        }
        if (run > longest) longest = run, *span = last + 1 - at;
    }
    return longest;
}

static void mask_runs(Tokens *tokens, const Tokens *said) {
    for (size_t i = 0; i < tokens->count;) {
        size_t span;
        int run = tokens->items[i].mark ? 0 : longest_run(tokens, i, said, &span);
        bool quoted =
            run > 0 && i > 0 && tokens->items[i - 1].mark == '"' && i + span < tokens->count &&
            (tokens->items[i + span].mark == '"' ||
             (i + span + 1 < tokens->count && tokens->items[i + span].mark && tokens->items[i + span + 1].mark == '"'));
        if (run >= 3 || quoted) mask(tokens, i, span);
        i += run >= 3 || quoted ? span : 1;
    }
}

static bool read_plain(Tokens *tokens, const char *text, Error *err) {
    *tokens = (Tokens){.text = tokens_plain(text, err)};
    if (tokens->text && split(tokens, err)) return true;
    tokens_free(tokens);
    return false;
}

bool tokens_read(Tokens *tokens, const char *text, const char *transcript, Error *err) {
    Tokens said;
    if (!read_plain(tokens, text, err)) return false;
    if (!transcript) return true;
    if (!read_plain(&said, transcript, err)) {
        tokens_free(tokens);
        return false;
    }
    mask_runs(tokens, &said);
    tokens_free(&said);
    return true;
}

void tokens_free(Tokens *tokens) {
    free(tokens->items);
    free(tokens->text);
    *tokens = (Tokens){0};
}
