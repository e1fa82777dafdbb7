#include "train/commands.h"

#include "train/estimate.h"
#include "train/info.h"
#include "train/loop.h"
#include "train/train.h"

static bool command_train(int argc, char **argv, Error *err) {
    TrainOptions options = {.dump_steps = 1};
    Texts overrides = {0}, arguments = {0};
    const Option table[] = {
        {"set", 0, OPTION_TEXTS, &overrides, "KEY=VALUE", "override a value of the config; may be repeated"},
        {"resume", 0, OPTION_FLAG, &options.resume, NULL, "go on after the last checkpoint"},
        {"dry-run", 0, OPTION_FLAG, &options.dry_run, NULL, "print the plan (data, steps, memory) and stop"},
        {"estimate", 0, OPTION_TEXT, &options.estimate, "GPU[,N]",
         "what it would take on N of h100, h200, a100, l40s, 4090 or a file like configs/machines/, and stop"},
        {"show-batch", 0, OPTION_FLAG, &options.show_batch, NULL, "print the first samples as the model gets them"},
        {"dump", 0, OPTION_TEXT, &options.dump, "DIR", "write steps' inputs, weights and gradients there and stop"},
        {"dump-steps", 0, OPTION_INT, &options.dump_steps, "N", "how many steps to dump"},
        DEVICE_OPTIONS(options.device),
        {0},
    };
    const Usage usage = {
        .command = "train",
        .arguments = "CONFIG",
        .summary = "Trains what a YAML config says, into its output folder. A run that was stopped or "
                   "killed goes on with --resume, bit for bit as if it had not been. Started by mpirun or srun, "
                   "all ranks train it together.",
        .options = table,
        .least = 1,
        .most = 1};
    bool help = false, ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help && options.dump_steps < 1) ok = fail_usage(err, "train: --dump-steps must be 1 or more");
    if (ok && !help && options.estimate)
        ok = estimate(arguments.items[0], &overrides, options.estimate, stdout, err);
    else if (ok && !help)
        ok = train(arguments.items[0], &overrides, &options, err);
    texts_free(&overrides);
    texts_free(&arguments);
    return ok;
}

static bool on_path(const Usage *usage, int argc, char **argv, bool (*act)(const char *path, Error *err), Error *err) {
    Texts arguments = {0};
    bool help = false, ok = options_parse(usage, argc, argv, &arguments, &help, err);
    if (ok && !help) ok = act(arguments.items[0], err);
    texts_free(&arguments);
    return ok;
}

static const Option NO_OPTIONS[] = {{0}};

static bool command_verify(int argc, char **argv, Error *err) {
    const Usage usage = {.command = "verify",
                         .arguments = "PATH",
                         .summary = "Checks every byte of a shard folder, a checkpoint or all of a run's checkpoints "
                                    "against their hashes, and names what is damaged.",
                         .options = NO_OPTIONS,
                         .least = 1,
                         .most = 1};
    return on_path(&usage, argc, argv, verify, err);
}

static bool command_info(int argc, char **argv, Error *err) {
    const Usage usage = {.command = "info",
                         .arguments = "PATH",
                         .summary = "Says what a model folder, run, shard folder or checkpoint holds.",
                         .options = NO_OPTIONS,
                         .least = 1,
                         .most = 1};
    return on_path(&usage, argc, argv, info, err);
}

const Command TRAIN_COMMANDS[] = {
    {"annotate", "M.jsonl -o A.jsonl", "measure features, find levels, have a teacher explain", command_annotate},
    {"train", "CONFIG", "train a model that explains emotions", command_train},
    {"verify", "PATH", "check shards or checkpoints for damage", command_verify},
    {"info", "PATH", "say what a model, run, shard folder or checkpoint holds", command_info},
    {0},
};
