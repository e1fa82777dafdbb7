#include "data/levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const CUE_NAMES[CUE_COUNT] = {[CUE_PITCH] = "pitch", [CUE_SPEED] = "speed", [CUE_VOLUME] = "volume"};

const FeatureId CUE_FEATURES[CUE_COUNT] = {FEATURE_F0_MEDIAN_HZ, FEATURE_ARTICULATION_RATE, FEATURE_INTENSITY_MEAN_DB};

static const char *const WORDS_3[CUE_COUNT][3] = {
    {"low", "normal", "high"}, {"slow", "normal", "fast"}, {"quiet", "normal", "loud"}};
static const char *const WORDS_5[CUE_COUNT][5] = {{"very low", "low", "normal", "high", "very high"},
                                                  {"very slow", "slow", "normal", "fast", "very fast"},
                                                  {"very quiet", "quiet", "normal", "loud", "very loud"}};
static const double SHARES_3[] = {1.0 / 3, 2.0 / 3}, SHARES_5[] = {0.1, 0.25, 0.75, 0.9};

/* The utterances whose cut points are the same. */
typedef struct CutGroup {
    Cue cue;
    char *corpus, *gender; /* null: all of them */
    char *speaker;         /* null but for cut points of one speaker */
    int64_t utterances;    /* with a value */
    double cut[LEVELS_MAX - 1];
} CutGroup;

struct CutPoints {
    int count;
    CutGroup *groups; /* speakers' own at the end, in the order of compare_groups */
    size_t group_count, capacity;
    size_t speaker_groups;
    int64_t unknown_gender; /* training utterances */
};

static bool same(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static bool check_count(int count, Error *err) {
    return count == 3 || count == 5 || fail_usage(err, "there can be 3 or 5 levels, not %d", count);
}

/* --- fitting --- */

static int compare_values(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_7(const double *sorted, size_t count, double share) {
    double place = share * (double)(count - 1);
    size_t left = (size_t)floor(place);
    if (left + 1 >= count) return sorted[count - 1];
    return sorted[left] + (place - (double)left) * (sorted[left + 1] - sorted[left]);
}

static bool copy_name(char **to, const char *name, Error *err) {
    *to = name ? text_copy(name, err) : NULL;
    return *to || !name;
}

/* `like` names the group; where memory ends, what was copied goes with the cut points. */
static CutGroup *add_group(CutPoints *cuts, const CutGroup *like, Error *err) {
    if (!memory_grow(&cuts->groups, cuts->group_count, &cuts->capacity, sizeof *cuts->groups, err)) return NULL;
    CutGroup *group = &cuts->groups[cuts->group_count++];
    *group = (CutGroup){.cue = like->cue};
    if (!copy_name(&group->corpus, like->corpus, err) || !copy_name(&group->gender, like->gender, err) ||
        !copy_name(&group->speaker, like->speaker, err))
        return NULL;
    cuts->speaker_groups += like->speaker != NULL;
    return group;
}

/* A null corpus, gender or speaker takes all utterances in. */
static bool belongs(const Utterance *utterance, const CutGroup *group) {
    return (!group->corpus || same(group->corpus, utterance->corpus)) &&
           (!group->gender || same(group->gender, utterance->gender)) &&
           (!group->speaker || same(group->speaker, utterance->speaker));
}

typedef struct Training {
    const Utterance *const *utterances;
    size_t count;
    double *values; /* [count], scratch */
} Training;

/* No group where fewer than `least` utterances have a value. */
static bool fit_group(CutPoints *cuts, const Training *training, const CutGroup *like, size_t least, Error *err) {
    size_t found = 0;
    for (size_t i = 0; i < training->count; i++) {
        const Utterance *utterance = training->utterances[i];
        double value = utterance->features.value[CUE_FEATURES[like->cue]];
        if (utterance->has_features && isfinite(value) && belongs(utterance, like)) training->values[found++] = value;
    }
    if (found < least) return true;
    CutGroup *group = add_group(cuts, like, err);
    if (!group) return false;
    group->utterances = (int64_t)found;
    qsort(training->values, found, sizeof *training->values, compare_values);
    const double *shares = cuts->count == 3 ? SHARES_3 : SHARES_5;
    for (int i = 0; i < cuts->count - 1; i++) group->cut[i] = quantile_7(training->values, found, shares[i]);
    return true;
}

/* Pitch per gender and, for unknown gender, of all; speed and volume of all. */
static bool fit_corpus(CutPoints *cuts, const Training *training, char *corpus, Error *err) {
    char female[] = "female", male[] = "male";
    const CutGroup groups[] = {{.cue = CUE_PITCH, .corpus = corpus, .gender = female},
                               {.cue = CUE_PITCH, .corpus = corpus, .gender = male},
                               {.cue = CUE_PITCH, .corpus = corpus},
                               {.cue = CUE_SPEED, .corpus = corpus},
                               {.cue = CUE_VOLUME, .corpus = corpus}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (!fit_group(cuts, training, &groups[i], 1, err)) return false;
    return true;
}

static int compare_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Every corpus by itself, and all together for utterances of a corpus that training did not see. */
static bool fit_all(CutPoints *cuts, const Training *training, char **names, Error *err) {
    for (size_t i = 0; i < training->count; i++) {
        names[i] = training->utterances[i]->corpus;
        cuts->unknown_gender += !training->utterances[i]->gender;
    }
    qsort(names, training->count, sizeof *names, compare_texts);
    for (size_t i = 0; i < training->count; i++)
        if ((i == 0 || strcmp(names[i], names[i - 1]) != 0) && !fit_corpus(cuts, training, names[i], err)) return false;
    return fit_corpus(cuts, training, NULL, err);
}

CutPoints *cut_points_fit(const Utterance *const *utterances, size_t n, int count, Error *err) {
    if (!check_count(count, err)) return NULL;
    CutPoints *cuts = memory_new(1, sizeof *cuts, err);
    char **names = memory_new(n, sizeof *names, err);
    Training training = {utterances, n, memory_new(n, sizeof(double), err)};
    bool done = cuts && names && training.values;
    if (done) {
        cuts->count = count;
        done = fit_all(cuts, &training, names, err);
    }
    free(names);
    free(training.values);
    if (done) return cuts;
    cut_points_free(cuts);
    return NULL;
}

/* --- speakers --- */

static int compare_groups(const void *a, const void *b) {
    const CutGroup *x = a, *y = b;
    if (!x->speaker != !y->speaker) return x->speaker ? 1 : -1;
    if (!x->speaker) return 0;
    int order = speaker_compare(x->corpus, x->speaker, y->corpus, y->speaker);
    return order ? order : (x->cue > y->cue) - (x->cue < y->cue);
}

static int compare_speakers(const void *a, const void *b) {
    const Utterance *x = *(const Utterance *const *)a, *y = *(const Utterance *const *)b;
    return speaker_compare(x->corpus, x->speaker, y->corpus, y->speaker);
}

static bool fit_speaker(CutPoints *cuts, const Training *training, Error *err) {
    const Utterance *first = training->utterances[0];
    if (!first->speaker) return true;
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        CutGroup like = {.cue = (Cue)cue, .corpus = first->corpus, .speaker = first->speaker};
        if (!fit_group(cuts, training, &like, SPEAKER_LEAST, err)) return false;
    }
    return true;
}

/* Of utterances in the order of their speakers: a stretch of one speaker after the other. */
static bool fit_stretches(CutPoints *cuts, const Training *all, Error *err) {
    for (size_t start = 0, end; start < all->count; start = end) {
        for (end = start + 1; end < all->count; end++)
            if (compare_speakers(&all->utterances[start], &all->utterances[end]) != 0) break;
        Training one = {all->utterances + start, end - start, all->values};
        if (!fit_speaker(cuts, &one, err)) return false;
    }
    return true;
}

bool cut_points_fit_speakers(CutPoints *cuts, const Utterance *const *utterances, size_t n, Error *err) {
    const Utterance **sorted = memory_new(n, sizeof *sorted, err);
    Training training = {sorted, n, memory_new(n, sizeof(double), err)};
    bool done = sorted && training.values;
    if (done) {
        for (size_t i = 0; i < n; i++) sorted[i] = utterances[i];
        qsort(sorted, n, sizeof *sorted, compare_speakers);
        done = fit_stretches(cuts, &training, err);
    }
    free(sorted);
    free(training.values);
    return done;
}

void cut_points_free(CutPoints *cuts) {
    if (!cuts) return;
    for (size_t i = 0; i < cuts->group_count; i++) {
        free(cuts->groups[i].corpus);
        free(cuts->groups[i].gender);
        free(cuts->groups[i].speaker);
    }
    free(cuts->groups);
    free(cuts);
}

/* --- applying --- */

static const CutGroup *find(const CutPoints *cuts, Cue cue, const char *corpus, const char *gender) {
    for (size_t i = 0; i < cuts->group_count - cuts->speaker_groups; i++) {
        const CutGroup *group = &cuts->groups[i];
        if (group->cue == cue && same(group->corpus, corpus) && same(group->gender, gender)) return group;
    }
    return NULL;
}

static const CutGroup *find_speaker(const CutPoints *cuts, Cue cue, const Utterance *utterance) {
    if (!utterance->speaker || cuts->speaker_groups == 0) return NULL;
    CutGroup key = {.cue = cue, .corpus = utterance->corpus, .speaker = utterance->speaker};
    return bsearch(&key, cuts->groups + (cuts->group_count - cuts->speaker_groups), cuts->speaker_groups,
                   sizeof *cuts->groups, compare_groups);
}

/* The closest group there is: own speaker, own corpus before others, own gender before all. */
static const CutGroup *group_for(const CutPoints *cuts, Cue cue, const Utterance *utterance) {
    const char *gender = cue == CUE_PITCH ? utterance->gender : NULL;
    const CutGroup *group = find_speaker(cuts, cue, utterance);
    if (!group) group = find(cuts, cue, utterance->corpus, gender);
    if (!group) group = find(cuts, cue, utterance->corpus, NULL);
    if (!group) group = find(cuts, cue, NULL, gender);
    return group ? group : find(cuts, cue, NULL, NULL);
}

const double *cut_points_of(const CutPoints *cuts, Cue cue, const Utterance *utterance, int64_t *fitted) {
    const CutGroup *group = group_for(cuts, cue, utterance);
    if (group && fitted) *fitted = group->utterances;
    return group ? group->cut : NULL;
}

static int8_t level_of(const CutPoints *cuts, Cue cue, const Utterance *utterance) {
    double value = utterance->features.value[CUE_FEATURES[cue]];
    if (!utterance->has_features || !isfinite(value)) return LEVEL_NONE;
    const double *cut = cut_points_of(cuts, cue, utterance, NULL);
    if (!cut) return LEVEL_NONE;
    int8_t level = 0;
    for (int i = 0; i < cuts->count - 1; i++) level = (int8_t)(level + (value > cut[i]));
    return level;
}

Levels cut_points_apply(const CutPoints *cuts, const Utterance *utterance) {
    Levels levels;
    for (int cue = 0; cue < CUE_COUNT; cue++) levels.level[cue] = level_of(cuts, (Cue)cue, utterance);
    return levels;
}

/* --- JSON --- */

static json_t *group_json(const CutGroup *group, int cut_count) {
    json_t *cuts = json_array();
    for (int i = 0; i < cut_count; i++) json_array_append_new(cuts, json_real(group->cut[i]));
    json_t *json = json_pack("{s:s, s:s?, s:s?, s:I, s:o}", "cue", CUE_NAMES[group->cue], "corpus", group->corpus,
                             "gender", group->gender, "utterances", (json_int_t)group->utterances, "cuts", cuts);
    if (group->speaker) json_object_set_new(json, "speaker", json_string(group->speaker));
    return json;
}

json_t *cut_points_json(const CutPoints *cuts, Error *err) {
    json_t *groups = json_array();
    bool done = groups != NULL;
    for (size_t i = 0; i < cuts->group_count && done; i++)
        done = json_array_append_new(groups, group_json(&cuts->groups[i], cuts->count - 1)) == 0;
    json_t *json = done ? json_pack("{s:i, s:I, s:O}", "levels", cuts->count, "unknown_gender",
                                    (json_int_t)cuts->unknown_gender, "groups", groups)
                        : NULL;
    json_decref(groups);
    if (!json) fail(err, "out of memory while writing the cut points of levels");
    return json;
}

static bool parse_cuts(CutGroup *group, int cut_count, const json_t *json, const char *where, Error *err) {
    const json_t *cuts = json_object_get(json, "cuts");
    if (json_array_size(cuts) != (size_t)cut_count)
        return fail(err, "%s: \"cuts\" must be a list of %d numbers", where, cut_count);
    for (int i = 0; i < cut_count; i++) {
        const json_t *cut = json_array_get(cuts, (size_t)i);
        if (!json_is_number(cut)) return fail(err, "%s: \"cuts\" must be a list of %d numbers", where, cut_count);
        group->cut[i] = json_number_value(cut);
        if (i && group->cut[i] < group->cut[i - 1]) return fail(err, "%s: \"cuts\" must rise", where);
    }
    return true;
}

static bool parse_group(CutPoints *cuts, const json_t *json, const char *where, Error *err) {
    const char *name = NULL, *corpus = NULL, *gender = NULL, *speaker = NULL;
    int64_t utterances = 0;
    if (!json_get_string(json, "cue", &name, where, err) || !json_string_or(json, "corpus", &corpus, where, err) ||
        !json_string_or(json, "gender", &gender, where, err) ||
        !json_string_or(json, "speaker", &speaker, where, err) ||
        !json_get_int(json, "utterances", 0, INT64_MAX, &utterances, where, err))
        return false;
    int cue = 0;
    while (cue < CUE_COUNT && strcmp(CUE_NAMES[cue], name) != 0) cue++;
    if (cue == CUE_COUNT) return fail(err, "%s: there is no cue \"%.40s\"", where, name);
    CutGroup like = {(Cue)cue, (char *)(uintptr_t)corpus, (char *)(uintptr_t)gender, (char *)(uintptr_t)speaker, 0,
                     {0}};
    CutGroup *group = add_group(cuts, &like, err);
    if (!group) return false;
    group->utterances = utterances;
    return parse_cuts(group, cuts->count - 1, json, where, err);
}

/* Speakers' groups must stand as they were written, or they would not be found. */
static bool check_order(const CutPoints *cuts, const char *where, Error *err) {
    for (size_t i = 1; i < cuts->group_count; i++)
        if (compare_groups(&cuts->groups[i - 1], &cuts->groups[i]) > 0)
            return fail(err, "%s: groups with a speaker must come last, in the order of corpus and speaker", where);
    return true;
}

static bool parse_groups(CutPoints *cuts, const json_t *json, const char *where, Error *err) {
    int64_t count = 0;
    if (!json_get_int(json, "levels", 3, 5, &count, where, err) || !check_count((int)count, err) ||
        !json_int_or(json, "unknown_gender", 0, INT64_MAX, &cuts->unknown_gender, where, err))
        return false;
    cuts->count = (int)count;
    const json_t *groups = json_object_get(json, "groups");
    if (!json_is_array(groups)) return fail(err, "%s: \"groups\" must be a list", where);
    for (size_t i = 0; i < json_array_size(groups); i++)
        if (!parse_group(cuts, json_array_get(groups, i), where, err)) return false;
    return check_order(cuts, where, err);
}

CutPoints *cut_points_parse(const json_t *json, const char *where, Error *err) {
    CutPoints *cuts = memory_new(1, sizeof *cuts, err);
    if (cuts && parse_groups(cuts, json, where, err)) return cuts;
    cut_points_free(cuts);
    return NULL;
}

/* --- words --- */

/* Too many to print each: how many, and between which values each cut point lies. */
static void print_speakers(const CutPoints *cuts, Cue cue, FILE *out) {
    double low[LEVELS_MAX - 1], high[LEVELS_MAX - 1];
    size_t speakers = 0;
    for (size_t i = cuts->group_count - cuts->speaker_groups; i < cuts->group_count; i++) {
        const CutGroup *group = &cuts->groups[i];
        if (group->cue != cue) continue;
        for (int k = 0; k < cuts->count - 1; k++) {
            low[k] = speakers ? fmin(low[k], group->cut[k]) : group->cut[k];
            high[k] = speakers ? fmax(high[k], group->cut[k]) : group->cut[k];
        }
        speakers++;
    }
    if (speakers == 0) return;
    fprintf(out, "  %-7s %zu speakers' own: ", CUE_NAMES[cue], speakers);
    for (int k = 0; k < cuts->count - 1; k++) fprintf(out, "%s%.4g to %.4g", k ? ", " : "", low[k], high[k]);
    fputc('\n', out);
}

void cut_points_print(const CutPoints *cuts, FILE *out) {
    fprintf(out, "cut points of %d levels:\n", cuts->count);
    for (size_t i = 0; i < cuts->group_count; i++) {
        const CutGroup *group = &cuts->groups[i];
        if (!group->corpus || group->speaker)
            continue; /* of all corpora together: for those that training did not see */
        fprintf(out, "  %-7s %-16s %-7s %6lld utterances: ", CUE_NAMES[group->cue], group->corpus,
                group->gender ? group->gender : "all", (long long)group->utterances);
        for (int k = 0; k < cuts->count - 1; k++) fprintf(out, "%s%.4g", k ? ", " : "", group->cut[k]);
        fputc('\n', out);
    }
    for (int cue = 0; cue < CUE_COUNT; cue++) print_speakers(cuts, (Cue)cue, out);
    if (cuts->unknown_gender)
        fprintf(out, "  %lld utterances are of unknown gender: their pitch is judged by the cut points of all\n",
                (long long)cuts->unknown_gender);
}

const char *level_word(Cue cue, int level, int count) {
    if (level < 0 || level >= count) return NULL;
    return count == 3 ? WORDS_3[cue][level] : WORDS_5[cue][level];
}

int level_of_word(Cue cue, const char *word, int count) {
    for (int level = 0; level < count; level++)
        if (strcasecmp(level_word(cue, level, count), word) == 0) return level;
    return LEVEL_NONE;
}

json_t *levels_json(const Levels *levels, int count, Error *err) {
    json_t *json = json_object();
    bool done = json != NULL;
    for (int cue = 0; cue < CUE_COUNT && done; cue++) {
        const char *word = level_word((Cue)cue, levels->level[cue], count);
        done = json_object_set_new(json, CUE_NAMES[cue], word ? json_string(word) : json_null()) == 0;
    }
    if (done) return json;
    json_decref(json);
    fail(err, "out of memory while writing levels");
    return NULL;
}

bool levels_kept(const Utterance *utterance, const Levels *levels, int count) {
    const json_t *kept = json_object_get(utterance->json, "levels");
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        const char *word = level_word((Cue)cue, levels->level[cue], count);
        const char *written = json_string_value(json_object_get(kept, CUE_NAMES[cue]));
        if (!word != !written || (word && strcmp(word, written) != 0)) return false;
    }
    return kept != NULL;
}
