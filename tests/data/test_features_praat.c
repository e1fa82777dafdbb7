/* Features of real recordings against those that Praat 6.3 gave (tests/fixtures/praat.tsv, by
 * tests/oracle/features.py). RAVDESS is looked for in SEMOLLM_RAVDESS, else in ../shared/data/ravdess; the others are
 * Debian's pocketsphinx-testdata. What is not there is left out. */
#include "tests/test.h"

#include <math.h>

#include "data/features.h"

/* Under sanitizers a part will do. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 16 };
#else
enum { STRIDE = 1 };
#endif

enum { ROWS_MOST = 400 };

typedef struct Pairs {
    double ours[ROWS_MOST], praat[ROWS_MOST];
    int count, other; /* other: exists for one of the two alone */
} Pairs;

static char *audio_path(const char *name) {
    const char *ravdess = getenv("SEMOLLM_RAVDESS");
    if (!ravdess) ravdess = "../shared/data/ravdess";
    return strstr(name, "Actor_") ? path_join(ravdess, name, NULL)
                                  : path_join("/usr/share/pocketsphinx/test/data", name, NULL);
}

static void add_pair(Pairs *pairs, double ours, double praat) {
    pairs->other += isnan(ours) != isnan(praat);
    if (isnan(ours) || isnan(praat)) return;
    pairs->ours[pairs->count] = ours;
    pairs->praat[pairs->count++] = praat;
}

/* The columns of a line, whose first is a recording's name; false where there is no such recording here. */
static bool compare_line(char *line, char **columns, int column_count, Pairs *pairs) {
    Error err = {0};
    Audio audio;
    Features features;
    FeatureOptions options = feature_options_default();
    options.voice_quality = true;
    char *path = audio_path(strsep(&line, "\t"));
    bool there = file_exists(path);
    if (there) {
        assert_ok(audio_read(&audio, path, 0, 0, 0, &err), &err);
        assert_ok(features_measure(&audio, &options, &features, NULL, &err), &err);
        audio_free(&audio);
    }
    for (int c = 0; c < column_count && there; c++) {
        const char *text = strsep(&line, "\t");
        assert_non_null(text);
        for (int f = 0; f < FEATURE_COUNT; f++)
            if (strcmp(FEATURE_NAMES[f], columns[c]) == 0)
                add_pair(&pairs[f], features.value[f], *text ? strtod(text, NULL) : NAN);
    }
    free(path);
    return there;
}

static double correlation(const Pairs *pairs) {
    double x = 0, y = 0, xx = 0, yy = 0, xy = 0, n = pairs->count;
    for (int i = 0; i < pairs->count; i++) {
        x += pairs->ours[i] / n;
        y += pairs->praat[i] / n;
    }
    for (int i = 0; i < pairs->count; i++) {
        double a = pairs->ours[i] - x, b = pairs->praat[i] - y;
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    return xy / sqrt(xx * yy);
}

/* How many lie within `share` of Praat's value and `distance`, whichever is more. */
static double share_within(const Pairs *pairs, double share, double distance) {
    int within = 0;
    for (int i = 0; i < pairs->count; i++)
        within += fabs(pairs->ours[i] - pairs->praat[i]) <= fmax(share * fabs(pairs->praat[i]), distance);
    return (double)within / (pairs->count + pairs->other);
}

typedef struct Bound {
    FeatureId feature;
    double share, distance, least; /* of the recordings, `least` within */
} Bound;

static const Bound BOUNDS[] = {{FEATURE_F0_MEDIAN_HZ, 0.005, 0, 0.99},
                               {FEATURE_INTENSITY_MEAN_DB, 0, 0.1, 1},
                               {FEATURE_VOICED_SHARE, 0, 0.01, 0.99},
                               {FEATURE_SPEECH_RATE, 0, 0.1, 0.95},
                               {FEATURE_ARTICULATION_RATE, 0, 0.1, 0.95},
                               {FEATURE_SPEECH_S, 0, 0.02, 0.99},
                               {FEATURE_F1_HZ, 0.02, 0, 0.95},
                               {FEATURE_F2_HZ, 0.02, 0, 0.95},
                               {FEATURE_F3_HZ, 0.02, 0, 0.95},
                               {FEATURE_ALPHA_RATIO_DB, 0, 0.1, 0.95}};

static const FeatureId CORRELATED[] = {FEATURE_JITTER, FEATURE_SHIMMER, FEATURE_HNR_DB};

/* Of so few recordings one is a large share: where only pocketsphinx's are here, one may be off. */
static bool enough(const Pairs *pairs, double share, double least) {
    return share >= least || (pairs->count < 100 && (1 - share) * (double)pairs->count < 1.5);
}

static void check(const Pairs *pairs) {
    for (size_t i = 0; i < sizeof BOUNDS / sizeof *BOUNDS; i++) {
        const Bound *bound = &BOUNDS[i];
        double share = share_within(&pairs[bound->feature], bound->share, bound->distance);
        printf("%-26s %6.2f %% within %g\n", FEATURE_NAMES[bound->feature], 100 * share,
               bound->share > 0 ? bound->share : bound->distance);
        assert_true(enough(&pairs[bound->feature], share, bound->least));
    }
    for (size_t i = 0; i < sizeof CORRELATED / sizeof *CORRELATED; i++) {
        double r = correlation(&pairs[CORRELATED[i]]);
        printf("%-26s correlation %.6f\n", FEATURE_NAMES[CORRELATED[i]], r);
        assert_true(r >= 0.99);
    }
}

static void real_recordings(void **state) {
    (void)state;
    Error err = {0};
    char *text = file_read("tests/fixtures/praat.tsv", 1 << 20, NULL, &err), *rest = text;
    assert_ok(text, &err);
    char *names = strsep(&rest, "\n"), *columns[FEATURE_COUNT];
    int column_count = 0, rows = 0, found = 0;
    strsep(&names, "\t");
    for (char *name; (name = strsep(&names, "\t"));) {
        assert_true(column_count < FEATURE_COUNT);
        columns[column_count++] = name;
    }
    Pairs *pairs = memory_new(FEATURE_COUNT, sizeof *pairs, &err);
    assert_ok(pairs, &err);
    for (char *line; (line = strsep(&rest, "\n")) && *line && rows < ROWS_MOST; rows++)
        if (rows % STRIDE == 0) found += compare_line(line, columns, column_count, pairs);
    printf("%d of %d recordings are here\n", found, (rows + STRIDE - 1) / STRIDE);
    assert_true(rows >= 300);
    if (found >= 10) check(pairs);
    free(pairs);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_recordings)};
    return cmocka_run_group_tests_name("features against Praat", tests, NULL, NULL);
}
