/* The data's report: counts, histograms and choices to the number, and pages that stay well-formed and harmless
 * whatever the data says. */
#include "tests/test.h"

#include <math.h>

#include "data/contour.h"
#include "data/html.h"
#include "data/report.h"
#include "tests/data/page.h"
#include "tests/quiet.h"

/* --- HTML --- */

typedef struct Writing { /* what is written to `out` ends up in `text` */
    FILE *out;
    char *text;
    size_t size;
} Writing;

static Writing *begin(Writing *writing) {
    writing->out = open_memstream(&writing->text, &writing->size);
    return writing;
}

static void assert_written(Writing *writing, const char *expected) {
    fclose(writing->out);
    assert_string_equal(writing->text, expected);
    free(writing->text);
}

static void text_is_never_markup(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"plain, größer, 怒り, 😀", "plain, größer, 怒り, 😀"},
        {"</bdi><script>alert('1')</script>", "&lt;/bdi&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"},
        {"\" onload=\"x", "&quot; onload=&quot;x"},
        {"&lt;&amp;]]>", "&amp;lt;&amp;amp;]]&gt;"},
        {"a\tb\nc", "a\tb\nc"},
        {"\x01\x0B\x1B\x7F", "\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"\xC2\x80|\xC2\x9F|\xC2\xA0", "\uFFFD|\uFFFD|\u00A0"},                                     /* C1 controls */
        {"\xEF\xBF\xBE|\xEF\xBF\xBF|\xEF\xB7\x90|\xF0\x9F\xBF\xBE", "\uFFFD|\uFFFD|\uFFFD|\uFFFD"}, /* noncharacters */
        {"\xE2\x80\xA8", "\xE2\x80\xA8"}, /* U+2028 ends lines in old scripts; no data is ever in one */
        {"\xC0\xBC|\xED\xA0\x80", "\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD"}, /* an overlong <, a surrogate */
        {"\xFF<\xE2\x82", "\uFFFD&lt;\uFFFD\uFFFD"},
        {"", ""},
        {NULL, ""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Writing writing;
        html_text(begin(&writing)->out, CASES[i][0]);
        assert_written(&writing, CASES[i][1]);
    }
}

static void long_text_is_cut_between_characters(void **state) {
    (void)state;
    Writing writing;
    html_text_most(begin(&writing)->out, "ää<ä", 3);
    assert_written(&writing, "ää&lt;…");
    html_text_most(begin(&writing)->out, "ää<ä", 4);
    assert_written(&writing, "ää&lt;ä");
    html_text_most(begin(&writing)->out, "x", 0);
    assert_written(&writing, "…");
}

static void numbers(void **state) {
    (void)state;
    Writing writing;
    static const int64_t COUNTS[] = {0, 7, 999, 1000, 1234567, -999, -1000, INT64_MIN};
    begin(&writing);
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        html_count(writing.out, COUNTS[i]);
        fputc(' ', writing.out);
    }
    assert_written(&writing, "0 7 999 1,000 1,234,567 -999 -1,000 -9,223,372,036,854,775,808 ");
    static const struct {
        double value;
        int decimals;
    } DECIMALS[] = {{1.25, 1}, {-44.87, 1}, {-0.04, 1}, {-0.0, 2}, {NAN, 1}, {-INFINITY, 1}, {1e300, 1}, {12, 0}};
    begin(&writing);
    for (size_t i = 0; i < sizeof DECIMALS / sizeof *DECIMALS; i++) {
        html_decimal(writing.out, DECIMALS[i].value, DECIMALS[i].decimals);
        fputc(' ', writing.out);
    }
    assert_written(&writing, "1.2 \u221244.9 0.0 0.00 – – 1.0e+300 12 ");
}

static void base64(void **state) { /* RFC 4648, section 10 */
    (void)state;
    static const char *const CASES[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"\xFF\xEF", "/+8="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Writing writing;
        html_base64(begin(&writing)->out, (const unsigned char *)CASES[i][0], strlen(CASES[i][0]));
        assert_written(&writing, CASES[i][1]);
    }
}

/* --- histograms --- */

static void steps_are_round(void **state) {
    (void)state;
    static const double CASES[][2] = {{1, 1}, {1.01, 2}, {2, 2}, {0.3, 0.5}, {5.1, 10}, {0.007, 0.01}, {1999, 2000}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        assert_true(fabs(round_step(CASES[i][0]) / CASES[i][1] - 1) < 1e-12);
}

static void bins_hold_their_lower_edge(void **state) {
    (void)state;
    Histogram histogram = {.low = 0, .step = 0.1, .bins = 10};
    for (int i = 0; i <= 10; i++) histogram_add(&histogram, histogram_edge(&histogram, i)); /* 3 * .1 is over .3 */
    for (int i = 0; i < 10; i++) assert_int_equal(histogram.count[i], 1);
    assert_int_equal(histogram.above, 1);
    histogram_add(&histogram, 0.3); /* below the edge at 0.30000000000000004 */
    assert_int_equal(histogram.count[2], 2);
    static const double FAR[] = {-1e-9, -5, -1e300, 1.0001, 1e300};
    for (size_t i = 0; i < sizeof FAR / sizeof *FAR; i++) histogram_add(&histogram, FAR[i]);
    assert_int_equal(histogram.below, 3);
    assert_int_equal(histogram.above, 3);
    assert_int_equal(histogram.total, 17);
}

/* Whatever the values: every one is counted once, between its bin's edges; at most half a percent at either end is
 * beyond. */
static void ranges_hold_the_values(void **state) {
    (void)state;
    enum { MOST = 2000 };
    static double values[MOST];
    for (uint32_t round = 0; round < 300; round++) {
        Rng rng = rng_stream(round, 1, 0, 0);
        size_t count = 1 + rng_below(&rng, round % 3 ? 40 : MOST);
        double at = pow(10, rng_below(&rng, 12)) / 1e6 * (round % 2 ? 1 : -1), spread = fabs(at) * (round % 5);
        for (size_t i = 0; i < count; i++) values[i] = at + spread * (double)rng_uniform(rng_next(&rng));
        sort_values(values, (int64_t)count);
        Histogram histogram = histogram_over(values, count);
        assert_in_range(histogram.bins, 1, HISTOGRAM_BINS);
        for (size_t i = 0; i < count; i++) {
            Histogram before = histogram;
            histogram_add(&histogram, values[i]);
            for (int bin = 0; bin < histogram.bins; bin++)
                if (histogram.count[bin] != before.count[bin])
                    assert_true(values[i] >= histogram_edge(&histogram, bin) &&
                                values[i] < histogram_edge(&histogram, bin + 1));
        }
        int64_t sum = histogram.below + histogram.above;
        assert_true(histogram.below <= (int64_t)count / 200 && histogram.above <= (int64_t)count / 200);
        for (int bin = 0; bin < histogram.bins; bin++) sum += histogram.count[bin];
        assert_int_equal(sum, count);
        assert_int_equal(histogram.total, count);
    }
}

/* --- a small corpus --- */

static void write_wav(const char *name, int64_t samples, float level) {
    Error err = {0};
    Audio audio = {.samples = calloc((size_t)samples, sizeof(float)), .count = samples, .rate = AUDIO_RATE};
    for (int64_t i = 0; i < samples; i++) {
        float t = (float)i / AUDIO_RATE, syllable = sinf(9 * t);
        for (int h = 1; h < 8; h++)
            audio.samples[i] += level / (float)h * syllable * syllable * sinf(942 * (float)h * t);
    }
    unsigned char *bytes;
    size_t size;
    assert_ok(audio_encode(&audio, AUDIO_WAV, &bytes, &size, &err), &err);
    char *path = test_path(name);
    assert_ok(file_write(path, bytes, size, &err), &err);
    free(path);
    free(bytes);
    audio_free(&audio);
}

static char *write_manifest(const char *name, const char *lines) {
    Error err = {0};
    char *path = test_path(name);
    assert_ok(file_write(path, lines, strlen(lines), &err), &err);
    return path;
}

static void open_set(DataSet *set, const char *lines) {
    Error err = {0};
    char *path = write_manifest("set.jsonl", lines);
    assert_ok(data_set_open(set, path, &err), &err);
    free(path);
}

static const char CENSUS_LINES[] =
    "{\"id\":\"1\",\"audio\":\"a\",\"corpus\":\"x\",\"emotion\":\"sad\",\"gender\":\"male\",\"speaker\":\"s1\","
    "\"group\":\"g1\",\"transcript\":\"t\",\"features\":{\"duration_s\":1.5,\"f0_median_hz\":100}}\n"
    "{\"id\":\"2\",\"audio\":\"a\",\"corpus\":\"x\",\"emotion\":\"happy\",\"gender\":\"female\",\"speaker\":\"s2\","
    "\"group\":\"g1\",\"features\":{\"duration_s\":2,\"f0_median_hz\":null,\"intensity_mean_db\":60}}\n"
    "{\"id\":\"3\",\"audio\":\"a\",\"corpus\":\"y\",\"emotion\":\"sad\",\"gender\":\"male\",\"speaker\":\"s1\","
    "\"group\":\"g2\",\"start\":1,\"end\":5}\n"
    "{\"id\":\"4\",\"audio\":\"a\",\"corpus\":\"y\",\"emotion\":\"\",\"speaker\":\"s3\",\"explanation\":\"e\","
    "\"teacher\":\"t\"}\n"
    "{\"id\":\"5\",\"audio\":\"a\",\"corpus\":\"y\",\"emotion\":\"sad\",\"gender\":\"female\"}\n";

static void assert_row(const Tally *row, const char *name, const int64_t *counts, double seconds) {
    if (name)
        assert_string_equal(row->name, name);
    else
        assert_null(row->name);
    const int64_t found[] = {row->utterances, row->gender[0], row->gender[1],
                             row->gender[2],  row->speakers,  row->untimed};
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) assert_int_equal(found[i], counts[i]);
    assert_true(row->seconds == seconds);
}

static void census_to_the_number(void **state) {
    (void)state;
    Error err = {0};
    DataSet set;
    Census census;
    open_set(&set, CENSUS_LINES);
    assert_ok(census_take(&census, &set, &err), &err);
    const Categories *classes = &census.by[FIELD_CLASS], *speakers = &census.by[FIELD_SPEAKER];
    assert_row(&census.all, NULL, (int64_t[]){5, 2, 2, 1, 4, 2}, 7.5);
    assert_int_equal(classes->distinct, 2);
    assert_int_equal(classes->count, 3);
    assert_row(&classes->rows[0], "happy", (int64_t[]){1, 1, 0, 0, 1, 0}, 2);
    assert_row(&classes->rows[1], "sad", (int64_t[]){3, 1, 2, 0, 2, 1}, 5.5); /* x's s1 is not y's; one is unknown */
    assert_row(&classes->rows[2], NULL, (int64_t[]){1, 0, 0, 1, 1, 1}, 0);
    assert_int_equal(speakers->distinct, 4);
    assert_int_equal(speakers->count, 5);
    assert_row(&speakers->rows[0], "s1", (int64_t[]){1, 0, 1, 0, 1, 0}, 1.5);
    assert_string_equal(speakers->rows[0].corpus, "x");
    assert_row(&speakers->rows[2], "s1", (int64_t[]){1, 0, 1, 0, 1, 0}, 4);
    assert_string_equal(speakers->rows[2].corpus, "y");
    assert_row(&speakers->rows[4], NULL, (int64_t[]){1, 1, 0, 0, 0, 1}, 0);
    assert_int_equal(census.by[FIELD_CORPUS].distinct, 2);
    assert_int_equal(census.by[FIELD_GROUP].distinct, 2);
    assert_int_equal(census.by[FIELD_TEACHER].distinct, 1);
    static const int64_t LACKING[WANTS] = {1, 1, 1, 2, 4, 3, 4, 5, 4, 4, 4};
    for (int want = 0; want < WANTS; want++) assert_int_equal(census.lacking[want], LACKING[want]);
    assert_false(census.speakers_are_groups);
    int64_t *both = census_cross(&census.by[FIELD_CORPUS], classes, set.count, &err);
    static const int64_t BOTH[] = {1, 1, 0, 0, 2, 1};
    assert_non_null(both);
    for (int i = 0; i < 6; i++) assert_int_equal(both[i], BOTH[i]);
    free(both);
    census_free(&census);
    data_set_close(&set);
}

/* 30 classes, the k-th of k utterances: 24 have rows, and what is left is not lost. */
static void rare_values_share_a_row(void **state) {
    (void)state;
    Error err = {0};
    Text lines = {0};
    for (int k = 1; k <= 30; k++)
        for (int i = 0; i < k; i++)
            text_addf(&lines, "{\"id\":\"%d-%d\",\"audio\":\"a\",\"emotion\":\"c%02d\",\"speaker\":\"%d\"}\n", k, i, k,
                      i);
    text_add_string(&lines, "{\"id\":\"0\",\"audio\":\"a\"}\n");
    DataSet set;
    Census census;
    open_set(&set, lines.data);
    assert_ok(census_take(&census, &set, &err), &err);
    const Categories *classes = &census.by[FIELD_CLASS];
    assert_int_equal(classes->distinct, 30);
    assert_int_equal(classes->count, 26);
    for (int row = 0; row < 24; row++) assert_int_equal(classes->rows[row].utterances, row + 7);
    assert_null(classes->rows[24].name);
    assert_int_equal(classes->rows[24].folded, 0);
    assert_int_equal(classes->rows[24].utterances, 1);
    assert_int_equal(classes->rows[25].folded, 6);
    assert_int_equal(classes->rows[25].utterances, 21);
    assert_int_equal(classes->rows[25].speakers, 6);
    census_free(&census);
    data_set_close(&set);
    text_free(&lines);
}

static void one_group_a_speaker(void **state) {
    (void)state;
    Error err = {0};
    static const struct {
        const char *groups[3];
        bool same;
    } CASES[] = {{{"a", "b", "c"}, true}, {{"a", "b", "b"}, false}, {{"c", "a", "b"}, true}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Text lines = {0};
        for (int k = 0; k < 6; k++)
            text_addf(&lines, "{\"id\":\"%d\",\"audio\":\"a\",\"speaker\":\"s%d\",\"group\":\"%s\"}\n", k, k % 3,
                      CASES[i].groups[k % 3]);
        DataSet set;
        Census census;
        open_set(&set, lines.data);
        assert_ok(census_take(&census, &set, &err), &err);
        assert_int_equal(census.speakers_are_groups, CASES[i].same);
        census_free(&census);
        data_set_close(&set);
        text_free(&lines);
    }
}

/* --- which samples are shown --- */

/* 3 classes: 40 utterances, 3, and 2 without a class. */
static char *choice_lines(bool backwards) {
    Text lines = {0};
    for (int k = 0; k < 45; k++) {
        int i = backwards ? 44 - k : k;
        text_addf(&lines, "{\"id\":\"u%d\",\"audio\":\"a\",\"gender\":\"%s\"", i, i % 4 ? "male" : "female");
        if (i < 43) text_addf(&lines, ",\"emotion\":\"%s\"", i < 40 ? "many" : "few");
        text_add_string(&lines, "}\n");
    }
    return text_finish(&lines, NULL);
}

typedef struct Choice {
    char ids[64][8];
    int64_t of_class[3], gender[3][GENDERS];
    size_t count;
} Choice;

static void choose(bool backwards, uint64_t seed, size_t count, Choice *choice) {
    Error err = {0};
    DataSet set;
    Census census;
    size_t chosen[64];
    char *lines = choice_lines(backwards);
    open_set(&set, lines);
    assert_ok(census_take(&census, &set, &err), &err);
    *choice = (Choice){0};
    assert_ok(cards_choose(&set, &census.by[FIELD_CLASS], seed, count, chosen, &choice->count, &err), &err);
    for (size_t i = 0; i < choice->count; i++) {
        const Utterance *utterance = set.utterances[chosen[i]];
        uint32_t row = census.by[FIELD_CLASS].row_of[chosen[i]];
        snprintf(choice->ids[i], sizeof choice->ids[i], "%s", utterance->id);
        choice->of_class[row]++;
        choice->gender[row][gender_of(utterance)]++;
    }
    census_free(&census);
    data_set_close(&set);
    free(lines);
}

static void choices_cover_every_class(void **state) {
    (void)state;
    static const int64_t EXPECTED[][4] = {{0, 0, 0, 0}, {1, 1, 0, 0},  {2, 1, 1, 0},  {3, 1, 1, 1},
                                          {6, 2, 2, 2}, {11, 3, 6, 2}, {45, 3, 40, 2}};
    Choice choice, again, other;
    for (size_t i = 0; i < sizeof EXPECTED / sizeof *EXPECTED; i++) {
        choose(false, 3, (size_t)EXPECTED[i][0], &choice);
        assert_int_equal(choice.count, EXPECTED[i][0]);
        for (int c = 0; c < 3; c++) assert_int_equal(choice.of_class[c], EXPECTED[i][c + 1]); /* few, many, none */
    }
    choose(false, 3, 60, &choice);
    assert_int_equal(choice.count, 45); /* each once */
    choose(false, 3, 11, &choice);
    assert_int_equal(choice.gender[1][GENDER_FEMALE], 3); /* of 10 women and 30 men */
    assert_int_equal(choice.gender[1][GENDER_MALE], 3);
    choose(true, 3, 11, &again); /* in another order */
    assert_memory_equal(choice.ids, again.ids, sizeof choice.ids);
    choose(false, 4, 11, &other);
    assert_memory_not_equal(choice.ids, other.ids, sizeof choice.ids);
}

/* --- whole pages --- */

static char *make_page(const char *path, const ReportOptions *options, size_t *size, Error *err) {
    char *output = test_path("page.html");
    ReportOptions here = *options;
    here.output = output;
    int kept = quiet_begin();
    bool done = report_data(path, &here, err);
    quiet_end(kept);
    char *page = done ? file_read(output, 1 << 26, size, err) : NULL;
    if (!done) assert_false(file_exists(output));
    unlink(output);
    free(output);
    return page;
}

/* Makes the page of some lines, and checks that it is well-formed and holds no element or attribute but ours. */
static char *page_of(const char *lines, const ReportOptions *options) {
    Error err = {0};
    size_t size = 0;
    char *path = write_manifest("page.jsonl", lines), *page = make_page(path, options, &size, &err);
    free(path);
    if (!page) fail_msg("%s", err.text);
    assert_int_equal(strlen(page), size);
    const char *fault = page_fault(page);
    if (fault) fail_msg("the page is not well-formed at: %.200s", fault);
    return page;
}

static size_t times(const char *page, const char *what) {
    size_t count = 0;
    for (const char *at = page; (at = strstr(at, what)); at += strlen(what)) count++;
    return count;
}

static const ReportOptions PLAIN = {.cards = CARDS_BY_CLASS};

static const char FEATURES[] = "\"features\":{\"duration_s\":1,\"f0_median_hz\":%d,\"intensity_mean_db\":%d,"
                               "\"articulation_rate_syll_s\":%d.5}";

static void page_says_what_is_there(void **state) {
    (void)state;
    write_wav("tone.wav", 16000, 0.3F);
    Text lines = {0};
    for (int i = 0; i < 12; i++) {
        text_addf(&lines,
                  "{\"id\":\"u%d\",\"audio\":\"tone.wav\",\"emotion\":\"%s\",\"gender\":\"female\",\"speaker\":\"s\","
                  "\"levels\":{\"pitch\":\"low\",\"speed\":\"slow\",\"volume\":\"quiet\"},\"explanation\":\"e\",",
                  i, i % 2 ? "happy" : "sad");
        text_addf(&lines, FEATURES, 200 + 10 * i, 60 + i, 3 + i % 3);
        text_add_string(&lines, "}\n");
    }
    char *page = page_of(lines.data, &PLAIN);
    assert_int_equal(times(page, "<article class=\"card\""), 4);
    assert_int_equal(times(page, "src=\"data:audio/flac;base64,"), 4);
    assert_int_equal(times(page, "<figure"), 3); /* of pitch for women alone, speed, volume */
    assert_non_null(strstr(page, "<dt>utterances</dt><dd>12</dd>"));
    assert_non_null(strstr(page, "low</span> ≤ 236.7")); /* numpy.quantile(range(200, 311, 10), 1/3) = 236.67 */
    assert_non_null(strstr(page, "high</span> &gt; 273.3"));
    assert_non_null(strstr(page, "sad: median 250 Hz, 2 low, 2 normal, 2 high"));
    /* Speeds are 3.5, 4.5, 5.5 in turn, so u0, u3, ... are slow; quiet and low are the first four: u0 and u3 agree. */
    assert_non_null(strstr(page, "10 of 12 explanations were written from other levels"));
    free(page);
    text_free(&lines);
}

/* Nine voices: pitch tells the class wholly, volume not at all. */
static void association_of_levels_and_classes(void **state) {
    (void)state;
    static const char *const CLASSES[] = {"angry", "happy", "sad"};
    static const ReportOptions NO_CARDS = {.cards = 0};
    Text lines = {0};
    for (int i = 0; i < 9; i++) {
        text_addf(&lines, "{\"id\":\"%d\",\"audio\":\"a\",\"emotion\":\"%s\",", i, CLASSES[i / 3]);
        text_addf(&lines, FEATURES, 100 * (3 - i / 3) + i % 3, 60 + i % 3, 4);
        text_add_string(&lines, "}\n");
    }
    char *page = page_of(lines.data, &NO_CARDS);
    assert_non_null(strstr(page, "<caption>Pitch <small>Cramér’s V 1.00</small>"));
    assert_non_null(strstr(page, "<caption>Volume <small>Cramér’s V 0.00</small>"));
    assert_non_null(strstr(page, "<caption>Speed</caption>")); /* but one level */
    assert_non_null(strstr(page, "<bdi>angry</bdi></th><td class=\"none\">0</td><td class=\"none\">0</td><td>3</td>"));
    assert_non_null(strstr(page, "aria-label=\"33 % quiet, 33 % normal, 33 % loud\""));
    free(page);
    text_free(&lines);
}

static const char *const HOSTILE[] = {
    "</bdi></code></article></main><script>pwned=1</script>",
    "\\\" onmouseover=\\\"pwned=1\\\" x=\\\"",
    "' autofocus onfocus='pwned=1",
    "<img src=x onerror=pwned=1>",
    "<!--",
    "--><![CDATA[",
    "]]><svg onload=pwned=1>",
    "&lt;script&gt;&#60;&#x3c;&",
    "</style><style>*{display:none}",
    "\\u2028\\u2029\\u202e\\u0001\\u001b\\ufffe\\uffff",
    "javascript:pwned=1",
    "%n%s%s%n",
};
enum { HOSTILE_COUNT = sizeof HOSTILE / sizeof *HOSTILE };

/* Each in every field that takes text. */
static char *hostile_lines(void) {
    Text lines = {0};
    for (int i = 0; i < HOSTILE_COUNT; i++) {
        const char *h = HOSTILE[i];
        text_addf(&lines,
                  "{\"id\":\"%s%d\",\"audio\":\"tone.wav\",\"emotion\":\"%s\",\"corpus\":\"%s\",\"speaker\":\"%s\","
                  "\"group\":\"g%s\",\"transcript\":\"%s\",\"explanation\":\"%s\",\"teacher\":\"%s\",\"levels\":"
                  "{\"pitch\":\"%s\"},",
                  h, i, h, h, h, h, h, h, h, h);
        text_addf(&lines, FEATURES, 100 + i, 50 + i, 2 + i % 4);
        text_add_string(&lines, "}\n");
    }
    return text_finish(&lines, NULL);
}

static void hostile_data_stays_text(void **state) {
    (void)state;
    write_wav("tone.wav", 8000, 0.3F);
    char *lines = hostile_lines();
    static const ReportOptions ALL = {.cards = HOSTILE_COUNT};
    char *page = page_of(lines, &ALL); /* whose checker knows our elements and attributes alone */
    assert_int_equal(times(page, "<article class=\"card\""), HOSTILE_COUNT);
    assert_int_equal(times(page, "<script"), 1);
    assert_int_equal(times(page, "<style"), 1);
    assert_non_null(
        strstr(page, "<code><bdi>&lt;/bdi&gt;&lt;/code&gt;&lt;/article&gt;&lt;/main&gt;&lt;script&gt;pwned=1"));
    assert_non_null(strstr(page, "<bdi>&#39; autofocus onfocus=&#39;pwned=1</bdi>"));
    free(page);
    free(lines);
}

/* A path is data as well, and need not be UTF-8. */
static void hostile_paths(void **state) {
    (void)state;
    Error err = {0};
    size_t size;
    write_wav("tone.wav", 8000, 0.3F);
    char *path = write_manifest("<script>\xFF&.jsonl", "{\"id\":\"1\",\"audio\":\"tone.wav\"}\n");
    char *page = make_page(path, &PLAIN, &size, &err);
    if (!page) fail_msg("%s", err.text);
    assert_null(page_fault(page));
    assert_non_null(strstr(page, "<h1><bdi>&lt;script&gt;\uFFFD&amp;</bdi></h1>"));
    free(page);
    free(path);
}

static void little_data(void **state) {
    (void)state;
    write_wav("tone.wav", 8000, 0.3F);
    write_wav("silence.wav", 16000, 0);
    write_wav("click.wav", 1, 0.3F);
    static const char *const CASES[] = {
        "{\"id\":\"1\",\"audio\":\"tone.wav\"}\n",                        /* nothing known */
        "{\"id\":\"1\",\"audio\":\"click.wav\",\"emotion\":\"sad\"}\n",   /* a sample */
        "{\"id\":\"1\",\"audio\":\"silence.wav\",\"gender\":\"male\"}\n", /* no voice */
        "{\"id\":\"1\",\"audio\":\"tone.wav\",\"features\":{}}\n",        /* all null */
        "{\"id\":\"1\",\"audio\":\"tone.wav\",\"corpus\":\"\",\"features\":{\"f0_median_hz\":100}}\n",
        ("{\"id\":\"1\",\"audio\":\"tone.wav\",\"features\":{\"f0_median_hz\":1e300,\"intensity_mean_db\":-1e300,"
         "\"duration_s\":-1e300,\"articulation_rate_syll_s\":0}}\n{\"id\":\"2\",\"audio\":\"tone.wav\",\"features\":{"
         "\"f0_median_hz\":-1e300,\"intensity_mean_db\":1e300,\"duration_s\":1e308,\"articulation_rate_syll_s\":0}}\n"),
        ("{\"id\":\"1\",\"audio\":\"tone.wav\",\"explanation\":\"\",\"teacher\":\"\",\"transcript\":\"\",\"speaker\":"
         "\"\",\"group\":\"\",\"emotion\":\"\",\"levels\":[1]}\n"),
    };
    static const int LEVELS[] = {0, 3, 5};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (int k = 0; k < 3; k++) {
            ReportOptions options = {.cards = CARDS_BY_CLASS, .levels = LEVELS[k]};
            char *page = page_of(CASES[i], &options);
            assert_null(strstr(page, "nan"));
            assert_null(strstr(page, "inf"));
            assert_true(times(page, "<article class=\"card\"") >= 1);
            free(page);
        }
    static const ReportOptions NO_CARDS = {.cards = 0};
    char *page = page_of("{\"id\":\"1\",\"audio\":\"missing.wav\"}\n", &NO_CARDS);
    assert_null(strstr(page, "samples"));
    free(page);
}

static void long_clips_are_cut(void **state) {
    (void)state;
    write_wav("long.wav", 25 * AUDIO_RATE, 0.3F);
    char *page = page_of("{\"id\":\"1\",\"audio\":\"long.wav\"}\n", &PLAIN);
    assert_non_null(strstr(page, "data-seconds=\"20.0000\""));
    assert_non_null(strstr(page, "The first 20 s of 25.0 s."));
    free(page);
}

/* Five levels where the annotation has words that only five have. */
static void levels_as_annotated(void **state) {
    (void)state;
    static const char LINE[] = "{\"id\":\"1\",\"audio\":\"a\",\"features\":{\"f0_median_hz\":100},\"levels\":"
                               "{\"pitch\":\"%s\"}}\n";
    static const char *const WORDS[] = {"low", "very low"};
    static const ReportOptions NO_CARDS = {.cards = 0};
    for (int i = 0; i < 2; i++) {
        char *line = text_format(NULL, LINE, WORDS[i]), *page = page_of(line, &NO_CARDS);
        assert_non_null(strstr(page, i ? "<p>5 levels" : "<p>3 levels"));
        free(page);
        free(line);
    }
}

static void write_test_shards(const char *manifest_path, const char *folder) {
    Error err = {0};
    Manifest manifest;
    ShardOptions options = shard_options_default();
    assert_ok(manifest_read(&manifest, manifest_path, &err), &err);
    int kept = quiet_begin();
    assert_ok(shards_write(&manifest, folder, &options, &err), &err);
    quiet_end(kept);
    manifest_free(&manifest);
}

static void same_data_same_bytes(void **state) {
    (void)state;
    write_wav("tone.wav", 8000, 0.3F);
    char *lines = hostile_lines(), *again = page_of(lines, &PLAIN), *page = page_of(lines, &PLAIN);
    assert_string_equal(page, again);
    static const ReportOptions OTHER = {.cards = 3, .seed = 1};
    char *other = page_of(lines, &OTHER);
    assert_string_not_equal(page, other);
    free(other);
    /* Shards of a manifest show the same cards as the manifest. */
    Error err = {0};
    size_t size;
    char *path = write_manifest("page.jsonl", lines), *folder = test_path("shards");
    write_test_shards(path, folder);
    char *shards = make_page(folder, &PLAIN, &size, &err);
    if (!shards) fail_msg("%s", err.text);
    assert_null(page_fault(shards));
    char *cards = strstr(page, "<section id=\"samples\">"), *shard_cards = strstr(shards, "<section id=\"samples\">");
    size_t length = (size_t)(strstr(cards, "</section>") - cards);
    assert_memory_equal(cards, shard_cards, length);
    free(shards);
    free(path);
    free(folder);
    free(page);
    free(again);
    free(lines);
}

static void refusals_name_the_file(void **state) {
    (void)state;
    size_t size;
    static const struct {
        const char *lines, *name;
    } CASES[] = {{"", "holds no utterance"},
                 {"{\"id\":\"1\",\"audio\":\"missing.wav\"}\n", "missing.wav"},
                 {"{\"id\":\"one\",\"audio\":\"broken.jsonl\"}\n", "one"},
                 {"{\"id\":\"1\"}\n", "line 1"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Error err = {0};
        char *path = write_manifest("broken.jsonl", CASES[i].lines);
        assert_null(make_page(path, &PLAIN, &size, &err)); /* and no page is left */
        assert_non_null(strstr(err.text, CASES[i].name));
        free(path);
    }
    Error err = {0};
    assert_null(make_page("/nowhere/at/all", &PLAIN, &size, &err));
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    err = (Error){0};
    char *folder = test_path("");
    assert_null(make_page(folder, &PLAIN, &size, &err)); /* a folder, but not of shards */
    assert_non_null(strstr(err.text, "index.json"));
    free(folder);
}

/* Damaged manifests are refused, or still make a well-formed page. */
static void damaged_manifests(void **state) {
    (void)state;
    char *lines = hostile_lines();
    size_t length = strlen(lines);
    static const ReportOptions NO_CARDS = {.cards = 0};
    int made = 0;
    for (uint32_t round = 0; round < 300; round++) {
        Rng rng = rng_stream(round, 2, 0, 0);
        char *damaged = text_copy(lines, NULL);
        for (uint32_t flips = 1 + rng_below(&rng, 3); flips--;)
            damaged[rng_below(&rng, (uint32_t)length)] = (char)(1 + rng_below(&rng, 255));
        Error err = {0};
        size_t size;
        char *path = write_manifest("damaged.jsonl", damaged), *page = make_page(path, &NO_CARDS, &size, &err);
        if (page)
            assert_null(page_fault(page));
        else
            assert_non_null(strstr(err.text, "damaged.jsonl"));
        made += page != NULL;
        free(page);
        free(path);
        free(damaged);
    }
    assert_in_range(made, 30, 270); /* both happen */
    free(lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_never_markup),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(numbers),
        cmocka_unit_test(base64),
        cmocka_unit_test(steps_are_round),
        cmocka_unit_test(bins_hold_their_lower_edge),
        cmocka_unit_test(ranges_hold_the_values),
        cmocka_unit_test(census_to_the_number),
        cmocka_unit_test(rare_values_share_a_row),
        cmocka_unit_test(one_group_a_speaker),
        cmocka_unit_test(choices_cover_every_class),
        cmocka_unit_test(page_says_what_is_there),
        cmocka_unit_test(association_of_levels_and_classes),
        cmocka_unit_test(hostile_data_stays_text),
        cmocka_unit_test(hostile_paths),
        cmocka_unit_test(little_data),
        cmocka_unit_test(long_clips_are_cut),
        cmocka_unit_test(levels_as_annotated),
        cmocka_unit_test(same_data_same_bytes),
        cmocka_unit_test(refusals_name_the_file),
        cmocka_unit_test(damaged_manifests),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
