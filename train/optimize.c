/* A step: gradients over micro-batches, clipping, AdamW. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/schedule.h"
#include "train/trainer.h"

static Tensor flat(float *data, const Params *params) { return tensor_of(data, DTYPE_F32, 1, params->total); }

/* ---- planning ---- */

bool trainer_caches(const Trainer *trainer) {
    const RunConfig *config = trainer->run->config;
    return config->train.encoder_cache == CACHE_MEMORY && config->prompt.input == INPUT_SPEECH &&
           !trainer->options->dump && !trainer->options->show_batch;
}

static AdamwArgs adamw_args(const Trainer *trainer, const Params *params) {
    const TrainSection *train = &trainer->run->config->train;
    return (AdamwArgs){.param = flat(params->value, params),
                       .grad = flat(params->grad, params),
                       .m = flat(trainer->optimizer.m, params),
                       .v = flat(trainer->optimizer.v, params),
                       .segments = trainer->segments,
                       .segment_count = params->count,
                       .beta1 = (float)train->beta1,
                       .beta2 = (float)train->beta2,
                       .eps = (float)train->eps,
                       .grad_scale = 1,
                       .step = 1};
}

static SumSquaresArgs norm_args(const Trainer *trainer, const Params *params) {
    return (SumSquaresArgs){.x = flat(params->grad, params), .out = tensor_of(trainer->norm, DTYPE_F64, 1, 1)};
}

bool trainer_optimizer(Trainer *trainer, Error *err) {
    Device *dev = trainer->run->dev;
    const Params *params = speech_llm_params(trainer->run->model);
    size_t bytes = (size_t)params->total * sizeof(float);
    trainer->optimizer.m = device_alloc(dev, bytes, err);
    trainer->optimizer.v = device_alloc(dev, bytes, err);
    trainer->norm = device_alloc(dev, sizeof(double), err);
    trainer->segments = memory_new((size_t)params->count, sizeof *trainer->segments, err);
    if (!trainer->optimizer.m || !trainer->optimizer.v || !trainer->norm || !trainer->segments)
        return fail_in(err, "AdamW's moments");
    AdamwArgs adamw = adamw_args(trainer, params);
    SumSquaresArgs norm = norm_args(trainer, params);
    return device_reserve_scratch(dev, adamw_scratch(dev, &adamw), err) &&
           device_reserve_scratch(dev, sum_squares_scratch(dev, &norm), err);
}

bool trainer_plan(Trainer *trainer, Error *err) {
    return speech_llm_plan(trainer->run->model, &trainer->limits, true, NULL, true, err);
}

/* ---- gradients ---- */

/* Runs the plan's micro-batches of this rank. */
static bool run_groups(Trainer *trainer, const StepPlan *plan, Feed *feed, const StepOptions *options, double *sum,
                       SeeBatch *see, void *context, Error *err) {
    const Example *const *next = plan->own;
    *sum = 0;
    for (size_t g = 0; g < plan->group_count; g++) {
        double loss;
        batch_clear(&trainer->batch);
        for (int64_t i = 0; i < plan->groups[g]; i++)
            if (!feed_add(feed, *next++, &trainer->batch, err)) return false;
        SpeechBatch view = batch_view(&trainer->batch);
        if (!speech_llm_step(trainer->run->model, &view, options, &loss, NULL, err) ||
            (see && !see(context, &trainer->batch, err)))
            return false;
        *sum += loss;
    }
    return true;
}

/* Sends the feed for this rank's examples of whole steps, to the end of the epoch. */
static bool send_ahead(Trainer *trainer, Error *err) {
    const int64_t count = (int64_t)trainer->train.count, position = trainer->plan.position;
    const Example **list = NULL;
    size_t used = 0, capacity = 0;
    bool ok = true;
    trainer->sent = position;
    while (ok && trainer->sent < trainer->steps.end && trainer->sent / count == position / count) {
        ok = steps_plan(&trainer->steps, trainer->sent, &trainer->ahead, err);
        for (size_t i = 0; ok && i < trainer->ahead.own_count; i++) {
            ok = memory_grow(&list, used, &capacity, sizeof *list, err);
            if (ok) list[used++] = trainer->ahead.own[i];
        }
        trainer->sent += trainer->ahead.clips;
    }
    ok = ok && feed_send(&trainer->feed, list, used, err);
    free(list);
    return ok;
}

bool trainer_gradients(Trainer *trainer, StepResult *result, SeeBatch *see, void *context, Error *err) {
    const StepPlan *plan = &trainer->plan;
    Comm *comm = trainer->run->comm;
    Params *params = speech_llm_params(trainer->run->model);
    StepOptions options = {.train = true,
                           .step = (uint32_t)(trainer->state.step + 1),
                           .loss_scale = (float)(1.0 / (double)plan->responses)};
    double sum;
    if ((plan->position >= trainer->sent && !send_ahead(trainer, err)) ||
        !device_fill_zero(trainer->run->dev, params->grad, (size_t)params->total * sizeof(float), err) ||
        !run_groups(trainer, plan, &trainer->feed, &options, &sum, see, context, err) ||
        !ranks_meet(trainer, &sum, err) || !comm_sum(comm, params->grad, DTYPE_F32, params->total, err))
        return false;
    result->loss = sum / (double)plan->responses;
    return true;
}

/* ---- update ---- */

static void set_rates(Trainer *trainer, double factor) {
    const TrainSection *train = &trainer->run->config->train;
    const Params *params = speech_llm_params(trainer->run->model);
    double adapter_lr = train->adapter_lr > 0 ? train->adapter_lr : train->lr;
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        trainer->segments[i] =
            (AdamwSegment){.offset = param->offset,
                           .count = param->value.rows * param->value.cols,
                           .lr = (float)(factor * (param->group == PARAM_LORA ? train->lr : adapter_lr)),
                           .decay = param->decay ? (float)train->weight_decay : 0};
    }
}

bool trainer_update(Trainer *trainer, StepResult *result, Error *err) {
    const TrainSection *train = &trainer->run->config->train;
    Device *dev = trainer->run->dev;
    Params *params = speech_llm_params(trainer->run->model);
    SumSquaresArgs norm = norm_args(trainer, params);
    double squares,
        factor = schedule_factor(train->schedule, trainer->state.step + 1, train->warmup, trainer->steps.total);
    if (!op_sum_squares(dev, &norm, err)) return false;
    if (isfinite(result->loss)) { /* what the norm allows is up to the device, which need not wait for us to see it */
        set_rates(trainer, factor);
        AdamwArgs adamw = adamw_args(trainer, params);
        adamw.norm_squared = norm.out;
        adamw.max_norm = train->clip;
        adamw.step = trainer->state.step - trainer->state.skipped + 1;
        params_changed(params);
        if (!op_adamw(dev, &adamw, err)) return false;
    }
    if (!device_download(dev, &squares, trainer->norm, sizeof squares, err)) return false;
    result->grad_norm = sqrt(squares);
    result->lr = train->lr * factor;
    result->skipped = !isfinite(result->loss) || !isfinite(squares);
    return true;
}

/* ---- validation ---- */

bool trainer_validate(Trainer *trainer, double *loss, Error *err) {
    const StepPlan *plan = &trainer->validation_plan;
    StepOptions options = {.train = false};
    double sum;
    if (!feed_send(&trainer->validation_feed, plan->own, plan->own_count, err) ||
        !run_groups(trainer, plan, &trainer->validation_feed, &options, &sum, NULL, NULL, err) ||
        !ranks_meet(trainer, &sum, err))
        return false;
    *loss = plan->responses ? sum / (double)plan->responses : NAN;
    return true;
}
