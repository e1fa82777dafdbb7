/* Sentences of a wanted length that say nothing of how they are said. */
#include <math.h>
#include <stdlib.h>

#include "data/synth.h"

typedef struct Phrase {
    const char *words;
    int syllables;
} Phrase;

static const Phrase SUBJECTS[] = {
    {"The teacher", 3},      {"My brother", 3},       {"The doctor", 3},    {"Our driver", 3},
    {"The baker", 3},        {"The manager", 4},      {"A visitor", 4},     {"Her sister", 3},
    {"The student", 3},      {"Your grandmother", 4}, {"The carpenter", 4}, {"That woman", 3},
    {"The new neighbor", 4}, {"My father", 3},        {"The waiter", 3},    {"One of them", 3}};

static const Phrase PREDICATES[] = {
    {"has opened the window", 6},   {"is reading a letter", 6},      {"wants to see the garden", 6},
    {"took the morning train", 5},  {"will call you again", 5},      {"left the door open", 5},
    {"is making the dinner", 6},    {"brought a cup of tea", 5},     {"moved the little table", 6},
    {"bought a newspaper", 5},      {"is waiting for them", 5},      {"found the other key", 5},
    {"has cleaned the kitchen", 5}, {"talked about the weather", 6}, {"wrote down the number", 5},
    {"put on a warm coat", 5}};

static const Phrase PLACES[] = {{"in the house", 3},        {"at the station", 4},  {"on the corner", 4},
                                {"by the river", 4},        {"near the market", 4}, {"in the office", 4},
                                {"behind the building", 5}, {"at home", 2},         {"next to the library", 6},
                                {"in the little shop", 5}};

static const Phrase TIMES[] = {{"today", 2},           {"on Monday", 3},          {"this evening", 3},
                               {"after lunch", 3},     {"before the meeting", 5}, {"in the morning", 4},
                               {"at nine o'clock", 4}, {"every other week", 5},   {"at the end of the day", 6},
                               {"on Saturday", 4}};

static const Phrase COMPANY[] = {{"with us", 2},        {"with the children", 4}, {"for a friend", 3},
                                 {"with my cousin", 4}, {"for the family", 4},    {"without the others", 5},
                                 {"for all of us", 4},  {"with an old friend", 4}};

static const Phrase REASONS[] = {{"as usual", 3},      {"as you can see", 4},       {"like the year before", 5},
                                 {"as I told you", 4}, {"and then went away", 5},   {"because it was late", 5},
                                 {"if I remember", 5}, {"while it was raining", 5}, {"as far as I know", 5}};

enum { EXTRAS = 4 };

#define COUNT_OF(list) ((uint32_t)(sizeof(list) / sizeof *(list)))

static const struct {
    const Phrase *items;
    uint32_t count;
} EXTRA[EXTRAS] = {
    {COMPANY, COUNT_OF(COMPANY)}, {PLACES, COUNT_OF(PLACES)}, {TIMES, COUNT_OF(TIMES)}, {REASONS, COUNT_OF(REASONS)}};

/* Which kinds of extra phrases to use: the choice of those drawn whose length comes closest. */
static unsigned choose_extras(const Phrase *drawn, double missing) {
    unsigned best = 0;
    double least = INFINITY;
    for (unsigned set = 0; set < 1u << EXTRAS; set++) {
        double sum = 0;
        for (unsigned i = 0; i < EXTRAS; i++) sum += set >> i & 1 ? drawn[i].syllables : 0;
        if (fabs(sum - missing) < least) {
            least = fabs(sum - missing);
            best = set;
        }
    }
    return best;
}

char *synth_sentence(Rng *rng, double syllables, Error *err) {
    Phrase subject = SUBJECTS[rng_below(rng, COUNT_OF(SUBJECTS))];
    Phrase predicate = PREDICATES[rng_below(rng, COUNT_OF(PREDICATES))];
    Phrase drawn[EXTRAS];
    for (int i = 0; i < EXTRAS; i++) drawn[i] = EXTRA[i].items[rng_below(rng, EXTRA[i].count)];
    unsigned chosen = choose_extras(drawn, syllables - subject.syllables - predicate.syllables);
    Text text = {0};
    text_addf(&text, "%s %s", subject.words, predicate.words);
    for (unsigned i = 0; i < EXTRAS; i++)
        if (chosen >> i & 1) text_addf(&text, " %s", drawn[i].words);
    text_add_string(&text, ".");
    return text_finish(&text, err);
}
