/* Opening, reading and checking shard folders. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/shards_source.h"

struct Shards {
    ShardSource source;
    ShardIndex index;
    Utterance *utterances; /* [index.sample_count] */
};

/* ---- opening ---- */

static bool parse_line(Shards *shards, size_t number, const char *line, size_t size, const char *path, Error *err) {
    char where[400];
    snprintf(where, sizeof where, "%.300s line %zu", path, number + 1);
    json_t *json = json_read_text(line, size, where, err);
    bool ok = json && utterance_parse(&shards->utterances[number], json, where, err);
    json_decref(json);
    return ok;
}

static bool parse_utterances(Shards *shards, const char *text, size_t size, const char *path, Error *err) {
    size_t count = shards->index.sample_count;
    shards->utterances = memory_new(count, sizeof *shards->utterances, err);
    if (!shards->utterances) return false;
    size_t at = 0, number = 0;
    for (; at < size && number < count; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        if (!parse_line(shards, number, text + at, length, path, err)) return false;
        at += length + 1;
    }
    if (number == count && at >= size) return true;
    return fail(err, "%s: holds %s than the %zu utterances of " SHARD_INDEX_NAME "; write the shards again", path,
                number < count ? "fewer" : "more", count);
}

static bool read_utterances(Shards *shards, Error *err) {
    const ShardIndex *index = &shards->index;
    const SourceFile file = {
        .name = SHARD_MANIFEST_NAME, .bytes = index->manifest_bytes, .end_hash = index->manifest_hash};
    const SourcePart whole = {.size = index->manifest_bytes, .hash = index->manifest_hash};
    char *path = path_join(shards->source.place, file.name, err);
    size_t size = 0;
    void *frame = path ? source_read(&shards->source, &file, &whole, path, NULL, err) : NULL;
    unsigned char *text = frame ? frame_unpack(frame, (size_t)file.bytes, &size, path, err) : NULL;
    bool ok = text && parse_utterances(shards, (const char *)text, size, path, err);
    free(text);
    free(frame);
    free(path);
    return ok;
}

static SourceFile file_at(const Shards *shards, size_t number) {
    const ShardFile *file = &shards->index.files[number];
    return (SourceFile){.name = file->file,
                        .bytes = file->bytes,
                        .samples = shards->index.samples + file->first,
                        .count = file->samples,
                        .end_hash = file->end_hash};
}

/* Every shard is there and has its size; those of a server show when they are asked for. */
static bool check_files(const Shards *shards, Error *err) {
    for (size_t i = 0; !shards->source.remote && i < shards->index.file_count; i++) {
        const SourceFile file = file_at(shards, i);
        int fd = source_open_file(&shards->source, &file, NULL, err);
        if (fd < 0) return false;
        close(fd);
    }
    return true;
}

static Shards *open_listed(const char *place, const ShardCacheOptions *cache, Error *err) {
    Shards *shards = memory_new(1, sizeof *shards, err);
    if (shards && source_open(&shards->source, place, cache, err) &&
        source_read_index(&shards->source, &shards->index, err) &&
        source_open_cache(&shards->source, &shards->index, cache, err) && read_utterances(shards, err))
        return shards;
    shards_close(shards);
    return NULL;
}

Shards *shards_open_cached(const char *place, const ShardCacheOptions *cache, Error *err) {
    Shards *shards = open_listed(place, cache, err);
    if (shards && check_files(shards, err)) return shards;
    shards_close(shards);
    return NULL;
}

Shards *shards_open(const char *place, Error *err) {
    const ShardCacheOptions cache = shard_cache_default();
    return shards_open_cached(place, &cache, err);
}

void shards_close(Shards *shards) {
    if (!shards) return;
    for (size_t i = 0; shards->utterances && i < shards->index.sample_count; i++)
        utterance_free(&shards->utterances[i]);
    free(shards->utterances);
    shard_index_free(&shards->index);
    source_close(&shards->source);
    free(shards);
}

size_t shards_count(const Shards *shards) { return shards->index.sample_count; }

const Utterance *shards_utterance(const Shards *shards, size_t index) { return &shards->utterances[index]; }

int64_t shards_samples(const Shards *shards, size_t index) { return shards->index.samples[index].audio_samples; }

uint64_t shards_hash(const Shards *shards) { return shards->index.hash; }

/* ---- reading a sample ---- */

static void name_sample(const Shards *shards, size_t index, char *where, size_t room) {
    const ShardSample *sample = &shards->index.samples[index];
    snprintf(where, room, "%.200s/%.80s: sample \"%.100s\" at byte %" PRId64, shards->source.place,
             shards->index.files[sample->shard].file, shards->utterances[index].id, sample->offset);
}

static unsigned char *read_tar(const Shards *shards, size_t index, const char *where, size_t *size,
                               const atomic_bool *stop, Error *err) {
    const ShardSample *sample = &shards->index.samples[index];
    const SourceFile file = file_at(shards, sample->shard);
    const SourcePart part = {sample->offset, sample->size, sample->hash};
    void *frame = source_read(&shards->source, &file, &part, where, stop, err);
    if (!frame) return NULL;
    unsigned char *tar = frame_unpack(frame, (size_t)sample->size, size, where, err);
    free(frame);
    return tar;
}

static bool decode_audio(const Shards *shards, size_t index, const unsigned char *tar, size_t size, const char *where,
                         Audio *audio, Error *err) {
    const unsigned char *flac;
    size_t bytes;
    if (!tar_find(tar, size, ".flac", &flac, &bytes, where, err)) return false;
    int64_t expected = shards->index.samples[index].audio_samples;
    if (!audio_decode(audio, flac, bytes, where, AUDIO_RATE, err)) return false;
    if (audio->count == expected) return true;
    fail(err, "%s: has %" PRId64 " audio samples where " SHARD_INDEX_NAME " says %" PRId64, where, audio->count,
         expected);
    audio_free(audio);
    return false;
}

bool shards_read_until(const Shards *shards, size_t index, const atomic_bool *stop, Audio *audio, Error *err) {
    char where[500];
    *audio = (Audio){0};
    if (index >= shards->index.sample_count)
        return fail(err, "%s: holds %zu samples; there is no sample %zu", shards->source.place,
                    shards->index.sample_count, index);
    name_sample(shards, index, where, sizeof where);
    size_t size;
    unsigned char *tar = read_tar(shards, index, where, &size, stop, err);
    bool ok = tar && decode_audio(shards, index, tar, size, where, audio, err);
    free(tar);
    return ok;
}

bool shards_read(const Shards *shards, size_t index, Audio *audio, Error *err) {
    return shards_read_until(shards, index, NULL, audio, err);
}

/* ---- reading ahead ---- */

size_t shards_files(const Shards *shards) { return shards->index.file_count; }

uint32_t shards_file_of(const Shards *shards, size_t index) { return shards->index.samples[index].shard; }

int64_t shards_file_bytes(const Shards *shards, size_t file) { return shards->index.files[file].bytes; }

int64_t shards_room(const Shards *shards) { return shards->source.remote ? shards->source.cache.limit : 0; }

bool shards_bring(const Shards *shards, size_t number, const atomic_bool *stop, Error *err) {
    const SourceFile file = file_at(shards, number);
    int fd = source_open_file(&shards->source, &file, stop, err);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

void shards_keep(const Shards *shards, size_t number) {
    const ShardSource *source = &shards->source;
    if (source->remote) file_cache_touch(&source->cache, source->group, shards->index.files[number].file);
}

/* ---- checking ---- */

static bool same_line(const Shards *shards, size_t index, const unsigned char *tar, size_t size, const char *where,
                      Error *err) {
    const unsigned char *text;
    size_t bytes;
    if (!tar_find(tar, size, ".json", &text, &bytes, where, err)) return false;
    json_t *json = json_read_text((const char *)text, bytes, where, err);
    if (!json) return false;
    bool same = json_equal(json, shards->utterances[index].json) == 1;
    json_decref(json);
    return same || fail(err, "%s: its JSON is not the line in " SHARD_MANIFEST_NAME, where);
}

static bool verify_sample(const Shards *shards, size_t index, Error *err) {
    char where[500];
    name_sample(shards, index, where, sizeof where);
    size_t size;
    Audio audio = {0};
    unsigned char *tar = read_tar(shards, index, where, &size, NULL, err);
    bool ok = tar && same_line(shards, index, tar, size, where, err) &&
              decode_audio(shards, index, tar, size, where, &audio, err);
    if (ok) audio_free(&audio);
    free(tar);
    return ok;
}

/* The closing frame begins where the file's last sample ends. */
static bool verify_file(const Shards *shards, size_t number, int64_t end, Error *err) {
    const SourceFile file = file_at(shards, number);
    const SourcePart part = {end, file.bytes - end, file.end_hash};
    char *where = text_format(err, "%s/%s: its closing frame at byte %" PRId64, shards->source.place, file.name, end);
    void *frame = where ? source_read(&shards->source, &file, &part, where, NULL, err) : NULL;
    bool ok = frame != NULL;
    free(frame);
    free(where);
    return ok;
}

static void report(const Error *err, int *damaged) {
    printf("damaged: %s\n", err->text);
    ++*damaged;
}

bool shards_verify(const char *place, Error *err) {
    const ShardCacheOptions cache = shard_cache_default();
    Shards *shards = open_listed(place, &cache, err);
    if (!shards) return false;
    int damaged = 0;
    size_t index = 0, count = shards->index.sample_count;
    Progress progress;
    progress_begin(&progress, "verify", "samples", 0, (int64_t)count);
    for (size_t i = 0; i < shards->index.file_count; i++) {
        int64_t end = 0;
        for (size_t k = 0; k < shards->index.files[i].samples; k++, index++) {
            Error found = {0};
            if (!verify_sample(shards, index, &found)) report(&found, &damaged);
            end = shards->index.samples[index].offset + shards->index.samples[index].size;
            progress_update(&progress, (int64_t)index + 1, NULL);
        }
        Error found = {0};
        if (!verify_file(shards, i, end, &found)) report(&found, &damaged);
    }
    progress_end(&progress);
    size_t files = shards->index.file_count;
    if (damaged)
        fail(err, "%s: %d damaged of %zu samples in %zu shards", shards->source.place, damaged, count, files);
    else
        printf("%s: %zu samples in %zu shards, all intact\n", shards->source.place, count, files);
    shards_close(shards);
    return damaged == 0;
}
