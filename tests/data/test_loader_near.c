/* Which shards are brought near: whatever the order and the workers do, what the positions up to `end` need fits into
 * the room together, few shards wait for their turn, and it goes on to the end. */
#include "data/loader_near.h"

#include "tests/data/corpus.h"

enum { CLIPS = 240, SHARDS_MOST = 64 };

static Shards *shards;

static int setup(void **state) {
    (void)state;
    Error err = {0};
    char *folder = test_path("corpus");
    corpus_write(folder, CLIPS, 12000);
    shards = shards_open(folder, &err);
    assert_ok(shards != NULL, &err);
    assert_in_range(shards_files(shards), 20, SHARDS_MOST);
    free(folder);
    return 0;
}

static int teardown(void **state) {
    shards_close(shards);
    return test_cleanup(state);
}

static void check(const Near *near, const uint32_t *order, size_t reached) {
    bool used[SHARDS_MOST] = {false}, begun[SHARDS_MOST] = {false};
    int64_t bytes = 0;
    size_t count = 0, fresh = 0;
    assert_true(near->first <= near->end && near->end <= CLIPS);
    for (size_t i = near->first; i < near->end; i++) {
        uint32_t file = shards_file_of(shards, order[i]);
        begun[file] |= i < reached;
        if (used[file]) continue;
        used[file] = true;
        count++;
        bytes += shards_file_bytes(shards, file);
    }
    for (size_t i = near->first; i < near->end; i++) { /* those begun earlier and not left are no longer fresh either */
        uint32_t file = shards_file_of(shards, order[i]);
        fresh += used[file] && !begun[file] && !near->states[file].reached;
        used[file] = false;
    }
    assert_int_equal(near->bytes, bytes);
    assert_int_equal(near->fresh, fresh);
    assert_true(count <= 1 || bytes <= near->room);
    assert_true(fresh <= 2);
}

/* A drawn mixture of shards brought, samples taken by workers and handed out. */
static void run(Near *near, const uint32_t *order, uint32_t seed) {
    Rng rng = rng_stream(1, 92, seed, 0);
    size_t reached = 0, idle = 0;
    near_start(near, order, CLIPS);
    while (near->first < CLIPS) {
        uint32_t file;
        bool went = false;
        switch (rng_below(&rng, 3)) {
        case 0:
            went = near_next(near, &file);
            if (went) near_brought(near);
            break;
        case 1:
            went = reached < near->end;
            if (went) near_reach(near, reached++);
            break;
        default:
            went = near->first < reached;
            if (went) near_leave(near, near->first);
        }
        check(near, order, reached);
        idle = went ? 0 : idle + 1;
        assert_true(idle < 1000); /* nothing can be done any more */
    }
    assert_int_equal(near->bytes, 0);
}

static void test_any_order(void **state) {
    (void)state;
    Error err = {0};
    Near near;
    uint32_t chosen[CLIPS], order[CLIPS];
    int64_t largest = 0;
    assert_ok(near_open(&near, shards, &err), &err);
    for (uint32_t i = 0; i < CLIPS; i++) chosen[i] = i;
    for (size_t i = 0; i < shards_files(shards); i++)
        if (shards_file_bytes(shards, i) > largest) largest = shards_file_bytes(shards, i);
    for (int window = 0; window <= 8; window = window ? 2 * window : 1)
        for (int room = 2; room <= 32; room *= 2) {
            LoaderOptions options = {.chosen = chosen, .chosen_count = CLIPS, .shuffle = true};
            options.shuffle_shards = window;
            assert_ok(order_make(shards, &options, (uint32_t)room, order, &err), &err);
            near.room = room * largest;
            run(&near, order, (uint32_t)room);
            run(&near, order, (uint32_t)room + 1); /* and anew */
        }
    near_close(&near);
}

int main(void) {
    corpus_in_memory();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
