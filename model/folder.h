/* Questions to a model folder. */
#ifndef SEMOLLM_MODEL_FOLDER_H
#define SEMOLLM_MODEL_FOLDER_H

#include <stdbool.h>

bool folder_holds(const char *folder, const char *name); /* a file of this name */

/* Whether a name from an index file stays inside the folder: no path, nothing that leads out of it. */
bool is_plain_name(const char *name);

#endif
