#include "train/steps.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { VALIDATION_CLIPS = 64 }; /* of a micro-batch where only tokens are bounded */

void steps_close(Steps *steps) {
    free(steps->chosen);
    free(steps->classes);
    free(steps->order);
    *steps = (Steps){0};
}

void step_plan_free(StepPlan *plan) {
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

/* ---- micro-batches ---- */

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

static bool close_group(StepPlan *plan, Filling *filling, Error *err) {
    if (filling->clips == 0) return true;
    if (!memory_grow(&plan->groups, plan->group_count, &plan->capacity, sizeof *plan->groups, err)) return false;
    plan->groups[plan->group_count++] = filling->clips;
    *filling = (Filling){0};
    return true;
}

/* With batch_clips a step has batch_clips · accumulate examples, however many micro-batches the token budget
 * makes of them; else as many as fill `accumulate` micro-batches. */
bool steps_plan(Steps *steps, int64_t position, StepPlan *plan, Error *err) {
    const TrainSection *train = &steps->run->config->train;
    int64_t wanted = train->batch_clips > 0 ? train->batch_clips * train->accumulate : INT64_MAX;
    plan->position = position;
    plan->clips = plan->responses = plan->tokens = 0;
    plan->group_count = 0;
    Filling filling = {0};
    while (plan->clips < wanted && position + plan->clips < steps->end) {
        const Example *example = steps_example(steps, position + plan->clips, err);
        if (!example) return false;
        if (!fits(steps->run, &filling, example)) {
            if (!close_group(plan, &filling, err)) return false;
            if (train->batch_clips == 0 && (int64_t)plan->group_count == train->accumulate) break;
        }
        put(&filling, example);
        plan->clips++;
        plan->tokens += example->tokens;
        plan->responses += (int64_t)example->answer.count;
    }
    return close_group(plan, &filling, err);
}

size_t examples_group(const Run *run, const Examples *examples, size_t first) {
    Filling filling = {0};
    int64_t most = run->config->train.batch_clips > 0 ? INT64_MAX : VALIDATION_CLIPS;
    size_t i = first;
    for (; i < examples->count && filling.clips < most && fits(run, &filling, &examples->items[i]); i++)
        put(&filling, &examples->items[i]);
    return i - first;
}

/* ---- sizes ---- */

static void add_size(SpeechLimits *sum, const Example *example) {
    sum->clips++;
    sum->samples += example->samples;
    sum->tokens += example->tokens;
    sum->responses += (int64_t)example->answer.count;
    if (example->samples > sum->longest) sum->longest = example->samples;
}

void examples_limits(const Examples *examples, size_t first, size_t count, SpeechLimits *limits) {
    SpeechLimits sum = {0};
    for (size_t i = first; i < first + count; i++) add_size(&sum, &examples->items[i]);
    limits_raise(limits, &sum);
}

static bool measure_step(Steps *steps, const StepPlan *plan, Error *err) {
    int64_t position = plan->position;
    for (size_t g = 0; g < plan->group_count; g++) {
        SpeechLimits sum = {0};
        for (int64_t i = 0; i < plan->groups[g]; i++, position++) {
            const Example *example = steps_example(steps, position, err);
            if (!example) return false;
            add_size(&sum, example);
        }
        limits_raise(&steps->limits, &sum);
    }
    return true;
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
        ok = steps_plan(steps, position, &plan, err) && measure_step(steps, &plan, err);
        steps->total++;
    }
    step_plan_free(&plan);
    return ok;
}

bool steps_open(Steps *steps, const Run *run, const Examples *examples, Error *err) {
    const TrainSection *train = &run->config->train;
    size_t count = examples->count;
    *steps = (Steps){.run = run, .examples = examples, .epoch = -1, .end = INT64_MAX};
    if (count == 0) return fail(err, "there is no example to train on");
    steps->chosen = memory_new(count, sizeof *steps->chosen, err);
    steps->classes = memory_new(count, sizeof *steps->classes, err);
    steps->order = memory_new(count, sizeof *steps->order, err);
    bool ok = steps->chosen && steps->classes && steps->order;
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
