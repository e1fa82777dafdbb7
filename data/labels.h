/* Label maps: which emotion a corpus's own label counts as. Files of configs/labels. Private to data/. */
#ifndef SEMOLLM_DATA_LABELS_H
#define SEMOLLM_DATA_LABELS_H

#include "base/base.h"

typedef struct LabelList {
    char **items;
    unsigned count;
} LabelList;

typedef struct LabelClass {
    char *name;
    LabelList labels;
} LabelClass;

typedef struct LabelMap {
    char *corpus; /* null: any */
    char *field;  /* the key of the manifest that holds the label; null: the corpus's own label */
    LabelClass *classes;
    unsigned classes_count;
    LabelList left_out; /* "*" among them: whatever is not named */
    char *path;         /* of the file */
} LabelMap;

/* What the labels of `corpus` count as by the map `name`: a path, or NAME or CORPUS-NAME of configs/labels; null: by
 * the usual one, and where that is null too, *map is null. A label may be named once. Errors name the file, or say
 * which maps there are. */
bool labels_read(LabelMap **map, const char *name, const char *corpus, const char *usual, Error *err);
void labels_free(LabelMap *map);

/* The emotion of a label; null: left out. A label that the map does not know is an error. */
bool labels_find(const LabelMap *map, const char *label, const char **emotion, Error *err);

#endif
