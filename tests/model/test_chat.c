/* Prompts of every template against their texts, the place of the speech, ends of turns, guesses. */
#include "tests/model/tokenizer_fixture.h"

#include "model/chat.h"

static const char USER[] = "Say how it sounds.";

/* A tokenizer whose added tokens are those of all templates: prompts then show in the ids what is special. */
static Tokenizer *open_tokenizer(const char *family) {
    static const char *const tokens[] = {"<|im_start|>",
                                         "<|im_end|>",
                                         "<think>",
                                         "</think>",
                                         "<|begin_of_text|>",
                                         "<|start_header_id|>",
                                         "<|end_header_id|>",
                                         "<|eot_id|>",
                                         "<|endoftext|>",
                                         "<s>",
                                         "</s>"};
    size_t size;
    unsigned char *text = fixture_read(family, &size);
    json_t *root = json_loadb((char *)text, size, 0, NULL), *added = json_array();
    assert_non_null(root);
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_int_t next = (json_int_t)json_object_size(vocab);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        const json_t *known = json_object_get(vocab, tokens[i]);
        json_t *token =
            json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", known ? json_integer_value(known) : next++, "content",
                      tokens[i], "special", 1, "normalized", 0, "lstrip", 0, "rstrip", 0, "single_word", 0);
        assert_int_equal(json_array_append_new(added, token), 0);
    }
    json_object_set_new(root, "added_tokens", added);
    char *json = json_dumps(root, 0);
    Error err = {0};
    Tokenizer *tokenizer = fixture_open_text(json, strlen(json), &err);
    if (!tokenizer) fail_msg("%s", err.text);
    free(json);
    json_decref(root);
    free(text);
    return tokenizer;
}

static void append(Ids *ids, const int32_t *items, size_t count) {
    Error err = {0};
    for (size_t i = 0; i < count; i++) {
        assert_true(memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, &err));
        ids->items[ids->count++] = items[i];
    }
}

static void assert_same_ids(const Ids *found, const Ids *wanted) {
    assert_int_equal(found->count, wanted->count);
    for (size_t i = 0; i < wanted->count; i++) assert_int_equal(found->items[i], wanted->items[i]);
}

static Ids encode(const Tokenizer *tokenizer, const char *text, bool continued) {
    Ids ids = {0};
    Error err = {0};
    TextPiece piece = {text, strlen(text), true};
    assert_true(continued ? tokenizer_encode_continued(tokenizer, &piece, 1, &ids, &err)
                          : tokenizer_encode(tokenizer, &piece, 1, &ids, &err));
    return ids;
}

/* `prompt` with the speech at '#', and the answer after it, against the template's ids. */
static void check_text(const Tokenizer *tokenizer, const char *template, const ChatTurn *turn, const char *prompt,
                       const char *answer) {
    const char *speech = strchr(prompt, '#');
    Error err = {0};
    char *start = text_format(&err, "%.*s", (int)(speech - prompt), prompt);
    Ids before = encode(tokenizer, start, false), after = encode(tokenizer, speech + 1, speech > prompt);
    Ids end = encode(tokenizer, answer, true), found = {0};
    ChatPrompt made;
    assert_ok(chat_prompt(template, tokenizer, turn, &made, &err), &err);
    assert_same_ids(&made.before, &before);
    assert_same_ids(&made.after, &after);
    assert_ok(chat_answer(template, tokenizer, "Emotion: sad.", &found, &err), &err);
    assert_same_ids(&found, &end);
    chat_prompt_free(&made);
    ids_free(&before);
    ids_free(&after);
    ids_free(&end);
    ids_free(&found);
    free(start);
}

typedef struct Expected {
    const char *template, *system, *prompt, *answer;
} Expected;

#define VICUNA                                                                                                         \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "  \
    "and polite answers to the user's questions."

static const Expected TEXTS[] = {
    {"chatml", NULL, "<|im_start|>user\n#Say how it sounds.<|im_end|>\n<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"chatml", "Be brief.",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n#Say how it "
     "sounds.<|im_end|>\n<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"qwen2", NULL,
     "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n#Say how it sounds.<|im_end|>\n"
     "<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"qwen2.5", NULL,
     "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n#Say how it sounds.<|im_end|>\n<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"qwen2.5", "", "<|im_start|>user\n#Say how it sounds.<|im_end|>\n<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"qwen3", NULL, "<|im_start|>user\n#Say how it sounds.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
     "Emotion: sad.<|im_end|>"},
    {"smollm2", NULL,
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n#Say how it sounds.<|im_end|>\n<|im_start|>assistant\n",
     "Emotion: sad.<|im_end|>"},
    {"llama2", NULL, "<s>[INST] #Say how it sounds. [/INST]", " Emotion: sad. </s>"},
    {"llama2", " Be brief.\n", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n#Say how it sounds. [/INST]",
     " Emotion: sad. </s>"},
    {"llama3", NULL,
     "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n#Say how it sounds.<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "Emotion: sad.<|eot_id|>"},
    {"llama3.1", NULL,
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday "
     "Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n#Say how it sounds.<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "Emotion: sad.<|eot_id|>"},
    {"vicuna", NULL, "<s>" VICUNA " USER: #Say how it sounds. ASSISTANT:", " Emotion: sad.</s>"},
    {"tinyllama", "Be brief.", "<|system|>\nBe brief.</s>\n<|user|>\n#Say how it sounds.</s>\n<|assistant|>\n",
     "Emotion: sad.</s>"},
    {"plain", NULL, "#Say how it sounds.\n", "Emotion: sad.<|endoftext|>"},
    {"<s>{system}\nQ: {user}{audio}\nA: {answer}<|im_end|>", "Be brief.",
     "<s>Be brief.\nQ: Say how it sounds.#\nA:", " Emotion: sad.<|im_end|>"},
};

static void test_texts(void **state) {
    (void)state;
    static const char *const families[] = {"qwen.json", "llama2.json", "metaspace_first_split.json"};
    for (size_t f = 0; f < 3; f++) {
        Tokenizer *tokenizer = open_tokenizer(families[f]);
        for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
            const Expected *text = &TEXTS[i];
            ChatTurn turn = {.system = text->system, .user = USER, .audio_first = true};
            check_text(tokenizer, text->template, &turn, text->prompt, text->answer);
        }
        tokenizer_close(tokenizer);
    }
}

static void test_speech_place(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_tokenizer("llama2.json");
    ChatTurn turn = {.user = USER};
    const char *end = "Emotion: sad.<|im_end|>";
    check_text(tokenizer, "chatml", &turn, "<|im_start|>user\nSay how it sounds.#<|im_end|>\n<|im_start|>assistant\n",
               end);
    turn.user = "Hear {audio} and say how it sounds.";
    check_text(tokenizer, "chatml", &turn,
               "<|im_start|>user\nHear # and say how it sounds.<|im_end|>\n<|im_start|>assistant\n", end);
    turn = (ChatTurn){.user = USER, .today = "24 Nov 2026"};
    check_text(tokenizer, "{user} {today}{audio}: {answer}", &turn,
               "Say how it sounds. 24 Nov 2026#:", " Emotion: sad.<|endoftext|>");
    tokenizer_close(tokenizer);
}

/* Tokenized apart, prompt and answer have the ids they have together. */
static void test_joins(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_tokenizer("metaspace_first_split.json");
    static const char *const names[] = {"vicuna", "llama2"};
    for (size_t i = 0; i < 2; i++) {
        ChatTurn turn = {.user = USER, .audio_first = true};
        ChatPrompt prompt;
        Error err = {0};
        Ids parts = {0}, answer = {0};
        assert_ok(chat_prompt(names[i], tokenizer, &turn, &prompt, &err), &err);
        assert_ok(chat_answer(names[i], tokenizer, "Emotion: sad.", &answer, &err), &err);
        append(&parts, prompt.after.items, prompt.after.count);
        append(&parts, answer.items, answer.count);
        Text text = {0};
        assert_true(tokenizer_decode_text(tokenizer, parts.items, parts.count, false, &text, &err));
        char *joined = text_finish(&text, &err);
        Ids whole = encode(tokenizer, joined, true);
        assert_same_ids(&parts, &whole);
        free(joined);
        ids_free(&whole);
        ids_free(&parts);
        ids_free(&answer);
        chat_prompt_free(&prompt);
    }
    tokenizer_close(tokenizer);
}

static void test_data_is_not_special(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_tokenizer("qwen.json");
    ChatTurn turn = {.system = "<|im_end|>", .user = "<|im_end|>{audio}<|im_start|>", .today = "<|im_end|>"};
    ChatPrompt prompt;
    Error err = {0};
    Ids answer = {0};
    assert_ok(chat_prompt("chatml", tokenizer, &turn, &prompt, &err), &err);
    assert_ok(chat_answer("chatml", tokenizer, "<|im_end|>", &answer, &err), &err);
    int32_t end = tokenizer_id(tokenizer, "<|im_end|>"), found = 0;
    const Ids *lists[] = {&prompt.before, &prompt.after, &answer};
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < lists[k]->count; i++) found += lists[k]->items[i] == end;
    assert_int_equal(found, 3); /* the template's own: after system, after user, after the answer */
    chat_prompt_free(&prompt);
    ids_free(&answer);
    tokenizer_close(tokenizer);
}

static void test_refused(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_tokenizer("qwen.json");
    static const struct {
        const char *template, *system, *user;
    } wrong[] = {
        {"chatm", NULL, USER},
        {"{user}", NULL, USER},
        {"{answer} {user}", NULL, USER},
        {"{user}{answer}{answer}", NULL, USER},
        {"{audio}{audio}{user}{answer}", NULL, USER},
        {"{audio}{user}{answer}", NULL, "{audio}"},
        {"chatml", NULL, "{audio} and {audio}"},
        {"{user}{answer}", "Be brief.", USER},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error err = {0};
        ChatPrompt prompt;
        ChatTurn turn = {.system = wrong[i].system, .user = wrong[i].user};
        assert_int_equal(chat_known(wrong[i].template), i >= 5);
        assert_false(chat_prompt(wrong[i].template, tokenizer, &turn, &prompt, &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
    }
    Text many = {0};
    for (int i = 0; i < 100; i++) text_add_string(&many, "{today}");
    text_add_string(&many, "{user}{answer}");
    Error err = {0};
    ChatPrompt prompt;
    ChatTurn turn = {.user = USER};
    assert_false(chat_prompt(many.data, tokenizer, &turn, &prompt, &err));
    text_free(&many);
    tokenizer_close(tokenizer);
}

static void check_guess(const Tokenizer *tokenizer, const char *file, const char *text, const char *wanted) {
    char *folder = test_path("llm"), *path = path_join(folder, file, NULL);
    Error err = {0};
    assert_true(folder_make(folder, &err));
    assert_ok(file_write(path, text, strlen(text), &err), &err);
    const char *guess = chat_guess(folder, tokenizer);
    if (wanted)
        assert_string_equal(guess, wanted);
    else
        assert_null(guess);
    assert_true(folder_remove(folder, &err));
    free(path);
    free(folder);
}

static void test_guesses(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_tokenizer("qwen.json"), *plain = fixture_open("llama2");
    check_guess(plain, "config.json", "{\"model_type\": \"llama\"}", NULL);
    check_guess(plain, "config.json", "{\"model_type\"", NULL);
    check_guess(plain, "config.json", "{\"model_type\": \"qwen3\"}", "qwen3");
    check_guess(plain, "config.json", "{\"model_type\": \"qwen2\"}", "qwen2");
    check_guess(tokenizer, "config.json",
                "{\"model_type\": \"llama\", \"rope_parameters\": {\"rope_type\": \"llama3\"}}", "llama3.1");
    check_guess(tokenizer, "config.json", "{\"model_type\": \"llama\"}", "llama3");
    check_guess(plain, "chat_template.jinja", "{{ bos_token + '[INST] <<SYS>>' }}", "llama2");
    check_guess(plain, "chat_template.jinja", "{{ 'USER: ' + m + ' ASSISTANT:' }}", "vicuna");
    check_guess(plain, "tokenizer_config.json", "{\"chat_template\": \"<|user|> <|assistant|>\"}", "tinyllama");
    check_guess(tokenizer, "tokenizer_config.json", "{\"chat_template\": \"named SmolLM, trained\"}", "smollm2");
    tokenizer_close(tokenizer);
    tokenizer_close(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),   cmocka_unit_test(test_speech_place),        cmocka_unit_test(test_joins),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_data_is_not_special), cmocka_unit_test(test_guesses),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
