#include "data/annotate.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/gender.h"
#include "data/levels.h"
#include "data/response.h"

enum { JOBS_MOST = 256 };

/* What the threads that measure share. */
typedef struct Work {
    Manifest *manifest;
    const AnnotateOptions *options;
    AnnotateJournal *journal;
    bool *measured, *bad;
    pthread_mutex_t lock; /* over all that follows, the journal and stderr */
    size_t next, done, bad_count;
    Progress progress;
    Error failure;
} Work;

/* --- measuring --- */

/* Six decimals: finer than any of them is known, and as a manifest writes them. */
static void round_features(Features *features) {
    for (int i = 0; i < FEATURE_COUNT; i++) features->value[i] = round(features->value[i] * 1e6) / 1e6;
}

/* A gender is estimated from it. */
static bool needs_quality(const AnnotateOptions *options, const Utterance *utterance) {
    return options->voice_quality || (!options->keep_gender && !gender_given(utterance));
}

/* Whether features that were measured before are all that are wanted now. */
static bool enough(const AnnotateOptions *options, const Utterance *utterance) {
    return utterance->features.voice_quality || !needs_quality(options, utterance);
}

static bool measure(const Work *work, Utterance *utterance, Error *err) {
    FeatureOptions options = feature_options_default();
    options.voice_quality = needs_quality(work->options, utterance);
    if (gender_given(utterance) && strcmp(utterance->gender, "male") == 0)
        options.formant_ceiling_hz = FORMANT_CEILING_MALE_HZ;
    Audio audio = {0};
    char *path = manifest_audio(work->manifest, utterance, err);
    bool done = path && audio_read(&audio, path, utterance->start, utterance->end, 0, err) &&
                features_measure(&audio, &options, &utterance->features, NULL, err);
    if (done) {
        round_features(&utterance->features);
        utterance->has_features = true;
    }
    audio_free(&audio);
    free(path);
    return done || fail_in(err, "utterance \"%.200s\"", utterance->id);
}

static bool take_next(Work *work, size_t *index) {
    pthread_mutex_lock(&work->lock);
    while (work->next < work->manifest->count && work->measured[work->next]) work->next++;
    bool stopped = work->options->stop && atomic_load(work->options->stop);
    bool more = work->next < work->manifest->count && work->failure.exit_code == EXIT_DONE && !stopped;
    if (stopped) fail(&work->failure, "stopped while measuring; the same command goes on from there");
    *index = work->next;
    work->next += more;
    pthread_mutex_unlock(&work->lock);
    return more;
}

static void report(Work *work, size_t index, bool done, const Error *why) {
    pthread_mutex_lock(&work->lock);
    if (done) {
        work->measured[index] = annotate_journal_add(work->journal, &work->manifest->items[index], &work->failure);
    } else if (work->options->skip_bad) {
        work->bad[index] = true;
        work->bad_count++;
        fprintf(stderr, "%sleft out: %s\n", work->progress.terminal ? "\r\033[K" : "", why->text);
    } else {
        fail(&work->failure, "%s (--skip-bad leaves such recordings out)", why->text);
    }
    progress_update(&work->progress, (int64_t)++work->done, NULL);
    pthread_mutex_unlock(&work->lock);
}

static void *run_worker(void *argument) {
    Work *work = argument;
    size_t index;
    while (take_next(work, &index)) {
        Error why = {0};
        bool done = measure(work, &work->manifest->items[index], &why);
        report(work, index, done, &why);
    }
    return NULL;
}

static int job_count(const AnnotateOptions *options) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int jobs = options->jobs ? options->jobs : (int)(cores < 1 ? 1 : cores);
    return jobs < JOBS_MOST ? jobs : JOBS_MOST;
}

static bool run_workers(Work *work) {
    pthread_t threads[JOBS_MOST];
    int started = 0, wanted = job_count(work->options);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, run_worker, work) == 0) started++;
    run_worker(work); /* this thread works too, so that without any other it still gets done */
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return work->failure.exit_code == EXIT_DONE;
}

/* Whether a manifest's line has every feature that is wanted; a gender estimated before needs no new estimate. */
static bool comes_measured(const AnnotateOptions *options, const Utterance *utterance) {
    const json_t *features = json_object_get(utterance->json, "features");
    for (int i = 0; i < FEATURE_JITTER; i++)
        if (!json_object_get(features, FEATURE_NAMES[i])) return false;
    bool estimated = utterance->gender && !options->voice_quality;
    return utterance->has_features && (estimated || enough(options, utterance));
}

static size_t keep_measured(Work *work) {
    size_t kept = 0;
    for (size_t i = 0; i < work->manifest->count && !work->options->remeasure; i++)
        kept += work->measured[i] = comes_measured(work->options, &work->manifest->items[i]);
    if (kept)
        fprintf(stderr, "%zu of %zu utterances come with their features (--remeasure measures them anew)\n", kept,
                work->manifest->count);
    return kept;
}

/* What a call that wanted fewer features noted is to be measured again; gives how many. */
static size_t drop_lesser(Work *work) {
    size_t dropped = 0;
    for (size_t i = 0; i < work->manifest->count; i++) {
        const Utterance *utterance = &work->manifest->items[i];
        if (!work->measured[i] || enough(work->options, utterance) || comes_measured(work->options, utterance))
            continue;
        work->measured[i] = false;
        dropped++;
    }
    return dropped;
}

static bool measure_all(Work *work, Error *err) {
    size_t kept = keep_measured(work);
    if (kept == work->manifest->count) return true;
    AnnotateJournal journal;
    if (!annotate_journal_open(&journal, work->manifest, work->measured, work->options->output, err)) return false;
    journal.resumed -= drop_lesser(work);
    work->journal = &journal;
    work->done = kept + journal.resumed;
    if (journal.resumed)
        fprintf(stderr, "going on with %zu of %zu utterances measured\n", journal.resumed, work->manifest->count);
    pthread_mutex_init(&work->lock, NULL);
    progress_begin(&work->progress, "features", "utterances", (int64_t)work->done, (int64_t)work->manifest->count);
    bool done = run_workers(work);
    progress_end(&work->progress);
    pthread_mutex_destroy(&work->lock);
    annotate_journal_close(&journal);
    return done || fail(err, "%s", work->failure.text);
}

/* --- what is found from the measures of all --- */

static void drop_bad(Work *work) {
    Manifest *manifest = work->manifest;
    size_t kept = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        if (work->bad[i]) {
            utterance_free(&manifest->items[i]);
        } else {
            manifest->items[kept++] = manifest->items[i];
        }
    }
    manifest->count = kept;
    if (work->bad_count) fprintf(stderr, "%zu unreadable recordings were left out\n", work->bad_count);
}

/* Forgets what was measured for an estimate alone. */
static bool find_genders(Manifest *manifest, const AnnotateOptions *options, Error *err) {
    if (!options->keep_gender && !gender_estimate(manifest, err)) return false;
    for (size_t i = 0; i < manifest->count && !options->voice_quality; i++)
        manifest->items[i].features.voice_quality = false;
    return true;
}

static bool replace_text(char **place, char *text) {
    if (!text) return false;
    free(*place);
    *place = text;
    return true;
}

/* By the template. */
static bool explain(Utterance *utterance, const Levels *levels, const AnnotateOptions *options, Error *err) {
    if (!replace_text(&utterance->explanation,
                      explanation_write(utterance, levels, options->levels, options->seed, err)) ||
        !replace_text(&utterance->teacher,
                      text_format(err, "template-1 seed %llu", (unsigned long long)options->seed)) ||
        !utterance_sync(utterance, err))
        return false;
    json_object_del(utterance->json, "set_aside"); /* an earlier teacher's */
    json_t *words = levels_json(levels, options->levels, err);
    return words && (json_object_set_new(utterance->json, "levels", words) == 0 ||
                     fail(err, "out of memory while writing the levels of \"%s\"", utterance->id));
}

static bool explain_each(Manifest *manifest, const CutPoints *cuts, Levels *levels, const AnnotateOptions *options,
                         Error *err) {
    bool done = true;
    for (size_t i = 0; i < manifest->count && done; i++) {
        levels[i] = cut_points_apply(cuts, &manifest->items[i]);
        done = explain(&manifest->items[i], &levels[i], options, err);
    }
    TeachJob job = {manifest, levels, options->levels, options->seed, options->stop};
    return done && (!options->teach || teach(&job, options->teach, err));
}

static bool explain_all(Manifest *manifest, const AnnotateOptions *options, Error *err) {
    const Utterance **utterances = memory_new(manifest->count, sizeof *utterances, err);
    Levels *levels = memory_new(manifest->count, sizeof *levels, err);
    for (size_t i = 0; utterances && i < manifest->count; i++) utterances[i] = &manifest->items[i];
    CutPoints *cuts = utterances && levels ? cut_points_fit(utterances, manifest->count, options->levels, err) : NULL;
    bool done = cuts && (options->relative == RELATIVE_CORPUS ||
                         cut_points_fit_speakers(cuts, utterances, manifest->count, err));
    if (done) cut_points_print(cuts, stderr);
    done = done && explain_each(manifest, cuts, levels, options, err);
    cut_points_free(cuts);
    free(levels);
    free(utterances);
    return done;
}

/* Paths are relative to a manifest's folder: in another folder they read otherwise. */
static bool move_paths(const Manifest *manifest, const char *folder, Error *err) {
    char *from = realpath(manifest->folder, NULL), *to = realpath(folder, NULL);
    bool same = from && to && strcmp(from, to) == 0, done = true;
    free(from);
    free(to);
    for (size_t i = 0; i < manifest->count && done && !same; i++) {
        Utterance *utterance = &manifest->items[i];
        if (utterance->audio[0] == '/') continue;
        char *path = manifest_audio(manifest, utterance, err);
        done = path && replace_text(&utterance->audio, audio_relative(path, folder, err));
        free(path);
    }
    return done;
}

static bool write_output(const Manifest *manifest, const AnnotateOptions *options, Error *err) {
    char *journal = text_format(err, "%s.partial", options->output);
    bool done = journal && manifest_write(manifest, options->output, err);
    if (done) unlink(journal);
    free(journal);
    return done;
}

static bool annotate_manifest(Manifest *manifest, const AnnotateOptions *options, Error *err) {
    Work work = {.manifest = manifest,
                 .options = options,
                 .measured = memory_new(manifest->count, sizeof(bool), err),
                 .bad = memory_new(manifest->count, sizeof(bool), err)};
    char *folder = path_folder(options->output, err);
    bool done = work.measured && work.bad && folder && folder_make(folder, err) && measure_all(&work, err);
    if (done) drop_bad(&work);
    if (done && manifest->count == 0) done = fail(err, "%s: no recording could be read", manifest->path);
    done = done && move_paths(manifest, folder, err) && find_genders(manifest, options, err) &&
           explain_all(manifest, options, err);
    bool dry_run = options->teach && options->teach->dry_run;
    if (done && !dry_run) done = write_output(manifest, options, err);
    free(work.measured);
    free(work.bad);
    free(folder);
    return done;
}

bool annotate(const char *path, const AnnotateOptions *options, Error *err) {
    Manifest manifest;
    if (!manifest_read(&manifest, path, err)) return false;
    bool done = annotate_manifest(&manifest, options, err);
    manifest_free(&manifest);
    return done;
}
