#include "base/shipped.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

/* The folder of the running program; null where it is not known. */
static char *program_folder(Error *err) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) return NULL;
    path[length] = '\0';
    return path_folder(path, err);
}

char *shipped_file(const char *name, Error *err) {
    char *program = program_folder(err), *found = NULL;
    const char *const folders[][2] = {{".", "configs"}, {program, "../configs"}, {program, "../share/semollm"}};
    for (size_t i = 0; i < sizeof folders / sizeof *folders && !found; i++) {
        char *path = folders[i][0] ? text_format(err, "%s/%s/%s", folders[i][0], folders[i][1], name) : NULL;
        if (path && file_exists(path)) {
            found = path;
        } else {
            free(path);
        }
    }
    free(program);
    return found;
}
