/* Whole training runs of a tiny random model: what stops them, what they leave, what they refuse. */
#include "tests/train/tiny.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/quiet.h"
#include "tests/shard_server.h"
#include "train/checkpoint.h"
#include "train/loop.h"
#include "train/memory.h"

enum { CLIPS = 24, SETS_MAX = 16 };

static int setup(void **state) {
    (void)state;
    char *folder = test_folder();
    tiny_make(folder, CLIPS);
    free(folder);
    return 0;
}

/* Trains into `output` below the scratch folder, with more --set values, ended by null. */
static bool train_with(const char *output, const TrainOptions *options, Error *err, const char *const *sets) {
    Error own = {0};
    char *config = test_path("config.yaml"), *folder = test_path(output);
    char *set = text_format(&own, "output=%s", folder);
    const char *items[SETS_MAX] = {set};
    Texts overrides = {.items = items, .count = 1};
    while (*sets) items[overrides.count++] = *sets++;
    int kept = quiet_begin();
    bool ok = train(config, &overrides, options, err);
    quiet_end(kept);
    free(config);
    free(folder);
    free(set);
    return ok;
}

#define SETS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_DROPOUT "model.adapter.dropout=0", "model.adapter.noise=0", "model.lora.dropout=0"
static const TrainOptions PLAIN = {.dump_steps = 1};
static const TrainOptions RESUME = {.resume = true, .dump_steps = 1};

/* The losses of a run's log; returns how many. */
static int read_losses(const char *output, double *losses, int most) {
    Error err = {0};
    char *name = text_format(&err, "%s/log.jsonl", output), *path = test_path(name);
    char *text = file_read(path, 1 << 24, NULL, &err), *save = NULL;
    assert_ok(text != NULL, &err);
    int count = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *json = json_read_text(line, strlen(line), path, &err);
        assert_ok(json != NULL, &err);
        json_t *loss = json_object_get(json, "loss");
        if (loss && count < most) losses[count++] = json_is_null(loss) ? NAN : json_number_value(loss);
        json_decref(json);
    }
    free(text);
    free(path);
    free(name);
    return count;
}

static void assert_close(const char *a, const char *b, double limit) {
    double x[64], y[64];
    int count = read_losses(a, x, 64);
    assert_true(count > 3);
    assert_int_equal(count, read_losses(b, y, 64));
    for (int i = 0; i < count; i++)
        if (!(fabs(x[i] - y[i]) <= limit * fabs(x[i]))) fail_msg("step %d: %s %.9g, %s %.9g", i + 1, a, x[i], b, y[i]);
}

static bool has(const char *name) {
    char *path = test_path(name);
    bool found = file_exists(path) || folder_exists(path);
    free(path);
    return found;
}

/* ---- the same run by other ways ---- */

static void test_cache_changes_nothing(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(train_with("cached", &PLAIN, &err, SETS("train.encoder_cache=memory")), &err);
    assert_ok(train_with("plain", &PLAIN, &err, SETS("train.threads=3")), &err);
    assert_close("cached", "plain", 1e-5);
    assert_ok(train_with("cached5", &PLAIN, &err, SETS("train.encoder_cache=memory", "model.layers=weighted")), &err);
    assert_ok(train_with("plain5", &PLAIN, &err, SETS("model.layers=weighted")), &err);
    assert_close("cached5", "plain5", 1e-5);
}

/* The loss is divided by the step's response tokens, however it is cut into micro-batches. */
static void test_accumulation(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(train_with("one", &PLAIN, &err, SETS("train.batch_clips=4", "train.accumulate=1")), &err);
    assert_ok(train_with("two", &PLAIN, &err, SETS("train.batch_clips=2", "train.accumulate=2")), &err);
    assert_ok(
        train_with("budget", &PLAIN, &err, SETS("train.batch_clips=4", "train.accumulate=1", "train.batch_tokens=130")),
        &err);
    assert_close("one", "two", 1e-5);
    assert_close("one", "budget", 1e-5);
}

static void test_description(void **state) {
    (void)state;
    Error err = {0};
    double losses[64];
    assert_ok(train_with("described", &PLAIN, &err, SETS("prompt.input=description", "prompt.response=[emotion]")),
              &err);
    int count = read_losses("described", losses, 64);
    assert_true(count > 3 && losses[count - 1] < losses[0]);
}

static void test_loss_falls(void **state) {
    (void)state;
    Error err = {0};
    double losses[64];
    assert_ok(
        train_with("falls", &PLAIN, &err,
                   SETS("train.epochs=0", "train.steps=60", "data.sampling=balanced", "train.encoder_cache=memory")),
        &err);
    assert_int_equal(read_losses("falls", losses, 64), 60);
    assert_true(losses[59] < 0.6 * losses[0]);
    assert_true(has("falls/best/adapter_model.safetensors"));
    assert_true(has("falls/config.yaml") && has("falls/setup.json") && has("falls/events.out.tfevents.0.semollm"));
}

static void test_keep(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(train_with("keep", &PLAIN, &err,
                         SETS("train.epochs=0", "train.steps=12", "train.checkpoint_every=2", "train.keep=3",
                              "train.validate_every=0")),
              &err);
    assert_true(has("keep/checkpoints/step-12") && has("keep/checkpoints/step-10") && has("keep/checkpoints/step-8"));
    assert_false(has("keep/checkpoints/step-6"));
}

static void test_early_stop(void **state) {
    (void)state;
    Error err = {0};
    double losses[64];
    assert_ok(train_with("early", &PLAIN, &err,
                         SETS("train.epochs=0", "train.steps=60", "train.validate_every=1", "train.early_stop=3",
                              "train.lr=0", "train.schedule=constant")),
              &err);
    assert_int_equal(read_losses("early", losses, 64), 4); /* the first is the best; three are no better */
    Error again = {0};
    assert_ok(train_with("early", &RESUME, &again,
                         SETS("train.epochs=0", "train.steps=60", "train.validate_every=1", "train.early_stop=3",
                              "train.lr=0", "train.schedule=constant")),
              &again);
    assert_int_equal(read_losses("early", losses, 64), 4);
}

/* ---- what a run folder gives ---- */

static void assert_opens(const char *folder, const char *checkpoint, const char *loaded) {
    Error err = {0};
    RunOptions options = {.model = true, .data = true, .checkpoint = checkpoint};
    Run *run = run_open(folder, &options, &err);
    if (!loaded) {
        assert_null(run);
        assert_non_null(strstr(err.text, checkpoint));
        return;
    }
    assert_ok(run != NULL, &err);
    assert_true(loaded[0] ? run->checkpoint && strstr(run->checkpoint, loaded) : !run->checkpoint);
    assert_int_equal(run->class_count, 2);
    assert_string_equal(run->classes[0], "happy");
    assert_int_equal(run->test.count, CLIPS / 4);
    LoaderOptions loading = run_loader_options(run, &run->test);
    Loader *loader = loader_open(run->shards, &loading, &err);
    assert_ok(loader && loader_start(loader, run->test.items, run->test.count, &err), &err);
    Batch batch = {0};
    for (size_t i = 0; i < run->test.count; i++) {
        Sample sample;
        assert_ok(loader_next(loader, &sample, &err), &err);
        Clip clip = clip_of(run, &sample);
        assert_ok(batch_add(&batch, run, &clip, NULL, &err), &err);
        sample_free(&sample);
    }
    SpeechBatch view = batch_view(&batch);
    assert_int_equal(view.count, CLIPS / 4);
    assert_null(view.labels);
    assert_non_null(view.wave);
    assert_non_null(view.prosody);
    batch_free(&batch);
    loader_close(loader);
    run_close(run);
}

static void test_run_folder(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(train_with("opened", &PLAIN, &err,
                         SETS("train.epochs=0", "train.steps=6", "train.checkpoint_every=2", "train.keep=9")),
              &err);
    char *folder = test_path("opened"), *missing = test_path("nothing");
    assert_opens(folder, NULL, "best");
    assert_opens(folder, "best", "best");
    assert_opens(folder, "last", "step-6");
    assert_opens(folder, "step-4", "step-4");
    assert_opens(folder, "none", "");
    assert_opens(folder, "step-3", NULL);
    assert_opens(folder, "elsewhere", NULL);
    RunOptions options = {.model = false};
    Error no_run = {0}, no_file = {0};
    assert_ok(folder_make(missing, &err), &err);
    assert_null(run_open(missing, &options, &no_run));
    assert_non_null(strstr(no_run.text, "no run"));
    assert_null(run_open("/nonexistent", &options, &no_file));
    free(folder);
    free(missing);
}

/* ---- overlong clips ---- */

static void test_overlong(void **state) {
    (void)state;
    Error err = {0}, refused = {0};
    assert_ok(train_with("cut", &PLAIN, &err, SETS("data.max_seconds=0.4", "data.overlong=cut")), &err);
    assert_ok(train_with("split", &PLAIN, &err, SETS("data.max_seconds=0.3", "data.overlong=split")), &err);
    assert_ok(train_with("split_cached", &PLAIN, &err,
                         SETS("data.max_seconds=0.3", "data.overlong=split", "train.encoder_cache=memory")),
              &err);
    assert_close("split", "split_cached", 1e-5);
    double losses[64];
    int whole = read_losses("cut", losses, 64), pieces = read_losses("split", losses, 64);
    assert_true(pieces > whole); /* more examples in an epoch */
    assert_false(train_with("refuse", &PLAIN, &refused, SETS("data.max_seconds=0.4", "data.overlong=refuse")));
    assert_non_null(strstr(refused.text, "data.max_seconds"));
    assert_non_null(strstr(refused.text, "clip"));
}

/* ---- what is refused ---- */

static void test_refused(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"data.test={speakers: [nobody]}", "nobody"},
        {"data.validation={groups: [none]}", "none"},
        {"data.test={speakers: [s0, s1, s3]}", "no sample is left"},
        {"data.classes=[happy, sad, bored]", "bored"},
        {"data.classes=[nothing]", "no sample is left"},
        {"data.labels=[{from: sad, to: happy}, {from: happy, to: joy}]", ""},
        {"data.shards=/nonexistent", "/nonexistent"},
        {"model.encoder=/nonexistent", "/nonexistent"},
        {"model.llm=/nonexistent", "/nonexistent"},
        {"model.template=nonsense", "nonsense"},
        {"train.batch_tokens=20", "train.batch_tokens"},
        {"data.max_seconds=0.024", "max_seconds"},
        {"device.kind=tpu", "tpu"},
        {"output=/proc/none", "/proc/none"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Error err = {0};
        char *name = text_format(&err, "refused%zu", i), *log = text_format(&err, "%s/log.jsonl", name);
        bool ok = train_with(name, &PLAIN, &err, SETS(CASES[i][0]));
        bool may_train = !CASES[i][1][0];
        if (ok && !may_train) fail_msg("--set %s was accepted", CASES[i][0]);
        if (!ok && !strstr(err.text, CASES[i][1])) fail_msg("--set %s: %s", CASES[i][0], err.text);
        if (!ok) assert_false(has(log));
        free(name);
        free(log);
    }
}

/* ---- shards elsewhere ---- */

/* A straight run beside one that goes on, from a checkpoint in the middle, with the shards moved to a server that drops
 * connections: the same losses. */
static void test_shards_move_to_a_server(void **state) {
    (void)state;
    static Store store = {.faults = 1u << FAULT_DROP, .period = 2, .lock = PTHREAD_MUTEX_INITIALIZER};
    static Server server;
    Error err = {0};
    char *shards = test_path("shards"), *cache = test_path("cache");
    snprintf(store.folder, sizeof store.folder, "%s", shards);
    server_start(&server, store_answer, &store);
    char *place = text_format(&err, "data.shards=http://127.0.0.1:%d/a/b?key=secret", server.port);
    char *kept = text_format(&err, "data.cache=%s", cache);
    assert_ok(train_with("stayed", &PLAIN, &err, SETS("train.keep=9", "train.checkpoint_every=3")), &err);
    assert_ok(train_with("moved", &PLAIN, &err, SETS("train.keep=9", "train.checkpoint_every=3")), &err);
    char *middle = test_path("moved/checkpoints/step-3"), *checkpoints = test_path("moved/checkpoints");
    Names names;
    assert_ok(folder_list(checkpoints, &names, &err), &err);
    assert_true(names.count > 1 && folder_exists(middle));
    for (size_t i = 0; i < names.count; i++) {
        char *path = path_join(checkpoints, names.items[i], &err);
        if (strcmp(path, middle) != 0) assert_ok(folder_remove(path, &err), &err);
        free(path);
    }
    assert_ok(train_with("moved", &RESUME, &err, SETS("train.keep=9", "train.checkpoint_every=3", place, kept)), &err);
    assert_true(atomic_load(&store.hits[FAULT_DROP]) > 0);
    assert_close("stayed", "moved", 0);
    server_end(&server);
    names_free(&names);
    free(checkpoints);
    free(middle);
    free(place);
    free(kept);
    free(shards);
    free(cache);
}

/* The same clips in shards of another size are other shards: what comes next would not be what was next. */
static void test_other_shards(void **state) {
    (void)state;
    Error err = {0}, refused = {0};
    Manifest manifest;
    ShardOptions options = shard_options_default();
    char *path = test_path("corpus/m.jsonl"), *other = test_path("other"), *set;
    options.shard_bytes = 20000;
    assert_ok(manifest_read(&manifest, path, &err), &err);
    int kept = quiet_begin();
    assert_ok(shards_write(&manifest, other, &options, &err), &err);
    quiet_end(kept);
    set = text_format(&err, "data.shards=%s", other);
    const char *const steps[] = {"train.epochs=0", "train.steps=4", NULL};
    assert_ok(train_with("resharded", &PLAIN, &err, steps), &err);
    assert_false(train_with("resharded", &RESUME, &refused, SETS(steps[0], steps[1], set)));
    assert_non_null(strstr(refused.text, "other shards"));
    manifest_free(&manifest);
    free(set);
    free(other);
    free(path);
}

/* Four speakers in turn by pairs of clips; a group cuts through none of them, so make one that does. */
static void test_speaker_overlap(void **state) {
    (void)state;
    Error err = {0};
    char *manifest_path = test_path("corpus/m.jsonl"), *shards = test_path("overlap");
    Manifest manifest;
    assert_ok(manifest_read(&manifest, manifest_path, &err), &err);
    for (size_t i = 0; i < manifest.count; i++) {
        json_object_set_new(manifest.items[i].json, "group", json_string(i < 9 ? "held" : "rest"));
        manifest.items[i].group = text_copy(i < 9 ? "held" : "rest", &err);
    }
    ShardOptions options = shard_options_default();
    assert_ok(shards_write(&manifest, shards, &options, &err), &err);
    char *set = text_format(&err, "data.shards=%s", shards);
    const char *held = "data.test={groups: [held]}";
    assert_false(train_with("overlapping", &PLAIN, &err, SETS(set, held)));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    assert_non_null(strstr(err.text, "speaker \"s0\""));
    Error allowed = {0};
    assert_ok(train_with("allowed", &PLAIN, &allowed, SETS(set, held, "data.speaker_overlap=true")), &allowed);
    manifest_free(&manifest);
    free(manifest_path);
    free(shards);
    free(set);
}

/* ---- losses that are no numbers ---- */

static void test_nan_steps(void **state) {
    (void)state;
    Error err = {0};
    char *llm = test_path("overflowing"), *set = text_format(&err, "model.llm=%s", llm);
    tiny_llm(llm, 1e38);
    double losses[64];
    assert_false(train_with("nan", &PLAIN, &err, SETS(set)));
    assert_non_null(strstr(err.text, "3 steps in a row"));
    assert_int_equal(err.exit_code, EXIT_FAILED);
    assert_int_equal(read_losses("nan", losses, 64), 3);
    for (int i = 0; i < 3; i++) assert_true(isnan(losses[i]));
    assert_false(has("nan/best"));
    free(llm);
    free(set);
}

/* ---- damage ---- */

static void flip(const char *path, size_t at, unsigned char bit) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, (long)at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, (long)at, SEEK_SET);
    fputc(byte ^ bit, file);
    fclose(file);
}

static void test_damaged_checkpoint(void **state) {
    (void)state;
    static const char *const FILES[] = {"adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors",
                                        "speech_adapter.safetensors", "state.json"};
    Error err = {0};
    const char *const *sets = SETS("train.epochs=0", "train.steps=4", "train.validate_every=0");
    assert_ok(train_with("damaged", &PLAIN, &err, sets), &err);
    char *folder = test_path("damaged/checkpoints/step-4");
    Rng rng = rng_stream(3, 96, 0, 0);
    for (size_t f = 0; f < sizeof FILES / sizeof *FILES; f++) {
        char *path = path_join(folder, FILES[f], &err);
        size_t size;
        char *whole = file_read(path, 1 << 24, &size, &err);
        for (int i = 0; i < 14; i++) {
            Error found = {0}, resumed = {0};
            size_t at = rng_below(&rng, (uint32_t)size);
            unsigned char bit = (unsigned char)(1u << rng_below(&rng, 8));
            if (strchr(" \n", whole[at]) && f == 4) continue; /* the state's blanks say nothing */
            if (i < 12)
                flip(path, at, bit);
            else if (truncate(path, (off_t)(i == 12 ? at : 0)) != 0)
                fail_msg("truncate");
            if (checkpoint_verify(folder, &found)) fail_msg("%s: bit %d of byte %zu changed, unseen", path, bit, at);
            assert_non_null(strstr(found.text, f == 4 ? folder : FILES[f]));
            if (i % 6 == 0) assert_false(train_with("damaged", &RESUME, &resumed, sets));
            assert_ok(file_write(path, whole, size, &err), &err);
        }
        if (unlink(path) != 0) fail_msg("unlink");
        Error missing = {0};
        assert_false(checkpoint_verify(folder, &missing));
        assert_ok(file_write(path, whole, size, &err), &err);
        free(whole);
        free(path);
    }
    assert_ok(checkpoint_verify(folder, &err), &err);
    free(folder);
}

/* No byte more may be written once a file holds `limit`: the checkpoint before stays, nothing is half there. */
static void test_full_disk(void **state) {
    (void)state;
    Error err = {0};
    const char *const *sets =
        SETS("train.epochs=0", "train.steps=9", "train.validate_every=0", "train.checkpoint_every=3", "train.keep=9");
    assert_ok(train_with("disk_whole", &PLAIN, &err, sets), &err);
    const rlim_t limits[] = {3000, 20000, 40000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char name[32];
        snprintf(name, sizeof name, "disk%zu", i);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            Error inner = {0};
            struct rlimit limit = {limits[i], limits[i]};
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &limit);
            bool ok = train_with(name, &PLAIN, &inner, sets);
            _exit(ok ? 0 : strlen(inner.text) > 20 ? 1 : 2);
        }
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
        char *checkpoints = text_format(&err, "%s/checkpoints", name), *path = test_path(checkpoints);
        Names names = {0};
        if (folder_exists(path)) assert_ok(folder_list(path, &names, &err), &err);
        for (size_t k = 0; k < names.count; k++) {
            char *inner = path_join(path, names.items[k], &err);
            if (strncmp(names.items[k], "step-", 5) == 0 && !strstr(names.items[k], ".tmp"))
                assert_ok(checkpoint_verify(inner, &err), &err);
            free(inner);
        }
        names_free(&names);
        free(checkpoints);
        free(path);
        assert_ok(train_with(name, &RESUME, &err, sets), &err); /* with room again it goes on, or begins */
        assert_close("disk_whole", name, 0);
    }
}

/* A clip under the encoder's receptive field cannot train; one of exactly 400 samples can, and silence. */
static void test_short_clips(void **state) {
    (void)state;
    const int64_t lengths[] = {399, 400};
    for (int i = 0; i < 2; i++) {
        Error err = {0};
        char *corpus = test_path("corpus/m.jsonl"), *clip = test_path("corpus/short.flac");
        char *out = text_format(&err, "short%d", i), *shards = test_path(out);
        float silence[400] = {0};
        Audio audio = {.samples = silence, .count = lengths[i], .rate = AUDIO_RATE};
        unsigned char *bytes;
        size_t size;
        assert_ok(audio_encode(&audio, AUDIO_FLAC, &bytes, &size, &err), &err);
        assert_ok(file_write(clip, bytes, size, &err), &err);
        Manifest manifest;
        assert_ok(manifest_read(&manifest, corpus, &err), &err);
        free(manifest.items[0].audio);
        manifest.items[0].audio = text_copy("short.flac", &err);
        json_object_set_new(manifest.items[0].json, "audio", json_string("short.flac"));
        ShardOptions options = shard_options_default();
        assert_ok(shards_write(&manifest, shards, &options, &err), &err);
        char *set = text_format(&err, "data.shards=%s", shards), *run = text_format(&err, "short_run%d", i);
        bool ok = train_with(run, &PLAIN, &err, SETS(set, "train.validate_every=0"));
        if (lengths[i] >= 400)
            assert_ok(ok, &err);
        else {
            assert_false(ok);
            assert_non_null(strstr(err.text, "clip0"));
        }
        manifest_free(&manifest);
        free(bytes);
        free(corpus);
        free(clip);
        free(out);
        free(shards);
        free(set);
        free(run);
    }
}

/* ---- looking ---- */

static void test_looking_writes_nothing(void **state) {
    (void)state;
    Error err = {0};
    int kept = dup(STDOUT_FILENO);
    char *report = test_path("shown"), *dump = test_path("dump");
    fflush(stdout);
    assert_non_null(freopen(report, "w", stdout));
    const TrainOptions dry = {.dry_run = true, .dump_steps = 1}, show = {.show_batch = true, .dump_steps = 1},
                       dumping = {.dump = dump, .dump_steps = 2};
    bool ok = train_with("looked", &dry, &err, SETS(NO_DROPOUT)) &&
              train_with("looked", &show, &err, SETS(NO_DROPOUT)) &&
              train_with("looked", &dumping, &err, SETS(NO_DROPOUT));
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    assert_ok(ok, &err);
    assert_false(has("looked"));
    assert_true(has("dump/step-2.safetensors") && has("dump/config.json") && !has("dump/step-3.safetensors"));
    char *text = file_read(report, 1 << 22, NULL, &err);
    assert_non_null(strstr(text, "trainable parameters"));
    assert_non_null(strstr(text, "cut points"));
    assert_non_null(strstr(text, "LLM weights, frozen"));
    assert_non_null(strstr(text, "in all"));
    assert_non_null(strstr(text, "largest micro-batch of such clips that fits"));
    assert_non_null(strstr(text, "[speech: "));
    assert_non_null(strstr(text, "[[Emotion: "));
    free(text);
    free(report);
    free(dump);
}

/* The plan says what opening and planning take, to the byte, and the largest micro-batch is the largest. */
static void test_memory_plan(void **state) {
    (void)state;
    Error err = {0};
    char *config = test_path("config.yaml");
    RunOptions opening = {.model = true, .plan = true};
    for (int precision = 0; precision < 2; precision++) {
        opening.device = (DeviceChoice){.name = "cuda", .precision = precision ? "fp32" : "bf16"};
        Run *run = run_open(config, &opening, &err);
        assert_ok(run != NULL, &err);
        SpeechLimits limits = {.clips = 4, .samples = 40000, .tokens = 400, .responses = 200, .longest = 10000};
        MemoryPlan plan;
        assert_ok(memory_plan_open(&plan, run, &limits, &err), &err);
        size_t bytes = plan.bytes;
        assert_ok(speech_llm_plan(run->model, &limits, true, NULL, true, &err), &err);
        assert_int_equal(bytes, plan_bytes(run->dev) + plan.moments);
        int64_t same = memory_plan_largest(&plan, bytes), twice = memory_plan_largest(&plan, 2 * bytes);
        assert_true(same >= 350 && same <= 410 && twice > same);
        assert_int_equal(memory_plan_largest(&plan, bytes / 8), 0);
        limits.features = true; /* without the encoder */
        assert_ok(speech_llm_plan(run->model, &limits, true, NULL, true, &err), &err);
        assert_true(plan_bytes(run->dev) + plan.moments <= bytes);
        memory_plan_close(&plan);
        run_close(run);
    }
    free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_changes_nothing),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_loss_falls),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_early_stop),
        cmocka_unit_test(test_run_folder),
        cmocka_unit_test(test_overlong),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shards_move_to_a_server),
        cmocka_unit_test(test_other_shards),
        cmocka_unit_test(test_speaker_overlap),
        cmocka_unit_test(test_nan_steps),
        cmocka_unit_test(test_damaged_checkpoint),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_short_clips),
        cmocka_unit_test(test_looking_writes_nothing),
        cmocka_unit_test(test_memory_plan),
    };
    return cmocka_run_group_tests(tests, setup, test_cleanup);
}
