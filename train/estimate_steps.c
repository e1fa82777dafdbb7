#include "train/estimate_steps.h"

#include <math.h>
#include <stdlib.h>

enum { LOOKED_AT = 4, NO_LOSS = -100, SPEECH_ROW = -1 };

/* ---- clips ---- */

typedef struct Source {
    const Run *run;
    Steps real; /* of the data; zeroed: assumed */
    bool assumed;
} Source;

/* From 1 s to the longest there may be, spread evenly over any stretch of positions. */
static PlannedClip assumed_clip(const Run *run, int64_t position) {
    static const double GOLDEN = 0.6180339887498949;
    const RunConfig *config = run->config;
    double place = fmod((double)position * GOLDEN, 1), most = config->data.max_seconds;
    double seconds = most > 1 ? 1 + (most - 1) * place : most;
    bool speech = config->prompt.input == INPUT_SPEECH;
    PlannedClip clip = {.samples = speech ? (int64_t)(seconds * AUDIO_RATE) : 0, .answer = ASSUMED_ANSWER};
    int64_t rows = speech ? speech_llm_rows(run->model, clip.samples) : ASSUMED_CUES;
    clip.tokens = ASSUMED_PROMPT + (int32_t)rows + ASSUMED_ANSWER;
    return clip;
}

static bool clip_at(Source *source, int64_t position, PlannedClip *clip, Error *err) {
    if (source->assumed) {
        *clip = assumed_clip(source->run, position);
        return true;
    }
    const Example *example = steps_example(&source->real, position, err);
    if (!example) return false;
    bool speech = source->run->config->prompt.input == INPUT_SPEECH;
    *clip = (PlannedClip){
        .samples = speech ? example->samples : 0, .tokens = example->tokens, .answer = (int32_t)example->answer.count};
    return true;
}

/* ---- steps and micro-batches: the rule of steps_plan ---- */

typedef struct Filling {
    int64_t clips, tokens, groups;
} Filling;

static bool fits(const TrainSection *train, const Filling *filling, int32_t tokens) {
    if (filling->clips == 0) return true;
    if (train->batch_clips > 0 && filling->clips >= train->batch_clips) return false;
    return train->batch_tokens == 0 || filling->tokens + tokens <= train->batch_tokens;
}

/* How many clips from `position` make one step of all ranks. */
static bool step_clips(Source *source, int64_t position, int64_t *count, Error *err) {
    const TrainSection *train = &source->run->config->train;
    int64_t end = source->assumed ? INT64_MAX : source->real.end;
    int64_t wanted = train->batch_clips > 0 ? train->batch_clips * train->accumulate : INT64_MAX;
    Filling filling = {0};
    for (*count = 0; *count < wanted && position + *count < end; ++*count) {
        PlannedClip clip;
        if (!clip_at(source, position + *count, &clip, err)) return false;
        if (!fits(train, &filling, clip.tokens)) {
            filling = (Filling){.groups = filling.groups + 1};
            if (train->batch_clips == 0 && filling.groups == train->accumulate) return true;
        }
        filling.clips++;
        filling.tokens += clip.tokens;
    }
    return true;
}

static bool add_clip(PlannedSteps *steps, const PlannedClip *clip, bool begins, Error *err) {
    if (!memory_grow(&steps->clips, steps->clip_count, &steps->clip_capacity, sizeof *steps->clips, err) ||
        !memory_grow(&steps->groups, steps->group_count, &steps->group_capacity, sizeof *steps->groups, err))
        return false;
    if (begins) steps->groups[steps->group_count++] = (MicroBatch){.first = steps->clip_count};
    steps->groups[steps->group_count - 1].count++;
    steps->clips[steps->clip_count++] = *clip;
    return true;
}

/* The rank that gets most: the others wait for it. */
static int fullest(const int64_t *load, int ranks) {
    int most = 0;
    for (int r = 1; r < ranks; r++)
        if (load[r] > load[most]) most = r;
    return most;
}

static bool add_share(PlannedSteps *steps, const TrainSection *train, const PlannedClip *clips, const Dealt *dealt,
                      int64_t count, int rank, Error *err) {
    Filling filling = {0};
    for (int64_t i = 0; i < count; i++) {
        if (dealt[i].rank != rank) continue;
        bool begins = filling.clips == 0 || !fits(train, &filling, clips[i].tokens);
        if (begins) filling = (Filling){0};
        filling.clips++;
        filling.tokens += clips[i].tokens;
        if (!add_clip(steps, &clips[i], begins, err)) return false;
    }
    return true;
}

static bool add_step(PlannedSteps *steps, Source *source, int64_t position, int64_t count, int gpus, Error *err) {
    PlannedClip *clips = memory_new((size_t)count, sizeof *clips, err);
    Dealt *dealt = memory_new((size_t)count, sizeof *dealt, err);
    int64_t *load = memory_new((size_t)gpus, sizeof *load, err);
    bool ok = clips && dealt && load;
    for (int64_t i = 0; ok && i < count; i++) {
        ok = clip_at(source, position + i, &clips[i], err);
        dealt[i] = (Dealt){.tokens = clips[i].tokens, .place = (size_t)i};
        steps->tokens += clips[i].tokens;
    }
    if (ok) deal(dealt, (size_t)count, gpus, load);
    ok = ok && add_share(steps, &source->run->config->train, clips, dealt, count, fullest(load, gpus), err);
    steps->steps++;
    free(clips);
    free(dealt);
    free(load);
    return ok;
}

static void measure(PlannedSteps *steps) {
    for (size_t g = 0; g < steps->group_count; g++) {
        SpeechLimits sum = {0};
        for (size_t i = 0; i < steps->groups[g].count; i++) {
            const PlannedClip *clip = &steps->clips[steps->groups[g].first + i];
            sum.clips++;
            sum.samples += clip->samples;
            sum.tokens += clip->tokens;
            sum.responses += clip->answer;
            if (clip->samples > sum.longest) sum.longest = clip->samples;
        }
        limits_raise(&steps->limits, &sum);
    }
}

bool planned_steps(PlannedSteps *steps, const Run *run, const Examples *examples, int gpus, Error *err) {
    Source source = {.run = run, .assumed = !examples};
    *steps = (PlannedSteps){.total = run->config->train.steps};
    bool ok = !examples || steps_open(&source.real, run, examples, (Share){0, gpus}, err);
    if (ok && examples) steps->total = source.real.total;
    int64_t position = 0, count;
    while (ok && steps->steps < LOOKED_AT) {
        ok = step_clips(&source, position, &count, err);
        if (!ok || count == 0) break;
        ok = add_step(steps, &source, position, count, gpus, err);
        position += count;
    }
    measure(steps);
    if (ok && examples) limits_raise(&steps->limits, &source.real.limits);
    if (examples) steps_close(&source.real);
    return ok;
}

void planned_steps_free(PlannedSteps *steps) {
    free(steps->clips);
    free(steps->groups);
    *steps = (PlannedSteps){0};
}

/* ---- a batch ---- */

void planned_batch_free(PlannedBatch *batch) {
    free(batch->wave_start);
    free(batch->wave);
    free(batch->prosody);
    free(batch->features);
    free(batch->sample);
    free(batch->cu_tokens);
    free(batch->ids);
    free(batch->labels);
    *batch = (PlannedBatch){0};
}

/* Prompt, speech, answer. */
static void put_tokens(const PlannedBatch *batch, int64_t at, const PlannedClip *clip, int64_t rows) {
    int64_t prompt = clip->tokens - clip->answer - rows;
    for (int64_t t = 0; t < clip->tokens; t++) {
        batch->ids[at + t] = t >= prompt && t < prompt + rows ? SPEECH_ROW : 0;
        batch->labels[at + t] = t >= prompt + rows ? 0 : NO_LOSS;
    }
}

static void fill(const PlannedBatch *batch, const PlannedClip *clips, size_t count, const Run *run) {
    for (size_t i = 0; i < count; i++) {
        batch->wave_start[i + 1] = batch->wave_start[i] + clips[i].samples;
        batch->cu_tokens[i + 1] = batch->cu_tokens[i] + clips[i].tokens;
        put_tokens(batch, batch->cu_tokens[i], &clips[i], speech_llm_rows(run->model, clips[i].samples));
    }
}

bool planned_batch(PlannedBatch *batch, const PlannedSteps *steps, const MicroBatch *group, const Run *run,
                   SpeechBatch *view, Error *err) {
    const PlannedClip *clips = steps->clips + group->first;
    const bool speech = run->config->prompt.input == INPUT_SPEECH;
    const bool cached = speech && run->config->train.encoder_cache != CACHE_OFF;
    size_t tokens = 0, samples = 0, frames = 0, channels = (size_t)config_prosody_channels(run->config);
    for (size_t i = 0; i < group->count; i++) {
        tokens += (size_t)clips[i].tokens;
        samples += (size_t)clips[i].samples;
        frames += (size_t)speech_llm_frames(run->model, clips[i].samples);
    }
    planned_batch_free(batch);
    batch->wave_start = memory_new(group->count + 1, sizeof *batch->wave_start, err);
    batch->cu_tokens = memory_new(group->count + 1, sizeof *batch->cu_tokens, err);
    batch->sample = memory_new(group->count, sizeof *batch->sample, err);
    batch->ids = memory_new(tokens, sizeof *batch->ids, err);
    batch->labels = memory_new(tokens, sizeof *batch->labels, err);
    batch->prosody = memory_new(frames * channels, sizeof *batch->prosody, err);
    batch->wave = memory_new(cached ? 0 : samples, sizeof *batch->wave, err);
    batch->features = memory_new(frames * (size_t)speech_llm_feature_bytes(run->model), 1, err);
    if (!batch->wave_start || !batch->cu_tokens || !batch->sample || !batch->ids || !batch->labels || !batch->prosody ||
        !batch->wave || !batch->features)
        return false;
    fill(batch, clips, group->count, run);
    *view = (SpeechBatch){.count = (int)group->count,
                          .wave_start = batch->wave_start,
                          .wave = speech && !cached ? batch->wave : NULL,
                          .features = cached ? batch->features : NULL,
                          .prosody = channels ? batch->prosody : NULL,
                          .sample = batch->sample,
                          .cu_tokens = batch->cu_tokens,
                          .ids = batch->ids,
                          .labels = batch->labels};
    return true;
}
