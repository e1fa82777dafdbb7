/* CASIA: SPEAKER/EMOTION/201.wav, folders in any case. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import.h"

static const char *const SPEAKERS[][2] = {
    {"liuchanhg", "female"}, {"wangzhe", "male"}, {"zhaoquanyin", "female"}, {"ZhaoZuoxiang", "male"}, {0}};
static const char *const EMOTIONS[] = {"angry", "fear", "happy", "neutral", "sad", "surprise", NULL};

static const Published PUBLISHED[] = {{NULL, "angry", 200},
                                      {NULL, "fear", 200},
                                      {NULL, "happy", 200},
                                      {NULL, "neutral", 200},
                                      {NULL, "sad", 200},
                                      {NULL, "surprise", 200},
                                      {0}};

static bool add_in(Import *import, const AudioFile *file, const char *speaker_folder, const char *emotion_folder,
                   Error *err) {
    const char *const(*speaker)[2] = SPEAKERS, *const *emotion = EMOTIONS;
    while ((*speaker)[0] && strcasecmp((*speaker)[0], speaker_folder) != 0) speaker++;
    while (*emotion && strcasecmp(*emotion, emotion_folder) != 0) emotion++;
    if (!(*speaker)[0] || !*emotion || strspn(file->stem, "0123456789") != strlen(file->stem))
        return fail(err,
                    "%s: not a place of CASIA, which are like liuchanhg/angry/201.wav (speaker, emotion, sentence); "
                    "move other recordings out of the folder",
                    file->path);
    char *id = text_format(err, "%s-%s-%s", (*speaker)[0], *emotion, file->stem);
    Found found = {.id = id,
                   .audio = file->path,
                   .speaker = (*speaker)[0],
                   .gender = (*speaker)[1],
                   .label = *emotion,
                   .group = (*speaker)[0]};
    bool done = id && import_add(import, &found, json_pack("{s:s}", "sentence", file->stem), err);
    free(id);
    return done;
}

static bool add(Import *import, const AudioFile *file, Error *err) {
    char *speaker = path_above(file->path, 2, err), *emotion = path_above(file->path, 1, err);
    bool done = speaker && emotion && add_in(import, file, speaker, emotion, err);
    free(speaker);
    free(emotion);
    return done;
}

static bool run(Import *import, Error *err) { return import_each_file(import, add, err); }

const Importer IMPORT_CASIA = {.name = "casia",
                               .root = "the folder that holds CASIA's liuchanhg, wangzhe, zhaoquanyin, ZhaoZuoxiang",
                               .labels = "casia-6",
                               .run = run,
                               .published = PUBLISHED};
