#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/quote.h"
#include "data/response.h"

typedef struct Parser {
    const char *text;
    char *plain; /* the text with transcript and explanation blanked out: what the paper's sentences stand in */
    const char *const *classes;
    int class_count, level_count;
    bool labelled; /* a cue stood behind its label */
    bool seen[PART_COUNT];
    Response *response;
    Error *err;
} Parser;

/* --- small readers; [at, end) is the text they may use --- */

static const char *skip_space(const char *at, const char *end) {
    while (at < end && (isspace((unsigned char)*at) || *at == '*')) at++;
    return at;
}

static const char *find_any(const char *at, const char *end, const char *stops) {
    while (at < end && !strchr(stops, *at)) at++;
    return at;
}

static bool word_at(const char *start, const char *at, const char *end, const char *word) {
    size_t length = strlen(word);
    if (length == 0 || (size_t)(end - at) < length || strncasecmp(at, word, length) != 0) return false;
    bool begins = at == start || !quote_word_character(at[-1]) || !quote_word_character(word[0]);
    bool ends = at + length == end || !quote_word_character(at[length]) || !quote_word_character(word[length - 1]);
    return begins && ends;
}

/* The class that is written at `at`, the longest if several are; -1: none. */
static int class_at(const Parser *parser, const char *start, const char *at, const char *end) {
    int best = -1;
    for (int i = 0; i < parser->class_count; i++)
        if (word_at(start, at, end, parser->classes[i]) &&
            (best < 0 || strlen(parser->classes[i]) > strlen(parser->classes[best])))
            best = i;
    return best;
}

/* The only class mentioned between; -1 where there is none, or more than one. */
static int only_class(const Parser *parser, const char *at, const char *end) {
    int found = -1;
    for (const char *start = at; at < end; at++) {
        int class = class_at(parser, start, at, end);
        if (class < 0) continue;
        if (found >= 0 && found != class) return -1;
        found = class;
        at += strlen(parser->classes[class]) - 1;
    }
    return found;
}

static bool set_emotion(Parser *parser, int class) {
    if (class < 0 || parser->response->emotion) return true;
    parser->response->emotion = text_copy(parser->classes[class], parser->err);
    return parser->response->emotion != NULL;
}

/* What follows "Emotion:" or "The emotion may be": the class there, or the only one in the sentence. */
static bool read_emotion(Parser *parser, const char *at, const char *end) {
    at = skip_space(at, end);
    int class = class_at(parser, at, at, end);
    return set_emotion(parser, class >= 0 ? class : only_class(parser, at, find_any(at, end, ".;\n")));
}

static bool read_gender(Parser *parser, const char *at, const char *end) {
    static const char *const WORDS[][2] = {
        {"female", "female"}, {"male", "male"}, {"woman", "female"}, {"man", "male"}};
    if (parser->response->gender) return true;
    for (const char *start = at; at < end; at++)
        for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
            if (word_at(start, at, end, WORDS[i][0])) {
                parser->response->gender = text_copy(WORDS[i][1], parser->err);
                return parser->response->gender != NULL;
            }
    return true;
}

/* The level in exactly these words: "very  HIGH" is "very high". */
static int level_between(const Parser *parser, Cue cue, const char *at, const char *end) {
    char words[32];
    size_t length = 0;
    for (at = skip_space(at, end); at < end; at++) {
        bool space = isspace((unsigned char)*at) || *at == '*';
        if (space && (length == 0 || words[length - 1] == ' ')) continue;
        if (length + 1 == sizeof words) return LEVEL_NONE;
        words[length++] = space ? ' ' : *at;
    }
    while (length && words[length - 1] == ' ') length--;
    words[length] = '\0';
    return level_of_word(cue, words, parser->level_count);
}

static void read_level(Parser *parser, Cue cue, const char *at, const char *end) {
    int8_t *level = &parser->response->levels.level[cue];
    if (*level != LEVEL_NONE) return;
    const char *stop = find_any(at, end, ".,;\n");
    int found = level_between(parser, cue, at, stop);
    if (found == LEVEL_NONE) { /* "high pitch" */
        at = skip_space(at, stop);
        found = level_between(parser, cue, at, find_any(at, stop, " \t\r"));
    }
    *level = (int8_t)found;
}

/* --- labels and quotes, from left to right --- */

static const char *next_label(const char *at, const char *text) {
    const char *end;
    while (*at && quote_label(at, at == text ? ' ' : at[-1], &end) == PART_COUNT) at++;
    while (*at && at > text && at[-1] == '*') at--; /* the stars of "**Speed:**" are no value */
    return at;
}

static void blank(Parser *parser, const char *from, const char *to) {
    memset(parser->plain + (from - parser->text), ' ', (size_t)(to - from));
}

/* Free text at *at, quoted or up to the next label. */
static char *read_text(Parser *parser, const char **at) {
    const char *from = *at;
    if (quote_opens(*from)) return quote_read(at, parser->err);
    const char *end = next_label(from, parser->text);
    *at = end;
    while (end > from && isspace((unsigned char)end[-1])) end--;
    Text text = {0};
    text_add(&text, from, (size_t)(end - from));
    return text_finish(&text, parser->err);
}

static bool keep_text(Parser *parser, char **place, const char **at) {
    const char *from = *at;
    char *value = read_text(parser, at);
    if (!value) return false;
    blank(parser, from, *at);
    if (*place) {
        free(value); /* the first one counts */
    } else {
        *place = value;
    }
    return true;
}

static bool read_labelled(Parser *parser, Part part, const char **at) {
    Response *response = parser->response;
    const char *end = next_label(*at, parser->text);
    *at = skip_space(*at, end);
    if (part == PART_TRANSCRIPT) return keep_text(parser, &response->transcript, at);
    if (part == PART_EXPLANATION) return keep_text(parser, &response->explanation, at);
    parser->labelled = true;
    if (parser->seen[part]) return true; /* the first one counts, even where its value says nothing */
    parser->seen[part] = true;
    if (part == PART_EMOTION) return read_emotion(parser, *at, end);
    if (part == PART_GENDER) return read_gender(parser, *at, find_any(*at, end, ".;\n"));
    read_level(parser, part == PART_PITCH ? CUE_PITCH : part == PART_SPEED ? CUE_SPEED : CUE_VOLUME, *at, end);
    return true;
}

static bool read_labels(Parser *parser) {
    for (const char *at = parser->text; *at;) {
        char before = at == parser->text ? ' ' : at[-1];
        const char *next;
        Part part = quote_label(at, before, &next);
        if (part != PART_COUNT) {
            at = next;
            if (!read_labelled(parser, part, &at)) return false;
        } else if (quote_saying(at, before, &next)) {
            at = next;
            if (!keep_text(parser, &parser->response->transcript, &at)) return false;
        } else {
            at++;
        }
    }
    return true;
}

/* --- sentences --- */

static const char *phrase_at(const char *start, const char *at, const char *end, const char *first,
                             const char *second) {
    if (!word_at(start, at, end, first)) return NULL;
    at = skip_space(at + strlen(first), end);
    return word_at(start, at, end, second) ? at + strlen(second) : NULL;
}

/* "The emotion may be X", "The emotion is X"; without such a sentence, the only class mentioned. */
static bool find_emotion(Parser *parser, const char *start, const char *end) {
    static const char *const VERBS[] = {"may be", "might be", "is", "seems to be"};
    for (const char *at = start; at < end; at++)
        for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++) {
            const char *value = phrase_at(start, at, end, "emotion", VERBS[i]);
            if (value) return read_emotion(parser, value, end);
        }
    return set_emotion(parser, only_class(parser, start, end));
}

static const char *word_before(const char *start, const char *at) {
    while (at > start && isspace((unsigned char)at[-1])) at--;
    while (at > start && quote_word_character(at[-1])) at--;
    return at;
}

/* "very high pitch", "high pitch" or "pitch is high". */
static int level_beside(const Parser *parser, Cue cue, const char *start, const char *at, const char *end) {
    const char *one = word_before(start, at), *two = word_before(start, one);
    int level = level_between(parser, cue, two, at);
    if (level == LEVEL_NONE && !word_at(start, two, at, "very")) level = level_between(parser, cue, one, at);
    const char *value = phrase_at(start, at, end, CUE_NAMES[cue], "is");
    if (level == LEVEL_NONE && value) level = level_between(parser, cue, value, find_any(value, end, ".,;\n"));
    return level;
}

static void find_level(Parser *parser, Cue cue, const char *start, const char *end) {
    int8_t *level = &parser->response->levels.level[cue];
    for (const char *at = start; at < end && *level == LEVEL_NONE; at++)
        if (word_at(start, at, end, CUE_NAMES[cue])) *level = (int8_t)level_beside(parser, cue, start, at, end);
}

static bool read_sentences(Parser *parser) {
    const char *start = parser->plain, *end = start + strlen(start);
    if (!find_emotion(parser, start, end) || !read_gender(parser, start, end)) return false;
    for (int cue = 0; cue < CUE_COUNT; cue++) find_level(parser, (Cue)cue, start, end);
    return true;
}

bool response_parse(const char *text, const char *const *classes, int class_count, int level_count, Response *response,
                    Error *err) {
    *response = (Response){0};
    for (int cue = 0; cue < CUE_COUNT; cue++) response->levels.level[cue] = LEVEL_NONE;
    Parser parser = {.text = text,
                     .plain = text_copy(text, err),
                     .classes = classes,
                     .class_count = class_count,
                     .level_count = level_count,
                     .response = response,
                     .err = err};
    bool done = parser.plain && read_labels(&parser) && (parser.labelled || read_sentences(&parser));
    free(parser.plain);
    if (!done) response_free(response);
    return done;
}

void response_free(Response *response) {
    free(response->emotion);
    free(response->gender);
    free(response->transcript);
    free(response->explanation);
    *response = (Response){0};
}
