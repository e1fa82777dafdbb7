#include "train/feed.h"

#include <assert.h>
#include <stdlib.h>

bool feed_open(Feed *feed, const Run *run, const Examples *examples, const FeatureCache *cache, Error *err) {
    *feed = (Feed){.run = run, .examples = examples, .cache = cache};
    if (cache || run->config->prompt.input != INPUT_SPEECH) return true;
    LoaderOptions options = run_loader_options(run, &run->train);
    if (run->config->data.overlong == OVERLONG_SPLIT) options.max_samples = 0; /* pieces are cut from the whole clip */
    feed->loader = loader_open(run->shards, &options, err);
    return feed->loader != NULL;
}

void feed_close(Feed *feed) {
    loader_close(feed->loader);
    free(feed->samples);
    *feed = (Feed){0};
}

bool feed_send(Feed *feed, const Example *const *examples, size_t count, Error *err) {
    if (!feed->loader) return true;
    for (size_t i = 0; i < count; i++) {
        if (!memory_grow(&feed->samples, i, &feed->capacity, sizeof *feed->samples, err)) return false;
        feed->samples[i] = examples[i]->sample;
    }
    return loader_start(feed->loader, feed->samples, count, err);
}

static bool add_loaded(Feed *feed, const Example *example, Batch *batch, Error *err) {
    Sample sample;
    if (!loader_next(feed->loader, &sample, err)) return false;
    assert(sample.index == example->sample);
    Clip clip = example_clip(example, feed->run, &sample);
    bool ok = batch_add(batch, feed->run, &clip, &example->answer, err);
    sample_free(&sample);
    return ok;
}

bool feed_add(Feed *feed, const Example *example, Batch *batch, Error *err) {
    if (feed->loader) return add_loaded(feed, example, batch, err);
    Clip clip = {.id = example->id,
                 .utterance = shards_utterance(feed->run->shards, example->sample),
                 .samples = example->samples};
    if (feed->cache) {
        int64_t first = feed->cache->first[example - feed->examples->items];
        clip.features = feed->cache->features + first * speech_llm_feature_bytes(feed->run->model);
        clip.prosody = feed->cache->prosody + first * config_prosody_channels(feed->run->config);
    }
    return batch_add(batch, feed->run, &clip, &example->answer, err);
}
