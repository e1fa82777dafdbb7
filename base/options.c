#include "base/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static void print_help(const Usage *usage) {
    printf("usage: semollm %s %s%s\n\n%s\n", usage->command, usage->arguments,
           usage->options[0].name ? " [options]" : "", usage->summary);
    if (usage->options[0].name) printf("\noptions:\n");
    for (const Option *option = usage->options; option->name; option++) {
        char left[80], letter[8] = "    ";
        if (option->letter) snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        printf("  %-34s %s\n", left, option->help);
    }
    printf("  %-34s %s\n", "-h, --help", "show this help");
}

static const Option *find(const Usage *usage, const char *name, size_t length) {
    for (const Option *option = usage->options; option->name; option++)
        if (strlen(option->name) == length && !memcmp(option->name, name, length)) return option;
    return NULL;
}

static const Option *find_letter(const Usage *usage, char letter) {
    for (const Option *option = usage->options; option->name; option++)
        if (option->letter == letter) return option;
    return NULL;
}

static bool add_text(Texts *texts, const char *value, Error *err) {
    const char **items = realloc(texts->items, (size_t)(texts->count + 1) * sizeof *items);
    if (!items) return fail(err, "out of memory while reading the command line");
    texts->items = items;
    texts->items[texts->count++] = value;
    return true;
}

static bool set_value(const Usage *usage, const Option *option, const char *value, Error *err) {
    char *end = NULL;
    errno = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->target = true;
        return true;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return true;
    case OPTION_TEXTS:
        return add_text(option->target, value, err);
    case OPTION_INT: {
        long long number = strtoll(value, &end, 10);
        if (end == value || *end || errno)
            return fail_usage(err, "%s: --%s must be an integer, found \"%s\"", usage->command, option->name, value);
        *(int64_t *)option->target = number;
        return true;
    }
    case OPTION_NUMBER: {
        double number = strtod(value, &end);
        if (end == value || *end || errno)
            return fail_usage(err, "%s: --%s must be a number, found \"%s\"", usage->command, option->name, value);
        *(double *)option->target = number;
        return true;
    }
    }
    return false;
}

/* One option at argv[*at]; moves *at past a value that stands alone. */
static bool parse_option(const Usage *usage, int argc, char **argv, int *at, Error *err) {
    const char *word = argv[*at], *value = NULL;
    const Option *option;
    if (word[1] == '-') {
        const char *name = word + 2, *equals = strchr(name, '=');
        option = find(usage, name, equals ? (size_t)(equals - name) : strlen(name));
        if (equals) value = equals + 1;
    } else {
        option = word[2] ? NULL : find_letter(usage, word[1]);
    }
    if (!option)
        return fail_usage(err, "%s: no option %s (semollm %s --help lists them)", usage->command, word, usage->command);
    if (option->kind == OPTION_FLAG) {
        if (value) return fail_usage(err, "%s: --%s takes no value", usage->command, option->name);
    } else if (!value) {
        if (*at + 1 >= argc) return fail_usage(err, "%s: --%s needs a value", usage->command, option->name);
        value = argv[++*at];
    }
    return set_value(usage, option, value, err);
}

bool options_parse(const Usage *usage, int argc, char **argv, Texts *arguments, bool *help, Error *err) {
    *arguments = (Texts){0};
    *help = false;
    bool ok = true, only_arguments = false;
    for (int i = 1; ok && i < argc; i++) {
        if (!only_arguments && !strcmp(argv[i], "--")) {
            only_arguments = true;
        } else if (only_arguments || argv[i][0] != '-' || !argv[i][1]) {
            ok = add_text(arguments, argv[i], err);
        } else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(usage);
            *help = true;
            return true;
        } else {
            ok = parse_option(usage, argc, argv, &i, err);
        }
    }
    if (ok && (arguments->count < usage->least || (usage->most >= 0 && arguments->count > usage->most)))
        ok = fail_usage(err, "%s: expected %s, found %d argument%s (semollm %s --help)", usage->command,
                        usage->most == 0 ? "no arguments" : usage->arguments, arguments->count,
                        arguments->count == 1 ? "" : "s", usage->command);
    if (!ok) texts_free(arguments);
    return ok;
}

void texts_free(Texts *texts) {
    free(texts->items);
    *texts = (Texts){0};
}
