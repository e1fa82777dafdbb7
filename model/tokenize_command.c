/* semollm tokenize: text lines to ids and back, to compare with other implementations. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/commands.h"
#include "model/tokenizer.h"

static bool print_ids(const Tokenizer *tokenizer, const char *text, size_t length, Error *err) {
    Ids ids = {0};
    TextPiece piece = {text, length, true};
    if (!tokenizer_encode(tokenizer, &piece, 1, &ids, err)) return false;
    for (size_t i = 0; i < ids.count; i++) printf(i ? " %" PRId32 : "%" PRId32, ids.items[i]);
    putchar('\n');
    ids_free(&ids);
    return true;
}

static bool encode_line(const Tokenizer *tokenizer, const char *line, size_t length, bool json, Error *err) {
    if (!json) return print_ids(tokenizer, line, length, err);
    json_t *string = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bool ok = json_is_string(string) || fail(err, "with --json each line must be a JSON string");
    ok = ok && print_ids(tokenizer, json_string_value(string), json_string_length(string), err);
    json_decref(string);
    return ok;
}

static bool read_ids(const char *line, Ids *ids, Error *err) {
    size_t capacity = ids->capacity;
    for (const char *at = line; *at;) {
        char *end;
        errno = 0;
        long number = strtol(at, &end, 10);
        if (end == at && strspn(at, " \t\r") == strlen(at)) break;
        if (end == at || errno || number < 0 || number > INT32_MAX || (*end && !strchr(" \t\r", *end)))
            return fail(err, "expected ids with spaces between them, found \"%.40s\"", at);
        if (!memory_grow(&ids->items, ids->count, &capacity, sizeof *ids->items, err)) return false;
        ids->items[ids->count++] = (int32_t)number;
        ids->capacity = capacity;
        at = end;
    }
    return true;
}

static bool decode_line(const Tokenizer *tokenizer, const char *line, bool json, Error *err) {
    Ids ids = {0};
    bool ok = read_ids(line, &ids, err);
    char *text = ok ? tokenizer_decode(tokenizer, ids.items, ids.count, false, err) : NULL;
    if (text && json) {
        json_t *string = json_string(text);
        ok = string && json_dumpf(string, stdout, JSON_ENCODE_ANY) == 0;
        if (!ok) fail(err, "the text cannot be written as JSON");
        json_decref(string);
        putchar('\n');
    } else if (text) {
        puts(text);
    }
    ok = ok && text;
    free(text);
    ids_free(&ids);
    return ok;
}

static bool tokenize_lines(const Tokenizer *tokenizer, bool decode, bool json, Error *err) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    bool ok = true;
    for (int64_t number = 1; ok && (length = getline(&line, &capacity, stdin)) >= 0; number++) {
        if (length > 0 && line[length - 1] == '\n') line[--length] = '\0';
        ok = decode ? decode_line(tokenizer, line, json, err) : encode_line(tokenizer, line, (size_t)length, json, err);
        if (!ok) fail_in(err, "standard input, line %" PRId64, number);
    }
    free(line);
    return ok;
}

bool command_tokenize(int argc, char **argv, Error *err) {
    bool decode = false, json = false, help;
    const Option options[] = {{"decode", 0, OPTION_FLAG, &decode, NULL, "ids to text; special tokens are kept"},
                              {"json", 0, OPTION_FLAG, &json, NULL, "lines of text are JSON strings"},
                              {0}};
    const Usage usage = {
        "tokenize",
        "LLM_DIR",
        "Reads lines of text from standard input and writes their ids, with spaces between them, a line\n"
        "each. No special token is added; those written in the text are recognised.",
        options,
        1,
        1};
    Texts arguments;
    if (!options_parse(&usage, argc, argv, &arguments, &help, err)) return false;
    Tokenizer *tokenizer = help ? NULL : tokenizer_open(arguments.items[0], err);
    bool ok = help || (tokenizer && tokenize_lines(tokenizer, decode, json, err));
    tokenizer_close(tokenizer);
    texts_free(&arguments);
    return ok;
}
