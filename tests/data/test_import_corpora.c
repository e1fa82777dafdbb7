/* Each corpus in its own layout, with what is odd about it, gives exactly the manifest that it should. */
#include "tests/data/import_tree.h"

static void iemocap(void **state) {
    (void)state;
    tree_text("iemocap/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
              "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\r\n\r\n"
              "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\r\n"
              "C-E2:\tNeutral;\t()\r\nA-E3:\tval 3; act 2; dom  2;\t()\r\nA-M1:\tval ; act 3; dom  ;\t()\r\n\r\n"
              "[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[4.0000, 3.5000, 3.0000]\r\n"
              "[14.8872 - 18.0175]\tSes01F_impro01_F001\txxx\t[2.0000, 2.0000, 3.0000]\r\n"
              "[19.2900 - 20.7875]\tSes01F_impro01_M001\toth\t[2.5000, 3.0000, 3.0000]\r\n"
              "[21.3257 - 24.7400]\tSes01F_impro01_M002\tfru\t[2.5000, 3.0000, 3.0000]\r\n");
    tree_text("iemocap/Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt",
              "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
              "[5.0000 - 6.5000]\tSes05M_script01_1b_F003\thap\t[4.5000, 3.0000, 2.5000]\n\n"
              "[7.0000 - 9.2500]\tSes05M_script01_1b_M010\tang\t[1.5000, 4.3333, 4.6667]\n");
    tree_text("iemocap/Session1/dialog/transcriptions/Ses01F_impro01.txt",
              "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\r\n"
              "M: [LAUGHTER]\r\n"
              "Ses01F_impro01_M000 [010.0100-011.3925]: \"Yeah\"; it's 10 [ten]: fine. \r\n"
              "Ses01F_impro01_MXX0 [012.0100-013.3925]: Right.\r\n");
    /* what lies beside the data */
    tree_bytes("iemocap/Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt", "\0\x05\x16\x07\xFF", 5);
    tree_text("iemocap/Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt",
              "Ses01F_impro01_F000 :Neutral state; ()\n[broken\n");
    tree_text("iemocap/Session1/dialog/EmoEvaluation/Self-evaluation.txt/notes.txt", "[broken\n");
    tree_bytes("iemocap/Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav", "\0", 1);
    tree_text("iemocap/Session1/dialog/wav/Ses01F_impro01.wav", "not looked at");
    tree_text("iemocap/README.txt", "Session0");
    TREE_SOUNDS("iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
                "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.WAV",
                "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M002.wav",
                "iemocap/Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F003.flac",
                "iemocap/Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_M010.wav");
    tree_gives(
        "iemocap", "iemocap", NULL,
        "{\"id\":\"iemocap-Ses01F_impro01_F000\",\"corpus\":\"iemocap\",\"audio\":\"iemocap/Session1/sentences/wav/"
        "Ses01F_impro01/Ses01F_impro01_F000.wav\",\"speaker\":\"Ses01F\",\"gender\":\"female\",\"emotion\":\"neutral\","
        "\"transcript\":\"Excuse me.\",\"group\":\"Session1\",\"label\":\"neu\",\"scenario\":\"improvised\","
        "\"dialog\":\"Ses01F_impro01\",\"dialog_start\":6.2901,\"dialog_end\":8.2357,\"valence\":2.5,"
        "\"activation\":2.5,\"dominance\":2.5}\n"
        "{\"id\":\"iemocap-Ses01F_impro01_M000\",\"corpus\":\"iemocap\",\"audio\":\"iemocap/Session1/sentences/wav/"
        "Ses01F_impro01/Ses01F_impro01_M000.WAV\",\"speaker\":\"Ses01M\",\"gender\":\"male\",\"emotion\":\"happy\","
        "\"transcript\":\"\\\"Yeah\\\"; it's 10 [ten]: fine.\",\"group\":\"Session1\",\"label\":\"exc\","
        "\"scenario\":\"improvised\",\"dialog\":\"Ses01F_impro01\",\"dialog_start\":10.01,\"dialog_end\":11.3925,"
        "\"valence\":4.0,\"activation\":3.5,\"dominance\":3.0}\n"
        "{\"id\":\"iemocap-Ses05M_script01_1b_F003\",\"corpus\":\"iemocap\",\"audio\":\"iemocap/Session5/sentences/wav/"
        "Ses05M_script01_1b/Ses05M_script01_1b_F003.flac\",\"speaker\":\"Ses05F\",\"gender\":\"female\","
        "\"emotion\":\"happy\",\"group\":\"Session5\",\"label\":\"hap\",\"scenario\":\"scripted\","
        "\"dialog\":\"Ses05M_script01_1b\",\"dialog_start\":5.0,\"dialog_end\":6.5,\"valence\":4.5,\"activation\":3.0,"
        "\"dominance\":2.5}\n"
        "{\"id\":\"iemocap-Ses05M_script01_1b_M010\",\"corpus\":\"iemocap\",\"audio\":\"iemocap/Session5/sentences/wav/"
        "Ses05M_script01_1b/Ses05M_script01_1b_M010.wav\",\"speaker\":\"Ses05M\",\"gender\":\"male\","
        "\"emotion\":\"angry\",\"group\":\"Session5\",\"label\":\"ang\",\"scenario\":\"scripted\","
        "\"dialog\":\"Ses05M_script01_1b\",\"dialog_start\":7.0,\"dialog_end\":9.25,\"valence\":1.5,"
        "\"activation\":4.3333,\"dominance\":4.6667}\n",
        SAYS("4 utterances of 7 found", "labels of ./configs/labels/iemocap-4.yaml",
             "left out: 1 labelled xxx, 1 labelled oth, 1 labelled fru\n", "note: 5 without a transcript\n",
             "  Session1                     2    0.00       1       1 ", "31 of 31 differ",
             "ang: 1 here, 1103 published", "Session1 hap+exc: 1 here, 278 published"));
    TreeImport six = tree_import("iemocap", "iemocap", "--labels", "6"), native;
    assert_true(six.done);
    assert_non_null(strstr(six.manifest, "\"emotion\":\"excited\""));
    assert_non_null(strstr(six.manifest, "\"emotion\":\"frustrated\""));
    tree_import_free(&six);
    native = tree_import("iemocap", "iemocap", "--labels", "iemocap-native"); /* oth has no recording */
    assert_false(native.done);
    assert_non_null(strstr(native.err.text, "Ses01F_impro01_M001.wav or .flac; --skip-bad"));
    tree_import_free(&native);
}

static void msp_improv(void **state) {
    (void)state;
    static const char EVALUATION[] =
        "UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.000000; V:3.500000; D:3.000000 ; N:4.100000; \n"
        "WORKER00000001; Neutral; Neutral,Happy; A:3.000000; V:3.000000; D:3.000000; N:4.000000;\n"
        "\n"
        "UTD-IMPROV-S20H-M06-S-MF12.avi; H; A:2.000000; V:4.000000; D:NaN ; N:NaN;\r\n"
        "WORKER00000002; Other; UTD-IMPROV; A:2.000000; V:4.000000; D:NaN; N:NaN;\n\n"
        "UTD-IMPROV-S05S-F03-R-FF02.avi; S; A:NaN; V:NaN; D:NaN; N:NaN;\n\n"
        "UTD-IMPROV-S05N-F03-T-FM03.avi; A; A:1.5; V:1.5; D:1.5 ;N:1.5\n\n"
        "UTD-IMPROV-S05N-F03-T-FM04.avi; O; A:1.5; V:1.5; D:1.5 ; N:1.5;\n\n"
        "UTD-IMPROV-S05N-F03-T-FM05.avi; X; A:1.5; V:1.5; D:1.5 ; N:1.5;\n";
    tree_text("msp/Evalution.txt", EVALUATION);
    TREE_SOUNDS("msp/Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
                "msp/Audio/session6/S20H/S/MSP-IMPROV-S20H-M06-S-MF12.wav",
                "msp/Audio/session3/S05S/R/MSP-IMPROV-S05S-F03-R-FF02.wav",
                "msp/Audio/session3/S05N/T/MSP-IMPROV-S05N-F03-T-FM03.wav",
                "msp/Audio/session3/S05N/T/MSP-IMPROV-S05N-F03-T-FM03.flac", /* both: the first is taken */
                "msp/Audio/session3/S05N/T/MSP-IMPROV-S05N-F03-T-FM04.wav");
    tree_text("msp/Video/session1/S01A/P/UTD-IMPROV-S01A-F01-P-FM01.avi", "video");
    static const char EXPECTED[] =
        "{\"id\":\"msp-improv-S01A-F01-P-FM01\",\"corpus\":\"msp-improv\",\"audio\":\"msp/Audio/session1/S01A/P/"
        "MSP-IMPROV-S01A-F01-P-FM01.wav\",\"speaker\":\"F01\",\"gender\":\"female\",\"emotion\":\"neutral\","
        "\"group\":\"Session1\",\"label\":\"N\",\"scenario\":\"natural\",\"sentence\":\"01\",\"target\":\"A\","
        "\"valence\":3.5,\"activation\":3.0,\"dominance\":3.0,\"naturalness\":4.1}\n"
        "{\"id\":\"msp-improv-S20H-M06-S-MF12\",\"corpus\":\"msp-improv\",\"audio\":\"msp/Audio/session6/S20H/S/"
        "MSP-IMPROV-S20H-M06-S-MF12.wav\",\"speaker\":\"M06\",\"gender\":\"male\",\"emotion\":\"happy\","
        "\"group\":\"Session6\",\"label\":\"H\",\"scenario\":\"other-improvised\",\"sentence\":\"20\",\"target\":\"H\","
        "\"valence\":4.0,\"activation\":2.0}\n"
        "{\"id\":\"msp-improv-S05S-F03-R-FF02\",\"corpus\":\"msp-improv\",\"audio\":\"msp/Audio/session3/S05S/R/"
        "MSP-IMPROV-S05S-F03-R-FF02.wav\",\"speaker\":\"F03\",\"gender\":\"female\",\"emotion\":\"sad\","
        "\"group\":\"Session3\",\"label\":\"S\",\"scenario\":\"read\",\"sentence\":\"05\",\"target\":\"S\"}\n"
        "{\"id\":\"msp-improv-S05N-F03-T-FM03\",\"corpus\":\"msp-improv\",\"audio\":\"msp/Audio/session3/S05N/T/"
        "MSP-IMPROV-S05N-F03-T-FM03.wav\",\"speaker\":\"F03\",\"gender\":\"female\",\"emotion\":\"angry\","
        "\"group\":\"Session3\",\"label\":\"A\",\"scenario\":\"target-improvised\",\"sentence\":\"05\","
        "\"target\":\"N\",\"valence\":1.5,\"activation\":1.5,\"dominance\":1.5,\"naturalness\":1.5}\n";
    const char *const *says = SAYS("4 utterances of 6 found", "left out: 1 labelled O, 1 labelled X\n", "5 of 5 differ",
                                   "A+H+N+S+O+X: 6 here");
    tree_gives("msp-improv", "msp", NULL, EXPECTED, says);
    tree_remove("msp/Evalution.txt"); /* the other spelling, and no folder Audio */
    tree_text("msp/Evaluation.txt", EVALUATION);
    tree_gives("msp-improv", "msp", NULL, EXPECTED, says);
    TREE_SOUNDS("msp/copy/MSP-IMPROV-S01A-F01-P-FM01.wav");
    tree_refused("msp-improv", "msp", "two recordings of one name");
    tree_remove("msp/copy");
    tree_remove("msp/Audio/session3/S05S");
    tree_refused("msp-improv", "msp", "MSP-IMPROV-S05S-F03-R-FF02.wav or .flac");
}

static void crema_d(void **state) {
    (void)state;
    TREE_SOUNDS("crema/AudioWAV/1001_DFA_ANG_XX.wav", "crema/AudioWAV/1018_IEO_HAP_HI.flac",
                "crema/AudioWAV/1019_IEO_NEU_XX.wav", "crema/AudioWAV/1040_ITH_SAD_X.wav",
                "crema/AudioWAV/1076_MTI_SAD_XX.wav", "crema/AudioWAV/1091_WSI_FEA_XX.wav");
    tree_text("crema/AudioMP3/1001_DFA_ANG_XX.mp3", "mp3");
    tree_text("crema/VideoDemographics.csv", "\"ActorID\",\"Age\",\"Sex\",\"Race\",\"Ethnicity\"\n"
                                             "1001,51,\"Male\",\"Caucasian\",\"Not Hispanic\"\n"
                                             "1018,25,\"Female\",\"African American\",\"Not Hispanic\"\n"
                                             "1040,42,\"Male\",\"Caucasian\",\"Not Hispanic\"\n"
                                             "1076,25,\"Female\",\"Caucasian\",\"Not Hispanic\"\n"
                                             "1091,29,\"Female\",\"Asian\",\"Not Hispanic\"\n");
    tree_text("crema/processedResults/summaryTable.csv",
              "\"\",\"FileName\",\"VoiceVote\",\"VoiceLevel\",\"FaceVote\",\"FaceLevel\",\"MultiModalVote\","
              "\"MultiModalLevel\"\n"
              "\"1\",\"1001_DFA_ANG_XX\",\"A\",\"55.5\",\"A\",\"60\",\"A\",\"70\"\n"
              "\"2\",\"1018_IEO_HAP_HI\",\"N\",\"55.5\",\"H\",\"60\",\"H\",\"70\"\n"
              "\"3\",\"1040_ITH_SAD_X\",\"A:D\",\"55:51\",\"S\",\"60\",\"A:D\",\"70:2\"\n");
    tree_gives(
        "crema-d", "crema", NULL,
        "{\"id\":\"crema-d-1001_DFA_ANG_XX\",\"corpus\":\"crema-d\",\"audio\":\"crema/AudioWAV/1001_DFA_ANG_XX.wav\","
        "\"speaker\":\"1001\",\"gender\":\"male\",\"emotion\":\"angry\",\"transcript\":\"Don't forget a jacket\","
        "\"group\":\"A\",\"label\":\"ANG\",\"sentence\":\"DFA\",\"age\":51,\"voice_vote\":\"A\",\"face_vote\":\"A\","
        "\"multimodal_vote\":\"A\"}\n"
        "{\"id\":\"crema-d-1018_IEO_HAP_HI\",\"corpus\":\"crema-d\",\"audio\":\"crema/AudioWAV/1018_IEO_HAP_HI.flac\","
        "\"speaker\":\"1018\",\"gender\":\"female\",\"emotion\":\"happy\",\"transcript\":\"It's eleven o'clock\","
        "\"group\":\"A\",\"label\":\"HAP\",\"sentence\":\"IEO\",\"intensity\":\"high\",\"age\":25,\"voice_vote\":\"N\","
        "\"face_vote\":\"H\",\"multimodal_vote\":\"H\"}\n"
        "{\"id\":\"crema-d-1019_IEO_NEU_XX\",\"corpus\":\"crema-d\",\"audio\":\"crema/AudioWAV/1019_IEO_NEU_XX.wav\","
        "\"speaker\":\"1019\",\"emotion\":\"neutral\",\"transcript\":\"It's eleven o'clock\",\"group\":\"B\","
        "\"label\":\"NEU\",\"sentence\":\"IEO\"}\n"
        "{\"id\":\"crema-d-1040_ITH_SAD_X\",\"corpus\":\"crema-d\",\"audio\":\"crema/AudioWAV/1040_ITH_SAD_X.wav\","
        "\"speaker\":\"1040\",\"gender\":\"male\",\"emotion\":\"sad\",\"transcript\":\"I think I have a doctor's "
        "appointment\",\"group\":\"C\",\"label\":\"SAD\",\"sentence\":\"ITH\",\"age\":42,\"voice_vote\":\"A:D\","
        "\"face_vote\":\"S\",\"multimodal_vote\":\"A:D\"}\n"
        "{\"id\":\"crema-d-1091_WSI_FEA_XX\",\"corpus\":\"crema-d\",\"audio\":\"crema/AudioWAV/1091_WSI_FEA_XX.wav\","
        "\"speaker\":\"1091\",\"gender\":\"female\",\"emotion\":\"fearful\",\"transcript\":\"We'll stop in a couple of "
        "minutes\",\"group\":\"E\",\"label\":\"FEA\",\"sentence\":\"WSI\",\"age\":29}\n",
        SAYS("5 utterances of 6 found", "left out: 1 silent, as published\n", "SAD: 2 here, 1271 published"));
    TreeImport voice = tree_import("crema-d", "crema", "--labels", "crema-d-voice");
    assert_true(voice.done);
    assert_non_null(strstr(voice.manifest, "\"emotion\":\"neutral\"")); /* of the happy one */
    assert_null(strstr(voice.manifest, "1040_ITH"));
    tree_says(&voice, "2 utterances of 6 found");
    tree_says(&voice, "2 without voice_vote");
    tree_says(&voice, "1 labelled A:D");
    tree_import_free(&voice);
    tree_remove("crema/processedResults");
    tree_remove("crema/VideoDemographics.csv");
    TreeImport bare = tree_import("crema-d", "crema/AudioWAV", NULL, NULL);
    assert_true(bare.done);
    assert_null(strstr(bare.manifest, "gender"));
    tree_says(&bare, "note: 1 table missing: VideoDemographics.csv, so gender is unknown");
    tree_import_free(&bare);
    TREE_SOUNDS("crema/AudioWAV/1001_DFA_ANG.wav");
    tree_refused("crema-d", "crema", "1001_DFA_ANG.wav");
}

static void emo_db(void **state) {
    (void)state;
    TREE_SOUNDS("emodb/wav/03a01Fa.wav", "emodb/wav/08b10Wc.flac", "emodb/wav/15a05Ld.WAV");
    tree_text("emodb/lablaut/03a01Fa.lablaut", "labels");
    tree_gives(
        "emo-db", "emodb", NULL,
        "{\"id\":\"emo-db-03a01Fa\",\"corpus\":\"emo-db\",\"audio\":\"emodb/wav/03a01Fa.wav\",\"speaker\":\"03\","
        "\"gender\":\"male\",\"emotion\":\"happy\",\"transcript\":\"Der Lappen liegt auf dem Eisschrank.\","
        "\"group\":\"03\",\"label\":\"F\",\"sentence\":\"a01\"}\n"
        "{\"id\":\"emo-db-08b10Wc\",\"corpus\":\"emo-db\",\"audio\":\"emodb/wav/08b10Wc.flac\","
        "\"speaker\":\"08\",\"gender\":\"female\",\"emotion\":\"angry\",\"transcript\":\"Die wird auf dem Platz "
        "sein, wo wir sie immer hinlegen.\",\"group\":\"08\",\"label\":\"W\",\"sentence\":\"b10\"}\n"
        "{\"id\":\"emo-db-15a05Ld\",\"corpus\":\"emo-db\",\"audio\":\"emodb/wav/15a05Ld.WAV\","
        "\"speaker\":\"15\",\"gender\":\"male\",\"emotion\":\"bored\",\"transcript\":\"Das schwarze Stück Papier "
        "befindet sich da oben neben dem Holzstück.\",\"group\":\"15\",\"label\":\"L\",\"sentence\":\"a05\"}\n",
        SAYS("3 utterances of 3 found", "7 of 7 differ", "  F: 1 here, 71 published\n"));
    static const char *const NAMES[] = {"04a01Fa", "03a03Fa", "03a01Xa", "03a01F", "03a01Fab", "wav", "03c01Fa"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char *name = text_format(NULL, "emodb/wav/%s.wav", NAMES[i]);
        tree_sound(name);
        tree_refused("emo-db", "emodb", strrchr(name, '/') + 1);
        tree_remove(name);
        free(name);
    }
}

/* As many names as were published: every count is met, and one file less is said. */
static void published_counts(void **state) {
    (void)state;
    static const char *const SPEAKERS[] = {"03", "08", "09", "10", "11", "12", "13", "14", "15", "16"};
    static const char *const TEXTS[] = {"a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"};
    static const struct {
        char letter;
        int count;
    } CLASSES[] = {{'W', 127}, {'L', 81}, {'E', 46}, {'A', 69}, {'F', 71}, {'T', 62}, {'N', 79}};
    tree_sound("one.wav");
    char *one = test_path("one.wav"), *folder = test_path("emodb-all/wav");
    assert_true(folder_make(folder, NULL));
    for (size_t c = 0; c < sizeof CLASSES / sizeof *CLASSES; c++)
        for (int i = 0; i < CLASSES[c].count; i++) {
            char *path = text_format(NULL, "%s/%s%s%c%c.wav", folder, SPEAKERS[i % 10], TEXTS[i / 10 % 10],
                                     CLASSES[c].letter, 'a' + i / 100);
            assert_int_equal(link(one, path), 0);
            free(path);
        }
    TreeImport whole = tree_import("emo-db", "emodb-all", NULL, NULL);
    assert_true(whole.done);
    tree_says(&whole, "535 utterances of 535 found");
    tree_says(&whole, "published counts: all 7 are met\n");
    tree_import_free(&whole);
    tree_remove("emodb-all/wav/03a01Ta.wav");
    TreeImport less = tree_import("emo-db", "emodb-all", NULL, NULL);
    assert_true(less.done);
    tree_says(&less, "published counts: 1 of 7 differ\n  T: 61 here, 62 published\n");
    tree_import_free(&less);
    free(one);
    free(folder);
}

static void meld(void **state) {
    (void)state;
#define MELD_HEAD                                                                                                      \
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
    tree_text(
        "meld/train_sent_emo.csv",
        "\xEF\xBB\xBF" MELD_HEAD
        "1,\"You must\xC2\x92ve had your hands full, \xC2\x93no\xC2\x94?\",The Interviewer,neutral,neutral,0,0,8,21,"
        "\"00:16:21,940\",\"00:16:23,442\"\r\n"
        "2,\"I said \"\"Hey, you\xE2\x80\x99re not Bob.\"\"\",Ross,joy,positive,0,1,8,21,\"0:16:48,800\","
        "\"0:16:51,886\"\r\n"
        "3,Nobody!,Phoebe,anger,negative,125,3,5,10,\"0:11:57,091\",\"0:11:58,551\"\r\n");
    tree_text("meld/dev_sent_emo.csv",
              MELD_HEAD "1,Oh my God!,Rachel,fear,negative,0,0,4,7,\"00:20:57,256\","
                        "\"00:21:00,049\"\n"
                        "2,No,Rachel,sadness,negative,110,7,4,7,\"00:20:57,256\",\"00:21:00,049\"\n");
    tree_text("meld/test_sent_emo.csv",
              MELD_HEAD "1,Why?,Joey,surprise,positive,0,0,3,19,\"00:14:38,127\",\"00:14:40,378\"\n"
                        "2,Ew,Monica,disgust,negative,0,1,3,19,\"00:14:38,127\",\"00:14:40,378\"\n");
    TREE_SOUNDS(
        "meld/train_splits/dia0_utt0.wav", "meld/train_splits/dia0_utt1.wav", "meld/dev_splits_complete/dia0_utt0.flac",
        "meld/output_repeated_splits_test/dia0_utt0.wav", "meld/output_repeated_splits_test/dia0_utt1.wav",
        /* extras */
        "meld/output_repeated_splits_test/final_videos_testdia0_utt0.wav", "meld/final_videos_test/dia0_utt0.wav");
    tree_text("meld/train_splits/dia0_utt0.mp4", "video");
    tree_text("meld/train_splits/dia125_utt3.mp4", "damaged video");
    tree_text("meld/output_repeated_splits_test/._dia0_utt0.wav", "beside the data");
    tree_gives(
        "meld", "meld", NULL,
        "{\"id\":\"meld-train-dia0_utt0\",\"corpus\":\"meld\",\"audio\":\"meld/train_splits/dia0_utt0.wav\","
        "\"speaker\":\"The Interviewer\",\"emotion\":\"neutral\",\"transcript\":\"You must’ve had your hands full, "
        "“no”?\",\"group\":\"train\",\"label\":\"neutral\",\"sentiment\":\"neutral\",\"dialog\":0,\"turn\":0,"
        "\"season\":8,\"episode\":21}\n"
        "{\"id\":\"meld-train-dia0_utt1\",\"corpus\":\"meld\",\"audio\":\"meld/train_splits/dia0_utt1.wav\","
        "\"speaker\":\"Ross\",\"gender\":\"male\",\"emotion\":\"happy\",\"transcript\":\"I said \\\"Hey, you’re not "
        "Bob.\\\"\",\"group\":\"train\",\"label\":\"joy\",\"sentiment\":\"positive\",\"dialog\":0,\"turn\":1,"
        "\"season\":8,\"episode\":21}\n"
        "{\"id\":\"meld-dev-dia0_utt0\",\"corpus\":\"meld\",\"audio\":\"meld/dev_splits_complete/dia0_utt0.flac\","
        "\"speaker\":\"Rachel\",\"gender\":\"female\",\"emotion\":\"fearful\",\"transcript\":\"Oh my God!\","
        "\"group\":\"dev\",\"label\":\"fear\",\"sentiment\":\"negative\",\"dialog\":0,\"turn\":0,\"season\":4,"
        "\"episode\":7}\n"
        "{\"id\":\"meld-test-dia0_utt0\",\"corpus\":\"meld\",\"audio\":\"meld/output_repeated_splits_test/"
        "dia0_utt0.wav\",\"speaker\":\"Joey\",\"gender\":\"male\",\"emotion\":\"surprised\",\"transcript\":\"Why?\","
        "\"group\":\"test\",\"label\":\"surprise\",\"sentiment\":\"positive\",\"dialog\":0,\"turn\":0,\"season\":3,"
        "\"episode\":19}\n"
        "{\"id\":\"meld-test-dia0_utt1\",\"corpus\":\"meld\",\"audio\":\"meld/output_repeated_splits_test/"
        "dia0_utt1.wav\",\"speaker\":\"Monica\",\"gender\":\"female\",\"emotion\":\"disgust\",\"transcript\":\"Ew\","
        "\"group\":\"test\",\"label\":\"disgust\",\"sentiment\":\"negative\",\"dialog\":0,\"turn\":1,\"season\":3,"
        "\"episode\":19}\n",
        SAYS("5 utterances of 7 found", "left out: 1 damaged, as published, 1 missing, as published\n",
             "train anger: 1 here, 1109 published"));
    TreeImport sentiment = tree_import("meld", "meld", "--labels=3", NULL);
    assert_true(sentiment.done);
    assert_non_null(strstr(sentiment.manifest, "\"emotion\":\"negative\""));
    tree_import_free(&sentiment);
    /* a clip without sound: refused with the command that makes it, or skipped */
    tree_remove("meld/output_repeated_splits_test/dia0_utt0.wav");
    tree_text("meld/output_repeated_splits_test/dia0_utt0.mp4", "video");
    tree_refused("meld", "meld", "dia0_utt0.wav or .flac");
    tree_refused("meld", "meld", "ffmpeg -nostdin -v error -i \"$1\" -vn -ac 1 -ar 16000 \"${1%.mp4}.wav\"");
    TreeImport skipped = tree_import("meld", "meld", "--skip-bad", NULL);
    assert_true(skipped.done);
    assert_null(strstr(skipped.manifest, "meld-test-dia0_utt0"));
    tree_says(&skipped, "skipped: utterance \"meld-test-dia0_utt0\": there is no recording");
    tree_says(&skipped, "1 with a missing or damaged recording");
    tree_import_free(&skipped);
}

static void esd(void **state) {
    (void)state;
    TREE_SOUNDS("esd/0001/Angry/0001_000351.wav", "esd/0001/Happy/0001_000701.wav",
                "esd/0003/Sad/train/0003_001071.wav", "esd/0011/Neutral/evaluation/0011_000001.flac",
                "esd/0011/Surprise/test/0011_001401.wav");
    /* GB 2312, UTF-16 with its mark, Latin-1: as published */
    static const char GB2312[] = "0001_000351\t\xC4\xE3\xBA\xC3\t\xC9\xFA\xC6\xF8\r\n"
                                 "0001_000701\t\xD4\xD9\xBC\xFB\t\xBF\xEC\xC0\xD6\r\n";
    tree_bytes("esd/0001/0001.txt", GB2312, sizeof GB2312 - 1);
    static const char UTF16[] = "\xFF\xFE"
                                "0\0"
                                "0\0"
                                "0\0"
                                "3\0"
                                "_\0"
                                "0\0"
                                "0\0"
                                "1\0"
                                "0\0"
                                "7\0"
                                "1\0"
                                "\t\0"
                                "\x60\x4F\x7D\x59"
                                "\t\0"
                                "\x24\x4F\xC3\x5F"
                                "\n\0";
    tree_bytes("esd/0003/0003.txt", UTF16, sizeof UTF16 - 1);
    tree_text("esd/0011/0011.txt", "0011_000001\tThe nine the eggs, I keep\x85\tNeutral\n"
                                   "0011_000002 no tabs here\n\n");
    tree_text("esd/ReadMe.txt", "0001: Chinese Female");
    tree_gives(
        "esd", "esd", NULL,
        "{\"id\":\"esd-0001_000351\",\"corpus\":\"esd\",\"audio\":\"esd/0001/Angry/0001_000351.wav\","
        "\"speaker\":\"0001\",\"gender\":\"female\",\"emotion\":\"angry\",\"transcript\":\"你好\","
        "\"group\":\"0001\",\"label\":\"Angry\",\"language\":\"zh\"}\n"
        "{\"id\":\"esd-0001_000701\",\"corpus\":\"esd\",\"audio\":\"esd/0001/Happy/0001_000701.wav\","
        "\"speaker\":\"0001\",\"gender\":\"female\",\"emotion\":\"happy\",\"transcript\":\"再见\","
        "\"group\":\"0001\",\"label\":\"Happy\",\"language\":\"zh\"}\n"
        "{\"id\":\"esd-0003_001071\",\"corpus\":\"esd\",\"audio\":\"esd/0003/Sad/train/0003_001071.wav\","
        "\"speaker\":\"0003\",\"gender\":\"female\",\"emotion\":\"sad\",\"transcript\":\"你好\","
        "\"group\":\"0003\",\"label\":\"Sad\",\"language\":\"zh\",\"split\":\"train\"}\n"
        "{\"id\":\"esd-0011_000001\",\"corpus\":\"esd\",\"audio\":\"esd/0011/Neutral/evaluation/0011_000001.flac\","
        "\"speaker\":\"0011\",\"gender\":\"male\",\"emotion\":\"neutral\",\"transcript\":\"The nine the eggs, I "
        "keep…\",\"group\":\"0011\",\"label\":\"Neutral\",\"language\":\"en\",\"split\":\"evaluation\"}\n"
        "{\"id\":\"esd-0011_001401\",\"corpus\":\"esd\",\"audio\":\"esd/0011/Surprise/test/0011_001401.wav\","
        "\"speaker\":\"0011\",\"gender\":\"male\",\"emotion\":\"surprised\",\"group\":\"0011\","
        "\"label\":\"Surprise\",\"language\":\"en\",\"split\":\"test\"}\n",
        SAYS("5 utterances of 5 found", "note: 1 line(s) of words not understood, 1 without words", "5 of 5 differ"));
    TREE_SOUNDS("esd/0011/Joy/0011_001402.wav");
    tree_refused("esd", "esd", "0011/Joy/0011_001402.wav");
    tree_remove("esd/0011/Joy");
    TREE_SOUNDS("esd/0011/Sad/0021_001402.wav");
    tree_refused("esd", "esd", "0021_001402.wav");
}

static void casia(void **state) {
    (void)state;
    TREE_SOUNDS("casia/ZhaoZuoxiang/Angry/201.wav", "casia/liuchanhg/fear/202.flac", "casia/Wangzhe/SURPRISE/250.WAV");
    tree_gives(
        "casia", "casia", NULL,
        "{\"id\":\"casia-wangzhe-surprise-250\",\"corpus\":\"casia\",\"audio\":\"casia/Wangzhe/SURPRISE/250.WAV\","
        "\"speaker\":\"wangzhe\",\"gender\":\"male\",\"emotion\":\"surprised\",\"group\":\"wangzhe\","
        "\"label\":\"surprise\",\"sentence\":\"250\"}\n"
        "{\"id\":\"casia-ZhaoZuoxiang-angry-201\",\"corpus\":\"casia\",\"audio\":\"casia/ZhaoZuoxiang/Angry/"
        "201.wav\",\"speaker\":\"ZhaoZuoxiang\",\"gender\":\"male\",\"emotion\":\"angry\","
        "\"group\":\"ZhaoZuoxiang\",\"label\":\"angry\",\"sentence\":\"201\"}\n"
        "{\"id\":\"casia-liuchanhg-fear-202\",\"corpus\":\"casia\",\"audio\":\"casia/liuchanhg/fear/202.flac\","
        "\"speaker\":\"liuchanhg\",\"gender\":\"female\",\"emotion\":\"fearful\",\"group\":\"liuchanhg\","
        "\"label\":\"fear\",\"sentence\":\"202\"}\n",
        SAYS("3 utterances of 3 found", "6 of 6 differ"));
    TREE_SOUNDS("casia/someone/angry/201.wav");
    tree_refused("casia", "casia", "someone/angry/201.wav");
}

static void savee(void **state) {
    (void)state;
    TREE_SOUNDS("savee/ALL/DC_a01.wav", "savee/ALL/JE_sa15.wav", "savee/ALL/jk_su03.flac");
    tree_gives("savee", "savee", NULL,
               "{\"id\":\"savee-DC_a01\",\"corpus\":\"savee\",\"audio\":\"savee/ALL/DC_a01.wav\",\"speaker\":\"DC\","
               "\"gender\":\"male\",\"emotion\":\"angry\",\"group\":\"DC\",\"label\":\"a\",\"sentence\":1}\n"
               "{\"id\":\"savee-JE_sa15\",\"corpus\":\"savee\",\"audio\":\"savee/ALL/JE_sa15.wav\",\"speaker\":\"JE\","
               "\"gender\":\"male\",\"emotion\":\"sad\",\"group\":\"JE\",\"label\":\"sa\",\"sentence\":15}\n"
               "{\"id\":\"savee-JK_su03\",\"corpus\":\"savee\",\"audio\":\"savee/ALL/jk_su03.flac\",\"speaker\":\"JK\","
               "\"gender\":\"male\",\"emotion\":\"surprised\",\"group\":\"JK\",\"label\":\"su\",\"sentence\":3}\n",
               SAYS("3 utterances of 3 found", "7 of 7 differ"));
    tree_remove("savee");
    TREE_SOUNDS("savee/AudioData/DC/n30.wav", "savee/AudioData/KL/su15.wav");
    tree_text("savee/AudioData/Info.txt", "SAVEE");
    tree_gives("savee", "savee", NULL,
               "{\"id\":\"savee-DC_n30\",\"corpus\":\"savee\",\"audio\":\"savee/AudioData/DC/n30.wav\","
               "\"speaker\":\"DC\",\"gender\":\"male\",\"emotion\":\"neutral\",\"group\":\"DC\",\"label\":\"n\","
               "\"sentence\":30}\n"
               "{\"id\":\"savee-KL_su15\",\"corpus\":\"savee\",\"audio\":\"savee/AudioData/KL/su15.wav\","
               "\"speaker\":\"KL\",\"gender\":\"male\",\"emotion\":\"surprised\",\"group\":\"KL\",\"label\":\"su\","
               "\"sentence\":15}\n",
               SAYS("2 utterances of 2 found"));
    static const char *const NAMES[] = {"XX_a01", "DC_z01", "DC_a1", "a01", "DC_", "DC_01"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char *name = text_format(NULL, "savee/%s.wav", NAMES[i]);
        tree_sound(name);
        tree_refused("savee", "savee", strrchr(name, '/') + 1);
        tree_remove(name);
        free(name);
    }
}

static void tess(void **state) {
    (void)state;
    TREE_SOUNDS("tess/OAF_Fear/OAF_back_fear.wav", "tess/OAF_Pleasant_surprise/OAF_bar_ps.wav",
                "tess/YAF_pleasant_surprised/YAF_young_ps.flac", "tess/OAF_neutral/OA_bite_neutral.wav");
    tree_sound_at("tess/YAF_sad/YAF_base_sad.wav", 96000, 0.5);
    tree_gives("tess", "tess", NULL,
               "{\"id\":\"tess-OAF_back_fear\",\"corpus\":\"tess\",\"audio\":\"tess/OAF_Fear/OAF_back_fear.wav\","
               "\"speaker\":\"OAF\",\"gender\":\"female\",\"emotion\":\"fearful\",\"transcript\":\"Say the word back\","
               "\"group\":\"OAF\",\"label\":\"fear\",\"word\":\"back\",\"age\":64}\n"
               "{\"id\":\"tess-OAF_bar_ps\",\"corpus\":\"tess\",\"audio\":\"tess/OAF_Pleasant_surprise/"
               "OAF_bar_ps.wav\",\"speaker\":\"OAF\",\"gender\":\"female\",\"emotion\":\"surprised\","
               "\"transcript\":\"Say the word bar\",\"group\":\"OAF\",\"label\":\"ps\",\"word\":\"bar\",\"age\":64}\n"
               "{\"id\":\"tess-OAF_bite_neutral\",\"corpus\":\"tess\",\"audio\":\"tess/OAF_neutral/"
               "OA_bite_neutral.wav\",\"speaker\":\"OAF\",\"gender\":\"female\",\"emotion\":\"neutral\","
               "\"transcript\":\"Say the word bite\",\"group\":\"OAF\",\"label\":\"neutral\",\"word\":\"bite\","
               "\"age\":64}\n"
               "{\"id\":\"tess-YAF_young_ps\",\"corpus\":\"tess\",\"audio\":\"tess/YAF_pleasant_surprised/"
               "YAF_young_ps.flac\",\"speaker\":\"YAF\",\"gender\":\"female\",\"emotion\":\"surprised\","
               "\"transcript\":\"Say the word young\",\"group\":\"YAF\",\"label\":\"ps\",\"word\":\"young\","
               "\"age\":26}\n"
               "{\"id\":\"tess-YAF_base_sad\",\"corpus\":\"tess\",\"audio\":\"tess/YAF_sad/YAF_base_sad.wav\","
               "\"speaker\":\"YAF\",\"gender\":\"female\",\"emotion\":\"sad\",\"transcript\":\"Say the word base\","
               "\"group\":\"YAF\",\"label\":\"sad\",\"word\":\"base\",\"age\":26}\n",
               SAYS("5 utterances of 5 found", "longest: 0.5 s", "7 of 7 differ"));
    TREE_SOUNDS("tess/copy/OAF_Fear/OAF_back_fear.wav"); /* one of its mirrors holds everything twice */
    tree_refused("tess", "tess", "tess/OAF_Fear/OAF_back_fear.wav");
    tree_remove("tess/copy");
    TREE_SOUNDS("tess/OAF_Fear/OAF_fear.wav");
    tree_refused("tess", "tess", "OAF_fear.wav");
}

static void m3ed(void **state) {
    (void)state;
    tree_text(
        "m3ed/annotation.json",
        "{\"gunian\": {\"gunian_1\": {\"Dialog\": {"
        "\"gunian_1_1\": {\"StartTime\": \"00:00:01:04\", \"EndTime\": \"00:00:02:04\", \"Text\": \"你好\", "
        "\"Speaker\": \"A\", \"EmoAnnotation\": {\"EmoAnnotator1\": \"Happy\", \"final_mul_emo\": \"Happy,Surprise\", "
        "\"final_main_emo\": \"Happy\"}}, "
        "\"gunian_1_2\": {\"Text\": \"再见\", \"Speaker\": \"B\", \"EmoAnnotation\": {\"final_main_emo\": "
        "\"Anger\"}}}, "
        "\"SpeakerInfo\": {\"A\": {\"Name\": \"陈北\", \"Age\": \"mid\", \"Gender\": \"male\", \"OtherName\": []}, "
        "\"B\": {\"Name\": \"林\", \"Gender\": \"女\"}}}}, "
        "\"other\": {\"other_1\": {\"Dialog\": {\"other_1_1\": {\"Text\": \"\", \"Speaker\": \"A\", "
        "\"EmoAnnotation\": {\"final_main_emo\": \"Neutral\"}}}, \"SpeakerInfo\": {}}}}");
    tree_text("m3ed/splitInfo/movie_list_train.txt", "gunian\r\n\r\n");
    tree_text("m3ed/splitInfo/movie_list_val.txt", "");
    tree_text("m3ed/splitInfo/movie_list_test.txt", "other");
    TREE_SOUNDS("m3ed/modality_speech/A_gunian_1_1.wav", "m3ed/modality_speech/B_gunian_1_2.wav",
                "m3ed/modality_speech/A_other_1_1.flac");
    tree_gives("m3ed", "m3ed", NULL,
               "{\"id\":\"m3ed-gunian_1_1\",\"corpus\":\"m3ed\",\"audio\":\"m3ed/modality_speech/A_gunian_1_1.wav\","
               "\"speaker\":\"gunian_陈北\",\"gender\":\"male\",\"emotion\":\"happy\",\"transcript\":\"你好\","
               "\"group\":\"train\",\"label\":\"Happy\",\"movie\":\"gunian\",\"emotions\":\"Happy,Surprise\"}\n"
               "{\"id\":\"m3ed-gunian_1_2\",\"corpus\":\"m3ed\",\"audio\":\"m3ed/modality_speech/B_gunian_1_2.wav\","
               "\"speaker\":\"gunian_林\",\"gender\":\"female\",\"emotion\":\"angry\",\"transcript\":\"再见\","
               "\"group\":\"train\",\"label\":\"Anger\",\"movie\":\"gunian\"}\n"
               "{\"id\":\"m3ed-other_1_1\",\"corpus\":\"m3ed\",\"audio\":\"m3ed/modality_speech/A_other_1_1.flac\","
               "\"speaker\":\"other_A\",\"emotion\":\"neutral\",\"transcript\":\"\",\"group\":\"test\","
               "\"label\":\"Neutral\",\"movie\":\"other\"}\n",
               SAYS("3 utterances of 3 found", "7 of 7 differ"));
}

static void ravdess(void **state) {
    (void)state;
    TREE_SOUNDS("ravdess/Actor_01/03-01-05-02-01-02-01.wav", "ravdess/Actor_02/03-01-01-01-02-01-02.flac",
                "ravdess/Actor_01/03-02-04-01-01-01-01.wav"); /* a song */
    tree_text("ravdess/Actor_01/._03-01-01-01-01-01-01.wav", "beside the data");
    tree_gives("ravdess", "ravdess", "7",
               "{\"id\":\"ravdess-03-01-05-02-01-02-01\",\"corpus\":\"ravdess\",\"audio\":\"ravdess/Actor_01/"
               "03-01-05-02-01-02-01.wav\",\"speaker\":\"Actor_01\",\"gender\":\"male\",\"emotion\":\"angry\","
               "\"transcript\":\"Kids are talking by the door\",\"group\":\"Actor_01\",\"label\":\"angry\","
               "\"intensity\":\"strong\",\"repetition\":2}\n"
               "{\"id\":\"ravdess-03-01-01-01-02-01-02\",\"corpus\":\"ravdess\",\"audio\":\"ravdess/Actor_02/"
               "03-01-01-01-02-01-02.flac\",\"speaker\":\"Actor_02\",\"gender\":\"female\",\"emotion\":\"neutral\","
               "\"transcript\":\"Dogs are sitting by the door\",\"group\":\"Actor_02\",\"label\":\"neutral\","
               "\"intensity\":\"normal\",\"repetition\":1}\n",
               SAYS("2 utterances of 2 found", "left out: 1 sung\n", "8 of 8 differ", "calm: 0 here, 192 published"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iemocap), cmocka_unit_test(msp_improv), cmocka_unit_test(crema_d),
        cmocka_unit_test(emo_db),  cmocka_unit_test(meld),       cmocka_unit_test(esd),
        cmocka_unit_test(casia),   cmocka_unit_test(savee),      cmocka_unit_test(tess),
        cmocka_unit_test(m3ed),    cmocka_unit_test(ravdess),    cmocka_unit_test(published_counts),
    };
    return cmocka_run_group_tests_name("import corpora", tests, NULL, test_cleanup);
}
