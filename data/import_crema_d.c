/* CREMA-D: AudioWAV/1001_DFA_ANG_XX.wav (actor, sentence, emotion, level), VideoDemographics.csv for gender and, where
 * it is there, processedResults/summaryTable.csv for what raters heard. */
#include <stdlib.h>
#include <string.h>

#include "data/csv.h"
#include "data/import.h"
#include "data/import_text.h"

enum { FIRST_ACTOR = 1001, LAST_ACTOR = 1091, ACTORS_OF_A_FOLD = 18, FOLDS = 5, FIELD_COUNT = 4 };

static const char SILENT[] = "1076_MTI_SAD_XX";

static const char *const SENTENCES[][2] = {{"IEO", "It's eleven o'clock"},
                                           {"TIE", "That is exactly what happened"},
                                           {"IOM", "I'm on my way to the meeting"},
                                           {"IWW", "I wonder what this is about"},
                                           {"TAI", "The airplane is almost full"},
                                           {"MTI", "Maybe tomorrow it will be cold"},
                                           {"IWL", "I would like a new alarm clock"},
                                           {"ITH", "I think I have a doctor's appointment"},
                                           {"DFA", "Don't forget a jacket"},
                                           {"ITS", "I think I've seen this before"},
                                           {"TSI", "The surface is slick"},
                                           {"WSI", "We'll stop in a couple of minutes"},
                                           {0}};
/* One name has a single X. */
static const char *const LEVELS[][2] = {{"LO", "low"}, {"MD", "medium"}, {"HI", "high"}, {"XX", ""}, {"X", ""}, {0}};
static const char *const EMOTIONS[] = {"ANG", "DIS", "FEA", "HAP", "NEU", "SAD", NULL};

static const Published PUBLISHED[] = {{NULL, "ANG", 1271},
                                      {NULL, "DIS", 1271},
                                      {NULL, "FEA", 1271},
                                      {NULL, "HAP", 1271},
                                      {NULL, "NEU", 1087},
                                      {NULL, "SAD", 1271},
                                      {0}};

/* What tables say of an actor and of a clip. */
enum { SEX, AGE, VOICE, FACE, BOTH, TABLE_COUNT };

typedef struct Column {
    const char *key, *column;
} Column;

static const Column COLUMNS[TABLE_COUNT] = {{"ActorID", "Sex"},
                                            {"ActorID", "Age"},
                                            {"FileName", "VoiceVote"},
                                            {"FileName", "FaceVote"},
                                            {"FileName", "MultiModalVote"}};

typedef struct Corpus {
    Import *import;
    TextPairs tables[TABLE_COUNT];
} Corpus;

static const char *meaning(const char *const (*codes)[2], const char *code) {
    while ((*codes)[0] && strcmp((*codes)[0], code) != 0) codes++;
    return (*codes)[1];
}

static bool listed(const char *const *codes, const char *code) {
    while (*codes && strcmp(*codes, code) != 0) codes++;
    return *codes != NULL;
}

/* Five folds of 18 actors (the last: 19) by number, A to E. */
static void name_fold(long actor, char fold[2]) {
    long index = (actor - FIRST_ACTOR) / ACTORS_OF_A_FOLD;
    fold[0] = (char)('A' + (index < FOLDS ? index : FOLDS - 1));
    fold[1] = '\0';
}

/* Cuts a copy of a stem into actor, sentence, emotion and level. */
static bool parse(char *stem, char *fields[FIELD_COUNT], long *actor) {
    if (text_split(stem, '_', fields, FIELD_COUNT) != FIELD_COUNT) return false;
    char *end;
    *actor = strtol(fields[0], &end, 10);
    return strlen(fields[0]) == 4 && !*end && *actor >= FIRST_ACTOR && *actor <= LAST_ACTOR &&
           meaning(SENTENCES, fields[1]) && listed(EMOTIONS, fields[2]) && meaning(LEVELS, fields[3]);
}

static const char *or_null(const char *text) { return text && *text ? text : NULL; }

static bool add_parsed(Corpus *corpus, const AudioFile *file, char *const fields[FIELD_COUNT], long actor, Error *err) {
    const char *sex = pairs_find(&corpus->tables[SEX], fields[0]), *age = pairs_find(&corpus->tables[AGE], fields[0]);
    char fold[2];
    name_fold(actor, fold);
    Found found = {.id = file->stem,
                   .audio = file->path,
                   .left_out = strcmp(file->stem, SILENT) == 0 ? "silent, as published" : NULL,
                   .speaker = fields[0],
                   .gender = !sex                         ? NULL
                             : strcmp(sex, "Female") == 0 ? "female"
                             : strcmp(sex, "Male") == 0   ? "male"
                                                          : NULL,
                   .label = fields[2],
                   .transcript = meaning(SENTENCES, fields[1]),
                   .group = fold};
    json_t *extra = json_pack("{s:s, s:s*, s:o*, s:s*, s:s*, s:s*}", "sentence", fields[1], "intensity",
                              or_null(meaning(LEVELS, fields[3])), "age", age ? json_integer(atoll(age)) : NULL,
                              "voice_vote", pairs_find(&corpus->tables[VOICE], file->stem), "face_vote",
                              pairs_find(&corpus->tables[FACE], file->stem), "multimodal_vote",
                              pairs_find(&corpus->tables[BOTH], file->stem));
    return import_add(corpus->import, &found, extra, err);
}

static bool add(Corpus *corpus, const AudioFile *file, Error *err) {
    char *fields[FIELD_COUNT], *stem = text_copy(file->stem, err);
    long actor = 0;
    if (!stem) return false;
    bool done = parse(stem, fields, &actor)
                    ? add_parsed(corpus, file, fields, actor, err)
                    : fail(err,
                           "%s: not a name of CREMA-D, which are like 1001_DFA_ANG_XX.wav (actor, sentence, emotion, "
                           "level); move other recordings out of the folder",
                           file->path);
    free(stem);
    return done;
}

/* --- the tables --- */

/* In ROOT, or beside it where ROOT is AudioWAV. */
static char *find_table(const char *root, const char *const *names, Error *err) {
    for (; *names; names++)
        for (int up = 0; up < 2; up++) {
            char *path = text_format(err, "%s/%s%s", root, up ? "../" : "", *names);
            if (!path || file_exists(path)) return path;
            free(path);
        }
    return NULL;
}

/* Columns first .. last - 1 of one table. */
static bool read_table(Corpus *corpus, const char *path, int first, int last, Error *err) {
    Csv csv;
    CsvRow row = {0};
    if (!csv_open(&csv, path, true, err)) return false;
    bool done = true, more = true;
    for (int i = first; i < last && done; i++)
        done = csv_has(&csv, (const char *const[]){COLUMNS[i].key, COLUMNS[i].column, NULL}, err);
    while (done && (done = csv_next(&csv, &row, &more, err)) && more)
        for (int i = first; i < last && done; i++) {
            const char *key = csv_cell(&csv, &row, COLUMNS[i].key), *value = csv_cell(&csv, &row, COLUMNS[i].column);
            done = !key || !value || pairs_add(&corpus->tables[i], key, value, err);
        }
    for (int i = first; i < last; i++) pairs_sort(&corpus->tables[i]);
    csv_row_free(&row);
    csv_close(&csv);
    return done;
}

static bool read_tables(Corpus *corpus, Error *err) {
    static const char *const DEMOGRAPHICS[] = {"VideoDemographics.csv", NULL};
    static const char *const VOTES[] = {"processedResults/summaryTable.csv", "data/InfoAndStats/summaryTable.csv",
                                        "summaryTable.csv", NULL};
    char *people = find_table(corpus->import->root, DEMOGRAPHICS, err);
    char *votes = find_table(corpus->import->root, VOTES, err);
    bool done = !people || read_table(corpus, people, SEX, AGE + 1, err);
    done = done && (!votes || read_table(corpus, votes, VOICE, BOTH + 1, err));
    if (done && !people)
        done = counts_add(&corpus->import->notes, "table missing: VideoDemographics.csv, so gender is unknown", err);
    free(people);
    free(votes);
    return done;
}

static bool run(Import *import, Error *err) {
    Corpus corpus = {.import = import};
    AudioFiles files = {0};
    bool done = read_tables(&corpus, err) && audio_files_open(&files, import->root, err);
    for (size_t i = 0; i < files.count && done; i++) done = add(&corpus, &files.items[i], err);
    audio_files_close(&files);
    for (int i = 0; i < TABLE_COUNT; i++) pairs_free(&corpus.tables[i]);
    return done;
}

const Importer IMPORT_CREMA_D = {.name = "crema-d",
                                 .root = "the folder that holds CREMA-D's AudioWAV and VideoDemographics.csv",
                                 .labels = "crema-d-6",
                                 .run = run,
                                 .published = PUBLISHED};
