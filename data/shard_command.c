/* semollm shard: a manifest and its recordings into shards. */
#include "base/options.h"
#include "data/shards.h"

bool command_shard(int argc, char **argv, Error *err) {
    ShardOptions options = shard_options_default();
    const char *folder = NULL;
    double megabytes = (double)options.shard_bytes / (1 << 20);
    int64_t level = options.level, threads = options.threads;
    Option table[] = {
        {"output", 'o', OPTION_TEXT, &folder, "DIR", "where the shards go; a killed run goes on there"},
        {"name", 0, OPTION_TEXT, &options.name, "NAME", "what the shards are called (NAME-000000.tar.zst)"},
        {"shard-size", 0, OPTION_NUMBER, &megabytes, "MB", "a new shard begins past this many MiB"},
        {"level", 0, OPTION_INT, &level, "N", "zstd's level, 1 to 19"},
        {"threads", 0, OPTION_INT, &threads, "N", "workers; 0: one per core"},
        {"skip-bad", 0, OPTION_FLAG, &options.skip_bad, NULL, "list unreadable utterances and go on without them"},
        {0},
    };
    Usage usage = {.command = "shard",
                   .arguments = "A.jsonl",
                   .summary = "Writes a manifest and its audio (16 kHz mono FLAC) as shards: tar.zst files that `tar "
                              "--zstd` and webdataset read, with an index for random access.",
                   .options = table,
                   .least = 1,
                   .most = 1};
    Texts arguments = {0};
    bool help = false;
    bool ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help) {
        if (!folder)
            ok = fail_usage(err, "shard: give the folder to write with -o DIR");
        else if (level < 1 || level > 19)
            ok = fail_usage(err, "shard: --level must be 1 to 19");
        else if (threads < 0 || threads > 256)
            ok = fail_usage(err, "shard: --threads must be 0 to 256");
        else if (!(megabytes > 0 && megabytes <= 1e6))
            ok = fail_usage(err, "shard: --shard-size must be 0 to 1e6 MiB");
        options.level = (int)level;
        options.threads = (int)threads;
        options.shard_bytes = (int64_t)(megabytes * (1 << 20));
        Manifest manifest = {0};
        ok = ok && manifest_read(&manifest, arguments.items[0], err) && shards_write(&manifest, folder, &options, err);
        manifest_free(&manifest);
    }
    texts_free(&arguments);
    return ok;
}
