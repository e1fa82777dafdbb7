/* semollm logits: what it writes, and what it refuses. */
#include "tests/model/decoder_fixture.h"

#include "model/commands.h"

static bool run(const char *folder, const char *flag, const char *value, const char *out, const char *adapter,
                Error *err) {
    char *argv[] = {"logits",
                    (char *)(uintptr_t)folder,
                    (char *)(uintptr_t)flag,
                    (char *)(uintptr_t)value,
                    "-o",
                    (char *)(uintptr_t)out,
                    "--adapter",
                    (char *)(uintptr_t)adapter};
    return command_logits(adapter ? 8 : 6, argv, err);
}

/* The last sequence of the fixture, with and without PEFT's adapter. */
static void test_written_logits(void **state) {
    (void)state;
    for (int v = 0; v < VARIANT_COUNT; v++) {
        Fixture *f = fixture_open(VARIANTS[v]);
        const int32_t *ids = fixture_ints(f, "ids") + CU[3];
        int64_t shape[2] = {40, VOCAB};
        char *out = test_path("logits.safetensors");
        Text text = {0};
        for (int i = 0; i < 40; i++) text_addf(&text, i ? " %d" : "%d", ids[i]);
        for (int adapter = 0; adapter < 2; adapter++) {
            size_t count;
            float logits[40 * VOCAB], *expected = fixture_floats(f, adapter ? "adapter_logits" : "logits", &count);
            TensorFiles *files;
            assert_ok(run(f->folder, "--ids", text.data, out, adapter ? f->adapter : NULL, &f->err), &f->err);
            assert_ok(files = tensors_open(out, &f->err), &f->err);
            assert_int_equal(tensors_count(files), 1);
            assert_ok(tensors_read(files, "logits", 2, shape, logits, &f->err), &f->err);
            assert_close(logits, expected + CU[3] * VOCAB, 40 * VOCAB, 1e-5, f->folder);
            tensors_close(files);
            free(expected);
        }
        text_free(&text);
        free(out);
        fixture_close(f);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *folder, *flag, *value;
        int code;
    } cases[] = {
        {"tests/fixtures/decoder/llama3", "--ids", "1 2 96", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--ids", "1 -2", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--ids", "1 two", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--ids", "1.5", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--ids", "99999999999999999999", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--ids", "  ", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--id", "1", EXIT_USAGE},
        {"tests/fixtures/decoder/llama3", "--text", "no tokenizer here", EXIT_FAILED},
        {"tests/fixtures/decoder/none", "--ids", "1", EXIT_FAILED},
        {"tests/fixtures/decoder", "--ids", "1", EXIT_FAILED},
    };
    char *out = test_path("refused.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        assert_false(run(cases[i].folder, cases[i].flag, cases[i].value, out, NULL, &err));
        if (err.exit_code != cases[i].code) fail_msg("case %zu: exit %d: %s", i, err.exit_code, err.text);
        assert_false(file_exists(out));
    }
    Error err = {0};
    char *neither[] = {"logits", "tests/fixtures/decoder/llama3", "-o", out};
    assert_false(command_logits(4, neither, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    char *nowhere[] = {"logits", "tests/fixtures/decoder/llama3", "--ids", "1"};
    assert_false(command_logits(4, nowhere, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    err = (Error){0};
    assert_false(run("tests/fixtures/decoder/llama3", "--ids", "1", out, "tests/fixtures/decoder/qwen2/adapter", &err));
    assert_int_equal(err.exit_code, EXIT_FAILED);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_written_logits), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
