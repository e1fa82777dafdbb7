/* TESS: OAF_back_angry.wav (speaker, word, emotion) in folders whose names vary and are not looked at. One prefix is
 * mistyped as OA, one file has 96 kHz where the others have 24 414 Hz. */
#include <stdlib.h>
#include <string.h>

#include "data/import.h"
#include "data/import_text.h"

enum { FIELD_COUNT = 3, OLDER = 64, YOUNGER = 26 };

static const char *const EMOTIONS[] = {"angry", "disgust", "fear", "happy", "neutral", "ps", "sad", NULL};

static const Published PUBLISHED[] = {
    {NULL, "angry", 400},   {NULL, "disgust", 400}, {NULL, "fear", 400}, {NULL, "happy", 400},
    {NULL, "neutral", 400}, {NULL, "ps", 400},      {NULL, "sad", 400},  {0}};

static const char *speaker_of(const char *prefix) {
    if (strcmp(prefix, "OAF") == 0 || strcmp(prefix, "OA") == 0) return "OAF";
    return strcmp(prefix, "YAF") == 0 ? "YAF" : NULL;
}

static const char *emotion_of(const char *token) {
    const char *const *emotion = EMOTIONS;
    while (*emotion && strcmp(*emotion, token) != 0) emotion++;
    return *emotion;
}

static bool add_parsed(Import *import, const AudioFile *file, const char *speaker, const char *word,
                       const char *emotion, Error *err) {
    char *id = text_format(err, "%s_%s_%s", speaker, word, emotion), *said = text_format(err, "Say the word %s", word);
    Found found = {.id = id,
                   .audio = file->path,
                   .speaker = speaker,
                   .gender = "female",
                   .label = emotion,
                   .transcript = said,
                   .group = speaker};
    bool done = id && said &&
                import_add(import, &found,
                           json_pack("{s:s, s:i}", "word", word, "age", speaker[0] == 'O' ? OLDER : YOUNGER), err);
    free(id);
    free(said);
    return done;
}

static bool add(Import *import, const AudioFile *file, Error *err) {
    char *fields[FIELD_COUNT], *stem = text_copy(file->stem, err);
    if (!stem) return false;
    bool three = text_split(stem, '_', fields, FIELD_COUNT) == FIELD_COUNT;
    const char *speaker = three ? speaker_of(fields[0]) : NULL, *emotion = three ? emotion_of(fields[2]) : NULL;
    bool done = speaker && emotion && *fields[1]
                    ? add_parsed(import, file, speaker, fields[1], emotion, err)
                    : fail(err,
                           "%s: not a name of TESS, which are like OAF_back_angry.wav (speaker, word, emotion); move "
                           "other recordings out of the folder",
                           file->path);
    free(stem);
    return done;
}

static bool run(Import *import, Error *err) { return import_each_file(import, add, err); }

const Importer IMPORT_TESS = {.name = "tess",
                              .root = "the folder that holds TESS's folders OAF_angry .. YAF_sad",
                              .labels = "tess-7",
                              .run = run,
                              .published = PUBLISHED};
