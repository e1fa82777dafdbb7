/* The order of an epoch, from counter-based random numbers alone. Where the samples lie in few shards any of them may
 * follow any other. Else the shards are put into a drawn order, each one's samples too, and then every sample is moved
 * by a drawn distance within `shuffle_shards` shards: at any position that many shards have samples to come, each
 * enters once and leaves once, and a cache that holds them fetches each once an epoch (mosaicml/streaming's py1e). */
#include <stdlib.h>
#include <string.h>

#include "data/loader.h"

typedef struct Shuffle { /* what all draws of an epoch share */
    const Shards *shards;
    const LoaderOptions *options;
    uint32_t epoch;
    uint32_t *turns; /* [shards_files] each shard's turn in this pass's order of shards */
    bool *used;      /* [shards_files] */
} Shuffle;

typedef struct Keyed {
    uint64_t key;
    uint32_t place;
} Keyed;

typedef struct Members { /* of one class: places in `chosen`, drawn without replacement until all are used */
    uint32_t *places;
    uint32_t *drawn; /* [count] this pass's order of `places` */
    uint32_t count, at, pass;
    Rng rng;
} Members;

/* ---- one permutation ---- */

static uint32_t shard_of(const Shuffle *shuffle, uint32_t place) {
    return shards_file_of(shuffle->shards, shuffle->options->chosen[place]);
}

static uint32_t count_shards(const Shuffle *shuffle, const uint32_t *places, uint32_t count) {
    uint32_t found = 0;
    memset(shuffle->used, 0, shards_files(shuffle->shards) * sizeof *shuffle->used);
    for (uint32_t i = 0; i < count; i++) {
        bool *used = &shuffle->used[shard_of(shuffle, places[i])];
        found += !*used;
        *used = true;
    }
    return found;
}

static int by_key(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* The same for all classes of a pass, so that they walk through the shards together. */
static bool draw_turns(const Shuffle *shuffle, uint32_t pass, Error *err) {
    uint32_t count = (uint32_t)shards_files(shuffle->shards), *order = memory_new(count, sizeof *order, err);
    if (!order) return false;
    Rng rng = rng_stream(shuffle->options->seed, PLACE_SHARDS, pass, shuffle->epoch);
    rng_permutation(&rng, order, count);
    for (uint32_t i = 0; i < count; i++) shuffle->turns[order[i]] = i;
    free(order);
    return true;
}

static bool permute_near(const Shuffle *shuffle, const uint32_t *places, uint32_t count, uint32_t reach, uint32_t pass,
                         Rng *rng, uint32_t *order, Error *err) {
    Keyed *keyed = memory_new(count, sizeof *keyed, err);
    bool ok = keyed && draw_turns(shuffle, pass, err);
    for (uint32_t i = 0; ok && i < count; i++)
        keyed[i] = (Keyed){(uint64_t)shuffle->turns[shard_of(shuffle, places[i])] << 32 | rng_next(rng), places[i]};
    if (ok) qsort(keyed, count, sizeof *keyed, by_key);
    for (uint32_t i = 0; ok && i < count; i++) /* moved by less than `reach` places, in 2^-24ths of one */
        keyed[i].key = ((uint64_t)i << 24) + (uint64_t)reach * (rng_next(rng) >> 8);
    if (ok) qsort(keyed, count, sizeof *keyed, by_key);
    for (uint32_t i = 0; ok && i < count; i++) order[i] = keyed[i].place;
    free(keyed);
    return ok;
}

/* Writes a drawn order of `places`. */
static bool permute(const Shuffle *shuffle, const uint32_t *places, uint32_t count, uint32_t pass, Rng *rng,
                    uint32_t *order, Error *err) {
    uint32_t window = (uint32_t)shuffle->options->shuffle_shards, found = count_shards(shuffle, places, count);
    if (window > 0 && found > window) {
        uint32_t reach = (uint32_t)((uint64_t)count * (window - 1) / found);
        return permute_near(shuffle, places, count, reach, pass, rng, order, err);
    }
    rng_permutation(rng, order, count);
    for (uint32_t i = 0; i < count; i++) order[i] = places[order[i]];
    return true;
}

/* ---- balanced ---- */

static const char *emotion_of(const Shards *shards, const LoaderOptions *options, size_t place) {
    const char *emotion = shards_utterance(shards, options->chosen[place])->emotion;
    return emotion ? emotion : "";
}

/* Numbers the chosen samples' emotions in order of appearance. */
static bool number_emotions(const Shards *shards, const LoaderOptions *options, int32_t *classes, Error *err) {
    const char **names = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < options->chosen_count; i++) {
        const char *emotion = emotion_of(shards, options, i);
        size_t number = 0;
        while (number < count && strcmp(names[number], emotion) != 0) number++;
        if (number == count) {
            if (!memory_grow(&names, count, &capacity, sizeof *names, err)) {
                free(names);
                return false;
            }
            names[count++] = emotion;
        }
        classes[i] = (int32_t)number;
    }
    free(names);
    return true;
}

static bool draw(const Shuffle *shuffle, Members *members, uint32_t *place, Error *err) {
    if (members->at == 0 &&
        !permute(shuffle, members->places, members->count, members->pass++, &members->rng, members->drawn, err))
        return false;
    *place = members->drawn[members->at];
    members->at = (members->at + 1) % members->count;
    return true;
}

/* Every run of `kinds` positions holds each class once, in a drawn order. */
static bool draw_balanced(const Shuffle *shuffle, Members *members, uint32_t kinds, uint32_t *order, Error *err) {
    uint32_t *turn = memory_new(kinds, sizeof *turn, err);
    Rng rng = rng_stream(shuffle->options->seed, PLACE_BALANCE, 0, shuffle->epoch);
    bool ok = turn != NULL;
    for (size_t i = 0; ok && i < shuffle->options->chosen_count; i++) {
        if (i % kinds == 0) rng_permutation(&rng, turn, kinds);
        ok = draw(shuffle, &members[turn[i % kinds]], &order[i], err);
    }
    free(turn);
    return ok;
}

/* Sorts places by class into `places`, one Members for each class that occurs. */
static uint32_t group(const int32_t *classes, size_t count, uint32_t *places, Members *members, int32_t highest) {
    uint32_t kinds = 0, used = 0;
    for (int32_t c = 0; c <= highest; c++) {
        uint32_t first = used;
        for (size_t i = 0; i < count; i++)
            if (classes[i] == c) places[used++] = (uint32_t)i;
        if (used > first) members[kinds++] = (Members){.places = places + first, .count = used - first};
    }
    return kinds;
}

/* The class of each chosen sample. */
static bool list_classes(const Shuffle *shuffle, int32_t *classes, int32_t *highest, Error *err) {
    const LoaderOptions *options = shuffle->options;
    *highest = 0;
    if (options->classes)
        memcpy(classes, options->classes, options->chosen_count * sizeof *classes);
    else if (!number_emotions(shuffle->shards, options, classes, err))
        return false;
    for (size_t i = 0; i < options->chosen_count; i++) {
        if (classes[i] < 0) return fail(err, "balanced sampling: sample %u belongs to no class", options->chosen[i]);
        if (classes[i] > *highest) *highest = classes[i];
    }
    return true;
}

static bool order_balanced(const Shuffle *shuffle, uint32_t *order, Error *err) {
    size_t count = shuffle->options->chosen_count;
    int32_t highest, *classes = memory_new(count, sizeof *classes, err);
    bool ok = classes && list_classes(shuffle, classes, &highest, err);
    uint32_t *places = memory_new(count, sizeof *places, err), *drawn = memory_new(count, sizeof *drawn, err);
    Members *members = ok ? memory_new((size_t)highest + 1, sizeof *members, err) : NULL;
    ok = ok && places && drawn && members;
    if (ok) {
        uint32_t kinds = group(classes, count, places, members, highest);
        for (uint32_t c = 0; c < kinds; c++) {
            members[c].drawn = drawn + (members[c].places - places);
            members[c].rng = rng_stream(shuffle->options->seed, PLACE_BALANCE, c + 1, shuffle->epoch);
        }
        ok = draw_balanced(shuffle, members, kinds, order, err);
    }
    free(classes);
    free(places);
    free(drawn);
    free(members);
    return ok;
}

/* ---- natural ---- */

static bool order_natural(const Shuffle *shuffle, uint32_t *order, Error *err) {
    uint32_t count = (uint32_t)shuffle->options->chosen_count, *places = memory_new(count, sizeof *places, err);
    if (!places) return false;
    for (uint32_t i = 0; i < count; i++) places[i] = i;
    Rng rng = rng_stream(shuffle->options->seed, PLACE_SHUFFLE, 0, shuffle->epoch);
    bool ok = permute(shuffle, places, count, 0, &rng, order, err);
    free(places);
    return ok;
}

bool order_make(const Shards *shards, const LoaderOptions *options, uint32_t epoch, uint32_t *order, Error *err) {
    if (options->chosen_count > INT32_MAX)
        return fail(err, "%zu samples are too many for a run", options->chosen_count);
    for (uint32_t i = 0; !options->shuffle && i < options->chosen_count; i++) order[i] = i;
    if (!options->shuffle || options->chosen_count == 0) return true;
    Shuffle shuffle = {.shards = shards, .options = options, .epoch = epoch};
    shuffle.turns = memory_new(shards_files(shards), sizeof *shuffle.turns, err);
    shuffle.used = memory_new(shards_files(shards), sizeof *shuffle.used, err);
    bool ok = shuffle.turns && shuffle.used;
    if (ok && options->sampling == SAMPLING_BALANCED)
        ok = order_balanced(&shuffle, order, err);
    else
        ok = ok && order_natural(&shuffle, order, err);
    free(shuffle.turns);
    free(shuffle.used);
    return ok;
}

int64_t order_room(const Shards *shards, const LoaderOptions *options) {
    int64_t largest = 0, all = 0;
    for (size_t i = 0; i < shards_files(shards); i++) {
        int64_t bytes = shards_file_bytes(shards, i);
        all += bytes;
        if (bytes > largest) largest = bytes;
    }
    if (options->shuffle_shards == 0 || (size_t)options->shuffle_shards + 2 >= shards_files(shards)) return all;
    return largest * (options->shuffle_shards + 2);
}
