/* Files are asked for in ranges, so that little memory is taken and little is lost with a connection; a server that
 * ignores ranges sends all, which is held until it has ended, and what is missing is taken. Tries count from the last
 * byte that came. */
#include "data/shards_remote.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double SAID_S = 1; /* shorter waits are nobody's concern */

struct Remote {
    char *folder, *query; /* the URL's parts; the query (a key, perhaps) goes with every file */
    Http *http;
    RetryPolicy retry;
    double stall_s;
    int64_t range_bytes;
    uint32_t downloads; /* begun; gives each its own waits */
    pthread_mutex_t lock;
};

typedef struct Download {
    Remote *remote;
    const char *name;
    char *url, *shown;
    int64_t bytes; /* -1: not known */
    int64_t limit; /* for an unknown size */
    int64_t at;    /* bytes that came */
    Text *text;    /* where they go: here, or else */
    int fd;
    const atomic_bool *stop;
    bool whole, final; /* all came; asking again is of no use */
    double asked_s;    /* the wait that the server's last answer asked for; negative: none */
} Download;

Remote *remote_open(const char *url, const ShardCacheOptions *options, Error *err) {
    Remote *remote = memory_new(1, sizeof *remote, err);
    if (!remote) return NULL;
    size_t length = strcspn(url, "?#");
    size_t folder = length;
    while (folder > 0 && url[folder - 1] == '/') folder--;
    pthread_mutex_init(&remote->lock, NULL);
    remote->retry = options->retry;
    remote->stall_s = options->stall_s;
    remote->range_bytes = options->range_bytes;
    remote->folder = text_format(err, "%.*s", (int)folder, url);
    remote->query = text_format(err, "%.*s", (int)strcspn(url + length, "#"), url + length);
    remote->http = http_open(err);
    if (remote->folder && remote->query && remote->http) return remote;
    remote_close(remote);
    return NULL;
}

void remote_close(Remote *remote) {
    if (!remote) return;
    http_close(remote->http);
    pthread_mutex_destroy(&remote->lock);
    free(remote->folder);
    free(remote->query);
    free(remote);
}

/* ---- one answer ---- */

static bool put(Download *download, const char *data, int64_t size, Error *err) {
    if (download->text) text_add(download->text, data, (size_t)size);
    for (int64_t done = 0; !download->text && done < size;) {
        ssize_t wrote = pwrite(download->fd, data + done, (size_t)(size - done), download->at + done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            download->final = true;
            return fail(err, "%s: cannot be written into the cache: %s", download->name, strerror(errno));
        }
        done += wrote;
    }
    download->at += size;
    return true;
}

static bool wrong_size(const Download *download, int64_t found, Error *err) {
    return fail(err, "%s: has %" PRId64 " bytes on the server where %" PRId64 " were written", download->shown, found,
                download->bytes);
}

/* Takes what is new in an answer, a broken one's too. */
static bool take(Download *download, const HttpReply *reply, Error *err) {
    bool known = download->bytes >= 0, all = reply->status == 200, complete = reply->end == HTTP_WHOLE;
    int64_t end = reply->first_byte + (int64_t)reply->bytes, before = download->at;
    int64_t said = all ? reply->content_length : reply->whole_bytes;
    if (known && said >= 0 && said != download->bytes) return wrong_size(download, said, err);
    if (known && end > download->bytes) return wrong_size(download, end, err);
    if (reply->first_byte <= before && end > before &&
        !put(download, reply->data + (before - reply->first_byte), end - before, err))
        return false;
    if (known)
        download->whole = download->at == download->bytes;
    else
        download->whole = complete && (all || said < 0 || download->at == said);
    if (download->whole || download->at > before || !complete) return true;
    return all ? wrong_size(download, end, err)
               : fail(err, "%s: the server sends other bytes than it was asked for", download->shown);
}

/* One request. A false one's error stays with the last try. */
static bool ask(Download *download, Error *err) {
    HttpRequest request = {.url = download->url, .stall_s = download->remote->stall_s, .stop = download->stop};
    request.first_byte = download->at;
    request.most_bytes = (size_t)(download->bytes >= 0 ? download->bytes : download->limit);
    if (download->bytes > download->remote->range_bytes) {
        int64_t last = download->at + download->remote->range_bytes - 1;
        request.last_byte = last < download->bytes ? last : download->bytes - 1;
    }
    HttpReply reply;
    bool ok = http_request(download->remote->http, &request, &reply, err);
    download->asked_s = fmin(reply.retry_after_s, download->remote->retry.most_s);
    if (reply.status == 200 || reply.status == 206) {
        Error taking = {0};
        bool taken = take(download, &reply, &taking);
        if (!taken) *err = taking;
        ok = ok && taken;
    } else if (ok) {
        ok = fail(err, "%s: the server answers with status %d", download->shown, reply.status);
        /* The index lists what is to be there: a store that says it is not may be behind. */
        if (download->bytes < 0 && !http_worth_retrying(&reply)) download->final = true;
    }
    if (reply.end == HTTP_STOPPED || (reply.end == HTTP_REFUSED && reply.status == 0)) download->final = true;
    http_reply_free(&reply);
    return ok;
}

/* ---- until all is there ---- */

static bool download_all(Download *download, Error *err) {
    const RetryPolicy *retry = &download->remote->retry;
    uint32_t who = download->remote->downloads++;
    for (int tried = 0; !download->whole;) {
        Error error = {0};
        int64_t before = download->at;
        if (download->stop && atomic_load(download->stop)) return fail(err, "%s: stopped on request", download->shown);
        if (ask(download, &error)) continue;
        tried = download->at > before ? 1 : tried + 1;
        if (download->final || tried >= retry->tries) {
            if (err && err->exit_code == EXIT_DONE) *err = error;
            return download->final || fail_in(err, "after %d tries", tried);
        }
        double wait = retry_delay(retry, who, tried, download->asked_s);
        if (wait >= SAID_S) fprintf(stderr, "\n%s; trying again in %.0f s\n", error.text, wait);
        retry_wait(wait, download->stop);
    }
    return true;
}

static bool run(Download *download, Error *err) {
    Remote *remote = download->remote;
    download->url = text_format(err, "%s/%s%s", remote->folder, download->name, remote->query);
    download->shown = download->url ? http_url_shown(download->url, err) : NULL;
    pthread_mutex_lock(&remote->lock);
    bool ok = download->shown && download_all(download, err);
    pthread_mutex_unlock(&remote->lock);
    free(download->url);
    free(download->shown);
    return ok;
}

char *remote_read(Remote *remote, const char *name, size_t limit, size_t *size, Error *err) {
    Text text = {0};
    Download download = {.remote = remote, .name = name, .bytes = -1, .limit = (int64_t)limit, .text = &text, .fd = -1};
    if (!run(&download, err)) {
        text_free(&text);
        return NULL;
    }
    text_add(&text, "", 0);
    *size = text.length;
    return text_finish(&text, err);
}

bool remote_fetch(Remote *remote, const char *name, int64_t bytes, int fd, const atomic_bool *stop, Error *err) {
    Download download = {.remote = remote, .name = name, .bytes = bytes, .fd = fd, .stop = stop, .whole = bytes == 0};
    return run(&download, err);
}
