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

static bool fill(FeatureCache *cache, Run *run, const Examples *examples, Feed *feed, const atomic_bool *stop,
                 Error *err) {
    Batch batch = {0};
    Progress progress;
    size_t first = 0;
    bool ok = true;
    progress_begin(&progress, "encode", "clips", 0, (int64_t)examples->count);
    for (size_t i = 0; ok && i < examples->count && !atomic_load(stop); i++) {
        if (full(&batch, &examples->items[i])) {
            ok = encode(cache, run, &batch, first, err);
            first = i;
            batch_clear(&batch);
            progress_update(&progress, (int64_t)i, NULL);
        }
        ok = ok && feed_add(feed, (int64_t)i, &batch, err);
    }
    if (batch.count > 0 && !atomic_load(stop)) ok = ok && encode(cache, run, &batch, first, err);
    if (ok && !atomic_load(stop)) progress_update(&progress, (int64_t)examples->count, NULL);
    progress_end(&progress);
    batch_free(&batch);
    return ok;
}

bool cache_fill(FeatureCache *cache, Run *run, const Examples *examples, const atomic_bool *stop, Error *err) {
    *cache = (FeatureCache){0};
    size_t frames = (size_t)count_frames(run, examples);
    cache->first = memory_new(examples->count + 1, sizeof *cache->first, err);
    cache->features = memory_new(frames, (size_t)speech_llm_feature_bytes(run->model), err);
    cache->prosody = memory_new(frames, (size_t)config_prosody_channels(run->config) * sizeof(float), err);
    bool ok = cache->first && cache->features && cache->prosody;
    for (size_t i = 0; ok && i < examples->count; i++)
        cache->first[i + 1] = cache->first[i] + speech_llm_frames(run->model, examples->items[i].samples);
    if (ok && examples->count == 0) return true;
    Feed feed = {0};
    ok = ok && feed_open(&feed, run, examples, NULL, NULL, err) && fill(cache, run, examples, &feed, stop, err);
    feed_close(&feed);
    if (!ok) cache_free(cache);
    return ok;
}
