#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/memory.h"

enum { CONFIG_BYTES_MAX = 1 << 20, BRACKETS_MAX = 1000 };

/* What libcyaml says while loading: its first complaint, and the innermost place it names. */
typedef struct Complaint {
    char reason[400], place[200];
} Complaint;

static void listen(cyaml_log_t level, void *context, const char *format, va_list args) {
    (void)level;
    Complaint *complaint = context;
    char line[400];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    text += strspn(text, " ");
    if (strncmp(text, "Backtrace", 9) == 0) return;
    if (strncmp(text, "in ", 3) == 0) {
        if (!complaint->place[0]) snprintf(complaint->place, sizeof complaint->place, "%.190s", text);
    } else if (!complaint->reason[0]) {
        snprintf(complaint->reason, sizeof complaint->reason, "%s", text);
    }
}

static cyaml_config_t configuration(Complaint *complaint) {
    /* Aliases are refused: a few of them nested expand without bound. */
    return (cyaml_config_t){.log_fn = listen,
                            .log_ctx = complaint,
                            .log_level = CYAML_LOG_ERROR,
                            .mem_fn = cyaml_mem,
                            .flags = CYAML_CFG_NO_ALIAS};
}

static bool parse_document(yaml_document_t *document, const char *text, size_t size, const char *name, Error *err) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return fail(err, "out of memory while reading %s", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    bool ok = yaml_parser_load(&parser, document) != 0;
    if (!ok)
        fail_usage(err, "%s: line %zu: not valid YAML: %s", name, parser.problem_mark.line + 1,
                   parser.problem ? parser.problem : "unreadable");
    yaml_parser_delete(&parser);
    return ok;
}

/* libcyaml names the mapping that holds an unexpected key; its reader wants the key's own line. */
static void point_at_key(Complaint *complaint, const char *text, size_t size) {
    static const char LEAD[] = "Unexpected key: ";
    yaml_document_t document;
    if (strncmp(complaint->reason, LEAD, sizeof LEAD - 1) != 0) return;
    if (!parse_document(&document, text, size, "", NULL)) return;
    const char *key = complaint->reason + sizeof LEAD - 1, *line = strstr(complaint->place, "line: ");
    size_t first = line ? strtoul(line + 6, NULL, 10) : 1;
    yaml_node_t *node;
    for (int i = 1; (node = yaml_document_get_node(&document, i)); i++) {
        if (node->type != YAML_SCALAR_NODE || node->start_mark.line + 1 < first) continue;
        if (strcmp((const char *)node->data.scalar.value, key) != 0) continue;
        snprintf(complaint->place, sizeof complaint->place, "line: %zu", node->start_mark.line + 1);
        break;
    }
    yaml_document_delete(&document);
}

static bool load(const char *text, size_t size, const char *name, const cyaml_schema_value_t *schema, void **value,
                 Error *err) {
    Complaint complaint = {0};
    cyaml_config_t config = configuration(&complaint);
    cyaml_err_t status = cyaml_load_data((const uint8_t *)text, size, &config, schema, value, NULL);
    if (status == CYAML_OK && *value) return true;
    if (status == CYAML_OK) return fail_usage(err, "%s: the file is empty", name);
    point_at_key(&complaint, text, size);
    return fail_usage(err, "%s: %s%s%s%s", name, complaint.reason[0] ? complaint.reason : cyaml_strerror(status),
                      complaint.place[0] ? " (" : "", complaint.place, complaint.place[0] ? ")" : "");
}

/* Copies node `index` of `from` into `to`; 0 on failure. Documents parsed without anchors are trees. */
static int copy_node(yaml_document_t *to, yaml_document_t *from, int index, int depth) {
    yaml_node_t *node = yaml_document_get_node(from, index);
    if (!node || depth > 32) return 0;
    int made = 0;
    if (node->type == YAML_SCALAR_NODE) {
        return yaml_document_add_scalar(to, NULL, node->data.scalar.value, (int)node->data.scalar.length,
                                        node->data.scalar.style);
    }
    if (node->type == YAML_SEQUENCE_NODE) {
        made = yaml_document_add_sequence(to, NULL, YAML_ANY_SEQUENCE_STYLE);
        for (yaml_node_item_t *item = node->data.sequence.items.start; made && item < node->data.sequence.items.top;
             item++) {
            int child = copy_node(to, from, *item, depth + 1);
            if (!child || !yaml_document_append_sequence_item(to, made, child)) made = 0;
        }
    } else if (node->type == YAML_MAPPING_NODE) {
        made = yaml_document_add_mapping(to, NULL, YAML_ANY_MAPPING_STYLE);
        for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; made && pair < node->data.mapping.pairs.top;
             pair++) {
            int key = copy_node(to, from, pair->key, depth + 1), child = copy_node(to, from, pair->value, depth + 1);
            if (!key || !child || !yaml_document_append_mapping_pair(to, made, key, child)) made = 0;
        }
    }
    return made;
}

static yaml_node_pair_t *find_pair(yaml_document_t *document, int mapping, const char *key, size_t length) {
    yaml_node_t *node = yaml_document_get_node(document, mapping);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *name = yaml_document_get_node(document, pair->key);
        if (name->type == YAML_SCALAR_NODE && name->data.scalar.length == length &&
            !memcmp(name->data.scalar.value, key, length))
            return pair;
    }
    return NULL;
}

/* Sets the value at a dotted path to the node `value`, making the mappings on the way. */
static bool set_path(yaml_document_t *document, const char *path, size_t length, int value) {
    int mapping = 1; /* libyaml numbers nodes from 1, the root */
    for (;;) {
        yaml_node_t *node = yaml_document_get_node(document, mapping);
        if (!node || node->type != YAML_MAPPING_NODE) return false;
        const char *dot = memchr(path, '.', length);
        size_t part = dot ? (size_t)(dot - path) : length;
        if (part == 0) return false;
        yaml_node_pair_t *pair = find_pair(document, mapping, path, part);
        if (!dot && pair) {
            pair->value = value;
            return true;
        }
        if (!pair) {
            int key =
                yaml_document_add_scalar(document, NULL, (const yaml_char_t *)path, (int)part, YAML_PLAIN_SCALAR_STYLE);
            int child = dot ? yaml_document_add_mapping(document, NULL, YAML_BLOCK_MAPPING_STYLE) : value;
            if (!key || !child || !yaml_document_append_mapping_pair(document, mapping, key, child)) return false;
            if (!dot) return true;
            mapping = child;
        } else {
            mapping = pair->value;
        }
        path += part + 1;
        length -= part + 1;
    }
}

static bool apply_override(yaml_document_t *document, const char *override, const char *name, Error *err) {
    const char *equals = strchr(override, '=');
    if (!equals || equals == override) return fail_usage(err, "--set wants key=value, found \"%s\"", override);
    yaml_document_t value;
    if (!parse_document(&value, equals + 1, strlen(equals + 1), override, err)) return false;
    int node = yaml_document_get_root_node(&value) ? copy_node(document, &value, 1, 0)
                                                   : yaml_document_add_scalar(document, NULL, (const yaml_char_t *)"",
                                                                              0, YAML_DOUBLE_QUOTED_SCALAR_STYLE);
    yaml_document_delete(&value);
    if (!node || !set_path(document, override, (size_t)(equals - override), node))
        return fail_usage(err, "--set %s: the key does not lead through mappings of %s", override, name);
    return true;
}

static int collect(void *context, unsigned char *data, size_t size) {
    Text *text = context;
    text_add(text, (const char *)data, size);
    return !text->failed;
}

static bool emit_document(yaml_document_t *document, Text *text, Error *err) {
    yaml_emitter_t emitter;
    if (!yaml_emitter_initialize(&emitter)) return fail(err, "out of memory while applying --set");
    yaml_emitter_set_output(&emitter, collect, text);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    bool ok = yaml_emitter_open(&emitter) && yaml_emitter_dump(&emitter, document) && yaml_emitter_flush(&emitter);
    yaml_emitter_delete(&emitter);
    return ok || fail(err, "the config with --set applied cannot be written out");
}

static bool override_text(const char *text, size_t size, const char *name, const Texts *overrides, Text *out,
                          Error *err) {
    yaml_document_t document;
    if (!parse_document(&document, text, size, name, err)) return false;
    bool ok = yaml_document_get_root_node(&document) != NULL || fail_usage(err, "%s: the file is empty", name);
    for (int i = 0; ok && i < overrides->count; i++) ok = apply_override(&document, overrides->items[i], name, err);
    if (!ok) {
        yaml_document_delete(&document);
        return false;
    }
    return emit_document(&document, out, err); /* dumping deletes the document */
}

/* libyaml's time grows with the square of how deep brackets nest: minutes for a small file. */
static bool check_nesting(const char *text, size_t size, const char *name, Error *err) {
    int open = 0;
    size_t line = 1;
    for (size_t i = 0; i < size; i++) {
        line += text[i] == '\n';
        open += text[i] == '[' || text[i] == '{';
        open -= open > 0 && (text[i] == ']' || text[i] == '}');
        if (open > BRACKETS_MAX)
            return fail_usage(err, "%s: line %zu: more than %d brackets are open", name, line, BRACKETS_MAX);
    }
    return true;
}

bool yaml_read(const char *path, const Texts *overrides, const cyaml_schema_value_t *schema, void **value, Error *err) {
    *value = NULL;
    size_t size;
    char *text = file_read(path, CONFIG_BYTES_MAX, &size, err);
    if (!text) return false;
    bool ok = check_nesting(text, size, path, err);
    if (ok && (!overrides || overrides->count == 0)) {
        ok = load(text, size, path, schema, value, err);
    } else if (ok) {
        Text changed = {0};
        ok = override_text(text, size, path, overrides, &changed, err);
        Error whole = {0};
        if (ok && !load(changed.data, changed.length, path, schema, value, &whole)) {
            /* Where the file alone is at fault, its own line numbers are the ones to report. */
            ok = false;
            void *alone = NULL;
            if (load(text, size, path, schema, &alone, err)) {
                yaml_release(schema, alone);
                fail_usage(err, "%s with --set applied", whole.text);
            }
        }
        text_free(&changed);
    }
    free(text);
    return ok;
}

bool yaml_write(const char *path, const cyaml_schema_value_t *schema, const void *value, Error *err) {
    Complaint complaint = {0};
    cyaml_config_t config = configuration(&complaint);
    config.flags |= CYAML_CFG_STYLE_BLOCK;
    char *text = NULL;
    size_t size = 0;
    cyaml_err_t status = cyaml_save_data(&text, &size, &config, schema, value, 0);
    if (status != CYAML_OK)
        return fail(err, "%s: cannot be written as YAML: %s", path,
                    complaint.reason[0] ? complaint.reason : cyaml_strerror(status));
    bool ok = file_write(path, text, size, err);
    config.mem_fn(NULL, text, 0);
    return ok;
}

void yaml_release(const cyaml_schema_value_t *schema, void *value) {
    Complaint complaint = {0};
    cyaml_config_t config = configuration(&complaint);
    cyaml_free(&config, schema, value, 0);
}
