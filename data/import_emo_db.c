/* EMO-DB: wav/03a01Fa.wav (speaker, sentence, emotion, version). */
#include <string.h>

#include "data/import.h"

enum { STEM_LENGTH = 7, SPEAKER = 2, TEXT = 3 };

static const char *const SPEAKERS[][2] = {{"03", "male"},
                                          {"08", "female"},
                                          {"09", "female"},
                                          {"10", "male"},
                                          {"11", "male"},
                                          {"12", "male"},
                                          {"13", "female"},
                                          {"14", "female"},
                                          {"15", "male"},
                                          {"16", "female"},
                                          {0}};
static const char *const TEXTS[][2] = {
    {"a01", "Der Lappen liegt auf dem Eisschrank."},
    {"a02", "Das will sie am Mittwoch abgeben."},
    {"a04", "Heute abend könnte ich es ihm sagen."},
    {"a05", "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."},
    {"a07", "In sieben Stunden wird es soweit sein."},
    {"b01", "Was sind denn das für Tüten, die da unter dem Tisch stehen?"},
    {"b02", "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter."},
    {"b03", "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht."},
    {"b09", "Ich will das eben wegbringen und dann mit Karl was trinken gehen."},
    {"b10", "Die wird auf dem Platz sein, wo wir sie immer hinlegen."},
    {0}};

static const Published PUBLISHED[] = {{NULL, "W", 127}, {NULL, "L", 81}, {NULL, "E", 46}, {NULL, "A", 69},
                                      {NULL, "F", 71},  {NULL, "T", 62}, {NULL, "N", 79}, {0}};

/* The row of a table whose code begins at `at`. */
static const char *const *find(const char *const (*table)[2], const char *at) {
    while ((*table)[0] && strncmp((*table)[0], at, strlen((*table)[0])) != 0) table++;
    return (*table)[0] ? *table : NULL;
}

static bool add(Import *import, const AudioFile *file, Error *err) {
    const char *stem = file->stem;
    bool long_enough = strlen(stem) == STEM_LENGTH;
    const char *const *speaker = long_enough ? find(SPEAKERS, stem) : NULL;
    const char *const *text = long_enough ? find(TEXTS, stem + SPEAKER) : NULL;
    char letter[2] = {long_enough ? stem[SPEAKER + TEXT] : '\0', '\0'};
    if (!speaker || !text || !strchr("WLEAFTN", letter[0]))
        return fail(err,
                    "%s: not a name of EMO-DB, which are like 03a01Fa.wav (speaker, sentence, emotion, version); move "
                    "other recordings out of the folder",
                    file->path);
    Found found = {.id = stem,
                   .audio = file->path,
                   .speaker = speaker[0],
                   .gender = speaker[1],
                   .label = letter,
                   .transcript = text[1],
                   .group = speaker[0]};
    return import_add(import, &found, json_pack("{s:s}", "sentence", text[0]), err);
}

static bool run(Import *import, Error *err) { return import_each_file(import, add, err); }

const Importer IMPORT_EMO_DB = {.name = "emo-db",
                                .root = "the folder that holds EMO-DB's wav",
                                .labels = "emo-db-7",
                                .run = run,
                                .published = PUBLISHED};
