#include "train/teacher_local.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static const size_t SESSION_BYTES_MAX = (size_t)2 << 30; /* KV cache and prefill together */

typedef struct LocalTeacher {
    Teacher teacher;
    LocalTeacherOptions options;
    char *llm, *name, *settings;
    Device *dev;
    Tokenizer *tokenizer;
    DecoderConfig config;
    Decoder *decoder;        /* opened when the first question comes: most of the time goes by before */
    DecoderSession *session; /* grows to the longest prompt seen */
    GenerateOptions generate;
    int32_t *stop;
} LocalTeacher;

/* --- prompts --- */

static bool question_ids(const LocalTeacher *local, const TeacherQuestion *question, Ids *ids, Error *err) {
    ChatTurn turn = {.system = question->system ? question->system : "", .user = question->user};
    ChatPrompt prompt;
    if (!chat_prompt(local->options.chat, local->tokenizer, &turn, &prompt, err)) return false;
    const Ids *parts[] = {&prompt.before, &prompt.after};
    bool done = true;
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; done && i < parts[part]->count; i++) {
            done = memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err);
            if (done) ids->items[ids->count++] = parts[part]->items[i];
        }
    chat_prompt_free(&prompt);
    return done;
}

static int64_t local_tokens(void *self, const TeacherQuestion *question, Error *err) {
    Ids ids = {0};
    bool done = question_ids(self, question, &ids, err);
    int64_t count = (int64_t)ids.count;
    ids_free(&ids);
    return done ? count : -1;
}

typedef struct Asked { /* those questions of a call that fit the model, packed */
    Ids ids;
    int32_t *cu, *sample, *index, longest; /* index: in the call */
    int count;
} Asked;

/* The question's ids at the end of the pack, or away again, with the reason in `answer`, where they are too many. */
static bool pack_one(const LocalTeacher *local, const TeacherQuestion *question, Asked *asked, TeacherAnswer *answer,
                     int index, Error *err) {
    int32_t before = (int32_t)asked->ids.count, most = local->config.max_positions;
    if (!question_ids(local, question, &asked->ids, err)) return false;
    int32_t length = (int32_t)asked->ids.count - before;
    if (length + local->options.answer_tokens > most) {
        asked->ids.count = (size_t)before;
        answer->why = text_format(err, "%d tokens of prompt and %" PRId64 " of answer go past the LLM's %d positions",
                                  length, local->options.answer_tokens, most);
        return answer->why != NULL;
    }
    asked->index[asked->count] = index;
    asked->sample[asked->count++] = (int32_t)(question->seed & INT32_MAX);
    asked->cu[asked->count] = before + length;
    if (length > asked->longest) asked->longest = length;
    return true;
}

static bool pack(const LocalTeacher *local, const TeacherQuestion *questions, int count, Asked *asked,
                 TeacherAnswer *answers, Error *err) {
    asked->cu = memory_new((size_t)count + 1, sizeof *asked->cu, err);
    asked->sample = memory_new((size_t)count, sizeof *asked->sample, err);
    asked->index = memory_new((size_t)count, sizeof *asked->index, err);
    bool done = asked->cu && asked->sample && asked->index;
    for (int i = 0; i < count && done; i++) done = pack_one(local, &questions[i], asked, &answers[i], i, err);
    return done;
}

static void asked_free(Asked *asked) {
    ids_free(&asked->ids);
    free(asked->cu);
    free(asked->sample);
    free(asked->index);
}

/* --- generation --- */

static bool load(LocalTeacher *local, Error *err) {
    if (local->decoder) return true;
    return (local->decoder = decoder_open(local->dev, local->options.llm, err)) != NULL;
}

/* A session for prompts of that length; with fewer slots where all would take too much memory. */
static bool cover_session(LocalTeacher *local, int32_t longest, Error *err) {
    int64_t capacity = longest + local->options.answer_tokens, most = local->config.max_positions;
    int slots = (int)local->options.together;
    if (local->session && session_capacity(local->session) >= capacity) return true;
    capacity = capacity + capacity / 4 < most ? capacity + capacity / 4 : most; /* reasons make prompts longer */
    while (slots > 1 && session_bytes(local->decoder, slots, capacity, capacity) > SESSION_BYTES_MAX) slots /= 2;
    session_close(local->session);
    local->session = session_open(local->decoder, slots, capacity, capacity, err);
    return local->session != NULL;
}

static bool generate_answers(LocalTeacher *local, const Asked *asked, Generated *made, Error *err) {
    const int64_t n = asked->cu[asked->count], width = local->config.hidden;
    const DType dtype = device_dtype(local->dev);
    const size_t bytes = (size_t)n * sizeof(int32_t);
    int32_t *ids = device_alloc(local->dev, bytes, err);
    Tensor rows = tensor_of(device_alloc(local->dev, (size_t)(n * width) * dtype_size(dtype), err), dtype, n, width);
    Prompts prompts = {.embeddings = rows, .count = asked->count, .cu = asked->cu, .sample = asked->sample};
    bool done = ids && rows.data && device_upload(local->dev, ids, asked->ids.items, bytes, err) &&
                decoder_embed(local->decoder, ids, rows, err) &&
                generate(local->session, &prompts, &local->generate, made, err);
    device_free(local->dev, rows.data);
    device_free(local->dev, ids);
    return done;
}

static bool take_answer(const LocalTeacher *local, const Generated *made, int32_t tokens_in, TeacherAnswer *answer,
                        Error *err) {
    char *text = tokenizer_decode(local->tokenizer, made->ids, (size_t)made->count, true, err);
    *answer = (TeacherAnswer){.text = text, .cut = !made->stopped, .tokens_in = tokens_in, .tokens_out = made->count};
    return text != NULL;
}

static bool local_answer(void *self, int caller, const TeacherQuestion *questions, int count, TeacherAnswer *answers,
                         Error *err) {
    (void)caller; /* there is but one */
    LocalTeacher *local = self;
    Asked asked = {0};
    Generated *made = memory_new((size_t)count, sizeof *made, err);
    for (int i = 0; i < count; i++) answers[i] = (TeacherAnswer){0};
    bool done = made && pack(local, questions, count, &asked, answers, err);
    if (done && asked.count)
        done =
            load(local, err) && cover_session(local, asked.longest, err) && generate_answers(local, &asked, made, err);
    for (int i = 0; i < asked.count && done; i++)
        done = take_answer(local, &made[i], asked.cu[i + 1] - asked.cu[i], &answers[asked.index[i]], err);
    generated_free(made, asked.count);
    free(made);
    asked_free(&asked);
    return done;
}

/* --- opening --- */

static bool find_stops(LocalTeacher *local, Error *err) {
    local->stop = chat_stops(local->options.chat, local->tokenizer, local->config.stop, local->config.stop_count,
                             &local->generate.stop_count, err);
    local->generate.stop = local->stop;
    return local->stop != NULL;
}

/* What tells a model from others of the same name: its config, and the names and sizes of its weights. */
static bool hash_folder(const char *folder, uint64_t *hash, Error *err) {
    Names names;
    if (!folder_list(folder, &names, err)) return false;
    bool done = true;
    *hash = 1;
    for (size_t i = 0; i < names.count && done; i++) {
        struct stat status;
        size_t length = strlen(names.items[i]), size = 0;
        char *path = path_join(folder, names.items[i], err), *text = NULL;
        bool weights = length > 12 && strcmp(names.items[i] + length - 12, ".safetensors") == 0;
        done = path != NULL;
        if (done && strcmp(names.items[i], "config.json") == 0) {
            done = (text = file_read(path, 1 << 24, &size, err)) != NULL;
            if (done) *hash = XXH64(text, size, *hash);
        }
        if (done && weights && stat(path, &status) == 0) {
            int64_t bytes = (int64_t)status.st_size;
            *hash = XXH64(&bytes, sizeof bytes, XXH64(names.items[i], length, *hash));
        }
        free(text);
        free(path);
    }
    names_free(&names);
    return done;
}

/* The last name of a path, whatever slashes end it. */
static char *last_name(const char *path, Error *err) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t from = length;
    while (from > 0 && path[from - 1] != '/') from--;
    return text_format(err, "%.*s", (int)(length - from), path + from);
}

static bool name_teacher(LocalTeacher *local, Error *err) {
    uint64_t hash;
    char *folder = realpath(local->options.llm, NULL), *last = last_name(folder ? folder : local->options.llm, err);
    bool done = last && hash_folder(local->options.llm, &hash, err) &&
                (local->name = text_format(err, "local %s %08" PRIx32, last, (uint32_t)hash)) &&
                (local->settings = text_format(err, "chat %s, temperature %g, at most %" PRId64 " tokens, %s",
                                               local->options.chat, local->options.temperature,
                                               local->options.answer_tokens, dtype_name(device_dtype(local->dev))));
    free(last);
    free(folder);
    return done;
}

static bool find_template(LocalTeacher *local, Error *err) {
    LocalTeacherOptions *options = &local->options;
    if (!options->chat) options->chat = chat_guess(options->llm, local->tokenizer);
    if (!options->chat) {
        options->chat = "plain";
        fprintf(stderr, "%s: its chat template is not known, so prompts are plain text; --chat names one\n",
                options->llm);
    }
    return chat_known(options->chat) || fail_usage(err, "--chat: there is no template \"%.200s\"", options->chat);
}

static bool open_folder(LocalTeacher *local, Error *err) {
    const LocalTeacherOptions *options = &local->options;
    local->generate = generate_options_default();
    local->generate.max_new = (int)options->answer_tokens;
    local->generate.temperature = (float)options->temperature;
    return decoder_config_read(&local->config, options->llm, err) &&
           (local->dev = device_choose(&options->device, err)) &&
           (local->tokenizer = tokenizer_open(options->llm, err)) && find_template(local, err) &&
           find_stops(local, err) && name_teacher(local, err);
}

Teacher *local_teacher_open(const LocalTeacherOptions *options, Error *err) {
    if (!options->llm || !*options->llm) {
        fail_usage(err, "--teacher local needs --llm, a Hugging Face folder");
        return NULL;
    }
    if (options->together < 1 || options->together > 256) {
        fail_usage(err, "--together must be 1 to 256, not %" PRId64, options->together);
        return NULL;
    }
    LocalTeacher *local = memory_new(1, sizeof *local, err);
    if (!local) return NULL;
    local->options = *options;
    local->options.llm = local->llm = text_copy(options->llm, err);
    if (!local->llm || !open_folder(local, err)) {
        local_teacher_close(&local->teacher);
        return NULL;
    }
    local->teacher = (Teacher){.self = local,
                               .name = local->name,
                               .settings = local->settings,
                               .callers = 1,
                               .together = (int)options->together,
                               .answer_tokens = options->answer_tokens,
                               .answer = local_answer,
                               .tokens = local_tokens};
    return &local->teacher;
}

void local_teacher_close(Teacher *teacher) {
    if (!teacher) return;
    LocalTeacher *local = (LocalTeacher *)(void *)teacher; /* its first member */
    session_close(local->session);
    decoder_close(local->decoder);
    tokenizer_close(local->tokenizer);
    device_close(local->dev);
    free(local->stop);
    free(local->llm);
    free(local->name);
    free(local->settings);
    free(local);
}
