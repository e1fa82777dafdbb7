#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "data/annotate.h"

enum { FORMAT = 1 };
static const size_t JOURNAL_LIMIT = (size_t)8 << 30;

/* --- an index of ids --- */

typedef struct Named {
    const char *id;
    size_t index;
} Named;

static int by_id(const void *a, const void *b) { return strcmp(((const Named *)a)->id, ((const Named *)b)->id); }

static Named *index_ids(const Manifest *manifest, Error *err) {
    Named *names = memory_new(manifest->count, sizeof *names, err);
    if (!names) return NULL;
    for (size_t i = 0; i < manifest->count; i++) names[i] = (Named){manifest->items[i].id, i};
    qsort(names, manifest->count, sizeof *names, by_id);
    return names;
}

/* --- reading what a killed call left --- */

/* The first line: features are worth keeping only for the same manifest. */
static char *first_line(const Manifest *manifest, Error *err) {
    FileMap map;
    if (!file_map(&map, manifest->path, err)) return NULL;
    uint64_t hash = XXH64(map.data, map.size, FORMAT);
    file_unmap(&map);
    return text_format(err, "{\"annotate\":%d,\"manifest\":\"%016" PRIx64 "\"}\n", FORMAT, hash);
}

static bool take_features(Utterance *utterance, const json_t *features) {
    if (!json_is_object(features)) return false;
    utterance->features.voice_quality = json_object_get(features, FEATURE_NAMES[FEATURE_JITTER]) != NULL;
    for (int i = 0; i < features_measured(&utterance->features); i++) {
        const json_t *value = json_object_get(features, FEATURE_NAMES[i]);
        if (!json_is_number(value) && !json_is_null(value)) return false;
        utterance->features.value[i] = json_is_null(value) ? NAN : json_number_value(value);
    }
    utterance->has_features = true;
    return true;
}

static bool take_line(Manifest *manifest, const Named *names, bool *measured, const char *line, size_t size) {
    json_t *json = json_read_text(line, size, "journal", NULL);
    const char *id = json_string_value(json_object_get(json, "id"));
    Named key = {id, 0};
    const Named *found = id ? bsearch(&key, names, manifest->count, sizeof *names, by_id) : NULL;
    bool done = found && take_features(&manifest->items[found->index], json_object_get(json, "features"));
    if (done) measured[found->index] = true;
    json_decref(json);
    return done;
}

/* Takes in the whole lines; gives how many bytes they are. */
static size_t take_lines(AnnotateJournal *journal, Manifest *manifest, const Named *names, bool *measured,
                         const char *text, const char *first) {
    const char *at = text + strlen(first);
    for (const char *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        if (!take_line(manifest, names, measured, at, (size_t)(end - at))) break;
        journal->resumed++;
    }
    return (size_t)(at - text);
}

static bool resume(AnnotateJournal *journal, Manifest *manifest, const Named *names, bool *measured, const char *first,
                   Error *err) {
    size_t size, kept = 0;
    char *text = file_exists(journal->path) ? file_read(journal->path, JOURNAL_LIMIT, &size, err) : text_copy("", err);
    if (!text) return false;
    if (strncmp(text, first, strlen(first)) == 0) kept = take_lines(journal, manifest, names, measured, text, first);
    free(text);
    journal->stream = fopen(journal->path, kept ? "r+" : "w");
    if (!journal->stream) return fail(err, "%s: cannot be written: %s", journal->path, strerror(errno));
    if (kept == 0) fputs(first, journal->stream);
    /* What a kill cut off in the middle of a line is measured anew. */
    if (kept && (ftruncate(fileno(journal->stream), (off_t)kept) != 0 || fseeko(journal->stream, 0, SEEK_END) != 0))
        return fail(err, "%s: cannot be continued: %s", journal->path, strerror(errno));
    return true;
}

bool annotate_journal_open(AnnotateJournal *journal, Manifest *manifest, bool *measured, const char *output,
                           Error *err) {
    *journal = (AnnotateJournal){.path = text_format(err, "%s.partial", output)};
    char *first = first_line(manifest, err);
    Named *names = index_ids(manifest, err);
    bool done = journal->path && first && names && resume(journal, manifest, names, measured, first, err);
    free(first);
    free(names);
    if (!done) annotate_journal_close(journal);
    return done;
}

bool annotate_journal_add(AnnotateJournal *journal, const Utterance *utterance, Error *err) {
    json_t *features = json_object();
    for (int i = 0; i < features_measured(&utterance->features); i++) {
        json_object_set_new(features, FEATURE_NAMES[i], feature_json((FeatureId)i, utterance->features.value[i]));
    }
    json_t *json = json_pack("{s:s, s:o}", "id", utterance->id, "features", features);
    char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!line) return fail(err, "out of memory while noting the features of \"%s\"", utterance->id);
    bool done = fprintf(journal->stream, "%s\n", line) > 0 && fflush(journal->stream) == 0;
    free(line);
    return done || fail(err, "%s: cannot be written: %s", journal->path, strerror(errno));
}

void annotate_journal_close(AnnotateJournal *journal) {
    if (journal->stream) fclose(journal->stream);
    free(journal->path);
    *journal = (AnnotateJournal){0};
}
