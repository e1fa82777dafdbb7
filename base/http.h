/* HTTP through libcurl: one request at a time on a handle that keeps its connection, for POST with an answer
 * in memory and for GET of byte ranges. A handle belongs to one thread. */
#ifndef SEMOLLM_BASE_HTTP_H
#define SEMOLLM_BASE_HTTP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Http Http;

typedef struct HttpRequest {
    const char *url;            /* http:// or https:// */
    const char *const *headers; /* "Name: value", ended by a null; null: none. They never show in an error */
    const char *body;           /* null: GET */
    size_t body_bytes;
    int64_t first_byte, last_byte; /* GET only: the range wanted; last_byte 0: to the end */
    double connect_s;              /* 0: 30 s */
    double stall_s;    /* no byte for so long, the wait for the first included (noticed within a second); 0: for ever */
    double total_s;    /* 0: for ever */
    size_t most_bytes; /* a longer answer is refused; 0: 64 MiB */
    const atomic_bool *stop; /* may be null; looked at about once a second while nothing comes */
} HttpRequest;

typedef enum HttpEnd {
    HTTP_WHOLE,   /* an answer of any status, all of it */
    HTTP_BROKEN,  /* no connection, a stall, a time-out, an answer cut short: worth another try */
    HTTP_REFUSED, /* a longer answer than may be, a wrong URL, a bad certificate: not worth one */
    HTTP_STOPPED, /* *stop was set */
} HttpEnd;

typedef struct HttpReply {
    HttpEnd end;
    int status;             /* 0: none came */
    double retry_after_s;   /* negative: the server named no time */
    int64_t content_length; /* -1: not said */
    int64_t first_byte;     /* where `data` begins in the resource: 0 where the server sent all of it instead */
    int64_t whole_bytes;    /* of the resource, as a range's answer says; -1: not said */
    char *data;             /* what arrived, if the answer is cut short too; a null after it */
    size_t bytes;
} HttpReply;

Http *http_open(Error *err);
void http_close(Http *http);

/* True for HTTP_WHOLE, whatever the status; else the error says what happened, and `reply` how it ended and what
 * came. Redirects of a GET are followed, five at most and never from https to http. Free the reply either way. */
bool http_request(Http *http, const HttpRequest *request, HttpReply *reply, Error *err);
void http_reply_free(HttpReply *reply);

/* Whether asking again may help: a broken connection, a server in trouble (5xx) or too busy (408, 425, 429). */
bool http_worth_retrying(const HttpReply *reply);

/* Whether nobody between can read what is sent there: over HTTPS, or to this machine itself. */
bool http_keeps_secrets(const char *url);

/* A URL as it may be shown: without user, password, query and fragment; free() it. */
char *http_url_shown(const char *url, Error *err);

#endif
