/* Estimates for GPUs that are not there: machine files, steps like the run's own, and the figures that follow. */
#include "tests/train/tiny.h"

#include <math.h>

#include "train/estimate.h"
#include "train/estimate_machine.h"
#include "train/estimate_steps.h"

enum { CLIPS = 24 };

static const char PLAN[] = "configs/shapes/plan-7b.yaml";

static int setup(void **state) {
    (void)state;
    char *folder = test_folder();
    tiny_make(folder, CLIPS);
    free(folder);
    return 0;
}

/* ---- machines ---- */

static void test_machines(void **state) {
    (void)state;
    static const char *const names[] = {"h100", "h200", "a100", "l40s", "4090"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Error err = {0};
        char *path, *file = text_format(&err, "configs/machines/%s.yaml", names[i]);
        Machine *machine = machine_read(file, &path, &err);
        assert_ok(machine != NULL, &err);
        assert_true(machine->gemm_share > 0.8 && machine->gemm_share < 1 && machine->stream_share > 0.8);
        machine_free(machine);
        free(path);
        free(file);
    }
    Error err = {0};
    char *path;
    Machine *h100 = machine_read("configs/machines/h100.yaml", &path, &err);
    assert_ok(h100 != NULL, &err);
    assert_true(h100->matmul_tflops == 798 && h100->copy_tb_s == 3.0);
    assert_true(h100->gemm_share == 0.93 && h100->stream_share == 0.85);
    machine_free(h100);
    free(path);
}

static const char MEASURED[] = "name: \"NVIDIA H100\"\nsource: \"gpu-check\"\nmemory_gib: 79.6\ncopy_tb_s: 2.9\n"
                               "matmul_tflops: 780\ngemm_share: 0.9\nstream_share: 0.88\nattention_tflops: 200\n"
                               "attention_bias_tflops: 300\nattention_backward_tflops: 150\n"
                               "convolution_tflops: 320\nkernel_us: 2\nbus_gb_s: 400\n";

/* `text` with its one `from` as `to`. */
static char *replaced(const char *text, const char *from, const char *to) {
    Error err = {0};
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *result = text_format(&err, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_ok(result != NULL, &err);
    return result;
}

/* What gpu-check has measured on this machine goes before what is assumed. */
static void test_measured(void **state) {
    (void)state;
    Error err = {0};
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL, *folder = test_path(".cache/semollm/machines");
    char *file = path_join(folder, "h100.yaml", &err), *root = test_folder(), *path;
    assert_ok(folder_make(folder, &err) && file_write(file, MEASURED, strlen(MEASURED), &err), &err);
    unsetenv("XDG_CACHE_HOME"); /* the home folder's is meant */
    setenv("HOME", root, 1);
    Machine *machine = machine_read("h100", &path, &err);
    if (home)
        setenv("HOME", home, 1);
    else
        unsetenv("HOME");
    assert_ok(machine != NULL, &err);
    assert_string_equal(path, file);
    assert_true(machine->matmul_tflops == 780 && machine->stream_share == 0.88);
    assert_true(machine->attention_tflops == 200 && machine_attention_bias(machine) == 300);
    machine_free(machine);
    free(home);
    free(folder);
    free(file);
    free(root);
    free(path);
}

/* What gpu-check measured before it told attention with a bias from causal attention was a mean of both. */
static void test_one_attention(void **state) {
    (void)state;
    Error err = {0};
    char *text = replaced(MEASURED, "attention_bias_tflops: 300\n", ""), *path = test_path("machine.yaml"), *found;
    assert_ok(file_write(path, text, strlen(text), &err), &err);
    Machine *machine = machine_read(path, &found, &err);
    assert_ok(machine != NULL, &err);
    assert_true(machine_attention_bias(machine) == 200);
    machine_free(machine);
    free(text);
    free(path);
    free(found);
}

static void refuse_machine(const char *text, const char *sentence) {
    Error err = {0};
    char *path = test_path("machine.yaml"), *found = NULL;
    assert_ok(file_write(path, text, strlen(text), &err), &err);
    assert_null(machine_read(path, &found, &err));
    assert_non_null(strstr(err.text, sentence));
    assert_int_equal(err.exit_code, 2);
    free(path);
}

static void test_bad_machines(void **state) {
    (void)state;
    Error err = {0};
    char *path;
    refuse_machine("name: x\n", "Missing required mapping field: source");
    const struct {
        const char *from, *to, *sentence;
    } wrong[] = {
        {"matmul_tflops: 780", "matmul_tflops: 0", "matmul_tflops must be more than 0"},
        {"gemm_share: 0.9", "gemm_share: 1.2", "gemm_share must be more than 0 and at most 1, found 1.2"},
        {"attention_bias_tflops: 300", "attention_bias_tflops: 0", "attention_bias_tflops must be more than 0"},
        {"attention_bias_tflops: 300", "attention_bias_tflops: nan", "attention_bias_tflops must be more than 0"},
        {"attention_bias_tflops: 300", "attention_bias_tflops:", "nvalid"},
        {"attention_bias_tflops: 300", "attention_bias_tflops: 300\nblock_shared_kib: -1", "block_shared_kib must be"},
        {"attention_bias_tflops: 300", "attention_bias_tflops: 300\nblock_shared_kib: many", "nvalid"},
        {"attention_tflops: 200\n", "", "Missing required mapping field: attention_tflops"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *text = replaced(MEASURED, wrong[i].from, wrong[i].to);
        refuse_machine(text, wrong[i].sentence);
        free(text);
    }
    assert_null(machine_read("no-such-machine", &path, &err));
    assert_non_null(strstr(err.text, "no machine \"no-such-machine\""));
}

/* ---- steps ---- */

/* The micro-batches of one rank are the run's own. */
static void compare_steps(const char *set) {
    Error err = {0};
    char *config = test_path("config.yaml");
    Texts overrides = {.items = &set, .count = 1};
    Run *run =
        run_open(config, &(RunOptions){.overrides = &overrides, .data = true, .model = true, .plan = true}, &err);
    assert_ok(run != NULL, &err);
    Examples examples;
    Steps steps;
    StepPlan plan = {0};
    PlannedSteps planned;
    assert_ok(examples_make(&examples, run, &run->train, &err) &&
                  steps_open(&steps, run, &examples, (Share){0, 1}, &err),
              &err);
    assert_ok(planned_steps(&planned, run, &examples, 1, &err), &err);
    assert_true(planned.total == steps.total && planned.steps > 1);
    assert_memory_equal(&planned.limits, &steps.limits, sizeof planned.limits);
    int64_t position = 0, tokens = 0;
    size_t group = 0;
    for (int s = 0; s < planned.steps; s++, position += plan.clips) {
        assert_ok(steps_plan(&steps, position, &plan, &err), &err);
        tokens += plan.tokens;
        for (size_t g = 0; g < plan.group_count; g++, group++)
            assert_int_equal(planned.groups[group].count, plan.groups[g]);
    }
    assert_int_equal(group, planned.group_count);
    assert_int_equal(tokens, planned.tokens);
    PlannedSteps half;
    assert_ok(planned_steps(&half, run, &examples, 2, &err), &err);
    assert_true(half.tokens == planned.tokens && half.clip_count < planned.clip_count);
    planned_steps_free(&half);
    planned_steps_free(&planned);
    step_plan_free(&plan);
    steps_close(&steps);
    examples_free(&examples);
    run_close(run);
    free(config);
}

static void test_steps(void **state) {
    (void)state;
    compare_steps("train.accumulate=2");
    compare_steps("train={epochs: 2.5, batch_tokens: 200, accumulate: 2, lr: 1e-3}");
    compare_steps("train={epochs: 2.5, batch_tokens: 150, batch_clips: 3, lr: 1e-3}");
}

/* ---- estimates ---- */

typedef struct Figures {
    double llm, used, products, whole;
} Figures;

static double number_after(const char *text, const char *label) {
    const char *at = strstr(text, label);
    if (!at) fail_msg("no \"%s\" in the estimate:\n%s", label, text);
    return strtod(at + strlen(label), NULL);
}

static Figures estimate_of(const char *config, const char *machine, const char *set, char **report) {
    Error err = {0};
    size_t size;
    FILE *out = open_memstream(report, &size);
    Texts overrides = {.items = &set, .count = set != NULL};
    assert_ok(estimate(config, &overrides, machine, out, &err), &err);
    fclose(out);
    const char *time = strstr(*report, "time of a step");
    assert_non_null(time);
    return (Figures){.llm = number_after(*report, "LLM, frozen, bf16"),
                     .used = number_after(*report, "in all"),
                     .products = number_after(time, "matrix products"),
                     .whole = number_after(time, "in all")};
}

/* WavLM large and Qwen2.5 7B on clips of 1 to 15 s. */
static void test_large(void **state) {
    (void)state;
    char *report;
    Figures h100 = estimate_of(PLAN, "configs/machines/h100.yaml", NULL, &report);
    double weights = 15.23e9 / 1073741824; /* 7.62 billion, and room for LoRA beside them */
    assert_true(h100.llm > weights && h100.llm < weights + 0.15);
    assert_non_null(strstr(report, ": fits"));
    assert_true(h100.used > 40 && h100.used < 79.2);
    /* 26.4 GFLOP a token at 7B and 39 GFLOP a second of audio, by hand, at 0.93 of 798 TFLOP/s. */
    assert_true(h100.products > 560 && h100.products < 680);
    assert_true(h100.whole > h100.products && h100.whole <= 1.25 * h100.products);
    /* 1.8 TFLOP of the encoder's attention at 162 TFLOP/s, 0.7 of the decoder's at 72, by hand. */
    double encoder = number_after(report, "attention with a bias (WavLM's), forward");
    double decoder = number_after(report, "attention, forward");
    assert_true(encoder > 9 && encoder < 12 && decoder > 8 && decoder < 11);
    free(report);
    Figures h200 = estimate_of(PLAN, "configs/machines/h200.yaml", NULL, &report);
    assert_true(h200.whole - h200.products < h100.whole - h100.products); /* its memory is the faster */
    free(report);
    Figures many = estimate_of(PLAN, "configs/machines/h100.yaml,8", NULL, &report);
    assert_non_null(strstr(report, "all-reduce"));
    assert_true(many.used < h100.used && many.whole < h100.whole / 6);
    free(report);
    estimate_of(PLAN, "configs/machines/4090.yaml", "model.llm=configs/shapes/llama-3.1-8b", &report);
    assert_non_null(strstr(report, "DOES NOT FIT"));
    free(report);
}

/* A run with data: its own number of steps; cached features leave the encoder out. */
static void test_run(void **state) {
    (void)state;
    char *config = test_path("config.yaml"), *report, *cached;
    Figures plain = estimate_of(config, "configs/machines/h100.yaml", NULL, &report);
    Figures less = estimate_of(config, "configs/machines/h100.yaml", "train.encoder_cache=memory", &cached);
    assert_null(strstr(report, "assumed:"));
    assert_non_null(strstr(report, "of it the encoder"));
    assert_null(strstr(cached, "of it the encoder"));
    assert_true(less.whole < plain.whole);
    free(report);
    free(cached);
    free(config);
}

static void test_refused(void **state) {
    (void)state;
    Error err = {0};
    Texts none = {0};
    static const char *const bad[] = {"configs/machines/h100.yaml,0", "configs/machines/h100.yaml,x", "h100,5000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (Error){0};
        assert_false(estimate(PLAN, &none, bad[i], stdout, &err));
        assert_int_equal(err.exit_code, 2);
        assert_non_null(strstr(err.text, "the number of GPUs must be 1 to 4096"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_machines),      cmocka_unit_test(test_measured),
                                       cmocka_unit_test(test_one_attention), cmocka_unit_test(test_bad_machines),
                                       cmocka_unit_test(test_steps),         cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_run),           cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, setup, test_cleanup);
}
