#include "data/prompt.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/yaml.h"

enum { TEXT_MOST = 16384 };

static const cyaml_schema_field_t FIELDS[] = {
    CYAML_FIELD_STRING_PTR("system", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, PromptTexts, system, 0, TEXT_MOST),
    CYAML_FIELD_STRING_PTR("user", CYAML_FLAG_POINTER, PromptTexts, user, 1, TEXT_MOST),
    CYAML_FIELD_STRING_PTR("again", CYAML_FLAG_POINTER, PromptTexts, again, 1, TEXT_MOST), CYAML_FIELD_END};
static const cyaml_schema_value_t SCHEMA = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, PromptTexts, FIELDS)};

typedef enum Slot {
    SLOT_EMOTION,
    SLOT_GENDER,
    SLOT_PITCH,
    SLOT_SPEED,
    SLOT_VOLUME,
    SLOT_TRANSCRIPT,
    SLOT_ANSWER,
    SLOT_REASON,
    SLOT_COUNT
} Slot;
static const char *const SLOT_NAMES[SLOT_COUNT] = {"emotion", "gender",     "pitch",  "speed",
                                                   "volume",  "transcript", "answer", "reason"};

/* The placeholder that begins at `at`; SLOT_COUNT: none. Only letters between braces are one. */
static Slot slot_at(const char *at, const char **end) {
    size_t length = 0;
    if (*at != '{') return SLOT_COUNT;
    while (isalpha((unsigned char)at[1 + length])) length++;
    if (length == 0 || at[1 + length] != '}') return SLOT_COUNT;
    *end = at + 2 + length;
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if (strlen(SLOT_NAMES[slot]) == length && strncmp(SLOT_NAMES[slot], at + 1, length) == 0) return (Slot)slot;
    return SLOT_COUNT;
}

/* --- reading --- */

static bool check_text(const char *text, const char *key, const char *path, Error *err) {
    bool again = strcmp(key, "again") == 0;
    for (const char *at = text; at && *at; at++) {
        const char *end = NULL;
        Slot slot = slot_at(at, &end);
        if (slot == SLOT_COUNT && end)
            return fail_usage(err,
                              "%s: \"%s\" holds %.*s; known are {emotion}, {gender}, {pitch}, {speed}, {volume}, "
                              "{transcript} and, in \"again\", {answer} and {reason}",
                              path, key, (int)(end - at), at);
        if (!again && (slot == SLOT_ANSWER || slot == SLOT_REASON))
            return fail_usage(err, "%s: {%s} has a value in \"again\" only", path, SLOT_NAMES[slot]);
    }
    return !again || strstr(text, "{reason}") ||
           fail_usage(err, "%s: \"again\" must hold {reason}, what was wrong with the answer", path);
}

static uint64_t hash_text(const char *text, uint64_t seed) { return text ? XXH64(text, strlen(text) + 1, seed) : seed; }

bool prompt_read(Prompt *prompt, const char *path, Error *err) {
    void *value = NULL;
    *prompt = (Prompt){0};
    if (!yaml_read(path, NULL, &SCHEMA, &value, err)) return false;
    PromptTexts *texts = prompt->texts = value;
    uint64_t hash = hash_text(texts->again, hash_text(texts->user, hash_text(texts->system, 1)));
    snprintf(prompt->hash, sizeof prompt->hash, "%016" PRIx64, hash);
    if (check_text(texts->system, "system", path, err) && check_text(texts->user, "user", path, err) &&
        check_text(texts->again, "again", path, err))
        return true;
    prompt_free(prompt);
    return false;
}

void prompt_free(Prompt *prompt) {
    yaml_release(&SCHEMA, prompt->texts);
    *prompt = (Prompt){0};
}

/* --- filling --- */

static const char *slot_value(const PromptValues *values, Slot slot) {
    const Utterance *utterance = values->utterance;
    switch (slot) {
    case SLOT_EMOTION:
        return utterance->emotion;
    case SLOT_GENDER:
        return utterance->gender;
    case SLOT_PITCH:
    case SLOT_SPEED:
    case SLOT_VOLUME: {
        Cue cue = (Cue)(slot - SLOT_PITCH);
        return level_word(cue, values->levels->level[cue], values->level_count);
    }
    case SLOT_TRANSCRIPT:
        return utterance->transcript && *utterance->transcript ? utterance->transcript : NULL;
    case SLOT_ANSWER:
        return values->answer;
    case SLOT_REASON:
        return values->reason;
    case SLOT_COUNT:
        break;
    }
    return NULL;
}

/* A value is one line, whatever its source broke it into. */
static void add_value(Text *out, const char *value) {
    for (; *value; value++) text_add(out, (unsigned char)*value < ' ' ? " " : value, 1);
}

/* One line, its break included; false, with nothing added, where a placeholder in it has no value. */
static bool add_line(Text *out, const char *line, const char *line_end, const PromptValues *values) {
    size_t before = out->length;
    for (const char *at = line; at < line_end;) {
        const char *end = at + 1;
        Slot slot = slot_at(at, &end);
        const char *value = slot == SLOT_COUNT ? NULL : slot_value(values, slot);
        if (slot == SLOT_COUNT) {
            text_add(out, at, 1);
            end = at + 1;
        } else if (value) {
            add_value(out, value);
        } else {
            out->length = before;
            if (out->data) out->data[before] = '\0';
            return false;
        }
        at = end;
    }
    return true;
}

static void add_text(Text *out, const char *text, const PromptValues *values) {
    while (*text) {
        const char *end = strchr(text, '\n');
        end = end ? end + 1 : text + strlen(text);
        add_line(out, text, end, values);
        text = end;
    }
}

static char *filled(Text *text, Error *err) {
    while (text->length && isspace((unsigned char)text->data[text->length - 1])) text->data[--text->length] = '\0';
    return text_finish(text, err);
}

bool prompt_fill(const Prompt *prompt, const PromptValues *values, char **system, char **user, Error *err) {
    Text first = {0}, second = {0};
    *system = *user = NULL;
    if (prompt->texts->system) {
        add_text(&first, prompt->texts->system, values);
        if (!(*system = filled(&first, err))) return false;
    }
    add_text(&second, prompt->texts->user, values);
    if (values->reason) {
        text_add_string(&second, "\n");
        add_text(&second, prompt->texts->again, values);
    }
    *user = filled(&second, err);
    if (*user) return true;
    free(*system);
    *system = NULL;
    return false;
}
