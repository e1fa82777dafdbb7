#include "train/splits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PLACE_SPLIT = PLACE_SHUFFLE, SPLIT_SAMPLE = 1 }; /* the stream of PLACE_SHUFFLE that no epoch uses */

/* ---- classes ---- */

static const char *mapped(const RunConfig *config, const char *emotion) {
    for (unsigned i = 0; i < config->data.labels_count; i++)
        if (strcmp(config->data.labels[i].from, emotion) == 0) return config->data.labels[i].to;
    return emotion;
}

int run_class(const Run *run, const Utterance *utterance) {
    if (!utterance->emotion) return -1;
    const char *name = mapped(run->config, utterance->emotion);
    for (int i = 0; i < run->class_count; i++)
        if (strcmp(run->classes[i], name) == 0) return i;
    return -1;
}

static bool add_class(Run *run, const char *name, Error *err) {
    for (int i = 0; i < run->class_count; i++)
        if (strcmp(run->classes[i], name) == 0) return true;
    char **grown = realloc(run->classes, ((size_t)run->class_count + 1) * sizeof *grown);
    if (!grown) return fail(err, "out of memory for the class list");
    run->classes = grown;
    char *copy = text_copy(name, err);
    if (copy) grown[run->class_count++] = copy;
    return copy != NULL;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool classes_make(Run *run, Error *err) {
    const TextList *listed = &run->config->data.classes;
    for (unsigned i = 0; i < listed->count; i++)
        if (!add_class(run, listed->items[i], err)) return false;
    if (listed->count || !run->shards) return true;
    for (size_t i = 0; i < shards_count(run->shards); i++) {
        const char *emotion = shards_utterance(run->shards, i)->emotion;
        if (emotion && !add_class(run, mapped(run->config, emotion), err)) return false;
    }
    if (run->class_count > 1) qsort(run->classes, (size_t)run->class_count, sizeof *run->classes, by_name);
    return run->class_count > 0 || fail(err, "%s: no utterance has an emotion to learn", run->config->data.shards);
}

/* ---- splits ---- */

static bool listed(const TextList *list, const char *name) {
    for (unsigned i = 0; name && i < list->count; i++)
        if (strcmp(list->items[i], name) == 0) return true;
    return false;
}

static bool names_found(const Run *run, const TextList *list, bool groups, const char *key, Error *err) {
    for (unsigned i = 0; i < list->count; i++) {
        bool found = false;
        for (size_t k = 0; !found && k < shards_count(run->shards); k++) {
            const Utterance *u = shards_utterance(run->shards, k);
            const char *name = groups ? u->group : u->speaker;
            found = name && strcmp(name, list->items[i]) == 0;
        }
        if (!found)
            return fail_usage(err, "%s: %s names \"%s\", which no utterance of %s has", run->folder, key,
                              list->items[i], run->config->data.shards);
    }
    return true;
}

static bool add(Split *split, size_t *capacity, uint32_t index, Error *err) {
    if (!memory_grow(&split->items, split->count, capacity, sizeof *split->items, err)) return false;
    split->items[split->count++] = index;
    return true;
}

/* Moves a drawn share of every class from training to validation, so that each class is in both. */
static bool draw_validation(Run *run, Error *err) {
    size_t count = run->train.count, capacity = 0, kept = 0;
    bool *moved = memory_new(count, sizeof *moved, err);
    uint32_t *members = memory_new(count, sizeof *members, err);
    bool ok = moved && members;
    for (int c = 0; ok && c < run->class_count; c++) {
        uint32_t size = 0;
        for (size_t i = 0; i < count; i++) size += run->class_of[run->train.items[i]] == c;
        Rng rng = rng_stream((uint64_t)run->config->train.seed, PLACE_SPLIT, SPLIT_SAMPLE + (uint32_t)c, 0);
        rng_permutation(&rng, members, size);
        uint32_t wanted = (uint32_t)lround(run->config->data.validation_share * size), number = 0;
        if (wanted == 0 && size > 1) wanted = 1;
        for (size_t i = 0; i < count; i++)
            if (run->class_of[run->train.items[i]] == c) moved[i] = members[number++] < wanted;
    }
    for (size_t i = 0; ok && i < count; i++) {
        if (moved[i])
            ok = add(&run->validation, &capacity, run->train.items[i], err);
        else
            run->train.items[kept++] = run->train.items[i];
    }
    if (ok) run->train.count = kept;
    free(moved);
    free(members);
    return ok;
}

static const char *speaker_at(const Run *run, const Split *split, size_t i) {
    return shards_utterance(run->shards, split->items[i])->speaker;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* A model that heard a test speaker while training is not tested on unseen voices. */
static bool speakers_apart(const Run *run, Error *err) {
    const char **trained = memory_new(run->train.count, sizeof *trained, err);
    if (!trained) return false;
    size_t count = 0;
    for (size_t i = 0; i < run->train.count; i++)
        if (speaker_at(run, &run->train, i)) trained[count++] = speaker_at(run, &run->train, i);
    qsort(trained, count, sizeof *trained, by_text);
    bool ok = true;
    for (size_t i = 0; ok && i < run->test.count; i++) {
        const char *speaker = speaker_at(run, &run->test, i);
        if (speaker && bsearch(&speaker, trained, count, sizeof *trained, by_text))
            ok = fail_usage(err,
                            "speaker \"%s\" is in both the test and the training split: hold out whole speakers in "
                            "data.test, or set data.speaker_overlap: true",
                            speaker);
    }
    free(trained);
    return ok;
}

bool splits_make(Run *run, Error *err) {
    const DataSection *data = &run->config->data;
    if (!names_found(run, &data->test_groups, true, "data.test.groups", err) ||
        !names_found(run, &data->test_speakers, false, "data.test.speakers", err) ||
        !names_found(run, &data->validation_groups, true, "data.validation.groups", err) ||
        !names_found(run, &data->validation_speakers, false, "data.validation.speakers", err))
        return false;
    size_t count = shards_count(run->shards), capacity[3] = {0};
    run->class_of = memory_new(count, sizeof *run->class_of, err);
    if (!run->class_of) return false;
    for (size_t i = 0; i < count; i++) {
        const Utterance *u = shards_utterance(run->shards, i);
        run->class_of[i] = run_class(run, u);
        if (run->class_of[i] < 0) continue;
        bool test = listed(&data->test_groups, u->group) || listed(&data->test_speakers, u->speaker);
        bool held = listed(&data->validation_groups, u->group) || listed(&data->validation_speakers, u->speaker);
        int which = test ? 0 : held ? 1 : 2;
        Split *split = test ? &run->test : held ? &run->validation : &run->train;
        if (!add(split, &capacity[which], (uint32_t)i, err)) return false;
    }
    if (data->validation_share > 0 && !draw_validation(run, err)) return false;
    return data->speaker_overlap || speakers_apart(run, err);
}

static size_t count_class(const Run *run, const Split *split, int c) {
    size_t count = 0;
    for (size_t i = 0; i < split->count; i++) count += run->class_of[split->items[i]] == c;
    return count;
}

static size_t count_speakers(const Run *run, const Split *split) {
    size_t count = 0;
    const char **names = memory_new(split->count, sizeof *names, NULL);
    for (size_t i = 0; names && i < split->count; i++)
        if (speaker_at(run, split, i)) names[count++] = speaker_at(run, split, i);
    if (!names || !count) {
        free(names);
        return 0;
    }
    qsort(names, count, sizeof *names, by_text);
    size_t distinct = 1;
    for (size_t i = 1; i < count; i++) distinct += strcmp(names[i], names[i - 1]) != 0;
    free(names);
    return distinct;
}

void splits_print(const Run *run, FILE *out) {
    const Split *splits[] = {&run->train, &run->validation, &run->test};
    fprintf(out, "%-20s %10s %10s %10s\n", "samples", "train", "validation", "test");
    for (int c = 0; c < run->class_count; c++) {
        fprintf(out, "  %-18s", run->classes[c]);
        for (int s = 0; s < 3; s++) fprintf(out, " %10zu", count_class(run, splits[s], c));
        fputc('\n', out);
    }
    fprintf(out, "  %-18s", "all");
    for (int s = 0; s < 3; s++) fprintf(out, " %10zu", splits[s]->count);
    fprintf(out, "\n  %-18s", "speakers");
    for (int s = 0; s < 3; s++) fprintf(out, " %10zu", count_speakers(run, splits[s]));
    fputc('\n', out);
    size_t used = run->train.count + run->validation.count + run->test.count, all = shards_count(run->shards);
    if (used < all) fprintf(out, "  %zu of %zu samples belong to no class and are left out\n", all - used, all);
}

bool splits_check(const Run *run, Error *err) {
    if (run->train.count == 0)
        return fail_usage(err,
                          "%s: no sample is left to train on: data.test, data.validation and data.classes leave out "
                          "all of them",
                          run->config->data.shards);
    for (int c = 0; c < run->class_count; c++)
        if (count_class(run, &run->train, c) == 0)
            return fail_usage(err,
                              "the training split has no sample of class \"%s\": check data.classes, data.labels and "
                              "the held-out speakers",
                              run->classes[c]);
    if (run->config->train.validate_every > 0 && run->validation.count == 0)
        return fail_usage(err, "train.validate_every is set, but data.validation leaves no sample to validate on");
    return true;
}
