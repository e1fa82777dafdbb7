/* IEMOCAP: SessionN/dialog/EmoEvaluation/DIALOG.txt says what was felt, SessionN/dialog/transcriptions/DIALOG.txt what
 * was said, SessionN/sentences/wav/DIALOG/UTTERANCE.wav is it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/import.h"
#include "data/import_text.h"

enum { SESSIONS = 5, SUMMARY_FIELDS = 4 };

/* hap and exc are published as one class. */
static const Published PUBLISHED[] = {
    {NULL, "ang", 1103},          {NULL, "dis", 2},         {NULL, "exc", 1041},      {NULL, "fea", 40},
    {NULL, "fru", 1849},          {NULL, "hap", 595},       {NULL, "neu", 1708},      {NULL, "oth", 3},
    {NULL, "sad", 1084},          {NULL, "sur", 107},       {NULL, "xxx", 2507},      {"Session1", "ang", 229},
    {"Session1", "hap+exc", 278}, {"Session1", "neu", 384}, {"Session1", "sad", 194}, {"Session2", "ang", 137},
    {"Session2", "hap+exc", 327}, {"Session2", "neu", 362}, {"Session2", "sad", 197}, {"Session3", "ang", 240},
    {"Session3", "hap+exc", 286}, {"Session3", "neu", 320}, {"Session3", "sad", 305}, {"Session4", "ang", 327},
    {"Session4", "hap+exc", 303}, {"Session4", "neu", 258}, {"Session4", "sad", 143}, {"Session5", "ang", 170},
    {"Session5", "hap+exc", 442}, {"Session5", "neu", 384}, {"Session5", "sad", 245}, {0}};

typedef struct Corpus {
    Import *import;
    char *folder; /* of the session */
    char session[sizeof "Session1"];
    TextPairs words; /* utterance to text, of one dialog */
} Corpus;

/* A summary line: "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]". */
typedef struct Summary {
    double start, end, valence, activation, dominance;
    const char *utterance, *label;
} Summary;

static bool parse_summary(char *line, Summary *summary) {
    char *fields[SUMMARY_FIELDS];
    int times = 0, ratings = 0;
    *summary = (Summary){0};
    if (text_split(line, '\t', fields, SUMMARY_FIELDS) != SUMMARY_FIELDS) return false;
    sscanf(fields[0], "[%lf - %lf]%n", &summary->start, &summary->end, &times);
    sscanf(fields[3], "[%lf, %lf, %lf]%n", &summary->valence, &summary->activation, &summary->dominance, &ratings);
    summary->utterance = fields[1];
    summary->label = fields[2];
    return times && !fields[0][times] && ratings && !fields[3][ratings] && isfinite(summary->start) &&
           isfinite(summary->end) && isfinite(summary->valence) && isfinite(summary->activation) &&
           isfinite(summary->dominance) && summary->end > summary->start && *summary->label;
}

/* Ses01F_impro01_F000: session, who wears the markers, dialog, who speaks and the number of the turn. */
static bool parse_utterance(const char *utterance, size_t *dialog_length, char *speaks) {
    const char *last = strrchr(utterance, '_');
    if (strncmp(utterance, "Ses0", 4) != 0 || !last || last < utterance + 6 || utterance[6] != '_') return false;
    if (utterance[4] < '1' || utterance[4] > '0' + SESSIONS || !strchr("FM", utterance[5])) return false;
    *dialog_length = (size_t)(last - utterance);
    *speaks = last[1];
    static const char PLAIN[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    return (*speaks == 'F' || *speaks == 'M') && last[2] && !utterance[strspn(utterance, PLAIN)];
}

static bool add_summary(Corpus *corpus, const Summary *summary, Error *err) {
    size_t length;
    char speaks, speaker[sizeof "Ses01F"];
    if (!parse_utterance(summary->utterance, &length, &speaks))
        return fail(err, "\"%.100s\" is not an utterance like Ses01F_impro01_F000", summary->utterance);
    snprintf(speaker, sizeof speaker, "%.5s%c", summary->utterance, speaks);
    char *dialog = text_format(err, "%.*s", (int)length, summary->utterance);
    char *folder = dialog ? text_format(err, "%s/sentences/wav/%s", corpus->folder, dialog) : NULL;
    char *audio = folder ? audio_beside(folder, summary->utterance, err) : NULL;
    char *missing = folder ? text_format(err, "%s/%s.wav or .flac", folder, summary->utterance) : NULL;
    Found found = {.id = summary->utterance,
                   .audio = audio,
                   .missing = missing,
                   .speaker = speaker,
                   .gender = speaks == 'F' ? "female" : "male",
                   .label = summary->label,
                   .transcript = pairs_find(&corpus->words, summary->utterance),
                   .group = corpus->session};
    bool done =
        missing && (found.transcript || counts_add(&corpus->import->notes, "without a transcript", err)) &&
        import_add(corpus->import, &found,
                   json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "scenario",
                             strstr(dialog, "impro") ? "improvised" : "scripted", "dialog", dialog, "dialog_start",
                             summary->start, "dialog_end", summary->end, "valence", summary->valence, "activation",
                             summary->activation, "dominance", summary->dominance),
                   err);
    free(dialog);
    free(folder);
    free(audio);
    free(missing);
    return done;
}

/* Lines like "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me."; others are remarks. */
static bool read_words(Corpus *corpus, const char *name, Error *err) {
    pairs_free(&corpus->words);
    char *path = text_format(err, "%s/dialog/transcriptions/%s", corpus->folder, name);
    TextFile text = {0};
    bool there = path && file_exists(path), done = path && (!there || text_open(&text, path, NULL, err));
    for (char *line; there && done && (line = text_line(&text));) {
        char *space = strchr(line, ' '), *words = strstr(line, "]:");
        if (strncmp(line, "Ses0", 4) != 0 || !space || !words || space > words) continue;
        *space = '\0';
        words += 2 + strspn(words + 2, " \t");
        for (size_t length = strlen(words); length && words[length - 1] == ' '; length--) words[length - 1] = '\0';
        done = !*words || pairs_add(&corpus->words, line, words, err);
    }
    pairs_sort(&corpus->words);
    text_close(&text);
    free(path);
    return done;
}

static bool read_evaluation(Corpus *corpus, const char *path, Error *err) {
    TextFile text;
    if (!text_open(&text, path, NULL, err)) return false;
    size_t before = corpus->import->count;
    bool done = true;
    for (char *line; done && (line = text_line(&text));) {
        Summary summary;
        if (line[0] != '[') continue; /* the head, and what each rater said */
        done = parse_summary(line, &summary)
                   ? add_summary(corpus, &summary, err)
                   : fail(err, "expected [START - END], utterance, label and [V, A, D] with tabs between");
        if (!done) fail_in(err, "%s line %zu", path, text.line);
    }
    text_close(&text);
    if (done && corpus->import->count == before)
        done = fail(err, "%s: holds no utterance, which begin like [6.2901 - 8.2357]", path);
    return done;
}

/* The files of a folder alone: subfolders hold each rater's own, and names with a dot first are no data. */
static bool read_session(Corpus *corpus, Error *err) {
    char *folder = text_format(err, "%s/dialog/EmoEvaluation", corpus->folder);
    Names names = {0};
    bool done = folder && folder_list(folder, &names, err);
    for (size_t i = 0; i < names.count && done; i++) {
        size_t length = strlen(names.items[i]);
        char *path = path_join(folder, names.items[i], err);
        if (!path)
            done = false;
        else if (names.items[i][0] != '.' && length > 4 && strcmp(names.items[i] + length - 4, ".txt") == 0 &&
                 !folder_exists(path))
            done = read_words(corpus, names.items[i], err) && read_evaluation(corpus, path, err);
        free(path);
    }
    names_free(&names);
    free(folder);
    return done;
}

static bool run(Import *import, Error *err) {
    Corpus corpus = {.import = import};
    bool done = true;
    for (int session = 1; session <= SESSIONS && done; session++) {
        snprintf(corpus.session, sizeof corpus.session, "Session%c", '0' + session);
        corpus.folder = path_join(import->root, corpus.session, err);
        done = corpus.folder && (!folder_exists(corpus.folder) || read_session(&corpus, err));
        free(corpus.folder);
    }
    pairs_free(&corpus.words);
    return done;
}

const Importer IMPORT_IEMOCAP = {.name = "iemocap",
                                 .root = "the folder that holds IEMOCAP's Session1 .. Session5",
                                 .labels = "iemocap-4",
                                 .run = run,
                                 .published = PUBLISHED};
