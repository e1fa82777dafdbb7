/* YAML configs into C structs by a libcyaml schema: unknown keys, missing ones and wrong types are
 * refused with file and line. */
#ifndef SEMOLLM_BASE_YAML_H
#define SEMOLLM_BASE_YAML_H

#include <cyaml/cyaml.h>

#include "base/error.h"
#include "base/options.h"

/* Loads `path` with `overrides` ("train.steps=100"; dots go down into mappings, the value is YAML)
 * applied on top. Free the result with yaml_release and the same schema. */
bool yaml_read(const char *path, const Texts *overrides, const cyaml_schema_value_t *schema, void **value, Error *err);
bool yaml_write(const char *path, const cyaml_schema_value_t *schema, const void *value, Error *err); /* atomic */
void yaml_release(const cyaml_schema_value_t *schema, void *value);

#endif
