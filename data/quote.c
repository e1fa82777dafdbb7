#include "data/quote.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

bool quote_opens(char character) { return character == '"' || character == '\''; }

bool quote_word_character(char character) {
    unsigned char byte = (unsigned char)character;
    return byte >= 0x80 || isalnum(byte) || byte == '_';
}

void quote_add(Text *text, const char *value, char quote) {
    text_add(text, &quote, 1);
    for (; *value; value++) {
        if (*value == quote || *value == '\\') text_add(text, "\\", 1);
        text_add(text, value, 1);
    }
    text_add(text, &quote, 1);
}

char *quote_read(const char **at, Error *err) {
    char quote = *(*at)++;
    Text text = {0};
    while (**at && **at != quote) {
        if (**at == '\\' && (*at)[1]) (*at)++;
        text_add(&text, *at, 1);
        (*at)++;
    }
    if (**at) (*at)++;
    return text_finish(&text, err);
}

Part quote_label(const char *at, char before, const char **end) {
    if (quote_word_character(before)) return PART_COUNT;
    for (int part = 0; part < PART_COUNT; part++) {
        size_t length = strlen(PART_NAMES[part]);
        if (strncasecmp(at, PART_NAMES[part], length) != 0) continue;
        const char *colon = at + length;
        while (*colon == ' ' || *colon == '*') colon++; /* "**Emotion**: ", as chat models like to write */
        if (*colon != ':') continue;
        *end = colon + 1;
        return (Part)part;
    }
    return PART_COUNT;
}

bool quote_saying(const char *at, char before, const char **quote) {
    if (quote_word_character(before) || strncasecmp(at, "saying ", 7) != 0) return false;
    *quote = at + 7;
    while (**quote == ' ' || **quote == ':') (*quote)++;
    return quote_opens(**quote);
}

bool quote_holds_label(const char *text) {
    const char *end, *quote;
    for (const char *at = text; *at; at++) {
        char before = at == text ? ' ' : at[-1];
        if (quote_label(at, before, &end) != PART_COUNT || quote_saying(at, before, &quote)) return true;
    }
    return false;
}
