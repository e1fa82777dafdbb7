#include "eval/control.h"

#include <stdlib.h>
#include <string.h>

#include "eval/score.h"

const char *const CONTROL_NAMES[] = {"none", "permute", "noise", "untrained"};

static const uint64_t CONTROL_SEED = 20241226; /* controls are the same for everyone */
static const float NOISE_RMS = 0.05f;          /* -26 dBFS, a usual level of speech */

typedef struct Source {
    double place; /* in (0, 1): how far through its class */
    uint32_t index;
} Source;

static int by_place(const void *a, const void *b) {
    const Source *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place ? 1 : (x->index > y->index) - (x->index < y->index);
}

/* The clips shuffled, then laid out so that every stretch holds each class in its share; dealt to the clips
 * in the order of their classes, each class hears every class as often as the set holds it. */
static bool permute(const Run *run, const Split *split, uint32_t *order, Error *err) {
    Source *sources = memory_new(split->count, sizeof *sources, err);
    if (!sources) return false;
    int64_t held[SCORE_CLASSES_MAX] = {0}, seen[SCORE_CLASSES_MAX] = {0};
    Rng rng = rng_stream(CONTROL_SEED, PLACE_SHUFFLE, 0, 0);
    rng_permutation(&rng, order, (uint32_t)split->count);
    for (size_t i = 0; i < split->count; i++) held[run->class_of[split->items[i]]]++;
    for (size_t i = 0; i < split->count; i++) {
        uint32_t index = split->items[order[i]];
        int32_t c = run->class_of[index];
        sources[i] = (Source){((double)seen[c]++ + 0.5) / (double)held[c], index};
    }
    qsort(sources, split->count, sizeof *sources, by_place);
    size_t dealt = 0;
    for (int c = 0; c < run->class_count; c++)
        for (size_t i = 0; i < split->count; i++)
            if (run->class_of[split->items[i]] == c) order[i] = sources[dealt++].index;
    free(sources);
    return true;
}

bool control_order(const Run *run, const Split *split, Control control, uint32_t *order, Error *err) {
    if (control == CONTROL_PERMUTE || control == CONTROL_NOISE) return permute(run, split, order, err);
    memcpy(order, split->items, split->count * sizeof *order);
    return true;
}

bool control_noise(Sample *sample, int channels, Error *err) {
    Audio *audio = &sample->audio;
    for (int64_t i = 0; i < audio->count; i += 2) {
        Philox block = philox(CONTROL_SEED, (uint32_t)(i / 2), PLACE_FEATURE_NOISE, sample->index, 0);
        float second;
        rng_normal_pair(block.word[0], block.word[1], &audio->samples[i], &second);
        audio->samples[i] *= NOISE_RMS;
        if (i + 1 < audio->count) audio->samples[i + 1] = second * NOISE_RMS;
    }
    return channels == 0 || features_prosody(audio, channels, sample->prosody_frames, sample->prosody, err);
}
