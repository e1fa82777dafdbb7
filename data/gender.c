#include "data/gender.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/gender_weights.h"

enum { WEIGHT_COUNT = sizeof GENDER_WEIGHTS / sizeof *GENDER_WEIGHTS };

static const char SOURCE_KEY[] = "gender_source", ESTIMATED[] = "estimated";

typedef struct Census {
    size_t alone, together, speakers, unknown;
} Census;

bool gender_given(const Utterance *utterance) {
    const char *source = json_string_value(json_object_get(utterance->json, SOURCE_KEY));
    return utterance->gender && !(source && strcmp(source, ESTIMATED) == 0);
}

static bool in_hertz(FeatureId feature) {
    const char *name = FEATURE_NAMES[feature];
    return strcmp(name + strlen(name) - 3, "_hz") == 0;
}

double gender_log_odds(const Features *features) {
    double odds = GENDER_BIAS;
    for (int i = 0; i < WEIGHT_COUNT; i++) {
        const GenderWeight *weight = &GENDER_WEIGHTS[i];
        double value = features->value[weight->feature];
        if (in_hertz(weight->feature)) value = log(value);
        odds += weight->weight * (value - weight->mean) / weight->spread;
    }
    return odds;
}

/* --- speakers --- */

static int compare_speakers(const void *a, const void *b) {
    const Utterance *x = *(Utterance *const *)a, *y = *(Utterance *const *)b;
    return speaker_compare(x->corpus, x->speaker, y->corpus, y->speaker);
}

static bool set_gender(Utterance *utterance, const char *gender, Error *err) {
    char *copy = text_copy(gender, err);
    if (!copy) return false;
    free(utterance->gender);
    utterance->gender = copy;
    if (!utterance->json) utterance->json = json_object();
    return json_object_set_new(utterance->json, SOURCE_KEY, json_string(ESTIMATED)) == 0 ||
           fail(err, "out of memory while noting the gender of \"%s\"", utterance->id);
}

static void forget_gender(Utterance *utterance) {
    free(utterance->gender);
    utterance->gender = NULL;
    json_object_del(utterance->json, SOURCE_KEY);
    json_object_del(utterance->json, "gender");
}

/* The mean of the odds there are, NaN of none; `measured`: how many utterances were asked. */
static double mean_odds(Utterance *const *utterances, size_t count, size_t *measured) {
    double sum = 0;
    size_t known = 0;
    *measured = 0;
    for (size_t i = 0; i < count; i++) {
        const Utterance *utterance = utterances[i];
        if (!utterance->has_features || !utterance->features.voice_quality) continue;
        double odds = gender_log_odds(&utterance->features);
        (*measured)++;
        if (isnan(odds)) continue;
        sum += odds;
        known++;
    }
    return sum / (double)known;
}

/* The utterances of one speaker, or one of nobody named. An estimate stays where nothing was measured to replace it. */
static bool estimate_speaker(Utterance *const *utterances, size_t count, Census *census, Error *err) {
    size_t measured;
    double odds = mean_odds(utterances, count, &measured);
    for (size_t i = 0; i < count && measured; i++) {
        if (isnan(odds)) {
            forget_gender(utterances[i]);
        } else if (!set_gender(utterances[i], odds > 0 ? "male" : "female", err)) {
            return false;
        }
    }
    if (isnan(odds)) {
        census->unknown += measured;
    } else if (count == 1) {
        census->alone++;
    } else {
        census->together += count;
        census->speakers++;
    }
    return true;
}

/* Of utterances in the order of their speakers. */
static bool estimate_all(Utterance **utterances, size_t count, Census *census, Error *err) {
    qsort(utterances, count, sizeof *utterances, compare_speakers);
    for (size_t start = 0, end; start < count; start = end) {
        end = start + 1;
        while (end < count && utterances[start]->speaker && compare_speakers(&utterances[start], &utterances[end]) == 0)
            end++;
        if (!estimate_speaker(utterances + start, end - start, census, err)) return false;
    }
    return true;
}

static void say(const Census *census) {
    fprintf(stderr, "gender of %zu utterances estimated, as none is given: %zu of %zu speakers together, %zu alone\n",
            census->together + census->alone, census->together, census->speakers, census->alone);
    fprintf(stderr,
            "  of voices held out of training %.3g %% of single utterances are wrong, %.3g %% of %d of one speaker "
            "together; of espeak-ng's voices %.3g %%\n",
            GENDER_WRONG_ALONE, GENDER_WRONG_FEW, GENDER_FEW, GENDER_WRONG_ESPEAK);
    if (census->unknown)
        fprintf(stderr, "  %zu utterances have no voice to tell by: their gender stays unknown\n", census->unknown);
}

bool gender_estimate(Manifest *manifest, Error *err) {
    Utterance **unknown = memory_new(manifest->count, sizeof *unknown, err);
    if (!unknown) return false;
    size_t count = 0;
    for (size_t i = 0; i < manifest->count; i++)
        if (!gender_given(&manifest->items[i])) unknown[count++] = &manifest->items[i];
    Census census = {0};
    bool done = estimate_all(unknown, count, &census, err);
    if (done && census.alone + census.together + census.unknown) say(&census);
    free(unknown);
    return done;
}
