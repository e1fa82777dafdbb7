/* HTTP against a server that answers well, late, too much, cut short or not at all; and the waits between tries. */
#include "tests/test.h"

#include <time.h>

#include "tests/http_server.h"

static const char SECRET[] = "hush-7f3a";

enum { SOCKETS = 1024 };

/* What the server saw. */
typedef struct Seen {
    atomic_int requests;
    atomic_int sockets[SOCKETS];
    char body[256], head[2048];
} Seen;

static Server server;
static Seen seen;
static char file[100000]; /* what /file holds */

static bool send_file(const ServerRequest *request, int64_t most) {
    int64_t first = request->first_byte < 0 ? 0 : request->first_byte, size = sizeof file;
    int64_t last = request->last_byte < 0 ? size - 1 : request->last_byte;
    char head[300];
    if (first >= size) return server_reply(request->socket, 416, NULL, "", 0);
    snprintf(head, sizeof head,
             "HTTP/1.1 206 Part\r\nContent-Length: %" PRId64 "\r\nContent-Range: bytes %" PRId64 "-%" PRId64 "/%" PRId64
             "\r\n\r\n",
             last - first + 1, first, last, size);
    int64_t sent = last - first + 1 < most ? last - first + 1 : most;
    return server_send(request->socket, head, strlen(head)) &&
           server_send(request->socket, file + first, (size_t)sent) && sent == last - first + 1;
}

static bool send_date(const ServerRequest *request) {
    char header[100];
    time_t then = time(NULL) + 30;
    struct tm parts;
    gmtime_r(&then, &parts);
    strftime(header, sizeof header, "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
    return server_reply(request->socket, 503, header, "later", 5);
}

static bool send_forever(int socket) {
    char block[4096] = {0};
    bool going = server_send(socket, "HTTP/1.1 200 OK\r\n\r\n", 19);
    while (going) going = server_send(socket, block, sizeof block);
    return false;
}

static bool answer(void *context, const ServerRequest *request) {
    Seen *s = context;
    int socket = request->socket;
    const char *path = request->path;
    atomic_fetch_add(&s->requests, 1);
    if (socket < SOCKETS) atomic_store(&s->sockets[socket], 1);
    if (strncmp(path, "/echo", 5) == 0) {
        snprintf(s->body, sizeof s->body, "%s %s", request->method, request->body);
        snprintf(s->head, sizeof s->head, "%s", request->head);
        return server_reply(socket, 200, NULL, request->body, request->body_bytes);
    }
    if (strcmp(path, "/file") == 0) return send_file(request, INT64_MAX);
    if (strcmp(path, "/torn") == 0) return send_file(request, 30000);
    if (strcmp(path, "/no-ranges") == 0) return server_reply(socket, 200, NULL, file, sizeof file);
    if (strcmp(path, "/busy") == 0) return server_reply(socket, 429, "Retry-After: 7\r\n", "", 0);
    if (strcmp(path, "/later") == 0) return send_date(request);
    if (strcmp(path, "/broken") == 0) return server_reply(socket, 500, NULL, "oh", 2);
    if (strcmp(path, "/nulls") == 0) return server_reply(socket, 200, NULL, "a\0b\0", 4);
    if (strcmp(path, "/moved") == 0) return server_reply(socket, 302, "Location: /file\r\n", "", 0);
    if (strcmp(path, "/round") == 0) return server_reply(socket, 302, "Location: /round\r\n", "", 0);
    if (strcmp(path, "/disk") == 0) return server_reply(socket, 302, "Location: file:///etc/hostname\r\n", "", 0);
    if (strcmp(path, "/endless") == 0) return send_forever(socket);
    if (strcmp(path, "/garbage") == 0) return server_send(socket, "\x01\x02\xff\r\n\r\n", 7) && false;
    if (strcmp(path, "/stall") == 0) {
        server_send(socket, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 42);
        server_stall(request, 20);
    }
    return false; /* "/hang-up" */
}

static int begin(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof file; i++) file[i] = (char)(i * 7 + i / 256);
    server_start(&server, answer, &seen);
    return 0;
}

static int end(void **state) {
    server_end(&server);
    return test_cleanup(state);
}

static Http *opened(void) {
    Error err = {0};
    Http *http = http_open(&err);
    assert_ok(http != NULL, &err);
    return http;
}

/* The request to that path of the server's; *url is to be freed. */
static bool ask(Http *http, const char *path, HttpRequest request, HttpReply *reply, Error *err) {
    char *url = text_format(NULL, "http://127.0.0.1:%d%s", server.port, path);
    request.url = url;
    *err = (Error){0};
    bool done = http_request(http, &request, reply, err);
    free(url);
    return done;
}

static void post_and_keep_alive(void **state) {
    (void)state;
    Error err;
    HttpReply reply;
    Http *http = opened();
    const char *headers[] = {"Content-Type: application/json", "Authorization: Bearer hush-7f3a", NULL};
    memset(&seen, 0, sizeof seen);
    for (int i = 0; i < 5; i++) {
        HttpRequest request = {.body = "{\"a\":1}", .body_bytes = 7, .headers = headers};
        assert_ok(ask(http, "/echo?x=1", request, &reply, &err), &err);
        assert_int_equal(reply.end, HTTP_WHOLE);
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.content_length, 7);
        assert_string_equal(reply.data, "{\"a\":1}");
        assert_true(reply.retry_after_s < 0);
        http_reply_free(&reply);
    }
    assert_string_equal(seen.body, "POST {\"a\":1}");
    assert_non_null(strstr(seen.head, "Authorization: Bearer hush-7f3a"));
    int sockets = 0;
    for (int i = 0; i < SOCKETS; i++) sockets += seen.sockets[i];
    assert_int_equal(seen.requests, 5);
    assert_int_equal(sockets, 1);
    http_close(http);
}

static void ranges(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int64_t first, last, from;
        size_t bytes;
    } CASES[] = {{"/file", 0, 0, 0, sizeof file},
                 {"/file", 1000, 1999, 1000, 1000},
                 {"/file", 0, 0x3ff, 0, 0x400},
                 {"/file", sizeof file - 3, 0, sizeof file - 3, 3},
                 {"/moved", 500, 0, 500, sizeof file - 500},
                 {"/no-ranges", 1000, 1999, 0, sizeof file}};
    Error err;
    HttpReply reply;
    Http *http = opened();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        HttpRequest request = {.first_byte = CASES[i].first, .last_byte = CASES[i].last};
        assert_ok(ask(http, CASES[i].path, request, &reply, &err), &err);
        assert_int_equal(reply.first_byte, CASES[i].from);
        assert_int_equal(reply.bytes, CASES[i].bytes);
        assert_memory_equal(reply.data, file + reply.first_byte, reply.bytes);
        http_reply_free(&reply);
    }
    assert_ok(ask(http, "/file", (HttpRequest){.first_byte = sizeof file}, &reply, &err), &err);
    assert_int_equal(reply.status, 416);
    assert_false(http_worth_retrying(&reply));
    http_reply_free(&reply);
    http_close(http);
}

/* An answer that is cut again and again is whole after as many requests as it takes. */
static void resumed(void **state) {
    (void)state;
    Error err;
    HttpReply reply;
    Http *http = opened();
    Text got = {0};
    int tries = 0;
    while (got.length < sizeof file && tries++ < 10) {
        bool whole = ask(http, "/torn", (HttpRequest){.first_byte = (int64_t)got.length}, &reply, &err);
        assert_int_equal(whole, sizeof file - got.length <= 30000);
        if (!whole) assert_int_equal(reply.end, HTTP_BROKEN);
        assert_int_equal(http_worth_retrying(&reply), !whole);
        assert_int_equal(reply.first_byte, got.length);
        assert_int_equal(reply.whole_bytes, sizeof file);
        text_add(&got, reply.data, reply.bytes);
        http_reply_free(&reply);
    }
    assert_int_equal(tries, 4);
    assert_memory_equal(got.data, file, sizeof file);
    text_free(&got);
    http_close(http);
}

static void statuses(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int status;
        double least, most; /* Retry-After */
        bool again;
    } CASES[] = {{"/busy", 429, 7, 7, true}, {"/later", 503, 27, 31, true}, {"/broken", 500, -1, -1, true}};
    Error err;
    HttpReply reply;
    Http *http = opened();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_ok(ask(http, CASES[i].path, (HttpRequest){0}, &reply, &err), &err);
        assert_int_equal(reply.status, CASES[i].status);
        assert_true(reply.retry_after_s >= CASES[i].least && reply.retry_after_s <= CASES[i].most);
        assert_int_equal(http_worth_retrying(&reply), CASES[i].again);
        http_reply_free(&reply);
    }
    assert_ok(ask(http, "/nulls", (HttpRequest){0}, &reply, &err), &err);
    assert_int_equal(reply.bytes, 4);
    assert_memory_equal(reply.data, "a\0b\0\0", 5);
    http_reply_free(&reply);
    assert_ok(ask(http, "/moved", (HttpRequest){.body = "x", .body_bytes = 1}, &reply, &err), &err);
    assert_int_equal(reply.status, 302); /* a POST goes nowhere else */
    http_reply_free(&reply);
    http_close(http);
}

static void failures(void **state) {
    (void)state;
    static const struct {
        const char *path, *said;
        HttpRequest request;
        HttpEnd end;
    } CASES[] = {
        {"/hang-up", "127.0.0.1", {0}, HTTP_BROKEN},
        {"/stall", "no byte came for 1 s", {.stall_s = 1}, HTTP_BROKEN},
        {"/stall", "/stall", {.total_s = 0.3}, HTTP_BROKEN},
        {"/garbage", "/garbage", {0}, HTTP_REFUSED},
        {"/file", "longer than 99999 bytes", {.most_bytes = sizeof file - 1}, HTTP_REFUSED},
        {"/endless", "longer than 1000000 bytes", {.most_bytes = 1000000}, HTTP_REFUSED},
        {"/round", "/round", {0}, HTTP_REFUSED},
        {"/disk", "/disk", {0}, HTTP_REFUSED},
    };
    Error err;
    HttpReply reply;
    Http *http = opened();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        double began = clock_seconds();
        assert_false(ask(http, CASES[i].path, CASES[i].request, &reply, &err));
        assert_int_equal(reply.end, CASES[i].end);
        assert_int_equal(err.exit_code, EXIT_FAILED);
        if (!strstr(err.text, CASES[i].said)) fail_msg("%s: %s", CASES[i].path, err.text);
        assert_true(clock_seconds() - began < 5);
        http_reply_free(&reply);
    }
    assert_ok(ask(http, "/file", (HttpRequest){0}, &reply, &err), &err); /* the handle is as good as new */
    assert_int_equal(reply.bytes, sizeof file);
    http_reply_free(&reply);
    http_close(http);
}

static void refused_connection_and_secrets(void **state) {
    (void)state;
    static const char *const URLS[] = {
        "http://user:hush-7f3a@127.0.0.1:1/v1?key=hush-7f3a#hush-7f3a",
        "https://127.0.0.1:1/v1?hush-7f3a",
        "http://127.0.0.1:99999/hush-7f3a",
        "http://hush-7f3a@[::",
    };
    Http *http = opened();
    const char *headers[] = {"Authorization: Bearer hush-7f3a", NULL};
    for (size_t i = 0; i < sizeof URLS / sizeof *URLS; i++) {
        Error err = {0};
        HttpReply reply;
        assert_false(http_request(http, &(HttpRequest){.url = URLS[i], .headers = headers}, &reply, &err));
        assert_null(strstr(err.text, SECRET));
        assert_int_equal(reply.end, i < 2 ? HTTP_BROKEN : HTTP_REFUSED);
        assert_int_equal(reply.status, 0);
        http_reply_free(&reply);
    }
    static const char *const OTHERS[] = {"file:///etc/hostname", "ftp://127.0.0.1/", "127.0.0.1", ""};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        Error err = {0};
        HttpReply reply;
        assert_false(http_request(http, &(HttpRequest){.url = OTHERS[i]}, &reply, &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
        assert_int_equal(reply.end, HTTP_REFUSED);
        http_reply_free(&reply);
    }
    static const char *const SAFE[] = {"https://a.example/v1", "http://localhost:8000/v1", "http://127.0.0.1",
                                       "http://127.3.2.1:1/",  "http://[::1]:80/x",        "HTTPS://a"};
    static const char *const OPEN[] = {"http://a.example/v1",
                                       "http://localhost.a.example",
                                       "http://127.a.example/",
                                       "http://127.0.0.1@a.example/",
                                       "http://10.0.0.1/",
                                       "ftp://a",
                                       "",
                                       "http://"};
    for (size_t i = 0; i < sizeof SAFE / sizeof *SAFE; i++) assert_true(http_keeps_secrets(SAFE[i]));
    for (size_t i = 0; i < sizeof OPEN / sizeof *OPEN; i++) assert_false(http_keeps_secrets(OPEN[i]));
    char *shown = http_url_shown("https://a:b@host.example/v1/x?key=1#f", NULL);
    assert_string_equal(shown, "https://host.example/v1/x");
    free(shown);
    http_close(http);
}

static void *set_soon(void *argument) {
    usleep(100000);
    atomic_store((atomic_bool *)argument, true);
    return NULL;
}

static void stopped(void **state) {
    (void)state;
    Error err;
    HttpReply reply;
    Http *http = opened();
    atomic_bool stop = false;
    pthread_t thread;
    double began = clock_seconds();
    assert_int_equal(pthread_create(&thread, NULL, set_soon, &stop), 0);
    assert_false(ask(http, "/stall", (HttpRequest){.stop = &stop}, &reply, &err));
    pthread_join(thread, NULL);
    assert_int_equal(reply.end, HTTP_STOPPED);
    assert_false(http_worth_retrying(&reply));
    assert_true(clock_seconds() - began < 4);
    http_reply_free(&reply);
    assert_false(retry_wait(10, &stop));
    http_close(http);
}

static void delays(void **state) {
    (void)state;
    RetryPolicy policy = {.tries = 5, .first_s = 0.5, .most_s = 8, .seed = 3}, other = policy;
    other.seed = 4;
    int differ = 0;
    for (uint32_t who = 0; who < 50; who++)
        for (int tried = 1; tried < 70; tried++) {
            double full = tried < 5 ? 0.5 * (1 << (tried - 1)) : 8, delay = retry_delay(&policy, who, tried, -1);
            assert_true(delay >= full / 2 && delay <= full);
            assert_true(delay == retry_delay(&policy, who, tried, -1));
            differ += delay != retry_delay(&other, who, tried, -1) && delay != retry_delay(&policy, who + 1, tried, -1);
            double asked = retry_delay(&policy, who, tried, 20);
            assert_true(asked >= 20 && asked <= 20 + full / 2);
        }
    assert_true(differ > 3400);
    double began = clock_seconds();
    assert_true(retry_wait(0.12, NULL));
    assert_true(clock_seconds() - began >= 0.12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(post_and_keep_alive),
        cmocka_unit_test(ranges),
        cmocka_unit_test(resumed),
        cmocka_unit_test(statuses),
        cmocka_unit_test(failures),
        cmocka_unit_test(refused_connection_and_secrets),
        cmocka_unit_test(stopped),
        cmocka_unit_test(delays),
    };
    return cmocka_run_group_tests_name("http", tests, begin, end);
}
