/* Who and what is in a data set, counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/report.h"

/* Rows a table can have: enough for every class and most corpora's speakers, bounded whatever the data says. */
static const size_t ROWS_MOST[FIELD_COUNT] = {
    [FIELD_CLASS] = 24, [FIELD_CORPUS] = 24, [FIELD_SPEAKER] = 100, [FIELD_GROUP] = 100, [FIELD_TEACHER] = 24};

const char *const GENDER_NAMES[GENDERS] = {"female", "male", "unknown"};

Gender gender_of(const Utterance *utterance) {
    if (!utterance->gender) return GENDER_UNKNOWN;
    return strcmp(utterance->gender, "female") == 0 ? GENDER_FEMALE : GENDER_MALE;
}

/* --- the values of a field --- */

typedef struct Key {
    const char *corpus, *name;
    size_t utterance;
} Key;

static const char *value_of(const Utterance *utterance, Field field) {
    const char *const values[FIELD_COUNT] = {[FIELD_CLASS] = utterance->emotion,
                                             [FIELD_CORPUS] = utterance->corpus,
                                             [FIELD_SPEAKER] = utterance->speaker,
                                             [FIELD_GROUP] = utterance->group,
                                             [FIELD_TEACHER] = utterance->teacher};
    bool given = values[field] && (*values[field] || field == FIELD_CORPUS);
    return given ? values[field] : NULL;
}

/* Speakers and groups of two corpora are others, whatever they are called. */
static Key key_of(const DataSet *set, size_t i, Field field) {
    const Utterance *utterance = set->utterances[i];
    const char *name = value_of(utterance, field);
    bool within = name && (field == FIELD_SPEAKER || field == FIELD_GROUP);
    return (Key){within ? utterance->corpus : NULL, name, i};
}

static int compare_names(const char *a, const char *b) { return a && b ? strcmp(a, b) : (b != NULL) - (a != NULL); }

static int compare_values(const Key *a, const Key *b) {
    if (!a->name != !b->name) return a->name ? -1 : 1;
    int order = compare_names(a->corpus, b->corpus);
    return order ? order : compare_names(a->name, b->name);
}

static int compare_keys(const void *a, const void *b) {
    const Key *x = a, *y = b;
    int order = compare_values(x, y);
    return order ? order : (x->utterance > y->utterance) - (x->utterance < y->utterance);
}

/* Values numbered in their order; of[i] is utterance i's. */
typedef struct Values {
    Key *items; /* the first key of each */
    int64_t *utterances;
    uint32_t *of;
    size_t count;
} Values;

static void values_free(Values *values) {
    free(values->items);
    free(values->utterances);
    free(values->of);
}

static bool values_find(Values *values, const DataSet *set, Field field, Error *err) {
    *values = (Values){.items = memory_new(set->count, sizeof *values->items, err),
                       .utterances = memory_new(set->count, sizeof *values->utterances, err),
                       .of = memory_new(set->count, sizeof *values->of, err)};
    if (!values->items || !values->utterances || !values->of) return false;
    Key *keys = values->items; /* shrinks in place to one key a value */
    for (size_t i = 0; i < set->count; i++) keys[i] = key_of(set, i, field);
    qsort(keys, set->count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < set->count; i++) {
        Key key = keys[i];
        if (values->count == 0 || compare_values(&keys[values->count - 1], &key) != 0) keys[values->count++] = key;
        values->utterances[values->count - 1]++;
        values->of[key.utterance] = (uint32_t)(values->count - 1);
    }
    return true;
}

/* --- which values have a row --- */

typedef struct Ranked {
    uint32_t value;
    int64_t utterances;
} Ranked;

static int compare_ranked(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->utterances != y->utterances) return x->utterances < y->utterances ? 1 : -1;
    return (x->value > y->value) - (x->value < y->value);
}

/* shown[value]: the `most` frequent, and the one not given. */
static bool choose_shown(const Values *values, size_t most, bool *shown, Error *err) {
    Ranked *ranked = memory_new(values->count, sizeof *ranked, err);
    if (!ranked) return false;
    for (size_t v = 0; v < values->count; v++) ranked[v] = (Ranked){(uint32_t)v, values->utterances[v]};
    qsort(ranked, values->count, sizeof *ranked, compare_ranked);
    for (size_t r = 0; r < values->count; r++)
        shown[ranked[r].value] = r < most || !values->items[ranked[r].value].name;
    free(ranked);
    return true;
}

static bool make_rows(Categories *categories, const Values *values, const bool *shown, size_t utterances, Error *err) {
    uint32_t *row_of = memory_new(values->count, sizeof *row_of, err);
    categories->rows = memory_new(values->count + 1, sizeof *categories->rows, err);
    categories->row_of = memory_new(utterances, sizeof *categories->row_of, err);
    bool done = row_of && categories->rows && categories->row_of;
    size_t folded = 0;
    for (size_t v = 0; v < values->count && done; v++) {
        const Key *key = &values->items[v];
        categories->distinct += key->name != NULL;
        folded += !shown[v];
        row_of[v] = (uint32_t)categories->count;
        if (shown[v]) categories->rows[categories->count++] = (Tally){.name = key->name, .corpus = key->corpus};
    }
    if (done && folded) categories->rows[categories->count] = (Tally){.folded = folded};
    for (size_t v = 0; v < values->count && done; v++)
        if (!shown[v]) row_of[v] = (uint32_t)categories->count;
    categories->count += folded > 0;
    for (size_t i = 0; i < utterances && done; i++) categories->row_of[i] = row_of[values->of[i]];
    free(row_of);
    return done;
}

/* --- counting --- */

static void tally(Tally *row, const DataSet *set, size_t i) {
    row->utterances++;
    row->gender[gender_of(set->utterances[i])]++;
    if (isfinite(set->seconds[i]))
        row->seconds += set->seconds[i];
    else
        row->untimed++;
}

static int compare_pairs(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many different speakers each row has, the unknown one aside. */
static bool count_speakers(Categories *categories, const Values *speakers, size_t utterances, Error *err) {
    uint64_t *pairs = memory_new(utterances, sizeof *pairs, err);
    if (!pairs) return false;
    for (size_t i = 0; i < utterances; i++) pairs[i] = (uint64_t)categories->row_of[i] << 32 | speakers->of[i];
    qsort(pairs, utterances, sizeof *pairs, compare_pairs);
    for (size_t i = 0; i < utterances; i++) {
        if (i && pairs[i] == pairs[i - 1]) continue;
        bool known = speakers->items[(uint32_t)pairs[i]].name != NULL;
        categories->rows[pairs[i] >> 32].speakers += known;
    }
    free(pairs);
    return true;
}

static bool count_field(Categories *categories, const DataSet *set, Field field, const Values *speakers, Error *err) {
    Values values;
    bool done = values_find(&values, set, field, err);
    bool *shown = done ? memory_new(values.count, sizeof *shown, err) : NULL;
    done = shown && choose_shown(&values, ROWS_MOST[field], shown, err) &&
           make_rows(categories, &values, shown, set->count, err);
    for (size_t i = 0; i < set->count && done; i++) tally(&categories->rows[categories->row_of[i]], set, i);
    done = done && count_speakers(categories, speakers, set->count, err);
    free(shown);
    values_free(&values);
    return done;
}

static bool lacks(const Utterance *utterance, Want want) {
    const char *const texts[WANTS] = {[WANT_EMOTION] = utterance->emotion,        [WANT_GENDER] = utterance->gender,
                                      [WANT_SPEAKER] = utterance->speaker,        [WANT_GROUP] = utterance->group,
                                      [WANT_TRANSCRIPT] = utterance->transcript,  [WANT_TEACHER] = utterance->teacher,
                                      [WANT_EXPLANATION] = utterance->explanation};
    if (want == WANT_FEATURES) return !utterance->has_features;
    if (want >= WANT_PITCH && want <= WANT_VOLUME)
        return !utterance->has_features || !isfinite(utterance->features.value[CUE_FEATURES[want - WANT_PITCH]]);
    return !texts[want] || !*texts[want];
}

/* Every group's row has one speaker, and there are as many of both. */
static bool one_to_one(const Census *census) {
    const Categories *speakers = &census->by[FIELD_SPEAKER], *groups = &census->by[FIELD_GROUP];
    if (speakers->distinct != groups->distinct || census->lacking[WANT_SPEAKER] || census->lacking[WANT_GROUP])
        return false;
    for (size_t row = 0; row < groups->count; row++)
        if ((size_t)groups->rows[row].speakers != (groups->rows[row].folded ? groups->rows[row].folded : 1))
            return false;
    return true;
}

bool census_take(Census *census, const DataSet *set, Error *err) {
    *census = (Census){0};
    Values speakers;
    bool done = values_find(&speakers, set, FIELD_SPEAKER, err);
    for (int field = 0; field < FIELD_COUNT && done; field++)
        done = count_field(&census->by[field], set, (Field)field, &speakers, err);
    for (size_t i = 0; i < set->count && done; i++) {
        tally(&census->all, set, i);
        for (int want = 0; want < WANTS; want++) census->lacking[want] += lacks(set->utterances[i], (Want)want);
    }
    census->all.speakers = (int64_t)census->by[FIELD_SPEAKER].distinct;
    census->speakers_are_groups = done && one_to_one(census);
    values_free(&speakers);
    if (!done) census_free(census);
    return done;
}

void census_free(Census *census) {
    for (int field = 0; field < FIELD_COUNT; field++) {
        free(census->by[field].rows);
        free(census->by[field].row_of);
    }
    *census = (Census){0};
}

int64_t *census_cross(const Categories *a, const Categories *b, size_t utterances, Error *err) {
    int64_t *both = memory_new(a->count * b->count, sizeof *both, err);
    for (size_t i = 0; i < utterances && both; i++) both[a->row_of[i] * b->count + b->row_of[i]]++;
    return both;
}
