/* MELD: train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv say what was said and felt; the clips are
 * train_splits, dev_splits_complete and output_repeated_splits_test/dia0_utt0.mp4, whose sound must stand beside them.
 */
#include <stdlib.h>
#include <string.h>

#include "data/csv.h"
#include "data/import.h"
#include "data/import_text.h"

typedef struct Split {
    const char *name;
    const char *folders[4]; /* any of these; ended by null */
} Split;

static const Split SPLITS[] = {{"train", {"train_splits", "train"}},
                               {"dev", {"dev_splits_complete", "dev_splits", "dev"}},
                               {"test", {"output_repeated_splits_test", "test_splits", "test"}}};
enum { SPLIT_COUNT = sizeof SPLITS / sizeof *SPLITS };

/* What no reader of the corpus could use. */
static const char *const UNUSABLE[][2] = {{"train-dia125_utt3", "damaged, as published"},
                                          {"dev-dia110_utt7", "missing, as published"}};

static const char *const PEOPLE[][2] = {{"Chandler", "male"}, {"Joey", "male"},     {"Ross", "male"},
                                        {"Monica", "female"}, {"Phoebe", "female"}, {"Rachel", "female"}};

static const Published PUBLISHED[] = {{"train", "neutral", 4710},  {"train", "joy", 1743},
                                      {"train", "surprise", 1205}, {"train", "anger", 1109},
                                      {"train", "sadness", 683},   {"train", "disgust", 271},
                                      {"train", "fear", 268},      {"dev", "neutral", 470},
                                      {"dev", "joy", 163},         {"dev", "surprise", 150},
                                      {"dev", "anger", 153},       {"dev", "sadness", 111},
                                      {"dev", "disgust", 22},      {"dev", "fear", 40},
                                      {"test", "neutral", 1256},   {"test", "joy", 402},
                                      {"test", "surprise", 281},   {"test", "anger", 345},
                                      {"test", "sadness", 208},    {"test", "disgust", 68},
                                      {"test", "fear", 50},        {0}};

typedef struct Corpus {
    Import *import;
    AudioFiles files;
    const Split *split;
    Csv csv;
    CsvRow row;
} Corpus;

static const char *cell(const Corpus *corpus, const char *column) {
    return csv_cell(&corpus->csv, &corpus->row, column);
}

static bool fail_row(const Corpus *corpus, const char *column, const char *why, Error *err) {
    const char *text = cell(corpus, column);
    return fail(err, "%s line %zu, column %s: %s, found \"%.80s\"", corpus->csv.name, corpus->row.line, column, why,
                text ? text : "");
}

static bool read_number(const Corpus *corpus, const char *column, int *number, Error *err) {
    const char *text = cell(corpus, column);
    if (!text || strlen(text) > 6 || strspn(text, "0123456789") != strlen(text))
        return fail_row(corpus, column, "must be a whole number", err);
    *number = atoi(text);
    return true;
}

/* A count that is not needed for the name of the clip; null where it is not there. */
static json_t *number_or_null(const Corpus *corpus, const char *column) {
    const char *text = cell(corpus, column);
    return text && strlen(text) <= 6 && strspn(text, "0123456789") == strlen(text) ? json_integer(atoi(text)) : NULL;
}

static const char *find(const char *const (*table)[2], size_t count, const char *key) {
    for (size_t i = 0; key && i < count; i++)
        if (strcmp(table[i][0], key) == 0) return table[i][1];
    return NULL;
}

static bool add_clip(Corpus *corpus, const char *stem, const char *words, int dialog, int turn, Error *err) {
    char *id = text_format(err, "%s-%s", corpus->split->name, stem);
    char *missing =
        text_format(err, "%s.wav or .flac below %s in %s", stem, corpus->import->root, corpus->split->folders[0]);
    Found found = {.id = id,
                   .missing = missing,
                   .left_out = id ? find(UNUSABLE, sizeof UNUSABLE / sizeof *UNUSABLE, id) : NULL,
                   .speaker = cell(corpus, "Speaker"),
                   .gender = find(PEOPLE, sizeof PEOPLE / sizeof *PEOPLE, cell(corpus, "Speaker")),
                   .label = cell(corpus, "Emotion"),
                   .transcript = words,
                   .group = corpus->split->name};
    bool done = id && missing && audio_files_find(&corpus->files, stem, corpus->split->folders, &found.audio, err) &&
                import_add(corpus->import, &found,
                           json_pack("{s:s*, s:i, s:i, s:o*, s:o*}", "sentiment", cell(corpus, "Sentiment"), "dialog",
                                     dialog, "turn", turn, "season", number_or_null(corpus, "Season"), "episode",
                                     number_or_null(corpus, "Episode")),
                           err);
    free(id);
    free(missing);
    return done || fail_in(err, "%s line %zu", corpus->csv.name, corpus->row.line);
}

static bool add_row(Corpus *corpus, Error *err) {
    int dialog, turn;
    if (!read_number(corpus, "Dialogue_ID", &dialog, err) || !read_number(corpus, "Utterance_ID", &turn, err))
        return false;
    if (!cell(corpus, "Emotion")) return fail_row(corpus, "Emotion", "must name the emotion", err);
    char *stem = text_format(err, "dia%d_utt%d", dialog, turn);
    char *words = cell(corpus, "Utterance") ? text_from_c1(cell(corpus, "Utterance"), err) : NULL;
    bool done = stem && add_clip(corpus, stem, words, dialog, turn, err);
    free(stem);
    free(words);
    return done;
}

static char *find_table(const char *root, const char *split, Error *err) {
    const char *const folders[] = {"", "data/MELD/", split};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *path =
            text_format(err, "%s/%s%s%s_sent_emo.csv", root, folders[i], folders[i] == split ? "/" : "", split);
        if (!path || file_exists(path)) return path;
        free(path);
    }
    return NULL;
}

static bool read_table(Corpus *corpus, const char *path, Error *err) {
    static const char *const COLUMNS[] = {"Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", NULL};
    bool done = csv_open(&corpus->csv, path, true, err) && csv_has(&corpus->csv, COLUMNS, err), more = true;
    size_t before = corpus->import->count;
    while (done && (done = csv_next(&corpus->csv, &corpus->row, &more, err)) && more) done = add_row(corpus, err);
    if (done && corpus->import->count == before) done = fail(err, "%s: has a header but no row", path);
    csv_row_free(&corpus->row);
    csv_close(&corpus->csv);
    return done;
}

static bool read_split(Corpus *corpus, Error *err) {
    char *path = find_table(corpus->import->root, corpus->split->name, err);
    bool done = path ? read_table(corpus, path, err)
                     : counts_add(&corpus->import->notes, "split without its table (SPLIT_sent_emo.csv)", err);
    free(path);
    return done;
}

static bool run(Import *import, Error *err) {
    Corpus corpus = {.import = import};
    bool done = audio_files_open(&corpus.files, import->root, err);
    for (int i = 0; i < SPLIT_COUNT && done; i++) {
        corpus.split = &SPLITS[i];
        done = read_split(&corpus, err);
    }
    audio_files_close(&corpus.files);
    return done;
}

const Importer IMPORT_MELD = {
    .name = "meld",
    .root = "the folder that holds MELD's train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv and clips",
    .labels = "meld-7",
    .run = run,
    .published = PUBLISHED,
    .audio_hint = "MELD is published as video; this puts the sound of each clip beside it: "
                  "find ROOT -name 'dia*_utt*.mp4' -exec sh -c "
                  "'ffmpeg -nostdin -v error -i \"$1\" -vn -ac 1 -ar 16000 \"${1%.mp4}.wav\"' _ {} \\;"};
