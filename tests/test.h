/* What every test program includes: cmocka, and a scratch folder of its own. */
#ifndef SEMOLLM_TESTS_TEST_H
#define SEMOLLM_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h" /* before cmocka.h, whose macro fail() hides ours in test programs */

#include <cmocka.h>

/* Fails with the Error's own sentence. */
#define assert_ok(call, err_pointer)                                                                                   \
    do {                                                                                                               \
        if (!(call)) fail_msg("%s failed: %s", #call, (err_pointer)->text);                                            \
    } while (0)

static inline char *test_folder(void) {
    const char *root = getenv("TMPDIR");
    char *folder = text_format(NULL, "%s/semollm-test-%d", root ? root : "/tmp", (int)getpid());
    if (!folder || !folder_make(folder, NULL)) abort();
    return folder;
}

/* A path in this process's scratch folder, which test_cleanup removes; free() it. */
static inline char *test_path(const char *name) {
    char *folder = test_folder(), *path = path_join(folder, name, NULL);
    free(folder);
    if (!path) abort();
    return path;
}

/* A group teardown: removes the scratch folder. */
static inline int test_cleanup(void **state) {
    (void)state;
    char *folder = test_folder();
    folder_remove(folder, NULL);
    free(folder);
    return 0;
}

#endif
