/* The order of an epoch, from counter-based random numbers alone. */
#include <stdlib.h>
#include <string.h>

#include "data/loader.h"

typedef struct Members { /* of one class: places in `chosen`, drawn without replacement until all are used */
    uint32_t *places;
    uint32_t *permutation;
    uint32_t count, at;
    Rng rng;
} Members;

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

static uint32_t draw(Members *members) {
    if (members->at == 0) rng_permutation(&members->rng, members->permutation, members->count);
    uint32_t place = members->places[members->permutation[members->at]];
    members->at = (members->at + 1) % members->count;
    return place;
}

/* Every run of `kinds` positions holds each class once, in a drawn order. */
static bool draw_balanced(Members *members, uint32_t kinds, Rng rng, uint32_t *order, size_t count, Error *err) {
    uint32_t *turn = memory_new(kinds, sizeof *turn, err);
    if (!turn) return false;
    for (size_t i = 0; i < count; i++) {
        if (i % kinds == 0) rng_permutation(&rng, turn, kinds);
        order[i] = draw(&members[turn[i % kinds]]);
    }
    free(turn);
    return true;
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

static bool order_balanced(const Shards *shards, const LoaderOptions *options, uint32_t epoch, uint32_t *order,
                           Error *err) {
    size_t count = options->chosen_count;
    int32_t highest = 0, *classes = memory_new(count, sizeof *classes, err);
    bool ok = classes != NULL;
    if (ok && options->classes)
        memcpy(classes, options->classes, count * sizeof *classes);
    else
        ok = ok && number_emotions(shards, options, classes, err);
    for (size_t i = 0; ok && i < count; i++) {
        if (classes[i] < 0) ok = fail(err, "balanced sampling: sample %u belongs to no class", options->chosen[i]);
        if (classes[i] > highest) highest = classes[i];
    }
    uint32_t *places = memory_new(count, sizeof *places, err), *permutations = memory_new(count, sizeof *places, err);
    Members *members = ok ? memory_new((size_t)highest + 1, sizeof *members, err) : NULL;
    ok = ok && places && permutations && members;
    if (ok) {
        uint32_t kinds = group(classes, count, places, members, highest);
        for (uint32_t c = 0; c < kinds; c++) {
            members[c].permutation = permutations + (members[c].places - places);
            members[c].rng = rng_stream(options->seed, PLACE_BALANCE, c + 1, epoch);
        }
        Rng rng = rng_stream(options->seed, PLACE_BALANCE, 0, epoch);
        ok = draw_balanced(members, kinds, rng, order, count, err);
    }
    free(classes);
    free(places);
    free(permutations);
    free(members);
    return ok;
}

bool order_make(const Shards *shards, const LoaderOptions *options, uint32_t epoch, uint32_t *order, Error *err) {
    if (options->chosen_count > INT32_MAX)
        return fail(err, "%zu samples are too many for a run", options->chosen_count);
    uint32_t count = (uint32_t)options->chosen_count;
    if (count == 0) return true;
    if (options->sampling == SAMPLING_BALANCED && options->shuffle)
        return order_balanced(shards, options, epoch, order, err);
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    if (options->shuffle) {
        Rng rng = rng_stream(options->seed, PLACE_SHUFFLE, 0, epoch);
        rng_permutation(&rng, order, count);
    }
    return true;
}
