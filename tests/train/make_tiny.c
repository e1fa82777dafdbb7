/* make_tiny DIR CLIPS: what tests/e2e trains on (tests/train/tiny.h). */
#include "tests/train/tiny.h"

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: make_tiny DIR CLIPS\n");
        return EXIT_USAGE;
    }
    tiny_make(argv[1], atoi(argv[2]));
    return EXIT_DONE;
}
