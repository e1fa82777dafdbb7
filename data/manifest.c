#include "data/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_LIMIT = 16 << 20 }; /* bytes; far beyond any utterance, so a damaged file is not parsed as one */

typedef struct TextField {
    const char *name;
    size_t offset;
    bool required;
} TextField;

static const TextField TEXT_FIELDS[] = {
    {"id", offsetof(Utterance, id), true},
    {"corpus", offsetof(Utterance, corpus), false},
    {"audio", offsetof(Utterance, audio), true},
    {"speaker", offsetof(Utterance, speaker), false},
    {"gender", offsetof(Utterance, gender), false},
    {"emotion", offsetof(Utterance, emotion), false},
    {"transcript", offsetof(Utterance, transcript), false},
    {"group", offsetof(Utterance, group), false},
    {"explanation", offsetof(Utterance, explanation), false},
    {"teacher", offsetof(Utterance, teacher), false},
};
enum { TEXT_FIELD_COUNT = sizeof TEXT_FIELDS / sizeof *TEXT_FIELDS };

static char **text_at(Utterance *utterance, const TextField *field) {
    return (char **)(void *)((char *)utterance + field->offset);
}

static bool parse_texts(Utterance *utterance, const json_t *json, const char *where, Error *err) {
    for (int i = 0; i < TEXT_FIELD_COUNT; i++) {
        const TextField *field = &TEXT_FIELDS[i];
        const char *value = NULL;
        if (field->required ? !json_get_string(json, field->name, &value, where, err)
                            : !json_string_or(json, field->name, &value, where, err))
            return false;
        if (field->required && !*value)
            return fail(err, "%s: \"%s\" is empty; every utterance needs one", where, field->name);
        char **text = text_at(utterance, field);
        if (value && !(*text = text_copy(value, err))) return false;
    }
    if (utterance->corpus) return true;
    utterance->corpus = text_copy("unknown", err);
    return utterance->corpus != NULL;
}

static bool parse_cut(Utterance *utterance, const json_t *json, const char *where, Error *err) {
    if (!json_number_or(json, "start", &utterance->start, where, err) ||
        !json_number_or(json, "end", &utterance->end, where, err))
        return false;
    if (!(utterance->start >= 0) || !isfinite(utterance->start) || !isfinite(utterance->end))
        return fail(err, "%s: \"start\" must be 0 or more seconds, found %g", where, utterance->start);
    if (utterance->end != 0 && !(utterance->end > utterance->start))
        return fail(err, "%s: \"end\" (%g s) must lie after \"start\" (%g s), or be 0 for the recording's end", where,
                    utterance->end, utterance->start);
    return true;
}

static bool parse_features(Utterance *utterance, const json_t *json, const char *where, Error *err) {
    for (int i = 0; i < FEATURE_COUNT; i++) utterance->features.value[i] = NAN;
    const json_t *features = json_object_get(json, "features");
    if (!features || json_is_null(features)) return true;
    if (!json_is_object(features)) return fail(err, "%s: \"features\" must be an object of numbers", where);
    for (int i = 0; i < FEATURE_COUNT; i++)
        if (!json_number_or(features, FEATURE_NAMES[i], &utterance->features.value[i], where, err)) return false;
    utterance->has_features = true;
    utterance->features.voice_quality = json_object_get(features, FEATURE_NAMES[FEATURE_JITTER]) != NULL;
    return true;
}

static bool parse_fields(Utterance *utterance, const json_t *json, const char *where, Error *err) {
    if (!json_is_object(json)) return fail(err, "%s: an utterance must be a JSON object", where);
    if (!parse_texts(utterance, json, where, err) || !parse_cut(utterance, json, where, err) ||
        !parse_features(utterance, json, where, err))
        return false;
    const char *gender = utterance->gender;
    if (gender && strcmp(gender, "female") != 0 && strcmp(gender, "male") != 0)
        return fail(err, "%s: \"gender\" must be \"female\" or \"male\", or absent where unknown, found \"%.40s\"",
                    where, gender);
    return true;
}

bool utterance_parse(Utterance *utterance, json_t *json, const char *where, Error *err) {
    *utterance = (Utterance){0};
    if (!parse_fields(utterance, json, where, err)) {
        utterance_free(utterance);
        return false;
    }
    utterance->json = json_incref(json);
    return true;
}

void utterance_free(Utterance *utterance) {
    for (int i = 0; i < TEXT_FIELD_COUNT; i++) free(*text_at(utterance, &TEXT_FIELDS[i]));
    json_decref(utterance->json);
    *utterance = (Utterance){0};
}

/* A field without a value leaves an explicit null where there was one, and no key elsewhere. */
static bool put_text(json_t *json, const char *name, const char *value) {
    if (value) return json_object_set_new(json, name, json_string(value)) == 0;
    if (!json_is_null(json_object_get(json, name))) json_object_del(json, name);
    return true;
}

static bool put_number(json_t *json, const char *name, double value) {
    json_t *old = json_object_get(json, name);
    if (!old && value == 0) return true;
    if (json_is_number(old) && json_number_value(old) == value) return true; /* an integer stays one */
    return json_object_set_new(json, name, json_real(value)) == 0;
}

static bool put_features(json_t *json, const Features *values) {
    json_t *features = json_object_get(json, "features");
    if (json_is_object(features)) {
        json_incref(features);
    } else {
        features = json_object();
    }
    bool done = features != NULL;
    for (int i = 0; i < features_measured(values) && done; i++) {
        double value = values->value[i];
        json_t *old = json_object_get(features, FEATURE_NAMES[i]);
        if (json_is_number(old) && json_number_value(old) == value) continue;
        done = json_object_set_new(features, FEATURE_NAMES[i], feature_json((FeatureId)i, value)) == 0;
    }
    done = done && json_object_set(json, "features", features) == 0;
    json_decref(features);
    return done;
}

bool utterance_sync(Utterance *utterance, Error *err) {
    if (!utterance->json) utterance->json = json_object();
    bool done = utterance->json != NULL;
    for (int i = 0; i < TEXT_FIELD_COUNT && done; i++) {
        const TextField *field = &TEXT_FIELDS[i];
        done = put_text(utterance->json, field->name, *text_at(utterance, field));
        if (i == 2)
            done = done && put_number(utterance->json, "start", utterance->start) &&
                   put_number(utterance->json, "end", utterance->end);
    }
    if (done && utterance->has_features) done = put_features(utterance->json, &utterance->features);
    return done || fail(err, "utterance \"%s\" cannot be written as JSON: a field is not valid UTF-8",
                        utterance->id ? utterance->id : "");
}

static int compare_names(const char *a, const char *b) {
    if (!a || !b) return (a != NULL) - (b != NULL);
    return strcmp(a, b);
}

int speaker_compare(const char *corpus_a, const char *a, const char *corpus_b, const char *b) {
    int order = compare_names(corpus_a, corpus_b);
    return order ? order : compare_names(a, b);
}

/* --- paths --- */

char *manifest_audio(const Manifest *manifest, const Utterance *utterance, Error *err) {
    return path_join(manifest->folder ? manifest->folder : ".", utterance->audio, err);
}

/* Of two absolute paths; where they share nothing but the root, the absolute one says more. */
static char *relative_to(const char *path, const char *folder, Error *err) {
    size_t shared = 0, i = 0;
    for (; folder[i] && path[i] == folder[i]; i++)
        if (path[i] == '/') shared = i;
    if (!folder[i] && path[i] == '/') shared = i;
    if (shared == 0) return text_copy(path, err);
    Text text = {0};
    for (const char *rest = folder + shared; *rest; rest++)
        if (*rest == '/') text_add_string(&text, "../");
    text_add_string(&text, path + shared + 1);
    return text_finish(&text, err);
}

char *audio_relative(const char *audio, const char *folder, Error *err) {
    char *path = realpath(audio, NULL), *base = realpath(folder, NULL), *relative = NULL;
    if (!path || !base) {
        fail(err, "%s: cannot be found: %s", path ? folder : audio, strerror(errno));
    } else {
        relative = relative_to(path, base, err);
    }
    free(path);
    free(base);
    return relative;
}

/* --- whole manifests --- */

Utterance *manifest_add(Manifest *manifest, Error *err) {
    if (!memory_grow(&manifest->items, manifest->count, &manifest->capacity, sizeof *manifest->items, err)) return NULL;
    Utterance *utterance = &manifest->items[manifest->count++];
    *utterance = (Utterance){0};
    return utterance;
}

static bool add_line(Manifest *manifest, const char *line, size_t size, size_t number, Error *err) {
    char where[300];
    snprintf(where, sizeof where, "%.250s line %zu", manifest->path, number);
    if (size > LINE_LIMIT)
        return fail(err, "%s: the line has %zu bytes, more than the %d an utterance may have", where, size, LINE_LIMIT);
    if (!memory_grow(&manifest->items, manifest->count, &manifest->capacity, sizeof *manifest->items, err))
        return false;
    json_t *json = json_read_text(line, size, where, err);
    if (!json) return false;
    bool done = utterance_parse(&manifest->items[manifest->count], json, where, err);
    if (done) manifest->count++;
    json_decref(json);
    return done;
}

static bool blank(const char *line, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", line[i]) || !line[i]) return false;
    return true;
}

typedef struct Numbered {
    const char *id;
    size_t line;
} Numbered;

static int compare_numbered(const void *a, const void *b) {
    const Numbered *x = a, *y = b;
    int order = strcmp(x->id, y->id);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static bool check_unique(const Manifest *manifest, Numbered *ids, Error *err) {
    qsort(ids, manifest->count, sizeof *ids, compare_numbered);
    for (size_t i = 1; i < manifest->count; i++)
        if (strcmp(ids[i].id, ids[i - 1].id) == 0)
            return fail(err, "%s line %zu: the id \"%.200s\" was used on line %zu already; ids must be unique",
                        manifest->path, ids[i].line, ids[i].id, ids[i - 1].line);
    return true;
}

static bool parse_lines(Manifest *manifest, const char *data, size_t size, Error *err) {
    if (size >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) { /* a byte order mark */
        data += 3;
        size -= 3;
    }
    Numbered *ids = NULL;
    size_t capacity = 0;
    bool done = true;
    for (size_t number = 1; size && done; number++) {
        const char *end = memchr(data, '\n', size);
        size_t length = end ? (size_t)(end - data) : size;
        if (!blank(data, length)) {
            done = memory_grow(&ids, manifest->count, &capacity, sizeof *ids, err) &&
                   add_line(manifest, data, length, number, err);
            if (done) ids[manifest->count - 1] = (Numbered){manifest->items[manifest->count - 1].id, number};
        }
        size_t used = length + (end != NULL);
        data += used;
        size -= used;
    }
    if (done && manifest->count == 0)
        done = fail(err, "%s: holds no utterance; a manifest has one JSON object a line", manifest->path);
    done = done && check_unique(manifest, ids, err);
    free(ids);
    return done;
}

bool manifest_read(Manifest *manifest, const char *path, Error *err) {
    *manifest = (Manifest){.path = text_copy(path, err)};
    FileMap map = {0};
    bool done = manifest->path && (manifest->folder = path_folder(path, err)) && file_map(&map, path, err) &&
                parse_lines(manifest, (const char *)map.data, map.size, err);
    file_unmap(&map);
    if (!done) manifest_free(manifest);
    return done;
}

/* The line of an utterance: its unknown keys and its fields, as they are now. */
static char *line_of(const Utterance *utterance, Error *err) {
    Utterance synced = *utterance;
    synced.json = utterance->json ? json_deep_copy(utterance->json) : NULL;
    char *line = NULL;
    if (utterance_sync(&synced, err)) {
        line = json_dumps(synced.json, JSON_COMPACT | JSON_REAL_PRECISION(15));
        if (!line) fail(err, "out of memory while writing the utterance \"%s\"", utterance->id);
    }
    json_decref(synced.json);
    return line;
}

bool manifest_write(const Manifest *manifest, const char *path, Error *err) {
    AtomicFile file;
    if (!atomic_open(&file, path, err)) return false;
    for (size_t i = 0; i < manifest->count; i++) {
        char *line = line_of(&manifest->items[i], err);
        if (!line) {
            atomic_discard(&file);
            return false;
        }
        fprintf(file.stream, "%s\n", line);
        free(line);
    }
    return atomic_commit(&file, err);
}

void manifest_free(Manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++) utterance_free(&manifest->items[i]);
    free(manifest->items);
    free(manifest->path);
    free(manifest->folder);
    *manifest = (Manifest){0};
}
