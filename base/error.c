#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names and texts in a sentence come from files: what would break the line or steer a terminal becomes a "?". */
static void make_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == '\x7f') *text = '?';
}

static void fill(Error *err, int exit_code, const char *format, va_list args) {
    if (!err || err->exit_code != EXIT_DONE) return;
    err->exit_code = exit_code;
    vsnprintf(err->text, sizeof err->text, format, args);
    make_one_line(err->text);
}

bool fail(Error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, EXIT_FAILED, format, args);
    va_end(args);
    return false;
}

bool fail_usage(Error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, EXIT_USAGE, format, args);
    va_end(args);
    return false;
}

bool fail_in(Error *err, const char *format, ...) {
    if (!err || err->exit_code == EXIT_DONE) return false;
    char context[sizeof err->text / 3]; /* leaves room for the reason, which matters more */
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    make_one_line(context);
    size_t length = strlen(context), room = sizeof err->text - length - 3;
    size_t kept = strnlen(err->text, room);
    memmove(err->text + length + 2, err->text, kept);
    memcpy(err->text, context, length);
    memcpy(err->text + length, ": ", 2);
    err->text[length + 2 + kept] = '\0';
    return false;
}
