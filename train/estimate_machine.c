#include "train/estimate_machine.h"

#include <stdlib.h>
#include <string.h>

#include "base/shipped.h"
#include "base/yaml.h"

#define NUMBER(key) CYAML_FIELD_FLOAT(#key, CYAML_FLAG_STRICT, Machine, key)
static const cyaml_schema_field_t FIELDS[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_DEFAULT, Machine, name, 1, 100),
    CYAML_FIELD_STRING_PTR("source", CYAML_FLAG_DEFAULT, Machine, source, 1, 300),
    NUMBER(memory_gib),
    NUMBER(copy_tb_s),
    NUMBER(matmul_tflops),
    NUMBER(gemm_share),
    NUMBER(stream_share),
    NUMBER(attention_tflops),
    CYAML_FIELD_FLOAT_PTR("attention_bias_tflops", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT,
                          Machine, attention_bias_tflops),
    NUMBER(attention_backward_tflops),
    NUMBER(convolution_tflops),
    NUMBER(kernel_us),
    NUMBER(bus_gb_s),
    CYAML_FIELD_FLOAT_PTR("block_shared_kib", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT, Machine,
                          block_shared_kib),
    CYAML_FIELD_END};
static const cyaml_schema_value_t SCHEMA = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, Machine, FIELDS)};

static const char FOLDER[] = "configs/machines";

static bool names_file(const char *name) {
    size_t length = strlen(name);
    return strchr(name, '/') || (length > 5 && !strcmp(name + length - 5, ".yaml"));
}

/* One that was measured here before one that comes with the program. */
static char *find(const char *name, Error *err) {
    if (names_file(name)) return text_copy(name, err);
    Error homeless = {0};
    char *file = text_format(err, "machines/%s.yaml", name), *cache = cache_folder(NULL, "--estimate", &homeless);
    char *found = file && cache ? path_join(cache, file, err) : NULL;
    free(cache);
    if (found && !file_exists(found)) free(found), found = NULL;
    if (file && !found) found = shipped_file(file, err);
    free(file);
    if (!found)
        fail_usage(err,
                   "--estimate: no machine \"%s\" in %s; name one that is there (h100, h200, a100, l40s, 4090), or "
                   "a file like those",
                   name, FOLDER);
    return found;
}

double machine_attention_bias(const Machine *machine) {
    return machine->attention_bias_tflops ? *machine->attention_bias_tflops : machine->attention_tflops;
}

static bool check(const Machine *machine, const char *path, Error *err) {
    const struct {
        const char *key;
        double value, most;
    } numbers[] = {{"memory_gib", machine->memory_gib, 1e6},
                   {"copy_tb_s", machine->copy_tb_s, 1e4},
                   {"matmul_tflops", machine->matmul_tflops, 1e7},
                   {"gemm_share", machine->gemm_share, 1},
                   {"stream_share", machine->stream_share, 1.5}, /* what stays in the cache is faster than a copy */
                   {"attention_tflops", machine->attention_tflops, 1e7},
                   {"attention_bias_tflops", machine_attention_bias(machine), 1e7},
                   {"attention_backward_tflops", machine->attention_backward_tflops, 1e7},
                   {"convolution_tflops", machine->convolution_tflops, 1e7},
                   {"kernel_us", machine->kernel_us, 1e6},
                   {"bus_gb_s", machine->bus_gb_s, 1e6},
                   {"block_shared_kib", machine->block_shared_kib ? *machine->block_shared_kib : 1, 1e4}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i].value > 0 && numbers[i].value <= numbers[i].most))
            return fail_usage(err, "%s: %s must be more than 0 and at most %g, found %g", path, numbers[i].key,
                              numbers[i].most, numbers[i].value);
    return true;
}

Machine *machine_read(const char *name, char **path, Error *err) {
    void *machine = NULL;
    *path = find(name, err);
    if (*path && yaml_read(*path, NULL, &SCHEMA, &machine, err) && check(machine, *path, err)) return machine;
    machine_free(machine);
    free(*path);
    *path = NULL;
    return NULL;
}

void machine_free(Machine *machine) {
    if (machine) yaml_release(&SCHEMA, machine);
}
