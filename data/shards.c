/* Opening, reading and checking shard folders. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/shards_format.h"

static const size_t MANIFEST_BYTES_MAX = (size_t)4 << 30;

struct Shards {
    char *folder;
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
    char *path = path_join(shards->folder, SHARD_MANIFEST_NAME, err);
    size_t packed = 0, size = 0;
    char *frame = path ? file_read(path, MANIFEST_BYTES_MAX, &packed, err) : NULL;
    bool ok = frame != NULL;
    if (ok &&
        ((int64_t)packed != shards->index.manifest_bytes || bytes_hash(frame, packed) != shards->index.manifest_hash))
        ok = fail(err, "%s: damaged: its bytes do not have the size and hash in " SHARD_INDEX_NAME, path);
    unsigned char *text = ok ? frame_unpack(frame, packed, &size, path, err) : NULL;
    ok = text && parse_utterances(shards, (const char *)text, size, path, err);
    free(text);
    free(frame);
    free(path);
    return ok;
}

static bool check_files(const Shards *shards, Error *err) {
    for (size_t i = 0; i < shards->index.file_count; i++) {
        const ShardFile *file = &shards->index.files[i];
        char *path = path_join(shards->folder, file->file, err);
        if (!path) return false;
        struct stat status;
        bool ok = true;
        if (stat(path, &status) != 0)
            ok = fail(err, "%s: cannot be opened: %s", path, strerror(errno));
        else if (status.st_size != file->bytes)
            ok = fail(err, "%s: has %lld bytes where " SHARD_INDEX_NAME " says %" PRId64 "; the shard is damaged", path,
                      (long long)status.st_size, file->bytes);
        free(path);
        if (!ok) return false;
    }
    return true;
}

static Shards *open_listed(const char *folder, Error *err) {
    Shards *shards = memory_new(1, sizeof *shards, err);
    if (!shards) return NULL;
    char *path = path_join(folder, SHARD_INDEX_NAME, err);
    shards->folder = text_copy(folder, err);
    bool ok = path && shards->folder;
    if (ok && !folder_exists(folder))
        ok = fail(err, "%s: no such folder (seen from the current one); make shards with `semollm shard`", folder);
    if (ok && !file_exists(path))
        ok = fail(err, "%s: no shard folder: it has no " SHARD_INDEX_NAME "; make one with `semollm shard`", folder);
    ok = ok && shard_index_read(&shards->index, path, err) && read_utterances(shards, err);
    free(path);
    if (ok) return shards;
    shards_close(shards);
    return NULL;
}

Shards *shards_open(const char *folder, Error *err) {
    Shards *shards = open_listed(folder, err);
    if (shards && check_files(shards, err)) return shards;
    shards_close(shards);
    return NULL;
}

void shards_close(Shards *shards) {
    if (!shards) return;
    for (size_t i = 0; shards->utterances && i < shards->index.sample_count; i++)
        utterance_free(&shards->utterances[i]);
    free(shards->utterances);
    shard_index_free(&shards->index);
    free(shards->folder);
    free(shards);
}

size_t shards_count(const Shards *shards) { return shards->index.sample_count; }

const Utterance *shards_utterance(const Shards *shards, size_t index) { return &shards->utterances[index]; }

int64_t shards_samples(const Shards *shards, size_t index) { return shards->index.samples[index].audio_samples; }

uint64_t shards_hash(const Shards *shards) { return shards->index.hash; }

/* ---- reading a sample ---- */

static bool read_at(int fd, void *data, int64_t size, int64_t offset, const char *where, Error *err) {
    for (int64_t done = 0; done < size;) {
        ssize_t got = pread(fd, (char *)data + done, (size_t)(size - done), offset + done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return fail(err, "%s: cannot be read: %s", where, got < 0 ? strerror(errno) : "the file ends early");
        done += got;
    }
    return true;
}

/* The frame of a sample, its hash checked. */
static void *read_frame(const Shards *shards, size_t index, const char *where, Error *err) {
    const ShardSample *sample = &shards->index.samples[index];
    char *path = path_join(shards->folder, shards->index.files[sample->shard].file, err);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (path && fd < 0) fail(err, "%s: cannot be opened: %s", path, strerror(errno));
    void *frame = fd >= 0 ? memory_new((size_t)sample->size, 1, err) : NULL;
    bool ok = frame && read_at(fd, frame, sample->size, sample->offset, where, err);
    if (ok && bytes_hash(frame, (size_t)sample->size) != sample->hash)
        ok = fail(err, "%s: damaged: its bytes do not have the hash in " SHARD_INDEX_NAME, where);
    if (fd >= 0) close(fd);
    free(path);
    if (ok) return frame;
    free(frame);
    return NULL;
}

static void name_sample(const Shards *shards, size_t index, char *where, size_t room) {
    const ShardSample *sample = &shards->index.samples[index];
    snprintf(where, room, "%.200s/%.80s: sample \"%.100s\" at byte %" PRId64, shards->folder,
             shards->index.files[sample->shard].file, shards->utterances[index].id, sample->offset);
}

static unsigned char *read_tar(const Shards *shards, size_t index, const char *where, size_t *size, Error *err) {
    void *frame = read_frame(shards, index, where, err);
    if (!frame) return NULL;
    unsigned char *tar = frame_unpack(frame, (size_t)shards->index.samples[index].size, size, where, err);
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

bool shards_read(const Shards *shards, size_t index, Audio *audio, Error *err) {
    char where[500];
    *audio = (Audio){0};
    if (index >= shards->index.sample_count)
        return fail(err, "%s: holds %zu samples; there is no sample %zu", shards->folder, shards->index.sample_count,
                    index);
    name_sample(shards, index, where, sizeof where);
    size_t size;
    unsigned char *tar = read_tar(shards, index, where, &size, err);
    bool ok = tar && decode_audio(shards, index, tar, size, where, audio, err);
    free(tar);
    return ok;
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
    unsigned char *tar = read_tar(shards, index, where, &size, err);
    bool ok = tar && same_line(shards, index, tar, size, where, err) &&
              decode_audio(shards, index, tar, size, where, &audio, err);
    if (ok) audio_free(&audio);
    free(tar);
    return ok;
}

/* The closing frame begins where the file's last sample ends. */
static bool verify_file(const Shards *shards, size_t number, int64_t end, Error *err) {
    const ShardFile *file = &shards->index.files[number];
    char *path = path_join(shards->folder, file->file, err);
    size_t size = 0;
    FileMap map = {0};
    bool ok = path && file_map(&map, path, err);
    if (ok && (int64_t)map.size != file->bytes)
        ok = fail(err, "%s: has %zu bytes where " SHARD_INDEX_NAME " says %" PRId64, path, map.size, file->bytes);
    if (ok) size = map.size - (size_t)end;
    if (ok && bytes_hash(map.data + end, size) != file->end_hash)
        ok = fail(err, "%s: its closing frame at byte %" PRId64 " is damaged", path, end);
    file_unmap(&map);
    free(path);
    return ok;
}

static void report(const Error *err, int *damaged) {
    printf("damaged: %s\n", err->text);
    ++*damaged;
}

bool shards_verify(const char *folder, Error *err) {
    Shards *shards = open_listed(folder, err);
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
    shards_close(shards);
    if (damaged) return fail(err, "%s: %d damaged of %zu samples in %zu shards", folder, damaged, count, files);
    printf("%s: %zu samples in %zu shards, all intact\n", folder, count, files);
    return true;
}
