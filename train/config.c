/* One table a section gives the keys' schema, defaults and ranges, and how they are written back. libcyaml
 * reads optional keys into pointers, so that an absent key and a zero differ; and numbers as text, as its own
 * parsers take "1.5" or "10x" for an integer. */
#include "train/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const cyaml_strval_t FLAGS[] = {{"false", 0}, {"true", 1}};
static const cyaml_strval_t LAYER_CHOICES[] = {{"last", LAYERS_LAST}, {"weighted", LAYERS_WEIGHTED}};
static const cyaml_strval_t TOGGLES[] = {{"auto", TOGGLE_AUTO}, {"on", TOGGLE_ON}, {"off", TOGGLE_OFF}};
static const cyaml_strval_t ADAPTERS[] = {{"mlp", ADAPTER_MLP}};
static const cyaml_strval_t PROSODIES[] = {
    {"none", PROSODY_NONE}, {"energy", PROSODY_ENERGY}, {"energy+f0", PROSODY_ENERGY_F0}};
static const cyaml_strval_t TARGETS[] = {{"q", LORA_Q},       {"k", LORA_K},   {"v", LORA_V},       {"o", LORA_O},
                                         {"gate", LORA_GATE}, {"up", LORA_UP}, {"down", LORA_DOWN}, {"all", LORA_ALL}};
static const cyaml_strval_t SAMPLINGS[] = {{"natural", SAMPLING_NATURAL}, {"balanced", SAMPLING_BALANCED}};
static const cyaml_strval_t OVERLONGS[] = {
    {"cut", OVERLONG_CUT}, {"split", OVERLONG_SPLIT}, {"refuse", OVERLONG_REFUSE}};
static const cyaml_strval_t INPUTS[] = {{"speech", INPUT_SPEECH}, {"description", INPUT_DESCRIPTION}};
static const cyaml_strval_t STYLES[] = {{"labelled", STYLE_LABELLED}, {"paper", STYLE_PAPER}};
static const cyaml_strval_t RELATIVES[] = {{"corpus", RELATIVE_CORPUS}, {"speaker", RELATIVE_SPEAKER}};
static const cyaml_strval_t PLACES[] = {{"before", AUDIO_BEFORE}, {"after", AUDIO_AFTER}};
static const cyaml_strval_t SCHEDULES[] = {
    {"cosine", SCHEDULE_COSINE}, {"linear", SCHEDULE_LINEAR}, {"constant", SCHEDULE_CONSTANT}};
static const cyaml_strval_t CACHES[] = {{"off", CACHE_OFF}, {"memory", CACHE_MEMORY}};
static const cyaml_strval_t PARTS[] = {{"emotion", PART_EMOTION},
                                       {"gender", PART_GENDER},
                                       {"pitch", PART_PITCH},
                                       {"speed", PART_SPEED},
                                       {"volume", PART_VOLUME},
                                       {"transcript", PART_TRANSCRIPT},
                                       {"explanation", PART_EXPLANATION}};

static const char DEFAULT_USER[] = "Describe the emotion of the speaker and the cues behind it.";

/* INTEGER(section, key, default, low, high), NUMBER the same, FLAG(section, key, default),
 * CHOICE(section, key, default, names), WORD(section, key, default, least bytes). */
#define MODEL_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                                \
    WORD(model, encoder, NULL, 1)                                                                                      \
    WORD(model, llm, NULL, 1)                                                                                          \
    WORD(model, template, NULL, 1)                                                                                     \
    CHOICE(model, layers, LAYERS_LAST, LAYER_CHOICES)                                                                  \
    CHOICE(model, normalize_waveform, TOGGLE_AUTO, TOGGLES)
#define ADAPTER_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                              \
    CHOICE(model.adapter, kind, ADAPTER_MLP, ADAPTERS)                                                                 \
    INTEGER(model.adapter, stack, 5, 1, 1000)                                                                          \
    INTEGER(model.adapter, hidden, 2048, 1, 1 << 20)                                                                   \
    CHOICE(model.adapter, prosody, PROSODY_NONE, PROSODIES)                                                            \
    NUMBER(model.adapter, prosody_scale, 1, -1000, 1000)                                                               \
    NUMBER(model.adapter, dropout, 0, 0, 0.99)                                                                         \
    NUMBER(model.adapter, noise, 0, 0, 1000)
#define LORA_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                                 \
    INTEGER(model.lora, rank, 8, 0, 4096)                                                                              \
    NUMBER(model.lora, alpha, 16, 0, 1e6)                                                                              \
    NUMBER(model.lora, dropout, 0, 0, 0.99)                                                                            \
    FLAG(model.lora, rslora, false)
#define DATA_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                                 \
    WORD(data, shards, NULL, 1)                                                                                        \
    FLAG(data, speaker_overlap, false)                                                                                 \
    CHOICE(data, sampling, SAMPLING_NATURAL, SAMPLINGS)                                                                \
    INTEGER(data, shuffle_shards, 16, 0, INT32_MAX)                                                                    \
    WORD(data, cache, NULL, 1)                                                                                         \
    NUMBER(data, cache_gib, 16, 1e-6, 1e6)                                                                             \
    CHOICE(data, overlong, OVERLONG_CUT, OVERLONGS)                                                                    \
    NUMBER(data, max_seconds, 30, 0.025, 36000)
#define PROMPT_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                               \
    CHOICE(prompt, input, INPUT_SPEECH, INPUTS)                                                                        \
    WORD(prompt, system, NULL, 0)                                                                                      \
    WORD(prompt, user, DEFAULT_USER, 1)                                                                                \
    CHOICE(prompt, style, STYLE_LABELLED, STYLES)                                                                      \
    INTEGER(prompt, levels, 3, 3, 5)                                                                                   \
    CHOICE(prompt, relative, RELATIVE_CORPUS, RELATIVES)                                                               \
    CHOICE(prompt, audio, AUDIO_BEFORE, PLACES)
#define TRAIN_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                                \
    INTEGER(train, steps, 0, 0, 100000000)                                                                             \
    NUMBER(train, epochs, 0, 0, 1e6)                                                                                   \
    INTEGER(train, batch_tokens, 0, 0, INT32_MAX)                                                                      \
    INTEGER(train, batch_clips, 0, 0, 1000000)                                                                         \
    INTEGER(train, accumulate, 1, 1, 100000)                                                                           \
    NUMBER(train, lr, 1e-4, 0, 10)                                                                                     \
    NUMBER(train, adapter_lr, 0, 0, 10)                                                                                \
    CHOICE(train, schedule, SCHEDULE_COSINE, SCHEDULES)                                                                \
    INTEGER(train, warmup, 0, 0, 100000000)                                                                            \
    NUMBER(train, weight_decay, 0.01, 0, 100)                                                                          \
    NUMBER(train, beta1, 0.9, 0, 0.9999999)                                                                            \
    NUMBER(train, beta2, 0.999, 0, 0.9999999)                                                                          \
    NUMBER(train, eps, 1e-8, 1e-16, 1)                                                                                 \
    NUMBER(train, clip, 1, 0, 1e9)                                                                                     \
    INTEGER(train, seed, 0, 0, INT64_MAX)                                                                              \
    INTEGER(train, validate_every, 0, 0, 100000000)                                                                    \
    INTEGER(train, checkpoint_every, 0, 0, 100000000)                                                                  \
    INTEGER(train, keep, 2, 1, 100000)                                                                                 \
    INTEGER(train, early_stop, 0, 0, 100000)                                                                           \
    CHOICE(train, encoder_cache, CACHE_OFF, CACHES)                                                                    \
    INTEGER(train, threads, 2, 1, 256)

#define DEVICE_KEYS(INTEGER, NUMBER, FLAG, CHOICE, WORD)                                                               \
    WORD(device, kind, "cpu", 1)                                                                                       \
    WORD(device, precision, "auto", 1)                                                                                 \
    INTEGER(device, threads, 0, 0, 4096)

/* ---- what libcyaml reads into ---- */

#define DECLARE_INTEGER(section, key, ...) char *key;
#define DECLARE_NUMBER(section, key, ...) char *key;
#define DECLARE_FLAG(section, key, ...) unsigned *key;
#define DECLARE_CHOICE(section, key, ...) unsigned *key;
#define DECLARE_WORD(section, key, ...) char *key;
#define DECLARE(KEYS) KEYS(DECLARE_INTEGER, DECLARE_NUMBER, DECLARE_FLAG, DECLARE_CHOICE, DECLARE_WORD)

typedef struct RawAdapter {
    DECLARE(ADAPTER_KEYS)
} RawAdapter;

typedef struct RawLora {
    DECLARE(LORA_KEYS)
    unsigned *targets;
} RawLora;

typedef struct RawModel {
    DECLARE(MODEL_KEYS)
    RawAdapter adapter;
    RawLora lora;
} RawModel;

typedef struct RawSplit {
    TextList groups, speakers;
    char *share;
} RawSplit;

typedef struct RawData {
    DECLARE(DATA_KEYS)
    TextList classes;
    LabelRule *labels;
    unsigned labels_count;
    RawSplit test, validation;
} RawData;

typedef struct RawPrompt {
    DECLARE(PROMPT_KEYS)
    Part *response;
    unsigned response_count;
} RawPrompt;

typedef struct RawTrain {
    DECLARE(TRAIN_KEYS)
} RawTrain;

typedef struct RawDevice {
    DECLARE(DEVICE_KEYS)
} RawDevice;

typedef struct RawConfig {
    RawModel model;
    RawData data;
    RawPrompt prompt;
    RawTrain train;
    RawDevice device;
    char *output;
} RawConfig;

enum { OPTIONAL = CYAML_FLAG_OPTIONAL };
#define FIELD_INTEGER(section, key, ...) CYAML_FIELD_STRING_PTR(#key, OPTIONAL, RAW, key, 0, CYAML_UNLIMITED),
#define FIELD_NUMBER FIELD_INTEGER
#define FIELD_FLAG(section, key, ...)                                                                                  \
    CYAML_FIELD_ENUM_PTR(#key, OPTIONAL | CYAML_FLAG_STRICT, RAW, key, FLAGS, COUNT(FLAGS)),
#define FIELD_CHOICE(section, key, fallback, names)                                                                    \
    CYAML_FIELD_ENUM_PTR(#key, OPTIONAL | CYAML_FLAG_STRICT, RAW, key, names, COUNT(names)),
#define FIELD_WORD(section, key, fallback, least)                                                                      \
    CYAML_FIELD_STRING_PTR(#key, OPTIONAL, RAW, key, least, CYAML_UNLIMITED),
#define FIELDS(KEYS) KEYS(FIELD_INTEGER, FIELD_NUMBER, FIELD_FLAG, FIELD_CHOICE, FIELD_WORD)
#define TEXT_LIST(key, member)                                                                                         \
    CYAML_FIELD_SEQUENCE_COUNT(key, OPTIONAL | CYAML_FLAG_POINTER, RAW, member.items, member.count, &TEXT_ENTRY, 0,    \
                               100000)

static const cyaml_schema_value_t TEXT_ENTRY = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, CYAML_UNLIMITED)};
static const cyaml_schema_value_t PART_ENTRY = {CYAML_VALUE_ENUM(CYAML_FLAG_STRICT, Part, PARTS, COUNT(PARTS))};

#define RAW LabelRule
static const cyaml_schema_field_t LABEL_FIELDS[] = {
    CYAML_FIELD_STRING_PTR("from", CYAML_FLAG_DEFAULT, RAW, from, 1, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("to", CYAML_FLAG_DEFAULT, RAW, to, 1, CYAML_UNLIMITED), CYAML_FIELD_END};
#undef RAW
static const cyaml_schema_value_t LABEL_ENTRY = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, LabelRule, LABEL_FIELDS)};

#define RAW RawAdapter
static const cyaml_schema_field_t ADAPTER_FIELDS[] = {FIELDS(ADAPTER_KEYS) CYAML_FIELD_END};
#undef RAW
#define RAW RawLora
static const cyaml_schema_field_t LORA_FIELDS[] = {
    FIELDS(LORA_KEYS)
        CYAML_FIELD_FLAGS_PTR("targets", OPTIONAL | CYAML_FLAG_STRICT, RAW, targets, TARGETS, COUNT(TARGETS)),
    CYAML_FIELD_END};
#undef RAW
#define RAW RawModel
static const cyaml_schema_field_t MODEL_FIELDS[] = {
    FIELDS(MODEL_KEYS) CYAML_FIELD_MAPPING("adapter", OPTIONAL, RAW, adapter, ADAPTER_FIELDS),
    CYAML_FIELD_MAPPING("lora", OPTIONAL, RAW, lora, LORA_FIELDS), CYAML_FIELD_END};
#undef RAW
#define RAW RawSplit
static const cyaml_schema_field_t TEST_FIELDS[] = {TEXT_LIST("groups", groups), TEXT_LIST("speakers", speakers),
                                                   CYAML_FIELD_END};
static const cyaml_schema_field_t VALIDATION_FIELDS[] = {
    TEXT_LIST("groups", groups), TEXT_LIST("speakers", speakers),
    CYAML_FIELD_STRING_PTR("share", OPTIONAL, RAW, share, 0, CYAML_UNLIMITED), CYAML_FIELD_END};
#undef RAW
#define RAW RawData
static const cyaml_schema_field_t DATA_FIELDS[] = {
    FIELDS(DATA_KEYS) TEXT_LIST("classes", classes),
    CYAML_FIELD_SEQUENCE("labels", OPTIONAL | CYAML_FLAG_POINTER, RAW, labels, &LABEL_ENTRY, 0, 1000),
    CYAML_FIELD_MAPPING("test", OPTIONAL, RAW, test, TEST_FIELDS),
    CYAML_FIELD_MAPPING("validation", OPTIONAL, RAW, validation, VALIDATION_FIELDS), CYAML_FIELD_END};
#undef RAW
#define RAW RawPrompt
static const cyaml_schema_field_t PROMPT_FIELDS[] = {
    FIELDS(PROMPT_KEYS)
        CYAML_FIELD_SEQUENCE("response", OPTIONAL | CYAML_FLAG_POINTER, RAW, response, &PART_ENTRY, 1, PART_COUNT),
    CYAML_FIELD_END};
#undef RAW
#define RAW RawTrain
static const cyaml_schema_field_t TRAIN_FIELDS[] = {FIELDS(TRAIN_KEYS) CYAML_FIELD_END};
#undef RAW
#define RAW RawDevice
static const cyaml_schema_field_t DEVICE_FIELDS[] = {FIELDS(DEVICE_KEYS) CYAML_FIELD_END};
#undef RAW
#define RAW RawConfig
static const cyaml_schema_field_t CONFIG_FIELDS[] = {
    CYAML_FIELD_MAPPING("model", CYAML_FLAG_DEFAULT, RAW, model, MODEL_FIELDS),
    CYAML_FIELD_MAPPING("data", CYAML_FLAG_DEFAULT, RAW, data, DATA_FIELDS),
    CYAML_FIELD_MAPPING("prompt", OPTIONAL, RAW, prompt, PROMPT_FIELDS),
    CYAML_FIELD_MAPPING("train", CYAML_FLAG_DEFAULT, RAW, train, TRAIN_FIELDS),
    CYAML_FIELD_MAPPING("device", OPTIONAL, RAW, device, DEVICE_FIELDS),
    CYAML_FIELD_STRING_PTR("output", CYAML_FLAG_DEFAULT, RAW, output, 1, CYAML_UNLIMITED),
    CYAML_FIELD_END};
static const cyaml_schema_value_t CONFIG_SCHEMA = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, RawConfig, CONFIG_FIELDS)};
#undef RAW

/* ---- defaults and ranges ---- */

/* "FILE: " or, where the key stands in the file, "FILE: line N: ". */
typedef struct Place {
    char text[300];
} Place;

static const char *find_key(const char *text, const char *key, size_t length) {
    for (const char *at = text; (at = strstr(at, key)); at++) {
        bool begins = at == text || strchr(" \t\n{,", at[-1]);
        if (begins && at[length + strspn(at + length, " ")] == ':') return at;
        if (strlen(at) <= length) return NULL;
    }
    return NULL;
}

/* Goes down the path "model.lora.rank", each key after the one above it. */
static Place place_of(const char *file, const char *path) {
    Place place;
    snprintf(place.text, sizeof place.text, "%.250s", file);
    size_t size;
    char *text = file_read(file, CONFIG_BYTES_MAX, &size, NULL);
    const char *at = text;
    for (const char *key = path; at && *key;) {
        size_t length = strcspn(key, ".");
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)length, key);
        at = find_key(at, word, length);
        key += length + (key[length] == '.');
    }
    int line = 1;
    for (const char *c = text; at && c < at; c++) line += *c == '\n';
    if (at) snprintf(place.text, sizeof place.text, "%.250s: line %d", file, line);
    free(text);
    return place;
}

static bool set_number(double *value, const char *text, double low, double high, const char *file, const char *path,
                       Error *err) {
    char *end = NULL;
    double number = text ? strtod(text, &end) : *value;
    if (!text || (end != text && !*end && number >= low && number <= high)) {
        *value = number;
        return true;
    }
    return fail_usage(err, "%s: %s must be a number from %.10g to %.10g, found \"%.40s\"", place_of(file, path).text,
                      path, low, high, text);
}

static bool set_integer(int64_t *value, const char *text, int64_t low, int64_t high, const char *file, const char *path,
                        Error *err) {
    char *end = NULL;
    errno = 0;
    long long number = text ? strtoll(text, &end, 10) : *value;
    if (!text || (end != text && !*end && !errno && number >= low && number <= high)) {
        *value = number;
        return true;
    }
    return fail_usage(err, "%s: %s must be an integer from %" PRId64 " to %" PRId64 ", found \"%.40s\"",
                      place_of(file, path).text, path, low, high, text);
}

#define RESOLVE_INTEGER(section, key, fallback, low, high)                                                             \
    config->section.key = fallback;                                                                                    \
    if (!set_integer(&config->section.key, raw->section.key, low, high, path, #section "." #key, err)) return false;
#define RESOLVE_NUMBER(section, key, fallback, low, high)                                                              \
    config->section.key = fallback;                                                                                    \
    if (!set_number(&config->section.key, raw->section.key, low, high, path, #section "." #key, err)) return false;
#define RESOLVE_FLAG(section, key, fallback)                                                                           \
    config->section.key = raw->section.key ? *raw->section.key != 0 : (fallback);
#define RESOLVE_CHOICE(section, key, fallback, names)                                                                  \
    config->section.key = raw->section.key ? *raw->section.key : (fallback);
#define RESOLVE_WORD(section, key, fallback, least)                                                                    \
    config->section.key = raw->section.key ? raw->section.key : (fallback);
#define RESOLVE(KEYS) KEYS(RESOLVE_INTEGER, RESOLVE_NUMBER, RESOLVE_FLAG, RESOLVE_CHOICE, RESOLVE_WORD)

static bool resolve_model(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    RESOLVE(MODEL_KEYS)
    RESOLVE(ADAPTER_KEYS)
    RESOLVE(LORA_KEYS)
    config->model.lora.targets = raw->model.lora.targets ? *raw->model.lora.targets : LORA_ALL;
    if (config->model.lora.rank > 0 && config->model.lora.targets == 0)
        return fail_usage(err, "%s: model.lora.targets is empty; name projections, or set model.lora.rank to 0", path);
    if (!config->model.llm) return fail_usage(err, "%s: model.llm is missing: name the LLM's folder", path);
    return true;
}

static bool resolve_data(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    RESOLVE(DATA_KEYS)
    DataSection *data = &config->data;
    data->classes = raw->data.classes;
    data->labels = raw->data.labels;
    data->labels_count = raw->data.labels_count;
    data->test_groups = raw->data.test.groups;
    data->test_speakers = raw->data.test.speakers;
    data->validation_groups = raw->data.validation.groups;
    data->validation_speakers = raw->data.validation.speakers;
    if (!set_number(&data->validation_share, raw->data.validation.share, 0, 0.9, path, "data.validation.share", err))
        return false;
    if (data->validation_share > 0 && (data->validation_groups.count || data->validation_speakers.count))
        return fail_usage(err, "%s: data.validation takes either names or a share, not both", path);
    if (!data->shards) return fail_usage(err, "%s: data.shards is missing: name a shard folder, or its URL", path);
    for (unsigned i = 0; i < data->classes.count; i++)
        for (unsigned k = 0; k < i; k++)
            if (strcmp(data->classes.items[i], data->classes.items[k]) == 0)
                return fail_usage(err, "%s: data.classes names \"%s\" twice", path, data->classes.items[i]);
    return true;
}

static bool resolve_prompt(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    RESOLVE(PROMPT_KEYS)
    PromptSection *prompt = &config->prompt;
    static const Part ALL[] = {PART_EMOTION, PART_GENDER, PART_PITCH, PART_SPEED, PART_VOLUME, PART_EXPLANATION};
    const Part *parts = raw->prompt.response_count ? raw->prompt.response : ALL;
    prompt->response_count = raw->prompt.response_count ? raw->prompt.response_count : COUNT(ALL);
    for (unsigned i = 0; i < prompt->response_count; i++) {
        prompt->response[i] = parts[i];
        for (unsigned k = 0; k < i; k++)
            if (parts[i] == parts[k])
                return fail_usage(err, "%s: prompt.response names \"%s\" twice", path, PARTS[parts[i]].str);
    }
    if (prompt->levels == 4) return fail_usage(err, "%s: prompt.levels must be 3 or 5, found 4", path);
    if (prompt->input == INPUT_SPEECH && !config->model.encoder)
        return fail_usage(
            err, "%s: model.encoder is missing: name the encoder's folder, or set prompt.input: description", path);
    return true;
}

static bool resolve_train(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    RESOLVE(TRAIN_KEYS)
    TrainSection *train = &config->train;
    if ((train->steps > 0) == (train->epochs > 0))
        return fail_usage(err, "%s: give one of train.steps and train.epochs, more than 0", path);
    if (train->batch_clips == 0 && train->batch_tokens == 0)
        return fail_usage(err, "%s: give train.batch_clips, train.batch_tokens or both, more than 0", path);
    if (train->early_stop > 0 && train->validate_every == 0)
        return fail_usage(err, "%s: train.early_stop needs train.validate_every", path);
    return true;
}

static bool resolve_device(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    RESOLVE(DEVICE_KEYS)
    const DeviceChoice choice = config_device(config);
    DeviceKind kind;
    int index;
    DType dtype;
    return device_choice_check(&choice, &kind, &index, &dtype, err) || fail_in(err, "%s: device", path);
}

static bool resolve(RunConfig *config, const RawConfig *raw, const char *path, Error *err) {
    config->output = raw->output;
    return resolve_device(config, raw, path, err) && resolve_model(config, raw, path, err) &&
           resolve_data(config, raw, path, err) && resolve_prompt(config, raw, path, err) &&
           resolve_train(config, raw, path, err);
}

RunConfig *config_read(const char *path, const Texts *overrides, Error *err) {
    RunConfig *config = memory_new(1, sizeof *config, err);
    if (!config) return NULL;
    if (yaml_read(path, overrides, &CONFIG_SCHEMA, &config->raw, err) && resolve(config, config->raw, path, err))
        return config;
    config_free(config);
    return NULL;
}

void config_free(RunConfig *config) {
    if (!config) return;
    if (config->raw) yaml_release(&CONFIG_SCHEMA, config->raw);
    free(config);
}

/* ---- writing ---- */

/* A JSON string is a YAML string. */
static void add_quoted(Text *text, const char *string) {
    json_t *json = json_string(string);
    char *dump = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;
    if (dump)
        text_add_string(text, dump);
    else
        text->failed = true;
    free(dump);
    json_decref(json);
}

static void add_word(Text *text, const char *indent, const char *key, const char *value) {
    if (!value) return;
    text_addf(text, "%s%s: ", indent, key);
    add_quoted(text, value);
    text_add_string(text, "\n");
}

static const char *name_of(const cyaml_strval_t *names, size_t count, int64_t value) {
    for (size_t i = 0; i < count; i++)
        if (names[i].val == value) return names[i].str;
    return "";
}

static void add_list(Text *text, const char *indent, const char *key, const TextList *list) {
    if (!list->count) return;
    text_addf(text, "%s%s: [", indent, key);
    for (unsigned i = 0; i < list->count; i++) {
        if (i) text_add_string(text, ", ");
        add_quoted(text, list->items[i]);
    }
    text_add_string(text, "]\n");
}

/* 17 digits read back as the same double; fewer where they do too. */
static void add_number(Text *text, double value) {
    char digits[40];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) break;
    }
    text_add_string(text, digits);
}

#define WRITE_INTEGER(section, key, ...) text_addf(text, INDENT #key ": %" PRId64 "\n", config->section.key);
#define WRITE_NUMBER(section, key, ...)                                                                                \
    text_add_string(text, INDENT #key ": ");                                                                           \
    add_number(text, config->section.key);                                                                             \
    text_add_string(text, "\n");
#define WRITE_FLAG(section, key, ...) text_addf(text, INDENT #key ": %s\n", config->section.key ? "true" : "false");
#define WRITE_CHOICE(section, key, fallback, names)                                                                    \
    text_addf(text, INDENT #key ": %s\n", name_of(names, COUNT(names), (int64_t)config->section.key));
#define WRITE_WORD(section, key, ...) add_word(text, INDENT, #key, config->section.key);
#define WRITE(KEYS) KEYS(WRITE_INTEGER, WRITE_NUMBER, WRITE_FLAG, WRITE_CHOICE, WRITE_WORD)

static void write_targets(Text *text, unsigned targets) {
    text_add_string(text, "    targets: [");
    const char *comma = "";
    for (size_t i = 0; i < COUNT(TARGETS); i++) {
        if (TARGETS[i].val == LORA_ALL || !(targets & (unsigned)TARGETS[i].val)) continue;
        text_addf(text, "%s%s", comma, TARGETS[i].str);
        comma = ", ";
    }
    text_add_string(text, "]\n");
}

static void write_model(Text *text, const RunConfig *config) {
    text_add_string(text, "model:\n");
#define INDENT "  "
    WRITE(MODEL_KEYS)
#undef INDENT
#define INDENT "    "
    text_add_string(text, "  adapter:\n");
    WRITE(ADAPTER_KEYS)
    text_add_string(text, "  lora:\n");
    WRITE(LORA_KEYS)
#undef INDENT
    write_targets(text, config->model.lora.targets);
}

#define INDENT "  "
static void write_data(Text *text, const RunConfig *config) {
    const DataSection *data = &config->data;
    text_add_string(text, "data:\n");
    WRITE(DATA_KEYS)
    add_list(text, "  ", "classes", &data->classes);
    if (data->labels_count) text_add_string(text, "  labels:\n");
    for (unsigned i = 0; i < data->labels_count; i++) {
        text_add_string(text, "    - {from: ");
        add_quoted(text, data->labels[i].from);
        text_add_string(text, ", to: ");
        add_quoted(text, data->labels[i].to);
        text_add_string(text, "}\n");
    }
    if (data->test_groups.count || data->test_speakers.count) text_add_string(text, "  test:\n");
    add_list(text, "    ", "groups", &data->test_groups);
    add_list(text, "    ", "speakers", &data->test_speakers);
    text_add_string(text, "  validation:\n    share: ");
    add_number(text, data->validation_share);
    text_add_string(text, "\n");
    add_list(text, "    ", "groups", &data->validation_groups);
    add_list(text, "    ", "speakers", &data->validation_speakers);
}

static void write_prompt(Text *text, const RunConfig *config) {
    text_add_string(text, "prompt:\n");
    WRITE(PROMPT_KEYS)
    text_add_string(text, "  response: [");
    for (unsigned i = 0; i < config->prompt.response_count; i++)
        text_addf(text, "%s%s", i ? ", " : "", name_of(PARTS, COUNT(PARTS), config->prompt.response[i]));
    text_add_string(text, "]\n");
}

static void write_train(Text *text, const RunConfig *config) {
    text_add_string(text, "train:\n");
    WRITE(TRAIN_KEYS)
    text_add_string(text, "device:\n");
    WRITE(DEVICE_KEYS)
}
#undef INDENT

char *config_text(const RunConfig *config, Error *err) {
    Text text = {0};
    write_model(&text, config);
    write_data(&text, config);
    write_prompt(&text, config);
    write_train(&text, config);
    add_word(&text, "", "output", config->output);
    return text_finish(&text, err);
}

bool config_write(const RunConfig *config, const char *path, Error *err) {
    char *text = config_text(config, err);
    bool ok = text && file_write(path, text, strlen(text), err);
    free(text);
    return ok;
}

/* ---- what the models and the data take from it ---- */

int config_prosody_channels(const RunConfig *config) {
    if (config->prompt.input != INPUT_SPEECH || config->model.adapter.prosody == PROSODY_NONE) return 0;
    return config->model.adapter.prosody == PROSODY_ENERGY ? 1 : 3;
}

ShardCacheOptions config_cache(const RunConfig *config) {
    ShardCacheOptions cache = shard_cache_default();
    cache.folder = config->data.cache;
    cache.bytes = (int64_t)(config->data.cache_gib * 0x1p30);
    return cache;
}

SpeechLlmConfig config_model(const RunConfig *config) {
    const ModelSection *model = &config->model;
    return (SpeechLlmConfig){.encoder = config->prompt.input == INPUT_SPEECH ? model->encoder : NULL,
                             .llm = model->llm,
                             .layers = model->layers,
                             .normalize_waveform = model->normalize_waveform,
                             .adapter = {.stack = (int)model->adapter.stack,
                                         .hidden = (int)model->adapter.hidden,
                                         .prosody = config_prosody_channels(config),
                                         .prosody_scale = (float)model->adapter.prosody_scale,
                                         .dropout = (float)model->adapter.dropout,
                                         .noise = (float)model->adapter.noise},
                             .lora = {.rank = (int)model->lora.rank,
                                      .alpha = (float)model->lora.alpha,
                                      .dropout = (float)model->lora.dropout,
                                      .rslora = model->lora.rslora,
                                      .targets = model->lora.targets},
                             .seed = (uint64_t)config->train.seed};
}

DeviceChoice config_device(const RunConfig *config) {
    const DeviceSection *device = &config->device;
    return (DeviceChoice){.name = device->kind, .precision = device->precision, .threads = device->threads};
}

ResponseFormat config_response(const RunConfig *config) {
    ResponseFormat format = {.part_count = (int)config->prompt.response_count,
                             .style = config->prompt.style,
                             .level_count = (int)config->prompt.levels};
    memcpy(format.parts, config->prompt.response, sizeof format.parts);
    return format;
}
