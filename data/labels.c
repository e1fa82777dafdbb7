#include "data/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/shipped.h"
#include "base/yaml.h"

enum { NAME_LIMIT = 100, LIST_LIMIT = 1000 };

static const char OTHERS[] = "*", ENDING[] = ".yaml";

static const cyaml_schema_value_t TEXT = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, NAME_LIMIT)};
static const cyaml_schema_field_t CLASS_FIELDS[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, LabelClass, name, 1, NAME_LIMIT),
    CYAML_FIELD_SEQUENCE_COUNT("labels", CYAML_FLAG_POINTER, LabelClass, labels.items, labels.count, &TEXT, 1,
                               LIST_LIMIT),
    CYAML_FIELD_END};
static const cyaml_schema_value_t CLASS = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, LabelClass, CLASS_FIELDS)};
static const cyaml_schema_field_t FIELDS[] = {
    CYAML_FIELD_STRING_PTR("corpus", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, LabelMap, corpus, 1, NAME_LIMIT),
    CYAML_FIELD_STRING_PTR("field", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, LabelMap, field, 1, NAME_LIMIT),
    CYAML_FIELD_SEQUENCE("classes", CYAML_FLAG_POINTER, LabelMap, classes, &CLASS, 1, LIST_LIMIT),
    CYAML_FIELD_SEQUENCE_COUNT("left_out", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, LabelMap, left_out.items,
                               left_out.count, &TEXT, 0, LIST_LIMIT),
    CYAML_FIELD_END};
static const cyaml_schema_value_t SCHEMA = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, LabelMap, FIELDS)};

static bool listed(const LabelList *list, const char *label) {
    for (unsigned i = 0; i < list->count; i++)
        if (strcmp(list->items[i], label) == 0) return true;
    return false;
}

/* How often the map names a label. */
static int mentions(const LabelMap *map, const char *label) {
    int count = 0;
    for (unsigned c = 0; c < map->classes_count; c++)
        for (unsigned i = 0; i < map->classes[c].labels.count; i++)
            count += strcmp(map->classes[c].labels.items[i], label) == 0;
    for (unsigned i = 0; i < map->left_out.count; i++) count += strcmp(map->left_out.items[i], label) == 0;
    return count;
}

static bool check_once(const LabelMap *map, const LabelList *list, const char *path, Error *err) {
    for (unsigned i = 0; i < list->count; i++)
        if (mentions(map, list->items[i]) > 1)
            return fail_usage(err, "%s: the label \"%s\" is named twice; a label counts as one class or is left out",
                              path, list->items[i]);
    return true;
}

static bool check(const LabelMap *map, const char *corpus, const char *path, Error *err) {
    if (map->corpus && strcmp(map->corpus, corpus) != 0)
        return fail_usage(err, "%s: is a label map of %s, not of %s", path, map->corpus, corpus);
    for (unsigned c = 0; c < map->classes_count; c++) {
        const LabelClass *class = &map->classes[c];
        for (unsigned k = 0; k < c; k++)
            if (strcmp(class->name, map->classes[k].name) == 0)
                return fail_usage(err, "%s: the class \"%s\" is there twice; name all its labels in one", path,
                                  class->name);
        if (listed(&class->labels, OTHERS))
            return fail_usage(err, "%s: \"*\" (every other label) may stand in left_out only, found in class \"%s\"",
                              path, class->name);
        if (!check_once(map, &class->labels, path, err)) return false;
    }
    return check_once(map, &map->left_out, path, err);
}

static char *shipped_map(const char *corpus, const char *dash, const char *name, Error *err) {
    char *file = text_format(err, "labels/%s%s%s%s", corpus, dash, name, ENDING);
    char *path = file ? shipped_file(file, err) : NULL;
    free(file);
    return path;
}

static bool ends_as_ours(const char *name) {
    size_t length = strlen(name), ending = sizeof ENDING - 1;
    return length > ending && strcmp(name + length - ending, ENDING) == 0;
}

/* The maps of a corpus that lie beside the usual one, to be said in an error. */
static char *names_beside(const char *usual, const char *corpus, Error *err) {
    Text text = {0};
    Names names = {0};
    char *path = usual ? shipped_map("", "", usual, err) : NULL, *folder = path ? path_folder(path, err) : NULL;
    if (folder && folder_list(folder, &names, NULL))
        for (size_t i = 0; i < names.count; i++) {
            const char *name = names.items[i];
            if (strncmp(name, corpus, strlen(corpus)) != 0 || name[strlen(corpus)] != '-' || !ends_as_ours(name))
                continue;
            text_addf(&text, "%s%.*s", text.length ? ", " : "", (int)(strlen(name) - sizeof ENDING + 1), name);
        }
    if (!text.length) text_add_string(&text, "none");
    names_free(&names);
    free(folder);
    free(path);
    return text_finish(&text, err);
}

static char *find_file(const char *name, const char *corpus, const char *usual, Error *err) {
    if (strchr(name, '/') || ends_as_ours(name)) return text_copy(name, err);
    char *path = shipped_map("", "", name, err);
    if (!path) path = shipped_map(corpus, "-", name, err);
    if (path) return path;
    char *names = names_beside(usual, corpus, err);
    fail_usage(err,
               "no label map \"%s\" in configs/labels; of %s there are: %s; --labels takes one of them or a file like "
               "those",
               name, corpus, names ? names : "none");
    free(names);
    return NULL;
}

bool labels_read(LabelMap **map, const char *name, const char *corpus, const char *usual, Error *err) {
    void *read = NULL;
    *map = NULL;
    if (!name && !usual) return true;
    char *path = find_file(name ? name : usual, corpus, usual, err);
    if (!path || !yaml_read(path, NULL, &SCHEMA, &read, err)) {
        free(path);
        return false;
    }
    *map = read;
    (*map)->path = path;
    if (check(*map, corpus, path, err)) return true;
    labels_free(*map);
    *map = NULL;
    return false;
}

void labels_free(LabelMap *map) {
    if (!map) return;
    free(map->path);
    yaml_release(&SCHEMA, map);
}

bool labels_find(const LabelMap *map, const char *label, const char **emotion, Error *err) {
    *emotion = NULL;
    for (unsigned c = 0; c < map->classes_count; c++)
        if (listed(&map->classes[c].labels, label)) {
            *emotion = map->classes[c].name;
            return true;
        }
    return listed(&map->left_out, label) || listed(&map->left_out, OTHERS) ||
           fail(err, "the label \"%.100s\" is not in %s; name it there in a class or in left_out", label, map->path);
}
