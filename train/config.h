/* The YAML recipe of a run. Every key has its range and default in config.c; unknown keys, wrong types
 * and values out of range are refused. Paths are relative to the current directory. */
#ifndef SEMOLLM_TRAIN_CONFIG_H
#define SEMOLLM_TRAIN_CONFIG_H

#include "base/options.h"
#include "data/data.h"
#include "model/model.h"

typedef enum AdapterKind { ADAPTER_MLP } AdapterKind;
typedef enum Prosody { PROSODY_NONE, PROSODY_ENERGY, PROSODY_ENERGY_F0 } Prosody;
typedef enum PromptInput { INPUT_SPEECH, INPUT_DESCRIPTION } PromptInput;
typedef enum AudioPlace { AUDIO_BEFORE, AUDIO_AFTER } AudioPlace;
typedef enum Overlong { OVERLONG_CUT, OVERLONG_SPLIT, OVERLONG_REFUSE } Overlong;
typedef enum Schedule { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT } Schedule;
typedef enum EncoderCache { CACHE_OFF, CACHE_MEMORY } EncoderCache;

typedef struct TextList { /* of the config's strings; owned by it */
    const char **items;
    unsigned count;
} TextList;

typedef struct LabelRule { /* an emotion of the corpus and the class it counts as */
    const char *from, *to;
} LabelRule;

typedef struct AdapterSection {
    AdapterKind kind;
    int64_t stack, hidden;
    Prosody prosody;
    double prosody_scale, dropout, noise;
} AdapterSection;

typedef struct LoraSection {
    int64_t rank; /* 0: no LoRA */
    double alpha, dropout;
    bool rslora;
    unsigned targets; /* bits of LORA_Q.. */
} LoraSection;

typedef struct ModelSection {
    const char *encoder, *llm; /* folders; encoder is not opened with prompt.input: description */
    const char *template;      /* null: guessed from the LLM's folder */
    LayerChoice layers;
    Toggle normalize_waveform;
    AdapterSection adapter;
    LoraSection lora;
} ModelSection;

typedef struct DataSection {
    const char *shards; /* folder, or URL of one */
    TextList classes;   /* empty: every emotion of the shards, sorted */
    LabelRule *labels;
    unsigned labels_count;
    TextList test_groups, test_speakers, validation_groups, validation_speakers;
    double validation_share; /* of the training utterances, drawn by the seed; where no names are given */
    bool speaker_overlap;    /* allow a speaker in both test and training */
    Sampling sampling;
    int64_t shuffle_shards; /* mixed at a time; 0: all */
    const char *cache;      /* folder for shards behind a URL; null: the user's */
    double cache_gib;
    Overlong overlong;
    double max_seconds;
} DataSection;

typedef struct PromptSection {
    PromptInput input;
    const char *system, *user; /* system null: the template's own */
    Part response[PART_COUNT];
    unsigned response_count;
    ResponseStyle style;
    int64_t levels; /* 3 or 5 */
    Relative relative;
    AudioPlace audio;
} PromptSection;

typedef struct TrainSection {
    int64_t steps;
    double epochs;         /* one of the two is given, the other 0 */
    int64_t batch_tokens;  /* at most so many LLM tokens, speech rows included, in a micro-batch; 0: any */
    int64_t batch_clips;   /* clips in a micro-batch; 0: as the tokens allow */
    int64_t accumulate;    /* micro-batches in a step */
    double lr, adapter_lr; /* adapter_lr 0: lr */
    Schedule schedule;
    int64_t warmup; /* steps */
    double weight_decay, beta1, beta2, eps;
    double clip; /* largest gradient norm; 0: none */
    int64_t seed;
    int64_t validate_every, checkpoint_every; /* steps; 0: only at the end */
    int64_t keep;                             /* checkpoints kept besides the best */
    int64_t early_stop;                       /* validations without improvement; 0: never */
    EncoderCache encoder_cache;
    int64_t threads; /* of the loader */
} TrainSection;

typedef struct DeviceSection {
    const char *kind, *precision; /* as in DeviceChoice */
    int64_t threads;              /* 0: one per core */
} DeviceSection;

typedef struct RunConfig {
    ModelSection model;
    DataSection data;
    PromptSection prompt;
    TrainSection train;
    DeviceSection device;
    const char *output; /* the run's folder */
    void *raw;          /* what holds the strings */
} RunConfig;

/* `overrides` (may be null): "train.steps=100" each. */
RunConfig *config_read(const char *path, const Texts *overrides, Error *err);
bool config_write(const RunConfig *config, const char *path, Error *err); /* every value, defaults included; atomic */
char *config_text(const RunConfig *config, Error *err);
void config_free(RunConfig *config);

ShardCacheOptions config_cache(const RunConfig *config);
SpeechLlmConfig config_model(const RunConfig *config);
DeviceChoice config_device(const RunConfig *config);
ResponseFormat config_response(const RunConfig *config);
int config_prosody_channels(const RunConfig *config); /* 0, 1 or 3 */

#endif
