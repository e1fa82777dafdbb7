/* loader_bench SHARDS [EPOCHS [THREADS [PROSODY]]]: shuffled epochs through the loader, its speed against real time and
 * the memory it took. SHARDS may be a URL. `taskset -c 0` gives the speed of one core. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "data/data.h"

static bool read_epoch(Loader *loader, const uint32_t *order, size_t count, double *seconds, Error *err) {
    *seconds = 0;
    if (!loader_start(loader, order, count, err)) return false;
    for (size_t i = 0; i < count; i++) {
        Sample sample;
        if (!loader_next(loader, &sample, err)) return false;
        *seconds += (double)sample.audio.count / AUDIO_RATE;
        sample_free(&sample);
    }
    return true;
}

static double cpu_seconds(const struct rusage *usage) {
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           1e-6 * (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

static bool bench(const Shards *shards, LoaderOptions *options, int epochs, Error *err) {
    size_t count = shards_count(shards);
    uint32_t *chosen = memory_new(count, sizeof *chosen, err), *order = memory_new(count, sizeof *order, err);
    for (uint32_t i = 0; chosen && i < count; i++) chosen[i] = i;
    options->chosen = chosen;
    options->chosen_count = count;
    Loader *loader = chosen && order ? loader_open(shards, options, err) : NULL;
    bool ok = loader != NULL;
    for (int epoch = 0; ok && epoch < epochs; epoch++) {
        struct rusage before, after;
        double seconds, began = clock_seconds();
        getrusage(RUSAGE_SELF, &before);
        ok =
            order_make(shards, options, (uint32_t)epoch, order, err) && read_epoch(loader, order, count, &seconds, err);
        double wall = clock_seconds() - began;
        getrusage(RUSAGE_SELF, &after);
        if (ok)
            printf("epoch %d: %.0f s of audio in %.2f s, %.0f times real time; %.0f a second of CPU; peak %ld MiB\n",
                   epoch + 1, seconds, wall, seconds / wall, seconds / (cpu_seconds(&after) - cpu_seconds(&before)),
                   after.ru_maxrss / 1024);
    }
    loader_close(loader);
    free(chosen);
    free(order);
    return ok;
}

int main(int argc, char **argv) {
    Error err = {0};
    int epochs = argc > 2 ? atoi(argv[2]) : 3;
    LoaderOptions options = {.shuffle = true, .shuffle_shards = 16, .audio = true};
    options.threads = argc > 3 ? atoi(argv[3]) : 1;
    options.prosody = argc > 4 ? atoi(argv[4]) : 0;
    options.ahead = 16 + 4 * options.threads;
    Shards *shards = argc > 1 ? shards_open(argv[1], &err) : NULL;
    if (argc < 2) fail_usage(&err, "usage: loader_bench SHARDS [EPOCHS [THREADS [PROSODY]]]");
    bool ok = shards && bench(shards, &options, epochs, &err);
    if (!ok) fprintf(stderr, "loader_bench: %s\n", err.text);
    shards_close(shards);
    return err.exit_code;
}
