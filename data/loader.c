/* Reading ahead: workers take the next position, load it into its slot of a ring, and wait where the ring is full;
 * loader_next hands the slots out in order. Where the shards lie on a server, one more thread brings them near, and
 * workers wait for it too. */
#include "data/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader_near.h"

enum { RECEPTIVE_FIELD = 400, HOP = 320, THREADS_MAX = 256 };

typedef struct Slot {
    Sample sample;
    Error err;
    bool ready;
} Slot;

struct Loader {
    const Shards *shards;
    LoaderOptions options;
    uint32_t *indexes;          /* [count] */
    size_t count, given, taken; /* positions begun by workers, handed out */
    Slot *ring;                 /* [options.ahead] */
    pthread_t *threads, bringer;
    int running;
    bool bringing; /* the bringer runs */
    atomic_bool stopping;
    Near near;     /* of a server's shards */
    bool remote;   /* it is used */
    Error missing; /* why the shard at near.end cannot be had */
    pthread_mutex_t lock;
    pthread_cond_t room, ready, moved;
};

/* ---- one sample ---- */

static bool add_prosody(const LoaderOptions *options, Sample *sample, Error *err) {
    int64_t samples = sample->audio.count;
    sample->prosody_frames = samples < RECEPTIVE_FIELD ? 0 : (samples - RECEPTIVE_FIELD) / HOP + 1;
    size_t values = (size_t)sample->prosody_frames * (size_t)options->prosody;
    sample->prosody = memory_new(values, sizeof *sample->prosody, err);
    if (!sample->prosody) return false;
    if (sample->prosody_frames == 0) return true;
    return features_prosody(&sample->audio, options->prosody, sample->prosody_frames, sample->prosody, err);
}

static bool load(Loader *loader, uint32_t index, Sample *sample, Error *err) {
    const LoaderOptions *options = &loader->options;
    *sample = (Sample){.index = index, .utterance = shards_utterance(loader->shards, index)};
    if (!options->audio) return true;
    bool ok = shards_read_until(loader->shards, index, &loader->stopping, &sample->audio, err);
    if (ok && options->max_samples > 0 && sample->audio.count > options->max_samples)
        sample->audio.count = options->max_samples;
    ok = ok && (options->prosody == 0 || add_prosody(options, sample, err));
    if (!ok) {
        fail_in(err, "sample %" PRIu32, index);
        sample_free(sample);
    }
    return ok;
}

void sample_free(Sample *sample) {
    audio_free(&sample->audio);
    free(sample->prosody);
    *sample = (Sample){0};
}

/* ---- workers ---- */

static bool has_room(const Loader *loader) {
    return loader->given - loader->taken < (size_t)loader->options.ahead &&
           (!loader->remote || loader->given < loader->near.end);
}

static void *work(void *argument) {
    Loader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (!loader->stopping && loader->given < loader->count && !has_room(loader))
            pthread_cond_wait(&loader->room, &loader->lock);
        if (loader->stopping || loader->given >= loader->count) break;
        size_t position = loader->given++;
        Slot *slot = &loader->ring[position % (size_t)loader->options.ahead];
        if (loader->remote) {
            near_reach(&loader->near, position);
            pthread_cond_signal(&loader->moved);
        }
        pthread_mutex_unlock(&loader->lock);
        load(loader, loader->indexes[position], &slot->sample, &slot->err);
        pthread_mutex_lock(&loader->lock);
        slot->ready = true;
        pthread_cond_broadcast(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* One shard that could not be had ends it: the error waits for its sample to be asked for. */
static void *bring(void *argument) {
    Loader *loader = argument;
    Near *near = &loader->near;
    uint32_t file;
    bool ok = true;
    pthread_mutex_lock(&loader->lock);
    while (ok && !loader->stopping && near->end < near->count) {
        bool wanted = near_next(near, &file);
        pthread_cond_broadcast(&loader->room);
        if (wanted) {
            Error err = {0};
            near_keep(near);
            pthread_mutex_unlock(&loader->lock);
            ok = shards_bring(loader->shards, file, &loader->stopping, &err);
            pthread_mutex_lock(&loader->lock);
            if (ok)
                near_brought(near);
            else
                loader->missing = err;
        } else if (near->end < near->count) {
            pthread_cond_wait(&loader->moved, &loader->lock);
        }
    }
    pthread_cond_broadcast(&loader->room);
    pthread_cond_broadcast(&loader->ready);
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static void stop(Loader *loader) {
    pthread_mutex_lock(&loader->lock);
    atomic_store(&loader->stopping, true);
    pthread_cond_broadcast(&loader->room);
    pthread_cond_broadcast(&loader->moved);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->running; i++) pthread_join(loader->threads[i], NULL);
    if (loader->bringing) pthread_join(loader->bringer, NULL);
    loader->running = 0;
    loader->bringing = false;
    loader->missing = (Error){0};
    atomic_store(&loader->stopping, false);
    for (int i = 0; i < loader->options.ahead; i++) {
        sample_free(&loader->ring[i].sample);
        loader->ring[i] = (Slot){0};
    }
}

/* ---- outside ---- */

static bool open_parts(Loader *loader, Error *err) {
    const LoaderOptions *options = &loader->options;
    loader->ring = memory_new((size_t)options->ahead, sizeof *loader->ring, err);
    loader->threads = memory_new((size_t)options->threads, sizeof *loader->threads, err);
    loader->remote = options->audio && shards_room(loader->shards) > 0;
    return loader->ring && loader->threads && (!loader->remote || near_open(&loader->near, loader->shards, err));
}

static void close_parts(Loader *loader) {
    near_close(&loader->near);
    free(loader->indexes);
    free(loader->ring);
    free(loader->threads);
    free(loader);
}

Loader *loader_open(const Shards *shards, const LoaderOptions *options, Error *err) {
    if (options->threads < 1 || options->threads > THREADS_MAX || options->ahead < 1) {
        fail(err, "a loader needs 1 to %d threads and at least one sample in flight", THREADS_MAX);
        return NULL;
    }
    Loader *loader = memory_new(1, sizeof *loader, err);
    if (!loader) return NULL;
    loader->shards = shards;
    loader->options = *options;
    if (!open_parts(loader, err)) {
        close_parts(loader);
        return NULL;
    }
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->room, NULL);
    pthread_cond_init(&loader->ready, NULL);
    pthread_cond_init(&loader->moved, NULL);
    return loader;
}

void loader_close(Loader *loader) {
    if (!loader) return;
    stop(loader);
    pthread_mutex_destroy(&loader->lock);
    pthread_cond_destroy(&loader->room);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->moved);
    close_parts(loader);
}

static bool start_threads(Loader *loader) {
    for (; loader->running < loader->options.threads; loader->running++)
        if (pthread_create(&loader->threads[loader->running], NULL, work, loader) != 0) return false;
    if (loader->remote) loader->bringing = pthread_create(&loader->bringer, NULL, bring, loader) == 0;
    return loader->bringing == loader->remote;
}

bool loader_start(Loader *loader, const uint32_t *indexes, size_t count, Error *err) {
    stop(loader);
    free(loader->indexes);
    loader->count = loader->given = loader->taken = 0;
    loader->indexes = memory_new(count, sizeof *indexes, err);
    if (!loader->indexes) return false;
    if (count) memcpy(loader->indexes, indexes, count * sizeof *indexes);
    for (size_t i = 0; i < count; i++)
        if (indexes[i] >= shards_count(loader->shards))
            return fail(err, "the shards hold %zu samples; there is no sample %" PRIu32, shards_count(loader->shards),
                        indexes[i]);
    loader->count = count;
    if (loader->remote) near_start(&loader->near, loader->indexes, count);
    if (start_threads(loader)) return true;
    stop(loader);
    loader->count = 0;
    return fail(err, "a loader thread could not be started; ask for fewer with train.threads");
}

/* The shard of the next sample could not be had. */
static bool is_missing(const Loader *loader) {
    return loader->missing.exit_code != EXIT_DONE && loader->taken >= loader->near.end;
}

bool loader_next(Loader *loader, Sample *sample, Error *err) {
    *sample = (Sample){0};
    if (loader->taken >= loader->count) return fail(err, "the loader has no sample left after %zu", loader->count);
    Slot *slot = &loader->ring[loader->taken % (size_t)loader->options.ahead];
    pthread_mutex_lock(&loader->lock);
    while (!slot->ready && !is_missing(loader)) pthread_cond_wait(&loader->ready, &loader->lock);
    Slot got = *slot;
    if (slot->ready) {
        *slot = (Slot){0};
        if (loader->remote) near_leave(&loader->near, loader->taken);
        loader->taken++;
        pthread_cond_signal(&loader->room);
        pthread_cond_signal(&loader->moved);
    } else {
        got.err = loader->missing;
    }
    pthread_mutex_unlock(&loader->lock);
    *sample = got.sample;
    if (got.err.exit_code == EXIT_DONE) return true;
    if (err && err->exit_code == EXIT_DONE) *err = got.err;
    return false;
}
