/* Files that come with the program: those of configs/. */
#ifndef SEMOLLM_BASE_SHIPPED_H
#define SEMOLLM_BASE_SHIPPED_H

#include "base/error.h"

/* The path of configs/NAME ("machines/h100.yaml"): under the current folder, beside the program as it is built, or
 * where `make install` puts it. Null where there is none, which is no error of its own; free() it. */
char *shipped_file(const char *name, Error *err);

#endif
