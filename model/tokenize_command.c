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
    bool done = tokenizer_encode(tokenizer, &piece, 1, &ids, err);
    for (size_t i = 0; done && i < ids.count; i++) printf(i ? " %" PRId32 : "%" PRId32, ids.items[i]);
    if (done) putchar('\n');
    ids_free(&ids);
    return done;
}

static bool encode_line(const Tokenizer *tokenizer, const char *line, size_t length, bool json, Error *err) {
    if (!json) return print_ids(tokenizer, line, length, err);
    json_error_t where;
    json_t *string = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    bool done = json_is_string(string) || fail(err, "with --json each line must be a JSON string%s%s",
                                               string ? "" : ": ", string ? "" : where.text);
    done = done && print_ids(tokenizer, json_string_value(string), json_string_length(string), err);
    json_decref(string);
    return done;
}

static bool read_ids(const char *line, size_t length, Ids *ids, Error *err) {
    const char *at = line;
    for (at += strspn(at, " \t\r"); *at; at += strspn(at, " \t\r")) {
        char *end;
        errno = 0;
        long number = strtol(at, &end, 10);
        if (end == at || errno || number < 0 || number > INT32_MAX || (*end && !strchr(" \t\r", *end)))
            return fail(err, "expected ids with spaces between them, found \"%.40s\"", at);
        if (!memory_grow(&ids->items, ids->count, &ids->capacity, sizeof *ids->items, err)) return false;
        ids->items[ids->count++] = (int32_t)number;
        at = end;
    }
    return at == line + length || fail(err, "expected ids with spaces between them, found a null character");
}

static bool print_text(const Text *text, bool json, Error *err) {
    if (!json) {
        fwrite(text->data, 1, text->length, stdout);
    } else {
        json_t *string = json_stringn(text->data, text->length);
        bool done = string && json_dumpf(string, stdout, JSON_ENCODE_ANY) == 0;
        json_decref(string);
        if (!done) return fail(err, "the text cannot be written as JSON");
    }
    putchar('\n');
    return true;
}

static bool decode_line(const Tokenizer *tokenizer, const char *line, size_t length, bool json, Error *err) {
    Ids ids = {0};
    Text text = {0};
    bool done = read_ids(line, length, &ids, err) &&
                tokenizer_decode_text(tokenizer, ids.items, ids.count, false, &text, err) &&
                print_text(&text, json, err);
    text_free(&text);
    ids_free(&ids);
    return done;
}

static bool check_streams(Error *err) {
    if (ferror(stdin)) return fail(err, "standard input cannot be read: %s", strerror(errno));
    if (fflush(stdout) != 0 || ferror(stdout)) return fail(err, "standard output cannot be written");
    return true;
}

static bool tokenize_lines(const Tokenizer *tokenizer, bool decode, bool json, Error *err) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t got;
    bool done = true;
    for (int64_t number = 1; done && (got = getline(&line, &capacity, stdin)) >= 0; number++) {
        size_t length = (size_t)got;
        if (length > 0 && line[length - 1] == '\n') line[--length] = '\0';
        done =
            decode ? decode_line(tokenizer, line, length, json, err) : encode_line(tokenizer, line, length, json, err);
        if (!done) fail_in(err, "standard input, line %" PRId64, number);
    }
    free(line);
    return check_streams(err) && done;
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
