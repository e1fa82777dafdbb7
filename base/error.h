/* Errors are values: a function that can fail returns bool and takes an Error. The first failure
 * fills it with one sentence that says where (file, line, field, tensor), what was expected, what
 * was found and what to do; later ones leave it as it is, so clean-up code may fail freely. */
#ifndef SEMOLLM_BASE_ERROR_H
#define SEMOLLM_BASE_ERROR_H

#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct Error {
    int exit_code; /* EXIT_DONE while nothing has failed */
    char text[1500];
} Error;

/* Both return false, so that `return fail(err, "...")` reads as one step. `err` may be null. */
__attribute__((format(printf, 2, 3))) bool fail(Error *err, const char *format, ...);

/* The same for what the user asked for: wrong flags, a config that makes no sense. */
__attribute__((format(printf, 2, 3))) bool fail_usage(Error *err, const char *format, ...);

/* Puts "CONTEXT: " before the text of an error that is already set; returns false. */
__attribute__((format(printf, 2, 3))) bool fail_in(Error *err, const char *format, ...);

#endif
