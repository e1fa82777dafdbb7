/* The bounded folder of fetched files: what stays and what goes, among threads and processes, and after kills. */
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "data/file_cache.h"

#define GROUP "0123456789abcdef"
enum { ITEM = 1000 };

typedef struct Maker { /* writes ITEM bytes of its letter */
    char letter;
    int pause_us;
    bool broken;
    atomic_int made;
} Maker;

static bool make(void *context, int fd, Error *err) {
    Maker *maker = context;
    char bytes[ITEM];
    struct stat status;
    memset(bytes, maker->letter, sizeof bytes);
    if (fstat(fd, &status) != 0 || status.st_size != ITEM) return (fail)(err, "the part is not reserved");
    if (pwrite(fd, bytes, ITEM / 2, 0) != ITEM / 2) return (fail)(err, "half cannot be written");
    if (maker->pause_us) usleep((useconds_t)maker->pause_us);
    if (maker->broken) return (fail)(err, "the source is broken");
    if (pwrite(fd, bytes, ITEM / 2, ITEM / 2) != ITEM / 2) return (fail)(err, "half cannot be written");
    atomic_fetch_add(&maker->made, 1);
    return true;
}

static bool get(const FileCache *cache, Maker *maker, const char *name, Error *err) {
    CacheItem item = {.group = GROUP, .name = name, .bytes = ITEM, .fetch = make, .context = maker};
    char bytes[ITEM + 1];
    int fd = file_cache_get(cache, &item, err);
    if (fd < 0) return false;
    bool whole = pread(fd, bytes, sizeof bytes, 0) == ITEM;
    for (int i = 0; whole && i < ITEM; i++) whole = bytes[i] == maker->letter;
    close(fd);
    return whole || (fail)(err, "%s has other bytes than were fetched", name);
}

static FileCache open_cache(const char *name, int64_t limit) {
    FileCache cache;
    Error err = {0};
    char *folder = test_path(name);
    assert_ok(file_cache_open(&cache, folder, limit, &err), &err);
    free(folder);
    return cache;
}

/* The names in the cache, "a b c"; free() it. */
static char *names_in(const FileCache *cache) {
    Error err = {0};
    Names names;
    Text found = {0};
    char *folder = path_join(cache->folder, GROUP, &err);
    assert_ok(folder_list(folder, &names, &err), &err);
    for (size_t i = 0; i < names.count; i++) text_addf(&found, "%s%s", i ? " " : "", names.items[i]);
    text_add_string(&found, "");
    names_free(&names);
    free(folder);
    return text_finish(&found, &err);
}

static void assert_holds(const FileCache *cache, const char *expected) {
    char *names = names_in(cache);
    assert_string_equal(names, expected);
    free(names);
}

/* So many files of one letter each, whichever. */
static void assert_holds_files(const FileCache *cache, size_t count) {
    char *names = names_in(cache);
    assert_int_equal(strlen(names), 2 * count - 1);
    free(names);
}

static void get_all(const FileCache *cache, const char *letters, Maker *makers) {
    for (const char *l = letters; *l; l++) {
        Error err = {0};
        char name[2] = {*l, '\0'};
        makers[*l - 'a'].letter = *l;
        assert_ok(get(cache, &makers[*l - 'a'], name, &err), &err);
    }
}

/* As if last used so long after 1970: the clock's grain and steps are none of the tests' concern. */
static void set_used(const FileCache *cache, const char *name, time_t seconds, long nanoseconds) {
    const struct timespec used = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    char *path = text_format(NULL, "%s/" GROUP "/%s", cache->folder, name);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){used, used}, 0), 0);
    free(path);
}

static void test_least_recently_used_goes(void **state) {
    (void)state;
    FileCache cache = open_cache("lru", 3 * ITEM + 500);
    Maker makers[26] = {0};
    get_all(&cache, "abc", makers);
    set_used(&cache, "a", 1000, 0);
    set_used(&cache, "b", 2000, 0);
    set_used(&cache, "c", 3000, 0);
    get_all(&cache, "ad", makers);
    assert_int_equal(makers[0].made, 1);
    assert_holds(&cache, "a c d");
    file_cache_touch(&cache, GROUP, "c");
    set_used(&cache, "a", 1000, 2);
    set_used(&cache, "d", 1000, 1);
    get_all(&cache, "e", makers);
    assert_holds(&cache, "a c e");
    set_used(&cache, "a", 1000, 2);
    set_used(&cache, "e", 2000, 1);
    get_all(&cache, "f", makers);
    assert_holds(&cache, "c e f");
    get_all(&cache, "a", makers);
    assert_int_equal(makers[0].made, 2);
    assert_holds(&cache, "a c f");
    file_cache_close(&cache);
}

static void test_too_large(void **state) {
    (void)state;
    FileCache cache = open_cache("small", ITEM - 1);
    Maker maker = {.letter = 'a'};
    Error err = {0};
    assert_false(get(&cache, &maker, "a", &err));
    assert_non_null(strstr(err.text, "do not fit"));
    file_cache_close(&cache);
}

static void test_failed_fetch_leaves_nothing(void **state) {
    (void)state;
    FileCache cache = open_cache("failed", 3 * ITEM);
    Maker maker = {.letter = 'a', .broken = true};
    Error err = {0}, clean = {0};
    assert_false(get(&cache, &maker, "a", &err));
    assert_string_equal(err.text, "the source is broken");
    assert_holds(&cache, "");
    maker.broken = false;
    assert_ok(get(&cache, &maker, "a", &clean), &clean);
    assert_holds(&cache, "a");
    file_cache_close(&cache);
}

static void put_file(const FileCache *cache, const char *name, size_t bytes) {
    Error err = {0};
    char *path = path_join(cache->folder, name, &err), *data = calloc(bytes + 1, 1), *folder = path_folder(path, &err);
    assert_ok(folder_make(folder, &err), &err);
    assert_ok(file_write(path, data, bytes, &err), &err);
    free(folder);
    free(data);
    free(path);
}

static bool there(const FileCache *cache, const char *name) {
    char *path = path_join(cache->folder, name, NULL);
    bool found = file_exists(path);
    free(path);
    return found;
}

/* Whoever names a folder that holds other things as cache loses none of them. */
static void test_other_files_are_left_alone(void **state) {
    (void)state;
    static const char *const OTHERS[] = {"thesis.tex", "music/song.flac", "0123456789abcdeg/x", "0123/y.part"};
    FileCache cache = open_cache("home", 2 * ITEM);
    Maker makers[26] = {0};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) put_file(&cache, OTHERS[i], 5 * ITEM);
    get_all(&cache, "abcdef", makers);
    assert_holds_files(&cache, 2);
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) assert_true(there(&cache, OTHERS[i]));
    file_cache_close(&cache);
}

/* Cut short, grown, or a part that nobody makes any more: as if it were not there. */
static void test_leftovers(void **state) {
    (void)state;
    FileCache cache = open_cache("leftovers", 2 * ITEM);
    Maker makers[26] = {0};
    put_file(&cache, GROUP "/a", ITEM - 1);
    get_all(&cache, "a", makers);
    assert_int_equal(makers[0].made, 1);
    put_file(&cache, GROUP "/a", ITEM + 1);
    get_all(&cache, "a", makers);
    assert_int_equal(makers[0].made, 2);
    put_file(&cache, GROUP "/b.part", ITEM);
    put_file(&cache, GROUP "/z.part", ITEM);
    get_all(&cache, "b", makers);
    assert_int_equal(makers[1].made, 1);
    assert_holds(&cache, "a b");
    file_cache_close(&cache);
}

static void test_drop(void **state) {
    (void)state;
    FileCache cache = open_cache("drop", 2 * ITEM);
    Maker makers[26] = {0};
    get_all(&cache, "a", makers);
    char *path = path_join(cache.folder, GROUP "/a", NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    file_cache_drop(&cache, GROUP, "a", fd);
    assert_holds(&cache, "");
    get_all(&cache, "a", makers);
    file_cache_drop(&cache, GROUP, "a", fd); /* the old file's reader complains late */
    assert_holds(&cache, "a");
    close(fd);
    free(path);
    file_cache_close(&cache);
}

typedef struct Asking {
    const FileCache *cache;
    Maker *makers;
    uint32_t number;
    Error err;
} Asking;

static void *ask(void *argument) {
    Asking *asking = argument;
    Rng rng = rng_stream(1, 96, asking->number, 0);
    for (int i = 0; i < 60 && asking->err.exit_code == EXIT_DONE; i++) {
        uint32_t letter = rng_below(&rng, 6);
        char name[2] = {(char)('a' + letter), '\0'};
        get(asking->cache, &asking->makers[letter], name, &asking->err);
    }
    return NULL;
}

static void ask_in_threads(const FileCache *cache, Maker *makers) {
    pthread_t threads[6];
    Asking asking[6];
    for (uint32_t t = 0; t < 6; t++) {
        asking[t] = (Asking){.cache = cache, .makers = makers, .number = t};
        pthread_create(&threads[t], NULL, ask, &asking[t]);
    }
    for (int t = 0; t < 6; t++) {
        pthread_join(threads[t], NULL);
        assert_ok(asking[t].err.exit_code == EXIT_DONE, &asking[t].err);
    }
}

/* Six threads ask for six files in a drawn order: with room for all, each is fetched once. */
static void test_threads(void **state) {
    (void)state;
    FileCache large = open_cache("large", 6 * ITEM), small = open_cache("tight", 2 * ITEM);
    Maker makers[6] = {0};
    for (int i = 0; i < 6; i++) makers[i] = (Maker){.letter = (char)('a' + i), .pause_us = 500};
    ask_in_threads(&large, makers);
    for (int i = 0; i < 6; i++) assert_int_equal(makers[i].made, 1);
    ask_in_threads(&small, makers);
    file_cache_close(&large);
    file_cache_close(&small);
}

/* With the cache locked: else one file may be counted, then be removed, then what took its place be counted too. */
static int64_t bytes_in(const FileCache *cache) {
    Names names;
    struct stat status;
    int64_t sum = 0;
    char *folder = path_join(cache->folder, GROUP, NULL), *lock = path_join(cache->folder, "lock", NULL);
    int locked = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(locked >= 0 && flock(locked, LOCK_EX) == 0);
    if (folder_list(folder, &names, NULL)) {
        for (size_t i = 0; i < names.count; i++) {
            char *path = path_join(folder, names.items[i], NULL);
            if (stat(path, &status) == 0) sum += status.st_size;
            free(path);
        }
        names_free(&names);
    }
    close(locked);
    free(lock);
    free(folder);
    return sum;
}

/* Processes share it, some are killed: what is read is right, the bound holds, and nothing is left in the way. */
static void test_processes(void **state) {
    (void)state;
    enum { CHILDREN = 4, KILLS = 12 };
    FileCache cache = open_cache("shared", 3 * ITEM);
    Maker makers[6] = {0};
    pid_t children[CHILDREN + KILLS];
    for (int i = 0; i < 6; i++) makers[i] = (Maker){.letter = (char)('a' + i), .pause_us = 300};
    for (uint32_t c = 0; c < CHILDREN + KILLS; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            Asking asking = {.cache = &cache, .makers = makers, .number = c};
            ask(&asking);
            if (asking.err.exit_code != EXIT_DONE) fprintf(stderr, "%s\n", asking.err.text);
            _exit(asking.err.exit_code);
        }
        if (c < CHILDREN) continue;
        usleep(2000 + 700 * c);
        kill(children[c], SIGKILL);
        assert_true(bytes_in(&cache) <= cache.limit);
    }
    for (int c = 0; c < CHILDREN + KILLS; c++) {
        int status;
        while (waitpid(children[c], &status, WNOHANG) == 0) {
            assert_true(bytes_in(&cache) <= cache.limit);
            usleep(2000);
        }
        if (c < CHILDREN) assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE);
    }
    get_all(&cache, "abcdef", makers);
    assert_holds_files(&cache, 3);
    file_cache_close(&cache);
}

/* Waiting for another's fetch ends on request. */
static void *get_slowly(void *argument) {
    Asking *asking = argument;
    get(asking->cache, &asking->makers[0], "a", &asking->err);
    return NULL;
}

static void test_stop(void **state) {
    (void)state;
    FileCache cache = open_cache("stop", 2 * ITEM);
    Maker maker = {.letter = 'a', .pause_us = 600000};
    Asking asking = {.cache = &cache, .makers = &maker};
    pthread_t thread;
    pthread_create(&thread, NULL, get_slowly, &asking);
    usleep(200000);
    atomic_bool stop = true;
    CacheItem item = {.group = GROUP, .name = "a", .bytes = ITEM, .fetch = make, .context = &maker, .stop = &stop};
    Error err = {0};
    double began = clock_seconds();
    assert_int_equal(file_cache_get(&cache, &item, &err), -1);
    assert_true(clock_seconds() - began < 0.3);
    pthread_join(thread, NULL);
    assert_ok(asking.err.exit_code == EXIT_DONE, &asking.err);
    assert_int_equal(maker.made, 1);
    file_cache_close(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_recently_used_goes),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_failed_fetch_leaves_nothing),
        cmocka_unit_test(test_other_files_are_left_alone),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
