#include "train/steps.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { VALIDATION_CLIPS = 64 }; /* of a micro-batch where only tokens are bounded */

void steps_close(Steps *steps) {
    free(steps->chosen);
    free(steps->classes);
    free(steps->order);
    free(steps->load);
    *steps = (Steps){0};
}

void step_plan_free(StepPlan *plan) {
    free(plan->all);
    free(plan->dealt);
    free(plan->own);
    free(plan->groups);
    *plan = (StepPlan){0};
}

const Example *steps_example(Steps *steps, int64_t position, Error *err) {
    int64_t count = (int64_t)steps->examples->count, epoch = position / count;
    if (epoch > UINT32_MAX) {
        fail(err, "the run has more epochs than can be numbered");
        return NULL;
    }
    if (epoch != steps->epoch) {
        steps->epoch = -1;
        if (!order_make(steps->run->shards, &steps->order_options, (uint32_t)epoch, steps->order, err)) return NULL;
        steps->epoch = epoch;
    }
    return &steps->examples->items[steps->order[position % count]];
}

/* ---- a step's examples ---- */

typedef struct Filling {
    int64_t clips, tokens;
} Filling;

static bool fits(const Run *run, const Filling *filling, const Example *example) {
    const TrainSection *train = &run->config->train;
    if (filling->clips == 0) return true;
    if (train->batch_clips > 0 && filling->clips >= train->batch_clips) return false;
    return train->batch_tokens == 0 || filling->tokens + example->tokens <= train->batch_tokens;
}

static void put(Filling *filling, const Example *example) {
    filling->clips++;
    filling->tokens += example->tokens;
}

static void begin_plan(StepPlan *plan, int64_t position) {
    plan->position = position;
    plan->clips = plan->responses = plan->tokens = 0;
}

static bool add_example(StepPlan *plan, const Example *example, Error *err) {
    size_t count = (size_t)plan->clips;
    if (!memory_grow(&plan->all, count, &plan->all_capacity, sizeof *plan->all, err) ||
        !memory_grow(&plan->dealt, count, &plan->dealt_capacity, sizeof *plan->dealt, err))
        return false;
    plan->all[count] = example;
    plan->dealt[count] = (Dealt){.tokens = example->tokens, .place = count};
    plan->clips++;
    plan->tokens += example->tokens;
    plan->responses += (int64_t)example->answer.count;
    return true;
}

/* With batch_clips a step has batch_clips · accumulate examples, however many micro-batches the token budget
 * makes of them; else as many as fill `accumulate` micro-batches. */
static bool choose(Steps *steps, int64_t position, StepPlan *plan, Error *err) {
    const TrainSection *train = &steps->run->config->train;
    int64_t wanted = train->batch_clips > 0 ? train->batch_clips * train->accumulate : INT64_MAX, full = 0;
    Filling filling = {0};
    begin_plan(plan, position);
    while (plan->clips < wanted && position + plan->clips < steps->end) {
        const Example *example = steps_example(steps, position + plan->clips, err);
        if (!example) return false;
        if (!fits(steps->run, &filling, example)) {
            filling = (Filling){0};
            if (train->batch_clips == 0 && ++full == train->accumulate) break;
        }
        put(&filling, example);
        if (!add_example(plan, example, err)) return false;
    }
    return true;
}

/* ---- a rank's micro-batches ---- */

static bool add_own(StepPlan *plan, const Example *example, bool begins, Error *err) {
    if (!memory_grow(&plan->own, plan->own_count, &plan->own_capacity, sizeof *plan->own, err) ||
        !memory_grow(&plan->groups, plan->group_count, &plan->group_capacity, sizeof *plan->groups, err))
        return false;
    if (begins) plan->groups[plan->group_count++] = 0;
    plan->groups[plan->group_count - 1]++;
    plan->own[plan->own_count++] = example;
    return true;
}

/* `most`: clips of a micro-batch. */
static bool take_share(const Run *run, StepPlan *plan, int rank, int64_t most, Error *err) {
    Filling filling = {0};
    plan->own_count = plan->group_count = 0;
    for (int64_t i = 0; i < plan->clips; i++) {
        if (plan->dealt[i].rank != rank) continue;
        bool begins = filling.clips == 0 || filling.clips >= most || !fits(run, &filling, plan->all[i]);
        if (begins) filling = (Filling){0};
        put(&filling, plan->all[i]);
        if (!add_own(plan, plan->all[i], begins, err)) return false;
    }
    return true;
}

bool steps_plan(Steps *steps, int64_t position, StepPlan *plan, Error *err) {
    if (!choose(steps, position, plan, err)) return false;
    deal(plan->dealt, (size_t)plan->clips, steps->share.ranks, steps->load);
    return take_share(steps->run, plan, steps->share.rank, INT64_MAX, err);
}

/* ---- sizes ---- */

static void add_size(SpeechLimits *sum, const Example *example) {
    sum->clips++;
    sum->samples += example->samples;
    sum->tokens += example->tokens;
    sum->responses += (int64_t)example->answer.count;
    if (example->samples > sum->longest) sum->longest = example->samples;
}

static void measure_own(const StepPlan *plan, SpeechLimits *limits) {
    const Example *const *next = plan->own;
    for (size_t g = 0; g < plan->group_count; g++) {
        SpeechLimits sum = {0};
        for (int64_t i = 0; i < plan->groups[g]; i++) add_size(&sum, *next++);
        limits_raise(limits, &sum);
    }
}

static bool measure(const Run *run, StepPlan *plan, int ranks, int64_t most, SpeechLimits *limits, Error *err) {
    for (int rank = 0; rank < ranks; rank++) {
        if (!take_share(run, plan, rank, most, err)) return false;
        measure_own(plan, limits);
    }
    return true;
}

bool split_plan(const Run *run, const Examples *examples, Share share, StepPlan *plan, SpeechLimits *limits,
                Error *err) {
    int64_t most = run->config->train.batch_clips > 0 ? INT64_MAX : VALIDATION_CLIPS;
    int64_t *load = memory_new((size_t)share.ranks, sizeof *load, err);
    bool ok = load != NULL;
    begin_plan(plan, 0);
    for (size_t i = 0; ok && i < examples->count; i++) ok = add_example(plan, &examples->items[i], err);
    if (ok) deal(plan->dealt, examples->count, share.ranks, load);
    free(load);
    return ok && measure(run, plan, share.ranks, most, limits, err) && take_share(run, plan, share.rank, most, err);
}

static bool check_budget(const Steps *steps, Error *err) {
    int64_t budget = steps->run->config->train.batch_tokens;
    for (size_t i = 0; budget > 0 && i < steps->examples->count; i++) {
        const Example *example = &steps->examples->items[i];
        if (example->tokens > budget)
            return fail_usage(err,
                              "sample \"%s\" alone takes %" PRId32 " tokens, more than train.batch_tokens (%" PRId64
                              "); raise it, or lower data.max_seconds",
                              shards_utterance(steps->run->shards, example->sample)->id, example->tokens, budget);
    }
    return true;
}

static bool walk(Steps *steps, Error *err) {
    const TrainSection *train = &steps->run->config->train;
    StepPlan plan = {0};
    bool ok = true;
    for (int64_t position = 0; ok; position += plan.clips) {
        if (train->steps > 0 ? steps->total == train->steps : position >= steps->end) break;
        ok = steps_plan(steps, position, &plan, err) &&
             measure(steps->run, &plan, steps->share.ranks, INT64_MAX, &steps->limits, err);
        steps->total++;
    }
    step_plan_free(&plan);
    return ok;
}

bool steps_open(Steps *steps, const Run *run, const Examples *examples, Share share, Error *err) {
    const TrainSection *train = &run->config->train;
    size_t count = examples->count;
    *steps = (Steps){.run = run, .examples = examples, .share = share, .epoch = -1, .end = INT64_MAX};
    if (count == 0) return fail(err, "there is no example to train on");
    steps->chosen = memory_new(count, sizeof *steps->chosen, err);
    steps->classes = memory_new(count, sizeof *steps->classes, err);
    steps->order = memory_new(count, sizeof *steps->order, err);
    steps->load = memory_new((size_t)share.ranks, sizeof *steps->load, err);
    bool ok = steps->chosen && steps->classes && steps->order && steps->load;
    for (size_t i = 0; ok && i < count; i++) {
        steps->chosen[i] = examples->items[i].sample;
        steps->classes[i] = examples->items[i].class;
    }
    steps->order_options = (LoaderOptions){.chosen = steps->chosen,
                                           .chosen_count = count,
                                           .shuffle = true,
                                           .sampling = run->config->data.sampling,
                                           .shuffle_shards = (int)run->config->data.shuffle_shards,
                                           .classes = steps->classes,
                                           .seed = (uint64_t)train->seed};
    if (train->epochs > 0) steps->end = (int64_t)ceil(train->epochs * (double)count);
    ok = ok && check_budget(steps, err) && walk(steps, err);
    if (!ok) steps_close(steps);
    return ok;
}
