/* index.json. It begins with the hash of all that follows, so that a change anywhere in it is found:
 *     {"xxh64": "0123456789abcdef",
 *     "version": 1, "name": "train", ... "samples": [[offset, size, "xxh64", audio samples], ...]}
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/shards_format.h"

#define LEAD "{\"xxh64\": \""
#define AFTER "\",\n"
enum { INDEX_VERSION = 1, LEAD_LENGTH = sizeof LEAD - 1, HASH_DIGITS = 16, AFTER_LENGTH = sizeof AFTER - 1 };
enum { BODY_AT = LEAD_LENGTH + HASH_DIGITS + AFTER_LENGTH };
static const char NAME_CHARACTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
static const int64_t FRAME_BYTES_MAX = (int64_t)1 << 32;
static const int64_t SHARD_BYTES_MAX = (int64_t)1 << 50;

void shard_index_free(ShardIndex *index) {
    for (size_t i = 0; i < index->file_count; i++) free(index->files[i].file);
    for (size_t i = 0; i < index->skipped_count; i++) free(index->skipped[i]);
    free(index->files);
    free(index->samples);
    free(index->skipped);
    free(index->name);
    *index = (ShardIndex){0};
}

bool shard_index_skip(ShardIndex *index, const char *id, Error *err) {
    if (!memory_grow(&index->skipped, index->skipped_count, &index->skipped_capacity, sizeof *index->skipped, err))
        return false;
    char *copy = text_copy(id, err);
    if (copy) index->skipped[index->skipped_count++] = copy;
    return copy != NULL;
}

/* ---- writing ---- */

static void add_json_string(Text *text, const char *string) {
    json_t *json = json_string(string);
    char *dump = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;
    if (dump)
        text_add_string(text, dump);
    else
        text->failed = true;
    free(dump);
    json_decref(json);
}

static void add_body(Text *text, const ShardIndex *index) {
    text_addf(text, "\"version\": %d,\n\"name\": ", INDEX_VERSION);
    add_json_string(text, index->name);
    text_addf(text, ",\n\"rate\": %d,\n\"key\": \"%016" PRIx64 "\",\n", AUDIO_RATE, index->key);
    text_addf(text,
              "\"manifest\": {\"bytes\": %" PRId64 ", \"content\": %" PRId64 ", \"xxh64\": \"%016" PRIx64 "\"},\n",
              index->manifest_bytes, index->manifest_size, index->manifest_hash);
    text_add_string(text, "\"skipped\": [");
    for (size_t i = 0; i < index->skipped_count; i++) {
        if (i) text_add_string(text, ", ");
        add_json_string(text, index->skipped[i]);
    }
    text_add_string(text, "],\n\"shards\": [");
    for (size_t i = 0; i < index->file_count; i++) {
        const ShardFile *file = &index->files[i];
        text_add_string(text, i ? ",\n{\"file\": " : "\n{\"file\": ");
        add_json_string(text, file->file);
        text_addf(text, ", \"bytes\": %" PRId64 ", \"samples\": %zu, \"end\": \"%016" PRIx64 "\"}", file->bytes,
                  file->samples, file->end_hash);
    }
    text_add_string(text, "],\n\"samples\": [");
    for (size_t i = 0; i < index->sample_count; i++) {
        const ShardSample *sample = &index->samples[i];
        text_addf(text, "%s\n[%" PRId64 ", %" PRId64 ", \"%016" PRIx64 "\", %" PRId64 "]", i ? "," : "", sample->offset,
                  sample->size, sample->hash, sample->audio_samples);
    }
    text_add_string(text, "]}\n");
}

bool shard_index_write(const ShardIndex *index, const char *path, Error *err) {
    Text body = {0}, whole = {0};
    add_body(&body, index);
    text_addf(&whole, LEAD "%016" PRIx64 AFTER, body.failed ? 0 : bytes_hash(body.data, body.length));
    if (!body.failed) text_add(&whole, body.data, body.length);
    bool ok = !body.failed && !whole.failed;
    if (!ok) fail(err, "out of memory while writing %s", path);
    ok = ok && file_write(path, whole.data, whole.length, err);
    text_free(&body);
    text_free(&whole);
    return ok;
}

/* ---- reading ---- */

static bool parse_hash(const char *text, uint64_t *hash) {
    if (!text || strlen(text) != HASH_DIGITS || strspn(text, "0123456789abcdef") != HASH_DIGITS) return false;
    *hash = strtoull(text, NULL, 16);
    return true;
}

static bool get_hash(const json_t *object, const char *key, uint64_t *hash, const char *path, Error *err) {
    const char *text;
    if (!json_get_string(object, key, &text, path, err)) return false;
    return parse_hash(text, hash) || fail(err, "%s: \"%s\" must be 16 hexadecimal digits", path, key);
}

static bool parse_files(ShardIndex *index, const json_t *list, const char *path, Error *err) {
    if (!json_is_array(list)) return fail(err, "%s: \"shards\" must be an array", path);
    index->files = memory_new(json_array_size(list), sizeof *index->files, err);
    if (!index->files) return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        ShardFile *file = &index->files[i];
        const char *name;
        int64_t samples;
        if (!json_get_string(entry, "file", &name, path, err) ||
            !json_get_int(entry, "bytes", 1, SHARD_BYTES_MAX, &file->bytes, path, err) ||
            !json_get_int(entry, "samples", 0, INT32_MAX, &samples, path, err) ||
            !get_hash(entry, "end", &file->end_hash, path, err))
            return false;
        if (!name[0] || name[0] == '.' || strspn(name, NAME_CHARACTERS) != strlen(name))
            return fail(err, "%s: \"%s\" is no name of a shard in this folder", path, name);
        file->samples = (size_t)samples;
        file->file = text_copy(name, err);
        if (!file->file) return false;
        index->file_count++;
    }
    return true;
}

/* Frames lie end to end from each file's start, and the closing frame after them. */
static bool parse_sample(const json_t *entry, ShardSample *sample, int64_t offset, int64_t room, const char *path,
                         size_t number, Error *err) {
    sample->offset = json_integer_value(json_array_get(entry, 0));
    sample->size = json_integer_value(json_array_get(entry, 1));
    sample->audio_samples = json_integer_value(json_array_get(entry, 3));
    bool fits = json_array_size(entry) == 4 && json_is_integer(json_array_get(entry, 0)) && sample->offset == offset &&
                sample->size > 0 && sample->size <= FRAME_BYTES_MAX && sample->size < room &&
                json_is_integer(json_array_get(entry, 3)) && sample->audio_samples > 0 &&
                sample->audio_samples <= INT32_MAX &&
                parse_hash(json_string_value(json_array_get(entry, 2)), &sample->hash);
    return fits || fail(err, "%s: sample %zu of the list is not [offset, size, hash, audio samples] in its place", path,
                        number);
}

static bool parse_samples(ShardIndex *index, const json_t *list, const char *path, Error *err) {
    size_t total = 0;
    for (size_t i = 0; i < index->file_count; i++) total += index->files[i].samples;
    if (!json_is_array(list) || json_array_size(list) != total)
        return fail(err, "%s: \"samples\" must be an array of the %zu samples of all shards, found %zu", path, total,
                    json_array_size(list));
    if (total > INT32_MAX) return fail(err, "%s: %zu samples are more than a shard folder may hold", path, total);
    index->samples = memory_new(total, sizeof *index->samples, err);
    if (!index->samples) return false;
    for (size_t i = 0; i < index->file_count; i++) {
        int64_t offset = 0;
        index->files[i].first = index->sample_count;
        for (size_t k = 0; k < index->files[i].samples; k++) {
            ShardSample *sample = &index->samples[index->sample_count];
            sample->shard = (uint32_t)i;
            if (!parse_sample(json_array_get(list, index->sample_count), sample, offset, index->files[i].bytes - offset,
                              path, index->sample_count, err))
                return false;
            offset += sample->size;
            index->sample_count++;
        }
    }
    return true;
}

static bool parse_skipped(ShardIndex *index, const json_t *list, const char *path, Error *err) {
    if (!json_is_array(list)) return fail(err, "%s: \"skipped\" must be an array", path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));
        if (!id) return fail(err, "%s: \"skipped\" must hold ids", path);
        if (!shard_index_skip(index, id, err)) return false;
    }
    return true;
}

static bool parse_body(ShardIndex *index, const json_t *json, const char *path, Error *err) {
    int64_t version, rate;
    const char *name;
    const json_t *manifest = json_object_get(json, "manifest");
    if (!json_get_int(json, "version", INDEX_VERSION, INDEX_VERSION, &version, path, err) ||
        !json_get_string(json, "name", &name, path, err) ||
        !json_get_int(json, "rate", AUDIO_RATE, AUDIO_RATE, &rate, path, err) ||
        !get_hash(json, "key", &index->key, path, err) ||
        !json_get_int(manifest, "bytes", 0, SHARD_BYTES_MAX, &index->manifest_bytes, path, err) ||
        !json_get_int(manifest, "content", 0, SHARD_BYTES_MAX, &index->manifest_size, path, err) ||
        !get_hash(manifest, "xxh64", &index->manifest_hash, path, err))
        return false;
    index->name = text_copy(name, err);
    return index->name && parse_skipped(index, json_object_get(json, "skipped"), path, err) &&
           parse_files(index, json_object_get(json, "shards"), path, err) &&
           parse_samples(index, json_object_get(json, "samples"), path, err);
}

bool shard_index_parse(ShardIndex *index, const char *text, size_t size, const char *path, Error *err) {
    *index = (ShardIndex){0};
    char digits[HASH_DIGITS + 1] = {0};
    bool ok = size > BODY_AT && memcmp(text, LEAD, LEAD_LENGTH) == 0 &&
              memcmp(text + LEAD_LENGTH + HASH_DIGITS, AFTER, AFTER_LENGTH) == 0;
    if (ok) memcpy(digits, text + LEAD_LENGTH, HASH_DIGITS);
    ok = ok && parse_hash(digits, &index->hash) && bytes_hash(text + BODY_AT, size - BODY_AT) == index->hash;
    if (!ok) fail(err, "%s: damaged: its content does not have the hash it begins with; write the shards again", path);
    json_t *json = ok ? json_read_text(text, size, path, err) : NULL;
    ok = json && parse_body(index, json, path, err);
    json_decref(json);
    if (!ok) shard_index_free(index);
    return ok;
}

bool shard_index_read(ShardIndex *index, const char *path, Error *err) {
    size_t size;
    char *text = file_read(path, SHARD_INDEX_BYTES_MAX, &size, err);
    bool ok = text && shard_index_parse(index, text, size, path, err);
    free(text);
    return ok;
}
