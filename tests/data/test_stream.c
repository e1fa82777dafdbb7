/* Shards behind a server that behaves well, badly, or lies: the loader hands out what it hands out from a folder. */
#include "tests/data/corpus.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/shard_server.h"

enum { CLIPS = 160, SHARD_BYTES = 24000 };

/* ---- a corpus in a folder and on a server ---- */

typedef struct Place {
    char *folder;
    Shards *local;
    Store store;
    Server server;
    char url[100];
} Place;

static int setup(void **state) {
    static Place place;
    Error err = {0};
    place.folder = test_path("corpus");
    corpus_write(place.folder, CLIPS, SHARD_BYTES);
    place.local = shards_open(place.folder, &err);
    assert_ok(place.local != NULL, &err);
    assert_in_range(shards_files(place.local), 8, STORE_FILES);
    pthread_mutex_init(&place.store.lock, NULL);
    snprintf(place.store.folder, sizeof place.store.folder, "%s", place.folder);
    *state = &place;
    return 0;
}

static int teardown(void **state) {
    Place *place = *state;
    shards_close(place->local);
    free(place->folder);
    return test_cleanup(state);
}

/* A server for each test: it counts its connections, and a broken answer costs one. */
static int serve(void **state) {
    Place *place = *state;
    server_start(&place->server, store_answer, &place->store);
    snprintf(place->url, sizeof place->url, "http://127.0.0.1:%d/a/b/?key=secret", place->server.port);
    return 0;
}

static int serve_no_more(void **state) {
    server_end(&((Place *)*state)->server);
    return 0;
}

static void reset(Place *place, unsigned faults, int period, const char *only) {
    Store *store = &place->store;
    pthread_mutex_lock(&store->lock);
    memset(store->gets, 0, sizeof store->gets);
    store->index_gets = store->manifest_gets = 0;
    store->requests = 0;
    for (int fault = 0; fault < FAULT_KINDS; fault++) atomic_store(&store->hits[fault], 0);
    store->faults = faults;
    store->period = period;
    store->only = only;
    pthread_mutex_unlock(&store->lock);
}

/* Room for `shards` shards of the largest size, in a folder of this name. */
static ShardCacheOptions cache_of(const Place *place, const char *name, int shards) {
    ShardCacheOptions cache = shard_cache_default();
    int64_t largest = 0;
    for (size_t i = 0; i < shards_files(place->local); i++)
        if (shards_file_bytes(place->local, i) > largest) largest = shards_file_bytes(place->local, i);
    cache.folder = test_path(name);
    cache.bytes = shards * largest;
    cache.range_bytes = 9000;
    cache.retry = (RetryPolicy){.tries = 6, .first_s = 0.001, .most_s = 0.01};
    cache.stall_s = 1;
    return cache;
}

static void cache_end(ShardCacheOptions *cache) {
    folder_remove(cache->folder, NULL);
    free((void *)(uintptr_t)cache->folder);
}

static Shards *open_remote(const Place *place, const ShardCacheOptions *cache) {
    Error err = {0};
    Shards *shards = shards_open_cached(place->url, cache, &err);
    assert_ok(shards != NULL, &err);
    assert_int_equal(shards_hash(shards), shards_hash(place->local));
    return shards;
}

typedef struct Reading { /* an epoch's order and how it is read */
    uint32_t chosen[CLIPS], order[CLIPS];
    LoaderOptions options;
} Reading;

static void plan(const Place *place, Reading *reading, int window) {
    Error err = {0};
    for (uint32_t i = 0; i < CLIPS; i++) reading->chosen[i] = i;
    reading->options = (LoaderOptions){.chosen = reading->chosen,
                                       .chosen_count = CLIPS,
                                       .shuffle = true,
                                       .shuffle_shards = window,
                                       .seed = 9,
                                       .threads = 3,
                                       .ahead = 10,
                                       .audio = true};
    assert_ok(order_make(place->local, &reading->options, 1, reading->order, &err), &err);
}

/* Samples of a folder and of a server side by side, from position `from` on. Writes what is wrong to stderr: it runs in
 * child processes too. */
static bool same_samples(const Shards *local, const Shards *remote, const Reading *reading, size_t from, Error *err) {
    Loader *one = loader_open(local, &reading->options, err), *two = loader_open(remote, &reading->options, err);
    bool same = one && two && loader_start(one, reading->order + from, CLIPS - from, err) &&
                loader_start(two, reading->order + from, CLIPS - from, err);
    for (size_t i = from; same && i < CLIPS; i++) {
        Sample a = {0}, b = {0};
        same = loader_next(one, &a, err) && loader_next(two, &b, err);
        if (same && (a.index != reading->order[i] || b.index != a.index || a.audio.count != b.audio.count ||
                     strcmp(a.utterance->id, b.utterance->id) != 0 ||
                     memcmp(a.audio.samples, b.audio.samples, (size_t)a.audio.count * sizeof(float)) != 0))
            same = (fail)(err, "position %zu differs", i);
        sample_free(&a);
        sample_free(&b);
    }
    loader_close(one);
    loader_close(two);
    return same;
}

static void assert_same(const Place *place, const ShardCacheOptions *cache, const Reading *reading) {
    Error err = {0};
    Shards *remote = open_remote(place, cache);
    assert_ok(same_samples(place->local, remote, reading, 0, &err), &err);
    shards_close(remote);
}

static void assert_gets(const Place *place, int least, int most) {
    for (size_t i = 0; i < shards_files(place->local); i++) assert_in_range(place->store.gets[i], least, most);
}

static int64_t bytes_in(const char *folder) {
    Names names;
    int64_t sum = 0;
    if (!folder_list(folder, &names, NULL)) return 0;
    for (size_t i = 0; i < names.count; i++) {
        struct stat status;
        char *path = path_join(folder, names.items[i], NULL);
        if (stat(path, &status) == 0) sum += S_ISDIR(status.st_mode) ? bytes_in(path) : status.st_size;
        free(path);
    }
    names_free(&names);
    return sum;
}

/* ---- tests ---- */

/* In an order that keeps to few shards, a cache that holds them fetches each once an epoch. */
static void test_each_shard_is_fetched_once(void **state) {
    Place *place = *state;
    static const int WINDOWS[][2] = {{1, 3}, {4, 8}, {0, STORE_FILES}};
    for (size_t i = 0; i < sizeof WINDOWS / sizeof *WINDOWS; i++) {
        ShardCacheOptions cache = cache_of(place, "once", WINDOWS[i][1]);
        Reading reading;
        plan(place, &reading, WINDOWS[i][0]);
        reading.options.ahead = 64; /* samples of more shards than the smallest cache holds */
        reset(place, 0, 1, NULL);
        assert_same(place, &cache, &reading);
        assert_gets(place, 1, 1);
        assert_int_equal(place->store.index_gets, 1);
        assert_int_equal(place->store.manifest_gets, 1);
        assert_true(bytes_in(cache.folder) <= cache.bytes);
        cache_end(&cache);
    }
}

/* With less room than the order wants, more is fetched, and the same comes out. */
static void test_least_cache(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "least", 2);
    Reading reading;
    plan(place, &reading, 0);
    reset(place, 0, 1, NULL);
    assert_same(place, &cache, &reading);
    assert_true(bytes_in(cache.folder) <= cache.bytes);
    cache.bytes--;
    Error err = {0};
    assert_null(shards_open_cached(place->url, &cache, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    assert_non_null(strstr(err.text, "data.cache_gib"));
    assert_null(strstr(err.text, "secret"));
    cache_end(&cache);
}

/* Each fault in a third of all answers, then all of them mixed. */
static void test_faults(void **state) {
    Place *place = *state;
    Reading reading;
    plan(place, &reading, 3);
    for (int fault = FAULT_DROP; fault <= FAULT_KINDS; fault++) {
        unsigned mixed = (1u << FAULT_KINDS) - 2;
        ShardCacheOptions cache = cache_of(place, "faults", 5);
        cache.retry.tries = 20;
        bool flips = fault == FAULT_FLIP || fault == FAULT_KINDS; /* two in a row would end it */
        reset(place, fault == FAULT_KINDS ? mixed : 1u << fault, flips ? 11 : fault == FAULT_STALL ? 20 : 3, NULL);
        assert_same(place, &cache, &reading);
        if (fault < FAULT_KINDS) assert_true(atomic_load(&place->store.hits[fault]) > 0);
        cache_end(&cache);
    }
}

/* What counts is that something came: three tries are enough for a server that never sends an answer to its end. */
static void test_every_answer_breaks_off(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "breaks", 5);
    Error err = {0};
    cache.retry.tries = 3;
    reset(place, 1u << FAULT_DROP, 1, NULL);
    Shards *remote = open_remote(place, &cache);
    Audio a, b;
    assert_ok(shards_read(remote, 50, &a, &err) && shards_read(place->local, 50, &b, &err), &err);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.samples, b.samples, (size_t)a.count * sizeof(float));
    assert_true(atomic_load(&place->store.hits[FAULT_DROP]) > 20);
    audio_free(&a);
    audio_free(&b);
    shards_close(remote);
    cache_end(&cache);
}

/* A shard that comes again is not what goes, long though it was not used, when one that does not come again could. */
static void test_what_comes_again_stays(void **state) {
    Place *place = *state;
    static const uint32_t SHARDS[] = {0, 1, 1, 1, 2, 0, 3, 4, 5};
    enum { COUNT = sizeof SHARDS / sizeof *SHARDS };
    ShardCacheOptions cache = cache_of(place, "again", 4);
    Reading reading;
    Error err = {0};
    uint32_t order[COUNT];
    plan(place, &reading, 0);
    reading.options.threads = reading.options.ahead = 1;
    for (int i = 0; i < COUNT; i++) {
        order[i] = 0;
        while (shards_file_of(place->local, order[i]) != SHARDS[i]) order[i]++;
    }
    reset(place, 0, 1, NULL);
    Shards *remote = open_remote(place, &cache);
    Loader *loader = loader_open(remote, &reading.options, &err);
    assert_ok(loader && loader_start(loader, order, COUNT, &err), &err);
    for (int i = 0; i < COUNT; i++) {
        Sample sample;
        usleep(40000); /* the next ones are brought near meanwhile */
        assert_ok(loader_next(loader, &sample, &err), &err);
        sample_free(&sample);
    }
    for (int i = 0; i < 6; i++) assert_int_equal(place->store.gets[i], 1);
    loader_close(loader);
    shards_close(remote);
    cache_end(&cache);
}

/* A run that goes on at any position, with what an earlier one left in the cache. */
static void test_goes_on_anywhere(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "anywhere", 4);
    Reading reading;
    Error err = {0};
    plan(place, &reading, 2);
    reset(place, 0, 1, NULL);
    Shards *remote = open_remote(place, &cache);
    for (size_t from = 0; from < CLIPS; from += 23)
        assert_ok(same_samples(place->local, remote, &reading, from, &err), &err);
    shards_close(remote);
    cache_end(&cache);
}

static char *cached_path(const Place *place, const ShardCacheOptions *cache, const char *name) {
    return text_format(NULL, "%s/%016llx/%s", cache->folder, (unsigned long long)shards_hash(place->local), name);
}

/* What an earlier run fetched serves the next; what rotted meanwhile is found and fetched anew. */
static void test_cache_survives(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "survives", STORE_FILES);
    Reading reading;
    Error err = {0};
    plan(place, &reading, 0);
    reset(place, 0, 1, NULL);
    assert_same(place, &cache, &reading);
    reset(place, 0, 1, NULL);
    assert_same(place, &cache, &reading);
    assert_gets(place, 0, 0);
    assert_int_equal(place->store.manifest_gets, 0);
    assert_int_equal(place->store.index_gets, 1);
    static const char *const DAMAGED[] = {"data-000002.tar.zst", "samples.jsonl.zst", "data-000004.tar.zst"};
    for (int i = 0; i < 3; i++) {
        size_t size;
        char *path = cached_path(place, &cache, DAMAGED[i]), *data = file_read(path, 1 << 24, &size, &err);
        assert_ok(data != NULL, &err);
        if (i == 2)
            size /= 2;
        else
            data[size / 2] ^= 1;
        assert_ok(file_write(path, data, size, &err), &err);
        free(data);
        free(path);
    }
    assert_same(place, &cache, &reading);
    assert_int_equal(place->store.gets[2], 1);
    assert_int_equal(place->store.gets[4], 1);
    assert_int_equal(place->store.gets[3], 0);
    assert_int_equal(place->store.manifest_gets > 0, 1);
    cache_end(&cache);
}

/* Another set of shards at the same address does not mix with what is in the cache. */
static void test_changed_set(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "changed", STORE_FILES);
    Reading reading;
    Error err = {0};
    plan(place, &reading, 0);
    reset(place, 0, 1, NULL);
    assert_same(place, &cache, &reading);
    char *other = test_path("other");
    corpus_write(other, CLIPS - 1, SHARD_BYTES);
    snprintf(place->store.folder, sizeof place->store.folder, "%s", other);
    Shards *shards = shards_open_cached(place->url, &cache, &err), *plain = shards_open(other, &err);
    assert_ok(shards && plain, &err);
    assert_int_equal(shards_count(shards), CLIPS - 1);
    assert_true(shards_hash(shards) != shards_hash(place->local));
    for (size_t i = 0; i < CLIPS - 1; i++) {
        Audio a, b;
        assert_ok(shards_read(shards, i, &a, &err) && shards_read(plain, i, &b, &err), &err);
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.samples, b.samples, (size_t)a.count * sizeof(float));
        audio_free(&a);
        audio_free(&b);
    }
    shards_close(shards);
    shards_close(plain);
    snprintf(place->store.folder, sizeof place->store.folder, "%s", place->folder);
    free(other);
    cache_end(&cache);
}

static void assert_cannot_open(const char *url, const ShardCacheOptions *cache, const char *why) {
    Error err = {0};
    Shards *shards = shards_open_cached(url, cache, &err);
    assert_null(shards);
    if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    assert_null(strstr(err.text, "secret"));
}

static void test_no_shards_there(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "none", 4);
    reset(place, 1u << FAULT_404, 1, "index.json");
    assert_cannot_open(place->url, &cache, "404");
    assert_int_equal(place->store.index_gets, 1); /* a wrong address is not asked again and again */
    reset(place, 1u << FAULT_500, 1, "index.json");
    assert_cannot_open(place->url, &cache, "500");
    assert_int_equal(place->store.index_gets, cache.retry.tries);
    reset(place, 1u << FAULT_SHORT, 1, "index.json");
    assert_cannot_open(place->url, &cache, "index.json");
    reset(place, 1u << FAULT_LONG, 1, "samples.jsonl.zst");
    assert_cannot_open(place->url, &cache, "samples.jsonl.zst");
    reset(place, 0, 1, NULL);
    assert_cannot_open("http://127.0.0.1:1/x?key=secret", &cache, "127.0.0.1:1");
    assert_cannot_open("https://[::bad/secret", &cache, "");
    ShardCacheOptions nowhere = cache;
    nowhere.folder = "/proc/none";
    assert_cannot_open(place->url, &nowhere, "/proc/none");
    cache_end(&cache);
}

/* One shard cannot be had: what lies in others is handed out, then the error comes in its place and names the file. */
static void check_lost_shard(Place *place, Fault fault, const char *why) {
    ShardCacheOptions cache = cache_of(place, "lost", 4);
    Reading reading;
    Error err = {0};
    plan(place, &reading, 1);
    reset(place, 1u << fault, 1, "data-000003.tar.zst");
    Shards *remote = open_remote(place, &cache);
    Loader *loader = loader_open(remote, &reading.options, &err);
    assert_ok(loader && loader_start(loader, reading.order, CLIPS, &err), &err);
    size_t expected = 0, good = 0;
    while (shards_file_of(place->local, reading.order[expected]) != 3) expected++;
    for (Sample sample; good < CLIPS && loader_next(loader, &sample, &err); good++) sample_free(&sample);
    assert_int_equal(good, expected);
    assert_non_null(strstr(err.text, "data-000003.tar.zst"));
    if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    Error again = {0};
    Sample none;
    assert_false(loader_next(loader, &none, &again));
    assert_non_null(strstr(again.text, "data-000003.tar.zst"));
    loader_close(loader);
    shards_close(remote);
    cache_end(&cache);
}

static void test_lost_shard(void **state) {
    check_lost_shard(*state, FAULT_404, "404");
    check_lost_shard(*state, FAULT_SHORT, "bytes");
    check_lost_shard(*state, FAULT_LONG, "bytes");
    check_lost_shard(*state, FAULT_FLIP, "arrived damaged");
    check_lost_shard(*state, FAULT_CLOSE, "after 6 tries");
    check_lost_shard(*state, FAULT_BUSY, "429");
}

/* Closing does not wait for a server that has fallen silent. */
static void test_closing_in_a_stall(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "closing", 4);
    Reading reading;
    Error err = {0};
    cache.stall_s = 60;
    plan(place, &reading, 1);
    reset(place, 0, 1, NULL);
    Shards *remote = open_remote(place, &cache);
    reset(place, 1u << FAULT_STALL, 1, NULL);
    Loader *loader = loader_open(remote, &reading.options, &err);
    assert_ok(loader && loader_start(loader, reading.order, CLIPS, &err), &err);
    usleep(100000);
    double began = clock_seconds();
    loader_close(loader);
    assert_true(clock_seconds() - began < 2.5);
    shards_close(remote);
    cache_end(&cache);
}

static pid_t read_in_child(Place *place, const ShardCacheOptions *cache, const Reading *reading) {
    pid_t child = fork();
    if (child != 0) return child;
    Error err = {0};
    Shards *remote = shards_open_cached(place->url, cache, &err);
    if (!remote || !same_samples(place->local, remote, reading, 0, &err)) fprintf(stderr, "child: %s\n", err.text);
    shards_close(remote);
    _exit(err.exit_code);
}

static void assert_done(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE);
}

/* Four processes share a cache: each shard is fetched once for all where there is room; else the bound holds still. */
static void test_shared_cache(void **state) {
    Place *place = *state;
    static const int SHARDS[] = {STORE_FILES, 3};
    Reading reading;
    plan(place, &reading, 2);
    for (int s = 0; s < 2; s++) {
        ShardCacheOptions cache = cache_of(place, "shared", SHARDS[s]);
        pid_t children[4];
        reset(place, 0, 1, NULL);
        for (int c = 0; c < 4; c++) children[c] = read_in_child(place, &cache, &reading);
        for (int c = 0; c < 4; c++) assert_done(children[c]);
        assert_gets(place, 1, s == 0 ? 1 : CLIPS);
        assert_true(bytes_in(cache.folder) <= cache.bytes);
        cache_end(&cache);
    }
}

/* Killed at many moments, with two others going on beside it: no harm is done, and nothing stays but whole files. */
static void test_killed(void **state) {
    Place *place = *state;
    ShardCacheOptions cache = cache_of(place, "killed", 4);
    Reading reading;
    plan(place, &reading, 2);
    reset(place, 1u << FAULT_DROP, 4, NULL);
    pid_t beside[2] = {read_in_child(place, &cache, &reading), read_in_child(place, &cache, &reading)};
    for (useconds_t i = 0; i < 12; i++) {
        pid_t child = read_in_child(place, &cache, &reading);
        usleep(3000 + 4000 * i);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        assert_true(bytes_in(cache.folder) <= cache.bytes);
    }
    for (int c = 0; c < 2; c++) assert_done(beside[c]);
    assert_same(place, &cache, &reading);
    cache_end(&cache);
}

static void test_verify(void **state) {
    Place *place = *state;
    char *cache = test_path("home");
    setenv("XDG_CACHE_HOME", cache, 1);
    reset(place, 0, 1, NULL);
    Error err = {0};
    assert_ok(corpus_intact(place->url, &err), &err);
    assert_gets(place, 1, 1);
    free(cache);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, serve, serve_no_more)

int main(void) {
    corpus_in_memory();
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_each_shard_is_fetched_once),
        WITH_SERVER(test_least_cache),
        WITH_SERVER(test_faults),
        WITH_SERVER(test_every_answer_breaks_off),
        WITH_SERVER(test_what_comes_again_stays),
        WITH_SERVER(test_goes_on_anywhere),
        WITH_SERVER(test_cache_survives),
        WITH_SERVER(test_changed_set),
        WITH_SERVER(test_no_shards_there),
        WITH_SERVER(test_lost_shard),
        WITH_SERVER(test_closing_in_a_stall),
        WITH_SERVER(test_shared_cache),
        WITH_SERVER(test_killed),
        WITH_SERVER(test_verify),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
