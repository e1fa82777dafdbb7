#include <string.h>
#include <xxhash.h>

#include "data/response.h"

/* An emotion's words, and how its pitch, speed and volume typically are: 1 raised, -1 lowered, 0 ordinary. */
typedef struct EmotionWords {
    const char *label, *adjective, *noun;
    int8_t typical[CUE_COUNT];
} EmotionWords;

static const EmotionWords EMOTIONS[] = {
    {"angry", "angry", "anger", {1, 1, 1}},
    {"anger", "angry", "anger", {1, 1, 1}},
    {"happy", "happy", "happiness", {1, 1, 1}},
    {"happiness", "happy", "happiness", {1, 1, 1}},
    {"joy", "joyful", "joy", {1, 1, 1}},
    {"excited", "excited", "excitement", {1, 1, 1}},
    {"excitement", "excited", "excitement", {1, 1, 1}},
    {"sad", "sad", "sadness", {-1, -1, -1}},
    {"sadness", "sad", "sadness", {-1, -1, -1}},
    {"neutral", "neutral", "a neutral state", {0, 0, 0}},
    {"calm", "calm", "calmness", {-1, -1, -1}},
    {"fearful", "fearful", "fear", {1, 1, 0}},
    {"fear", "fearful", "fear", {1, 1, 0}},
    {"disgust", "disgusted", "disgust", {-1, -1, 0}},
    {"disgusted", "disgusted", "disgust", {-1, -1, 0}},
    {"surprised", "surprised", "surprise", {1, 1, 1}},
    {"surprise", "surprised", "surprise", {1, 1, 1}},
    {"bored", "bored", "boredom", {-1, -1, -1}},
    {"boredom", "bored", "boredom", {-1, -1, -1}},
    {"frustrated", "frustrated", "frustration", {0, 0, 1}},
    {"frustration", "frustrated", "frustration", {0, 0, 1}},
};

typedef struct Gender {
    const char *subject, *pronoun, *possessive, *object;
} Gender;

static const Gender GENDERS[3][2] = {
    {{"the speaker", "they", "their", "them"}, {"this speaker", "they", "their", "them"}},
    {{"the woman", "she", "her", "her"}, {"the female speaker", "she", "her", "her"}},
    {{"the man", "he", "his", "him"}, {"the male speaker", "he", "his", "him"}},
};

typedef struct Template {
    const Levels *levels;
    int level_count;
    const char *emotion;
    const EmotionWords *words; /* null: an emotion not in the table */
    Gender gender;
    bool plural;         /* "they speak" */
    Cue cues[CUE_COUNT]; /* those with a level, in the order they are told */
    int cue_count;
    Rng rng;
    Text text;
} Template;

static const EmotionWords *words_of(const char *emotion) {
    for (size_t i = 0; emotion && i < sizeof EMOTIONS / sizeof *EMOTIONS; i++)
        if (strcmp(EMOTIONS[i].label, emotion) == 0) return &EMOTIONS[i];
    return NULL;
}

static const char *pick(Template *t, const char *const *choices, uint32_t count) {
    return choices[rng_below(&t->rng, count)];
}
#define PICK(t, ...)                                                                                                   \
    pick(t, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static const char *word(const Template *t, Cue cue) { return level_word(cue, t->levels->level[cue], t->level_count); }

static int direction(const Template *t, Cue cue) {
    int middle = t->level_count / 2, level = t->levels->level[cue];
    return (level > middle) - (level < middle);
}

static const char *adjective(const Template *t) { return t->words ? t->words->adjective : t->emotion; }

/* --- lists of cues --- */

/* "a high pitch" / "her pitch is high" / "speaks at a high pitch" (without its verb) */
typedef enum Form { FORM_NOUN, FORM_CLAUSE, FORM_MANNER } Form;

static void add_noun(Template *t, Cue cue) {
    static const char *const NAMES[CUE_COUNT][2] = {{"pitch", "pitch"}, {"speed", "pace"}, {"volume", "volume"}};
    const char *value = word(t, cue);
    text_addf(&t->text, "a %s %s", value, NAMES[cue][rng_below(&t->rng, 2)]);
}

static void add_clause(Template *t, Cue cue) {
    const char *value = word(t, cue), *own = t->gender.possessive;
    const char *whose = PICK(t, own, "the"), *name = CUE_NAMES[cue];
    if (cue == CUE_SPEED) name = PICK(t, "speed", "speaking speed", "pace");
    text_addf(&t->text, "%s %s is %s", whose, name, value);
}

static void add_manner(Template *t, Cue cue) {
    static const char *const LINKS[CUE_COUNT] = {"with", "at", "at"};
    text_addf(&t->text, "%s ", LINKS[cue]);
    add_noun(t, cue);
}

static void add_cues(Template *t, Form form) {
    for (int i = 0; i < t->cue_count; i++) {
        if (i) text_add_string(&t->text, i + 1 == t->cue_count ? " and " : ", ");
        if (form == FORM_NOUN) add_noun(t, t->cues[i]);
        if (form == FORM_CLAUSE) add_clause(t, t->cues[i]);
        if (form == FORM_MANNER) add_manner(t, t->cues[i]);
    }
}

/* --- sentences --- */

/* `start` is where a sentence begins: its first letter becomes a capital. */
static void capitalise(Template *t, size_t start) {
    if (t->text.failed || start >= t->text.length) return;
    char *first = &t->text.data[start];
    if (*first >= 'a' && *first <= 'z') *first = (char)(*first - 'a' + 'A');
}

static void add_opening(Template *t) {
    const char *subject = t->gender.subject, *sounds = PICK(t, "sounds", "seems", "comes across as");
    const char *speaks = t->plural ? "speak" : "speaks";
    switch (rng_below(&t->rng, 6)) {
    case 0:
        text_addf(&t->text, "%s %s %s: ", subject, sounds, adjective(t));
        add_cues(t, FORM_CLAUSE);
        break;
    case 1:
        text_add_string(&t->text, "with ");
        add_cues(t, FORM_NOUN);
        text_addf(&t->text, ", %s %s %s", subject, sounds, adjective(t));
        break;
    case 2:
        add_cues(t, FORM_NOUN);
        text_addf(&t->text, " %s that %s is %s",
                  t->cue_count > 1 ? PICK(t, "suggest", "indicate") : PICK(t, "suggests", "indicates"), subject,
                  adjective(t));
        break;
    case 3:
        add_cues(t, FORM_CLAUSE);
        text_addf(&t->text, ", which makes %s sound %s", t->gender.object, adjective(t));
        break;
    case 4:
        text_addf(&t->text, "%s speaks ", subject);
        add_cues(t, FORM_MANNER);
        text_addf(&t->text, ", and so %s %s", t->gender.pronoun,
                  t->plural ? PICK(t, "sound", "seem") : PICK(t, "sounds", "seems"));
        text_addf(&t->text, " %s", adjective(t));
        break;
    default:
        text_addf(&t->text, "%s %s %s, because %s %s ", subject, sounds, adjective(t), t->gender.pronoun, speaks);
        add_cues(t, FORM_MANNER);
    }
}

/* Which of the measured cues go with the emotion, in a sentence of its own. */
static void add_reason(Template *t) {
    Cue fitting[CUE_COUNT];
    int count = 0;
    for (int i = 0; i < t->cue_count; i++)
        if (direction(t, t->cues[i]) == t->words->typical[t->cues[i]]) fitting[count++] = t->cues[i];
    size_t start = t->text.length + 1;
    text_add_string(&t->text, " ");
    if (count == 0) {
        text_add_string(&t->text, PICK(t, "these cues alone would not suggest ", "none of this is typical of "));
    } else {
        for (int i = 0; i < count; i++)
            text_addf(&t->text, "%sthe %s %s",
                      i == 0           ? ""
                      : i + 1 == count ? " and "
                                       : ", ",
                      word(t, fitting[i]), CUE_NAMES[fitting[i]]);
        text_add_string(&t->text, count > 1 ? PICK(t, " are typical of ", " fit ", " go with ")
                                            : PICK(t, " is typical of ", " fits ", " goes with "));
    }
    text_add_string(&t->text, t->words->noun);
    if (count == 0) text_add_string(&t->text, ", so the impression rests on the tone of voice");
    text_add_string(&t->text, ".");
    capitalise(t, start);
}

static void write_sentences(Template *t) {
    if (!t->emotion) {
        text_addf(&t->text, "%s speaks", t->gender.subject);
        if (t->cue_count) text_add_string(&t->text, " ");
        add_cues(t, FORM_MANNER);
    } else if (t->cue_count == 0) {
        text_addf(&t->text, "%s %s %s", t->gender.subject, PICK(t, "sounds", "seems"), adjective(t));
    } else {
        add_opening(t);
    }
    text_add_string(&t->text, ".");
    capitalise(t, 0);
    if (t->words && t->cue_count && rng_below(&t->rng, 3)) add_reason(t);
}

static void choose_cues(Template *t) {
    uint32_t order[CUE_COUNT];
    rng_permutation(&t->rng, order, CUE_COUNT);
    for (int i = 0; i < CUE_COUNT; i++)
        if (word(t, (Cue)order[i])) t->cues[t->cue_count++] = (Cue)order[i];
}

static Gender gender_of(Template *t, const char *name) {
    int gender = !name ? 0 : strcmp(name, "female") == 0 ? 1 : 2;
    return GENDERS[gender][rng_below(&t->rng, 2)];
}

char *explanation_write(const Utterance *utterance, const Levels *levels, int level_count, uint64_t seed, Error *err) {
    uint64_t id = XXH64(utterance->id, strlen(utterance->id), 0);
    Template t = {.levels = levels,
                  .level_count = level_count,
                  .emotion = utterance->emotion,
                  .words = words_of(utterance->emotion),
                  .plural = !utterance->gender,
                  .rng = rng_stream(seed, PLACE_TEMPLATE, (uint32_t)id, (uint32_t)(id >> 32))};
    t.gender = gender_of(&t, utterance->gender);
    choose_cues(&t);
    write_sentences(&t);
    return text_finish(&t.text, err);
}
