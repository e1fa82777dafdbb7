/* RAVDESS speech as published (or its audio as FLAC): Actor_NN/03-01-EMOTION-...-ACTOR.wav. Songs are left out. */
#include <ctype.h>
#include <string.h>

#include "data/import.h"
#include "data/import_files.h"

/* Fields of a name: modality-channel-emotion-intensity-statement-repetition-actor, two digits each. */
enum { MODALITY, CHANNEL, EMOTION, INTENSITY, STATEMENT, REPETITION, ACTOR, FIELD_COUNT };
enum { SPEECH = 1 };

static const int FIELD_MOST[FIELD_COUNT] = {3, 2, 8, 2, 2, 2, 24};
static const char *const EMOTIONS[] = {"neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"};
static const char *const STATEMENTS[] = {"Kids are talking by the door", "Dogs are sitting by the door"};
static const char *const INTENSITIES[] = {"normal", "strong"};

static const Published PUBLISHED[] = {{NULL, "neutral", 96},  {NULL, "calm", 192},      {NULL, "happy", 192},
                                      {NULL, "sad", 192},     {NULL, "angry", 192},     {NULL, "fearful", 192},
                                      {NULL, "disgust", 192}, {NULL, "surprised", 192}, {0}};

static bool parse_stem(const char *stem, int fields[FIELD_COUNT]) {
    for (int i = 0; i < FIELD_COUNT; i++) {
        const char *digits = stem + 3 * i;
        if (!isdigit((unsigned char)digits[0]) || !isdigit((unsigned char)digits[1])) return false;
        if (digits[2] != (i + 1 < FIELD_COUNT ? '-' : '\0')) return false;
        fields[i] = 10 * (digits[0] - '0') + digits[1] - '0';
        if (fields[i] < 1 || fields[i] > FIELD_MOST[i]) return false;
    }
    return true;
}

static bool add(Import *import, const AudioFile *file, Error *err) {
    int fields[FIELD_COUNT];
    if (!parse_stem(file->stem, fields))
        return fail(err,
                    "%s: not a name of RAVDESS, which are like 03-01-05-01-02-01-12.wav (modality, channel, emotion, "
                    "intensity, statement, repetition, actor); move other recordings out of the folder",
                    file->path);
    if (fields[CHANNEL] != SPEECH) return counts_add(&import->left_out, "sung", err);
    char actor[sizeof "Actor_00"];
    snprintf(actor, sizeof actor, "Actor_%02u", (unsigned)fields[ACTOR] % 100);
    Found found = {.id = file->stem,
                   .audio = file->path,
                   .speaker = actor,
                   .gender = fields[ACTOR] % 2 ? "male" : "female",
                   .label = EMOTIONS[fields[EMOTION] - 1],
                   .transcript = STATEMENTS[fields[STATEMENT] - 1],
                   .group = actor};
    return import_add(
        import, &found,
        json_pack("{s:s, s:i}", "intensity", INTENSITIES[fields[INTENSITY] - 1], "repetition", fields[REPETITION]),
        err);
}

static bool run(Import *import, Error *err) { return import_each_file(import, add, err); }

const Importer IMPORT_RAVDESS = {.name = "ravdess",
                                 .root = "the folder that holds RAVDESS's Actor_01 .. Actor_24",
                                 .labels = "ravdess-8",
                                 .run = run,
                                 .published = PUBLISHED};
