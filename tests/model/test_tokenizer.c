/* Ids and texts as `tokenizers` gives them, on the fixtures of tests/oracle/tokenizer.py; round trips; what
 * is and is not a special token. */
#include "tests/model/tokenizer_fixture.h"

typedef struct Reader {
    const unsigned char *at;
} Reader;

static uint32_t read_count(Reader *reader) {
    uint32_t value;
    memcpy(&value, reader->at, sizeof value);
    reader->at += sizeof value;
    return value;
}

static const char *read_bytes(Reader *reader, uint32_t length) {
    const char *bytes = (const char *)reader->at;
    reader->at += length;
    return bytes;
}

static bool same_ids(const Ids *ids, Reader *expected) {
    uint32_t count = read_count(expected);
    bool same = ids->count == count;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t id;
        memcpy(&id, expected->at, sizeof id);
        expected->at += sizeof id;
        same = same && ids->items[i] == id;
    }
    return same;
}

static bool same_text(const Tokenizer *tokenizer, const Ids *ids, bool skip, Reader *expected) {
    uint32_t length = read_count(expected);
    const char *bytes = read_bytes(expected, length);
    Text text = {0};
    Error err = {0};
    bool done = tokenizer_decode_text(tokenizer, ids->items, ids->count, skip, &text, &err);
    bool same = done && text.length == length && memcmp(text.data, bytes, length) == 0;
    text_free(&text);
    return same;
}

/* Every line of a family: ids, and its text with and without special tokens. */
static void check_family(const char *name) {
    char expected_name[64];
    snprintf(expected_name, sizeof expected_name, "%s", name);
    size_t lines_size, expected_size;
    unsigned char *lines = fixture_read("lines", &lines_size), *expected = fixture_read(expected_name, &expected_size);
    Tokenizer *tokenizer = fixture_open(name);
    Reader line = {lines}, wanted = {expected};
    uint32_t count = read_count(&wanted), wrong_ids = 0, wrong_texts = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = read_count(&line);
        TextPiece piece = {read_bytes(&line, length), length, true};
        Ids ids = {0};
        Error err = {0};
        bool done = tokenizer_encode(tokenizer, &piece, 1, &ids, &err);
        bool same = same_ids(&ids, &wanted) && done;
        bool kept = same_text(tokenizer, &ids, false, &wanted), skipped = same_text(tokenizer, &ids, true, &wanted);
        if (!same && wrong_ids++ < 3) print_message("  %s line %u: ids differ %s\n", name, i, err.text);
        if (same && !(kept && skipped) && wrong_texts++ < 3) print_message("  %s line %u: text differs\n", name, i);
        ids_free(&ids);
    }
    print_message("%-24s %u lines: %u with other ids, %u with other texts\n", name, count, wrong_ids, wrong_texts);
    assert_ptr_equal(wanted.at, expected + expected_size);
    tokenizer_close(tokenizer);
    free(lines);
    free(expected);
    assert_int_equal(wrong_ids, 0);
    assert_int_equal(wrong_texts, 0);
}

static void test_qwen(void **state) {
    (void)state;
    check_family("qwen");
}

static void test_llama3(void **state) {
    (void)state;
    check_family("llama3");
}

static void test_smollm2(void **state) {
    (void)state;
    check_family("smollm2");
}

static void test_llama2(void **state) {
    (void)state;
    check_family("llama2");
}

static void test_other_shapes(void **state) {
    (void)state;
    static const char *const names[] = {
        "llama2_normalized",     "metaspace_always_split", "metaspace_always_whole", "metaspace_first_split",
        "metaspace_first_whole", "metaspace_never_split",  "metaspace_never_whole",  "unknown"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_family(names[i]);
}

/* ---- properties ---- */

static char *encode_decode(const Tokenizer *tokenizer, const char *text, size_t length, size_t *back) {
    Error err = {0};
    Ids ids = {0};
    Text out = {0};
    TextPiece piece = {text, length, false};
    assert_true(tokenizer_encode(tokenizer, &piece, 1, &ids, &err));
    assert_true(tokenizer_decode_text(tokenizer, ids.items, ids.count, false, &out, &err));
    ids_free(&ids);
    *back = out.length;
    return text_finish(&out, &err);
}

/* Any text comes back from a byte-level tokenizer without a normalizer. */
static void test_round_trip(void **state) {
    (void)state;
    Tokenizer *tokenizer = fixture_open("llama3");
    Rng rng = rng_stream(5, PLACE_TEMPLATE, 0, 0);
    for (int round = 0; round < 3000; round++) {
        Text text = {0};
        text_add(&text, "", 0);
        for (int left = (int)rng_below(&rng, 40); left > 0; left--) {
            int32_t c = (int32_t)rng_below(&rng, round % 2 ? 0x110000 : 0x250);
            utf8_add(&text, c >= 0xD800 && c < 0xE000 ? ' ' : c);
        }
        size_t length;
        char *back = encode_decode(tokenizer, text.data, text.length, &length);
        assert_int_equal(length, text.length);
        assert_memory_equal(back, text.data, length);
        free(back);
        text_free(&text);
    }
    tokenizer_close(tokenizer);
}

static void check_ids(const Tokenizer *tokenizer, const TextPiece *pieces, size_t count, int32_t token, bool wanted) {
    Ids ids = {0};
    Error err = {0};
    bool found = false;
    assert_true(tokenizer_encode(tokenizer, pieces, count, &ids, &err));
    for (size_t i = 0; i < ids.count; i++) found = found || ids.items[i] == token;
    assert_int_equal(found, wanted);
    ids_free(&ids);
}

static TextPiece piece_of(const char *text, bool special) { return (TextPiece){text, strlen(text), special}; }

static void test_data_never_becomes_special(void **state) {
    (void)state;
    static const char *const families[] = {"qwen", "llama2", "llama2_normalized", "metaspace_first_whole"};
    for (size_t i = 0; i < 4; i++) {
        Tokenizer *tokenizer = fixture_open(families[i]);
        const char *name = i ? "</s>" : "<|im_end|>";
        int32_t token = tokenizer_id(tokenizer, name);
        assert_true(token >= 0);
        TextPiece data = piece_of(name, false), template = piece_of(name, true);
        TextPiece halves[2] = {{name, 2, true}, {name + 2, strlen(name) - 2, false}};
        TextPiece joined[2] = {{name, 2, true}, {name + 2, strlen(name) - 2, true}};
        check_ids(tokenizer, &data, 1, token, false);
        check_ids(tokenizer, &template, 1, token, true);
        check_ids(tokenizer, halves, 2, token, false);
        check_ids(tokenizer, joined, 2, token, true);
        tokenizer_close(tokenizer);
    }
}

/* llama2_normalized looks for ▁</s>, as the normalizer made of it: found where a stretch begins with it. */
static void test_normalized_special(void **state) {
    (void)state;
    Tokenizer *tokenizer = fixture_open("llama2_normalized");
    int32_t token = tokenizer_id(tokenizer, "</s>");
    TextPiece after[2] = {piece_of("said", false), piece_of(" </s>", true)};
    TextPiece inside[2] = {piece_of("said </s>", false), piece_of(" x", true)};
    check_ids(tokenizer, after, 2, token, true);
    check_ids(tokenizer, inside, 2, token, false);
    tokenizer_close(tokenizer);
}

static void test_continued(void **state) {
    (void)state;
    static const char *const families[] = {"llama2", "metaspace_first_split", "metaspace_always_whole", "smollm2"};
    for (size_t i = 0; i < 4; i++) {
        Tokenizer *tokenizer = fixture_open(families[i]);
        Ids whole = {0}, parts = {0};
        Error err = {0};
        TextPiece both[2] = {piece_of("USER: speaks ASSISTANT:", true), piece_of(" happy and loud</s>", true)};
        assert_true(tokenizer_encode(tokenizer, both, 2, &whole, &err));
        assert_true(tokenizer_encode(tokenizer, &both[0], 1, &parts, &err));
        assert_true(tokenizer_encode_continued(tokenizer, &both[1], 1, &parts, &err));
        assert_int_equal(whole.count, parts.count);
        assert_memory_equal(whole.items, parts.items, whole.count * sizeof *whole.items);
        ids_free(&whole);
        ids_free(&parts);
        tokenizer_close(tokenizer);
    }
}

static void test_bad_text(void **state) {
    (void)state;
    Tokenizer *tokenizer = fixture_open("qwen");
    static const char *const bad[] = {"\xFF", "a\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82 x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Error err = {0};
        Ids ids = {0};
        TextPiece piece = piece_of(bad[i], true);
        assert_false(tokenizer_encode(tokenizer, &piece, 1, &ids, &err));
        assert_non_null(strstr(err.text, "UTF-8"));
        ids_free(&ids);
    }
    Error err = {0};
    const int32_t negative = -1, beyond[2] = {1 << 20, tokenizer_id(tokenizer, "<|im_end|>")};
    assert_null(tokenizer_decode(tokenizer, &negative, 1, false, &err));
    char *text = tokenizer_decode(tokenizer, beyond, 2, false, &err);
    assert_string_equal(text, "<|im_end|>");
    free(text);
    tokenizer_close(tokenizer);
}

/* No pre-tokenizer: one word of a million characters, in time that grows as n log n; a long run of marks and
 * of white space. */
static void test_long_texts(void **state) {
    (void)state;
    enum { LENGTH = 1 << 20 };
    static const char *const families[] = {"llama2", "qwen"}, *const units[] = {"ab", "\xCC\x81\xCC\xA7", " ",
                                                                                "\xE1\x84\x80"};
    char *text = malloc(LENGTH + 8);
    double start = clock_seconds();
    for (size_t i = 0; i < 8; i++) {
        Tokenizer *tokenizer = fixture_open(families[i % 2]);
        const char *unit = units[i / 2];
        size_t size = strlen(unit), length = LENGTH / size * size;
        for (size_t at = 0; at < length; at += size) memcpy(text + at, unit, size);
        Ids ids = {0};
        Error err = {0};
        TextPiece piece = {text, length, true};
        assert_true(tokenizer_encode(tokenizer, &piece, 1, &ids, &err));
        assert_true(ids.count > 0);
        ids_free(&ids);
        tokenizer_close(tokenizer);
    }
    free(text);
    double seconds = clock_seconds() - start;
    print_message("8 texts of 1 MiB without a break: %.1f s\n", seconds);
    assert_true(seconds < 120);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_llama2),
        cmocka_unit_test(test_other_shapes),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_data_never_becomes_special),
        cmocka_unit_test(test_normalized_special),
        cmocka_unit_test(test_continued),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
