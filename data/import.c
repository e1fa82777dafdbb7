#include "data/import.h"

#include <stdlib.h>
#include <string.h>

#include "data/import_text.h"

enum { TEXT_LIMIT = 1000000 }; /* bytes of a text of an utterance: more is a damaged file */

bool counts_add(Counts *counts, const char *text, Error *err) {
    size_t i = 0;
    while (i < counts->count && strcmp(counts->items[i].text, text) != 0) i++;
    if (i == counts->count) {
        if (!memory_grow(&counts->items, counts->count, &counts->capacity, sizeof *counts->items, err)) return false;
        char *copy = text_copy(text, err);
        if (!copy) return false;
        counts->items[counts->count++] = (Counted){.text = copy};
    }
    counts->items[i].count++;
    return true;
}

void counts_free(Counts *counts) {
    for (size_t i = 0; i < counts->count; i++) free(counts->items[i].text);
    free(counts->items);
    *counts = (Counts){0};
}

/* --- what an importer adds --- */

static bool copy(char **to, const char *from, const char *id, Error *err) {
    if (!from) return true;
    if (strlen(from) > TEXT_LIMIT)
        return fail(err, "utterance \"%.200s\": a text of %zu bytes, more than the %d it may have", id, strlen(from),
                    TEXT_LIMIT);
    if (text_bad_byte(from, strlen(from)) < strlen(from))
        return fail(err, "utterance \"%.200s\": \"%.200s\" is not valid UTF-8", id, from);
    return (*to = text_copy(from, err)) != NULL;
}

static bool fill(Import *import, ImportItem *item, const Found *found, Error *err) {
    Utterance *u = &item->utterance;
    u->start = found->start;
    u->end = found->end;
    item->left_out = found->left_out;
    char *id = text_format(err, "%s%s", import->prefix, found->id);
    bool done = id && copy(&u->id, id, id, err);
    free(id);
    return done && copy(&u->corpus, found->corpus ? found->corpus : import->corpus, found->id, err) &&
           copy(&u->audio, found->audio, found->id, err) && copy(&item->missing, found->missing, found->id, err) &&
           copy(&u->speaker, found->speaker, found->id, err) && copy(&u->gender, found->gender, found->id, err) &&
           copy(&u->emotion, found->label, found->id, err) && copy(&u->transcript, found->transcript, found->id, err) &&
           copy(&u->group, found->group, found->id, err);
}

bool import_add(Import *import, const Found *found, json_t *extra, Error *err) {
    if (!extra) return fail(err, "utterance \"%.200s\": what belongs to it is not valid UTF-8", found->id);
    if (!memory_grow(&import->items, import->count, &import->capacity, sizeof *import->items, err)) {
        json_decref(extra);
        return false;
    }
    ImportItem *item = &import->items[import->count++];
    *item = (ImportItem){.utterance = {.json = extra}};
    return fill(import, item, found, err);
}

bool import_each_file(Import *import, bool (*add)(Import *, const AudioFile *, Error *), Error *err) {
    AudioFiles files;
    if (!audio_files_open(&files, import->root, err)) return false;
    bool done = true;
    for (size_t i = 0; i < files.count && done; i++) done = add(import, &files.items[i], err);
    audio_files_close(&files);
    return done;
}

static void import_free(Import *import) {
    for (size_t i = 0; i < import->count; i++) {
        utterance_free(&import->items[i].utterance);
        free(import->items[i].missing);
    }
    free(import->items);
    counts_free(&import->left_out);
    counts_free(&import->notes);
    *import = (Import){0};
}

static int by_id(const void *a, const void *b) {
    return strcmp((*(ImportItem *const *)a)->utterance.id, (*(ImportItem *const *)b)->utterance.id);
}

static bool check_ids(const Import *import, Error *err) {
    ImportItem **items = memory_new(import->count, sizeof(ImportItem *), err);
    if (!items) return false;
    for (size_t i = 0; i < import->count; i++) items[i] = &import->items[i];
    qsort(items, import->count, sizeof *items, by_id);
    bool done = true;
    for (size_t i = 1; i < import->count && done; i++) {
        const Utterance *a = &items[i - 1]->utterance, *b = &items[i]->utterance;
        if (strcmp(a->id, b->id) == 0)
            done = fail(err, "%s: two utterances have the id \"%.200s\" (%s, %s); is a part of the corpus there twice?",
                        import->root, a->id, a->audio ? a->audio : "no recording", b->audio ? b->audio : "none");
    }
    free(items);
    return done;
}

/* --- the published counts --- */

/* Whether `label` is one of "a+b+c". */
static bool among(const char *labels, const char *label) {
    size_t length = strlen(label);
    for (const char *at = labels;; at++) {
        size_t here = strcspn(at, "+");
        if (here == length && strncmp(at, label, length) == 0) return true;
        at += here;
        if (!*at) return false;
    }
}

static size_t count_found(const Import *import, const Published *published) {
    size_t count = 0;
    for (size_t i = 0; i < import->count; i++) {
        const Utterance *u = &import->items[i].utterance;
        if (published->group && (!u->group || strcmp(u->group, published->group) != 0)) continue;
        count += u->emotion && among(published->labels, u->emotion);
    }
    return count;
}

static bool compare(const Import *import, const Published *published, Imported *imported, Error *err) {
    bool done = true;
    for (; published && published->count && done; published++, imported->compared++) {
        size_t count = count_found(import, published);
        if (count == published->count) continue;
        char *text = text_format(err, "%s%s%s: %zu here, %zu published", published->group ? published->group : "",
                                 published->group ? " " : "", published->labels, count, published->count);
        done = text && counts_add(&imported->differences, text, err);
        free(text);
    }
    return done;
}

/* --- from what was found to the manifest --- */

typedef struct Finish {
    const ImportOptions *options;
    const Importer *importer;
    const LabelMap *labels; /* null: labels are emotions */
    Imported *imported;
    size_t capacity; /* of imported->seconds */
} Finish;

static bool leave_out(Finish *finish, const char *format, const char *what, Error *err) {
    char *reason = text_format(err, format, what);
    bool done = reason && counts_add(&finish->imported->left_out, reason, err);
    free(reason);
    return done;
}

/* The label that the map is asked for: the corpus's own, or what stands under the map's field. */
static const char *label_of(const Finish *finish, const ImportItem *item) {
    const char *field = finish->labels ? finish->labels->field : NULL;
    return field ? json_string_value(json_object_get(item->utterance.json, field)) : item->utterance.emotion;
}

/* *emotion is null where the utterance is left out, which is counted. */
static bool find_emotion(Finish *finish, const ImportItem *item, const char **emotion, Error *err) {
    *emotion = NULL;
    if (item->left_out) return leave_out(finish, "%s", item->left_out, err);
    const char *label = label_of(finish, item);
    if (!label) return leave_out(finish, "without %s", finish->labels ? finish->labels->field : "a label", err);
    if (!finish->labels) {
        *emotion = label;
        return true;
    }
    if (!labels_find(finish->labels, label, emotion, err)) return fail_in(err, "utterance \"%s\"", item->utterance.id);
    return *emotion || leave_out(finish, "labelled %s", label, err);
}

static bool probe(const ImportItem *item, double *seconds, Error *err) {
    const Utterance *u = &item->utterance;
    if (!u->audio) return fail(err, "utterance \"%s\": there is no recording: %s", u->id, item->missing);
    return audio_probe(u->audio, u->start, u->end, seconds, err);
}

/* A recording that is missing or cannot be read: the end of the import, or a line on stderr and a count. */
static bool bad_recording(Finish *finish, const ImportItem *item, const Error *bad, Error *err) {
    const char *hint = item->utterance.audio ? NULL : finish->importer->audio_hint;
    if (!finish->options->skip_bad)
        return fail(err, "%s; --skip-bad lists such recordings and goes on without them%s%s", bad->text,
                    hint ? ". " : "", hint ? hint : "");
    fprintf(stderr, "skipped: %s\n", bad->text);
    return leave_out(finish, "%s", "with a missing or damaged recording (listed as skipped)", err);
}

/* The manifest's line: its own keys first, then the label and what else this corpus has. */
static bool order_keys(Utterance *u, const char *label, Error *err) {
    json_t *extra = u->json;
    u->json = NULL;
    bool done = utterance_sync(u, err);
    if (done && label && json_object_set_new(u->json, "label", json_string(label)) != 0)
        done = fail(err, "utterance \"%s\": its label is not valid UTF-8", u->id);
    if (done && json_object_update_missing(u->json, extra) != 0) done = fail(err, "out of memory for \"%s\"", u->id);
    json_decref(extra);
    return done;
}

static bool set_text(char **text, char *value) {
    free(*text);
    *text = value;
    return value != NULL;
}

/* Moves an item into the manifest. */
static bool keep(Finish *finish, ImportItem *item, const char *emotion, double seconds, Error *err) {
    Imported *imported = finish->imported;
    if (!memory_grow(&imported->seconds, imported->manifest.count, &finish->capacity, sizeof(double), err))
        return false;
    imported->seconds[imported->manifest.count] = seconds;
    Utterance *u = manifest_add(&imported->manifest, err);
    if (!u) return false;
    *u = item->utterance;
    item->utterance = (Utterance){0};
    char *label = finish->labels ? text_copy(u->emotion, err) : NULL;
    bool done = (!finish->labels || label) &&
                set_text(&u->audio, audio_relative(u->audio, finish->options->folder, err)) &&
                set_text(&u->emotion, text_copy(emotion, err)) && order_keys(u, label, err);
    free(label);
    return done;
}

static bool finish_item(Finish *finish, ImportItem *item, Error *err) {
    const char *emotion;
    double seconds = 0;
    Error bad = {0};
    if (!find_emotion(finish, item, &emotion, err)) return false;
    if (!emotion) return true;
    if (!probe(item, &seconds, &bad)) return bad_recording(finish, item, &bad, err);
    return keep(finish, item, emotion, seconds, err);
}

static bool finish_all(Finish *finish, Import *import, Error *err) {
    Progress progress;
    progress_begin(&progress, "recordings", "utterances", 0, (int64_t)import->count);
    bool done = true;
    for (size_t i = 0; i < import->count && done; i++) {
        done = finish_item(finish, &import->items[i], err);
        progress_update(&progress, (int64_t)i + 1, NULL);
    }
    if (!done) return false;
    progress_end(&progress);
    return finish->imported->manifest.count > 0 ||
           fail(err, "%s: no utterance is left of the %zu that were found: labels and recordings leave out all of them",
                import->root, import->count);
}

static bool check_root(const Importer *importer, const char *root, Error *err) {
    if (importer->table || folder_exists(root)) return true;
    return fail(err, "%s: no such folder; give %s", root, importer->root);
}

static bool run(const Importer *importer, Import *import, Error *err) {
    if (!check_root(importer, import->root, err) || !importer->run(import, err)) return false;
    if (import->count == 0) return fail(err, "%s: holds nothing of the corpus; give %s", import->root, importer->root);
    return check_ids(import, err);
}

bool import_corpus(const Importer *importer, const ImportOptions *options, Imported *imported, Error *err) {
    *imported = (Imported){0};
    Finish finish = {.options = options, .importer = importer, .imported = imported};
    LabelMap *labels;
    bool done = labels_read(&labels, options->labels, importer->name, importer->labels, err);
    char *prefix = text_format(err, "%s%s", importer->table ? "" : importer->name, importer->table ? "" : "-");
    Import import = {.corpus = importer->table ? "unknown" : importer->name, .root = options->root, .prefix = prefix};
    done = done && prefix && run(importer, &import, err) && compare(&import, importer->published, imported, err);
    finish.labels = labels;
    if (done && labels) done = (imported->labels = text_copy(labels->path, err)) != NULL;
    imported->left_out = import.left_out;
    imported->notes = import.notes;
    import.left_out = import.notes = (Counts){0};
    done = done && finish_all(&finish, &import, err);
    imported->found = import.count;
    import_free(&import);
    labels_free(labels);
    free(prefix);
    if (!done) imported_free(imported);
    return done;
}

void imported_free(Imported *imported) {
    manifest_free(&imported->manifest);
    free(imported->seconds);
    free(imported->labels);
    counts_free(&imported->left_out);
    counts_free(&imported->notes);
    counts_free(&imported->differences);
    *imported = (Imported){0};
}
