#include "train/loop.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "train/dump.h"
#include "train/memory.h"
#include "train/splits.h"
#include "train/trainer.h"

enum { SKIPS_IN_ROW_MAX = 3, SHOWN_SAMPLES = 3 };

/* ---- opening ---- */

/* Of everything that a resumed run must share with its beginning. */
static bool hash_config(const RunConfig *config, uint64_t *hash, Error *err) {
    RunConfig same = *config;
    DeviceKind kind;
    int index;
    DType dtype;
    const DeviceChoice device = config_device(config);
    if (!device_choice_check(&device, &kind, &index, &dtype, err)) return false;
    same.device.kind = kind == DEVICE_CPU ? "cpu" : "cuda"; /* whichever of them */
    same.device.precision = dtype == DTYPE_BF16 ? "bf16" : "fp32";
    same.device.threads = same.train.threads = same.train.keep = same.train.checkpoint_every = 0;
    same.train.encoder_cache = CACHE_OFF;
    same.data.shards = ""; /* may have moved; its hash is checked */
    same.data.cache = NULL;
    same.data.cache_gib = 0;
    same.output = "";
    char *text = config_text(&same, err);
    if (text) *hash = XXH64(text, strlen(text), 0);
    free(text);
    return text != NULL;
}

/* A cache that is too small for the order works, slowly. */
static void print_cache(const Trainer *trainer, FILE *out) {
    const DataSection *data = &trainer->run->config->data;
    int64_t room = shards_room(trainer->run->shards),
            wanted = order_room(trainer->run->shards, &trainer->steps.order_options);
    if (room > 0 && wanted > room)
        fprintf(out,
                "the cache of %.3g GiB holds fewer than the shards that are mixed at a time, and will fetch some again "
                "and again: raise data.cache_gib to %.3g, or lower data.shuffle_shards (%" PRId64 ")\n",
                data->cache_gib, (double)wanted / 0x1p30 + 0.01, data->shuffle_shards);
}

static void print_examples(const Trainer *trainer, FILE *out) {
    const Run *run = trainer->run;
    const Examples *examples = &trainer->train;
    splits_print(run, out);
    cut_points_print(run->cuts, out);
    if (examples->replaced)
        fprintf(out, "%zu of %zu explanations were written from other levels and are replaced by the template's\n",
                examples->replaced, examples->count);
    if (examples->cut)
        fprintf(out, "%zu clips are longer than data.max_seconds (%g) and are %s\n", examples->cut,
                run->config->data.max_seconds, run->config->data.overlong == OVERLONG_SPLIT ? "split" : "cut");
    print_cache(trainer, out);
    int64_t count = (int64_t)examples->count;
    fprintf(out, "%" PRId64 " steps over %" PRId64 " training examples\n", trainer->steps.total, count);
    int ranks = comm_size(run->comm);
    if (ranks > 1)
        fprintf(out, "%d ranks, %d of them on this machine, each with its part of every step\n", ranks,
                comm_local_size(run->comm));
    if (trainer_caches(trainer))
        fprintf(out, "encoder cache: %.1f MiB of host memory%s\n",
                (double)(cache_bytes(run, examples) + cache_bytes(run, &trainer->validation)) / 1048576,
                ranks > 1 ? " for each rank" : "");
}

/* The plan; `whole`, every activation too. */
static bool print_memory(const Trainer *trainer, bool whole, FILE *out, Error *err) {
    const Run *run = trainer->run;
    MemoryPlan plan;
    if (!memory_plan_open(&plan, run, &trainer->limits, err)) return false;
    Error absent = {0};
    const DeviceChoice choice = config_device(run->config);
    Device *dev = whole ? device_choose(&choice, &absent) : run->dev; /* a dry run's own device has no memory */
    bool ok = memory_plan_print(&plan, whole, out, err);
    if (ok && dev) ok = memory_plan_check(&plan, dev, !whole, out, err);
    if (ok && !dev) fprintf(out, "whether it fits cannot be told here: %s\n", absent.text);
    if (whole) device_close(dev);
    memory_plan_close(&plan);
    return ok;
}

static bool open_examples(Trainer *trainer, Error *err) {
    Run *run = trainer->run;
    const Share share = {.rank = comm_rank(run->comm), .ranks = comm_size(run->comm)};
    if (!splits_check(run, err) || !examples_make(&trainer->train, run, &run->train, err) ||
        !examples_make(&trainer->validation, run, &run->validation, err) ||
        !steps_open(&trainer->steps, run, &trainer->train, share, err))
        return false;
    trainer->limits = trainer->steps.limits;
    trainer->limits.features = trainer_caches(trainer);
    return split_plan(run, &trainer->validation, share, &trainer->validation_plan, &trainer->limits, err);
}

static bool open_feeds(Trainer *trainer, Error *err) {
    Run *run = trainer->run;
    const FeatureCache *cache = trainer_caches(trainer) ? &trainer->train_cache : NULL;
    const FeatureCache *validation = cache ? &trainer->validation_cache : NULL;
    const atomic_bool *stop = &trainer->stopper.asked;
    if (cache && (!cache_fill(&trainer->train_cache, run, &trainer->train, stop, &trainer->stop, err) ||
                  !cache_fill(&trainer->validation_cache, run, &trainer->validation, stop, &trainer->stop, err)))
        return false;
    return feed_open(&trainer->feed, run, &trainer->train, cache, err) &&
           feed_open(&trainer->validation_feed, run, &trainer->validation, validation, err);
}

static void close_all(Trainer *trainer) {
    Run *run = trainer->run;
    stopper_end(&trainer->stopper);
    if (trainer->lines && trainer->lines != stderr) fclose(trainer->lines);
    log_close(&trainer->log);
    feed_close(&trainer->feed);
    feed_close(&trainer->validation_feed);
    cache_free(&trainer->train_cache);
    cache_free(&trainer->validation_cache);
    batch_free(&trainer->batch);
    step_plan_free(&trainer->plan);
    step_plan_free(&trainer->ahead);
    step_plan_free(&trainer->validation_plan);
    steps_close(&trainer->steps);
    examples_free(&trainer->train);
    examples_free(&trainer->validation);
    free(trainer->segments);
    free(trainer->words);
    if (run && run->dev) {
        device_free(run->dev, trainer->optimizer.m);
        device_free(run->dev, trainer->optimizer.v);
        device_free(run->dev, trainer->norm);
    }
    run_close(run);
}

/* ---- beginning and resuming ---- */

static bool check_resumed(const Trainer *trainer, const TrainState *state, const char *folder, Error *err) {
    if (state->shards_hash != trainer->state.shards_hash)
        return fail(err, "%s: was trained on other shards than %s now holds; a run goes on only with the same data",
                    folder, trainer->run->config->data.shards);
    if (state->config_hash != trainer->state.config_hash)
        return fail(err,
                    "%s: the config has changed since (compare with %s/config.yaml); put it back, or train into "
                    "another output folder",
                    folder, trainer->run->folder);
    return true;
}

static bool resume(Trainer *trainer, const char *folder, Error *err) {
    TrainState state;
    if (!checkpoint_load(trainer->run, folder, &trainer->optimizer, &state, err) ||
        !check_resumed(trainer, &state, folder, err))
        return false;
    trainer->state = state;
    fprintf(trainer->lines, "resuming after step %" PRId64 "\n", state.step);
    return true;
}

/* Asked before the encoder runs over everything, which may take long. */
static bool check_folder(const Trainer *trainer, Error *err) {
    const Run *run = trainer->run;
    char *last = checkpoint_last(run->folder, err);
    bool ok = err->exit_code == EXIT_DONE;
    if (ok && last && !trainer->options->resume)
        ok =
            fail_usage(err, "%s: holds a run already; go on with --resume, or name another output folder", run->folder);
    if (ok && !last && trainer->options->resume)
        fprintf(trainer->lines, "%s: has no checkpoint yet; starting\n", run->folder);
    free(last);
    return ok;
}

/* Rank 0 alone writes. */
static bool writes(const Trainer *trainer) { return comm_rank(trainer->run->comm) == 0; }

static bool begin_files(Trainer *trainer, Error *err) {
    const Run *run = trainer->run;
    return folder_make(run->folder, err) && checkpoint_prune(run->folder, INT64_MAX, 0, err) &&
           run_save_setup(run, err) &&
           log_open(&trainer->log, run->folder, trainer->state.log_bytes, trainer->state.event_bytes, err);
}

static bool begin_or_resume(Trainer *trainer, Error *err) {
    Run *run = trainer->run;
    trainer->state = (TrainState){.best_loss = NAN, .shards_hash = shards_hash(run->shards)};
    if (!hash_config(run->config, &trainer->state.config_hash, err)) return false;
    char *last = checkpoint_last(run->folder, err);
    bool ok = err->exit_code == EXIT_DONE && (!last || resume(trainer, last, err));
    free(last);
    return ok && ranks_compare(trainer, err) && (!writes(trainer) || begin_files(trainer, err));
}

/* ---- the loop ---- */

static double seconds_spent(const Trainer *trainer) { return trainer->before + clock_seconds() - trainer->began; }

static bool save_checkpoint(Trainer *trainer, Error *err) {
    TrainState *state = &trainer->state;
    const Run *run = trainer->run;
    state->seconds = seconds_spent(trainer);
    if (!ranks_compare(trainer, err)) return false;
    if (!writes(trainer)) return true;
    return log_sync(&trainer->log, &state->log_bytes, &state->event_bytes, err) &&
           checkpoint_save(run, &trainer->optimizer, state, err) &&
           (state->best_step == 0 || checkpoint_mark_best(run->folder, state->best_step, err)) &&
           checkpoint_prune(run->folder, run->config->train.keep, state->best_step, err);
}

/* A better loss than any before needs a checkpoint of this step. */
static bool validate(Trainer *trainer, bool *better, Error *err) {
    TrainState *state = &trainer->state;
    double loss;
    if (!trainer_validate(trainer, &loss, err) ||
        (writes(trainer) && !log_validation(&trainer->log, state->step, loss, err)))
        return false;
    *better = isfinite(loss) && (isnan(state->best_loss) || loss < state->best_loss);
    state->stale = *better ? 0 : state->stale + 1;
    if (*better) {
        state->best_loss = loss;
        state->best_step = state->step;
    }
    fprintf(trainer->lines, "\nstep %" PRId64 ": validation loss %.4f%s\n", state->step, loss,
            *better ? ", the best so far" : "");
    return true;
}

static bool log_result(Trainer *trainer, const StepResult *result, Error *err) {
    const TrainState *state = &trainer->state;
    if (!writes(trainer)) return true;
    StepRecord record = {.step = state->step,
                         .epoch = (double)state->position / (double)trainer->train.count,
                         .loss = result->loss,
                         .lr = result->lr,
                         .grad_norm = result->grad_norm,
                         .clips = trainer->plan.clips,
                         .tokens = trainer->plan.tokens,
                         .responses = trainer->plan.responses,
                         .seconds = seconds_spent(trainer),
                         .skipped = result->skipped};
    return log_step(&trainer->log, &record, err);
}

static bool take_step(Trainer *trainer, StepResult *result, Error *err) {
    TrainState *state = &trainer->state;
    if (!steps_plan(&trainer->steps, state->position, &trainer->plan, err) ||
        !trainer_gradients(trainer, result, NULL, NULL, err) || !trainer_update(trainer, result, err))
        return false;
    state->step++;
    state->position += trainer->plan.clips;
    state->tokens += trainer->plan.tokens;
    state->skipped += result->skipped;
    state->skipped_in_row = result->skipped ? state->skipped_in_row + 1 : 0;
    if (!log_result(trainer, result, err)) return false;
    if (state->skipped_in_row < SKIPS_IN_ROW_MAX) return true;
    return fail(err,
                "step %" PRId64 ": the loss or its gradient was not a finite number %d steps in a row; lower train.lr, "
                "or look at the data of these steps with --show-batch",
                state->step, SKIPS_IN_ROW_MAX);
}

static bool every(int64_t step, int64_t interval) { return interval > 0 && step % interval == 0; }

/* Ranks have agreed on it when they last met. */
static bool stops(Trainer *trainer) {
    if (comm_size(trainer->run->comm) == 1) trainer->stop = atomic_load(&trainer->stopper.asked);
    return trainer->stop;
}

/* What follows a step: validation, checkpoint. `done` ends the run. */
static bool after_step(Trainer *trainer, bool *done, Error *err) {
    const TrainSection *train = &trainer->run->config->train;
    TrainState *state = &trainer->state;
    bool better = false, last = state->step >= trainer->steps.total;
    bool check = trainer->validation.count > 0 && (every(state->step, train->validate_every) || last);
    if (check && !validate(trainer, &better, err)) return false;
    bool stale = train->early_stop > 0 && state->stale >= train->early_stop;
    if (stale) fprintf(trainer->lines, "stopping early: %" PRId64 " validations without improvement\n", state->stale);
    *done = last || stale || stops(trainer);
    if (!*done && !better && !every(state->step, train->checkpoint_every)) return true;
    return save_checkpoint(trainer, err);
}

static bool finished(const Trainer *trainer) {
    const TrainSection *train = &trainer->run->config->train;
    return trainer->state.step >= trainer->steps.total ||
           (train->early_stop > 0 && trainer->state.stale >= train->early_stop);
}

static void report_end(const Trainer *trainer) {
    const TrainState *state = &trainer->state;
    fprintf(trainer->lines, "%s: %" PRId64 " of %" PRId64 " steps done in %.1f s", trainer->run->folder, state->step,
            trainer->steps.total, state->seconds);
    if (state->skipped)
        fprintf(trainer->lines, ", %" PRId64 " skipped for losses that were not finite", state->skipped);
    if (!isnan(state->best_loss))
        fprintf(trainer->lines, "; best validation loss %.4f at step %" PRId64, state->best_loss, state->best_step);
    fputc('\n', trainer->lines);
    if (!finished(trainer)) fprintf(trainer->lines, "stopped; go on with the same command and --resume\n");
}

static bool run_steps(Trainer *trainer, Error *err) {
    Progress progress;
    bool done = finished(trainer), ok = true;
    int64_t tokens = trainer->state.tokens;
    trainer->began = clock_seconds();
    trainer->before = trainer->state.seconds;
    progress_begin(&progress, "train", "steps", trainer->state.step, trainer->steps.total);
    progress.quiet = !writes(trainer);
    while (ok && !done) {
        StepResult result;
        char note[80];
        ok = take_step(trainer, &result, err) && after_step(trainer, &done, err);
        double elapsed = clock_seconds() - trainer->began;
        snprintf(note, sizeof note, "loss %.4f  %.0f tokens/s", result.loss,
                 (double)(trainer->state.tokens - tokens) / (elapsed > 0 ? elapsed : 1));
        if (ok) progress_update(&progress, trainer->state.step, note);
    }
    progress_end(&progress);
    if (ok) report_end(trainer);
    return ok;
}

static bool run_training(Trainer *trainer, Error *err) {
    if (!check_folder(trainer, err)) return false;
    print_examples(trainer, trainer->lines);
    if (!print_memory(trainer, false, trainer->lines, err)) return false;
    if (!trainer_optimizer(trainer, err) || !begin_or_resume(trainer, err)) return false;
    bool done = finished(trainer);
    /* The cache before the plan: its encoder batches may be larger than a step's, and the plan lays memory out
     * anew. It may take long, and be interrupted. */
    if (!done && !open_feeds(trainer, err)) return false;
    if (!done && !stops(trainer)) return trainer_plan(trainer, err) && run_steps(trainer, err);
    report_end(trainer);
    return true;
}

/* ---- looking without training ---- */

static bool dry_run(Trainer *trainer, Error *err) {
    print_examples(trainer, stdout);
    return print_memory(trainer, true, stdout, err);
}

static bool show_batch(Trainer *trainer, Error *err) {
    if (!open_feeds(trainer, err) || !steps_plan(&trainer->steps, 0, &trainer->plan, err) ||
        !feed_send(&trainer->feed, trainer->plan.own, trainer->plan.own_count, err))
        return false;
    printf("step 1: %" PRId64 " clips in %zu micro-batches, %" PRId64 " tokens, %" PRId64 " of them bear loss\n",
           trainer->plan.clips, trainer->plan.group_count, trainer->plan.tokens, trainer->plan.responses);
    for (int64_t i = 0; i < trainer->plan.groups[0] && i < SHOWN_SAMPLES; i++)
        if (!feed_add(&trainer->feed, trainer->plan.own[i], &trainer->batch, err)) return false;
    for (int i = 0; i < trainer->batch.count; i++)
        if (!batch_show(&trainer->batch, i, trainer->run, stdout, err)) return false;
    return true;
}

static bool dump_steps(Trainer *trainer, Error *err) {
    const TrainOptions *options = trainer->options;
    trainer->state.best_loss = NAN;
    if (!dump_config(trainer->run, trainer->steps.total, options->dump, err) || !trainer_optimizer(trainer, err) ||
        !trainer_plan(trainer, err) || !open_feeds(trainer, err))
        return false;
    while (trainer->state.step < options->dump_steps && trainer->state.step < trainer->steps.total) {
        StepResult result;
        if (!steps_plan(&trainer->steps, trainer->state.position, &trainer->plan, err) ||
            !dump_step(trainer, options->dump, &result, err) || !trainer_update(trainer, &result, err))
            return false;
        trainer->state.step++;
        trainer->state.position += trainer->plan.clips;
        fprintf(trainer->lines, "step %" PRId64 ": loss %.6f\n", trainer->state.step, result.loss);
    }
    return true;
}

static bool work(Trainer *trainer, Error *err) {
    const TrainOptions *options = trainer->options;
    trainer->words = memory_new((size_t)comm_size(trainer->run->comm), COMM_MESSAGE, err);
    if (!trainer->words || !open_examples(trainer, err)) return false;
    if (options->dry_run) return dry_run(trainer, err);
    if (options->show_batch) return show_batch(trainer, err);
    if (options->dump) return dump_steps(trainer, err);
    return run_training(trainer, err);
}

/* Several ranks train; what only looks does so alone. */
static bool open_ranks(Trainer *trainer, bool looking, Comm **comm, Error *err) {
    if (looking && !comm_alone("train --dry-run, --show-batch or --dump", err)) return false;
    if (!looking && (!stopper_start(&trainer->stopper, err) || !comm_open(comm, err))) return false;
    trainer->lines = stderr;
    if (comm_rank(*comm) == 0) return true;
    atomic_store(&trainer->stopper.quiet, true);
    trainer->lines = fopen("/dev/null", "w");
    return trainer->lines || fail(err, "/dev/null: cannot be opened");
}

bool train(const char *config, const Texts *overrides, const TrainOptions *options, Error *err) {
    Trainer trainer = {.options = options};
    Comm *comm = NULL;
    RunOptions run_options = {.overrides = overrides, .model = true, .data = true, .device = options->device};
    run_options.plan = options->dry_run || options->show_batch;
    bool ok = open_ranks(&trainer, options->dry_run || options->show_batch || options->dump, &comm, err);
    if (ok && folder_exists(config))
        ok = fail_usage(err, "%s: is a folder; train takes a config file (a run's own is %s/config.yaml)", config,
                        config);
    run_options.comm = comm;
    ok = ok && (trainer.run = run_open(config, &run_options, err)) && work(&trainer, err);
    ok = comm_close(comm, ok, err);
    close_all(&trainer);
    return ok;
}
