/* Damaged, malicious and unsupported tokenizer.json files: each one clear sentence, or a tokenizer that
 * works; never a crash. Regexes that PCRE2 would read otherwise than Oniguruma are refused. */
#include "tests/model/tokenizer_fixture.h"

static size_t refused, opened; /* of the whole program, printed at its end */

static void check_sentence(const Error *err) {
    assert_int_equal(err->exit_code, EXIT_FAILED);
    assert_true(strlen(err->text) > 20);
    assert_non_null(strstr(err->text, "tokenizer.json"));
    if (strchr(err->text, '\n')) fail_msg("more than one line: %s", err->text);
    refused++;
}

/* A tokenizer that opened must encode and decode, or say why not. */
static void use(Tokenizer *tokenizer) {
    static const char TEXT[] = " It's 12 caf\xC3\xA9s\n\n<|im_end|>  \xF0\x9F\x98\x80";
    Error err = {0};
    Ids ids = {0};
    Text text = {0};
    TextPiece piece = {TEXT, sizeof TEXT - 1, true};
    if (tokenizer_encode(tokenizer, &piece, 1, &ids, &err))
        assert_true(tokenizer_decode_text(tokenizer, ids.items, ids.count, true, &text, &err));
    else
        assert_true(strlen(err.text) > 20);
    text_free(&text);
    ids_free(&ids);
    tokenizer_close(tokenizer);
    opened++;
}

static void try_text(const void *json, size_t size) {
    Error err = {0};
    Tokenizer *tokenizer = fixture_open_text(json, size, &err);
    if (tokenizer)
        use(tokenizer);
    else
        check_sentence(&err);
}

static json_t *fixture_json(const char *name) {
    size_t size;
    unsigned char *text = fixture_read(name, &size);
    json_t *root = json_loadb((char *)text, size, 0, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

/* A whole tokenizer of a few tokens, with one member (a path with dots) replaced by other JSON. */
static const char SMALL[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":5,\"content\":\"<e>\","
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":"
    "\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"}]},\"pre_tokenizer\":{\"type\":\"Split\","
    "\"pattern\":{\"Regex\":\"_\"},\"behavior\":\"MergedWithNext\",\"invert\":false},\"decoder\":{\"type\":"
    "\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},\"content\":\" \"},{\"type\":"
    "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":"
    "\"u\",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":false,"
    "\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"ab\":3,\"_\":4},\"merges\":[[\"a\",\"b\"]]}}";

static char *small_with(const char *path, const char *value) {
    json_t *root = json_loads(SMALL, 0, NULL), *at = root;
    char *names = strdup(path), *rest = names;
    for (char *dot; (dot = strchr(rest, '.')); rest = dot + 1) {
        *dot = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(rest)) : json_object_get(at, rest);
    }
    json_t *json = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    if (value && !json) fail_msg("test: %s", value);
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(rest), json);
    else if (json)
        json_object_set_new(at, rest, json);
    else
        json_object_del(at, rest);
    free(names);
    char *text = json_dumps(root, 0);
    json_decref(root);
    return text;
}

static void check_refused(const char *path, const char *value, const char *named) {
    char *text = small_with(path, value);
    Error err = {0};
    Tokenizer *tokenizer = fixture_open_text(text, strlen(text), &err);
    if (tokenizer) fail_msg("%s = %s was accepted", path, value ? value : "nothing");
    check_sentence(&err);
    if (!strstr(err.text, named)) fail_msg("%s = %s: %s", path, value ? value : "nothing", err.text);
    free(text);
}

static void test_members(void **state) {
    (void)state;
    try_text(SMALL, sizeof SMALL - 1);
    assert_int_equal(opened, 1);
    static const struct {
        const char *path, *value, *named;
    } wrong[] = {
        {"model", NULL, "model"},
        {"model", "[]", "model"},
        {"model.type", "\"Unigram\"", "model.type"},
        {"model.type", "\"WordPiece\"", "model.type"},
        {"model.type", "7", "type"},
        {"model.dropout", "0.1", "dropout"},
        {"model.dropout", "\"no\"", "dropout"},
        {"model.unk_token", "\"missing\"", "unk_token"},
        {"model.unk_token", "3", "unk_token"},
        {"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
        {"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"model.fuse_unk", "\"yes\"", "fuse_unk"},
        {"model.byte_fallback", "1", "byte_fallback"},
        {"model.ignore_merges", "[]", "ignore_merges"},
        {"model.vocab", NULL, "model.vocab"},
        {"model.vocab", "[[\"a\", -1.5]]", "model.vocab"},
        {"model.vocab.b", "-1", "model.vocab"},
        {"model.vocab.b", "1", "model.vocab"},
        {"model.vocab.b", "2.5", "model.vocab"},
        {"model.vocab.b", "\"2\"", "model.vocab"},
        {"model.vocab.b", "4294967298", "model.vocab"},
        {"model.vocab.b", "4194304", "model.vocab"},
        {"model.vocab.b", "9223372036854775807", "model.vocab"},
        {"model.merges", NULL, "model.merges"},
        {"model.merges", "{}", "model.merges"},
        {"model.merges.0", "\"ab\"", "model.merges[0]"},
        {"model.merges.0", "\"a b c\"", "model.merges[0]"},
        {"model.merges.0", "\"\"", "model.merges[0]"},
        {"model.merges.0", "[\"a\"]", "model.merges[0]"},
        {"model.merges.0", "[\"a\", \"b\", \"c\"]", "model.merges[0]"},
        {"model.merges.0", "[\"a\", 2]", "model.merges[0]"},
        {"model.merges.0", "[\"a\", \"x\"]", "\"x\""},
        {"model.merges.0", "[\"x\", \"b\"]", "\"x\""},
        {"model.merges.0", "[\"b\", \"a\"]", "\"ba\""},
        {"model.merges.0", "null", "model.merges[0]"},
        {"added_tokens", "{}", "added_tokens"},
        {"added_tokens.0", "null", "added_tokens[0]"},
        {"added_tokens.0.id", "-5", "added_tokens[0]"},
        {"added_tokens.0.id", "6", "added_tokens[0]"},
        {"added_tokens.0.id", "4000000000", "added_tokens[0]"},
        {"added_tokens.0.id", "\"5\"", "added_tokens[0]"},
        {"added_tokens.0.content", "\"\"", "added_tokens[0]"},
        {"added_tokens.0.content", NULL, "added_tokens[0]"},
        {"added_tokens.0.content", "\"a\"", "added_tokens[0]"},
        {"added_tokens.0.special", NULL, "added_tokens[0]"},
        {"added_tokens.0.lstrip", "0", "added_tokens[0]"},
        {"normalizer", "7", "normalizer"},
        {"normalizer", "{}", "normalizer"},
        {"normalizer", "{\"type\": \"NFKC\"}", "normalizer.type"},
        {"normalizer", "{\"type\": \"Precompiled\"}", "normalizer.type"},
        {"normalizer.normalizers", "{}", "normalizer.normalizers"},
        {"normalizer.normalizers.1", "{\"type\": \"Lowercase\"}", "normalizer.normalizers[1].type"},
        {"normalizer.normalizers.0.prepend", NULL, "prepend"},
        {"normalizer.normalizers.1.pattern", "\" \"", "pattern"},
        {"normalizer.normalizers.1.pattern.String", "\"\"", "pattern"},
        {"normalizer.normalizers.1.content", "1", "content"},
        {"pre_tokenizer", "[]", "pre_tokenizer"},
        {"pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer.type"},
        {"pre_tokenizer", "{\"type\": \"Digits\"}", "individual_digits"},
        {"pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": 1}", "add_prefix_space"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"\"}", "replacement"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"__\"}", "replacement"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"last\"}",
         "prepend_scheme"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"add_prefix_space\": false}",
         "add_prefix_space"},
        {"pre_tokenizer.behavior", "\"Sideways\"", "behavior"},
        {"pre_tokenizer.invert", "\"no\"", "invert"},
        {"decoder", "{\"type\": \"WordPiece\"}", "decoder.type"},
        {"decoder", "{\"type\": \"CTC\"}", "decoder.type"},
        {"decoder.decoders.1.content", "\"ab\"", "content"},
        {"decoder.decoders.1.start", "-1", "start"},
        {"decoder.decoders.1.stop", "1e3", "stop"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(wrong[i].path, wrong[i].value, wrong[i].named);
}

static void test_regexes(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        "(",
                                        "[",
                                        "[]a]",
                                        "a**",
                                        "\\\\w+",
                                        "\\\\b",
                                        "^a",
                                        "a$",
                                        "(*UTF)a",
                                        "(?R)",
                                        "(?<n>a)",
                                        "(a)\\\\1",
                                        "\\\\Qa",
                                        "[[:alpha:]]",
                                        "[a&&b]",
                                        "\\\\p{Han}",
                                        "\\\\p{",
                                        "\\\\pL",
                                        "a{,3}",
                                        "a{2}+",
                                        "\\\\xFF",
                                        "\\\\u12",
                                        "\\\\x{}",
                                        "\\\\x{110000}",
                                        "(?#a)",
                                        "\\\\C",
                                        "\\\\K",
                                        "\\\\",
                                        "[\\\\",
                                        "a{99999}",
                                        "(?s)a",
                                        "\\\\X",
                                        "((((a{1,9999}){1,9999}){1,9999}){1,9999})"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *value = text_format(NULL, "\"%s\"", wrong[i]);
        check_refused("pre_tokenizer.pattern.Regex", value, "pre_tokenizer");
        free(value);
    }
    Text deep = {0};
    text_add_string(&deep, "\"");
    for (int i = 0; i < 5000; i++) text_add_string(&deep, "(");
    text_add_string(&deep, "a");
    for (int i = 0; i < 5000; i++) text_add_string(&deep, ")");
    text_add_string(&deep, "\"");
    check_refused("pre_tokenizer.pattern.Regex", deep.data, "pre_tokenizer");
    text_free(&deep);
}

/* A regex that backtracks without end gives up, with a sentence. */
static void test_backtracking(void **state) {
    (void)state;
    static const char *const regexes[] = {"\"(a+)+b\"", "\"(a|a)*c\"", "\"(?:a?){40}a{40}c\"", "\"(.*)*x\""};
    for (size_t i = 0; i < 4; i++) {
        char text[4001], *json = small_with("pre_tokenizer.pattern.Regex", regexes[i]);
        Error err = {0};
        Ids ids = {0};
        Tokenizer *tokenizer = fixture_open_text(json, strlen(json), &err);
        assert_non_null(tokenizer);
        memset(text, 'a', sizeof text);
        TextPiece piece = {text, sizeof text, false};
        if (!tokenizer_encode(tokenizer, &piece, 1, &ids, &err)) assert_non_null(strstr(err.text, "gave up"));
        ids_free(&ids);
        tokenizer_close(tokenizer);
        free(json);
    }
}

static void test_shapes(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "{}",
                                        "[]",
                                        "null",
                                        "7",
                                        "\"model\"",
                                        "{\"model\":",
                                        "\xEF\xBB\xBF{}",
                                        "{\"model\":{},\"model\":{}}",
                                        "{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"\\ud800\":0},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"a\\u0000b\":0},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"\xFF\":0},\"merges\":[]}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Error err = {0};
        assert_null(fixture_open_text(texts[i], strlen(texts[i]), &err));
        check_sentence(&err);
    }
    Text deep = {0};
    for (int i = 0; i < 100000; i++) text_add_string(&deep, "[");
    try_text(deep.data, deep.length);
    deep.length = 0;
    for (int i = 0; i < 1000; i++) text_add_string(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    text_add_string(&deep, "{\"type\":\"NFC\"}");
    for (int i = 0; i < 1000; i++) text_add_string(&deep, "]}");
    char *nested = text_format(NULL, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":%s}", deep.data);
    Error err = {0};
    assert_null(fixture_open_text(nested, strlen(nested), &err));
    check_sentence(&err);
    free(nested);
    text_free(&deep);
    err = (Error){0};
    assert_null(tokenizer_open("/nonexistent", &err));
    check_sentence(&err);
}

/* Unusual but right. */
static void test_accepted(void **state) {
    (void)state;
    static const struct {
        const char *path, *value;
    } right[] = {
        {"model.type", NULL},
        {"model.merges", "[]"},
        {"model.merges", "[\"#version: 0.2\", \"a b\"]"},
        {"model.merges", "[[\"a\",\"b\"],[\"a\",\"b\"]]"},
        {"added_tokens", NULL},
        {"added_tokens", "[]"},
        {"normalizer", "null"},
        {"pre_tokenizer", NULL},
        {"decoder", "null"},
        {"model.unk_token", "null"},
        {"model.vocab.zz", "100"},
        {"model.dropout", "0.0"},
        {"decoder.decoders.1.stop", "2147483647"},
        {"pre_tokenizer.pattern.Regex", "\"a*\""},
        {"pre_tokenizer.pattern.Regex", "\"\\\\s|[^\\\\S\\\\u000a]|\\\\p{Lu}{2,}|\\\\P{L}|\\\\x{1F600}|\\\\d++\""},
    };
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        size_t before = opened;
        char *text = small_with(right[i].path, right[i].value);
        json_t *root = json_loads(text, 0, NULL);
        if (strcmp(right[i].path, "model.vocab.zz") == 0) { /* numbering goes on from the number of tokens */
            json_object_set_new(json_array_get(json_object_get(root, "added_tokens"), 0), "id", json_integer(6));
            free(text);
            text = json_dumps(root, 0);
        }
        try_text(text, strlen(text));
        if (opened != before + 1) fail_msg("%s = %s was refused", right[i].path, right[i].value);
        json_decref(root);
        free(text);
    }
}

/* Cut and flipped bits at places drawn from the counter-based generator. */
static void test_damage(void **state) {
    (void)state;
    Rng rng = rng_stream(9, PLACE_TEMPLATE, 0, 0);
    for (int round = 0; round < 1500; round++) {
        char text[sizeof SMALL];
        memcpy(text, SMALL, sizeof SMALL);
        size_t size = sizeof SMALL - 1;
        if (round % 5 == 0) size = rng_below(&rng, (uint32_t)size);
        for (int flips = round % 5 ? 1 + round % 3 : 0; flips > 0; flips--)
            text[rng_below(&rng, (uint32_t)size)] ^= (char)(1 << rng_below(&rng, 8));
        try_text(text, size);
    }
    json_t *root = fixture_json("llama3.json"); /* and a whole one */
    char *whole = json_dumps(root, 0);
    size_t size = strlen(whole);
    for (int round = 0; round < 60; round++) {
        char *copy = malloc(size);
        memcpy(copy, whole, size);
        for (int flips = 0; flips < 1 + round % 4; flips++)
            copy[rng_below(&rng, (uint32_t)size)] ^= (char)(1 << rng_below(&rng, 8));
        try_text(copy, round % 4 ? size : rng_below(&rng, (uint32_t)size));
        free(copy);
    }
    free(whole);
    json_decref(root);
    print_message("%zu files refused with a sentence, %zu opened and used\n", refused, opened);
    assert_true(refused > 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),      cmocka_unit_test(test_regexes),  cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_backtracking), cmocka_unit_test(test_accepted), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
