#include "eval/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What an answer depends on: a journal of other settings is not continued. */
static json_t *journal_header(const Run *run, const Split *split, const AnswerOptions *options) {
    const GenerateOptions *g = &options->generate;
    return json_pack("{s:s, s:s, s:I, s:I, s:b, s:i, s:i, s:i, s:f, s:f, s:f, s:I}", "checkpoint",
                     run->checkpoint ? run->checkpoint : "none", "control", CONTROL_NAMES[options->control], "shards",
                     (json_int_t)shards_hash(run->shards), "clips", (json_int_t)split->count, "rank",
                     (int)options->rank, "max_new", g->max_new, "min_new", g->min_new, "beams", g->beams, "temperature",
                     (double)g->temperature, "top_p", (double)g->top_p, "repetition_penalty",
                     (double)g->repetition_penalty, "seed", (json_int_t)g->seed);
}

/* Takes in the answers of a journal with this header; a last line cut by a kill is not one. `*kept` gets
 * the bytes worth keeping. */
static bool journal_read(const Run *run, const char *path, const json_t *header, Answers *answers, size_t *kept,
                         Error *err) {
    *kept = 0;
    if (!file_exists(path)) return true;
    size_t size;
    char *text = file_read(path, (size_t)1 << 32, &size, err);
    if (!text) return false;
    bool ok = true, first = true;
    for (char *line = text, *end; ok && (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (first && !json_equal(json, header)) {
            json_decref(json);
            break;
        }
        json_int_t at = json_integer_value(json_object_get(json, "at"));
        const char *answer = json_string_value(json_object_get(json, "answer"));
        if (!first && answer && at >= 0 && (size_t)at < answers->count && !answers->items[at].text) {
            char *copy = text_copy(answer, err);
            ok = copy &&
                 answer_settle(run, &answers->items[at], copy, json_is_true(json_object_get(json, "stopped")), err);
            const json_t *ranked = json_object_get(json, "ranked");
            if (json_is_integer(ranked)) answers->items[at].predicted = (int)json_integer_value(ranked);
        }
        first = false;
        *kept = (size_t)(end + 1 - text);
        json_decref(json);
    }
    free(text);
    return ok;
}

bool journal_line(FILE *journal, json_t *json, const char *path, Error *err) {
    if (!json) return fail(err, "out of memory while writing %s", path);
    bool ok = json_dumpf(json, journal, JSON_COMPACT) == 0 && fputc('\n', journal) != EOF && fflush(journal) == 0;
    json_decref(json);
    return ok || fail(err, "%s: cannot be written: %s", path, strerror(errno));
}

FILE *journal_open(const Run *run, const Split *split, const AnswerOptions *options, Answers *answers, Error *err) {
    json_t *header = journal_header(run, split, options);
    size_t kept = 0;
    FILE *journal = NULL;
    if (!header) fail(err, "out of memory while opening %s", options->journal);
    if (header && journal_read(run, options->journal, header, answers, &kept, err)) {
        journal = fopen(options->journal, kept ? "r+b" : "wb");
        bool ok = journal && ftruncate(fileno(journal), (off_t)kept) == 0 && fseek(journal, 0, SEEK_END) == 0;
        if (!ok) fail(err, "%s: cannot be written: %s", options->journal, strerror(errno));
        if (ok && kept == 0) ok = journal_line(journal, json_incref(header), options->journal, err);
        if (!ok && journal) {
            fclose(journal);
            journal = NULL;
        }
    }
    json_decref(header);
    return journal;
}
