#include "model/chat.h"

#include <stdlib.h>
#include <string.h>

/* What stands where: {system} in the system block, {user} the instruction (with the speech in it unless
 * {audio} says where), {answer} the answer, {today} a date. What follows {answer} ends the turn. */
typedef struct Template {
    const char *name;
    const char *system_block;   /* dropped where there is no system text */
    const char *default_system; /* null: none */
    const char *body;
} Template;

#define CHATML_SYSTEM "<|im_start|>system\n{system}<|im_end|>\n"
#define CHATML_USER "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
#define LLAMA3_TURN(role, text) "<|start_header_id|>" role "<|end_header_id|>\n\n" text "<|eot_id|>"
#define LLAMA3_USER LLAMA3_TURN("user", "{user}") "<|start_header_id|>assistant<|end_header_id|>\n\n{answer}<|eot_id|>"
#define VICUNA_SYSTEM                                                                                                  \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "  \
    "and polite answers to the user's questions."

static const Template TEMPLATES[] = {
    {"chatml", CHATML_SYSTEM, NULL, "{system_block}" CHATML_USER "{answer}<|im_end|>"},
    {"qwen2", CHATML_SYSTEM, "You are a helpful assistant.", "{system_block}" CHATML_USER "{answer}<|im_end|>"},
    {"qwen2.5", CHATML_SYSTEM, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     "{system_block}" CHATML_USER "{answer}<|im_end|>"},
    {"qwen3", CHATML_SYSTEM, NULL, "{system_block}" CHATML_USER "<think>\n\n</think>\n\n{answer}<|im_end|>"},
    {"smollm2", CHATML_SYSTEM, "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     "{system_block}" CHATML_USER "{answer}<|im_end|>"},
    {"llama2", "<<SYS>>\n{system}\n<</SYS>>\n\n", NULL, "<s>[INST] {system_block}{user} [/INST]{answer} </s>"},
    {"llama3", LLAMA3_TURN("system", "{system}"), NULL, "<|begin_of_text|>{system_block}" LLAMA3_USER},
    {"llama3.1", LLAMA3_TURN("system", "Cutting Knowledge Date: December 2023\nToday Date: {today}\n\n{system}"), "",
     "<|begin_of_text|>{system_block}" LLAMA3_USER},
    {"vicuna", "{system} ", VICUNA_SYSTEM, "<s>{system_block}USER: {user} ASSISTANT:{answer}</s>"},
    {"tinyllama", "<|system|>\n{system}</s>\n", NULL,
     "<s>{system_block}<|user|>\n{user}</s>\n<|assistant|>\n{answer}</s>"},
    {"plain", "{system}\n", NULL, "{system_block}{user}\n{answer}{end}"},
};
enum { TEMPLATE_COUNT = sizeof TEMPLATES / sizeof *TEMPLATES };
static const char FIXED_DATE[] = "26 Jul 2024"; /* the one Llama 3.1's own template falls back to */

static const Template *find(const char *name) {
    for (int i = 0; i < TEMPLATE_COUNT; i++)
        if (!strcmp(TEMPLATES[i].name, name)) return &TEMPLATES[i];
    return NULL;
}

static bool is_format(const char *text) { return strstr(text, "{answer}") && strstr(text, "{user}"); }

bool chat_known(const char *name_or_format) { return find(name_or_format) || is_format(name_or_format); }

static bool resolve(const char *name_or_format, Template *template, Error *err) {
    const Template *named = find(name_or_format);
    if (named) {
        *template = *named;
        return true;
    }
    if (!is_format(name_or_format))
        return fail_usage(err,
                          "no chat template \"%s\": known are chatml, qwen2, qwen2.5, qwen3, smollm2, llama2, llama3, "
                          "llama3.1, vicuna, tinyllama and plain; or give a text with {user} and {answer} in it",
                          name_or_format);
    *template = (Template){.name = "", .body = name_or_format, .default_system = ""};
    return true;
}

/* What a prompt is made of as it is put together: pieces before and after the speech. */
typedef struct Draft {
    TextPiece pieces[64];
    size_t count;
    size_t audio; /* pieces before the speech; SIZE_MAX: its place has not come yet */
    bool ended;   /* {answer} was reached */
    const Template *template;
    const ChatTurn *turn;
} Draft;

static void add_piece(Draft *draft, const char *text, size_t length, bool special) {
    if (length == 0 || draft->ended || draft->count == sizeof draft->pieces / sizeof *draft->pieces) return;
    draft->pieces[draft->count++] = (TextPiece){text, length, special};
}

static void mark_audio(Draft *draft) {
    if (draft->audio == SIZE_MAX) draft->audio = draft->count;
}

/* The instruction, with the speech where it says {audio}, else before or after it (unless the template has
 * a place of its own). */
static void add_user(Draft *draft) {
    const char *user = draft->turn->user ? draft->turn->user : "", *place = strstr(user, "{audio}");
    if (place) {
        add_piece(draft, user, (size_t)(place - user), false);
        mark_audio(draft);
        add_piece(draft, place + 7, strlen(place + 7), false);
        return;
    }
    bool own_place = strstr(draft->template->body, "{audio}") != NULL;
    if (!own_place && draft->turn->audio_first) mark_audio(draft);
    add_piece(draft, user, strlen(user), false);
    if (!own_place && !draft->turn->audio_first) mark_audio(draft);
}

static const char *system_text(const Draft *draft) {
    return draft->turn->system ? draft->turn->system : draft->template->default_system;
}

static void add_format(Draft *draft, const char *format);

/* Fills in one {name}; false where the name is none of a template's. */
static bool add_slot(Draft *draft, const char *name, size_t length) {
    static const char *const SLOTS[] = {"system_block", "system", "user", "audio", "answer", "today"};
    int slot = 0;
    while (slot < 6 && (strlen(SLOTS[slot]) != length || strncmp(SLOTS[slot], name, length) != 0)) slot++;
    const char *system = system_text(draft), *today = draft->turn->today ? draft->turn->today : FIXED_DATE;
    switch (slot) {
    case 0:
        if (system) add_format(draft, draft->template->system_block);
        return true;
    case 1:
        if (system) add_piece(draft, system, strlen(system), false);
        return true;
    case 2:
        add_user(draft);
        return true;
    case 3:
        mark_audio(draft);
        return true;
    case 4:
        draft->ended = true;
        return true;
    case 5:
        add_piece(draft, today, strlen(today), false);
        return true;
    default:
        return false;
    }
}

static void add_format(Draft *draft, const char *format) {
    const char *from = format;
    for (const char *at = format; *at; at++) {
        const char *close = *at == '{' ? strchr(at, '}') : NULL;
        if (!close) continue;
        add_piece(draft, from, (size_t)(at - from), true);
        from = at;
        if (!add_slot(draft, at + 1, (size_t)(close - at - 1))) continue;
        from = close + 1;
        at = close;
    }
    add_piece(draft, from, strlen(from), true);
}

bool chat_prompt(const char *name_or_format, const Tokenizer *tokenizer, const ChatTurn *turn, ChatPrompt *prompt,
                 Error *err) {
    *prompt = (ChatPrompt){0};
    Template template;
    if (!resolve(name_or_format, &template, err)) return false;
    Draft draft = {.audio = SIZE_MAX, .template = &template, .turn = turn};
    add_format(&draft, template.body);
    mark_audio(&draft);
    bool ok = tokenizer_encode(tokenizer, draft.pieces, draft.audio, &prompt->before, err) &&
              tokenizer_encode(tokenizer, draft.pieces + draft.audio, draft.count - draft.audio, &prompt->after, err);
    if (!ok) chat_prompt_free(prompt);
    return ok;
}

void chat_prompt_free(ChatPrompt *prompt) {
    ids_free(&prompt->before);
    ids_free(&prompt->after);
}

/* A base model's end of text, whatever it is called. */
static const char *end_of_text(const Tokenizer *tokenizer) {
    static const char *const NAMES[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};
    for (int i = 0; i < 4; i++)
        if (tokenizer_id(tokenizer, NAMES[i]) >= 0) return NAMES[i];
    return NULL;
}

bool chat_answer(const char *name_or_format, const Tokenizer *tokenizer, const char *answer, Ids *ids, Error *err) {
    Template template;
    if (!resolve(name_or_format, &template, err)) return false;
    const char *end = strstr(template.body, "{answer}") + 8;
    if (!strcmp(end, "{end}") || !*end) end = end_of_text(tokenizer);
    if (!end)
        return fail(err, "the tokenizer has no end-of-text token, and the chat template gives none after {answer}");
    TextPiece pieces[] = {{answer, strlen(answer), false}, {end, strlen(end), true}};
    return tokenizer_encode(tokenizer, pieces, 2, ids, err);
}

static bool has(const Tokenizer *tokenizer, const char *token) { return tokenizer_id(tokenizer, token) >= 0; }

const char *chat_guess(const char *llm_folder, const Tokenizer *tokenizer) {
    char *path = path_join(llm_folder, "config.json", NULL);
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
