/* Teaching a manifest with a teacher of the test's own: prompts, questions shared and asked again, the answers' file,
 * ceilings and stops. */
#include "tests/test.h"

#include <pthread.h>
#include <sys/stat.h>

#include "data/answer_cache.h"
#include "data/response.h"
#include "data/teach.h"
#include "tests/quiet.h"

static const char PROMPT[] = "system: You are {gender}.\n"
                             "user: |\n  Emotion: {emotion}\n  Gender: {gender}\n  Pitch: {pitch}\n  Speed: {speed}\n"
                             "  Volume: {volume}\n  Said: {transcript}\n  Go.\n"
                             "again: |\n  You wrote {answer}, but {reason}.\n";

static void put(const char *name, const char *text) {
    char *path = test_path(name);
    assert_true(file_write(path, text, strlen(text), NULL));
    free(path);
}

/* --- a teacher --- */

typedef struct Fake {
    pthread_mutex_t lock;
    int asked, lies, mute_every, stop_after; /* lies: answers to a question before the truth */
    atomic_bool stop;
    char last[4000];
} Fake;

/* The value of a line of the prompt; "" without it. */
static const char *line_of(const char *user, const char *label, char *value) {
    const char *at = strstr(user, label);
    snprintf(value, 60, "%.*s", at ? (int)strcspn(at + strlen(label), "\n") : 0, at ? at + strlen(label) : "");
    return value;
}

static bool fake_answer(void *self, int caller, const TeacherQuestion *questions, int count, TeacherAnswer *answers,
                        Error *err) {
    Fake *fake = self;
    (void)caller, (void)err;
    for (int i = 0; i < count; i++) {
        char emotion[60], speed[60];
        int wrote = 0;
        for (const char *at = questions[i].user; (at = strstr(at, "You wrote")); at++) wrote++;
        pthread_mutex_lock(&fake->lock);
        int number = ++fake->asked;
        snprintf(fake->last, sizeof fake->last, "%s|%s", questions[i].system ? questions[i].system : "",
                 questions[i].user);
        pthread_mutex_unlock(&fake->lock);
        if (fake->stop_after && number >= fake->stop_after) atomic_store(&fake->stop, true);
        answers[i] = (TeacherAnswer){.tokens_in = 100, .tokens_out = 20};
        if (fake->mute_every && number % fake->mute_every == 0)
            answers[i].why = text_copy("nobody spoke", NULL);
        else if (wrote < fake->lies)
            answers[i].text = text_copy(wrote ? "It has 7 tones." : "The speaker is at 220 Hz.", NULL);
        else
            answers[i].text = text_format(NULL, "The speaker sounds %s, at a %s speed.",
                                          line_of(questions[i].user, "Emotion: ", emotion),
                                          line_of(questions[i].user, "Speed: ", speed));
    }
    return true;
}

static int64_t fake_tokens(void *self, const TeacherQuestion *question, Error *err) {
    (void)self, (void)question, (void)err;
    return 100;
}

static Teacher teacher_of(Fake *fake, int callers, int together) {
    pthread_mutex_init(&fake->lock, NULL);
    return (Teacher){.self = fake,
                     .name = "fake 1",
                     .settings = "none",
                     .callers = callers,
                     .together = together,
                     .answer_tokens = 50,
                     .answer = fake_answer,
                     .tokens = fake_tokens};
}

/* --- manifests --- */

enum { UTTERANCES = 60 };

/* Ten kinds of label and levels, each six times; every fifth utterance without a pitch. */
static void make_manifest(Manifest *manifest, Levels *levels) {
    static const char *const EMOTIONS[] = {"angry", "sad"};
    Text lines = {0};
    for (int i = 0; i < UTTERANCES; i++) {
        int kind = i % 10;
        text_addf(&lines, "{\"id\":\"secret-%d\",\"audio\":\"secret.wav\",\"emotion\":\"%s\",\"explanation\":\"x\"}\n",
                  i, EMOTIONS[kind % 2]);
        levels[i] = (Levels){{(int8_t)(kind % 5 ? kind % 3 : LEVEL_NONE), (int8_t)(kind / 2 % 3), (int8_t)(kind / 7)}};
    }
    put("m.jsonl", lines.data);
    text_free(&lines);
    char *path = test_path("m.jsonl");
    assert_true(manifest_read(manifest, path, NULL));
    free(path);
}

/* Every kind of question that the manifest has: ten label and level sets that differ. */
enum { KINDS = 10 };

typedef struct Run {
    Manifest manifest;
    Levels levels[UTTERANCES];
    char *prompt, *answers;
    TeachOptions options;
} Run;

static void run_begin(Run *run, const Teacher *teacher, const char *answers) {
    *run = (Run){.prompt = test_path("prompt.yaml"), .answers = test_path(answers)};
    make_manifest(&run->manifest, run->levels);
    put("prompt.yaml", PROMPT);
    run->options =
        (TeachOptions){.teacher = teacher, .prompt = run->prompt, .answers = run->answers, .asks = 3, .variants = 1};
}

static bool run_teach(Run *run, const atomic_bool *stop, Error *err) {
    TeachJob job = {&run->manifest, run->levels, 3, 7, stop};
    int kept = quiet_begin();
    *err = (Error){0};
    bool done = teach(&job, &run->options, err);
    quiet_end(kept);
    return done;
}

static void run_end(Run *run) {
    manifest_free(&run->manifest);
    free(run->prompt);
    free(run->answers);
}

static int count_marked(const Run *run) {
    int marked = 0;
    for (int i = 0; i < UTTERANCES; i++) {
        const Utterance *u = &run->manifest.items[i];
        bool set_aside = json_object_get(u->json, "set_aside") != NULL;
        assert_int_equal(set_aside, strcmp(u->explanation, "x") == 0);
        marked += set_aside;
    }
    return marked;
}

/* --- tests --- */

static void shared_questions(void **state) {
    (void)state;
    Error err;
    Fake fake = {0};
    Teacher teacher = teacher_of(&fake, 4, 3);
    Run run;
    run_begin(&run, &teacher, "shared");
    assert_ok(run_teach(&run, NULL, &err), &err);
    assert_int_equal(fake.asked, KINDS);
    assert_int_equal(count_marked(&run), 0);
    for (int i = 0; i < UTTERANCES; i++) {
        const Utterance *u = &run.manifest.items[i];
        assert_non_null(strstr(u->explanation, u->emotion));
        assert_true(strncmp(u->teacher, "fake 1 prompt ", 14) == 0 && strlen(u->teacher) == 30);
    }
    assert_null(strstr(fake.last, "secret"));
    assert_null(strstr(fake.last, "Said")); /* no transcript, no line; and so with gender */
    assert_true(strncmp(fake.last, "|", 1) == 0);
    assert_ok(run_teach(&run, NULL, &err), &err); /* all is known */
    assert_int_equal(fake.asked, KINDS);
    run.options.variants = 0; /* each utterance its own */
    assert_ok(run_teach(&run, NULL, &err), &err);
    assert_int_equal(fake.asked, KINDS + UTTERANCES);
    run.options.variants = 3;
    assert_ok(run_teach(&run, NULL, &err), &err);
    assert_in_range(fake.asked, KINDS + UTTERANCES + KINDS, KINDS + UTTERANCES + 3 * KINDS);
    int before = fake.asked;
    teacher.settings = "others";
    run.options.variants = 1;
    assert_ok(run_teach(&run, NULL, &err), &err);
    assert_int_equal(fake.asked, before + KINDS);
    run_end(&run);
}

static void asked_again(void **state) {
    (void)state;
    Error err;
    for (int lies = 0; lies <= 3; lies++) {
        Fake fake = {.lies = lies};
        Teacher teacher = teacher_of(&fake, 2, 4);
        char name[20];
        Run run;
        snprintf(name, sizeof name, "again-%d", lies);
        run_begin(&run, &teacher, name);
        /* The fake tells the truth once the prompt says often enough what it wrote: never more than once here. */
        run.options.asks = 2;
        assert_ok(run_teach(&run, NULL, &err), &err);
        assert_int_equal(fake.asked, lies == 0 ? KINDS : 2 * KINDS);
        assert_int_equal(count_marked(&run), lies < 2 ? 0 : UTTERANCES);
        if (lies) assert_non_null(strstr(fake.last, "You wrote The speaker is at 220 Hz., but it gives a figure"));
        int before = fake.asked;
        assert_ok(run_teach(&run, NULL, &err), &err); /* what was set aside is not asked again either */
        assert_int_equal(fake.asked, before);
        run_end(&run);
    }
}

static void unanswered(void **state) {
    (void)state;
    Error err;
    Fake fake = {.mute_every = 4};
    Teacher teacher = teacher_of(&fake, 1, 1);
    Run run;
    run_begin(&run, &teacher, "mute");
    assert_ok(run_teach(&run, NULL, &err), &err);
    int marked = count_marked(&run);
    assert_int_equal(marked, 12); /* two kinds of six */
    fake.mute_every = 0;
    run_end(&run);
    run_begin(&run, &teacher, "mute");
    assert_ok(run_teach(&run, NULL, &err), &err); /* and only those are asked next time */
    assert_int_equal(fake.asked, KINDS + 2);
    assert_int_equal(count_marked(&run), 0);
    run_end(&run);
    run_begin(&run, &teacher, "mute-all");
    fake.mute_every = 1;
    run.options.variants = 0;
    assert_false(run_teach(&run, NULL, &err)); /* a teacher that never answers is given up on */
    assert_non_null(strstr(err.text, "nobody spoke"));
    run_end(&run);
}

static void ceilings_and_stops(void **state) {
    (void)state;
    Error err;
    Fake fake = {0};
    Teacher teacher = teacher_of(&fake, 4, 2);
    Run run;
    run_begin(&run, &teacher, "dear");
    run.options.tokens_most = 600; /* an answer is 120, and 150 at most */
    assert_false(run_teach(&run, NULL, &err));
    assert_non_null(strstr(err.text, "--max-tokens-total"));
    assert_int_equal(fake.asked, 4); /* the fifth might have gone past it */
    run.options.tokens_most = 0;
    run.options.price_in = 1e4;
    run.options.price_out = 5e4; /* an answer costs 2 */
    run.options.cost_most = 13;
    assert_false(run_teach(&run, NULL, &err));
    assert_int_equal(fake.asked, 5); /* 10, and the next up to 3.5 more */
    run.options.cost_most = 0;
    fake.stop_after = 7;
    assert_false(run_teach(&run, &fake.stop, &err));
    assert_non_null(strstr(err.text, "stopped"));
    assert_in_range(fake.asked, 7, 10);
    int marked = 0;
    for (int i = 0; i < UTTERANCES; i++) marked += strcmp(run.manifest.items[i].explanation, "x") != 0;
    assert_int_equal(marked, 0); /* nothing is half done */
    fake.stop_after = 0;
    atomic_store(&fake.stop, false);
    run.options.dry_run = true;
    int before = fake.asked, out = dup(STDOUT_FILENO);
    assert_non_null(freopen("/dev/null", "w", stdout));
    bool planned = run_teach(&run, NULL, &err);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    assert_ok(planned, &err);
    assert_int_equal(fake.asked, before);
    run.options.dry_run = false;
    assert_ok(run_teach(&run, NULL, &err), &err);
    assert_int_equal(fake.asked, KINDS);
    run_end(&run);
}

static char *text_of(const char *path, size_t *size) {
    char *text = file_read(path, 1 << 24, size, NULL);
    assert_non_null(text);
    return text;
}

static void put_bytes(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
}

/* The answers' file cut anywhere: as many answers are known as there are whole lines, and the rest is asked. */
static void cut_answers(void **state) {
    (void)state;
    Error err;
    Fake fake = {0};
    Teacher teacher = teacher_of(&fake, 1, 1);
    Run run;
    run_begin(&run, &teacher, "cut");
    assert_ok(run_teach(&run, NULL, &err), &err);
    size_t size;
    char *text = text_of(run.answers, &size);
    for (size_t cut = 0; cut <= size; cut += cut < 40 || cut + 200 > size ? 1 : 23) {
        int lines = 0;
        for (size_t i = 0; i < cut; i++) lines += text[i] == '\n';
        put_bytes(run.answers, text, cut);
        fake.asked = 0;
        assert_ok(run_teach(&run, NULL, &err), &err);
        assert_int_equal(fake.asked, KINDS - (lines ? lines - 1 : 0));
        assert_int_equal(count_marked(&run), 0);
    }
    free(text);
    run_end(&run);
}

static void damaged_answers(void **state) {
    (void)state;
    static const char *const LINES[] = {
        "",
        "{}",
        "[1]",
        "{\"key\":1,\"answer\":\"x\"}",
        "{\"key\":\"00000000000000000000000000000000\"}",
        "{\"key\":\"0000000000000000000000000000000g\",\"answer\":\"x\"}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":null}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":\"x\",\"in\":-1}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":\"x\",\"out\":1e99}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":\"x\",\"cut\":3}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":\"\\u0000\"}",
        "{\"key\":\"00000000000000000000000000000000\",\"answer\":\"\xff\"}",
        "\x01\x02\xff",
    };
    Error err;
    Fake fake = {0};
    Teacher teacher = teacher_of(&fake, 1, 1);
    Run run;
    run_begin(&run, &teacher, "damaged");
    assert_ok(run_teach(&run, NULL, &err), &err);
    size_t size;
    char *text = text_of(run.answers, &size);
    const char *second = strchr(strchr(text, '\n') + 1, '\n') + 1;
    fake.asked = 0;
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) { /* a bad line among good ones costs nothing */
        char *damaged = text_format(NULL, "%.*s%s\n%s", (int)(second - text), text, LINES[i], second);
        put_bytes(run.answers, damaged, strlen(damaged));
        assert_ok(run_teach(&run, NULL, &err), &err);
        assert_int_equal(fake.asked, 0);
        size_t kept;
        char *after = text_of(run.answers, &kept);
        assert_string_equal(after, damaged); /* it is left for its owner to look at */
        free(after);
        free(damaged);
    }
    Rng rng = rng_stream(11, 1, 2, 3);
    for (int round = 0; round < 200; round++) { /* bytes changed anywhere: no crash, all explained or refused */
        char *damaged = malloc(size);
        memcpy(damaged, text, size);
        for (int k = 0; k < 3; k++) damaged[rng_below(&rng, (uint32_t)size)] = (char)rng_below(&rng, 256);
        put_bytes(run.answers, damaged, size);
        bool done = run_teach(&run, NULL, &err);
        assert_true(done || err.exit_code == EXIT_USAGE);
        free(damaged);
    }
    put_bytes(run.answers, "no answers at all\n", 18);
    assert_false(run_teach(&run, NULL, &err)); /* another file is not written into */
    assert_int_equal(err.exit_code, EXIT_USAGE);
    AnswerCache held;
    unlink(run.answers);
    assert_ok(answer_cache_open(&held, run.answers, &err), &err);
    assert_false(run_teach(&run, NULL, &err));
    assert_non_null(strstr(err.text, "another annotation"));
    assert_ok(answer_cache_close(&held, &err), &err);
    free(text);
    run_end(&run);
    run_begin(&run, &teacher, "no/such/folder");
    assert_false(run_teach(&run, NULL, &err));
    run_end(&run);
}

/* A disk that is full while answers come: the run fails, and what was written whole is known afterwards. */
static void full_disk(void **state) {
    (void)state;
    Error err = {0};
    Fake fake = {0};
    Teacher teacher = teacher_of(&fake, 1, 1);
    Run run;
    run_begin(&run, &teacher, "full");
    if (access("/dev/full", W_OK) != 0) skip();
    AnswerCache cache = {.path = "/dev/full", .stream = fopen("/dev/full", "w")};
    TeacherAnswer answer = {.text = run.prompt};
    assert_false(answer_cache_add(&cache, (AnswerKey){1, 2}, &answer, &err));
    assert_non_null(strstr(err.text, "/dev/full"));
    fclose(cache.stream);
    run_end(&run);
}

static void prompts(void **state) {
    (void)state;
    static const char *const WRONG[] = {
        "",
        "user: x\n",
        "again: '{reason}'\n",
        "user: ''\nagain: '{reason}'\n",
        "user: '{id}'\nagain: '{reason}'\n",
        "user: '{audio}'\nagain: '{reason}'\n",
        "user: '{reason}'\nagain: '{reason}'\n",
        "user: x\nagain: y\n",
        "user: x\nagain: '{reason}'\nmore: z\n",
        "user: [x]\nagain: '{reason}'\n",
        "user: 'x\n",
        "\xff\xfe",
    };
    char *path = test_path("p.yaml");
    Prompt prompt;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        Error err = {0};
        put("p.yaml", WRONG[i]);
        assert_false(prompt_read(&prompt, path, &err));
        assert_non_null(strstr(err.text, "p.yaml"));
    }
    put("p.yaml",
        "user: |\n  {emotion}{ {} {x y} {gender\n  {pitch} {gender}\n  \"{transcript}\"\nagain: '{reason} {answer}'\n");
    Error err = {0};
    assert_ok(prompt_read(&prompt, path, &err), &err);
    Utterance utterance = {.emotion = (char *)(uintptr_t) "{gender}",
                           .transcript = (char *)(uintptr_t) "two\nlines {pitch}"};
    Levels levels = {{1, 1, 1}};
    PromptValues values = {.utterance = &utterance, .levels = &levels, .level_count = 5};
    char *system, *user;
    assert_ok(prompt_fill(&prompt, &values, &system, &user, &err), &err);
    assert_null(system);
    /* Values are not filled in themselves, and the line without a gender is gone. */
    assert_string_equal(user, "{gender}{ {} {x y} {gender\n\"two lines {pitch}\"");
    free(user);
    values.answer = "{answer}";
    values.reason = "no";
    assert_ok(prompt_fill(&prompt, &values, &system, &user, &err), &err);
    assert_non_null(strstr(user, "\nno {answer}"));
    free(user);
    prompt_free(&prompt);
    free(path);
    static const char *const SHIPPED[] = {"configs/prompts/explain.yaml", "configs/prompts/explain-transcript.yaml"};
    for (int i = 0; i < 2; i++) {
        assert_ok(prompt_read(&prompt, SHIPPED[i], &err), &err);
        assert_int_equal(strlen(prompt.hash), 16);
        prompt_free(&prompt);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_questions),   cmocka_unit_test(asked_again), cmocka_unit_test(unanswered),
        cmocka_unit_test(ceilings_and_stops), cmocka_unit_test(cut_answers), cmocka_unit_test(damaged_answers),
        cmocka_unit_test(full_disk),          cmocka_unit_test(prompts),
    };
    return cmocka_run_group_tests_name("teach", tests, NULL, test_cleanup);
}
