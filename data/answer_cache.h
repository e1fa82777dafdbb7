/* Every answer that a teacher ever gave, beside the manifest it was given for: found again by a hash of all that
 * decides on it (the messages, the teacher, its settings), so that no question is asked, or paid for, twice. Answers
 * are lines of JSON, flushed to the system as they come and to the disk every second: a killed run loses none, a
 * machine that fails a second's. Private to data/. */
#ifndef SEMOLLM_DATA_ANSWER_CACHE_H
#define SEMOLLM_DATA_ANSWER_CACHE_H

#include "data/teacher.h"

typedef struct AnswerKey {
    uint64_t high, low;
} AnswerKey;

/* `draw` tells apart answers that are wanted to the same question. */
bool answer_key(const Teacher *teacher, const TeacherQuestion *question, const char *draw, AnswerKey *key, Error *err);

typedef struct CachedAnswer {
    AnswerKey key;
    char *text;
    bool cut;
} CachedAnswer;

typedef struct AnswerCache {
    const char *path;
    FILE *stream;
    CachedAnswer *items; /* those that the file held, sorted by key */
    size_t count, capacity;
    int64_t tokens_in, tokens_out; /* of all answers, new ones included */
    double synced;
} AnswerCache;

/* Reads what is there, and cuts off a line that a kill left unfinished. A second run on the same file is refused. Lines
 * that are no answers are named on stderr, left where they are and counted as not asked. */
bool answer_cache_open(AnswerCache *cache, const char *path, Error *err);
const CachedAnswer *answer_cache_find(const AnswerCache *cache, AnswerKey key);
bool answer_cache_add(AnswerCache *cache, AnswerKey key, const TeacherAnswer *answer, Error *err);
bool answer_cache_close(AnswerCache *cache, Error *err);

#endif
