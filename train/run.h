/* An opened run: what its config names, and what follows from its data: classes, splits, cut points.
 * eval/ opens run folders with it, train/ configs. */
#ifndef SEMOLLM_TRAIN_RUN_H
#define SEMOLLM_TRAIN_RUN_H

#include "train/config.h"

typedef struct Split { /* sample indexes in the shards, rising */
    uint32_t *items;
    size_t count;
} Split;

typedef struct RunOptions {
    const Texts *overrides; /* of the config; may be null */
    bool model;             /* open device and model as well */
    bool plan;              /* on a device that stands for the config's and holds nothing */
    DeviceChoice device;    /* in place of the config's where it names something */
    Comm *comm;             /* the ranks of the run; stays the caller's */
    bool data;              /* open the shards and make the splits as well */
    const char *checkpoint; /* of a run folder, with `model`: "best", "last", "step-120", "none" (untrained) or a
                               folder; null: "best" where there is one, else "last" */
} RunOptions;

typedef struct Run {
    RunConfig *config;
    char *folder;     /* the run's own; may not exist yet */
    char *checkpoint; /* the folder whose weights were loaded; null: none */
    const char *template;
    Tokenizer *tokenizer;
    Comm *comm;       /* null: this process is alone */
    Device *dev;      /* null without `model` */
    SpeechLlm *model; /* null without `model` */
    Shards *shards;   /* null without `data` */
    char **classes;
    int class_count;
    int32_t *class_of; /* [shards_count] index into classes, -1: none of them (such a sample is in no split) */
    Split train, validation, test;
    CutPoints *cuts; /* fitted on the training split, or as the run folder remembers them */
    ResponseFormat response;
    ChatPrompt prompt;     /* of every sample where input is speech */
    uint64_t encoder_hash; /* of the encoder's files, for its output kept on disk; 0: not asked for yet */
} Run;

/* `path`: a run's folder, or a config file. A run folder's classes and cut points are those it was trained
 * with, whatever shards it is opened on. */
Run *run_open(const char *path, const RunOptions *options, Error *err);
void run_close(Run *run);

/* Loads the weights of a checkpoint, named as in RunOptions. */
bool run_load(Run *run, const char *checkpoint, Error *err);

/* Writes config.yaml and setup.json (classes and cut points) into the run's folder. */
bool run_save_setup(const Run *run, Error *err);

/* What the class list makes of an utterance's emotion (data.labels applied); -1: none of them. */
int run_class(const Run *run, const Utterance *utterance);

/* A shallow copy of an utterance with the class's name as its emotion; owns nothing. */
Utterance run_utterance(const Run *run, const Utterance *utterance);

Levels run_levels(const Run *run, const Utterance *utterance);

/* The answer that an utterance is trained to get; free() it. `replaced` as in response_write. */
char *run_answer(const Run *run, const Utterance *utterance, bool *replaced, Error *err);

/* The prompt of an utterance; free with chat_prompt_free. */
bool run_prompt(const Run *run, const Utterance *utterance, ChatPrompt *prompt, Error *err);

/* How this run's samples are loaded: prosody channels, cut to max_seconds, threads. `chosen` stays the caller's. */
LoaderOptions run_loader_options(const Run *run, const Split *split);

/* 16 kHz samples the model is given of a clip this long: cut at data.max_seconds. */
int64_t run_clip_samples(const Run *run, int64_t samples);

#endif
