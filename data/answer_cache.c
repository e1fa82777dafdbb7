#include "data/answer_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

enum { LINE_LIMIT = 1 << 20 };
static const char FIRST_LINE[] = "{\"answers\":1}\n";
static const double SYNC_EVERY_S = 1;

/* --- keys --- */

static void add_part(Text *parts, const char *text) {
    text_add_string(parts, text ? text : "\x01"); /* no text differs from an empty one */
    text_add(parts, "", 1);
}

bool answer_key(const Teacher *teacher, const TeacherQuestion *question, const char *draw, AnswerKey *key, Error *err) {
    Text parts = {0};
    add_part(&parts, teacher->name);
    add_part(&parts, teacher->settings);
    add_part(&parts, question->system);
    add_part(&parts, question->user);
    add_part(&parts, draw);
    size_t length = parts.length;
    char *text = text_finish(&parts, err);
    if (!text) return false;
    XXH128_hash_t hash = XXH3_128bits(text, length);
    *key = (AnswerKey){hash.high64, hash.low64};
    free(text);
    return true;
}

static bool read_key(const char *text, AnswerKey *key) {
    int used = 0;
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32 &&
           sscanf(text, "%16" SCNx64 "%16" SCNx64 "%n", &key->high, &key->low, &used) == 2 && used == 32;
}

static int compare_keys(const void *a, const void *b) {
    const AnswerKey *x = &((const CachedAnswer *)a)->key, *y = &((const CachedAnswer *)b)->key;
    if (x->high != y->high) return x->high < y->high ? -1 : 1;
    return (x->low > y->low) - (x->low < y->low);
}

/* --- reading --- */

static bool parse_line(AnswerCache *cache, const char *line, size_t size, Error *err) {
    const char *key, *text;
    CachedAnswer answer = {0};
    int64_t tokens_in = 0, tokens_out = 0;
    json_t *json = json_read_text(line, size, cache->path, err);
    bool done = json && json_get_string(json, "key", &key, "an answer", err) &&
                json_get_string(json, "answer", &text, "an answer", err) &&
                json_bool_or(json, "cut", &answer.cut, "an answer", err) &&
                json_int_or(json, "in", 0, INT32_MAX, &tokens_in, "an answer", err) &&
                json_int_or(json, "out", 0, INT32_MAX, &tokens_out, "an answer", err) &&
                (read_key(key, &answer.key) || fail(err, "\"key\" must be 32 hexadecimal digits")) &&
                memory_grow(&cache->items, cache->count, &cache->capacity, sizeof *cache->items, err) &&
                (answer.text = text_copy(text, err));
    if (done) {
        cache->items[cache->count++] = answer;
        cache->tokens_in += tokens_in;
        cache->tokens_out += tokens_out;
    }
    json_decref(json);
    return done;
}

/* Takes in whole lines; *end is where the last of them ends. */
static bool read_lines(AnswerCache *cache, off_t *end, Error *err) {
    char *line = NULL;
    size_t size = 0, number = 1, bad = 0;
    ssize_t length;
    *end = sizeof FIRST_LINE - 1;
    while ((length = getline(&line, &size, cache->stream)) > 0 && line[length - 1] == '\n') {
        Error why = {0};
        number++;
        *end += length;
        bool good = length <= LINE_LIMIT ? parse_line(cache, line, (size_t)length, &why)
                                         : fail(&why, "the line is longer than %d bytes", LINE_LIMIT);
        if (!good && bad++ < 5) fprintf(stderr, "%s line %zu is no answer: %s\n", cache->path, number, why.text);
    }
    free(line);
    if (ferror(cache->stream)) return fail(err, "%s: cannot be read: %s", cache->path, strerror(errno));
    if (bad) fprintf(stderr, "%s: %zu lines are no answers; what they were is asked anew\n", cache->path, bad);
    return true;
}

/* False where the file is something else; an empty one, or the beginning of a first line, is a new one. */
static bool read_first_line(AnswerCache *cache, bool *fresh, Error *err) {
    char line[sizeof FIRST_LINE] = "";
    size_t got = fread(line, 1, sizeof FIRST_LINE - 1, cache->stream);
    *fresh = got < sizeof FIRST_LINE - 1 && strncmp(line, FIRST_LINE, got) == 0;
    if (*fresh || strcmp(line, FIRST_LINE) == 0) return true;
    return fail_usage(err, "%s: is no file of answers (its first line is not %.13s); name another with --answers",
                      cache->path, FIRST_LINE);
}

static bool begin(AnswerCache *cache, Error *err) {
    bool fresh = false;
    off_t end = 0;
    if (flock(fileno(cache->stream), LOCK_EX | LOCK_NB) != 0)
        return fail(err, "%s: another annotation is writing there", cache->path);
    if (!read_first_line(cache, &fresh, err) || (!fresh && !read_lines(cache, &end, err))) return false;
    if (ftruncate(fileno(cache->stream), end) != 0 || fseeko(cache->stream, end, SEEK_SET) != 0 ||
        (fresh && fputs(FIRST_LINE, cache->stream) == EOF) || fflush(cache->stream) != 0)
        return fail(err, "%s: cannot be written: %s", cache->path, strerror(errno));
    return true;
}

bool answer_cache_open(AnswerCache *cache, const char *path, Error *err) {
    *cache = (AnswerCache){.path = path, .synced = clock_seconds()};
    cache->stream = fopen(path, "a+e"); /* makes the file, and keeps what is there; then for reading and writing */
    if (cache->stream) {
        fclose(cache->stream);
        cache->stream = fopen(path, "r+e");
    }
    if (!cache->stream) return fail(err, "%s: cannot be written: %s", path, strerror(errno));
    if (!begin(cache, err)) {
        answer_cache_close(cache, NULL);
        return false;
    }
    if (cache->count) qsort(cache->items, cache->count, sizeof *cache->items, compare_keys);
    return true;
}

const CachedAnswer *answer_cache_find(const AnswerCache *cache, AnswerKey key) {
    CachedAnswer wanted = {.key = key};
    return cache->count ? bsearch(&wanted, cache->items, cache->count, sizeof *cache->items, compare_keys) : NULL;
}

/* --- writing --- */

bool answer_cache_add(AnswerCache *cache, AnswerKey key, const TeacherAnswer *answer, Error *err) {
    char name[33];
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64, key.high, key.low);
    json_t *json = json_pack("{s:s, s:s, s:I, s:I}", "key", name, "answer", answer->text, "in",
                             (json_int_t)answer->tokens_in, "out", (json_int_t)answer->tokens_out);
    if (json && answer->cut) json_object_set_new(json, "cut", json_true());
    char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!line) return fail(err, "%s: out of memory while noting an answer", cache->path);
    bool done = fprintf(cache->stream, "%s\n", line) > 0 && fflush(cache->stream) == 0;
    free(line);
    cache->tokens_in += answer->tokens_in;
    cache->tokens_out += answer->tokens_out;
    if (done && clock_seconds() - cache->synced > SYNC_EVERY_S) {
        done = fdatasync(fileno(cache->stream)) == 0;
        cache->synced = clock_seconds();
    }
    return done || fail(err, "%s: cannot be written: %s", cache->path, strerror(errno));
}

bool answer_cache_close(AnswerCache *cache, Error *err) {
    bool done = true;
    if (cache->stream) {
        done = fdatasync(fileno(cache->stream)) == 0;
        done = fclose(cache->stream) == 0 && done;
        if (!done) fail(err, "%s: cannot be written: %s", cache->path, strerror(errno));
    }
    for (size_t i = 0; i < cache->count; i++) free(cache->items[i].text);
    free(cache->items);
    *cache = (AnswerCache){0};
    return done;
}
