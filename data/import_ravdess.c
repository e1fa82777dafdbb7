#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import.h"

/* Fields of a name: modality-channel-emotion-intensity-statement-repetition-actor, two digits each. */
enum { MODALITY, CHANNEL, EMOTION, INTENSITY, STATEMENT, REPETITION, ACTOR, FIELD_COUNT };
enum { NAME_LENGTH = 3 * FIELD_COUNT - 1, SPEECH = 1, DEPTH_LIMIT = 8 };

static const int FIELD_MOST[FIELD_COUNT] = {3, 2, 8, 2, 2, 2, 24};
static const char *const EMOTIONS[] = {"neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"};
static const char *const STATEMENTS[] = {"Kids are talking by the door", "Dogs are sitting by the door"};
static const char *const INTENSITIES[] = {"normal", "strong"};

typedef struct Walk {
    Manifest *manifest;
    const char *folder; /* of the manifest to be written */
    int64_t songs;
} Walk;

static bool is_audio(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".wav") == 0 || strcasecmp(dot, ".flac") == 0);
}

static bool parse_name(const char *name, int fields[FIELD_COUNT]) {
    for (int i = 0; i < FIELD_COUNT; i++) {
        const char *digits = name + 3 * i;
        if (!isdigit((unsigned char)digits[0]) || !isdigit((unsigned char)digits[1])) return false;
        if (digits[2] != (i + 1 < FIELD_COUNT ? '-' : '.')) return false;
        fields[i] = 10 * (digits[0] - '0') + digits[1] - '0';
        if (fields[i] < 1 || fields[i] > FIELD_MOST[i]) return false;
    }
    return true;
}

static bool fill(Utterance *utterance, const char *path, const char *folder, const char *name,
                 const int fields[FIELD_COUNT], Error *err) {
    utterance->id = text_format(err, "ravdess-%.*s", NAME_LENGTH, name);
    utterance->corpus = text_copy("ravdess", err);
    utterance->audio = audio_relative(path, folder, err);
    utterance->speaker = text_format(err, "Actor_%02d", fields[ACTOR]);
    utterance->group = text_format(err, "Actor_%02d", fields[ACTOR]);
    utterance->gender = text_copy(fields[ACTOR] % 2 ? "male" : "female", err);
    utterance->emotion = text_copy(EMOTIONS[fields[EMOTION] - 1], err);
    utterance->transcript = text_copy(STATEMENTS[fields[STATEMENT] - 1], err);
    if (!utterance->id || !utterance->corpus || !utterance->audio || !utterance->speaker || !utterance->group ||
        !utterance->gender || !utterance->emotion || !utterance->transcript || !utterance_sync(utterance, err))
        return false;
    return json_object_set_new(utterance->json, "intensity", json_string(INTENSITIES[fields[INTENSITY] - 1])) == 0 ||
           fail(err, "out of memory while importing %s", path);
}

static bool add_file(Walk *walk, const char *path, const char *name, Error *err) {
    int fields[FIELD_COUNT];
    if (!parse_name(name, fields))
        return fail(err,
                    "%s: not a name of RAVDESS, which are like 03-01-05-01-02-01-12.wav (modality, channel, emotion, "
                    "intensity, statement, repetition, actor); move other recordings out of the folder",
                    path);
    if (fields[CHANNEL] != SPEECH) {
        walk->songs++;
        return true;
    }
    Utterance *utterance = manifest_add(walk->manifest, err);
    return utterance && fill(utterance, path, walk->folder, name, fields, err);
}

static bool walk_folder(Walk *walk, const char *folder, int depth, Error *err) {
    Names names = {0};
    if (depth > DEPTH_LIMIT) return fail(err, "%s: folders are nested more than %d deep", folder, DEPTH_LIMIT);
    if (!folder_list(folder, &names, err)) return false;
    bool done = true;
    for (size_t i = 0; i < names.count && done; i++) {
        const char *name = names.items[i];
        if (name[0] == '.') continue; /* what file systems leave beside the data */
        char *path = path_join(folder, name, err);
        done = path != NULL;
        if (done && folder_exists(path)) {
            done = walk_folder(walk, path, depth + 1, err);
        } else if (done && is_audio(name)) {
            done = add_file(walk, path, name, err);
        }
        free(path);
    }
    names_free(&names);
    return done;
}

bool import_ravdess(const char *root, const char *folder, Manifest *manifest, Error *err) {
    Walk walk = {.manifest = manifest, .folder = folder};
    if (!folder_exists(root))
        return fail(err, "%s: no such folder; give the one that holds RAVDESS's Actor_01 .. Actor_24", root);
    if (!walk_folder(&walk, root, 0, err)) return false;
    if (manifest->count == 0) return fail(err, "%s: holds no speech of RAVDESS (Actor_NN/03-01-*.wav or .flac)", root);
    if (walk.songs) fprintf(stderr, "left out %lld songs\n", (long long)walk.songs);
    return import_check_ids(manifest, root, err);
}
