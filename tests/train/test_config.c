/* Configs: defaults, what is written is read back, and every wrong value is refused with its name. */
#include "tests/test.h"

#include "train/config.h"

static const char GOOD[] = "model:\n"
                           "  encoder: enc\n"
                           "  llm: llm\n"
                           "  adapter: {stack: 8, hidden: 64, prosody: energy+f0, prosody_scale: 3, noise: 0.3}\n"
                           "  lora: {rank: 4, targets: [q, v]}\n"
                           "data:\n"
                           "  shards: shards\n"
                           "  classes: [happy, sad]\n"
                           "  labels: [{from: calm, to: sad}]\n"
                           "  test: {speakers: [1, b], groups: [g]}\n"
                           "  validation: {share: 0.1}\n"
                           "train: {steps: 100, batch_clips: 16, lr: 2e-3}\n"
                           "output: out\n";

static RunConfig *read_text(const char *text, const char *set, Error *err) {
    char *path = test_path("config.yaml");
    Error writing = {0};
    assert_ok(file_write(path, text, strlen(text), &writing), &writing);
    Texts overrides = {.items = &set, .count = set ? 1 : 0};
    RunConfig *config = config_read(path, &overrides, err);
    free(path);
    return config;
}

static void test_defaults(void **state) {
    (void)state;
    Error err = {0};
    RunConfig *config = read_text(GOOD, NULL, &err);
    assert_ok(config != NULL, &err);
    assert_int_equal(config->model.adapter.stack, 8);
    assert_int_equal(config->model.adapter.prosody, PROSODY_ENERGY_F0);
    assert_int_equal(config_prosody_channels(config), 3);
    assert_int_equal(config->model.lora.targets, LORA_Q | LORA_V);
    assert_true(config->model.lora.alpha == 16);
    assert_int_equal(config->data.classes.count, 2);
    assert_string_equal(config->data.test_speakers.items[0], "1");
    assert_string_equal(config->data.labels[0].to, "sad");
    assert_true(config->data.validation_share == 0.1);
    assert_true(config->train.lr == 2e-3 && config->train.weight_decay == 0.01);
    assert_int_equal(config->prompt.response_count, 6);
    assert_int_equal(config->prompt.levels, 3);
    config_free(config);
}

static void test_written_and_read(void **state) {
    (void)state;
    Error err = {0};
    RunConfig *config = read_text(GOOD, "prompt.user='say \"it\": \\n# {a} ü'", &err);
    assert_ok(config != NULL, &err);
    config->train.lr = 0.1 + 0.2;
    config->prompt.system = "";
    char *path = test_path("resolved.yaml");
    assert_ok(config_write(config, path, &err), &err);
    RunConfig *again = config_read(path, NULL, &err);
    assert_ok(again != NULL, &err);
    char *one = config_text(config, &err), *two = config_text(again, &err);
    assert_string_equal(one, two);
    assert_true(again->train.lr == 0.1 + 0.2);
    assert_string_equal(again->prompt.system, "");
    assert_string_equal(again->prompt.user, config->prompt.user);
    free(one);
    free(two);
    free(path);
    config_free(config);
    config_free(again);
}

/* configs/every-key.yaml documents every key that the resolved config has, and says the defaults truly. */
static void test_every_key_is_documented(void **state) {
    (void)state;
    Error err = {0};
    const char *path = "configs/every-key.yaml";
    RunConfig *config = config_read(path, NULL, &err);
    assert_ok(config != NULL, &err);
    char *documented = file_read(path, 1 << 20, NULL, &err), *written = config_text(config, &err), *save = NULL;
    for (char *line = strtok_r(written, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t blanks = strspn(line, " "), length = strcspn(line + blanks, ":") + 1;
        char key[100];
        snprintf(key, sizeof key, "\n%.*s", (int)(blanks + length), line);
        if (line[blanks] != '-' && !strstr(documented, key)) fail_msg("%s does not document%s", path, key);
    }
    RunConfig *plain = read_text("model: {llm: l, encoder: e}\ndata: {shards: s}\n"
                                 "train: {epochs: 3, batch_tokens: 4096}\noutput: o\n",
                                 NULL, &err);
    assert_ok(plain != NULL, &err);
    assert_memory_equal(&config->train, &plain->train, sizeof plain->train);
    assert_memory_equal(&config->model.adapter, &plain->model.adapter, sizeof plain->model.adapter);
    assert_memory_equal(&config->model.lora, &plain->model.lora, sizeof plain->model.lora);
    assert_string_equal(config->prompt.user, plain->prompt.user);
    assert_memory_equal(config->prompt.response, plain->prompt.response, sizeof plain->prompt.response);
    free(documented);
    free(written);
    config_free(config);
    config_free(plain);
}

static void test_recipes_read(void **state) {
    (void)state;
    Names names;
    int count = 0;
    assert_true(folder_list("configs", &names, NULL));
    for (size_t i = 0; i < names.count; i++) {
        const char *dot = strrchr(names.items[i], '.');
        if (!dot || strcmp(dot, ".yaml") != 0) continue;
        Error err = {0};
        char *path = path_join("configs", names.items[i], &err);
        RunConfig *config = config_read(path, NULL, &err);
        assert_ok(config != NULL, &err);
        config_free(config);
        free(path);
        count++;
    }
    names_free(&names);
    assert_true(count >= 13); /* eleven corpora, RAVDESS with large models, every key */
}

/* Each is one --set on a good config, and what its error must name. */
static void test_wrong_values(void **state) {
    (void)state;
    static const char *const WRONG[][2] = {
        {"train.lr=-1", "train.lr"},
        {"data.cache_gib=0", "cache_gib"},
        {"data.cache_gib=all", "cache_gib"},
        {"data.shuffle_shards=-1", "shuffle_shards"},
        {"train.lr=nan", "train.lr"},
        {"train.lr=inf", "train.lr"},
        {"train.lr=fast", "fast"},
        {"train.lr=[1]", ""},
        {"train.lr={a: 1}", ""},
        {"train.steps=1.5", "1.5"},
        {"train.steps=-5", "train.steps"},
        {"train.steps=99999999999999999999", ""},
        {"train.steps=0", "train.epochs"},
        {"train.epochs=2", "train.epochs"},
        {"train.batch_clips=0", "batch_tokens"},
        {"train.batch_clips=-1", "batch_clips"},
        {"train.accumulate=0", "accumulate"},
        {"train.beta1=1", "beta1"},
        {"train.beta2=1.5", "beta2"},
        {"train.eps=0", "eps"},
        {"train.clip=-1", "clip"},
        {"train.seed=-1", "seed"},
        {"train.keep=0", "keep"},
        {"train.early_stop=3", "validate_every"},
        {"train.encoder_cache=disk", "disk"},
        {"train.schedule=step", "step"},
        {"train.threads=0", "threads"},
        {"train.threads=1000", "threads"},
        {"train.unknown=1", "unknown"},
        {"trian.lr=1", "trian"},
        {"model.adapter.kind=conv9", "conv9"},
        {"model.adapter.stack=0", "stack"},
        {"model.adapter.hidden=0", "hidden"},
        {"model.adapter.prosody=pitch", "pitch"},
        {"model.adapter.dropout=1", "dropout"},
        {"model.adapter.noise=-0.1", "noise"},
        {"model.adapter.stacks=2", "stacks"},
        {"model.lora.rank=-1", "rank"},
        {"model.lora.rank=100000", "rank"},
        {"model.lora.targets=[]", "targets"},
        {"model.lora.targets=[x]", "x"},
        {"model.lora.targets=q", ""},
        {"model.lora.rslora=maybe", "maybe"},
        {"model.layers=first", "first"},
        {"model.normalize_waveform=yes please", "yes please"},
        {"model.llm=[a]", ""},
        {"model.llm=", ""},
        {"model.encoder=", ""},
        {"data.shards=", ""},
        {"data.classes=[a, b, a]", "twice"},
        {"data.classes=happy", ""},
        {"data.labels=[{from: a}]", ""},
        {"data.labels=[a]", ""},
        {"data.validation.share=0.95", "share"},
        {"data.validation.speakers=[x]", "share"},
        {"data.validation.shares=0.1", "shares"},
        {"data.sampling=random", "random"},
        {"data.overlong=drop", "drop"},
        {"data.max_seconds=0", "max_seconds"},
        {"data.speaker_overlap=1.5", ""},
        {"prompt.response=[emotion, emotion]", "twice"},
        {"prompt.response=[mood]", "mood"},
        {"prompt.response=[]", ""},
        {"prompt.levels=4", "levels"},
        {"prompt.levels=7", "levels"},
        {"prompt.style=free", "free"},
        {"prompt.input=text", "text"},
        {"prompt.audio=middle", "middle"},
        {"device.kind=tpu", "tpu"},
        {"device.threads=-1", "threads"},
        {"output=", ""},
        {"output=[]", ""},
        {"train=5", ""},
        {"model=null", ""},
        {"=5", ""},
        {"train.lr", ""},
        {"train..lr=1", ""},
        {"train.lr.x=1", ""},
        {"train.lr={", ""},
    };
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        Error err = {0};
        RunConfig *config = read_text(GOOD, WRONG[i][0], &err);
        if (config) fail_msg("--set %s was accepted", WRONG[i][0]);
        if (err.exit_code != EXIT_USAGE || !strstr(err.text, WRONG[i][1]))
            fail_msg("--set %s: exit %d: %s", WRONG[i][0], err.exit_code, err.text);
    }
}

/* The line of an unknown key and of a wrong type is named. */
static void test_lines(void **state) {
    (void)state;
    Error err = {0};
    char *text = text_format(&err, "%sextra: 1\n", GOOD);
    assert_null(read_text(text, NULL, &err));
    assert_non_null(strstr(err.text, "line: 14"));
    free(text);
    Error type = {0};
    text = text_format(&type, "%sdevice:\n  threads: many\n", GOOD);
    assert_null(read_text(text, NULL, &type));
    assert_non_null(strstr(type.text, "line 15"));
    free(text);
}

/* Cut anywhere, or with a byte changed anywhere, it is read or refused; never more. */
static void test_damage(void **state) {
    (void)state;
    size_t length = strlen(GOOD);
    for (size_t cut = 0; cut < length; cut += 3) {
        Error err = {0};
        char text[sizeof GOOD];
        memcpy(text, GOOD, sizeof text);
        text[cut] = '\0';
        RunConfig *config = read_text(text, NULL, &err);
        assert_true(config || err.exit_code == EXIT_USAGE);
        config_free(config);
    }
    Rng rng = rng_stream(5, 97, 0, 0);
    for (int i = 0; i < 300; i++) {
        Error err = {0};
        char text[sizeof GOOD];
        memcpy(text, GOOD, sizeof text);
        text[rng_below(&rng, (uint32_t)length)] = (char)(1 + rng_below(&rng, 255));
        RunConfig *config = read_text(text, NULL, &err);
        assert_true(config || err.exit_code == EXIT_USAGE);
        config_free(config);
    }
    Error missing = {0};
    assert_null(config_read("/nonexistent.yaml", NULL, &missing));
    assert_true(missing.exit_code != EXIT_DONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_written_and_read),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_lines),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_every_key_is_documented),
        cmocka_unit_test(test_recipes_read),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
