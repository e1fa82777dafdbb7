/* Who says what how: emotions as prosodic profiles that overlap. Every cue is a draw of its own inside an
 * emotion, so no cue alone gives the emotion away, and none is tied to a voice or a sentence. */
#include <stdlib.h>

#include "data/synth.h"

enum { PLACE_PLAN = PLACE_TEMPLATE + 2, CELLS = 2 * SYNTH_EMOTIONS, CARRIERS = 2 };

const char *const SYNTH_EMOTION_NAMES[SYNTH_EMOTIONS] = {"angry", "happy", "neutral", "sad"};

typedef struct Profile {
    double level[CUE_COUNT][3]; /* shares of low, normal, high */
    int range_percent, word_gap;
} Profile;

#define LOW                                                                                                            \
    { 0.78, 0.11, 0.11 }
#define NORMAL                                                                                                         \
    { 0.11, 0.78, 0.11 }
#define HIGH                                                                                                           \
    { 0.11, 0.11, 0.78 }
#define ANY                                                                                                            \
    { 1.0 / 3, 1.0 / 3, 1.0 / 3 }

/* Each column of levels adds up to thirds over the emotions: cut points are tertiles, and with other
 * shares one would fall among utterances that were made alike. */
static const Profile PROFILES[SYNTH_EMOTIONS] = {
    [EMOTION_ANGRY] = {{[CUE_PITCH] = ANY, [CUE_SPEED] = HIGH, [CUE_VOLUME] = HIGH}, 220, 10},
    [EMOTION_HAPPY] = {{[CUE_PITCH] = HIGH, [CUE_SPEED] = ANY, [CUE_VOLUME] = NORMAL}, 220, 0},
    [EMOTION_NEUTRAL] = {{[CUE_PITCH] = NORMAL, [CUE_SPEED] = NORMAL, [CUE_VOLUME] = ANY}, 25, 0},
    [EMOTION_SAD] = {{[CUE_PITCH] = LOW, [CUE_SPEED] = LOW, [CUE_VOLUME] = LOW}, 25, 10},
};

static const double CARRIER_SHARE = 0.95; /* of the clips have a carrier their emotion asks for */
enum { RANGE_USUAL = 100, GAP_USUAL = 0 };

/* One gender's clips of one emotion: numbers 0 .. count-1 in the cell, dealt out by permutations. */
typedef struct Cell {
    SynthEmotion emotion;
    bool female;
    uint32_t number, count;
    uint32_t *level[CUE_COUNT], *carrier[CARRIERS];
} Cell;

static void cell_free(Cell *cell) {
    for (int i = 0; i < CUE_COUNT; i++) free(cell->level[i]);
    for (int i = 0; i < CARRIERS; i++) free(cell->carrier[i]);
}

static bool permute(uint32_t **order, const Cell *cell, uint64_t seed, uint32_t what, Error *err) {
    *order = memory_new(cell->count, sizeof **order, err);
    if (!*order) return false;
    Rng rng = rng_stream(seed, PLACE_PLAN, cell->number, what);
    rng_permutation(&rng, *order, cell->count);
    return true;
}

static bool cell_open(Cell *cell, uint64_t seed, Error *err) {
    uint32_t what = 0;
    bool ok = true;
    for (int i = 0; ok && i < CUE_COUNT; i++) ok = permute(&cell->level[i], cell, seed, what++, err);
    for (int i = 0; ok && i < CARRIERS; i++) ok = permute(&cell->carrier[i], cell, seed, what++, err);
    return ok;
}

static int level_at(const double share[3], double place) {
    if (place < share[0]) return 0;
    return place < share[0] + share[1] ? 1 : 2;
}

static double place_of(const Cell *cell, const uint32_t *order, uint32_t member) {
    return (order[member] + 0.5) / cell->count;
}

static ClipPlan plan_member(const Cell *cell, const Voices *voices, uint32_t member) {
    const Profile *profile = &PROFILES[cell->emotion];
    int men = voices->count - voices->women, those = cell->female ? voices->women : men;
    int turn = (int)((member * SYNTH_EMOTIONS + (uint32_t)cell->emotion) % (uint32_t)those);
    bool moved = place_of(cell, cell->carrier[0], member) < CARRIER_SHARE;
    bool gaps = place_of(cell, cell->carrier[1], member) < CARRIER_SHARE;
    ClipPlan plan = {.emotion = cell->emotion,
                     .female = cell->female,
                     .voice = cell->female ? turn : voices->women + turn,
                     .range_percent = moved ? profile->range_percent : RANGE_USUAL,
                     .word_gap = gaps ? profile->word_gap : GAP_USUAL};
    for (int i = 0; i < CUE_COUNT; i++)
        plan.level[i] = level_at(profile->level[i], place_of(cell, cell->level[i], member));
    return plan;
}

ClipPlan *synth_plan(const Voices *voices, int64_t clips, uint64_t seed, Error *err) {
    ClipPlan *plans = memory_new((size_t)clips, sizeof *plans, err);
    bool ok = plans != NULL;
    for (uint32_t number = 0; ok && number < CELLS; number++) {
        Cell cell = {.emotion = (SynthEmotion)(number % SYNTH_EMOTIONS), .female = number < SYNTH_EMOTIONS};
        cell.number = number;
        cell.count = (uint32_t)((clips - number + CELLS - 1) / CELLS);
        ok = cell_open(&cell, seed, err);
        for (uint32_t i = 0; ok && i < cell.count; i++) plans[number + CELLS * i] = plan_member(&cell, voices, i);
        cell_free(&cell);
    }
    if (!ok) {
        free(plans);
        return NULL;
    }
    return plans;
}
