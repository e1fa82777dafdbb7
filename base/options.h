/* Command lines: one table of options per command gives parsing, errors and --help. */
#ifndef SEMOLLM_BASE_OPTIONS_H
#define SEMOLLM_BASE_OPTIONS_H

#include <stdint.h>

#include "base/error.h"

typedef struct Texts { /* values of an option that may be repeated, and positional arguments */
    const char **items;
    int count;
} Texts;

typedef enum OptionKind { OPTION_FLAG, OPTION_TEXT, OPTION_INT, OPTION_NUMBER, OPTION_TEXTS } OptionKind;

typedef struct Option {
    const char *name;  /* "resume" for --resume */
    char letter;       /* 'o' for -o; 0: none */
    OptionKind kind;   /* *target: bool, const char *, int64_t, double, Texts */
    void *target;      /* holds the default */
    const char *value; /* what the value is called in --help: "DIR"; null for a flag */
    const char *help;
} Option;

typedef struct Usage {
    const char *command;   /* "train" */
    const char *arguments; /* "CONFIG", "AUDIO..." */
    const char *summary;   /* one paragraph for --help */
    const Option *options; /* ended by a null name */
    int least, most;       /* number of positional arguments; most < 0: any */
} Usage;

/* Parses argv[1..]; an option may stand before or after arguments, "--" ends options, values follow
 * as "--name value" or "--name=value". With --help or -h prints the help to stdout and sets *help.
 * `arguments` (free its items) gets the positional ones. Wrong usage is a usage error that names the
 * flag and how to get help. */
bool options_parse(const Usage *usage, int argc, char **argv, Texts *arguments, bool *help, Error *err);

void texts_free(Texts *texts);

/* A row of a command table. `run` returns false with an Error filled. */
typedef struct Command {
    const char *name, *arguments, *summary;
    bool (*run)(int argc, char **argv, Error *err);
} Command;

#endif
