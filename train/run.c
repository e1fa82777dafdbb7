#include "train/run.h"

#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/splits.h"

static const char SETUP_NAME[] = "setup.json";
static const char CONFIG_NAME[] = "config.yaml";
static const char DESCRIPTION_MARK[] = "{description}";
enum { SETUP_BYTES_MAX = 16 << 20 };

/* ---- what the run folder remembers ---- */

static bool read_classes(Run *run, const json_t *list, const char *path, Error *err) {
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > 100000)
        return fail(err, "%s: \"classes\" must be an array of names", path);
    run->classes = memory_new(json_array_size(list), sizeof *run->classes, err);
    for (size_t i = 0; run->classes && i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name) return fail(err, "%s: \"classes\" must hold names", path);
        if (!(run->classes[i] = text_copy(name, err))) return false;
        run->class_count++;
    }
    return run->classes != NULL;
}

static bool read_setup(Run *run, Error *err) {
    char *path = path_join(run->folder, SETUP_NAME, err);
    json_t *json = path ? json_read_file(path, SETUP_BYTES_MAX, err) : NULL;
    bool ok = json && read_classes(run, json_object_get(json, "classes"), path, err);
    if (ok) run->cuts = cut_points_parse(json_object_get(json, "cut_points"), path, err);
    json_decref(json);
    free(path);
    return ok && run->cuts;
}

static bool write_setup(const Run *run, const char *path, Error *err) {
    json_t *json = json_object(), *classes = json_array(), *cuts = cut_points_json(run->cuts, err);
    bool ok = json && classes && cuts;
    for (int i = 0; ok && i < run->class_count; i++)
        ok = json_array_append_new(classes, json_string(run->classes[i])) == 0;
    ok = ok && json_object_set(json, "classes", classes) == 0 && json_object_set(json, "cut_points", cuts) == 0;
    if (!ok) fail(err, "out of memory while writing %s", path);
    ok = ok && json_write_file(json, path, err);
    json_decref(json);
    json_decref(classes);
    json_decref(cuts);
    return ok;
}

bool run_save_setup(const Run *run, Error *err) {
    char *config = path_join(run->folder, CONFIG_NAME, err), *setup = path_join(run->folder, SETUP_NAME, err);
    bool ok = config && setup && folder_make(run->folder, err) && config_write(run->config, config, err) &&
              write_setup(run, setup, err);
    free(config);
    free(setup);
    return ok;
}

/* ---- opening ---- */

/* A device named on the command line brings its own precision unless one is named too. */
static void choose_device(DeviceSection *config, const DeviceChoice *choice) {
    if (choice->name) config->precision = "auto";
    if (choice->name) config->kind = choice->name;
    if (choice->precision) config->precision = choice->precision;
    if (choice->threads) config->threads = choice->threads;
}

static bool open_config(Run *run, const char *path, const RunOptions *options, bool *trained, Error *err) {
    *trained = folder_exists(path);
    char *file = *trained ? path_join(path, CONFIG_NAME, err) : text_copy(path, err);
    if (file && *trained && !file_exists(file))
        fail(err, "%s: no run: it has no %s; a run's folder is made by `semollm train`", path, CONFIG_NAME);
    else if (file)
        run->config = config_read(file, options->overrides, err);
    free(file);
    if (!run->config) return false;
    choose_device(&run->config->device, &options->device);
    run->folder = text_copy(*trained ? path : run->config->output, err);
    run->response = config_response(run->config);
    return run->folder != NULL;
}

/* Levels relative to speakers take in all the recordings of each. */
static bool fit_speakers(Run *run, Error *err) {
    size_t count = shards_count(run->shards);
    const Utterance **all = memory_new(count, sizeof *all, err);
    if (!all) return false;
    for (size_t i = 0; i < count; i++) all[i] = shards_utterance(run->shards, i);
    bool ok = cut_points_fit_speakers(run->cuts, all, count, err);
    free(all);
    return ok;
}

static bool fit_cuts(Run *run, Error *err) {
    const Utterance **chosen = memory_new(run->train.count, sizeof *chosen, err);
    if (!chosen) return false;
    for (size_t i = 0; i < run->train.count; i++) chosen[i] = shards_utterance(run->shards, run->train.items[i]);
    run->cuts = cut_points_fit(chosen, run->train.count, run->response.level_count, err);
    free(chosen);
    return run->cuts && (run->config->prompt.relative == RELATIVE_CORPUS || fit_speakers(run, err));
}

static bool open_data(Run *run, Error *err) {
    const ShardCacheOptions cache = config_cache(run->config);
    run->shards = shards_open_cached(run->config->data.shards, &cache, err);
    if (!run->shards) return false;
    if (!run->classes && !classes_make(run, err)) return false;
    return splits_make(run, err) && (run->cuts || run->train.count == 0 || fit_cuts(run, err));
}

static bool open_tokenizer(Run *run, Error *err) {
    const char *llm = run->config->model.llm;
    run->tokenizer = tokenizer_open(llm, err);
    if (!run->tokenizer) return false;
    run->template = run->config->model.template;
    if (run->template && !chat_known(run->template))
        return fail_usage(err,
                          "model.template: \"%s\" is neither a known template nor a format with {user} and {answer}",
                          run->template);
    if (!run->template) run->template = chat_guess(llm, run->tokenizer);
    if (!run->template)
        return fail_usage(err, "%s: its chat template is not recognised; name one in model.template", llm);
    return true;
}

static bool open_model(Run *run, bool plan, Error *err) {
    const SpeechLlmConfig config = config_model(run->config);
    DeviceChoice device = config_device(run->config);
    device.comm = run->comm;
    run->dev = plan ? device_choose_plan(&device, err) : device_choose(&device, err);
    if (run->dev && comm_join(run->comm, run->dev, err)) run->model = speech_llm_open(run->dev, &config, err);
    return run->model != NULL;
}

static bool open_all(Run *run, const char *path, const RunOptions *options, Error *err) {
    bool trained;
    if (!open_config(run, path, options, &trained, err)) return false;
    if (trained && !read_setup(run, err)) return false;
    if (options->data && !open_data(run, err)) return false;
    if (!open_tokenizer(run, err)) return false;
    if (run->config->prompt.input == INPUT_SPEECH && !run_prompt(run, NULL, &run->prompt, err)) return false;
    if (!options->model) return true;
    return open_model(run, options->plan, err) && (!trained || run_load(run, options->checkpoint, err));
}

Run *run_open(const char *path, const RunOptions *options, Error *err) {
    Run *run = memory_new(1, sizeof *run, err);
    if (run) run->comm = options->comm;
    if (run && open_all(run, path, options, err)) return run;
    run_close(run);
    return NULL;
}

void run_close(Run *run) {
    if (!run) return;
    speech_llm_close(run->model);
    device_close(run->dev);
    tokenizer_close(run->tokenizer);
    shards_close(run->shards);
    cut_points_free(run->cuts);
    chat_prompt_free(&run->prompt);
    for (int i = 0; i < run->class_count; i++) free(run->classes[i]);
    free(run->classes);
    free(run->class_of);
    free(run->train.items);
    free(run->validation.items);
    free(run->test.items);
    free(run->folder);
    free(run->checkpoint);
    config_free(run->config);
    free(run);
}

bool run_load(Run *run, const char *checkpoint, Error *err) {
    free(run->checkpoint);
    run->checkpoint = NULL;
    if (checkpoint && strcmp(checkpoint, "none") == 0) return true;
    char *folder = checkpoint_find(run->folder, checkpoint, err);
    if (!folder) return false;
    run->checkpoint = folder;
    return checkpoint_verify(folder, err) && speech_llm_load(run->model, folder, err);
}

/* ---- what a sample is to this run ---- */

Utterance run_utterance(const Run *run, const Utterance *utterance) {
    Utterance copy = *utterance;
    int class = run_class(run, utterance);
    if (class >= 0) copy.emotion = run->classes[class];
    return copy;
}

Levels run_levels(const Run *run, const Utterance *utterance) {
    if (run->cuts) return cut_points_apply(run->cuts, utterance);
    return (Levels){{LEVEL_NONE, LEVEL_NONE, LEVEL_NONE}};
}

char *run_answer(const Run *run, const Utterance *utterance, bool *replaced, Error *err) {
    Utterance copy = run_utterance(run, utterance);
    Levels levels = run_levels(run, utterance);
    return response_write(&run->response, &copy, &levels, (uint64_t)run->config->train.seed, replaced, err);
}

/* The user's text with the description where it says {description}, else at its end. */
static char *describe(const Run *run, const Utterance *utterance, Error *err) {
    static const Part CUES[] = {PART_GENDER, PART_PITCH, PART_SPEED, PART_VOLUME};
    Levels levels = run_levels(run, utterance);
    char *cues = description_write(utterance, &levels, run->response.level_count, CUES, 4, err);
    if (!cues) return NULL;
    const char *user = run->config->prompt.user, *mark = strstr(user, DESCRIPTION_MARK);
    char *text = mark ? text_format(err, "%.*s%s%s", (int)(mark - user), user, cues, mark + strlen(DESCRIPTION_MARK))
                      : text_format(err, "%s\n%s", user, cues);
    free(cues);
    return text;
}

bool run_prompt(const Run *run, const Utterance *utterance, ChatPrompt *prompt, Error *err) {
    *prompt = (ChatPrompt){0};
    bool speech = run->config->prompt.input == INPUT_SPEECH;
    char *user = speech ? NULL : describe(run, utterance, err);
    if (!speech && !user) return false;
    ChatTurn turn = {.system = run->config->prompt.system,
                     .user = speech ? run->config->prompt.user : user,
                     .audio_first = run->config->prompt.audio == AUDIO_BEFORE};
    bool ok = chat_prompt(run->template, run->tokenizer, &turn, prompt, err);
    free(user);
    return ok;
}

int64_t run_clip_samples(const Run *run, int64_t samples) {
    int64_t most = (int64_t)(run->config->data.max_seconds * AUDIO_RATE);
    return samples < most ? samples : most;
}

LoaderOptions run_loader_options(const Run *run, const Split *split) {
    int threads = (int)run->config->train.threads;
    return (LoaderOptions){.chosen = split->items,
                           .chosen_count = split->count,
                           .seed = (uint64_t)run->config->train.seed,
                           .threads = threads,
                           .ahead = 16 + 4 * threads,
                           .prosody = config_prosody_channels(run->config),
                           .audio = run->config->prompt.input == INPUT_SPEECH,
                           .max_samples = run_clip_samples(run, INT64_MAX)};
}
