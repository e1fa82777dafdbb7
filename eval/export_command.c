#include "eval/commands.h"
#include "train/train.h"

static bool export_run(const char *path, const char *checkpoint, const char *out, Error *err) {
    RunOptions opening = {.model = true, .checkpoint = checkpoint};
    Run *run = run_open(path, &opening, err);
    if (!run) return false;
    AtomicFolder folder = {0};
    bool ok = atomic_folder_open(&folder, out, err) && speech_llm_save(run->model, folder.temporary, err) &&
              atomic_folder_commit(&folder, err);
    atomic_folder_discard(&folder);
    run_close(run);
    return ok;
}

bool command_export(int argc, char **argv, Error *err) {
    const char *out = NULL, *checkpoint = NULL;
    const Option options[] = {{"output", 'o', OPTION_TEXT, &out, "DIR", "the folder to write; must not exist"},
                              {"checkpoint", 0, OPTION_TEXT, &checkpoint, "NAME",
                               "best, last, step-N or a folder (default: best, else last)"},
                              {0}};
    const Usage usage = {
        "export",
        "RUN -o DIR",
        "Writes adapter_config.json and adapter_model.safetensors, which PEFT loads onto the run's LLM,\n"
        "and speech_adapter.safetensors.",
        options,
        1,
        1};
    Texts arguments;
    bool help;
    if (!options_parse(&usage, argc, argv, &arguments, &help, err)) return false;
    bool ok = help || (out ? export_run(arguments.items[0], checkpoint, out, err)
                           : fail_usage(err, "export: -o DIR says where to write"));
    texts_free(&arguments);
    return ok;
}
