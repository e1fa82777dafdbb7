/* A run's levels: cut points from its own training split or of each speaker's own, printed and kept with the run; and
 * explanations that were written from other levels. */
#include "tests/test.h"

#include "tests/quiet.h"
#include "tests/train/tiny.h"
#include "train/loop.h"

enum { CLIPS = 48 };

/* Speaker s has a pitch of 100 (s + 1) and up, which rises from clip to clip: 12 clips each; s3 is held out. */
static int pitch_of(int i) { return 100 * (i / 2 % 4 + 1) + i / 8; }

static const char *level_of(int place, int count) {
    return place * 3 < count ? "low" : place * 3 < 2 * count ? "normal" : "high";
}

/* Explanations of every second clip, from levels of pitch among the speaker's own. */
static void write_shards(const char *folder) {
    Error err = {0};
    Text lines = {0};
    char *path = text_format(&err, "%s/corpus/own.jsonl", folder), *shards = text_format(&err, "%s/own", folder);
    for (int i = 0; i < CLIPS; i++) {
        text_addf(
            &lines,
            "{\"id\": \"clip%d\", \"corpus\": \"tiny\", \"audio\": \"%d.flac\", \"speaker\": \"s%d\", \"emotion\": "
            "\"%s\", \"features\": {\"f0_median_hz\": %d}",
            i, i, i / 2 % 4, i % 2 ? "happy" : "sad", pitch_of(i));
        if (i % 2)
            text_addf(
                &lines,
                ", \"explanation\": \"Own words.\", \"levels\": {\"pitch\": \"%s\", \"speed\": null, \"volume\": null}",
                level_of(i / 8, CLIPS / 8));
        text_add_string(&lines, "}\n");
    }
    Manifest manifest;
    ShardOptions options = shard_options_default();
    assert_ok(file_write(path, lines.data, lines.length, &err) && manifest_read(&manifest, path, &err) &&
                  shards_write(&manifest, shards, &options, &err),
              &err);
    manifest_free(&manifest);
    text_free(&lines);
    free(path);
    free(shards);
}

static int setup(void **state) {
    (void)state;
    char *folder = test_folder();
    int kept = quiet_begin();
    tiny_make(folder, CLIPS);
    write_shards(folder);
    quiet_end(kept);
    free(folder);
    return 0;
}

typedef struct Sets {
    char *shards, *output, *relative;
    const char *items[4];
    Texts texts;
} Sets;

static void sets_make(Sets *sets, const char *relative) {
    char *shards = test_path("own"), *output = test_path(relative);
    sets->shards = text_format(NULL, "data.shards=%s", shards);
    sets->output = text_format(NULL, "output=%s", output);
    sets->relative = text_format(NULL, "prompt.relative=%s", relative);
    sets->items[0] = sets->shards;
    sets->items[1] = sets->output;
    sets->items[2] = sets->relative;
    sets->items[3] = "prompt.response=[emotion, pitch, explanation]";
    sets->texts = (Texts){sets->items, 4};
    free(shards);
    free(output);
}

static void sets_free(Sets *sets) {
    free(sets->shards);
    free(sets->output);
    free(sets->relative);
}

static const char *pitch_word(const Run *run, size_t i) {
    Levels levels = run_levels(run, shards_utterance(run->shards, i));
    return level_word(CUE_PITCH, levels.level[CUE_PITCH], 3);
}

static int place_of(const Run *run, size_t i) { return atoi(shards_utterance(run->shards, i)->id + 4); }

/* Also the held-out speaker's levels are among its own. Both are as they were when the run's folder is opened again. */
static void levels_are_relative(void **state) {
    (void)state;
    Error err = {0};
    char *config = test_path("config.yaml");
    for (int speaker = 0; speaker < 2; speaker++) {
        Sets sets;
        sets_make(&sets, speaker ? "speaker" : "corpus");
        RunOptions options = {.overrides = &sets.texts, .data = true};
        Run *run = run_open(config, &options, &err);
        assert_ok(run, &err);
        assert_ok(run_save_setup(run, &err), &err);
        Run *again = run_open(run->folder, &(RunOptions){.data = true}, &err);
        assert_ok(again, &err);
        for (size_t i = 0; i < CLIPS; i++) {
            int clip = place_of(run, i);
            const char *word = pitch_word(run, i);
            if (speaker) assert_string_equal(word, level_of(clip / 8, CLIPS / 8));
            if (!speaker && clip / 2 % 4 == 0) assert_string_not_equal(word, "high");
            if (!speaker && clip / 2 % 4 >= 2) assert_string_equal(word, "high");
            assert_string_equal(word, pitch_word(again, i));
        }
        run_close(run);
        run_close(again);
        sets_free(&sets);
    }
    free(config);
}

static char *dry_run_report(const char *relative) {
    Error err = {0};
    Sets sets;
    sets_make(&sets, relative);
    char *config = test_path("config.yaml"), *report = test_path("report");
    int quiet = quiet_begin(), kept = dup(STDOUT_FILENO);
    fflush(stdout);
    assert_non_null(freopen(report, "w", stdout));
    bool ok = train(config, &sets.texts, &(TrainOptions){.dry_run = true, .dump_steps = 1}, &err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    quiet_end(quiet);
    assert_ok(ok, &err);
    char *text = file_read(report, 1 << 22, NULL, &err);
    sets_free(&sets);
    free(config);
    free(report);
    return text;
}

/* Of 24 training clips (s0 and s1) half have words of their own, from levels among the speaker's own: those stay where
 * the run's levels are these, and are counted where they are replaced. The other half have none to replace. */
static void other_levels_are_counted(void **state) {
    (void)state;
    char *own = dry_run_report("speaker"), *all = dry_run_report("corpus");
    assert_non_null(strstr(own, "4 speakers' own"));
    assert_null(strstr(all, "speakers' own"));
    assert_non_null(strstr(own, "12 of 24 explanations were written from other levels"));
    assert_non_null(strstr(all, "20 of 24 explanations were written from other levels"));
    free(own);
    free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_relative),
        cmocka_unit_test(other_levels_are_counted),
    };
    return cmocka_run_group_tests_name("levels of a run", tests, setup, test_cleanup);
}
