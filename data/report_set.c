#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/report.h"

/* "shards/ravdess/" and "ravdess.jsonl" are both named ravdess. */
static char *name_of(const char *path, Error *err) {
    char *real = realpath(path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    char *name = text_copy(slash && slash[1] ? slash + 1 : "data", err);
    char *dot = name ? strstr(name, ".jsonl") : NULL;
    if (dot && dot != name && !dot[6]) *dot = '\0';
    free(real);
    return name;
}

static double manifest_seconds(const Utterance *utterance) {
    double measured = utterance->features.value[FEATURE_DURATION_S];
    if (utterance->has_features && isfinite(measured) && measured > 0) return measured;
    return utterance->end > 0 ? utterance->end - utterance->start : NAN;
}

static bool gather(DataSet *set, Error *err) {
    set->count = set->shards ? shards_count(set->shards) : set->manifest.count;
    set->utterances = memory_new(set->count, sizeof *set->utterances, err);
    set->seconds = memory_new(set->count, sizeof *set->seconds, err);
    if (!set->utterances || !set->seconds) return false;
    for (size_t i = 0; i < set->count; i++) {
        set->utterances[i] = set->shards ? shards_utterance(set->shards, i) : &set->manifest.items[i];
        set->seconds[i] =
            set->shards ? (double)shards_samples(set->shards, i) / AUDIO_RATE : manifest_seconds(set->utterances[i]);
    }
    return true;
}

bool data_set_open(DataSet *set, const char *path, Error *err) {
    *set = (DataSet){0};
    bool folder = folder_exists(path);
    bool opened = folder ? (set->shards = shards_open(path, err)) != NULL : manifest_read(&set->manifest, path, err);
    if (opened && (set->name = name_of(path, err)) && gather(set, err)) return true;
    data_set_close(set);
    return false;
}

void data_set_close(DataSet *set) {
    if (set->shards) shards_close(set->shards);
    manifest_free(&set->manifest);
    free(set->name);
    free(set->utterances);
    free(set->seconds);
    *set = (DataSet){0};
}

bool data_set_audio(const DataSet *set, size_t index, Audio *audio, Error *err) {
    if (set->shards) return shards_read(set->shards, index, audio, err);
    const Utterance *utterance = set->utterances[index];
    char *path = manifest_audio(&set->manifest, utterance, err);
    bool done = path && audio_read(audio, path, utterance->start, utterance->end, AUDIO_RATE, err);
    free(path);
    return done || fail_in(err, "utterance \"%.200s\"", utterance->id);
}
