/* The encoder is frozen and its input never varied, so each example is encoded once. */
#include <stdlib.h>

#include "train/feed.h"

enum { ENCODE_SAMPLES = 30 * AUDIO_RATE, ENCODE_CLIPS = 32 };

static int64_t count_frames(const Run *run, const Examples *examples) {
    int64_t frames = 0;
    for (size_t i = 0; i < examples->count; i++) frames += speech_llm_frames(run->model, examples->items[i].samples);
    return frames;
}

size_t cache_bytes(const Run *run, const Examples *examples) {
    int64_t prosody = config_prosody_channels(run->config) * (int64_t)sizeof(float);
    return (size_t)(count_frames(run, examples) * (speech_llm_feature_bytes(run->model) + prosody));
}

void cache_free(FeatureCache *cache) {
    free(cache->features);
    free(cache->prosody);
    free(cache->first);
    *cache = (FeatureCache){0};
}

/* Encodes the batch, whose first example is number `first`. */
static bool encode(FeatureCache *cache, Run *run, const Batch *batch, size_t first, Error *err) {
    SpeechBatch view = batch_view(batch);
    int64_t frame = cache->first[first], channels = config_prosody_channels(run->config);
    for (int64_t i = 0; i < batch->frames * channels; i++) cache->prosody[frame * channels + i] = batch->prosody[i];
    return speech_llm_encode(run->model, &view, cache->features + frame * speech_llm_feature_bytes(run->model), err);
}

static bool full(const Batch *batch, const Example *next) {
    return batch->count > 0 &&
           (batch->count >= ENCODE_CLIPS || batch->wave_start[batch->count] + next->samples > ENCODE_SAMPLES);
}

/* Encodes the examples from number `first` up to `end`. */
static bool fill(FeatureCache *cache, Run *run, const Examples *examples, size_t first, size_t end,
                 const atomic_bool *stop, Feed *feed, Error *err) {
    Batch batch = {0};
    Progress progress;
    size_t began = first;
    bool ok = true;
    progress_begin(&progress, "encode", "clips", 0, (int64_t)(end - began));
    progress.quiet = comm_rank(run->comm) > 0;
    for (size_t i = first; ok && i < end && !atomic_load(stop); i++) {
        if (full(&batch, &examples->items[i])) {
            ok = encode(cache, run, &batch, first, err);
            first = i;
            batch_clear(&batch);
            progress_update(&progress, (int64_t)(i - began), NULL);
        }
        ok = ok && feed_add(feed, &examples->items[i], &batch, err);
    }
    if (batch.count > 0 && !atomic_load(stop)) ok = ok && encode(cache, run, &batch, first, err);
    if (ok && !atomic_load(stop)) progress_update(&progress, (int64_t)(end - began), NULL);
    progress_end(&progress);
    batch_free(&batch);
    return ok;
}

static bool send_for(Feed *feed, const Examples *examples, size_t first, size_t end, Error *err) {
    const Example **list = memory_new(end - first, sizeof *list, err);
    for (size_t i = first; list && i < end; i++) list[i - first] = &examples->items[i];
    bool ok = list && feed_send(feed, list, end - first, err);
    free(list);
    return ok;
}

/* ---- over ranks ---- */

/* Each rank encodes a stretch of the examples, and then all have all: a later epoch may deal any of them to it. */
static void cut(const FeatureCache *cache, size_t count, int ranks, size_t *bounds) {
    size_t at = 0;
    for (int r = 0; r < ranks; r++) {
        bounds[r] = at;
        while (at < count && cache->first[at] * ranks < cache->first[count] * (r + 1)) at++;
    }
    bounds[ranks] = count;
}

static bool collect(const FeatureCache *cache, void *data, size_t frame_bytes, const size_t *bounds, Comm *comm,
                    Error *err) {
    size_t count = (size_t)comm_size(comm) + 1, *first = memory_new(count, sizeof *first, err);
    for (size_t r = 0; first && r < count; r++) first[r] = (size_t)cache->first[bounds[r]] * frame_bytes;
    bool ok = first && comm_collect(comm, data, first, err);
    free(first);
    return ok;
}

static bool collect_all(const FeatureCache *cache, const Run *run, const size_t *bounds, bool *stopped, Error *err) {
    const size_t prosody = (size_t)config_prosody_channels(run->config) * sizeof(float);
    bool *stops = memory_new((size_t)comm_size(run->comm), sizeof *stops, err);
    bool ok = stops && comm_exchange(run->comm, stopped, sizeof *stopped, stops, err);
    for (int r = 0; ok && r < comm_size(run->comm); r++) *stopped = *stopped || stops[r];
    free(stops);
    if (!ok || *stopped) return ok;
    return collect(cache, cache->features, (size_t)speech_llm_feature_bytes(run->model), bounds, run->comm, err) &&
           collect(cache, cache->prosody, prosody, bounds, run->comm, err);
}

static bool encode_all(FeatureCache *cache, Run *run, const Examples *examples, const atomic_bool *stop, bool *stopped,
                       Error *err) {
    Feed feed = {0};
    int rank = comm_rank(run->comm), ranks = comm_size(run->comm);
    size_t *bounds = memory_new((size_t)ranks + 1, sizeof *bounds, err);
    if (bounds) cut(cache, examples->count, ranks, bounds);
    bool ok = bounds && feed_open(&feed, run, examples, NULL, err) &&
              send_for(&feed, examples, bounds[rank], bounds[rank + 1], err) &&
              fill(cache, run, examples, bounds[rank], bounds[rank + 1], stop, &feed, err);
    feed_close(&feed);
    *stopped = atomic_load(stop);
    ok = ok && collect_all(cache, run, bounds, stopped, err);
    free(bounds);
    return ok;
}

bool cache_fill(FeatureCache *cache, Run *run, const Examples *examples, const atomic_bool *stop, bool *stopped,
                Error *err) {
    *cache = (FeatureCache){0};
    size_t frames = (size_t)count_frames(run, examples);
    cache->first = memory_new(examples->count + 1, sizeof *cache->first, err);
    cache->features = memory_new(frames, (size_t)speech_llm_feature_bytes(run->model), err);
    cache->prosody = memory_new(frames, (size_t)config_prosody_channels(run->config) * sizeof(float), err);
    bool ok = cache->first && cache->features && cache->prosody;
    for (size_t i = 0; ok && i < examples->count; i++)
        cache->first[i + 1] = cache->first[i] + speech_llm_frames(run->model, examples->items[i].samples);
    if (ok && examples->count == 0) return true;
    ok = ok && encode_all(cache, run, examples, stop, stopped, err);
    if (!ok) cache_free(cache);
    return ok;
}
