/* make_tiny DIR CLIPS [NORM]: what tests/e2e trains on (tests/train/tiny.h). With a huge NORM losses overflow. */
#include "tests/train/tiny.h"

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: make_tiny DIR CLIPS [NORM]\n");
        return EXIT_USAGE;
    }
    tiny_make(argv[1], atoi(argv[2]));
    if (argc == 4) {
        char *llm = text_format(NULL, "%s/llm", argv[1]);
        tiny_llm(llm, atof(argv[3]));
        free(llm);
    }
    return EXIT_DONE;
}
