/* Who says what how: emotions as prosodic profiles that overlap. Every cue is a draw of its own inside an
 * emotion, so no cue alone gives the emotion away, and none is tied to a voice or a sentence. */
#include <stdlib.h>

#include "data/synth.h"

enum { PLACE_PLAN = PLACE_TEMPLATE + 2, CELLS = 2 * SYNTH_EMOTIONS, CARRIERS = 2 };

const char *const SYNTH_EMOTION_NAMES[SYNTH_EMOTIONS] = {"angry", "happy", "neutral", "sad"};

enum { LOW, NORMAL, HIGH, ANY, LEVELS = 3 };
enum { MONOTONE = 1, LIVELY = 8 }; /* semitones that F0 ranges over */

typedef struct Profile {
    int level[CUE_COUNT]; /* the one most of its clips have; ANY: no such */
    double range_st;
    int word_gap;
} Profile;

/* Each cue is any level in one emotion and each of the three in one other, so that over the emotions the
 * levels come out in thirds: cut points are tertiles, and would else fall among utterances made alike. */
static const Profile PROFILES[SYNTH_EMOTIONS] = {
    [EMOTION_ANGRY] = {{[CUE_PITCH] = ANY, [CUE_SPEED] = HIGH, [CUE_VOLUME] = HIGH}, LIVELY, 14},
    [EMOTION_HAPPY] = {{[CUE_PITCH] = HIGH, [CUE_SPEED] = ANY, [CUE_VOLUME] = NORMAL}, LIVELY, 0},
    [EMOTION_NEUTRAL] = {{[CUE_PITCH] = NORMAL, [CUE_SPEED] = NORMAL, [CUE_VOLUME] = ANY}, MONOTONE, 0},
    [EMOTION_SAD] = {{[CUE_PITCH] = LOW, [CUE_SPEED] = LOW, [CUE_VOLUME] = LOW}, MONOTONE, 14},
};

static const double MINOR_SHARE = 0.1;    /* of an emotion's clips have each of the other levels */
static const double CARRIER_SHARE = 0.97; /* of the clips have a carrier their emotion asks for */

/* One gender's clips of one emotion: numbers 0 .. count-1 in the cell, dealt out by permutations. */
typedef struct Cell {
    SynthEmotion emotion;
    bool female;
    uint32_t number, count;
    uint32_t quota[CUE_COUNT][LEVELS];
    uint32_t *level[CUE_COUNT], *carrier[CARRIERS];
} Cell;

static uint32_t cell_count(int64_t clips, uint32_t number) { return (uint32_t)((clips - number + CELLS - 1) / CELLS); }

static uint32_t minor_count(uint32_t count) { return (uint32_t)(MINOR_SHARE * count + 0.5); }

/* How many clips of a cell get each level. The emotion that may have any takes what the others leave of a
 * third of its gender's clips. */
static void set_quota(Cell *cell, int cue, int64_t clips) {
    int64_t all = 0, left[LEVELS] = {0};
    uint32_t first = cell->female ? 0 : SYNTH_EMOTIONS, minor = minor_count(cell->count);
    for (uint32_t e = 0; e < SYNTH_EMOTIONS; e++) all += cell_count(clips, first + e);
    for (int l = 0; l < LEVELS; l++) left[l] = (all + l) / LEVELS;
    for (uint32_t e = 0; e < SYNTH_EMOTIONS; e++) {
        int main_level = PROFILES[e].level[cue];
        int64_t count = cell_count(clips, first + e), few = minor_count((uint32_t)count);
        for (int l = 0; l < LEVELS && main_level != ANY; l++) left[l] -= l == main_level ? count - 2 * few : few;
    }
    int own = PROFILES[cell->emotion].level[cue];
    for (int l = 0; l < LEVELS; l++) {
        uint32_t rest = left[l] > 0 ? (uint32_t)left[l] : 0;
        cell->quota[cue][l] = own == ANY ? rest : l == own ? cell->count - 2 * minor : minor;
    }
}

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

static int level_at(const uint32_t quota[LEVELS], uint32_t place) {
    if (place < quota[0]) return 0;
    return place < quota[0] + quota[1] ? 1 : 2;
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
                     .range_st = moved ? profile->range_st : 0,
                     .word_gap = gaps ? profile->word_gap : 0};
    for (int i = 0; i < CUE_COUNT; i++) plan.level[i] = level_at(cell->quota[i], cell->level[i][member]);
    return plan;
}

ClipPlan *synth_plan(const Voices *voices, int64_t clips, uint64_t seed, Error *err) {
    ClipPlan *plans = memory_new((size_t)clips, sizeof *plans, err);
    bool ok = plans != NULL;
    for (uint32_t number = 0; ok && number < CELLS; number++) {
        Cell cell = {.emotion = (SynthEmotion)(number % SYNTH_EMOTIONS), .female = number < SYNTH_EMOTIONS};
        cell.number = number;
        cell.count = cell_count(clips, number);
        for (int cue = 0; cue < CUE_COUNT; cue++) set_quota(&cell, cue, clips);
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
