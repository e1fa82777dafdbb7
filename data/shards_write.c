/* Writing shards: workers pack samples, one writer appends them in manifest order, so the bytes do not
 * depend on the number of threads. Each finished shard leaves a note beside it until all are done; a
 * killed run goes on after the last finished shard. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "data/shards_format.h"

typedef struct PackedSample {
    unsigned char *frame;
    size_t size;
    int64_t audio_samples;
    Error err;
} PackedSample;

typedef struct Writer {
    const Manifest *manifest;
    const char *folder;
    const ShardOptions *options;
    ShardIndex index;
    size_t next;        /* utterance */
    AtomicFile file;    /* the shard in the making */
    int64_t bytes;      /* written to it */
    size_t shard_first; /* samples and skips in the index when it began */
    size_t skipped_first;
    size_t *line_of; /* [sample] its utterance */
    size_t line_capacity;
    Progress progress;
} Writer;

ShardOptions shard_options_default(void) {
    return (ShardOptions){.name = "data", .shard_bytes = (int64_t)256 << 20, .level = 3, .threads = 0};
}

static char *line_of(const Utterance *utterance, Error *err) {
    char *line = json_dumps(utterance->json, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (!line) fail(err, "out of memory while writing the utterance \"%s\"", utterance->id);
    return line;
}

/* What shards depend on, audio files aside. */
static bool make_key(Writer *writer, uint64_t *key, Error *err) {
    XXH64_state_t *state = XXH64_createState();
    if (!state) return fail(err, "out of memory for a hash");
    const ShardOptions *options = writer->options;
    int64_t numbers[] = {options->shard_bytes, options->level, options->skip_bad};
    XXH64_reset(state, 0);
    XXH64_update(state, options->name, strlen(options->name) + 1);
    XXH64_update(state, numbers, sizeof numbers);
    bool ok = true;
    for (size_t i = 0; ok && i < writer->manifest->count; i++) {
        char *line = line_of(&writer->manifest->items[i], err);
        ok = line != NULL;
        if (ok) XXH64_update(state, line, strlen(line) + 1);
        free(line);
    }
    *key = XXH64_digest(state);
    XXH64_freeState(state);
    return ok;
}

/* ---- one sample ---- */

/* An id as it is named in a tar, which is to be unpacked into a folder. */
static char *member_name(const char *id, Error *err) {
    char *name = shard_encode_id(id, err);
    if (!name || strlen(name) + strlen(".flac") <= NAME_MAX) return name;
    fail(err, "its id takes %zu bytes as a file name, and at most %zu fit; shorten it", strlen(name),
         NAME_MAX - strlen(".flac"));
    free(name);
    return NULL;
}

static bool pack_members(const Utterance *utterance, const Audio *audio, Text *tar, Error *err) {
    unsigned char *flac = NULL;
    size_t flac_size = 0;
    char *id = member_name(utterance->id, err), *line = line_of(utterance, err);
    char *audio_name = id ? text_format(err, "%s.flac", id) : NULL;
    char *line_name = id ? text_format(err, "%s.json", id) : NULL;
    bool ok = line && audio_name && line_name && audio_encode(audio, AUDIO_FLAC, &flac, &flac_size, err) &&
              tar_add(tar, audio_name, flac, flac_size, err) && tar_add(tar, line_name, line, strlen(line), err);
    free(flac);
    free(id);
    free(line);
    free(audio_name);
    free(line_name);
    return ok;
}

static bool pack_sample(const Writer *writer, size_t number, PackedSample *packed, Error *err) {
    const Utterance *utterance = &writer->manifest->items[number];
    char *path = path_join(writer->manifest->folder, utterance->audio, err);
    Audio audio = {0};
    Text tar = {0};
    bool ok = path && audio_read(&audio, path, utterance->start, utterance->end, AUDIO_RATE, err) &&
              pack_members(utterance, &audio, &tar, err);
    if (ok) {
        packed->audio_samples = audio.count;
        packed->frame = frame_pack(tar.data, tar.length, writer->options->level, &packed->size, err);
        ok = packed->frame != NULL;
    }
    audio_free(&audio);
    text_free(&tar);
    free(path);
    return ok || fail_in(err, "utterance \"%s\"", utterance->id);
}

/* ---- shards ---- */

static char *shard_path(const Writer *writer, size_t number, const char *ending, Error *err) {
    char *name = text_format(err, "%s-%06zu%s", writer->options->name, number, ending);
    char *path = name ? path_join(writer->folder, name, err) : NULL;
    free(name);
    return path;
}

static bool begin_shard(Writer *writer, Error *err) {
    char *path = shard_path(writer, writer->index.file_count, ".tar.zst", err);
    bool ok = path && atomic_open(&writer->file, path, err);
    free(path);
    writer->bytes = 0;
    writer->shard_first = writer->index.sample_count;
    writer->skipped_first = writer->index.skipped_count;
    return ok;
}

/* The note holds this shard's samples and, as its `manifest.bytes`, the utterance to go on with. */
static bool write_note(const Writer *writer, Error *err) {
    const ShardIndex *all = &writer->index;
    ShardIndex note = *all;
    note.files = all->files + all->file_count - 1;
    note.file_count = 1;
    note.samples = all->samples + writer->shard_first;
    note.sample_count = all->sample_count - writer->shard_first;
    note.skipped = all->skipped_count ? all->skipped + writer->skipped_first : NULL;
    note.skipped_count = all->skipped_count - writer->skipped_first;
    note.manifest_bytes = (int64_t)writer->next;
    char *path = shard_path(writer, all->file_count - 1, ".note", err);
    bool ok = path && shard_index_write(&note, path, err);
    free(path);
    return ok;
}

static bool end_shard(Writer *writer, Error *err) {
    static const char zeros[TAR_END] = {0};
    ShardIndex *index = &writer->index;
    size_t size = 0;
    unsigned char *frame = frame_pack(zeros, sizeof zeros, writer->options->level, &size, err);
    bool ok = frame && memory_grow(&index->files, index->file_count, &index->file_capacity, sizeof *index->files, err);
    if (ok) {
        ShardFile *file = &index->files[index->file_count];
        *file = (ShardFile){.bytes = writer->bytes + (int64_t)size,
                            .samples = index->sample_count - writer->shard_first,
                            .end_hash = bytes_hash(frame, size)};
        file->file = text_format(err, "%s-%06zu.tar.zst", writer->options->name, index->file_count);
        ok = file->file != NULL;
        if (ok) index->file_count++;
    }
    if (ok) fwrite(frame, 1, size, writer->file.stream); /* a write error fails the commit */
    ok = ok && atomic_commit(&writer->file, err) && write_note(writer, err);
    free(frame);
    return ok;
}

static bool append(Writer *writer, const PackedSample *packed, Error *err) {
    ShardIndex *index = &writer->index;
    if (!writer->file.stream && !begin_shard(writer, err)) return false;
    if (!memory_grow(&index->samples, index->sample_count, &index->sample_capacity, sizeof *index->samples, err) ||
        !memory_grow(&writer->line_of, index->sample_count, &writer->line_capacity, sizeof *writer->line_of, err))
        return false;
    writer->line_of[index->sample_count] = writer->next;
    index->samples[index->sample_count++] = (ShardSample){.shard = (uint32_t)index->file_count,
                                                          .offset = writer->bytes,
                                                          .size = (int64_t)packed->size,
                                                          .hash = bytes_hash(packed->frame, packed->size),
                                                          .audio_samples = packed->audio_samples};
    if (fwrite(packed->frame, 1, packed->size, writer->file.stream) != packed->size)
        return fail(err, "%s: cannot be written: the disk may be full", writer->file.path);
    writer->bytes += (int64_t)packed->size;
    return true;
}

static bool take(Writer *writer, PackedSample *packed, Error *err) {
    if (packed->err.exit_code != EXIT_DONE) {
        if (!writer->options->skip_bad) {
            *err = packed->err;
            return fail_in(err, "%s", writer->manifest->path);
        }
        fprintf(stderr, "skipped: %s\n", packed->err.text);
        if (!shard_index_skip(&writer->index, writer->manifest->items[writer->next].id, err)) return false;
        writer->next++;
        return true;
    }
    if (!append(writer, packed, err)) return false;
    writer->next++;
    return writer->bytes < writer->options->shard_bytes || end_shard(writer, err);
}

static bool write_window(Writer *writer, PackedSample *window, size_t room, int threads, Error *err) {
    size_t left = writer->manifest->count - writer->next, count = left < room ? left : room, first = writer->next;
    memset(window, 0, count * sizeof *window);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < count; i++) pack_sample(writer, first + i, &window[i], &window[i].err);
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        ok = ok && take(writer, &window[i], err);
        free(window[i].frame);
    }
    progress_update(&writer->progress, (int64_t)writer->next, NULL);
    return ok;
}

static int thread_count(const Writer *writer) {
    if (writer->options->threads > 0) return writer->options->threads;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 && cores < 256 ? (int)cores : 1;
}

static bool write_samples(Writer *writer, Error *err) {
    int threads = thread_count(writer);
    size_t room = 16 * (size_t)threads;
    PackedSample *window = memory_new(room, sizeof *window, err);
    bool ok = window != NULL;
    while (ok && writer->next < writer->manifest->count) ok = write_window(writer, window, room, threads, err);
    free(window);
    return ok && (!writer->file.stream || end_shard(writer, err));
}

/* ---- going on where a killed run was ---- */

static bool note_fits(const Writer *writer, const ShardIndex *note) {
    if (note->key != writer->index.key || note->file_count != 1) return false;
    if (note->manifest_bytes != (int64_t)(writer->next + note->sample_count + note->skipped_count) ||
        note->manifest_bytes > (int64_t)writer->manifest->count)
        return false;
    struct stat status;
    char *path = shard_path(writer, writer->index.file_count, ".tar.zst", NULL);
    bool fits = path && stat(path, &status) == 0 && status.st_size == note->files[0].bytes;
    free(path);
    return fits;
}

static bool is_skipped(const ShardIndex *note, const char *id) {
    for (size_t i = 0; i < note->skipped_count; i++)
        if (strcmp(note->skipped[i], id) == 0) return true;
    return false;
}

static bool adopt_note(Writer *writer, const ShardIndex *note, Error *err) {
    ShardIndex *index = &writer->index;
    size_t at = 0;
    for (; writer->next < (size_t)note->manifest_bytes; writer->next++) {
        const char *id = writer->manifest->items[writer->next].id;
        if (is_skipped(note, id)) {
            if (!shard_index_skip(index, id, err)) return false;
            continue;
        }
        if (!memory_grow(&index->samples, index->sample_count, &index->sample_capacity, sizeof *index->samples, err) ||
            !memory_grow(&writer->line_of, index->sample_count, &writer->line_capacity, sizeof *writer->line_of, err))
            return false;
        writer->line_of[index->sample_count] = writer->next;
        index->samples[index->sample_count] = note->samples[at++];
        index->samples[index->sample_count++].shard = (uint32_t)index->file_count;
    }
    if (!memory_grow(&index->files, index->file_count, &index->file_capacity, sizeof *index->files, err)) return false;
    ShardFile *file = &index->files[index->file_count];
    *file = note->files[0];
    file->file = text_copy(note->files[0].file, err);
    if (file->file) index->file_count++;
    return file->file != NULL;
}

static bool go_on(Writer *writer, Error *err) {
    for (bool found = true; found;) {
        char *path = shard_path(writer, writer->index.file_count, ".note", err);
        if (!path) return false;
        ShardIndex note = {0};
        found = file_exists(path) && shard_index_read(&note, path, NULL) && note_fits(writer, &note);
        bool ok = !found || adopt_note(writer, &note, err);
        shard_index_free(&note);
        free(path);
        if (!ok) return false;
    }
    if (writer->index.file_count)
        fprintf(stderr, "going on after %zu finished shards, %zu utterances\n", writer->index.file_count, writer->next);
    return true;
}

/* ---- the folder ---- */

static bool write_manifest(Writer *writer, Error *err) {
    ShardIndex *index = &writer->index;
    Text lines = {0};
    for (size_t i = 0; i < index->sample_count; i++) {
        char *line = line_of(&writer->manifest->items[writer->line_of[i]], err);
        if (line)
            text_addf(&lines, "%s\n", line);
        else
            lines.failed = true;
        free(line);
    }
    if (lines.failed) {
        text_free(&lines);
        return fail(err, "out of memory while writing " SHARD_MANIFEST_NAME);
    }
    size_t size = 0;
    unsigned char *frame = frame_pack(lines.length ? lines.data : "", lines.length, writer->options->level, &size, err);
    char *path = path_join(writer->folder, SHARD_MANIFEST_NAME, err);
    bool ok = frame && path && file_write(path, frame, size, err);
    if (ok) {
        index->manifest_bytes = (int64_t)size;
        index->manifest_size = (int64_t)lines.length;
        index->manifest_hash = bytes_hash(frame, size);
    }
    free(path);
    free(frame);
    text_free(&lines);
    return ok;
}

static bool remove_notes(const Writer *writer, size_t shards, Error *err) {
    bool ok = true;
    for (size_t i = 0; ok && i < shards; i++) {
        char *path = shard_path(writer, i, ".note", err);
        ok = path && folder_remove(path, err);
        free(path);
    }
    return ok;
}

static void print_census(const Writer *writer) {
    int64_t samples = 0, bytes = 0;
    const ShardIndex *index = &writer->index;
    for (size_t i = 0; i < index->sample_count; i++) samples += index->samples[i].audio_samples;
    for (size_t i = 0; i < index->file_count; i++) bytes += index->files[i].bytes;
    fprintf(stderr, "%s: %zu samples, %.2f hours, %zu shards, %.1f MB", writer->folder, index->sample_count,
            (double)samples / AUDIO_RATE / 3600, index->file_count, (double)bytes / 1e6);
    if (index->skipped_count) fprintf(stderr, "; %zu unreadable utterances skipped", index->skipped_count);
    fputc('\n', stderr);
}

/* Finished already, but for the notes where it was killed at the very end; or holding something else. */
static bool check_folder(const Writer *writer, bool *finished, Error *err) {
    *finished = false;
    char *path = path_join(writer->folder, SHARD_INDEX_NAME, err);
    if (!path) return false;
    ShardIndex old = {0};
    bool ok = true;
    if (file_exists(path)) {
        ok = shard_index_read(&old, path, err);
        if (ok && old.key != writer->index.key)
            ok = fail(err, "%s: holds shards of another manifest or other options; remove it or name another folder",
                      writer->folder);
        *finished = ok;
        ok = ok && remove_notes(writer, old.file_count, err);
    }
    shard_index_free(&old);
    free(path);
    return ok;
}

static bool write_all(Writer *writer, Error *err) {
    bool finished;
    writer->index.name = text_copy(writer->options->name, err);
    if (!writer->index.name || !make_key(writer, &writer->index.key, err) || !check_folder(writer, &finished, err))
        return false;
    if (finished) {
        fprintf(stderr, "%s: written already; remove it to write it anew\n", writer->folder);
        return true;
    }
    if (!folder_make(writer->folder, err) || !go_on(writer, err)) return false;
    progress_begin(&writer->progress, "shard", "utterances", (int64_t)writer->next, (int64_t)writer->manifest->count);
    bool ok = write_samples(writer, err);
    progress_end(&writer->progress);
    if (!ok) return false;
    if (writer->index.sample_count == 0)
        return fail(err, "%s: no utterance could be read, so no shard was written", writer->manifest->path);
    char *path = path_join(writer->folder, SHARD_INDEX_NAME, err);
    ok = path && write_manifest(writer, err) && shard_index_write(&writer->index, path, err) &&
         remove_notes(writer, writer->index.file_count, err);
    free(path);
    if (ok) print_census(writer);
    return ok;
}

bool shards_write(const Manifest *manifest, const char *folder, const ShardOptions *options, Error *err) {
    if (!options->name[0] ||
        strspn(options->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
            strlen(options->name))
        return fail_usage(err, "the shards' name \"%s\" must be made of letters, digits, _ and -", options->name);
    Writer writer = {.manifest = manifest, .folder = folder, .options = options};
    bool ok = write_all(&writer, err);
    atomic_discard(&writer.file);
    shard_index_free(&writer.index);
    free(writer.line_of);
    return ok;
}
