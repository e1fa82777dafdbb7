/* What tests/http_server.h answers where it stands for a store of shards: a folder's files, whole or in ranges, well or
 * with faults of many kinds. */
#ifndef SEMOLLM_TESTS_SHARD_SERVER_H
#define SEMOLLM_TESTS_SHARD_SERVER_H

#include "base/rng.h"
#include "tests/http_server.h"

enum { STORE_FILES = 64 };

typedef enum Fault {
    FAULT_NONE,
    FAULT_DROP,  /* the connection ends in the middle of the body */
    FAULT_CLOSE, /* or before an answer */
    FAULT_STALL, /* it falls silent in the middle of the body */
    FAULT_500,
    FAULT_404,
    FAULT_BUSY,  /* with a time to come back that would be too long to wait */
    FAULT_SHORT, /* a shorter file, by its headers too */
    FAULT_LONG,
    FAULT_IGNORE_RANGE, /* all of the file whatever was asked for */
    FAULT_OTHER_RANGE,  /* another part of it than was asked for */
    FAULT_FLIP,         /* one wrong bit */
    FAULT_KINDS,
} Fault;

typedef struct Store { /* what is served, and how */
    char folder[200];  /* its files are http://127.0.0.1:PORT/a/b/NAME?key=secret */
    unsigned faults;   /* a set of faults to choose from */
    int period;        /* every so many requests, one of them; 1: each */
    const char *only;  /* faults for this name alone; null: any file but the index */
    pthread_mutex_t lock;
    uint32_t requests;
    atomic_int hits[FAULT_KINDS];
    int gets[STORE_FILES]; /* of each shard, from its beginning */
    int index_gets, manifest_gets;
} Store;

static inline Fault store_choose(Store *store, const char *name) {
    pthread_mutex_lock(&store->lock);
    bool hit = store->only ? strcmp(name, store->only) == 0 : strcmp(name, "index.json") != 0;
    uint32_t number = store->requests++;
    unsigned faults = hit && number % (uint32_t)store->period == 0 ? store->faults : 0;
    pthread_mutex_unlock(&store->lock);
    if (!faults) return FAULT_NONE;
    Rng rng = rng_stream(1, 95, number, 0);
    Fault fault = FAULT_NONE;
    while (!(faults >> fault & 1u)) fault = (Fault)rng_below(&rng, FAULT_KINDS);
    atomic_fetch_add(&store->hits[fault], 1);
    return fault;
}

static inline void store_count(Store *store, const char *name, int64_t first) {
    unsigned number;
    pthread_mutex_lock(&store->lock);
    if (strcmp(name, "index.json") == 0)
        store->index_gets++;
    else if (strcmp(name, "samples.jsonl.zst") == 0)
        store->manifest_gets++;
    else if (sscanf(name, "data-%6u.tar.zst", &number) == 1 && number < STORE_FILES && first <= 0)
        store->gets[number]++;
    pthread_mutex_unlock(&store->lock);
}

/* Sends [first, last] of `data`, as the fault has it. */
static inline bool store_send(const ServerRequest *request, char *data, int64_t size, int64_t first, int64_t last,
                              Fault fault) {
    char head[300];
    bool part = request->first_byte >= 0 && fault != FAULT_IGNORE_RANGE;
    if (fault == FAULT_SHORT) size -= size / 3;
    if (fault == FAULT_LONG) size += 100;
    if (!part) first = 0;
    if (!part || last >= size) last = size - 1;
    if (fault == FAULT_OTHER_RANGE && part) first += first < last;
    if (first > last) return server_reply(request->socket, 416, NULL, "", 0);
    int64_t count = last - first + 1, sent = count;
    if (fault == FAULT_DROP || fault == FAULT_STALL) sent = (count + 2) / 3;
    if (fault == FAULT_FLIP) data[first + count / 2] ^= 8;
    int length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %lld\r\n", part ? "206 Part" : "200 OK",
                          (long long)count);
    if (part)
        length += snprintf(head + length, sizeof head - (size_t)length, "Content-Range: bytes %lld-%lld/%lld\r\n",
                           (long long)first, (long long)last, (long long)size);
    length += snprintf(head + length, sizeof head - (size_t)length, "\r\n");
    if (!server_send(request->socket, head, (size_t)length) ||
        !server_send(request->socket, data + first, (size_t)sent))
        return false;
    if (fault == FAULT_STALL) server_sleep(request->stop, 3);
    return sent == count;
}

static inline bool store_answer(void *context, const ServerRequest *request) {
    Store *store = context;
    char path[400], name[100];
    int end = 0;
    if (sscanf(request->path, "/a/b/%99[^/?]?key=secret%n", name, &end) != 1 || request->path[end])
        return server_reply(request->socket, 403, NULL, "", 0);
    snprintf(path, sizeof path, "%s/%s", store->folder, name);
    Fault fault = store_choose(store, name);
    store_count(store, name, request->first_byte);
    if (fault == FAULT_CLOSE) return false;
    if (fault == FAULT_BUSY) return server_reply(request->socket, 429, "Retry-After: 3600\r\n", "", 0);
    if (fault == FAULT_500) return server_reply(request->socket, 500, NULL, "oh", 2);
    FILE *file = fault == FAULT_404 ? NULL : fopen(path, "rb");
    if (!file) return server_reply(request->socket, 404, NULL, "no", 2);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *data = calloc((size_t)size + 100, 1);
    bool ok = fread(data, 1, (size_t)size, file) == (size_t)size;
    int64_t last = request->last_byte >= 0 ? request->last_byte : INT64_MAX;
    ok = ok && store_send(request, data, size, request->first_byte, last, fault);
    fclose(file);
    free(data);
    return ok;
}

#endif
