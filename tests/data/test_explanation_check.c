/* What a teacher may and may not say of a voice: sentences as language models write them, with the verdict on each. */
#include "tests/test.h"

#include "data/explanation_check.h"
#include "data/response.h"

enum { LOW, MID, HIGH, NONE = LEVEL_NONE };

typedef struct Case {
    FaultKind expected;
    const char *text;
} Case;

typedef struct Speaker {
    const char *emotion, *gender, *transcript;
    int pitch, speed, volume;
} Speaker;

static Fault check_with(const Speaker *speaker, int level_count, const char *text) {
    Utterance utterance = {.id = (char *)(uintptr_t) "u",
                           .emotion = (char *)(uintptr_t)speaker->emotion,
                           .gender = (char *)(uintptr_t)speaker->gender,
                           .transcript = (char *)(uintptr_t)speaker->transcript};
    Levels levels = {{(int8_t)speaker->pitch, (int8_t)speaker->speed, (int8_t)speaker->volume}};
    Fault fault;
    Error err = {0};
    assert_ok(explanation_check(text, &utterance, &levels, level_count, &fault, &err), &err);
    return fault;
}

static int judge(const Speaker *speaker, int level_count, const Case *cases, size_t count) {
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        Fault fault = check_with(speaker, level_count, cases[i].text);
        if (fault.kind == cases[i].expected) continue;
        printf("\"%s\": %s (%s), expected: %s\n", cases[i].text, FAULT_NAMES[fault.kind], fault.why,
               FAULT_NAMES[cases[i].expected]);
        wrong++;
    }
    return wrong;
}
#define JUDGE(speaker, cases) assert_int_equal(judge(&(speaker), 3, cases, sizeof(cases) / sizeof *(cases)), 0)

/* An angry woman with a high pitch, at a fast speed and a loud volume. */
static void raised_cues(void **state) {
    (void)state;
    static const Speaker SPEAKER = {"angry", "female", NULL, HIGH, HIGH, HIGH};
    static const Case CASES[] = {
        {FAULT_NONE, "She sounds angry: her pitch is high, her pace is fast and her volume is loud."},
        {FAULT_NONE, "The high pitch, rapid speech and raised voice suggest anger."},
        {FAULT_NONE, "Her high-pitched, loud and fast-paced delivery conveys anger."},
        {FAULT_NONE, "Speaking loudly and quickly, with an elevated pitch, she comes across as furious."},
        {FAULT_NONE, "Her voice is higher than normal, and she speaks faster and louder than usual, a sign of rage."},
        {FAULT_NONE, "Her voice is not low or quiet; the anger is plain."},
        {FAULT_NONE, "Her pitch is above average, which fits anger."},
        {FAULT_NONE, "She isn't calm but angry: her voice is loud."},
        {FAULT_NONE, "She speaks loudly rather than softly, and sounds angry."},
        {FAULT_NONE, "Instead of a calm tone, she uses a loud, furious voice."},
        {FAULT_NONE, "There is no sign of sadness, happiness or fear; the loudness is high and she sounds angry."},
        {FAULT_NONE, "She sounds neither happy nor sad but angry and loud."},
        {FAULT_NONE, "Her anger is not only loud but also fast."},
        {FAULT_NONE, "Pitch, speed and volume are all high, so she is angry."},
        {FAULT_NONE, "Without a doubt she is angry; the volume is high."},
        {FAULT_NONE, "She is frustrated and angry, with a high, strained pitch."},
        {FAULT_NONE, "She raises her voice in anger."},
        {FAULT_NONE, "The combination of a high pitch and loud volume is typical of anger."},
        {FAULT_NONE, "**Anger** shows in her “high” pitch and the speaker’s loud voice."},
        {FAULT_NONE, "Her loud voice has high energy and low patience, so she is angry."},
        {FAULT_NONE, "Her angry tone is deeply felt; the pitch is very high."},
        {FAULT_LEVEL, "Her pitch is low, and she sounds angry."},
        {FAULT_LEVEL, "She speaks in a low pitch and loudly, angry."},
        {FAULT_LEVEL, "She sounds angry and speaks softly."},
        {FAULT_LEVEL, "Her soft voice is angry."},
        {FAULT_LEVEL, "A normal pitch and a loud volume suggest anger."},
        {FAULT_LEVEL, "Pitch, speed and volume are all normal, yet she is angry."},
        {FAULT_LEVEL, "Anger shows at a normal pitch, speed, and volume."},
        {FAULT_LEVEL, "Her anger is slow and loud."},
        {FAULT_LEVEL, "Her voice is not loud, but she is angry."},
        {FAULT_LEVEL, "She is angry although her volume isn't particularly high."},
        {FAULT_LEVEL, "She is angry and speaks more slowly than usual."},
        {FAULT_LEVEL, "Her pitch is lower than normal, a sign of anger."},
        {FAULT_LEVEL, "Her pitch is below average in anger."},
        {FAULT_LEVEL, "Her pace: slow. She is angry."},
        {FAULT_FORM, "Her volume: low. She is angry."},
        {FAULT_LEVEL, "She is angry; the pace, which is slow, tells it."},
        {FAULT_LEVEL, "Her pitch is strained and low, angry."},
        {FAULT_LEVEL, "She is angry with a deep voice."},
        {FAULT_LEVEL, "In a low voice she sounds angry."}, /* neither pitch nor volume is low */
        {FAULT_LEVEL, "Her pace is moderate and she is angry."},
        {FAULT_LEVEL, "She whispers in anger."},
        {FAULT_LEVEL, "She is angry; pitch and volume are high and speed is low."},
        {FAULT_EMOTION, "She sounds happy, with a loud voice."},
        {FAULT_EMOTION, "Her loud volume suggests excitement."},
        {FAULT_EMOTION, "Her loud voice is a sign of joy or anger."},
        {FAULT_EMOTION, "She is calm, with a high pitch."},
        {FAULT_EMOTION, "She is not angry, but loud."},
        {FAULT_EMOTION, "Her neutral tone is loud."},
        {FAULT_EMOTION, "She is neither sad nor angry, only loud."},
        {FAULT_GENDER, "He sounds angry and loud."},
        {FAULT_GENDER, "The man's loud voice is angry."},
        {FAULT_GENDER, "The speaker is angry: the loud voice gives him away."},
        {FAULT_NUMBER, "Her pitch of 220 Hz is angry."},
        {FAULT_NUMBER, "She speaks loudly, at about 6.5 syllables a second, angry."},
        {FAULT_NUMBER, "She is angry and ten decibels louder than usual."},
        {FAULT_NUMBER, "1. The loud volume means anger."},
        {FAULT_REFUSAL, "I'm sorry, but I cannot hear the audio; the voice is loud."},
        {FAULT_REFUSAL, "As an AI language model I have no ears, but loud is angry."},
        {FAULT_REFUSAL, "I’m happy to help! She is angry."},
        {FAULT_EMPTY, ""},
        {FAULT_EMPTY, "Sure!"},
        {FAULT_EMPTY, "The speaker is a person who says something."},
        {FAULT_FORM, "Emotion: angry. Pitch: high."},
        {FAULT_FORM, "She is angry \xEF\xBF\xBD loud."},
        {FAULT_FORM, "What shows is: \xE2\x80\xA2 anger \xE2\x80\xA2 a loud volume"},
        {FAULT_NONE, "Her voice - loud and fast - is angry."},
        {FAULT_EMPTY, "The emotion is anger."},
        {FAULT_EMPTY, "Her volume is loud and her pitch is high."},
        {FAULT_REFUSAL, "In this example she is angry and loud."},
        {FAULT_REFUSAL, "Here’s a try: she is angry and loud."},
        {FAULT_REFUSAL, "The explanation is that she is angry and loud."},
    };
    JUDGE(SPEAKER, CASES);
}

/* A sad man with a low pitch, at a slow speed and a quiet volume. */
static void lowered_cues(void **state) {
    (void)state;
    static const Speaker SPEAKER = {"sad", "male", NULL, LOW, LOW, LOW};
    static const Case CASES[] = {
        {FAULT_NONE, "He sounds sad, because he speaks with a low pitch, at a slow pace and at a quiet volume."},
        {FAULT_NONE, "His deep, soft voice and slow speech suggest sorrow."},
        {FAULT_NONE, "In a low voice, hardly loud, he sounds dejected."},
        {FAULT_NONE, "His volume is lower than usual and his pace slower than average: he is sad."},
        {FAULT_NONE, "He doesn't raise his voice or speak quickly, and so he sounds unhappy."},
        {FAULT_NONE, "The sadness shows in less volume than normal and a slow pace."},
        {FAULT_NONE, "His speech lacks the loud volume and fast pace of anger, and sounds sad."},
        {FAULT_NONE, "He is not shouting. He is sad."},
        {FAULT_NONE, "His soft-spoken, low-pitched manner is melancholic."},
        {FAULT_NONE, "His volume and pace are reduced, which goes with sadness."},
        {FAULT_NONE, "His pitch is a little low and he is sad."},
        {FAULT_NONE, "His low pitch and volume and the slow tempo point to grief."},
        {FAULT_NONE, "His volume is far from loud; he is sad."},
        {FAULT_LEVEL, "He is sad, with a high-pitched voice."},
        {FAULT_LEVEL, "He is sad; he speaks rapidly."},
        {FAULT_LEVEL, "His low pitch and high volume are sad."},
        {FAULT_LEVEL, "His pitch is low and his volume is high: sad."},
        {FAULT_LEVEL, "He raises his voice, and is sad."},
        {FAULT_LEVEL, "His sad voice is not quiet."},
        {FAULT_LEVEL, "He is sad, at an ordinary pace."},
        {FAULT_LEVEL, "His sadness shows in a louder voice than a quiet one."},
        {FAULT_LEVEL, "His pace is quick, in spite of the sadness."},
        {FAULT_EMOTION, "He sounds calm and quiet."},
        {FAULT_EMOTION, "He sounds bored, with a slow pace."},
        {FAULT_EMOTION, "His quiet voice shows no sadness."},
        {FAULT_EMOTION, "His slow pace expresses sadness and fear."},
        {FAULT_GENDER, "She sounds sad."},
        {FAULT_GENDER, "His or her voice is sad."},
        {FAULT_GENDER, "The female speaker sounds sad."},
    };
    JUDGE(SPEAKER, CASES);
}

/* Someone neutral, all normal, of unknown gender. */
static void ordinary_cues(void **state) {
    (void)state;
    static const Speaker SPEAKER = {"neutral", NULL, NULL, MID, MID, MID};
    static const Case CASES[] = {
        {FAULT_NONE, "The speaker sounds neutral: pitch, speed and volume are all normal."},
        {FAULT_NONE, "With an average pitch and a moderate pace, they sound neutral."},
        {FAULT_NONE, "Neither a high nor a low pitch, and nothing loud or quiet: a neutral state."},
        {FAULT_NONE, "They speak at a regular pace, not too fast or slow, in a calm and neutral tone."},
        {FAULT_NONE, "The neutral pitch and normal volume are typical of a neutral state."},
        {FAULT_NONE, "The neutral voice shows no anger, sadness, or joy; the volume is neither loud nor quiet."},
        {FAULT_NONE, "Nothing is raised: the pitch is neither high nor low, so they sound neutral."},
        {FAULT_NONE, "The moderately paced speech is neutral."},
        {FAULT_NONE, "The speaker's pitch isn't high and isn't low, and so sounds neutral."},
        {FAULT_LEVEL, "The pitch is high, and they sound neutral."},
        {FAULT_LEVEL, "They sound neutral and speak moderately loudly."},
        {FAULT_LEVEL, "The pitch is not normal, and they sound neutral."},
        {FAULT_LEVEL, "A slow pace and a normal volume are neutral."},
        {FAULT_EMOTION, "The normal pitch suggests happiness."},
        {FAULT_EMOTION, "They do not sound neutral, with a normal pitch."},
        {FAULT_GENDER, "She sounds neutral."},
        {FAULT_GENDER, "He or she sounds neutral."},
    };
    JUDGE(SPEAKER, CASES);
}

/* As large models write, of voices with mixed cues. */
static void long_sentences(void **state) {
    (void)state;
    static const Speaker TENSE = {"fearful", "female", NULL, HIGH, HIGH, LOW},
                         COLD = {"angry", "male", NULL, LOW, LOW, MID},
                         BRIGHT = {"happy", "female", NULL, HIGH, MID, HIGH},
                         FLAT = {"disgust", "male", NULL, MID, LOW, HIGH},
                         TAKEN = {"surprised", NULL, NULL, HIGH, MID, MID};
    static const Case AFRAID[] = {
        {FAULT_NONE,
         "The woman's fear comes through in the combination of a high pitch and hurried delivery, while the "
         "quietness of her voice, kept low in volume, suggests she is trying not to be overheard."},
        {FAULT_NONE,
         "Her voice rises to a high pitch and her words tumble out quickly, yet she keeps her volume quiet, as "
         "though afraid of drawing attention to herself."},
        {FAULT_NONE,
         "Although fear is often voiced loudly, she stays quiet; the high pitch and the rapid pace betray it."},
        {FAULT_NONE, "She sounds frightened: the words come fast, the pitch is high rather than normal, and the volume "
                     "never rises above a whisper."},
        {FAULT_NONE,
         "Speaking quietly but at a fast pace and with an elevated pitch, the speaker conveys fear more than "
         "anything else."},
        {FAULT_LEVEL, "Her fear makes her speak in a loud, high-pitched voice at a fast speed."},
        {FAULT_LEVEL, "The slow, quiet delivery and the high pitch suggest that she is scared."},
        {FAULT_LEVEL, "A loud voice would be more fearful; hers is quiet and fast."},
        {FAULT_EMOTION, "Her fast, quiet and high-pitched speech could be taken for fear or for excitement."},
    };
    static const Case ANGRY_COLDLY[] = {
        {FAULT_NONE, "His anger is a controlled one: he speaks slowly, at a low pitch and with a normal volume, as if "
                     "weighing every word."},
        {FAULT_NONE, "Instead of shouting, the man lets his anger show through a slow pace and a deep, low voice at a "
                     "moderate volume."},
        {FAULT_NONE,
         "Anger does not have to be loud. His volume is normal, his pitch low and his pace slow, which makes "
         "the hostility sound cold."},
        {FAULT_NONE,
         "The low-pitched voice and slow, deliberate speech give the anger a menacing quality, even though the "
         "volume stays at an ordinary level."},
        {FAULT_LEVEL, "His anger is audible in the raised pitch and slow pace."},
        {FAULT_LEVEL, "His anger shows in a low pitch, slow speech and a high volume."},
        {FAULT_EMOTION, "His slow, low voice sounds more sad than angry."},
    };
    static const Case HAPPY_BRIGHTLY[] = {
        {FAULT_NONE,
         "Happiness brightens the woman's voice: it is high in pitch and loud, while the pace remains normal."},
        {FAULT_NONE, "Her joy is evident from how loud and high-pitched she sounds, even at a normal speaking speed."},
        {FAULT_NONE, "With her pitch and volume both high and her speed normal, she sounds cheerful."},
        {FAULT_LEVEL, "With her pitch, volume and speed all high, she sounds cheerful."},
        {FAULT_LEVEL, "Her joy is evident from her loud voice and the quick tempo."},
        {FAULT_GENDER, "Happiness brightens his voice, which is high in pitch and loud."},
    };
    static const Case DISGUSTED_FLATLY[] = {
        {FAULT_NONE,
         "The man draws out his words at a slow speed and a loud volume, with a normal pitch, as one does when "
         "something disgusts him; his disgust is unmistakable."},
        {FAULT_NONE, "A slow pace combined with loudness, at an average pitch, conveys his revulsion."},
        {FAULT_LEVEL, "A slow pace combined with a soft voice conveys his revulsion."},
        {FAULT_EMOTION, "A slow pace and a loud voice convey his disgust and contemptuous joy."},
    };
    static const Case SURPRISED_SOMEHOW[] = {
        {FAULT_NONE,
         "The speaker sounds surprised: their pitch jumps to a high level, while speed and volume remain normal."},
        {FAULT_NONE, "A high pitch, with both speed and volume at normal levels, suggests surprise."},
        {FAULT_NONE, "Surprise shows in the high pitch; neither the speed nor the volume is out of the ordinary."},
        {FAULT_LEVEL, "A high pitch, with both speed and volume at high levels, suggests surprise."},
        {FAULT_GENDER, "The speaker sounds surprised: her pitch is high."},
    };
    JUDGE(TENSE, AFRAID);
    JUDGE(COLD, ANGRY_COLDLY);
    JUDGE(BRIGHT, HAPPY_BRIGHTLY);
    JUDGE(FLAT, DISGUSTED_FLATLY);
    JUDGE(TAKEN, SURPRISED_SOMEHOW);
}

static void unmeasured_and_unknown(void **state) {
    (void)state;
    static const Speaker WHISPER = {"fearful", "female", NULL, NONE, HIGH, LOW},
                         OWN = {"confused", "male", NULL, 1, 1, 1}, NO_LABEL = {NULL, "male", NULL, HIGH, MID, MID};
    static const Case WHISPERED[] = {
        {FAULT_NONE, "She sounds afraid, whispering rapidly."},
        {FAULT_NONE, "In a low voice, hurried, she is afraid."},
        {FAULT_UNMEASURED, "She sounds afraid, with a high pitch."},
        {FAULT_UNMEASURED, "Her shrill voice is afraid."},
    };
    static const Case OWN_LABEL[] = {
        {FAULT_NONE, "He sounds confused, as if happy and sad at once, at a normal pace."},
        {FAULT_NONE, "His pitch is normal."},
        {FAULT_EMOTION, "He is not confused; his pitch is normal."},
        {FAULT_LEVEL, "He sounds confused and loud."},
    };
    static const Case UNLABELLED[] = {
        {FAULT_NONE, "He speaks with a high pitch."},
        {FAULT_NONE, "He may be happy or angry; his pitch is high."},
        {FAULT_EMPTY, "He may be happy or angry."},
    };
    JUDGE(WHISPER, WHISPERED);
    JUDGE(OWN, OWN_LABEL);
    JUDGE(NO_LABEL, UNLABELLED);
}

/* What is quoted from the transcript is not the teacher's claim. */
static void transcripts(void **state) {
    (void)state;
    static const Speaker SPEAKER = {"happy", "female", "I hate slow 2nd trains, he said. I can't wait!",
                                    MID,     HIGH,     HIGH};
    static const Case CASES[] = {
        {FAULT_NONE, "She says \"I hate slow 2nd trains\" happily and loudly."},
        {FAULT_NONE, "Saying I hate slow 2nd trains, he said, she sounds happy and loud."},
        {FAULT_NONE, "With “slow,” she sounds happy and loud."},
        {FAULT_NONE, "She says 'I can't wait!' with joy and at a fast pace."},
        {FAULT_LEVEL, "She says \"slow\" slowly and happily."},
        {FAULT_GENDER, "She says \"I hate slow 2nd trains\" and he sounds happy."},
        {FAULT_NUMBER, "She takes the 3rd train happily."},
    };
    static const Speaker LOUD = {"happy", "male", "No.", MID, MID, HIGH};
    static const Case LOUD_CASES[] = {{FAULT_NONE, "His \"No\" is happy and loud."},
                                      {FAULT_NONE, "No, he is happy and loud."}};
    JUDGE(SPEAKER, CASES);
    JUDGE(LOUD, LOUD_CASES);
}

static void five_levels(void **state) {
    (void)state;
    static const Speaker SPEAKER = {"happy", "male", NULL, 4, 3, 0};
    static const Case CASES[] = {
        {FAULT_NONE, "His pitch is very high, he speaks fast and very quietly, and he sounds happy."},
        {FAULT_NONE, "He is happy, with a high pitch and a low volume."},
        {FAULT_LEVEL, "He is happy, with a normal pitch."},
        {FAULT_LEVEL, "He is happy and very loud."},
        {FAULT_LEVEL, "His pitch is very low, and he is happy."},
    };
    assert_int_equal(judge(&SPEAKER, 5, CASES, sizeof CASES / sizeof *CASES), 0);
}

/* All that the template writes of an emotion, a gender and levels passes; and, of any other levels, genders and
 * emotions, hardly anything does. */
static void template_texts(void **state) {
    (void)state;
    static const char *const EMOTIONS[] = {"angry",   "happy",      "joy",      "excited", "sad",
                                           "neutral", "calm",       "fearful",  "disgust", "surprised",
                                           "bored",   "frustrated", "confused", NULL};
    static const char *const GENDERS[] = {"female", "male", NULL};
    int texts = 0, wrong = 0;
    for (int e = 0; e < 14; e++)
        for (int g = 0; g < 3; g++)
            for (int l = 0; l < 64; l++)
                for (uint64_t seed = 0; seed < 4; seed++) {
                    Speaker speaker = {EMOTIONS[e], GENDERS[g], NULL, l % 4 - 1, l / 4 % 4 - 1, l / 16 - 1};
                    Utterance utterance = {.id = (char *)(uintptr_t) "u",
                                           .emotion = (char *)(uintptr_t)EMOTIONS[e],
                                           .gender = (char *)(uintptr_t)GENDERS[g]};
                    Levels levels = {{(int8_t)speaker.pitch, (int8_t)speaker.speed, (int8_t)speaker.volume}};
                    char *text = explanation_write(&utterance, &levels, 3, seed, NULL);
                    Fault fault = check_with(&speaker, 3, text);
                    bool says_something =
                        EMOTIONS[e] || speaker.pitch >= 0 || speaker.speed >= 0 || speaker.volume >= 0;
                    if (says_something && fault.kind != FAULT_NONE && wrong++ < 10) printf("%s: %s\n", text, fault.why);
                    texts++;
                    free(text);
                }
    assert_int_equal(wrong, 0);
    printf("%d texts\n", texts);
}

/* The template's text of one utterance is caught for every other that differs in a level it names. */
static void wrong_levels_are_caught(void **state) {
    (void)state;
    int tried = 0, caught = 0;
    for (int right = 0; right < 27; right++)
        for (int other = 0; other < 27; other++) {
            Utterance utterance = {.id = (char *)(uintptr_t) "u",
                                   .emotion = (char *)(uintptr_t) "angry",
                                   .gender = (char *)(uintptr_t) "male"};
            Levels levels = {{(int8_t)(right % 3), (int8_t)(right / 3 % 3), (int8_t)(right / 9)}};
            char *text = explanation_write(&utterance, &levels, 3, (uint64_t)other, NULL);
            Speaker speaker = {"angry", "male", NULL, other % 3, other / 3 % 3, other / 9};
            Fault fault = check_with(&speaker, 3, text);
            tried += right != other;
            caught += right != other && fault.kind == FAULT_LEVEL;
            if (right != other && fault.kind != FAULT_LEVEL) printf("missed: %s\n", text);
            free(text);
        }
    assert_int_equal(caught, tried);
}

static void cleaning(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"  She is\n\n sad.\t ", "She is sad."},
        {"<think>\nloud?\n</think>\n\nShe is sad.", "She is sad."},
        {"\"She is sad.\"", "She is sad."},
        {"\"She\" is \"sad\"", "\"She\" is \"sad\""},
        {"**Explanation:** She is `sad`.", "She is sad."},
        {"Explanation: \"She is sad.\"", "She is sad."},
        {"Here is an explanation:\n\n\"She is sad.\"", "She is sad."},
        {"Sure! Here’s one: She is sad.", "She is sad."},
        {"Surely she is sad.", "Surely she is sad."},
        {"Cues:\n- **low**\n* slow\n*not* one - is it", "Cues: \xE2\x80\xA2 low \xE2\x80\xA2 slow not one - is it"},
        {"Here is what \"a: b\" says.", "Here is what \"a: b\" says."},
        {"", ""},
        {"\"", "\""},
        {" \x01\x7f\n", ""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *clean = explanation_clean(CASES[i][0], NULL);
        assert_string_equal(clean, CASES[i][1]);
        free(clean);
    }
}

/* Words of the tables, marks and odd bytes in any order: no crash, and reasons that end. */
static void reasons_are_utf8(void **state) {
    (void)state;
    char label[] = "\xE6\x84\xA4\xE6\x80\x92", text[400] = "";
    for (int i = 0; i < 30; i++) strcat(text, label); /* one word, cut within a character where it is shown */
    strcat(text, "7");
    Speaker speaker = {text, "male", NULL, LOW, LOW, LOW};
    const char *texts[] = {text, "She is low.", "He is not low.", "He is high."};
    for (int i = 0; i < 4; i++) {
        Fault fault = check_with(&speaker, 3, texts[i]);
        json_t *json = json_string(fault.why);
        if (!json) fail_msg("%s", fault.why);
        json_decref(json);
    }
}

static void any_text(void **state) {
    (void)state;
    static const char *const PIECES[] = {
        "pitch",    "high", "low",   "is", "and", ",",      ".",    "not",   "than", "voice",  "her",   "a",
        "little",   "or",   "deep",  "\"", "'",   "volume", "sad",  "raise", "more", "-",      "(",     ")",
        "\xE2\x80", "\xff", "above", "7",  "'s",  ":",      "very", "to",    "only", "rather", "quick", ""};
    Rng rng = rng_stream(7, 1, 2, 3);
    char text[4000];
    for (int round = 0; round < 6000; round++) {
        size_t length = 0;
        text[0] = '\0';
        for (uint32_t words = rng_below(&rng, round % 100 ? 20 : 400); words > 0; words--)
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%s",
                                       PIECES[rng_below(&rng, sizeof PIECES / sizeof *PIECES)],
                                       rng_below(&rng, 8) ? " " : "");
        Speaker speaker = {"sad",
                           round % 2 ? "male" : NULL,
                           round % 3 ? "high and low, pitch" : NULL,
                           (int)rng_below(&rng, 4) - 1,
                           (int)rng_below(&rng, 4) - 1,
                           (int)rng_below(&rng, 4) - 1};
        Fault fault = check_with(&speaker, 3, text);
        assert_true((fault.kind == FAULT_NONE) == (fault.why[0] == '\0'));
        char *clean = explanation_clean(text, NULL);
        assert_non_null(clean);
        free(clean);
    }
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    Speaker speaker = {"sad", NULL, text, MID, MID, MID};
    check_with(&speaker, 3, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raised_cues),
        cmocka_unit_test(lowered_cues),
        cmocka_unit_test(ordinary_cues),
        cmocka_unit_test(long_sentences),
        cmocka_unit_test(unmeasured_and_unknown),
        cmocka_unit_test(transcripts),
        cmocka_unit_test(five_levels),
        cmocka_unit_test(template_texts),
        cmocka_unit_test(wrong_levels_are_caught),
        cmocka_unit_test(cleaning),
        cmocka_unit_test(reasons_are_utf8),
        cmocka_unit_test(any_text),
    };
    return cmocka_run_group_tests_name("explanation check", tests, NULL, test_cleanup);
}
