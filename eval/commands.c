#include "eval/commands.h"

#include "eval/eval.h"

const Command EVAL_COMMANDS[] = {
    {"eval", "RUN -o DIR", "answer a run's test clips and score emotion and cues", command_eval},
    {"explain", "RUN AUDIO...", "emotion, cues and explanation of any recording", command_explain},
    {"export", "RUN -o DIR", "a run's adapters as PEFT and safetensors files", command_export},
    {0},
};
