/* Outside JSON through jansson, with errors that name file, line and field. Duplicate keys are
 * refused, nesting is bounded by jansson's own limit, integers are 64-bit. */
#ifndef SEMOLLM_BASE_JSON_H
#define SEMOLLM_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

json_t *json_read_file(const char *path, size_t limit, Error *err);
json_t *json_read_text(const char *text, size_t size, const char *name, Error *err);

/* Atomic write, two-space indentation, key order kept, a line break at the end. */
bool json_write_file(const json_t *json, const char *path, Error *err);

/* Members of an object. `where` names the object in errors ("model/config.json"). The _or forms
 * leave *value alone where the member is absent or null; a wrong type is always an error. */
bool json_get_string(const json_t *object, const char *key, const char **value, const char *where, Error *err);
bool json_get_int(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *value, const char *where,
                  Error *err);
bool json_get_number(const json_t *object, const char *key, double *value, const char *where, Error *err);
bool json_get_bool(const json_t *object, const char *key, bool *value, const char *where, Error *err);
bool json_string_or(const json_t *object, const char *key, const char **value, const char *where, Error *err);
bool json_int_or(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *value, const char *where,
                 Error *err);
bool json_number_or(const json_t *object, const char *key, double *value, const char *where, Error *err);
bool json_bool_or(const json_t *object, const char *key, bool *value, const char *where, Error *err);

#endif
