#include "data/commands.h"

#include "data/data.h"

const Command DATA_COMMANDS[] = {
    {"synth", "DIR", "a synthetic emotional corpus from espeak-ng, for demos and tests", command_synth},
    {"import", "CORPUS ROOT -o M.jsonl", "a corpus in its own layout into a manifest", command_import},
    {"features", "AUDIO... [--json]", "the interpretable features of any recording", command_features},
    {"shard", "A.jsonl -o DIR", "write shards: audio and annotations for training", command_shard},
    {"report", "data PATH [-o FILE]", "a page that shows what shards or a manifest hold", command_report},
    {0},
};
