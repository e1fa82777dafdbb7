#include "base/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/memory.h"
#include "base/progress.h"

enum { REDIRECTS_MOST = 5, CONNECT_DEFAULT_S = 30 };
static const size_t MOST_DEFAULT = (size_t)64 << 20;

struct Http {
    CURL *curl;
};

/* One request under way. */
typedef struct Transfer {
    const HttpRequest *request;
    HttpReply *reply;
    Text body;
    size_t most;
    bool too_long, stopped, stalled;
    curl_off_t moved; /* bytes up and down so far, and when that last changed */
    double moved_at;
    char why[CURL_ERROR_SIZE];
} Transfer;

/* --- a handle --- */

static void start_library(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

Http *http_open(Error *err) {
    /* Once a process, by the library's own rule: before version 7.84 it is not safe among threads. */
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_library);
    Http *http = memory_new(1, sizeof *http, err);
    if (!http) return NULL;
    http->curl = curl_easy_init();
    if (http->curl) return http;
    free(http);
    fail(err, "libcurl could not be started");
    return NULL;
}

void http_close(Http *http) {
    if (!http) return;
    curl_easy_cleanup(http->curl);
    free(http);
}

void http_reply_free(HttpReply *reply) {
    free(reply->data);
    *reply = (HttpReply){0};
}

/* --- what comes in --- */

static size_t take_body(char *data, size_t size, size_t count, void *context) {
    Transfer *transfer = context;
    size_t bytes = size * count;
    transfer->too_long = bytes > transfer->most - transfer->body.length;
    if (transfer->too_long) return 0;
    text_add(&transfer->body, data, bytes);
    return transfer->body.failed ? 0 : bytes;
}

/* "Content-Range: bytes 100-199/1234", or "*" for a size that is not known. */
static void take_range(HttpReply *reply, const char *value) {
    int64_t first, last, whole;
    int found = sscanf(value, " bytes %" SCNd64 "-%" SCNd64 "/%" SCNd64, &first, &last, &whole);
    if (found >= 2 && first >= 0) reply->first_byte = first;
    if (found == 3 && whole >= 0) reply->whole_bytes = whole;
}

static size_t take_header(char *data, size_t size, size_t count, void *context) {
    static const char STATUS[] = "HTTP/", RANGE[] = "Content-Range:";
    Transfer *transfer = context;
    size_t bytes = size * count;
    char line[256]; /* lines do not end in a null */
    size_t kept = bytes < sizeof line - 1 ? bytes : sizeof line - 1;
    memcpy(line, data, kept);
    line[kept] = '\0';
    if (strncmp(line, STATUS, sizeof STATUS - 1) == 0) { /* of a redirect, an interim or the last answer */
        transfer->reply->first_byte = 0;
        transfer->reply->whole_bytes = -1;
    }
    if (strncasecmp(line, RANGE, sizeof RANGE - 1) == 0) take_range(transfer->reply, line + sizeof RANGE - 1);
    return bytes;
}

/* libcurl's own limit on low speed looks at some seconds' average: after a burst it notices a stall late. */
static int look_around(void *context, curl_off_t to_come, curl_off_t down, curl_off_t to_go, curl_off_t up) {
    Transfer *transfer = context;
    const HttpRequest *request = transfer->request;
    (void)to_come, (void)to_go;
    if (down + up != transfer->moved) {
        transfer->moved = down + up;
        transfer->moved_at = clock_seconds();
    }
    transfer->stopped = request->stop && atomic_load(request->stop);
    transfer->stalled = request->stall_s > 0 && clock_seconds() - transfer->moved_at >= request->stall_s;
    return transfer->stopped || transfer->stalled;
}

/* --- asking --- */

static bool begins(const char *url, const char *scheme) { return strncasecmp(url, scheme, strlen(scheme)) == 0; }

static bool known_scheme(const char *url, Error *err) {
    if (begins(url, "http://") || begins(url, "https://")) return true;
    return fail_usage(err, "an address must begin with http:// or https://, and \"%.20s\" does not", url);
}

static void allow_protocols(CURL *curl, bool secure) {
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS,
                     (long)(secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void set_times(CURL *curl, const HttpRequest *request) {
    double connect_s = request->connect_s > 0 ? request->connect_s : CONNECT_DEFAULT_S;
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect_s * 1000));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(request->total_s * 1000));
}

static void set_method(CURL *curl, const HttpRequest *request) {
    char range[64];
    if (request->body) {
        /* A POST is not sent anywhere else than where the user said: it may carry a key. */
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
        return;
    }
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MOST);
    if (request->first_byte <= 0 && request->last_byte <= 0) return;
    snprintf(range, sizeof range, "%" PRId64 "-", request->first_byte);
    if (request->last_byte > 0) snprintf(range + strlen(range), 32, "%" PRId64, request->last_byte);
    curl_easy_setopt(curl, CURLOPT_RANGE, range); /* copied */
}

/* Certificates of an authority of one's own, from where the curl program takes them, too. */
static void set_authorities(CURL *curl) {
    const char *file = getenv("CURL_CA_BUNDLE");
    if (!file || !*file) file = getenv("SSL_CERT_FILE");
    if (file && *file) curl_easy_setopt(curl, CURLOPT_CAINFO, file);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
}

static void set_transfer(CURL *curl, Transfer *transfer) {
    curl_easy_setopt(curl, CURLOPT_URL, transfer->request->url);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "semollm");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)transfer->most);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_around);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
}

static bool add_header(struct curl_slist **list, const char *header, Error *err) {
    struct curl_slist *longer = curl_slist_append(*list, header);
    if (longer) *list = longer;
    return longer || fail(err, "out of memory while writing an HTTP request");
}

static bool make_headers(const HttpRequest *request, struct curl_slist **list, Error *err) {
    /* Without it some servers are waited for a second before a long body. */
    bool done = add_header(list, "Expect:", err);
    for (const char *const *header = request->headers; done && header && *header; header++)
        done = add_header(list, *header, err);
    return done;
}

/* A peer that hangs up raises SIGPIPE in TLS's writes; it is this thread's alone to swallow. */
static CURLcode perform(CURL *curl) {
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    CURLcode code = curl_easy_perform(curl);
    while (!sigismember(&before, SIGPIPE) && sigtimedwait(&pipe_signal, NULL, &(struct timespec){0}) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* --- how it ended --- */

static HttpEnd end_of(const Transfer *transfer, CURLcode code) {
    if (code == CURLE_OK) return HTTP_WHOLE;
    if (transfer->stopped) return HTTP_STOPPED;
    if (transfer->stalled) return HTTP_BROKEN;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST: /* often for a moment only */
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return HTTP_BROKEN;
    default:
        return HTTP_REFUSED;
    }
}

static void take_numbers(CURL *curl, HttpReply *reply) {
    long status = 0;
    curl_off_t length = -1, wait = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait); /* in seconds, an HTTP date turned into them */
    reply->status = (int)status;
    reply->content_length = (int64_t)length;
    reply->retry_after_s = wait > 0 ? (double)wait : -1;
}

static bool report(const Transfer *transfer, CURLcode code, Error *err) {
    if (code == CURLE_OK) return true;
    char *url = http_url_shown(transfer->request->url, NULL);
    const char *shown = url ? url : "a URL", *why = *transfer->why ? transfer->why : curl_easy_strerror(code);
    if (transfer->stopped) {
        fail(err, "%s: stopped on request", shown);
    } else if (transfer->stalled) {
        fail(err, "%s: no byte came for %g s", shown, transfer->request->stall_s);
    } else if (transfer->too_long || code == CURLE_FILESIZE_EXCEEDED) {
        fail(err, "%s: the answer is longer than %zu bytes", shown, transfer->most);
    } else if (transfer->body.failed) {
        fail(err, "%s: out of memory after %zu bytes", shown, transfer->body.length);
    } else if (code == CURLE_URL_MALFORMAT) {
        fail_usage(err, "%s: %s", shown, why);
    } else {
        fail(err, "%s: %s", shown, why);
    }
    free(url);
    return false;
}

bool http_request(Http *http, const HttpRequest *request, HttpReply *reply, Error *err) {
    CURL *curl = http->curl;
    Transfer transfer = {.request = request,
                         .reply = reply,
                         .most = request->most_bytes ? request->most_bytes : MOST_DEFAULT,
                         .moved_at = clock_seconds()};
    struct curl_slist *headers = NULL;
    *reply = (HttpReply){.end = HTTP_REFUSED, .retry_after_s = -1, .content_length = -1, .whole_bytes = -1};
    if (!known_scheme(request->url, err) || !make_headers(request, &headers, err)) {
        curl_slist_free_all(headers);
        return false;
    }
    curl_easy_reset(curl); /* all options; the connection stays */
    set_transfer(curl, &transfer);
    allow_protocols(curl, begins(request->url, "https:"));
    set_authorities(curl);
    set_times(curl, request);
    set_method(curl, request);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = perform(curl);
    take_numbers(curl, reply);
    curl_slist_free_all(headers);
    text_add(&transfer.body, "", 0); /* an empty answer is an empty text */
    if (code == CURLE_OK && transfer.body.failed) code = CURLE_OUT_OF_MEMORY;
    reply->end = end_of(&transfer, code);
    bool done = report(&transfer, code, err);
    reply->bytes = transfer.body.length;
    reply->data = transfer.body.data;
    return done;
}

bool http_worth_retrying(const HttpReply *reply) {
    if (reply->end != HTTP_WHOLE) return reply->end == HTTP_BROKEN;
    int status = reply->status;
    return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

static bool is_here(const char *host) {
    struct in_addr address;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0) return true;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

bool http_keeps_secrets(const char *url) {
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL;
    bool safe = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                (strcmp(scheme, "https") == 0 || is_here(host));
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parts);
    return safe;
}

char *http_url_shown(const char *url, Error *err) {
    static const CURLUPart SECRET[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_QUERY,
                                       CURLUPART_FRAGMENT};
    CURLU *parts = curl_url();
    char *clean = NULL, *shown;
    if (parts && curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK) {
        for (size_t i = 0; i < sizeof SECRET / sizeof *SECRET; i++) curl_url_set(parts, SECRET[i], NULL, 0);
        curl_url_get(parts, CURLUPART_URL, &clean, 0);
    }
    /* What is no URL may still hold a key somewhere. */
    shown = text_copy(clean ? clean : "what was given as a URL", err);
    curl_free(clean);
    curl_url_cleanup(parts);
    return shown;
}
