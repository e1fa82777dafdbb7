/* MSP-IMPROV: Evaluation.txt (as published: Evalution.txt) says what was felt in UTD-IMPROV-S01A-F01-P-FM01.avi; the
 * recording is MSP-IMPROV-S01A-F01-P-FM01.wav, in [Audio/]session1/S01A/P. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/import.h"
#include "data/import_text.h"

enum { HEAD_FIELDS = 7, NAME_FIELDS = 4, SESSIONS = 6, RATINGS = 4 };

static const char *const PREFIXES[] = {"UTD-IMPROV-", "MSP-IMPROV-"};

static const Published PUBLISHED[] = {{NULL, "A", 792}, {NULL, "H", 2644},           {NULL, "N", 3477},
                                      {NULL, "S", 885}, {NULL, "A+H+N+S+O+X", 8438}, {0}};

/* The head of a block: "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;", then a line a rater. */
typedef struct Head {
    char *turn; /* S01A-F01-P-FM01 */
    const char *label;
    double ratings[RATINGS]; /* activation, valence, dominance, naturalness; NaN where unknown */
} Head;

/* S01A-F01-P-FM01: sentence and the emotion meant, speaker, scenario, who is with whom and the turn. */
typedef struct Turn {
    char sentence[3], target[2], speaker[4], session[sizeof "Session1"];
    const char *scenario;
} Turn;

/* 0: the line is not the head of a block. */
static size_t prefix_length(const char *line) {
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++)
        if (strncmp(line, PREFIXES[i], strlen(PREFIXES[i])) == 0) return strlen(PREFIXES[i]);
    return 0;
}

/* "A:3.000000" or "A:NaN"; NaN where the field is not there. */
static bool parse_rating(const char *field, char letter, double *rating) {
    *rating = NAN;
    if (!field || !*field) return true;
    if (field[0] != letter || field[1] != ':') return false;
    if (strcmp(field + 2, "NaN") == 0) return true;
    char *end;
    *rating = strtod(field + 2, &end);
    return end != field + 2 && !*end && isfinite(*rating);
}

static bool parse_head(char *line, Head *head) {
    static const char LETTERS[RATINGS] = {'A', 'V', 'D', 'N'};
    char *fields[HEAD_FIELDS];
    int count = text_split(line, ';', fields, HEAD_FIELDS);
    if (count < 2 + RATINGS || count > HEAD_FIELDS || (count == HEAD_FIELDS && *fields[HEAD_FIELDS - 1])) return false;
    head->turn = fields[0] + prefix_length(fields[0]);
    char *ending = strstr(head->turn, ".avi");
    if (!ending || ending[4] || !isupper((unsigned char)fields[1][0]) || fields[1][1]) return false;
    *ending = '\0';
    head->label = fields[1];
    for (int i = 0; i < RATINGS; i++)
        if (!parse_rating(fields[2 + i], LETTERS[i], &head->ratings[i])) return false;
    return true;
}

static bool digits(const char *text, size_t count) { return strspn(text, "0123456789") == count && !text[count]; }

static const char *scenario_of(const char *letter) {
    static const char *const SCENARIOS[][2] = {
        {"P", "natural"}, {"R", "read"}, {"S", "other-improvised"}, {"T", "target-improvised"}};
    for (size_t i = 0; i < sizeof SCENARIOS / sizeof *SCENARIOS; i++)
        if (strcmp(SCENARIOS[i][0], letter) == 0) return SCENARIOS[i][1];
    return NULL;
}

/* Cuts up a copy of the turn's name. */
static bool parse_turn(char *name, Turn *turn) {
    char *fields[NAME_FIELDS];
    if (text_split(name, '-', fields, NAME_FIELDS) != NAME_FIELDS) return false;
    const char *sentence = fields[0], *speaker = fields[1];
    if (strlen(sentence) != 4 || sentence[0] != 'S' || !strchr("AHNS", sentence[3])) return false;
    if (!strchr("FM", speaker[0]) || !digits(speaker + (*speaker != '\0'), 2) || strspn(fields[3], "FM") != 2)
        return false;
    if (speaker[1] != '0' || speaker[2] < '1' || speaker[2] > '0' + SESSIONS) return false;
    snprintf(turn->sentence, sizeof turn->sentence, "%.2s", sentence + 1);
    snprintf(turn->target, sizeof turn->target, "%s", sentence + 3);
    snprintf(turn->speaker, sizeof turn->speaker, "%s", speaker);
    snprintf(turn->session, sizeof turn->session, "Session%c", speaker[2]);
    turn->scenario = scenario_of(fields[2]);
    return turn->scenario && digits(turn->sentence, 2);
}

static json_t *rating(double value) { return isnan(value) ? NULL : json_real(value); }

static bool add_turn(Import *import, const AudioFiles *files, const Head *head, const Turn *turn, Error *err) {
    char *stem = text_format(err, "%s%s", PREFIXES[1], head->turn);
    char *missing = text_format(err, "%s%s.wav or .flac below %s", PREFIXES[1], head->turn, import->root);
    Found found = {.id = head->turn,
                   .missing = missing,
                   .speaker = turn->speaker,
                   .gender = turn->speaker[0] == 'F' ? "female" : "male",
                   .label = head->label,
                   .group = turn->session};
    bool done = stem && missing && audio_files_find(files, stem, NULL, &found.audio, err) &&
                import_add(import, &found,
                           json_pack("{s:s, s:s, s:s, s:o*, s:o*, s:o*, s:o*}", "scenario", turn->scenario, "sentence",
                                     turn->sentence, "target", turn->target, "valence", rating(head->ratings[1]),
                                     "activation", rating(head->ratings[0]), "dominance", rating(head->ratings[2]),
                                     "naturalness", rating(head->ratings[3])),
                           err);
    free(stem);
    free(missing);
    return done;
}

static bool read_head(Import *import, const AudioFiles *files, char *line, Error *err) {
    Head head;
    Turn turn;
    if (!parse_head(line, &head))
        return fail(err, "expected UTD-IMPROV-S01A-F01-P-FM01.avi; LABEL; A:..; V:..; D:.. ; N:..;");
    char *name = text_copy(head.turn, err);
    if (!name) return false;
    bool done =
        parse_turn(name, &turn) ||
        fail(err, "\"%.100s\" is not a turn like S01A-F01-P-FM01 (sentence and emotion, speaker, scenario, turn)",
             head.turn);
    free(name);
    return done && add_turn(import, files, &head, &turn, err);
}

static bool read_evaluation(Import *import, const AudioFiles *files, const char *path, Error *err) {
    TextFile text;
    if (!text_open(&text, path, NULL, err)) return false;
    bool done = true;
    for (char *line; done && (line = text_line(&text));)
        if (prefix_length(line) && !read_head(import, files, line, err))
            done = fail_in(err, "%s line %zu", path, text.line);
    text_close(&text);
    if (done && import->count == 0)
        done = fail(err, "%s: holds no turn, which begin like UTD-IMPROV-S01A-F01-P-FM01.avi;", path);
    return done;
}

static bool run(Import *import, Error *err) {
    AudioFiles files = {0};
    char *path = file_any_case(import->root, "Evaluation.txt", err);
    if (!path) path = file_any_case(import->root, "Evalution.txt", err);
    bool done = path ? audio_files_open(&files, import->root, err) && read_evaluation(import, &files, path, err)
                     : fail(err, "%s: there is no Evaluation.txt or Evalution.txt in it; give %s", import->root,
                            IMPORT_MSP_IMPROV.root);
    audio_files_close(&files);
    free(path);
    return done;
}

const Importer IMPORT_MSP_IMPROV = {.name = "msp-improv",
                                    .root = "the folder that holds MSP-IMPROV's Evalution.txt and session1 .. session6",
                                    .labels = "msp-improv-4",
                                    .run = run,
                                    .published = PUBLISHED};
