/* The corpus: workers make clips, a journal remembers those that are done, the manifest lists all. */
#include "data/synth.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/data.h"

enum { JOURNAL_MAX = 1 << 28, JOBS_MAX = 256, JOURNAL_VERSION = 1 };

/* Clips by one set of voices, numbered from `first`. */
typedef struct Section {
    const char *group;
    int64_t first, count;
    Voices voices;
    ClipPlan *plans;
} Section;

enum { SECTIONS = 2 };

typedef struct Corpus {
    const SynthOptions *options;
    Section sections[SECTIONS];
    int64_t clips;
    json_t **lines; /* [clips] the manifest's, null until made */
    FILE *journal;
    pthread_mutex_t lock;
    Progress progress;
    int64_t next, done; /* under the lock, as is all below */
    bool failed;
    Error err;
} Corpus;

/* ---- the journal: its first line says what is made, then one line a clip ---- */

static json_t *journal_head(const SynthOptions *options) {
    return json_pack("{s:i, s:I, s:I, s:s, s:I}", "synth", JOURNAL_VERSION, "clips", (json_int_t)options->clips,
                     "test_clips", (json_int_t)options->test_clips, "test_voices",
                     VOICE_SET_NAMES[options->test_voices], "seed", (json_int_t)options->seed);
}

static bool check_head(const char *line, size_t size, const SynthOptions *options, const char *path, Error *err) {
    json_t *found = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL), *wanted = journal_head(options);
    bool same = found && wanted && json_equal(found, wanted);
    json_decref(found);
    json_decref(wanted);
    if (same) return true;
    return fail(err, "%s: another corpus was begun here, with other options; choose an empty folder", path);
}

static bool has_audio(const Corpus *corpus, const json_t *line) {
    const char *audio = json_string_value(json_object_get(line, "audio"));
    char *path = audio ? path_join(corpus->options->folder, audio, NULL) : NULL;
    bool there = path && file_exists(path);
    free(path);
    return there;
}

/* A line cut off by a kill, or of a clip whose audio is gone, is made again. */
static void take_line(Corpus *corpus, const char *text, size_t size) {
    json_t *line = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    json_t *clip = json_object_get(line, "clip");
    int64_t number = json_is_integer(clip) ? json_integer_value(clip) : -1;
    if (number < 0 || number >= corpus->clips || corpus->lines[number] || !has_audio(corpus, line)) {
        json_decref(line);
        return;
    }
    corpus->lines[number] = line;
    corpus->done++;
}

static bool journal_read(Corpus *corpus, const char *path, Error *err) {
    size_t size = 0;
    char *text = file_read(path, JOURNAL_MAX, &size, err);
    if (!text) return false;
    bool ok = true, head = true;
    for (char *at = text; ok && at < text + size;) {
        char *end = memchr(at, '\n', (size_t)(text + size - at));
        size_t length = end ? (size_t)(end - at) : (size_t)(text + size - at);
        if (head)
            ok = check_head(at, length, corpus->options, path, err);
        else
            take_line(corpus, at, length);
        head = false;
        at += length + 1;
    }
    free(text);
    return ok;
}

/* The journal is written anew from what was taken over: what a kill left half-written goes. */
static bool journal_write(Corpus *corpus, const char *path, Error *err) {
    AtomicFile file = {0};
    json_t *head = journal_head(corpus->options);
    bool ok = head && atomic_open(&file, path, err);
    if (ok) {
        json_dumpf(head, file.stream, JSON_COMPACT);
        fputc('\n', file.stream);
        for (int64_t i = 0; i < corpus->clips; i++) {
            if (!corpus->lines[i]) continue;
            json_dumpf(corpus->lines[i], file.stream, JSON_COMPACT);
            fputc('\n', file.stream);
        }
        ok = atomic_commit(&file, err);
    }
    atomic_discard(&file);
    json_decref(head);
    return ok;
}

static bool journal_open(Corpus *corpus, Error *err) {
    char *path = path_join(corpus->options->folder, "journal.jsonl", err);
    bool ok = path && (!file_exists(path) || journal_read(corpus, path, err)) && journal_write(corpus, path, err);
    if (ok) {
        corpus->journal = fopen(path, "ae");
        if (!corpus->journal) ok = fail(err, "%s: cannot be opened: %s", path, strerror(errno));
    }
    free(path);
    return ok;
}

static bool journal_add(Corpus *corpus, const json_t *line, Error *err) {
    bool ok = json_dumpf(line, corpus->journal, JSON_COMPACT) == 0 && fputc('\n', corpus->journal) != EOF;
    if (!ok || fflush(corpus->journal) != 0)
        return fail(err, "%s/journal.jsonl: cannot be written: %s", corpus->options->folder, strerror(errno));
    return true;
}

/* ---- one clip ---- */

static json_t *line_of(const Section *section, int64_t number, const Clip *clip, const char *id, const char *audio,
                       Error *err) {
    const ClipPlan *plan = &section->plans[number - section->first];
    json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s}", "id", id, "corpus", "synth", "audio",
                             audio, "speaker", clip->voice, "gender", plan->female ? "female" : "male", "emotion",
                             SYNTH_EMOTION_NAMES[plan->emotion], "transcript", clip->text, "group", section->group,
                             "clip", (json_int_t)number, "accent", clip->accent);
    for (int cue = 0; line && cue < CUE_COUNT; cue++) {
        char key[32];
        snprintf(key, sizeof key, "wanted_%s", CUE_NAMES[cue]);
        if (json_object_set_new(line, key, json_string(level_word((Cue)cue, plan->level[cue], 3))) == 0) continue;
        json_decref(line);
        line = NULL;
    }
    if (!line) fail(err, "out of memory for clip %s", id);
    return line;
}

static bool write_audio(const Corpus *corpus, const Clip *clip, const char *audio, Error *err) {
    unsigned char *bytes = NULL;
    size_t size = 0;
    char *path = path_join(corpus->options->folder, audio, err);
    bool ok = path && audio_encode(&clip->audio, AUDIO_FLAC, &bytes, &size, err) && file_write(path, bytes, size, err);
    free(bytes);
    free(path);
    return ok;
}

static bool make_clip(const Corpus *corpus, int64_t number, json_t **line, Error *err) {
    const Section *section = &corpus->sections[number >= corpus->sections[1].first];
    const ClipPlan *plan = &section->plans[number - section->first];
    Clip clip;
    if (!synth_clip(&section->voices, plan, corpus->options->seed, (uint32_t)number, &clip, err)) return false;
    char *id = text_format(err, "synth-%06" PRId64, number);
    char *audio = id ? text_format(err, "audio/%s.flac", id) : NULL;
    bool ok = audio && write_audio(corpus, &clip, audio, err);
    *line = ok ? line_of(section, number, &clip, id, audio, err) : NULL;
    free(id);
    free(audio);
    synth_clip_free(&clip);
    return *line != NULL;
}

/* ---- workers ---- */

/* The next clip to make; -1 where there is none. Called under the lock. */
static int64_t take_next(Corpus *corpus) {
    while (corpus->next < corpus->clips && corpus->lines[corpus->next]) corpus->next++;
    return corpus->failed || corpus->next >= corpus->clips ? -1 : corpus->next++;
}

static void *work(void *argument) {
    Corpus *corpus = argument;
    pthread_mutex_lock(&corpus->lock);
    for (int64_t number; (number = take_next(corpus)) >= 0;) {
        pthread_mutex_unlock(&corpus->lock);
        json_t *line = NULL;
        Error err = {0};
        bool ok = make_clip(corpus, number, &line, &err);
        pthread_mutex_lock(&corpus->lock);
        ok = ok && journal_add(corpus, line, &err);
        if (!ok && !corpus->failed) corpus->err = err;
        corpus->failed |= !ok;
        corpus->lines[number] = line;
        progress_update(&corpus->progress, ++corpus->done, NULL);
    }
    pthread_mutex_unlock(&corpus->lock);
    return NULL;
}

typedef struct Calibration {
    Voices *voices;
    bool *wanted; /* [voices->count] */
    pthread_mutex_t lock;
    int next;
    bool failed;
    Error err;
} Calibration;

/* The next voice to measure; null where there is none. Called under the lock. */
static Voice *next_voice(Calibration *calibration) {
    int count = calibration->voices->count;
    while (calibration->next < count && !calibration->wanted[calibration->next]) calibration->next++;
    return calibration->failed || calibration->next >= count ? NULL : &calibration->voices->items[calibration->next++];
}

static void *calibrate(void *argument) {
    Calibration *calibration = argument;
    pthread_mutex_lock(&calibration->lock);
    for (Voice *voice; (voice = next_voice(calibration));) {
        pthread_mutex_unlock(&calibration->lock);
        Error err = {0};
        bool ok = synth_calibrate(voice, calibration->voices->data, &err);
        pthread_mutex_lock(&calibration->lock);
        if (!ok && !calibration->failed) calibration->err = err;
        calibration->failed |= !ok;
    }
    pthread_mutex_unlock(&calibration->lock);
    return NULL;
}

/* Runs `function` in as many threads as wanted, this one among them. */
static void run_jobs(void *(*function)(void *), void *argument, int jobs) {
    pthread_t threads[JOBS_MAX];
    int started = 0;
    while (started < jobs - 1 && pthread_create(&threads[started], NULL, function, argument) == 0) started++;
    function(argument);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

static int jobs_of(const SynthOptions *options) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int jobs = options->jobs > 0 ? options->jobs : cores > 0 ? (int)cores : 1;
    return jobs < JOBS_MAX ? jobs : JOBS_MAX;
}

/* Measures the voices of the clips that are yet to be made. */
static bool calibrate_section(Corpus *corpus, Section *section, int jobs, Error *err) {
    Calibration calibration = {.voices = &section->voices};
    calibration.wanted = memory_new((size_t)section->voices.count, sizeof *calibration.wanted, err);
    if (!calibration.wanted) return false;
    for (int64_t i = 0; i < section->count; i++)
        if (!corpus->lines[section->first + i]) calibration.wanted[section->plans[i].voice] = true;
    pthread_mutex_init(&calibration.lock, NULL);
    run_jobs(calibrate, &calibration, jobs);
    pthread_mutex_destroy(&calibration.lock);
    free(calibration.wanted);
    return calibration.failed ? fail(err, "%s", calibration.err.text) : true;
}

/* ---- outside ---- */

static bool manifest_of(const Corpus *corpus, Error *err) {
    char *path = path_join(corpus->options->folder, "manifest.jsonl", err);
    AtomicFile file = {0};
    bool ok = path && atomic_open(&file, path, err);
    for (int64_t i = 0; ok && i < corpus->clips; i++) {
        json_object_del(corpus->lines[i], "clip");
        json_dumpf(corpus->lines[i], file.stream, 0);
        fputc('\n', file.stream);
    }
    ok = ok && atomic_commit(&file, err);
    atomic_discard(&file);
    free(path);
    return ok;
}

static bool make_folders(const SynthOptions *options, Error *err) {
    char *audio = path_join(options->folder, "audio", err);
    bool ok = audio && folder_make(audio, err);
    free(audio);
    return ok;
}

static bool make_clips(Corpus *corpus, int jobs, Error *err) {
    if (corpus->done == corpus->clips) return true;
    for (int i = 0; i < SECTIONS; i++)
        if (!calibrate_section(corpus, &corpus->sections[i], jobs, err)) return false;
    progress_begin(&corpus->progress, "synth", "clips", corpus->done, corpus->clips);
    run_jobs(work, corpus, jobs);
    progress_end(&corpus->progress);
    return corpus->failed ? fail(err, "%s", corpus->err.text) : true;
}

/* The sections' plans are drawn from seeds of their own. */
static bool section_open(Section *section, VoiceSet set, const SynthOptions *options, Error *err) {
    if (section->count == 0) return true;
    if (!voices_open(&section->voices, set, options->folder, err)) return false;
    section->plans = synth_plan(&section->voices, section->count, options->seed + ((uint64_t)set << 32), err);
    return section->plans != NULL;
}

static bool corpus_open(Corpus *corpus, const SynthOptions *options, Error *err) {
    *corpus = (Corpus){.options = options, .clips = options->clips + options->test_clips};
    corpus->sections[0] = (Section){.group = "train", .count = options->clips};
    corpus->sections[1] = (Section){.group = "test", .first = options->clips, .count = options->test_clips};
    pthread_mutex_init(&corpus->lock, NULL);
    corpus->lines = memory_new((size_t)corpus->clips, sizeof *corpus->lines, err);
    return corpus->lines && make_folders(options, err) &&
           section_open(&corpus->sections[0], VOICES_TRAIN, options, err) &&
           section_open(&corpus->sections[1], options->test_voices, options, err);
}

static void corpus_close(Corpus *corpus) {
    if (corpus->journal) fclose(corpus->journal);
    for (int64_t i = 0; corpus->lines && i < corpus->clips; i++) json_decref(corpus->lines[i]);
    free(corpus->lines);
    for (int i = 0; i < SECTIONS; i++) {
        free(corpus->sections[i].plans);
        voices_close(&corpus->sections[i].voices);
    }
    pthread_mutex_destroy(&corpus->lock);
}

bool synth_corpus(const SynthOptions *options, Error *err) {
    Corpus corpus;
    bool ok = corpus_open(&corpus, options, err) && journal_open(&corpus, err) &&
              make_clips(&corpus, jobs_of(options), err) && manifest_of(&corpus, err);
    corpus_close(&corpus);
    return ok;
}
