/* semollm report: pages to look at. */
#include <string.h>

#include "data/commands.h"
#include "data/report.h"

typedef struct Numbers {
    int64_t cards, seed, levels;
} Numbers;

static bool check(const Texts *arguments, const Numbers *numbers, const char *output, Error *err) {
    if (strcmp(arguments->items[0], "data") != 0)
        return fail_usage(err, "report: there is no report on \"%.40s\"; there is data", arguments->items[0]);
    if (arguments->count < 2) return fail_usage(err, "report: name a shard folder or a manifest after \"data\"");
    if (numbers->cards < CARDS_BY_CLASS || numbers->cards > REPORT_CARDS_MOST)
        return fail_usage(err, "report: --cards must be 0 to %d", REPORT_CARDS_MOST);
    if (numbers->seed < 0) return fail_usage(err, "report: --seed must be 0 or more");
    if (numbers->levels != 0 && numbers->levels != 3 && numbers->levels != 5)
        return fail_usage(err, "report: --levels must be 3 or 5, not %lld", (long long)numbers->levels);
    if (output && folder_exists(output)) return fail_usage(err, "report: %s is a folder; name a file to write", output);
    return true;
}

bool command_report(int argc, char **argv, Error *err) {
    ReportOptions report = {0};
    Numbers numbers = {.cards = CARDS_BY_CLASS};
    const Option options[] = {
        {"output", 'o', OPTION_TEXT, &report.output, "FILE", "the page; default NAME-data.html in the working folder"},
        {"cards", 0, OPTION_INT, &numbers.cards, "N", "samples to show, of the classes in turn; default two a class"},
        {"seed", 0, OPTION_INT, &numbers.seed, "S", "of which samples are shown (0)"},
        {"levels", 0, OPTION_INT, &numbers.levels, "N",
         "levels of pitch, speed and volume: 3 or 5; default as annotated"},
        {0}};
    const Usage usage = {.command = "report",
                         .arguments = "data PATH",
                         .summary = "Writes one self-contained page of HTML on a shard folder or a manifest: what it "
                                    "holds and lacks, how each cue is\ndistributed in each class, the levels' cut "
                                    "points, and samples to hear beside their annotation.",
                         .options = options,
                         .least = 1,
                         .most = 2};
    Texts arguments = {0};
    bool help = false, done = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (done && !help) {
        report.cards = (int)numbers.cards;
        report.seed = (uint64_t)numbers.seed;
        report.levels = (int)numbers.levels;
        done = check(&arguments, &numbers, report.output, err) && report_data(arguments.items[1], &report, err);
    }
    texts_free(&arguments);
    return done;
}
