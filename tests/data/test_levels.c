/* Levels by type-7 quantiles, per corpus and (for pitch) gender. */
#include "tests/test.h"

#include <math.h>

#include "data/levels.h"

static Utterance utterance_of(const char *corpus, const char *gender, double pitch, double rate, double volume) {
    Utterance utterance = {.id = (char *)(uintptr_t) "u",
                           .corpus = (char *)(uintptr_t)corpus,
                           .gender = (char *)(uintptr_t)gender,
                           .has_features = true};
    for (int i = 0; i < FEATURE_COUNT; i++) utterance.features.value[i] = NAN;
    utterance.features.value[FEATURE_F0_MEDIAN_HZ] = pitch;
    utterance.features.value[FEATURE_ARTICULATION_RATE] = rate;
    utterance.features.value[FEATURE_INTENSITY_MEAN_DB] = volume;
    return utterance;
}

enum { MOST = 64 };

static CutPoints *fit(const Utterance *utterances, size_t n, int count, Error *err) {
    const Utterance *pointers[MOST] = {0};
    for (size_t i = 0; i < n; i++) pointers[i] = &utterances[i];
    return cut_points_fit(pointers, n, count, err);
}

static int level(const CutPoints *cuts, const char *corpus, const char *gender, Cue cue, double value) {
    Utterance utterance = utterance_of(corpus, gender, value, value, value);
    return cut_points_apply(cuts, &utterance).level[cue];
}

/* numpy.quantile([1, 2, 4, 8, 16], [1/3, 2/3]) is 2.666..., 6.666...; [.1, .25, .75, .9]: 1.4, 2, 8, 12.8 */
static void quantiles_of_type_7(void **state) {
    (void)state;
    static const double VALUES[] = {8, 1, 16, 4, 2};
    Utterance utterances[5];
    for (int i = 0; i < 5; i++) utterances[i] = utterance_of("c", NULL, VALUES[i], VALUES[i], VALUES[i]);
    Error err = {0};
    CutPoints *three = fit(utterances, 5, 3, &err), *five = fit(utterances, 5, 5, &err);
    for (int cue = 0; cue < CUE_COUNT; cue++) {
        assert_int_equal(level(three, "c", NULL, (Cue)cue, 2.6666), 0);
        assert_int_equal(level(three, "c", NULL, (Cue)cue, 2.6667), 1);
        assert_int_equal(level(three, "c", NULL, (Cue)cue, 6.6666), 1);
        assert_int_equal(level(three, "c", NULL, (Cue)cue, 6.6667), 2);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 1.3999), 0);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 1.4001), 1);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 2), 1); /* a tie falls low */
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 8), 2);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 12.7999), 3);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, 12.8001), 4);
        assert_int_equal(level(five, "c", NULL, (Cue)cue, NAN), LEVEL_NONE);
    }
    cut_points_free(three);
    cut_points_free(five);
}

static void ties_fall_low(void **state) {
    (void)state;
    Utterance utterances[4];
    for (int i = 0; i < 4; i++) utterances[i] = utterance_of("c", "male", 100, 4, 60);
    Error err = {0};
    CutPoints *cuts = fit(utterances, 4, 3, &err);
    assert_int_equal(level(cuts, "c", "male", CUE_PITCH, 100), 0);
    assert_int_equal(level(cuts, "c", "male", CUE_PITCH, 100.001), 2);
    cut_points_free(cuts);
}

static void corpus_and_gender(void **state) {
    (void)state;
    Utterance utterances[MOST];
    size_t n = 0;
    for (int i = 0; i < 9; i++) {
        utterances[n++] = utterance_of("a", "male", 100 + i, 3 + i, 50 + i);
        utterances[n++] = utterance_of("a", "female", 200 + i, 3 + i, 50 + i);
        utterances[n++] = utterance_of("b", "female", 300 + i, 13 + i, 70 + i);
    }
    Error err = {0};
    CutPoints *cuts = fit(utterances, n, 3, &err);
    assert_int_equal(level(cuts, "a", "male", CUE_PITCH, 108), 2);
    assert_int_equal(level(cuts, "a", "female", CUE_PITCH, 200), 0);
    assert_int_equal(level(cuts, "a", "female", CUE_VOLUME, 57), 2); /* gender plays no part in volume */
    assert_int_equal(level(cuts, "a", "male", CUE_VOLUME, 57), 2);
    assert_int_equal(level(cuts, "b", "female", CUE_VOLUME, 57), 0);
    assert_int_equal(level(cuts, "a", NULL, CUE_PITCH, 104), 0);     /* unknown gender: all of the corpus */
    assert_int_equal(level(cuts, "b", "male", CUE_PITCH, 299), 0);   /* none of that gender: all of the corpus */
    assert_int_equal(level(cuts, "new", "male", CUE_PITCH, 108), 2); /* unseen corpus: all corpora */
    assert_int_equal(level(cuts, "new", "female", CUE_PITCH, 200), 0);
    Utterance bare = {.corpus = (char *)(uintptr_t) "a"};
    assert_int_equal(cut_points_apply(cuts, &bare).level[CUE_PITCH], LEVEL_NONE); /* no features */
    cut_points_free(cuts);
}

static void nothing_to_fit(void **state) {
    (void)state;
    Error err = {0};
    Utterance silent[3];
    for (int i = 0; i < 3; i++) silent[i] = utterance_of("c", "male", NAN, NAN, NAN);
    CutPoints *none = fit(silent, 0, 3, &err), *nulls = fit(silent, 3, 3, &err);
    assert_non_null(none);
    assert_non_null(nulls);
    assert_int_equal(level(none, "c", "male", CUE_PITCH, 5), LEVEL_NONE);
    assert_int_equal(level(nulls, "c", "male", CUE_VOLUME, 5), LEVEL_NONE);
    cut_points_free(none);
    cut_points_free(nulls);
    static const int COUNTS[] = {-1, 0, 1, 2, 4, 6, 1000};
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        err = (Error){0};
        assert_null(fit(silent, 3, COUNTS[i], &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
    }
}

static void json_round_trip(void **state) {
    (void)state;
    Utterance utterances[MOST];
    for (int i = 0; i < MOST; i++)
        utterances[i] = utterance_of(i % 3 ? "a" : "b\"\xC3\xA9", i % 4 ? i % 2 ? "male" : "female" : NULL,
                                     100 + 7.3 * i, 3 + i / 9.0, 50 + i / 7.0);
    Error err = {0};
    CutPoints *cuts = fit(utterances, MOST, 5, &err);
    json_t *json = cut_points_json(cuts, &err);
    char *text = json_dumps(json, 0);
    json_t *read = json_read_text(text, strlen(text), "cuts", &err);
    CutPoints *again = cut_points_parse(read, "cuts", &err);
    assert_ok(again, &err);
    for (int i = 0; i < MOST; i++) {
        Levels x = cut_points_apply(cuts, &utterances[i]), y = cut_points_apply(again, &utterances[i]);
        assert_memory_equal(&x, &y, sizeof x);
    }
    FILE *out = fopen("/dev/null", "w");
    cut_points_print(again, out);
    fclose(out);
    free(text);
    json_decref(json);
    json_decref(read);
    cut_points_free(cuts);
    cut_points_free(again);
}

/* Two speakers of 10 and 12 utterances have cut points of their own, one of 9 keeps the corpus'. */
static void speakers_of_their_own(void **state) {
    (void)state;
    static char low[] = "low", high[] = "high", few[] = "few", other[] = "other";
    Utterance utterances[MOST];
    size_t n = 0;
    for (int i = 0; i < 12; i++) {
        char *speakers[] = {high, low, few}; /* in no order */
        for (int k = 0; k < 3; k++) {
            if ((k == 1 && i >= 10) || (k == 2 && i >= 9)) continue;
            double value = (k == 0 ? 300 : k == 1 ? 100 : 200) + i;
            utterances[n] = utterance_of("c", "male", value, value, value);
            utterances[n++].speaker = speakers[k];
        }
    }
    const Utterance *pointers[MOST] = {0};
    for (size_t i = 0; i < n; i++) pointers[i] = &utterances[i];
    Error err = {0};
    CutPoints *cuts = cut_points_fit(pointers, n, 3, &err);
    assert_ok(cut_points_fit_speakers(cuts, pointers, n, &err), &err);
    json_t *json = cut_points_json(cuts, &err);
    CutPoints *read = cut_points_parse(json, "cuts", &err);
    assert_ok(read, &err);
    CutPoints *both[] = {cuts, read};
    for (int k = 0; k < 2; k++)
        for (int cue = 0; cue < CUE_COUNT; cue++) {
            Utterance u = utterance_of("c", "male", 109, 109, 109);
            u.speaker = low;
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 2);
            u = utterance_of("c", "male", 300, 300, 300);
            u.speaker = high;
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 0);
            u = utterance_of("c", "male", 311, 311, 311);
            u.speaker = few; /* 9 utterances */
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 2);
            u.speaker = other;
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 2);
            u.speaker = NULL;
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 2);
            u = utterance_of("d", "male", 109, 109, 109); /* another corpus' speaker of that name */
            u.speaker = low;
            assert_int_equal(cut_points_apply(both[k], &u).level[cue], 0);
        }
    FILE *out = tmpfile();
    char line[200] = "";
    cut_points_print(read, out);
    rewind(out);
    while (!strstr(line, "speakers' own")) assert_non_null(fgets(line, sizeof line, out));
    assert_non_null(strstr(line, "2 speakers' own: 103 to 303.7, 106 to 307.3"));
    fclose(out);
    json_t *groups = json_object_get(json, "groups"), *last = json_array_get(groups, json_array_size(groups) - 1);
    assert_string_equal(json_string_value(json_object_get(last, "speaker")), "low");
    json_array_insert(groups, 0, last); /* out of its place it would not be found */
    assert_null(cut_points_parse(json, "cuts", &err));
    json_decref(json);
    cut_points_free(cuts);
    cut_points_free(read);
}

static void hostile_cut_points(void **state) {
    (void)state;
    static const char *const TEXTS[] = {
        "{}",
        "[]",
        "3",
        "null",
        "{\"levels\":4,\"groups\":[]}",
        "{\"levels\":3}",
        "{\"levels\":\"3\",\"groups\":[]}",
        "{\"levels\":3,\"groups\":{}}",
        "{\"levels\":3,\"groups\":[1]}",
        "{\"levels\":3,\"groups\":[{}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"tone\",\"utterances\":1,\"cuts\":[1,2]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"utterances\":1,\"cuts\":[1]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"utterances\":1,\"cuts\":[1,2,3]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"utterances\":1,\"cuts\":[2,1]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"utterances\":1,\"cuts\":[1,\"2\"]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"utterances\":-1,\"cuts\":[1,2]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"corpus\":7,\"utterances\":1,\"cuts\":[1,2]}]}",
        "{\"levels\":3,\"groups\":[{\"cue\":\"pitch\",\"speaker\":7,\"utterances\":1,\"cuts\":[1,2]}]}",
        "{\"levels\":3,\"unknown_gender\":-2,\"groups\":[]}",
    };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        Error err = {0};
        json_t *json = json_read_text(TEXTS[i], strlen(TEXTS[i]), "cuts", &err);
        assert_non_null(json);
        if (cut_points_parse(json, "cut_points.json", &err)) fail_msg("accepted: %s", TEXTS[i]);
        assert_true(err.text[0]);
        json_decref(json);
    }
}

static void words(void **state) {
    (void)state;
    assert_string_equal(level_word(CUE_PITCH, 2, 3), "high");
    assert_string_equal(level_word(CUE_SPEED, 0, 5), "very slow");
    assert_string_equal(level_word(CUE_VOLUME, 0, 3), "quiet");
    assert_null(level_word(CUE_PITCH, 3, 3));
    assert_null(level_word(CUE_PITCH, LEVEL_NONE, 3));
    for (int count = 3; count <= 5; count += 2)
        for (int cue = 0; cue < CUE_COUNT; cue++)
            for (int i = 0; i < count; i++)
                assert_int_equal(level_of_word((Cue)cue, level_word((Cue)cue, i, count), count), i);
    assert_int_equal(level_of_word(CUE_PITCH, "HIGH", 3), 2);
    assert_int_equal(level_of_word(CUE_PITCH, "loud", 3), LEVEL_NONE);
    assert_int_equal(level_of_word(CUE_PITCH, "very high", 3), LEVEL_NONE);
    assert_int_equal(level_of_word(CUE_PITCH, "", 5), LEVEL_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_of_type_7), cmocka_unit_test(ties_fall_low),
        cmocka_unit_test(corpus_and_gender),   cmocka_unit_test(nothing_to_fit),
        cmocka_unit_test(json_round_trip),     cmocka_unit_test(speakers_of_their_own),
        cmocka_unit_test(hostile_cut_points),  cmocka_unit_test(words),
    };
    return cmocka_run_group_tests_name("levels", tests, NULL, NULL);
}
