/* SAVEE: DC_a01.wav, or DC/a01.wav (speaker; emotion and sentence). */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import.h"

enum { DIGITS = 2 };

static const char *const SPEAKERS[] = {"DC", "JE", "JK", "KL", NULL};
static const char *const EMOTIONS[] = {"a", "d", "f", "h", "n", "sa", "su", NULL};

static const Published PUBLISHED[] = {{NULL, "a", 60},  {NULL, "d", 60},  {NULL, "f", 60},  {NULL, "h", 60},
                                      {NULL, "n", 120}, {NULL, "sa", 60}, {NULL, "su", 60}, {0}};

/* The name of `names` that `text` begins with, and that ends there after `length` bytes. */
static const char *find(const char *const *names, const char *text, size_t length) {
    while (*names && (strlen(*names) != length || strncasecmp(*names, text, length) != 0)) names++;
    return *names;
}

/* "sa" of "sa01"; null where it is not an emotion and two digits. */
static const char *emotion_of(const char *token) {
    size_t length = strlen(token);
    if (length <= DIGITS) return NULL;
    for (int i = 1; i <= DIGITS; i++)
        if (!isdigit((unsigned char)token[length - (size_t)i])) return NULL;
    return find(EMOTIONS, token, length - DIGITS);
}

static bool add(Import *import, const AudioFile *file, Error *err) {
    const char *line = strchr(file->stem, '_'), *token = line ? line + 1 : file->stem;
    char *folder = path_above(file->path, 1, err);
    if (!folder) return false;
    const char *speaker =
        line ? find(SPEAKERS, file->stem, (size_t)(line - file->stem)) : find(SPEAKERS, folder, strlen(folder));
    const char *emotion = emotion_of(token);
    free(folder);
    if (!speaker || !emotion)
        return fail(err,
                    "%s: not a name of SAVEE, which are like DC_a01.wav or DC/a01.wav (speaker; emotion a, d, f, h, n, "
                    "sa or su, and number); move other recordings out of the folder",
                    file->path);
    const char *number = token + strlen(token) - DIGITS;
    char *id = text_format(err, "%s_%s%s", speaker, emotion, number);
    Found found = {
        .id = id, .audio = file->path, .speaker = speaker, .gender = "male", .label = emotion, .group = speaker};
    bool done = id && import_add(import, &found, json_pack("{s:i}", "sentence", atoi(number)), err);
    free(id);
    return done;
}

static bool run(Import *import, Error *err) { return import_each_file(import, add, err); }

const Importer IMPORT_SAVEE = {.name = "savee",
                               .root = "the folder that holds SAVEE's AudioData, or its files like DC_a01.wav",
                               .labels = "savee-7",
                               .run = run,
                               .published = PUBLISHED};
