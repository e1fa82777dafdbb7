#include <inttypes.h>
#include <stdio.h>

#include "model/convert.h"

bool command_convert(int argc, char **argv, Error *err);

bool command_convert(int argc, char **argv, Error *err) {
    const char *target = NULL;
    int64_t shard_bytes = (int64_t)CONVERT_SHARD_BYTES;
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &target, "DIR", "the folder to make; it must not exist"},
        {"shard-size", 0, OPTION_INT, &shard_bytes, "BYTES", "most bytes of tensors in one file (5 GB)"},
        {0},
    };
    const Usage usage = {
        .command = "convert",
        .arguments = "SRC",
        .summary = "Makes a folder of safetensors from PyTorch's weights: a Hugging Face folder with pytorch_model.bin "
                   "(one file or shards), or a .bin or .pt file, Microsoft's WavLM checkpoints among them. Nothing in "
                   "the file is run: what asks for more than tensors is refused.",
        .options = options,
        .least = 1,
        .most = 1,
    };
    Texts arguments;
    bool help;
    if (!options_parse(&usage, argc, argv, &arguments, &help, err)) return false;
    bool ok = true;
    if (!help) {
        ConvertSummary summary;
        ok = target || fail_usage(err, "convert: say with -o DIR which folder to make");
        ok = ok && (shard_bytes > 0 || fail_usage(err, "convert: --shard-size must be positive"));
        ok = ok && convert_model(arguments.items[0], target, (size_t)shard_bytes, &summary, err);
        if (ok)
            printf("%s: %zu tensors, %.1f MiB in %zu file%s\n", target, summary.tensors,
                   (double)summary.bytes / (1024.0 * 1024.0), summary.files, summary.files == 1 ? "" : "s");
    }
    texts_free(&arguments);
    return ok;
}
