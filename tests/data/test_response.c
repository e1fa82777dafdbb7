/* Answers: what either style writes the one parser reads back, and no text upsets it. */
#include "tests/test.h"

#include "data/response.h"

static const char *const CLASSES[] = {"neutral", "happy", "sad", "angry", "very sad", "Surprised"};
enum { CLASS_COUNT = sizeof CLASSES / sizeof *CLASSES };

/* Transcripts and explanations that look like what surrounds them. */
static const char *const TEXTS[] = {
    "I like it",
    "",
    "don't",
    "she said \"no\"",
    "it's \"both\"",
    "back\\slash",
    "ends with \\",
    "\\\"",
    "Emotion: sad. Gender: male.",
    "a' with high pitch, fast speed and loud volume.",
    "\" Emotion: sad. Transcript: \"",
    "'",
    "\"",
    "\"quoted whole\"",
    "explanation: nested",
    "The female is saying 'no' with low pitch.",
    "The Emotion may be sad.",
    "line\nbreak: pitch: high",
    "h\xC3\xA9llo \xE4\xBD\xA0\xE5\xA5\xBD",
    "pitch",
    "happy sad angry",
    "Speed :slow",
    "saying \"x",
    ":::...",
};
enum { TEXT_COUNT = sizeof TEXTS / sizeof *TEXTS };

static char *loose(const char *text) { return (char *)(uintptr_t)text; }

/* A random utterance, levels and format from a stream of random numbers. */
typedef struct Case {
    Utterance utterance;
    Levels levels;
    ResponseFormat format;
} Case;

static Case case_of(Rng *rng) {
    Case c = {.format = {.style = rng_below(rng, 2) ? STYLE_PAPER : STYLE_LABELLED,
                         .level_count = rng_below(rng, 2) ? 3 : 5}};
    uint32_t order[PART_COUNT], count = 1 + rng_below(rng, PART_COUNT);
    rng_permutation(rng, order, PART_COUNT);
    for (uint32_t i = 0; i < count; i++) c.format.parts[i] = (Part)order[i];
    c.format.part_count = (int)count;
    c.utterance.id = loose("id");
    if (rng_below(rng, 8)) c.utterance.emotion = loose(CLASSES[rng_below(rng, CLASS_COUNT)]);
    if (rng_below(rng, 8)) c.utterance.gender = loose(rng_below(rng, 2) ? "female" : "male");
    if (rng_below(rng, 8)) c.utterance.transcript = loose(TEXTS[rng_below(rng, TEXT_COUNT)]);
    for (int cue = 0; cue < CUE_COUNT; cue++)
        c.levels.level[cue] = (int8_t)((int)rng_below(rng, (uint32_t)c.format.level_count + 1) - 1);
    return c;
}

static bool has(const ResponseFormat *format, Part part) {
    for (int i = 0; i < format->part_count; i++)
        if (format->parts[i] == part) return true;
    return false;
}

static void expect_text(const char *answer, const char *what, const char *found, const char *expected) {
    if (!found != !expected || (found && strcmp(found, expected) != 0))
        fail_msg("%s is <%s>, should be <%s>, in <%s>", what, found ? found : "(null)", expected ? expected : "(null)",
                 answer);
}

static void expect_case(const Case *c, const char *answer, const char *explanation) {
    Error err = {0};
    Response r;
    assert_ok(response_parse(answer, CLASSES, CLASS_COUNT, c->format.level_count, &r, &err), &err);
    const ResponseFormat *f = &c->format;
    expect_text(answer, "emotion", r.emotion, has(f, PART_EMOTION) ? c->utterance.emotion : NULL);
    expect_text(answer, "gender", r.gender, has(f, PART_GENDER) ? c->utterance.gender : NULL);
    expect_text(answer, "transcript", r.transcript, has(f, PART_TRANSCRIPT) ? c->utterance.transcript : NULL);
    expect_text(answer, "explanation", r.explanation, has(f, PART_EXPLANATION) ? explanation : NULL);
    static const Part PARTS[] = {PART_PITCH, PART_SPEED, PART_VOLUME};
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        int expected = has(f, PARTS[cue]) ? c->levels.level[cue] : LEVEL_NONE;
        if (r.levels.level[cue] != expected)
            fail_msg("%s is %d, should be %d, in <%s>", CUE_NAMES[cue], r.levels.level[cue], expected, answer);
    }
    response_free(&r);
}

static void written_is_read(void **state) {
    (void)state;
    Rng rng = rng_stream(7, 0, 0, 0);
    int replacements = 0;
    enum { ROUNDS = 20000 };
    for (int i = 0; i < ROUNDS; i++) {
        Case c = case_of(&rng);
        Error err = {0};
        const char *explanation = TEXTS[rng_below(&rng, TEXT_COUNT)];
        bool kept = rng_below(&rng, 2) && *explanation, replaced = false;
        char *template = explanation_write(&c.utterance, &c.levels, c.format.level_count, 3, &err);
        if (kept) {
            c.utterance.explanation = loose(explanation);
            c.utterance.json = json_object();
            json_object_set_new(c.utterance.json, "levels", levels_json(&c.levels, c.format.level_count, &err));
        }
        char *answer = response_write(&c.format, &c.utterance, &c.levels, 3, &replaced, &err);
        assert_ok(answer && template, &err);
        expect_case(&c, answer, kept ? explanation : template);
        assert_int_equal(replaced, has(&c.format, PART_EXPLANATION) && !kept);
        replacements += replaced;
        json_decref(c.utterance.json);
        free(answer);
        free(template);
    }
    assert_true(replacements > ROUNDS / 10);
}

static const Utterance SPOKEN = {.id = (char *)(uintptr_t) "u",
                                 .emotion = (char *)(uintptr_t) "happy",
                                 .gender = (char *)(uintptr_t) "female",
                                 .transcript = (char *)(uintptr_t) "I like it."};
static const Levels SPOKEN_LEVELS = {{2, 1, 2}};

static void expect_written(ResponseStyle style, const Part *parts, int count, const char *expected) {
    ResponseFormat format = {.style = style, .level_count = 3, .part_count = count};
    memcpy(format.parts, parts, (size_t)count * sizeof *parts);
    Error err = {0};
    char *answer = response_write(&format, &SPOKEN, &SPOKEN_LEVELS, 0, NULL, &err);
    assert_ok(answer, &err);
    assert_string_equal(answer, expected);
    free(answer);
}

static void exact_words(void **state) {
    (void)state;
    static const Part ALL[] = {PART_EMOTION, PART_GENDER, PART_PITCH, PART_SPEED, PART_VOLUME, PART_TRANSCRIPT};
    static const Part LATE[] = {PART_GENDER, PART_PITCH, PART_EMOTION};
    static const Part TWO[] = {PART_EMOTION, PART_GENDER};
    static const Part SAID[] = {PART_TRANSCRIPT};
    expect_written(
        STYLE_LABELLED, ALL, 6,
        "Emotion: happy. Gender: female. Pitch: high. Speed: normal. Volume: loud. Transcript: \"I like it.\"");
    expect_written(STYLE_PAPER, ALL, 6,
                   "The Emotion may be happy. The female is saying 'I like it.' with high pitch, normal speed and loud "
                   "volume.");
    expect_written(STYLE_LABELLED, LATE, 3, "Gender: female. Pitch: high. Emotion: happy.");
    expect_written(STYLE_PAPER, LATE, 3, "The female is speaking with high pitch. The Emotion may be happy.");
    expect_written(STYLE_PAPER, TWO, 2, "The Emotion may be happy. The speaker is female.");
    expect_written(STYLE_PAPER, SAID, 1, "The speaker is saying 'I like it.'.");
}

/* Free forms that models come up with: emotion, gender, pitch, speed, volume (as words; null: none). */
static void free_forms(void **state) {
    (void)state;
    static const struct {
        const char *text, *emotion, *gender;
        int pitch, speed, volume;
    } FORMS[] = {
        {"emotion: HAPPY", "happy", NULL, -1, -1, -1},
        {"Emotion:happy,Gender:male,Pitch:low", "happy", "male", 0, -1, -1},
        {"**Emotion**: sad\n**Gender**: Female\n**Speed:** fast", "sad", "female", -1, 2, -1},
        {"Emotion: The speaker is angry.", "angry", NULL, -1, -1, -1},
        {"Emotion: happy or sad", "happy", NULL, -1, -1, -1}, /* the value begins with it */
        {"Emotion: maybe happy or sad", NULL, NULL, -1, -1, -1},
        {"Emotion: ecstatic. She is happy.", NULL, NULL, -1, -1, -1},
        {"Emotion: unhappy.", NULL, NULL, -1, -1, -1},
        {"Emotion: very sad.", "very sad", NULL, -1, -1, -1},
        {"Emotion: sad. Emotion: happy.", "sad", NULL, -1, -1, -1},
        {"Emotion: none. Emotion: happy.", NULL, NULL, -1, -1, -1},
        {"Emotion: sad Gender: woman Pitch: high pitch Volume: very loud", "sad", "female", 2, -1, -1},
        {"the emotion is surprised", "Surprised", NULL, -1, -1, -1},
        {"The emotion may be very sad, I think.", "very sad", NULL, -1, -1, -1},
        {"angry", "angry", NULL, -1, -1, -1},
        {"Angry!", "angry", NULL, -1, -1, -1},
        {"I would say neutral", "neutral", NULL, -1, -1, -1},
        {"not happy but angry", NULL, NULL, -1, -1, -1},
        {"The male is speaking with very high pitch and slow speed.", NULL, "male", -1, 0, -1},
        {"A man; his pitch is low and the volume is quiet.", NULL, "male", -1, -1, 0},
        {"A woman. Her pitch is low.", NULL, "female", 0, -1, -1},
        {"Explanation: she sounds happy", NULL, NULL, -1, -1, -1},
        {"He is saying \"I am sad, high pitch", NULL, NULL, -1, -1, -1}, /* cut short inside the quote */
        {"emotional: happy", "happy", NULL, -1, -1, -1},
        {"", NULL, NULL, -1, -1, -1},
    };
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        Error err = {0};
        Response r;
        assert_ok(response_parse(FORMS[i].text, CLASSES, CLASS_COUNT, 3, &r, &err), &err);
        expect_text(FORMS[i].text, "emotion", r.emotion, FORMS[i].emotion);
        expect_text(FORMS[i].text, "gender", r.gender, FORMS[i].gender);
        const int levels[] = {FORMS[i].pitch, FORMS[i].speed, FORMS[i].volume};
        for (int cue = 0; cue < CUE_COUNT; cue++)
            if (r.levels.level[cue] != levels[cue])
                fail_msg("%s is %d in <%s>", CUE_NAMES[cue], r.levels.level[cue], FORMS[i].text);
        response_free(&r);
    }
}

/* Random splices of answers, labels, quotes and bytes: anything may come out but a crash. */
static void garbage(void **state) {
    (void)state;
    static const char *const SCRAPS[] = {"Emotion:",
                                         "emotion :",
                                         "Gender:",
                                         "Pitch: ",
                                         "Transcript: \"",
                                         "Transcript:'",
                                         "Explanation:",
                                         "saying '",
                                         "saying \"",
                                         "\\",
                                         "\\\"",
                                         "\"",
                                         "'",
                                         ".",
                                         ",",
                                         "\n",
                                         " ",
                                         "**",
                                         "*",
                                         "happy",
                                         "very ",
                                         "high",
                                         "loud",
                                         "pitch",
                                         "pitch is ",
                                         "The Emotion may be ",
                                         "female",
                                         "male",
                                         ":",
                                         "\xFF\xFE",
                                         "\xE4\xBD",
                                         "\x01",
                                         "very high pitch",
                                         "                                        ",
                                         "normal speed"};
    Rng rng = rng_stream(9, 0, 0, 0);
    for (int i = 0; i < 30000; i++) {
        Text text = {0};
        Error err = {0};
        for (uint32_t k = rng_below(&rng, 24); k > 0; k--)
            if (rng_below(&rng, 6)) {
                text_add_string(&text, SCRAPS[rng_below(&rng, sizeof SCRAPS / sizeof *SCRAPS)]);
            } else {
                char byte = (char)(1 + rng_below(&rng, 255));
                text_add(&text, &byte, 1);
            }
        char *answer = text_finish(&text, &err);
        Response r;
        assert_ok(response_parse(answer, CLASSES, (int)rng_below(&rng, CLASS_COUNT + 1), 5, &r, &err), &err);
        for (int cue = 0; cue < CUE_COUNT; cue++) assert_in_range(r.levels.level[cue] + 1, 0, 5);
        response_free(&r);
        free(answer);
    }
    char *colons = memory_new(400001, 1, NULL); /* long answers stay quick */
    for (int i = 0; i < 400000; i += 8) memcpy(colons + i, "Pitch: x", 8);
    Response r;
    assert_true(response_parse(colons, CLASSES, CLASS_COUNT, 3, &r, NULL));
    response_free(&r);
    memset(colons, ' ', 400000);
    assert_true(response_parse(colons, CLASSES, CLASS_COUNT, 3, &r, NULL));
    response_free(&r);
    free(colons);
}

/* Explanations name the emotion's adjective, every level, and a pronoun of the right gender. */
static void explanations_are_grounded(void **state) {
    (void)state;
    static const char *const PRONOUNS[][3] = {{" she ", " her ", "woman"}, {" he ", " his ", " man "}};
    Rng rng = rng_stream(11, 0, 0, 0);
    char *kinds[400];
    size_t kind_count = 0;
    for (int i = 0; i < 2000; i++) {
        char id[20];
        snprintf(id, sizeof id, "u%d", i);
        bool female = rng_below(&rng, 2);
        Levels levels;
        for (int cue = 0; cue < CUE_COUNT; cue++) levels.level[cue] = (int8_t)((int)rng_below(&rng, 6) - 1);
        Utterance u = {.id = id, .emotion = loose("angry"), .gender = loose(female ? "female" : "male")};
        Error err = {0};
        char *text = explanation_write(&u, &levels, 5, 1, &err), *again = explanation_write(&u, &levels, 5, 1, &err);
        assert_ok(text && again, &err);
        assert_string_equal(text, again);
        assert_non_null(strstr(text, "angry"));
        for (int cue = 0; cue < CUE_COUNT; cue++) {
            const char *word = level_word((Cue)cue, levels.level[cue], 5);
            if (word && !strstr(text, word) && !strstr(text + 1, word + 1))
                fail_msg("%s is missing in <%s>", word, text);
        }
        for (int k = 0; k < 3; k++)
            if (strstr(text, PRONOUNS[female][k])) fail_msg("wrong gender in <%s>", text);
        assert_true(text[0] >= 'A' && text[0] <= 'Z');
        assert_true(text[strlen(text) - 1] == '.');
        assert_null(strstr(text, "  "));
        assert_null(strchr(text, '%'));
        bool known = false; /* how many ways there are to begin: the first two words */
        char *space = strchr(strchr(text, ' ') + 1, ' ');
        if (space) *space = '\0';
        for (size_t k = 0; k < kind_count && !known; k++) known = strcmp(kinds[k], text) == 0;
        if (!known && kind_count < 400) kinds[kind_count++] = strdup(text);
        free(text);
        free(again);
    }
    printf("%zu different beginnings\n", kind_count);
    assert_true(kind_count >= 20);
    for (size_t k = 0; k < kind_count; k++) free(kinds[k]);
}

static void seeds_vary(void **state) {
    (void)state;
    int same = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        char *a = explanation_write(&SPOKEN, &SPOKEN_LEVELS, 3, seed, NULL);
        char *b = explanation_write(&SPOKEN, &SPOKEN_LEVELS, 3, seed + 1000, NULL);
        same += strcmp(a, b) == 0;
        free(a);
        free(b);
    }
    assert_true(same < 20);
}

/* An explanation of other levels, or of another emotion than the run's class, is not told. */
static void stale_explanations(void **state) {
    (void)state;
    Error err = {0};
    ResponseFormat format = {.parts = {PART_EXPLANATION}, .part_count = 1, .level_count = 3};
    Utterance u = SPOKEN;
    Levels other = {{0, 1, 2}};
    bool replaced;
    u.explanation = loose("Mine.");
    u.json = json_pack("{s:s, s:o}", "emotion", "happy", "levels", levels_json(&SPOKEN_LEVELS, 3, &err));
    char *a = response_write(&format, &u, &SPOKEN_LEVELS, 0, &replaced, &err);
    assert_string_equal(a, "Explanation: Mine.");
    assert_false(replaced);
    char *b = response_write(&format, &u, &other, 0, &replaced, &err);
    assert_true(replaced);
    assert_null(strstr(b, "Mine"));
    u.emotion = loose("angry");
    char *c = response_write(&format, &u, &SPOKEN_LEVELS, 0, &replaced, &err);
    assert_true(replaced);
    assert_non_null(strstr(c, "angry"));
    free(a);
    free(b);
    free(c);
    json_decref(u.json);
}

static void descriptions(void **state) {
    (void)state;
    static const Part PARTS[] = {PART_GENDER, PART_PITCH, PART_SPEED, PART_VOLUME, PART_TRANSCRIPT};
    char *full = description_write(&SPOKEN, &SPOKEN_LEVELS, 3, PARTS, 5, NULL);
    assert_string_equal(full, "gender: female, pitch: high, speed: normal, volume: loud, transcript: \"I like it.\"");
    Utterance bare = {.id = loose("b")};
    Levels none = {{LEVEL_NONE, LEVEL_NONE, 0}};
    char *part = description_write(&bare, &none, 3, PARTS, 5, NULL);
    assert_string_equal(part, "volume: quiet");
    free(full);
    free(part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_read),
        cmocka_unit_test(exact_words),
        cmocka_unit_test(free_forms),
        cmocka_unit_test(garbage),
        cmocka_unit_test(explanations_are_grounded),
        cmocka_unit_test(seeds_vary),
        cmocka_unit_test(stale_explanations),
        cmocka_unit_test(descriptions),
    };
    return cmocka_run_group_tests_name("response", tests, NULL, NULL);
}
