#include "model/chat.h"

#include <stdlib.h>
#include <string.h>

/* What stands where: {system} in the system block, {user} the instruction (with the speech in it unless
 * {audio} says where), {answer} the answer, {today} a date. What follows {answer} ends the turn, and a
 * space right before it begins the answer, as it does in text that is tokenized in one piece. */
typedef struct Template {
    const char *name;
    const char *system_block;   /* dropped where there is no system text */
    const char *default_system; /* null: none */
    const char *body;
    bool trim;          /* texts lose white space at their ends */
    bool always_system; /* the block stands there even without a text */
} Template;

#define CHATML_SYSTEM "<|im_start|>system\n{system}<|im_end|>\n"
#define CHATML_USER "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
#define LLAMA3_TURN(role, text) "<|start_header_id|>" role "<|end_header_id|>\n\n" text "<|eot_id|>"
#define LLAMA3_USER LLAMA3_TURN("user", "{user}") "<|start_header_id|>assistant<|end_header_id|>\n\n{answer}<|eot_id|>"
#define VICUNA_SYSTEM                                                                                                  \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "  \
    "and polite answers to the user's questions."

static const Template TEMPLATES[] = {
    {"chatml", CHATML_SYSTEM, NULL, "{system_block}" CHATML_USER "{answer}<|im_end|>", false, false},
    {"qwen2", CHATML_SYSTEM, "You are a helpful assistant.", "{system_block}" CHATML_USER "{answer}<|im_end|>", false,
     false},
    {"qwen2.5", CHATML_SYSTEM, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     "{system_block}" CHATML_USER "{answer}<|im_end|>", false, false},
    {"qwen3", CHATML_SYSTEM, NULL, "{system_block}" CHATML_USER "<think>\n\n</think>\n\n{answer}<|im_end|>", false,
     false},
    {"smollm2", CHATML_SYSTEM, "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     "{system_block}" CHATML_USER "{answer}<|im_end|>", false, false},
    {"llama2", "<<SYS>>\n{system}\n<</SYS>>\n\n", NULL, "<s>[INST] {system_block}{user} [/INST] {answer} </s>", true,
     false},
    {"llama3", LLAMA3_TURN("system", "{system}"), NULL, "<|begin_of_text|>{system_block}" LLAMA3_USER, true, false},
    {"llama3.1", LLAMA3_TURN("system", "Cutting Knowledge Date: December 2023\nToday Date: {today}\n\n{system}"), "",
     "<|begin_of_text|>{system_block}" LLAMA3_USER, true, true},
    {"vicuna", "{system} ", VICUNA_SYSTEM, "<s>{system_block}USER: {user} ASSISTANT: {answer}</s>", false, false},
    {"tinyllama", "<|system|>\n{system}</s>\n", NULL, "{system_block}<|user|>\n{user}</s>\n<|assistant|>\n{answer}</s>",
     false, false},
    {"plain", "{system}\n", NULL, "{system_block}{user}\n{answer}", false, false},
};
enum { TEMPLATE_COUNT = sizeof TEMPLATES / sizeof *TEMPLATES };
static const char FIXED_DATE[] = "26 Jul 2024"; /* the one Llama 3.1's own template falls back to */

static const Template *find(const char *name) {
    for (int i = 0; i < TEMPLATE_COUNT; i++)
        if (!strcmp(TEMPLATES[i].name, name)) return &TEMPLATES[i];
    return NULL;
}

static int occurrences(const char *text, const char *slot) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, slot)); at += strlen(slot)) count++;
    return count;
}

static bool is_format(const char *text) {
    return occurrences(text, "{answer}") == 1 && occurrences(text, "{user}") == 1 &&
           strstr(text, "{user}") < strstr(text, "{answer}") && occurrences(text, "{audio}") <= 1;
}

bool chat_known(const char *name_or_format) { return find(name_or_format) || is_format(name_or_format); }

static bool resolve(const char *name_or_format, Template *template, Error *err) {
    const Template *named = find(name_or_format);
    if (named) {
        *template = *named;
        return true;
    }
    if (!is_format(name_or_format))
        return fail_usage(err,
                          "no chat template \"%.200s\": known are chatml, qwen2, qwen2.5, qwen3, smollm2, llama2, "
                          "llama3, llama3.1, vicuna, tinyllama and plain; or give a text with {user} and, after it, "
                          "{answer} in it, once each, and {audio} at most once",
                          name_or_format);
    *template = (Template){.name = "", .body = name_or_format, .default_system = ""};
    return true;
}

/* What a prompt is made of as it is put together: pieces before and after the speech. */
enum { PIECE_LIMIT = 64 };

typedef struct Draft {
    TextPiece pieces[PIECE_LIMIT];
    size_t count;
    size_t audio;    /* pieces before the speech; SIZE_MAX: its place has not come yet */
    bool ended;      /* {answer} was reached */
    bool overflowed; /* more pieces than there is room for */
    const Template *template;
    const ChatTurn *turn;
} Draft;

static void add_piece(Draft *draft, const char *text, size_t length, bool special) {
    if (length == 0 || draft->ended) return;
    if (draft->count == PIECE_LIMIT)
        draft->overflowed = true;
    else
        draft->pieces[draft->count++] = (TextPiece){text, length, special};
}

static void mark_audio(Draft *draft) {
    if (draft->audio == SIZE_MAX) draft->audio = draft->count;
}

/* A text from outside, without white space at those of its ends that are the whole's, where the template
 * wants that. */
static void add_data(Draft *draft, const char *text, size_t length, bool begins, bool ends) {
    static const char WHITE[] = " \t\n\r\v\f";
    if (draft->template->trim && begins)
        while (length && strchr(WHITE, *text)) text++, length--;
    if (draft->template->trim && ends)
        while (length && strchr(WHITE, text[length - 1])) length--;
    add_piece(draft, text, length, false);
}

/* The instruction, with the speech where it says {audio}, else before or after it (unless the template has
 * a place of its own). */
static void add_user(Draft *draft) {
    const char *user = draft->turn->user ? draft->turn->user : "", *place = strstr(user, "{audio}");
    if (place) {
        add_data(draft, user, (size_t)(place - user), true, false);
        mark_audio(draft);
        add_data(draft, place + 7, strlen(place + 7), false, true);
        return;
    }
    bool own_place = strstr(draft->template->body, "{audio}") != NULL;
    if (!own_place && draft->turn->audio_first) mark_audio(draft);
    add_data(draft, user, strlen(user), true, true);
    if (!own_place && !draft->turn->audio_first) mark_audio(draft);
}

/* Null where there is none; an empty text asks for none. */
static const char *system_text(const Draft *draft) {
    const char *text = draft->turn->system ? draft->turn->system : draft->template->default_system;
    return text && (*text || draft->template->always_system) ? text : NULL;
}

static void add_format(Draft *draft, const char *format);

/* Fills in one {name}; false where the name is none of a template's. */
static bool add_slot(Draft *draft, const char *name, size_t length) {
    static const char *const SLOTS[] = {"system_block", "system", "user", "audio", "answer", "today"};
    enum { SYSTEM_BLOCK, SYSTEM, USER, AUDIO, ANSWER, TODAY, NONE };
    int slot = 0;
    while (slot < NONE && (strlen(SLOTS[slot]) != length || strncmp(SLOTS[slot], name, length) != 0)) slot++;
    const char *system = system_text(draft), *today = draft->turn->today ? draft->turn->today : FIXED_DATE;
    switch (slot) {
    case SYSTEM_BLOCK:
        if (!draft->template->system_block) return false;
        if (system) add_format(draft, draft->template->system_block);
        return true;
    case SYSTEM:
        if (system) add_data(draft, system, strlen(system), true, true);
        return true;
    case USER:
        add_user(draft);
        return true;
    case AUDIO:
        mark_audio(draft);
        return true;
    case ANSWER:
        draft->ended = true;
        return true;
    case TODAY:
        add_piece(draft, today, strlen(today), false);
        return true;
    default:
        return false;
    }
}

/* Text of the template; before {answer} without the space that begins it. */
static void add_literal(Draft *draft, const char *text, size_t length) {
    bool before_answer = strlen(text + length) >= 8 && memcmp(text + length, "{answer}", 8) == 0;
    if (before_answer && length && text[length - 1] == ' ') length--;
    add_piece(draft, text, length, true);
}

static void add_format(Draft *draft, const char *format) {
    const char *from = format;
    for (const char *at = format; *at; at++) {
        const char *close = *at == '{' ? strchr(at, '}') : NULL;
        if (!close) continue;
        add_literal(draft, from, (size_t)(at - from));
        from = at;
        if (!add_slot(draft, at + 1, (size_t)(close - at - 1))) continue;
        from = close + 1;
        at = close;
    }
    add_literal(draft, from, strlen(from));
}

static bool check_turn(const Template *template, const ChatTurn *turn, Error *err) {
    int places = turn->user ? occurrences(turn->user, "{audio}") : 0;
    if (places + occurrences(template->body, "{audio}") > 1)
        return fail_usage(err, "{audio} stands more than once in the prompt: the speech has one place");
    if (!*template->name && turn->system && *turn->system && !strstr(template->body, "{system}"))
        return fail_usage(err, "there is a system text, but the chat format has no {system} to put it");
    return true;
}

bool chat_prompt(const char *name_or_format, const Tokenizer *tokenizer, const ChatTurn *turn, ChatPrompt *prompt,
                 Error *err) {
    *prompt = (ChatPrompt){0};
    Template template;
    if (!resolve(name_or_format, &template, err) || !check_turn(&template, turn, err)) return false;
    Draft draft = {.audio = SIZE_MAX, .template = &template, .turn = turn};
    add_format(&draft, template.body);
    mark_audio(&draft);
    if (draft.overflowed) return fail_usage(err, "the chat format has more than %d parts", PIECE_LIMIT);
    const TextPiece *after = draft.pieces + draft.audio;
    size_t after_count = draft.count - draft.audio;
    bool done = tokenizer_encode(tokenizer, draft.pieces, draft.audio, &prompt->before, err) &&
                (draft.audio ? tokenizer_encode_continued(tokenizer, after, after_count, &prompt->after, err)
                             : tokenizer_encode(tokenizer, after, after_count, &prompt->after, err));
    if (!done) chat_prompt_free(prompt);
    return done;
}

void chat_prompt_free(ChatPrompt *prompt) {
    ids_free(&prompt->before);
    ids_free(&prompt->after);
}

/* The end of a text, whatever it is called. */
static int32_t end_of_text(const Tokenizer *tokenizer) {
    static const char *const NAMES[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};
    int32_t end = tokenizer_eos(tokenizer);
    for (int i = 0; end < 0 && i < 4; i++) end = tokenizer_id(tokenizer, NAMES[i]);
    return end;
}

static bool add_end_of_text(const Tokenizer *tokenizer, Ids *ids, Error *err) {
    int32_t end = end_of_text(tokenizer);
    if (end < 0)
        return fail(err, "the tokenizer has no end-of-text token, and the chat template gives none after {answer}");
    if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
    ids->items[ids->count++] = end;
    return true;
}

bool chat_answer(const char *name_or_format, const Tokenizer *tokenizer, const char *answer, Ids *ids, Error *err) {
    Template template = {0};
    if (!resolve(name_or_format, &template, err)) return false;
    const char *place = strstr(template.body, "{answer}"), *end = place + strlen("{answer}");
    size_t space = place > template.body && place[-1] == ' ';
    TextPiece pieces[] = {{" ", space, true}, {answer, strlen(answer), false}, {end, strlen(end), true}};
    return tokenizer_encode_continued(tokenizer, pieces, 3, ids, err) && (*end || add_end_of_text(tokenizer, ids, err));
}

int32_t *chat_stops(const char *name_or_format, const Tokenizer *tokenizer, const int32_t *known, int known_count,
                    int *count, Error *err) {
    Ids turn = {0};
    int32_t *ids = memory_new((size_t)known_count + 1, sizeof *ids, err);
    if (!ids || !chat_answer(name_or_format, tokenizer, "", &turn, err)) {
        ids_free(&turn);
        free(ids);
        return NULL;
    }
    if (known_count) memcpy(ids, known, (size_t)known_count * sizeof *ids);
    *count = known_count;
    if (turn.count) ids[(*count)++] = turn.items[turn.count - 1];
    ids_free(&turn);
    return ids;
}

static bool has(const Tokenizer *tokenizer, const char *token) { return tokenizer_id(tokenizer, token) >= 0; }

/* ---- guessing ---- */

/* The folder's own Jinja template: a file of its own, or a member of tokenizer_config.json. */
static char *folder_template(const char *folder) {
    char *path = path_join(folder, "chat_template.jinja", NULL);
    char *text = path && file_exists(path) ? file_read(path, 1 << 20, NULL, NULL) : NULL;
    free(path);
    if (text) return text;
    path = path_join(folder, "tokenizer_config.json", NULL);
    json_t *config = path ? json_read_file(path, 16 << 20, NULL) : NULL;
    const char *member = json_string_value(json_object_get(config, "chat_template"));
    text = member ? text_copy(member, NULL) : NULL;
    json_decref(config);
    free(path);
    return text;
}

/* Words that only one family's template has, the more telling ones first. */
static const char *guess_from_template(const char *text) {
    static const struct {
        const char *words, *name;
    } signs[] = {{"enable_thinking", "qwen3"},      {"created by Alibaba Cloud", "qwen2.5"},
                 {"named SmolLM", "smollm2"},       {"Cutting Knowledge Date", "llama3.1"},
                 {"<|start_header_id|>", "llama3"}, {"<<SYS>>", "llama2"},
                 {"ASSISTANT:", "vicuna"},          {"<|assistant|>", "tinyllama"}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strstr(text, signs[i].words)) return signs[i].name;
    return NULL;
}

static const char *guess_from_config(const char *folder, const Tokenizer *tokenizer) {
    char *path = path_join(folder, "config.json", NULL);
    json_t *config = path ? json_read_file(path, 1 << 20, NULL) : NULL;
    const char *type = json_string_value(json_object_get(config, "model_type")), *guess = NULL;
    const json_t *scaling = json_object_get(config, "rope_scaling");
    if (!json_is_object(scaling)) scaling = json_object_get(config, "rope_parameters");
    const char *rope = json_string_value(json_object_get(scaling, "rope_type"));
    if (!type)
        guess = NULL;
    else if (!strcmp(type, "qwen3"))
        guess = "qwen3";
    else if (!strcmp(type, "qwen2"))
        guess = has(tokenizer, "<tool_call>") ? "qwen2.5" : "qwen2";
    else if (has(tokenizer, "<|start_header_id|>"))
        guess = rope && !strcmp(rope, "llama3") ? "llama3.1" : "llama3";
    else if (has(tokenizer, "<|im_start|>"))
        guess = has(tokenizer, "<repo_name>") ? "smollm2" : "chatml";
    json_decref(config);
    free(path);
    return guess;
}

const char *chat_guess(const char *llm_folder, const Tokenizer *tokenizer) {
    char *text = folder_template(llm_folder);
    const char *guess = text ? guess_from_template(text) : NULL;
    free(text);
    return guess ? guess : guess_from_config(llm_folder, tokenizer);
}
