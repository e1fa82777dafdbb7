#include "train/feed.h"

#include <stdlib.h>

static const Example *example_at(Feed *feed, int64_t position, Error *err) {
    return feed->steps ? steps_example(feed->steps, position, err) : &feed->examples->items[position];
}

bool feed_open(Feed *feed, const Run *run, const Examples *examples, Steps *steps, const FeatureCache *cache,
               Error *err) {
    *feed = (Feed){.run = run, .examples = examples, .steps = steps, .cache = cache};
    if (cache || run->config->prompt.input != INPUT_SPEECH) return true;
    LoaderOptions options = run_loader_options(run, &run->train);
    if (run->config->data.overlong == OVERLONG_SPLIT) options.max_samples = 0; /* pieces are cut from the whole clip */
    feed->ahead = memory_new(examples->count, sizeof *feed->ahead, err);
    feed->loader = feed->ahead ? loader_open(run->shards, &options, err) : NULL;
    if (feed->loader) return true;
    feed_close(feed);
    return false;
}

void feed_close(Feed *feed) {
    loader_close(feed->loader);
    free(feed->ahead);
    *feed = (Feed){0};
}

/* Sends the loader from `position` to the end of its epoch. */
static bool send_loader(Feed *feed, int64_t position, Error *err) {
    int64_t count = (int64_t)feed->examples->count, end = (position / count + 1) * count;
    for (int64_t p = position; p < end; p++) {
        const Example *example = example_at(feed, p, err);
        if (!example) return false;
        feed->ahead[p - position] = example->sample;
    }
    feed->next = position;
    feed->end = end;
    return loader_start(feed->loader, feed->ahead, (size_t)(end - position), err);
}

static bool add_loaded(Feed *feed, int64_t position, const Example *example, Batch *batch, Error *err) {
    if ((position != feed->next || position >= feed->end) && !send_loader(feed, position, err)) return false;
    Sample sample;
    if (!loader_next(feed->loader, &sample, err)) return false;
    feed->next++;
    Clip clip = example_clip(example, feed->run, &sample);
    bool ok = batch_add(batch, feed->run, &clip, &example->answer, err);
    sample_free(&sample);
    return ok;
}

bool feed_add(Feed *feed, int64_t position, Batch *batch, Error *err) {
    const Example *example = example_at(feed, position, err);
    if (!example) return false;
    if (feed->loader) return add_loaded(feed, position, example, batch, err);
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
