/* ESD: 0011/Angry/0011_000351.wav, or with train, evaluation or test between; 0011/0011.txt holds the words. The folder
 * says the emotion: the label beside the words is Chinese with some speakers. The text files are in four encodings. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import.h"
#include "data/import_text.h"

enum { STEM_LENGTH = 11, SPEAKER_LENGTH = 4, SPEAKER_COUNT = 20, CHINESE_COUNT = 10 };

static const char *const EMOTIONS[] = {"Angry", "Happy", "Neutral", "Sad", "Surprise", NULL};
static const char *const SPLITS[] = {"train", "evaluation", "test", NULL};
static const char GENDERS[SPEAKER_COUNT + 1] = "FFFMMMFMFMMMMMFFFFFM"; /* of 0001 .. 0020, from its ReadMe.txt */

static const Published PUBLISHED[] = {{NULL, "Angry", 7000}, {NULL, "Happy", 7000},    {NULL, "Neutral", 7000},
                                      {NULL, "Sad", 7000},   {NULL, "Surprise", 7000}, {0}};

typedef struct Corpus {
    Import *import;
    char speaker[SPEAKER_LENGTH + 1]; /* whose words were read last */
    TextPairs words;                  /* id to text */
} Corpus;

/* The number of the speaker of 0011_000351; 0 where it is no such name. */
static int speaker_number(const char *stem) {
    if (strlen(stem) != STEM_LENGTH || stem[SPEAKER_LENGTH] != '_') return 0;
    for (int i = 0; i < STEM_LENGTH; i++)
        if (i != SPEAKER_LENGTH && !isdigit((unsigned char)stem[i])) return 0;
    int number = atoi(stem);
    return number <= SPEAKER_COUNT ? number : 0;
}

static const char *any_case(const char *const *names, const char *name) {
    while (*names && strcasecmp(*names, name) != 0) names++;
    return *names;
}

/* Where a recording lies: in EMOTION, or in EMOTION/SPLIT. */
static bool read_place(const AudioFile *file, const char **emotion, const char **split, Error *err) {
    char *inner = path_above(file->path, 1, err), *outer = path_above(file->path, 2, err);
    bool done = inner && outer;
    if (done) {
        *split = any_case(SPLITS, inner);
        *emotion = any_case(EMOTIONS, *split ? outer : inner);
    }
    free(inner);
    free(outer);
    return done;
}

/* FOLDER/0011.txt, where FOLDER is what holds the emotion's folder. */
static char *words_path(const AudioFile *file, const char *speaker, bool split, Error *err) {
    const char *end = file->path + strlen(file->path);
    for (int up = 0; up < (split ? 3 : 2); up++)
        while (end > file->path && *--end != '/') {
        }
    return text_format(err, "%.*s/%s.txt", (int)(end - file->path), file->path, speaker);
}

/* Lines of another form than "ID<tab>text<tab>label" are there, in the published files too. */
static bool read_words(Corpus *corpus, const char *path, bool chinese, Error *err) {
    TextFile text;
    if (!text_open(&text, path, chinese ? "GB18030" : "ISO-8859-1", err)) return false;
    bool done = true;
    for (char *line; done && (line = text_line(&text));) {
        char *fields[3];
        if (!line[strspn(line, " \t")]) continue;
        if (text_split(line, '\t', fields, 3) != 3 || !speaker_number(fields[0])) {
            done = counts_add(&corpus->import->notes, "line(s) of words not understood", err);
            continue;
        }
        char *words = text_from_c1(fields[1], err);
        done = words && pairs_add(&corpus->words, fields[0], words, err);
        free(words);
    }
    if (done && !corpus->words.count) done = fail(err, "%s: holds no line like 0011_000351<tab>text<tab>label", path);
    pairs_sort(&corpus->words);
    text_close(&text);
    return done;
}

static bool know_words(Corpus *corpus, const AudioFile *file, int number, bool split, Error *err) {
    if (strncmp(corpus->speaker, file->stem, SPEAKER_LENGTH) == 0) return true;
    memcpy(corpus->speaker, file->stem, SPEAKER_LENGTH);
    pairs_free(&corpus->words);
    char *path = words_path(file, corpus->speaker, split, err);
    bool done = path && (!file_exists(path) || read_words(corpus, path, number <= CHINESE_COUNT, err));
    free(path);
    return done;
}

static bool add(Corpus *corpus, const AudioFile *file, Error *err) {
    const char *emotion = NULL, *split = NULL;
    int number = speaker_number(file->stem);
    if (!read_place(file, &emotion, &split, err)) return false;
    if (!number || !emotion)
        return fail(err,
                    "%s: not a place of ESD, which are like 0011/Angry/0011_000351.wav (speaker, emotion, speaker and "
                    "number); move other recordings out of the folder",
                    file->path);
    if (!know_words(corpus, file, number, split != NULL, err)) return false;
    Found found = {.id = file->stem,
                   .audio = file->path,
                   .speaker = corpus->speaker,
                   .gender = GENDERS[number - 1] == 'F' ? "female" : "male",
                   .label = emotion,
                   .transcript = pairs_find(&corpus->words, file->stem),
                   .group = corpus->speaker};
    if (!found.transcript && !counts_add(&corpus->import->notes, "without words", err)) return false;
    json_t *extra = json_pack("{s:s, s:s*}", "language", number <= CHINESE_COUNT ? "zh" : "en", "split", split);
    return import_add(corpus->import, &found, extra, err);
}

static bool run(Import *import, Error *err) {
    Corpus corpus = {.import = import};
    AudioFiles files;
    bool done = audio_files_open(&files, import->root, err);
    for (size_t i = 0; done && i < files.count; i++) done = add(&corpus, &files.items[i], err);
    audio_files_close(&files);
    pairs_free(&corpus.words);
    return done;
}

const Importer IMPORT_ESD = {.name = "esd",
                             .root = "the folder that holds ESD's 0001 .. 0020",
                             .labels = "esd-5",
                             .run = run,
                             .published = PUBLISHED};
