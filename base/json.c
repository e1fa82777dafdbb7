#include "base/json.h"

#include <inttypes.h>
#include <string.h>

#include "base/file.h"

enum { LOAD_FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY };

json_t *json_read_text(const char *text, size_t size, const char *name, Error *err) {
    json_error_t where;
    json_t *json = json_loadb(text, size, LOAD_FLAGS, &where);
    if (!json) fail(err, "%s: line %d, column %d: not valid JSON: %s", name, where.line, where.column, where.text);
    return json;
}

json_t *json_read_file(const char *path, size_t limit, Error *err) {
    size_t size;
    char *text = file_read(path, limit, &size, err);
    if (!text) return NULL;
    json_t *json = json_read_text(text, size, path, err);
    free(text);
    return json;
}

bool json_write_file(const json_t *json, const char *path, Error *err) {
    AtomicFile file;
    if (!atomic_open(&file, path, err)) return false;
    if (json_dumpf(json, file.stream, JSON_INDENT(2) | JSON_ENCODE_ANY) != 0) {
        atomic_discard(&file);
        return fail(err, "%s: cannot be written as JSON", path);
    }
    fputc('\n', file.stream);
    return atomic_commit(&file, err);
}

static const char *kind_of(const json_t *value) {
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return value ? "null" : "nothing";
}

static bool expected(const json_t *object, const char *key, const char *what, const char *where, Error *err) {
    return fail(err, "%s: \"%s\" must be %s, found %s", where, key, what, kind_of(json_object_get(object, key)));
}

static bool absent(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value);
}

bool json_get_string(const json_t *object, const char *key, const char **value, const char *where, Error *err) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_string(found)) return expected(object, key, "a string", where, err);
    if (strlen(json_string_value(found)) != json_string_length(found))
        return fail(err, "%s: \"%s\" holds a NUL character", where, key);
    *value = json_string_value(found);
    return true;
}

bool json_get_int(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *value, const char *where,
                  Error *err) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_integer(found)) return expected(object, key, "an integer", where, err);
    int64_t number = json_integer_value(found);
    if (number < low || number > high)
        return fail(err, "%s: \"%s\" must lie between %" PRId64 " and %" PRId64 ", found %" PRId64, where, key, low,
                    high, number);
    *value = number;
    return true;
}

bool json_get_number(const json_t *object, const char *key, double *value, const char *where, Error *err) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found)) return expected(object, key, "a number", where, err);
    *value = json_number_value(found);
    return true;
}

bool json_get_bool(const json_t *object, const char *key, bool *value, const char *where, Error *err) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_boolean(found)) return expected(object, key, "true or false", where, err);
    *value = json_is_true(found);
    return true;
}

bool json_string_or(const json_t *object, const char *key, const char **value, const char *where, Error *err) {
    return absent(object, key) || json_get_string(object, key, value, where, err);
}

bool json_int_or(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *value, const char *where,
                 Error *err) {
    return absent(object, key) || json_get_int(object, key, low, high, value, where, err);
}

bool json_number_or(const json_t *object, const char *key, double *value, const char *where, Error *err) {
    return absent(object, key) || json_get_number(object, key, value, where, err);
}

bool json_bool_or(const json_t *object, const char *key, bool *value, const char *where, Error *err) {
    return absent(object, key) || json_get_bool(object, key, value, where, err);
}
