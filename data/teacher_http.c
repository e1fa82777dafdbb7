#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/teacher.h"

enum { ANSWER_BYTES_MOST = 4 << 20, STATUSES = 600, PAUSE_MOST_S = 600 };
static const char PATH[] = "/chat/completions";
static const char DEFAULT_KEY[] = "OPENAI_API_KEY";

typedef struct HttpTeacher {
    Teacher teacher;
    HttpTeacherOptions options;
    char *url, *name, *settings;
    char *key, *authorization; /* null: none */
    json_t *body;              /* what every request has */
    RetryPolicy retry;
    Http **handles;       /* [in_flight], one a caller, opened when first needed */
    pthread_mutex_t lock; /* over what follows */
    double quiet_until;   /* the server asked for a pause */
    int64_t requests, broken, unreadable, statuses[STATUSES];
    bool told; /* the first failure */
} HttpTeacher;

/* --- what is sent --- */

static json_t *message(const char *role, const char *text) {
    return json_pack("{s:s, s:s}", "role", role, "content", text);
}

static char *request_body(const HttpTeacher *http, const TeacherQuestion *question, Error *err) {
    json_t *messages = json_array(), *body = json_copy(http->body);
    bool done = messages && body;
    if (done && question->system) done = json_array_append_new(messages, message("system", question->system)) == 0;
    done = done && json_array_append_new(messages, message("user", question->user)) == 0 &&
           json_object_set(body, "messages", messages) == 0;
    /* A member that --body made null is left out; the seed is there to be replaced. */
    if (done && json_object_get(body, "seed")) json_object_set_new(body, "seed", json_integer(question->seed));
    char *text = done ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(messages);
    json_decref(body);
    if (!text) fail(err, "a question could not be written as JSON: it is not valid UTF-8");
    return text;
}

/* --- what comes back --- */

/* Four bytes of English a token, and a few tokens around each message. */
static int64_t http_tokens(void *self, const TeacherQuestion *question, Error *err) {
    (void)self, (void)err;
    return (int64_t)(strlen(question->user) + (question->system ? strlen(question->system) : 0)) / 4 + 12;
}

static void count_tokens(const json_t *reply, const TeacherQuestion *question, TeacherAnswer *answer) {
    const json_t *usage = json_object_get(reply, "usage");
    answer->tokens_in = http_tokens(NULL, question, NULL); /* where the server counts nothing */
    answer->tokens_out = (int64_t)strlen(answer->text) / 4 + 1;
    json_int_or(usage, "prompt_tokens", 0, INT32_MAX, &answer->tokens_in, "usage", NULL);
    json_int_or(usage, "completion_tokens", 0, INT32_MAX, &answer->tokens_out, "usage", NULL);
}

/* False where the text is no chat completion with an answer in it: as good as none, so it is asked for again. */
static bool read_completion(const HttpReply *reply, const TeacherQuestion *question, TeacherAnswer *answer,
                            Error *why) {
    json_t *json = json_read_text(reply->data, reply->bytes, "the answer", why);
    const json_t *choice = json_array_get(json_object_get(json, "choices"), 0);
    const json_t *message_json = json_object_get(choice, "message");
    const char *text = NULL, *ended = NULL, *where = "choices[0].message";
    bool done = json && (json_is_object(message_json) || fail(why, "the answer has no choices[0].message"));
    /* A model that refuses may say so beside an answer that is null. */
    if (done && !json_is_string(json_object_get(message_json, "content")) &&
        json_is_string(json_object_get(message_json, "refusal")))
        done = json_get_string(message_json, "refusal", &text, where, why);
    else
        done = done && json_get_string(message_json, "content", &text, where, why);
    done = done && json_string_or(choice, "finish_reason", &ended, "choices[0]", why) &&
           (answer->text = text_copy(text, why));
    if (done) {
        answer->cut = ended && strcmp(ended, "length") == 0;
        count_tokens(json, question, answer);
    }
    json_decref(json);
    return done;
}

/* What the server says is wrong, in one line and without the key, which some repeat. */
static char *server_words(const HttpTeacher *http, const HttpReply *reply, Error *err) {
    json_t *json = json_read_text(reply->data ? reply->data : "", reply->bytes, "", NULL);
    const json_t *error = json_object_get(json, "error");
    const char *said = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    if (!said) said = json_string_value(json_object_get(json, "message"));
    bool secret = http->key && said && strstr(said, http->key);
    Text words = {0};
    text_addf(&words, "HTTP %d", reply->status);
    if (said && !secret) text_addf(&words, ": %.300s", said);
    if (reply->retry_after_s > PAUSE_MOST_S)
        text_addf(&words, " (it asks for a pause of %.0f s)", reply->retry_after_s);
    if (reply->status == 401 || reply->status == 403)
        text_addf(&words, " (%s was sent; --key-env names the environment variable that holds it)",
                  http->key ? "a key" : "no key");
    json_decref(json);
    return text_finish(&words, err);
}

/* --- trying --- */

typedef enum TryEnd { TRY_ANSWERED, TRY_AGAIN, TRY_NO_ANSWER, TRY_STOPPED, TRY_FATAL } TryEnd;

/* Statuses that say no request would succeed, whatever is asked; 429 with a pause that no run waits for. */
static bool hopeless(int status) {
    return status == 429 || (status >= 300 && status < 400) || (status >= 401 && status <= 405) || status == 407 ||
           status == 501;
}

static TryEnd end_of(HttpTeacher *http, const TeacherQuestion *question, const HttpReply *reply, bool whole,
                     TeacherAnswer *answer, Error *why) {
    if (reply->end == HTTP_STOPPED) return TRY_STOPPED;
    if (whole && reply->status >= 200 && reply->status < 300)
        return read_completion(reply, question, answer, why) ? TRY_ANSWERED : TRY_AGAIN;
    if (!whole) return reply->end == HTTP_BROKEN || reply->status == 200 ? TRY_AGAIN : TRY_FATAL;
    char *words = server_words(http, reply, why);
    fail(why, "%s", words ? words : "");
    free(words);
    if (http_worth_retrying(reply) && reply->retry_after_s <= PAUSE_MOST_S) return TRY_AGAIN;
    return hopeless(reply->status) ? TRY_FATAL : TRY_NO_ANSWER;
}

static void note_end(HttpTeacher *http, const HttpReply *reply, bool whole, TryEnd end, const Error *why) {
    pthread_mutex_lock(&http->lock);
    http->requests++;
    if (!whole) {
        http->broken += end != TRY_STOPPED;
    } else if (reply->status > 0 && reply->status < STATUSES) {
        http->statuses[reply->status]++;
        http->unreadable += end == TRY_AGAIN && reply->status < 300;
    }
    /* All callers heed it: they ask the same server with the same key. */
    if (end == TRY_AGAIN && reply->retry_after_s > 0)
        http->quiet_until = fmax(http->quiet_until, clock_seconds() + reply->retry_after_s);
    if (end == TRY_AGAIN && !http->told) {
        http->told = true;
        fprintf(stderr, "\ntrying again, as with every such failure (up to %d times each): %s\n", http->retry.tries,
                why->text);
    }
    pthread_mutex_unlock(&http->lock);
}

static double quiet_for(HttpTeacher *http) {
    pthread_mutex_lock(&http->lock);
    double left = http->quiet_until - clock_seconds();
    pthread_mutex_unlock(&http->lock);
    return left;
}

static bool wait_for_quiet(HttpTeacher *http) {
    bool going = !http->options.stop || !atomic_load(http->options.stop);
    for (double left; going && (left = quiet_for(http)) > 0;) going = retry_wait(left, http->options.stop);
    return going;
}

static TryEnd try_once(HttpTeacher *http, Http *handle, const TeacherQuestion *question, const char *body,
                       TeacherAnswer *answer, Error *why) {
    const char *headers[] = {"Content-Type: application/json", http->authorization, NULL};
    HttpRequest request = {.url = http->url,
                           .headers = headers,
                           .body = body,
                           .body_bytes = strlen(body),
                           .total_s = http->options.timeout_s,
                           .most_bytes = ANSWER_BYTES_MOST,
                           .stop = http->options.stop};
    HttpReply reply;
    if (!wait_for_quiet(http)) return TRY_STOPPED;
    bool whole = http_request(handle, &request, &reply, why);
    TryEnd end = end_of(http, question, &reply, whole, answer, why);
    note_end(http, &reply, whole, end, why);
    http_reply_free(&reply);
    return end;
}

/* Tries until there is an answer, none can be had, or all tries are used up. */
static bool ask(HttpTeacher *http, Http *handle, const TeacherQuestion *question, TeacherAnswer *answer, Error *err) {
    char *body = request_body(http, question, err);
    if (!body) return false;
    TryEnd end = TRY_AGAIN;
    Error why = {0};
    for (int tried = 1; tried <= http->retry.tries && end == TRY_AGAIN; tried++) {
        why = (Error){0};
        end = try_once(http, handle, question, body, answer, &why);
        bool last = tried == http->retry.tries;
        if (end == TRY_AGAIN && !last &&
            !retry_wait(retry_delay(&http->retry, question->seed, tried, -1), http->options.stop))
            end = TRY_STOPPED;
    }
    free(body);
    if (end == TRY_FATAL) return fail(err, "%s", why.text);
    if (end == TRY_ANSWERED || end == TRY_STOPPED) return true;
    answer->why = text_format(err, "there was no answer: %s", why.text);
    if (answer->why) text_make_utf8(answer->why);
    return answer->why != NULL;
}

static bool http_answer(void *self, int caller, const TeacherQuestion *questions, int count, TeacherAnswer *answers,
                        Error *err) {
    HttpTeacher *http = self;
    for (int i = 0; i < count; i++) answers[i] = (TeacherAnswer){0};
    if (!http->handles[caller] && !(http->handles[caller] = http_open(err))) return false;
    bool done = true;
    for (int i = 0; i < count && done; i++) done = ask(http, http->handles[caller], &questions[i], &answers[i], err);
    return done;
}

/* --- opening --- */

HttpTeacherOptions http_teacher_options_default(void) {
    return (HttpTeacherOptions){
        .in_flight = 32, .tries = 8, .answer_tokens = 200, .timeout_s = 120, .temperature = 0.7};
}

static bool check_options(const HttpTeacherOptions *options, Error *err) {
    if (!options->url || !*options->url)
        return fail_usage(err, "--teacher http needs --url, such as http://localhost:8000/v1");
    if (!options->model || !*options->model)
        return fail_usage(err, "--teacher http needs --model, the name that the server knows it by");
    if (options->in_flight < 1 || options->in_flight > 256)
        return fail_usage(err, "--in-flight must be 1 to 256, not %" PRId64, options->in_flight);
    if (options->tries < 1 || options->tries > 1000)
        return fail_usage(err, "--tries must be 1 to 1000, not %" PRId64, options->tries);
    if (!(options->timeout_s > 0) || options->timeout_s > 86400)
        return fail_usage(err, "--timeout must be more than 0 and at most 86400 seconds, not %g", options->timeout_s);
    return true;
}

static bool take_key(HttpTeacher *http, Error *err) {
    const char *name = http->options.key_env ? http->options.key_env : DEFAULT_KEY, *key = getenv(name);
    if (http->options.key_env && (!key || !*key))
        return fail_usage(err, "--key-env: the environment has no %s, or an empty one", name);
    if (!key || !*key) return true;
    if (!http->options.key_env && !http_keeps_secrets(http->url)) {
        fprintf(stderr, "the key in %s is not sent over plain HTTP; --key-env %s sends it all the same\n", name, name);
        return true;
    }
    for (const char *at = key; *at; at++)
        if (!isgraph((unsigned char)*at))
            return fail_usage(err, "the key in %s holds a space or another character that no key has", name);
    http->key = text_copy(key, err);
    http->authorization = text_format(err, "Authorization: Bearer %s", key);
    return http->key && http->authorization;
}

static bool make_url(HttpTeacher *http, Error *err) {
    const char *given = http->options.url;
    size_t length = strlen(given);
    while (length && given[length - 1] == '/') length--;
    bool whole = length >= sizeof PATH - 1 && strncmp(given + length - (sizeof PATH - 1), PATH, sizeof PATH - 1) == 0;
    http->url = text_format(err, "%.*s%s", (int)length, given, whole || strchr(given, '?') ? "" : PATH);
    if (!http->url) return false;
    return strncasecmp(given, "http://", 7) == 0 || strncasecmp(given, "https://", 8) == 0 ||
           fail_usage(err, "--url must begin with http:// or https://");
}

/* The request without its messages: what the options say, and --body over it. */
static bool make_body(HttpTeacher *http, Error *err) {
    const HttpTeacherOptions *options = &http->options;
    const char *given = options->body ? options->body : "{}", *key;
    Error why = {0};
    json_t *more = json_read_text(given, strlen(given), "--body", &why), *value;
    if (!more) return fail_usage(err, "%s", why.text);
    http->body = json_pack("{s:s, s:f, s:I, s:i, s:b}", "model", options->model, "temperature", options->temperature,
                           "max_tokens", (json_int_t)options->answer_tokens, "seed", 0, "stream", 0);
    bool done = json_is_object(more) || fail_usage(err, "--body must be a JSON object, such as '{\"top_p\": 0.9}'");
    if (done && !http->body) done = fail_usage(err, "--model is not valid UTF-8");
    json_object_foreach(more, key, value) {
        if (!done) break;
        done = !strcmp(key, "messages") || !strcmp(key, "stream") || !strcmp(key, "model")
                   ? fail_usage(err, "--body cannot set \"%s\"", key)
                   : (json_is_null(value) ? json_object_del(http->body, key),
                      true                : json_object_set(http->body, key, value) == 0);
    }
    json_decref(more);
    /* All that changes answers and is not the model's name; sorted, so that the order of --body does not matter. */
    char *text = done ? json_dumps(http->body, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) : NULL;
    http->settings = text;
    return done && (text || fail(err, "out of memory while writing requests"));
}

static bool fill(HttpTeacher *http, Error *err) {
    http->retry = retry_policy_default();
    http->retry.tries = (int)http->options.tries;
    http->retry.seed = http->options.seed;
    http->handles = memory_new((size_t)http->options.in_flight, sizeof(Http *), err);
    http->name = text_format(err, "http %s", http->options.model);
    return http->handles && http->name && make_url(http, err) && take_key(http, err) && make_body(http, err);
}

Teacher *http_teacher_open(const HttpTeacherOptions *options, Error *err) {
    if (!check_options(options, err)) return NULL;
    HttpTeacher *http = memory_new(1, sizeof *http, err);
    if (!http) return NULL;
    http->options = *options;
    pthread_mutex_init(&http->lock, NULL);
    if (!fill(http, err)) {
        http_teacher_close(&http->teacher);
        return NULL;
    }
    http->teacher = (Teacher){.self = http,
                              .name = http->name,
                              .settings = http->settings,
                              .callers = (int)options->in_flight,
                              .together = 1,
                              .answer_tokens = options->answer_tokens,
                              .answer = http_answer,
                              .tokens = http_tokens};
    return &http->teacher;
}

void http_teacher_print(const Teacher *teacher, FILE *out) {
    const HttpTeacher *http = teacher->self;
    fprintf(out, "%" PRId64 " requests", http->requests);
    if (http->broken) fprintf(out, ", %" PRId64 " broken off", http->broken);
    if (http->unreadable) fprintf(out, ", %" PRId64 " unreadable", http->unreadable);
    for (int status = 0; status < STATUSES; status++)
        if (http->statuses[status] && status != 200)
            fprintf(out, ", %" PRId64 " of status %d", http->statuses[status], status);
    fprintf(out, "\n");
}

void http_teacher_close(Teacher *teacher) {
    if (!teacher) return;
    HttpTeacher *http = (HttpTeacher *)(void *)teacher; /* its first member */
    for (int64_t i = 0; http->handles && i < http->options.in_flight; i++) http_close(http->handles[i]);
    pthread_mutex_destroy(&http->lock);
    json_decref(http->body);
    free(http->handles);
    free(http->url);
    free(http->name);
    free(http->settings);
    if (http->key) explicit_bzero(http->key, strlen(http->key));
    if (http->authorization) explicit_bzero(http->authorization, strlen(http->authorization));
    free(http->key);
    free(http->authorization);
    free(http);
}
