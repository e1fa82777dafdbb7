#include "model/folder.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

bool folder_holds(const char *folder, const char *name) {
    char *path = path_join(folder, name, NULL);
    bool there = path && file_exists(path);
    free(path);
    return there;
}

bool is_plain_name(const char *name) {
    return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}
