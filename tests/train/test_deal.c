/* Which rank computes what: every step is the same set of examples however many ranks there are, each of them
 * somebody's, and the ranks have about as many tokens. */
#include "tests/train/tiny.h"

#include "train/steps.h"

enum { CLIPS = 64, ITEMS_MAX = 200, RANKS_MAX = 9 };
static const int WORLDS[] = {1, 2, 3, 4, 8};
enum { WORLD_COUNT = sizeof WORLDS / sizeof *WORLDS };

static int setup(void **state) {
    (void)state;
    char *folder = test_folder();
    tiny_make(folder, CLIPS);
    free(folder);
    return 0;
}

/* ---- dealing ---- */

static int64_t most_of(const int64_t *load, int ranks) {
    int64_t most = 0;
    for (int r = 0; r < ranks; r++) most = load[r] > most ? load[r] : most;
    return most;
}

/* The least that the fullest of `ranks` must have, by trying everything. */
static int64_t best_of(const Dealt *items, size_t count, int ranks, int64_t *load) {
    if (count == 0) return most_of(load, ranks);
    int64_t best = INT64_MAX;
    for (int r = 0; r < ranks; r++) {
        load[r] += items->tokens;
        int64_t most = best_of(items + 1, count - 1, ranks, load);
        load[r] -= items->tokens;
        if (most < best) best = most;
    }
    return best;
}

static void draw(Dealt *items, size_t count, uint32_t number) {
    Rng rng = rng_stream(TINY_KEY, 7, number, 0);
    for (size_t i = 0; i < count; i++) items[i] = (Dealt){.tokens = 1 + rng_next(&rng) % 700, .place = i, .rank = -1};
}

static void test_deal(void **state) {
    (void)state;
    for (uint32_t number = 0; number < 200; number++) {
        Dealt items[ITEMS_MAX], again[ITEMS_MAX];
        int64_t load[RANKS_MAX], sum = 0, longest = 0, own[RANKS_MAX] = {0};
        size_t count = number * 7 % (ITEMS_MAX + 1);
        int ranks = 1 + (int)number % (RANKS_MAX - 1);
        draw(items, count, number);
        memcpy(again, items, sizeof items);
        deal(items, count, ranks, load);
        deal(again, count, ranks, load);
        for (size_t i = 0; i < count; i++) {
            assert_true(items[i].place == i && items[i].rank >= 0 && items[i].rank < ranks);
            assert_int_equal(items[i].rank, again[i].rank);
            own[items[i].rank] += items[i].tokens;
            sum += items[i].tokens;
            longest = items[i].tokens > longest ? items[i].tokens : longest;
        }
        assert_memory_equal(load, own, (size_t)ranks * sizeof *load);
        assert_true(ranks * most_of(load, ranks) <= sum + (ranks - 1) * longest);
    }
}

static void test_balance(void **state) {
    (void)state;
    for (uint32_t number = 0; number < 60; number++) {
        Dealt items[8];
        int64_t load[RANKS_MAX], room[RANKS_MAX] = {0};
        size_t count = 1 + number % 8;
        int ranks = 2 + (int)number % 3;
        draw(items, count, number);
        deal(items, count, ranks, load);
        assert_true(3 * most_of(load, ranks) <= 4 * best_of(items, count, ranks, room));
    }
}

/* ---- steps ---- */

typedef struct World {
    Run *run;
    Examples examples;
    Steps alone;
    StepPlan plan; /* of the one */
} World;

static void world_open(World *w, const char *const *sets, int count) {
    Error err = {0};
    char *config = test_path("config.yaml");
    Texts overrides = {.items = (const char **)sets, .count = count};
    RunOptions options = {.overrides = &overrides, .data = true, .model = true, .plan = true};
    *w = (World){.run = run_open(config, &options, &err)};
    assert_ok(w->run && examples_make(&w->examples, w->run, &w->run->train, &err), &err);
    assert_ok(steps_open(&w->alone, w->run, &w->examples, (Share){0, 1}, &err), &err);
    free(config);
}

static void world_close(World *w) {
    step_plan_free(&w->plan);
    steps_close(&w->alone);
    examples_free(&w->examples);
    run_close(w->run);
}

static void expect_micro_batches(const World *w, const StepPlan *plan, const SpeechLimits *limits) {
    const TrainSection *train = &w->run->config->train;
    size_t at = 0;
    for (size_t g = 0; g < plan->group_count; g++) {
        int64_t tokens = 0, samples = 0;
        assert_true(plan->groups[g] > 0 && (train->batch_clips == 0 || plan->groups[g] <= train->batch_clips));
        for (int64_t i = 0; i < plan->groups[g]; i++, at++) {
            tokens += plan->own[at]->tokens;
            samples += plan->own[at]->samples;
        }
        assert_true(train->batch_tokens == 0 || tokens <= train->batch_tokens);
        if (limits)
            assert_true(plan->groups[g] <= limits->clips && tokens <= limits->tokens && samples <= limits->samples);
    }
    assert_int_equal(at, plan->own_count);
}

/* What `ranks` ranks take of a step at `position`: together it is the one rank's, in its order on each. `planned`:
 * the run has such a step. */
static void expect_same_step(World *w, Steps *steps, int ranks, int64_t position, bool planned) {
    Error err = {0};
    StepPlan plan = {0};
    int *taken = calloc(w->examples.count * 2 + 1, sizeof *taken);
    assert_ok(steps_plan(&w->alone, position, &w->plan, &err), &err);
    assert_int_equal(w->plan.own_count, w->plan.clips);
    for (int r = 0; r < ranks; r++) {
        assert_ok(steps_plan(&steps[r], position, &plan, &err), &err);
        assert_true(plan.clips == w->plan.clips && plan.tokens == w->plan.tokens);
        assert_int_equal(plan.responses, w->plan.responses);
        size_t at = 0;
        for (int64_t i = 0; i < plan.clips; i++) {
            if (plan.dealt[i].rank != r) continue;
            assert_true(at < plan.own_count && plan.own[at++] == w->plan.own[i]);
            taken[i]++;
        }
        assert_int_equal(at, plan.own_count);
        expect_micro_batches(w, &plan, planned ? &steps[r].limits : NULL);
    }
    for (int64_t i = 0; i < w->plan.clips; i++) assert_int_equal(taken[i], 1);
    free(taken);
    step_plan_free(&plan);
}

/* From any position, whoever was there before: so that a run goes on with as many ranks as there are. */
static void expect_same_steps(const char *const *sets, int count) {
    World w;
    world_open(&w, sets, count);
    for (int n = 0; n < WORLD_COUNT; n++) {
        Error err = {0};
        Steps steps[8];
        for (int r = 0; r < WORLDS[n]; r++) {
            assert_ok(steps_open(&steps[r], w.run, &w.examples, (Share){r, WORLDS[n]}, &err), &err);
            assert_int_equal(steps[r].total, w.alone.total);
        }
        int64_t end = (int64_t)(2 * w.examples.count), next = 0;
        for (int64_t position = 0; position < end; position++) {
            expect_same_step(&w, steps, WORLDS[n], position, position == next);
            if (position == next) next += w.plan.clips;
        }
        for (int r = 0; r < WORLDS[n]; r++) steps_close(&steps[r]);
    }
    world_close(&w);
}

static void test_steps(void **state) {
    (void)state;
    expect_same_steps((const char *[]){"train.batch_clips=3", "train.accumulate=5"}, 2);
    expect_same_steps((const char *[]){"train.batch_clips=0", "train.batch_tokens=200", "train.accumulate=3"}, 3);
    expect_same_steps((const char *[]){"train.batch_clips=4", "train.batch_tokens=150", "data.sampling=balanced"}, 3);
    expect_same_steps((const char *[]){"train.batch_clips=1", "train.accumulate=1"}, 2);
}

/* Steps one after the other, each with another number of ranks: the ids are the one rank's, epoch after epoch. */
static void test_elastic(void **state) {
    (void)state;
    Error err = {0};
    World w;
    world_open(&w, (const char *[]){"train.batch_clips=3", "train.accumulate=5", "train.epochs=4.3"}, 3);
    int64_t position = 0, step = 0;
    for (; position < w.alone.end; step++) {
        Steps steps;
        int ranks = WORLDS[step * 3 % WORLD_COUNT], clips = 0;
        int64_t first = position;
        for (int r = 0; r < ranks; r++) {
            StepPlan plan = {0};
            assert_ok(steps_open(&steps, w.run, &w.examples, (Share){r, ranks}, &err), &err);
            assert_ok(steps_plan(&steps, first, &plan, &err), &err);
            position = first + plan.clips;
            clips += (int)plan.own_count;
            for (int64_t i = 0; i < plan.clips; i++)
                assert_ptr_equal(plan.all[i], steps_example(&w.alone, first + i, &err));
            step_plan_free(&plan);
            steps_close(&steps);
        }
        assert_int_equal(clips, position - first);
    }
    assert_int_equal(step, w.alone.total);
    assert_int_equal(position, w.alone.end);
    world_close(&w);
}

static void test_validation(void **state) {
    (void)state;
    Error err = {0};
    World w;
    world_open(&w, (const char *[]){"train.batch_clips=3"}, 1);
    for (int n = 0; n < WORLD_COUNT; n++) {
        StepPlan plan = {0};
        int *taken = calloc(w.examples.count, sizeof *taken);
        for (int r = 0; r < WORLDS[n]; r++) {
            SpeechLimits limits = {0};
            plan.clips = 0;
            assert_ok(split_plan(w.run, &w.examples, (Share){r, WORLDS[n]}, &plan, &limits, &err), &err);
            assert_int_equal(plan.clips, w.examples.count);
            for (size_t i = 0; i < plan.own_count; i++) taken[plan.own[i] - w.examples.items]++;
            expect_micro_batches(&w, &plan, &limits);
        }
        for (size_t i = 0; i < w.examples.count; i++) assert_int_equal(taken[i], 1);
        free(taken);
        step_plan_free(&plan);
    }
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deal),    cmocka_unit_test(test_balance),    cmocka_unit_test(test_steps),
        cmocka_unit_test(test_elastic), cmocka_unit_test(test_validation),
    };
    return cmocka_run_group_tests(tests, setup, test_cleanup);
}
