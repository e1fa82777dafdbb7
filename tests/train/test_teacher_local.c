/* The teacher that generates in this process, on a tiny LLM of random weights: answers that do not depend on their
 * neighbours, counts of tokens, seeds, prompts that are too long, and annotation by it. */
#include "tests/train/tiny.h"

#include "tests/quiet.h"
#include "train/commands.h"
#include "train/teacher_local.h"

enum { QUESTIONS = 7, TOKENS = 24 };

static int make_llm(void **state) {
    (void)state;
    char *folder = test_path("Tiny-LLM");
    tiny_llm(folder, 1);
    free(folder);
    return 0;
}

static Teacher *open_tiny(int together, double temperature) {
    char *folder = test_path("Tiny-LLM//");
    LocalTeacherOptions options = {.llm = folder,
                                   .chat = "chatml",
                                   .device = {.threads = 1},
                                   .together = together,
                                   .answer_tokens = TOKENS,
                                   .temperature = temperature};
    Error err = {0};
    Teacher *teacher = local_teacher_open(&options, &err);
    assert_ok(teacher != NULL, &err);
    free(folder);
    return teacher;
}

static void ask(const Teacher *teacher, const TeacherQuestion *questions, int count, TeacherAnswer *answers) {
    Error err = {0};
    assert_ok(teacher->answer(teacher->self, 0, questions, count, answers, &err), &err);
}

static void make_questions(TeacherQuestion *questions, uint32_t seed) {
    static const char *const USERS[QUESTIONS] = {"Why?", "How so?", "<|im_end|>", "Low, slow, quiet.",
                                                 "a",    "bb",      "Why?"};
    for (int i = 0; i < QUESTIONS; i++)
        questions[i] =
            (TeacherQuestion){.system = i % 3 ? NULL : "Explain.", .user = USERS[i], .seed = seed + (uint32_t)i};
}

static void alone_and_together(void **state) {
    (void)state;
    for (int hot = 0; hot < 2; hot++) {
        Teacher *many = open_tiny(3, hot ? 0.9 : 0), *one = open_tiny(1, hot ? 0.9 : 0);
        TeacherQuestion questions[QUESTIONS];
        TeacherAnswer together[QUESTIONS], alone;
        assert_string_equal(many->name, one->name);
        assert_int_equal(strncmp(many->name, "local Tiny-LLM ", 15), 0);
        make_questions(questions, 5);
        ask(many, questions, QUESTIONS, together);
        int cut = 0;
        for (int i = 0; i < QUESTIONS; i++) {
            ask(one, &questions[i], 1, &alone);
            assert_string_equal(together[i].text, alone.text);
            assert_int_equal(together[i].tokens_in, one->tokens(one->self, &questions[i], NULL));
            assert_in_range(together[i].tokens_out, 0, TOKENS);
            assert_int_equal(together[i].cut, together[i].tokens_out == TOKENS);
            cut += together[i].cut;
            teacher_answers_free(&alone, 1);
        }
        assert_true(cut > 0);
        /* The first and the last are the same question: they differ where words are drawn by lot, and by their seeds.
         */
        assert_int_equal(strcmp(together[0].text, together[6].text) == 0, !hot);
        teacher_answers_free(together, QUESTIONS);
        local_teacher_close(many);
        local_teacher_close(one);
    }
}

static void too_long(void **state) {
    (void)state;
    Teacher *teacher = open_tiny(4, 0);
    TeacherQuestion questions[3];
    TeacherAnswer answers[3];
    char long_text[600];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    for (int i = 0; i < 3; i++) questions[i] = (TeacherQuestion){.user = i == 1 ? long_text : "Why?"};
    ask(teacher, questions, 3, answers);
    assert_non_null(answers[0].text);
    assert_null(answers[1].text);
    assert_non_null(strstr(answers[1].why, "512 positions"));
    assert_string_equal(answers[0].text, answers[2].text);
    teacher_answers_free(answers, 3);
    ask(teacher, &questions[1], 1, answers);
    assert_null(answers[0].text);
    teacher_answers_free(answers, 1);
    local_teacher_close(teacher);
}

/* Random weights say nothing sensible: all is asked three times and set aside, whatever goes together, and a second
 * run finds it all in the file. */
static void annotation(void **state) {
    (void)state;
    enum { COUNT = 12 };
    static const char PROMPT[] = "user: '{emotion} {pitch}'\nagain: '{reason}'\n";
    char *in = test_path("m.jsonl"), *prompt = test_path("p.yaml"), *folder = test_path("Tiny-LLM");
    char *outs[] = {test_path("a.jsonl"), test_path("b.jsonl")};
    Text lines = {0};
    for (int i = 0; i < COUNT; i++) {
        text_addf(&lines, "{\"id\":\"u%d\",\"audio\":\"none\",\"emotion\":\"sad\",\"gender\":\"male\",\"features\":{",
                  i);
        for (int f = 0; f < FEATURE_COUNT; f++) text_addf(&lines, "%s\"%s\":%d", f ? "," : "", FEATURE_NAMES[f], i);
        text_add_string(&lines, "}}\n");
    }
    assert_true(file_write(in, lines.data, lines.length, NULL) && file_write(prompt, PROMPT, sizeof PROMPT - 1, NULL));
    char *answers[2], *results[2];
    for (int i = 0; i < 2; i++) {
        const char *args[] = {
            "annotate",     in,   "-o",       outs[i], "--teacher",  "local",       "--llm",  folder,
            "--max-tokens", "20", "--prompt", prompt,  "--together", i ? "1" : "5", "--chat", "chatml"};
        Error err = {0};
        for (int round = 0; round < 2; round++) {
            int kept = quiet_begin();
            assert_ok(command_annotate(sizeof args / sizeof *args, (char **)(uintptr_t)args, &err), &err);
            quiet_end(kept);
        }
        char *path = text_format(NULL, "%s.answers.jsonl", outs[i]);
        answers[i] = file_read(path, 1 << 20, NULL, &err);
        results[i] = file_read(outs[i], 1 << 20, NULL, &err);
        free(path);
        int noted = 0;
        for (const char *at = answers[i]; *at; at++) noted += *at == '\n';
        assert_int_equal(noted, 1 + 3 * 3); /* three levels of pitch, three times each, once */
    }
    assert_string_equal(results[0], results[1]);
    assert_non_null(strstr(results[0], "\"set_aside\""));
    for (int i = 0; i < 2; i++) {
        free(answers[i]);
        free(results[i]);
        free(outs[i]);
    }
    text_free(&lines);
    free(folder);
    free(prompt);
    free(in);
}

static void wrong_folders(void **state) {
    (void)state;
    LocalTeacherOptions options = {.llm = "/nonexistent", .together = 1, .answer_tokens = 5};
    Error err = {0};
    assert_null(local_teacher_open(&options, &err));
    assert_non_null(strstr(err.text, "/nonexistent"));
    char *folder = test_path("Tiny-LLM");
    options.llm = folder;
    options.chat = "nobody's";
    err = (Error){0};
    assert_null(local_teacher_open(&options, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    options.chat = NULL;
    options.together = 0;
    err = (Error){0};
    assert_null(local_teacher_open(&options, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_and_together),
        cmocka_unit_test(too_long),
        cmocka_unit_test(annotation),
        cmocka_unit_test(wrong_folders),
    };
    return cmocka_run_group_tests_name("local teacher", tests, make_llm, test_cleanup);
}
