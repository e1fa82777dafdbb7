/* M3ED: annotation.json (movie, clip, Dialog, utterance), splitInfo/movie_list_train.txt, _val and _test; an utterance
 * is modality_speech/SPEAKER_UTTERANCE.wav. */
#include <stdlib.h>
#include <string.h>

#include "data/import.h"
#include "data/import_text.h"

static const size_t ANNOTATION_LIMIT = (size_t)1 << 30;
static const char *const SPLITS[] = {"train", "val", "test"};
enum { SPLIT_COUNT = sizeof SPLITS / sizeof *SPLITS };

static const Published PUBLISHED[] = {
    {NULL, "Neutral", 10021}, {NULL, "Anger", 5231},    {NULL, "Sad", 3957}, {NULL, "Happy", 2286},
    {NULL, "Disgust", 1497},  {NULL, "Surprise", 1050}, {NULL, "Fear", 395}, {0}};

typedef struct Corpus {
    Import *import;
    AudioFiles files;
    TextPairs splits; /* movie to split */
    const char *movie;
    const json_t *speakers; /* SpeakerInfo of the clip */
} Corpus;

static const char *gender_of(const char *word) {
    static const char *const WORDS[][2] = {{"女", "female"}, {"female", "female"}, {"Female", "female"},
                                           {"F", "female"},  {"男", "male"},       {"male", "male"},
                                           {"Male", "male"}, {"M", "male"}};
    for (size_t i = 0; word && i < sizeof WORDS / sizeof *WORDS; i++)
        if (strcmp(WORDS[i][0], word) == 0) return WORDS[i][1];
    return NULL;
}

/* People are known by movie and name; A and B are who speaks first and second in a clip. */
static bool add_utterance(Corpus *corpus, const char *id, const json_t *utterance, Error *err) {
    const char *letter, *label, *name = NULL, *gender = NULL, *words = NULL;
    const json_t *emotion = json_object_get(utterance, "EmoAnnotation");
    if (!json_get_string(utterance, "Speaker", &letter, id, err) ||
        !json_get_string(emotion, "final_main_emo", &label, id, err) ||
        !json_string_or(utterance, "Text", &words, id, err))
        return false;
    const json_t *speaker = json_object_get(corpus->speakers, letter);
    if (speaker &&
        (!json_string_or(speaker, "Name", &name, id, err) || !json_string_or(speaker, "Gender", &gender, id, err)))
        return false;
    char *who = text_format(err, "%s_%s", corpus->movie, name ? name : letter);
    char *stem = text_format(err, "%s_%s", letter, id);
    char *missing = text_format(err, "%s_%s.wav or .flac below %s", letter, id, corpus->import->root);
    Found found = {.id = id,
                   .missing = missing,
                   .speaker = who,
                   .gender = gender_of(gender),
                   .label = label,
                   .transcript = words,
                   .group = pairs_find(&corpus->splits, corpus->movie)};
    bool done = who && stem && missing && audio_files_find(&corpus->files, stem, NULL, &found.audio, err) &&
                import_add(corpus->import, &found,
                           json_pack("{s:s, s:o*}", "movie", corpus->movie, "emotions",
                                     json_incref(json_object_get(emotion, "final_mul_emo"))),
                           err);
    free(who);
    free(stem);
    free(missing);
    return done;
}

static bool read_clip(Corpus *corpus, const char *name, json_t *clip, Error *err) {
    json_t *dialog = json_object_get(clip, "Dialog"), *utterance;
    const char *id;
    if (!json_is_object(dialog)) return fail(err, "%s: must be an object with a Dialog", name);
    corpus->speakers = json_object_get(clip, "SpeakerInfo");
    json_object_foreach(dialog, id, utterance) if (!add_utterance(corpus, id, utterance, err)) return false;
    return true;
}

static bool read_annotation(Corpus *corpus, const char *path, Error *err) {
    json_t *root = json_read_file(path, ANNOTATION_LIMIT, err), *movie, *clip;
    if (!root) return false;
    const char *name;
    bool done = json_is_object(root) || fail(err, "must be an object of movies");
    json_object_foreach(root, corpus->movie, movie) {
        if (done && !json_is_object(movie)) done = fail(err, "%s: must be an object of clips", corpus->movie);
        json_object_foreach(movie, name, clip) done = done && read_clip(corpus, name, clip, err);
    }
    json_decref(root);
    return done || fail_in(err, "%s", path);
}

static bool read_splits(Corpus *corpus, Error *err) {
    bool done = true;
    for (int i = 0; i < SPLIT_COUNT && done; i++) {
        TextFile text = {0};
        char *path = text_format(err, "%s/splitInfo/movie_list_%s.txt", corpus->import->root, SPLITS[i]);
        done = path && text_open(&text, path, NULL, err);
        for (char *line, *movie; done && (line = text_line(&text));)
            done =
                text_split(line, '\t', &movie, 1) != 1 || !*movie || pairs_add(&corpus->splits, movie, SPLITS[i], err);
        text_close(&text);
        free(path);
    }
    pairs_sort(&corpus->splits);
    return done;
}

static bool run(Import *import, Error *err) {
    Corpus corpus = {.import = import};
    char *path = path_join(import->root, "annotation.json", err);
    bool done = path && read_splits(&corpus, err) && audio_files_open(&corpus.files, import->root, err) &&
                read_annotation(&corpus, path, err);
    free(path);
    audio_files_close(&corpus.files);
    pairs_free(&corpus.splits);
    return done;
}

const Importer IMPORT_M3ED = {.name = "m3ed",
                              .root = "the folder that holds M3ED's annotation.json, splitInfo and modality_speech",
                              .labels = "m3ed-7",
                              .run = run,
                              .published = PUBLISHED};
