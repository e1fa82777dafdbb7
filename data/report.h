/* semollm report data: one page that shows what a data set holds. Private to data/. */
#ifndef SEMOLLM_DATA_REPORT_H
#define SEMOLLM_DATA_REPORT_H

#include "data/levels.h"
#include "data/shards.h"

enum { REPORT_CARDS_MOST = 64, CARDS_BY_CLASS = -1 };

typedef struct ReportOptions {
    const char *output; /* null: NAME-data.html in the working folder */
    int cards;          /* sample cards; CARDS_BY_CLASS: two a class */
    uint64_t seed;      /* of which samples are shown */
    int levels;         /* 3 or 5; 0: as the data was annotated */
} ReportOptions;

/* Reports on a shard folder or a manifest, and says on stderr where the page is. Same data and options, same bytes. */
bool report_data(const char *path, const ReportOptions *options, Error *err);

/* --- what is reported on: either kind of source --- */

typedef struct DataSet {
    Shards *shards; /* null: a manifest */
    Manifest manifest;
    char *name; /* the folder's or file's, without its ending */
    const Utterance **utterances;
    double *seconds; /* [count] of audio; NaN where a manifest does not tell */
    size_t count;
} DataSet;

bool data_set_open(DataSet *set, const char *path, Error *err);
void data_set_close(DataSet *set);
bool data_set_audio(const DataSet *set, size_t index, Audio *audio, Error *err); /* at 16 kHz */

/* --- census --- */

typedef enum Gender { GENDER_FEMALE, GENDER_MALE, GENDER_UNKNOWN, GENDERS } Gender;
extern const char *const GENDER_NAMES[GENDERS];

Gender gender_of(const Utterance *utterance);

typedef enum Field { FIELD_CLASS, FIELD_CORPUS, FIELD_SPEAKER, FIELD_GROUP, FIELD_TEACHER, FIELD_COUNT } Field;

/* A row of a table: the utterances of one value, or of all values that share the last row. */
typedef struct Tally {
    const char *name, *corpus; /* name null: not given; corpus null unless the field is a speaker or group */
    size_t folded;             /* values that share the row; 0: it is one value's */
    int64_t utterances, gender[GENDERS], untimed, speakers;
    double seconds;
} Tally;

/* The values of a field in order of corpus and name, not given after them. The most frequent have a row each. */
typedef struct Categories {
    size_t distinct; /* values that are given */
    Tally *rows;
    size_t count;
    uint32_t *row_of; /* [utterances] */
} Categories;

/* What an utterance can lack; a cue lacks its level where its feature is null. */
typedef enum Want {
    WANT_EMOTION,
    WANT_GENDER,
    WANT_SPEAKER,
    WANT_GROUP,
    WANT_TRANSCRIPT,
    WANT_FEATURES,
    WANT_PITCH,
    WANT_SPEED,
    WANT_VOLUME,
    WANT_EXPLANATION,
    WANT_TEACHER,
    WANTS
} Want;

typedef struct Census {
    Tally all;
    Categories by[FIELD_COUNT];
    int64_t lacking[WANTS];
    bool speakers_are_groups; /* one to one */
} Census;

bool census_take(Census *census, const DataSet *set, Error *err);
void census_free(Census *census);

/* [a's rows, b's rows]: how many utterances are in both; free() it. */
int64_t *census_cross(const Categories *a, const Categories *b, size_t utterances, Error *err);

/* --- histograms --- */

enum { HISTOGRAM_BINS = 64 };

/* Bin i holds low + i * step up to, and not with, low + (i + 1) * step. */
typedef struct Histogram {
    double low, step;
    int bins;
    int64_t count[HISTOGRAM_BINS], below, above, total;
} Histogram;

/* An empty histogram of round steps over sorted values but the outermost half percent at either end. */
Histogram histogram_over(const double *sorted, size_t count);
void histogram_add(Histogram *histogram, double value);
double histogram_edge(const Histogram *histogram, int bin);

/* A round number (1, 2 or 5 times a power of ten) of at least `value` > 0. */
double round_step(double value);

/* --- sample cards --- */

enum { CARD_COLUMNS = 400 };
static const double CARD_SECONDS_MOST = 20; /* of a longer clip, its beginning */

typedef struct Card {
    size_t index; /* in the data set */
    double seconds, whole_seconds;
    Features features; /* the data's own, or measured where it has none */
    FeatureTrack track;
    int columns; /* of the waveform: its lowest and highest sample in each */
    float low[CARD_COLUMNS], high[CARD_COLUMNS];
    unsigned char *audio; /* FLAC */
    size_t audio_size;
} Card;

/* Which utterances to show: of the classes in turn one each, of the genders in turn in each, by seed and id alone.
 * chosen[count]; *found is how many there were. */
bool cards_choose(const DataSet *set, const Categories *classes, uint64_t seed, size_t count, size_t *chosen,
                  size_t *found, Error *err);

bool card_make(Card *card, const DataSet *set, size_t index, Error *err);
void card_free(Card *card);

/* --- the page's parts --- */

typedef struct DataReport {
    DataSet set;
    Census census;
    int level_count;
    CutPoints *cuts; /* of all utterances */
    Levels *levels;  /* [set.count] */
    Card *cards;
    size_t card_count;
} DataReport;

bool report_write_census(const DataReport *report, FILE *out, Error *err);
bool report_write_cues(const DataReport *report, FILE *out, Error *err);
bool report_write_levels(const DataReport *report, FILE *out, Error *err);
void report_write_cards(const DataReport *report, FILE *out);

/* What the parts share. */
extern const char *const CUE_UNITS[CUE_COUNT];    /* "Hz", ... */
extern const char *const CUE_MEASURES[CUE_COUNT]; /* "median F0", ... */
extern const int CUE_DECIMALS[CUE_COUNT];

void report_write_name(FILE *out, const Tally *row); /* a row's value, isolated from the text around it */
void report_write_count(int64_t count, FILE *out);   /* a table's cell */
int report_tone(int level, int level_count); /* the number of its colour: 2 normal, 1 and 3 beside it, 0 and 4 very */

#endif
