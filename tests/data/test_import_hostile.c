/* Corpora whose files are damaged, lie or are not what they seem: each is named and refused, nothing crashes. */
#include "tests/data/import_tree.h"

/* One corpus with one text file, which is then damaged. */
typedef struct Victim {
    const char *corpus, *root, *file;
    const char *text;
    const char *sounds[3];
} Victim;

static const Victim IEMOCAP = {
    "iemocap",
    "i",
    "i/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n",
    {"i/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"}};
static const Victim WORDS = {"iemocap",
                             "i",
                             "i/Session1/dialog/transcriptions/Ses01F_impro01.txt",
                             "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: [LAUGHTER]\n",
                             {"i/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"}};
static const Victim MSP = {"msp-improv",
                           "m",
                           "m/Evalution.txt",
                           "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; V:3.5; D:NaN ; N:4.1;\nW1; Neutral; ; A:3.0;\n",
                           {"m/MSP-IMPROV-S01A-F01-P-FM01.wav"}};
static const Victim CREMA = {"crema-d",
                             "c",
                             "c/VideoDemographics.csv",
                             "\"ActorID\",\"Age\",\"Sex\"\n1001,51,\"Male\"\n",
                             {"c/AudioWAV/1001_DFA_ANG_XX.wav"}};
static const Victim VOTES = {"crema-d",
                             "c",
                             "c/summaryTable.csv",
                             "\"\",\"FileName\",\"VoiceVote\",\"FaceVote\",\"MultiModalVote\"\n"
                             "1,\"1001_DFA_ANG_XX\",\"A\",\"A\",\"A:D\"\n",
                             {"c/AudioWAV/1001_DFA_ANG_XX.wav"}};
static const Victim MELD = {"meld",
                            "d",
                            "d/test_sent_emo.csv",
                            "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode\n"
                            "1,\"No, \xC2\x93no\xC2\x94\",Joey,anger,negative,0,7,8,21\n",
                            {"d/test/dia0_utt7.wav"}};
static const Victim ESD = {"esd",
                           "e",
                           "e/0011/0011.txt",
                           "0011_000351\tThe nine the eggs.\tAngry\n0011_000352\tI keep.\tAngry\n",
                           {"e/0011/Angry/0011_000351.wav"}};
static const Victim CHINESE = {"esd",
                               "e",
                               "e/0001/0001.txt",
                               "0001_000351\t\xC4\xE3\xBA\xC3\t\xC9\xFA\xC6\xF8\n",
                               {"e/0001/Angry/0001_000351.wav"}};
static const Victim M3ED = {
    "m3ed",
    "3",
    "3/annotation.json",
    "{\"a\":{\"a_1\":{\"Dialog\":{\"a_1_1\":{\"Text\":\"x\",\"Speaker\":\"A\",\"EmoAnnotation\":"
    "{\"final_mul_emo\":\"Sad\",\"final_main_emo\":\"Sad\"}}},\"SpeakerInfo\":{\"A\":{\"Name\":"
    "\"n\",\"Gender\":\"F\"}}}}}",
    {"3/modality_speech/A_a_1_1.wav"}};
static const Victim MOVIES = {
    "m3ed", "3", "3/splitInfo/movie_list_test.txt", "a\nb\n", {"3/modality_speech/A_a_1_1.wav"}};
static const Victim *const VICTIMS[] = {&IEMOCAP, &WORDS, &MSP, &CREMA, &VOTES, &MELD, &ESD, &CHINESE, &M3ED, &MOVIES};
enum { VICTIM_COUNT = sizeof VICTIMS / sizeof *VICTIMS };

static int plant(void **state) {
    (void)state;
    for (int i = 0; i < VICTIM_COUNT; i++) {
        tree_text(VICTIMS[i]->file, VICTIMS[i]->text);
        for (const char *const *sound = VICTIMS[i]->sounds; *sound; sound++) tree_sound(*sound);
    }
    tree_text("3/splitInfo/movie_list_train.txt", "");
    tree_text("3/splitInfo/movie_list_val.txt", "");
    return 0;
}

static const Importer *importer_of(const char *corpus) {
    static const Importer *const ALL[] = {&IMPORT_IEMOCAP, &IMPORT_MSP_IMPROV, &IMPORT_CREMA_D,
                                          &IMPORT_MELD,    &IMPORT_ESD,        &IMPORT_M3ED};
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        if (strcmp(ALL[i]->name, corpus) == 0) return ALL[i];
    fail_msg("no importer %s", corpus);
    return NULL;
}

/* Without writing a manifest, which would be slow a thousand times. */
static bool import_victim(const Victim *victim, Error *err) {
    char *root = test_path(victim->root), *folder = test_folder();
    Imported imported;
    *err = (Error){0};
    bool done =
        import_corpus(importer_of(victim->corpus), &(ImportOptions){.root = root, .folder = folder}, &imported, err);
    imported_free(&imported);
    free(root);
    free(folder);
    return done;
}

/* The file with other bytes is refused, and the sentence names it; or, where `may_pass`, is imported. */
static void damage(const Victim *victim, const void *bytes, size_t size, bool may_pass) {
    Error err;
    tree_bytes(victim->file, bytes, size);
    bool done = import_victim(victim, &err);
    if (done && !may_pass) fail_msg("%s was accepted: %.*s", victim->file, (int)size, (const char *)bytes);
    if (!done && !err.text[0]) fail_msg("%s: refused without a word", victim->file);
    const char *name = strrchr(victim->file, '/') + 1;
    if (!done && !may_pass && !strstr(err.text, name)) fail_msg("\"%s\" is not named in: %s", name, err.text);
    tree_text(victim->file, victim->text);
}

static void unharmed(void **state) {
    (void)state;
    for (int i = 0; i < VICTIM_COUNT; i++) {
        Error err;
        assert_ok(import_victim(VICTIMS[i], &err), &err);
    }
}

/* Every cut and many changes of a byte end in an error or an import. */
static void every_byte(void **state) {
    (void)state;
    static const char BYTES[] = {'\0', '\xFF', '\n', '\t', ';', ',', '"', '[', '9', '\x93'};
    int cases = 0;
    for (int v = 0; v < VICTIM_COUNT; v++) {
        size_t size = strlen(VICTIMS[v]->text);
        char *copy = malloc(size);
        for (size_t at = 0; at < size; at++)
            for (size_t k = 0; k <= sizeof BYTES; k++, cases++) {
                memcpy(copy, VICTIMS[v]->text, size);
                if (k < sizeof BYTES) copy[at] = BYTES[k];
                damage(VICTIMS[v], copy, k < sizeof BYTES ? size : at, true);
            }
        free(copy);
    }
    printf("%d damaged files\n", cases);
}

static void binary_and_huge(void **state) {
    (void)state;
    enum { HUGE_LINE = 1100000 };
    char *huge = malloc(HUGE_LINE + 300);
    for (int v = 0; v < VICTIM_COUNT; v++) {
        const Victim *victim = VICTIMS[v];
        size_t size = strlen(victim->text);
        bool table = victim == &CREMA || victim == &VOTES || victim == &MELD, json = victim == &M3ED;
        memcpy(huge, victim->text, size);
        huge[size] = '\0';
        damage(victim, huge, size + 1, false); /* a NUL, which is no text */
        memset(huge, '\xFF', 100);
        damage(victim, huge, 100, victim == &ESD || victim == &CREMA || victim == &VOTES || victim == &MELD);
        memcpy(huge, victim->text, size);
        memset(huge + size, 'x', HUGE_LINE);
        damage(victim, huge, size + HUGE_LINE,
               table || json); /* these may have long lines; a wrong column count says it */
    }
    free(huge);
}

/* Where the name is of an utterance rather than of the file, `names` is what the sentence must hold. */
typedef struct Case {
    const Victim *victim;
    const char *text, *names;
} Case;

static void hostile_files(void **state) {
    (void)state;
    static const Case CASES[] = {
        {&IEMOCAP, "", "Ses01F_impro01.txt: holds no utterance"},
        {&IEMOCAP, "% only a head\n", "Ses01F_impro01.txt: holds no utterance"},
        {&IEMOCAP, "[6.2901 - 8.2", "Ses01F_impro01.txt line 1"},
        {&IEMOCAP, "[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "\n[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5] x\n", "line 2"},
        {&IEMOCAP, "[nan - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "[6 - 1e999]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F000\tneu\t[2.5, inf, 2.5]\n", "line 1"},
        {&IEMOCAP, "[8 - 6]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "[6 - 8]\tSes09F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n", "Ses09F_impro01_F000"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_X000\tneu\t[2.5, 2.5, 2.5]\n", "Ses01F_impro01_X000"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F\tneu\t[2.5, 2.5, 2.5]\n", "Ses01F_impro01_F"},
        {&IEMOCAP, "[6 - 8]\tSes01F\tneu\t[2.5, 2.5, 2.5]\n", "Ses01F"},
        {&IEMOCAP, "[6 - 8]\tSes01F_/../../etc_F1\tneu\t[2.5, 2.5, 2.5]\n", "Ses01F_/../../etc_F1"},
        {&IEMOCAP, "[6 - 8]\t\tneu\t[2.5, 2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F000\t\t[2.5, 2.5, 2.5]\n", "line 1"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F000\twow\t[2.5, 2.5, 2.5]\n",
         "the label \"wow\" is not in ./configs/labels"},
        {&IEMOCAP,
         "[6 - 8]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n[6 - 8]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n",
         "iemocap-Ses01F_impro01_F000"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F000\tne\xFFu\t[2.5, 2.5, 2.5]\n",
         "Ses01F_impro01.txt line 1: not valid UTF-8"},
        {&IEMOCAP, "[6 - 8]\tSes01F_impro01_F000\txxx\t[2.5, 2.5, 2.5]\n", "no utterance is left of the 1"},
        {&WORDS, "Ses01F_impro01_F000 [6-8]: caf\xE9\n", "transcriptions/Ses01F_impro01.txt line 1: not valid UTF-8"},
        {&MSP, "", "Evalution.txt: holds no turn"},
        {&MSP, "UTD-IMPROV-", "Evalution.txt line 1"},
        {&MSP, "\nUTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; V:3", "Evalution.txt line 2"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:x; V:3.5; D:3.0 ; N:4.1;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:1e999; V:3.5; D:3.0 ; N:4.1;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; N; V:3.0; A:3.5; D:3.0 ; N:4.1;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1; x\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; NN; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "line 1"},
        {&MSP, "UTD-IMPROV-S01A-F07-P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "S01A-F07-P-FM01"},
        {&MSP, "UTD-IMPROV-S01A--P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "S01A--P-FM01"},
        {&MSP, "UTD-IMPROV-S01X-F01-P-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "S01X-F01-P-FM01"},
        {&MSP, "UTD-IMPROV-S01A-F01-Q-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "S01A-F01-Q-FM01"},
        {&MSP, "UTD-IMPROV-S01A-F01-P.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "S01A-F01-P"},
        {&MSP, "UTD-IMPROV-S01A-F01-P-FM01.avi; Q; A:3.0; V:3.5; D:3.0 ; N:4.1;\n", "the label \"Q\""},
        {&CREMA, "", "VideoDemographics.csv"},
        {&CREMA, "version https://git-lfs.github.com/spec/v1\n", "VideoDemographics.csv"},
        {&CREMA, "\"ActorID\",\"Age\"\n1001,51\n", "there is no column \"Sex\""},
        {&CREMA, "\"ActorID\",\"Age\",\"Sex\"\n1001,51\n", "VideoDemographics.csv line 2"},
        {&CREMA, "\"ActorID\",\"Age\",\"Sex\"\n1001,51,\"Male\n", "VideoDemographics.csv line 2"},
        {&VOTES, "\"\",\"FileName\",\"VoiceVote\"\n1,a,A\n",
         "summaryTable.csv line 1: there is no column \"FaceVote\""},
        {&VOTES,
         "\"\",\"FileName\",\"VoiceVote\",\"FaceVote\",\"MultiModalVote\"\n1,\"1001_DFA_ANG_XX\",\"\xFF\",A,A\n",
         "1001_DFA_ANG_XX"},
        {&MELD, "", "test_sent_emo.csv"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID\n", "there is no column \"Utterance_ID\""},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n", "test_sent_emo.csv: has a header but no row"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,anger,0,x\n",
         "line 2, column Utterance_ID"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,anger,-1,1\n",
         "line 2, column Dialogue_ID"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,anger,99999999999,1\n",
         "column Dialogue_ID"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,,0,7\n", "line 2, column Emotion"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,rage,0,7\n", "the label \"rage\""},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nN\x92o,Joey,anger,0,7\n",
         "test_sent_emo.csv line 2"},
        {&MELD, "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nNo,Joey,anger,0,7\nNo,Joey,anger,0,7\n",
         "meld-test-dia0_utt7"},
        {&ESD, "nothing\n", "0011.txt: holds no line"},
        {&ESD, "", "0011.txt: holds no line"},
        {&CHINESE, "0001_000351\t\xC4\xE3\xFF\xFF\tx\n", "0001.txt: byte"},
        {&CHINESE, "\xFF\xFE\x30", "0001.txt: byte"},
        {&CHINESE, "\xFF\xFE\x00\xD8\x41\x00", "0001.txt"},
        {&M3ED, "", "annotation.json"},
        {&M3ED, "[]", "annotation.json"},
        {&M3ED, "{}", "holds nothing of the corpus"},
        {&M3ED, "{\"a\":1}", "annotation.json: a: must be"},
        {&M3ED, "{\"a\":{\"a_1\":[]}}", "annotation.json: a_1: must be"},
        {&M3ED, "{\"a\":{\"a_1\":{\"Dialog\":{\"a_1_1\":7}}}}", "annotation.json: a_1_1: \"Speaker\""},
        {&M3ED, "{\"a\":{\"a_1\":{\"Dialog\":{\"a_1_1\":{\"Speaker\":\"A\"}}}}}", "a_1_1: \"final_main_emo\""},
        {&M3ED,
         "{\"a\":{\"a_1\":{\"Dialog\":{\"a_1_1\":{\"Speaker\":\"A\",\"EmoAnnotation\":{\"final_main_emo\":\"Sad\"}}},"
         "\"SpeakerInfo\":{\"A\":{\"Name\":7}}}}}",
         "a_1_1: \"Name\""},
        {&M3ED, "{\"a\":{\"a_1\":{\"Dialog\":{\"a_1_1\":{\"Speaker\":\"A\\u0000\"}}}}}", "annotation.json"},
        {&M3ED, "{\"a\":{},\"a\":{}}", "annotation.json"},
        {&MOVIES, "a\tb\xFF\n", "movie_list_test.txt line 1"},
    };
    int count = (int)(sizeof CASES / sizeof *CASES);
    for (int i = 0; i < count; i++) {
        Error err;
        tree_text(CASES[i].victim->file, CASES[i].text);
        if (import_victim(CASES[i].victim, &err)) fail_msg("accepted: %s", CASES[i].text);
        if (!strstr(err.text, CASES[i].names)) fail_msg("\"%s\" is not named in: %s", CASES[i].names, err.text);
        tree_text(CASES[i].victim->file, CASES[i].victim->text);
    }
    printf("%d hostile files refused\n", count);
}

/* What is missing altogether. */
static void missing(void **state) {
    (void)state;
    static const char *const NAMES[] = {"iemocap", "msp-improv", "ravdess", "crema-d", "emo-db", "meld",
                                        "esd",     "casia",      "savee",   "tess",    "m3ed",   "csv"};
    tree_text("empty/readme.txt", "");
    tree_text("empty-session/Session3/readme.txt", "");
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        tree_refused(NAMES[i], "nowhere", "nowhere");
        tree_refused(NAMES[i], "empty", "empty");
    }
    tree_refused("iemocap", "empty-session", "Session3/dialog/EmoEvaluation");
    tree_remove(MOVIES.file);
    tree_refused("m3ed", "3", "movie_list_test.txt");
    tree_text(MOVIES.file, MOVIES.text);
}

/* Recordings that cannot be read: refused by name, or listed and left out. */
static void bad_recordings(void **state) {
    (void)state;
    static const char RIFF[] = "RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\6\0\0\x80\xC\0\0\2\0\x10\0data\0\0\0\0";
    TREE_SOUNDS("t/OAF_a_sad.wav", "t/OAF_b_sad.flac", "t/OAF_c_sad.wav");
    char *whole = test_path("t/OAF_b_sad.flac");
    size_t size;
    char *flac = file_read(whole, 1 << 20, &size, NULL);
    const struct {
        const char *what;
        const void *bytes;
        size_t size;
    } BAD[] = {{"empty", "", 0},
               {"text", "version https://git-lfs.github.com/spec/v1\n", 43},
               {"no sample", RIFF, sizeof RIFF - 1},
               {"cut FLAC", flac, size - size / 3},
               {"FLAC's head alone", flac, 42}};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        tree_bytes("t/OAF_b_sad.flac", BAD[i].bytes, BAD[i].size);
        TreeImport refused = tree_import("tess", "t", NULL, NULL);
        if (refused.done) fail_msg("accepted: %s", BAD[i].what);
        assert_non_null(strstr(refused.err.text, "t/OAF_b_sad.flac"));
        assert_non_null(strstr(refused.err.text, "--skip-bad"));
        TreeImport skipped = tree_import("tess", "t", "--skip-bad", NULL);
        assert_true(skipped.done);
        assert_null(strstr(skipped.manifest, "OAF_b_sad"));
        assert_non_null(strstr(skipped.manifest, "OAF_c_sad"));
        tree_says(&skipped, "t/OAF_b_sad.flac: ");
        tree_says(&skipped, "2 utterances of 3 found");
        tree_says(&skipped, "left out: 1 with a missing or damaged recording");
        tree_import_free(&refused);
        tree_import_free(&skipped);
    }
    tree_bytes("t/OAF_a_sad.wav", "", 0);
    tree_bytes("t/OAF_c_sad.wav", "", 0);
    TreeImport none = tree_import("tess", "t", "--skip-bad", NULL);
    assert_false(none.done);
    assert_non_null(strstr(none.err.text, "no utterance is left of the 3"));
    tree_import_free(&none);
    free(flac);
    free(whole);
}

/* Folders in circles end the walk instead of the program. */
static void folders_in_circles(void **state) {
    (void)state;
    TREE_SOUNDS("circle/OAF_a_sad.wav");
    char *link = test_path("circle/again");
    assert_int_equal(symlink(".", link), 0);
    tree_refused("tess", "circle", "nested more than");
    free(link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unharmed),           cmocka_unit_test(hostile_files), cmocka_unit_test(every_byte),
        cmocka_unit_test(binary_and_huge),    cmocka_unit_test(missing),       cmocka_unit_test(bad_recordings),
        cmocka_unit_test(folders_in_circles),
    };
    return cmocka_run_group_tests_name("import hostile", tests, plant, test_cleanup);
}
