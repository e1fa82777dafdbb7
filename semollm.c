/* semollm: explainable speech emotion recognition. The command table, nothing else. */
#include <stdio.h>
#include <string.h>

#include "data/data.h"
#include "eval/eval.h"
#include "kernels/device.h"
#include "model/model.h"
#include "train/train.h"

static const Command *const TABLES[] = {DATA_COMMANDS, TRAIN_COMMANDS, EVAL_COMMANDS, MODEL_COMMANDS};
enum { TABLE_COUNT = sizeof TABLES / sizeof *TABLES };

static void print_help(FILE *out) {
    fprintf(out, "usage: semollm COMMAND ...\n\nExplainable speech emotion recognition: annotate speech with measured "
                 "cues, train an"
                 " LLM to\nhear them, and ask it why.\n\n");
    for (int t = 0; t < TABLE_COUNT; t++)
        for (const Command *command = TABLES[t]; command->name; command++) {
            char left[64];
            snprintf(left, sizeof left, "%s %s", command->name, command->arguments);
            fprintf(out, "  %-44s %s\n", left, command->summary);
        }
    fprintf(out,
            "\n`semollm COMMAND --help` explains a command. Exit status: 0 done, 1 failed, 2 wrong usage or config.\n");
}

static const Command *find(const char *name) {
    for (int t = 0; t < TABLE_COUNT; t++)
        for (const Command *command = TABLES[t]; command->name; command++)
            if (!strcmp(command->name, name)) return command;
    return NULL;
}

/* Output that could not be written (a full disk behind a redirect) is a failure too. */
static int finish(Error *err, bool ok) {
    if ((fflush(stdout) != 0 || ferror(stdout)) && ok) ok = fail(err, "standard output: cannot be written");
    if (ok) return EXIT_DONE;
    if (*err->text) fprintf(stderr, "semollm: %s\n", err->text); /* none: a rank of the run has said it */
    return err->exit_code;
}

int main(int argc, char **argv) {
    device_calm_idle_threads(argv);
    if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
        print_help(stdout);
        Error unwritten = {0};
        return finish(&unwritten, true);
    }
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const Command *command = find(argv[1]);
    if (!command) {
        fprintf(stderr, "semollm: no command \"%s\"; `semollm --help` lists them\n", argv[1]);
        return EXIT_USAGE;
    }
    Error err = {0};
    bool ok = command->run(argc - 1, argv + 1, &err);
    return finish(&err, ok);
}
