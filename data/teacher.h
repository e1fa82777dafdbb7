/* Who writes explanations: a function that answers questions and one that counts their tokens. A teacher over HTTP is
 * written here in data/, one that generates with our own model in train/. */
#ifndef SEMOLLM_DATA_TEACHER_H
#define SEMOLLM_DATA_TEACHER_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct TeacherQuestion {
    const char *system; /* null: none */
    const char *user;
    uint32_t seed; /* of sampling */
} TeacherQuestion;

typedef struct TeacherAnswer {
    char *text; /* null: there is none, and `why` says so */
    bool cut;   /* at the limit of tokens */
    int64_t tokens_in, tokens_out;
    char *why; /* null too where the run was asked to stop */
} TeacherAnswer;

typedef struct Teacher {
    void *self;
    const char *name;      /* as a manifest keeps it: "http gpt-4o-mini" */
    const char *settings;  /* whatever else changes its answers: temperature, limits */
    int callers, together; /* threads that may call answer() at once, and questions that it takes in a call */
    int64_t answer_tokens; /* the most an answer may have */

    /* answers[count], to be freed with teacher_answers_free; `caller` is 0 .. callers - 1. False: nothing that is
     * asked can be answered (a wrong key, no memory). */
    bool (*answer)(void *self, int caller, const TeacherQuestion *questions, int count, TeacherAnswer *answers,
                   Error *err);
    /* Of the question as it is put to the model, exact or estimated; negative: the error says why. */
    int64_t (*tokens)(void *self, const TeacherQuestion *question, Error *err);
} Teacher;

void teacher_answers_free(TeacherAnswer *answers, int count);

/* ---- over HTTP: OpenAI's chat completions, which vLLM, llama.cpp's server, Ollama and hosted models speak ---- */

typedef struct HttpTeacherOptions {
    const char *url; /* "http://localhost:8000/v1", with or without /chat/completions */
    const char *model;
    const char *key_env; /* the environment variable with the key; null: OPENAI_API_KEY, if that is safe */
    const char *body;    /* JSON object: further members of each request; null ones are left out. May be null */
    int64_t in_flight, tries, answer_tokens;
    double timeout_s, temperature;
    uint64_t seed;           /* of the waits between tries */
    const atomic_bool *stop; /* may be null */
} HttpTeacherOptions;

HttpTeacherOptions http_teacher_options_default(void);
Teacher *http_teacher_open(const HttpTeacherOptions *options, Error *err);
/* What was sent and what came back: requests, and why some were repeated. */
void http_teacher_print(const Teacher *teacher, FILE *out);
void http_teacher_close(Teacher *teacher);

#endif
