#include "train/deal.h"

#include <stdlib.h>
#include <string.h>

static int by_place(const void *a, const void *b) {
    const Dealt *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

static int longest_first(const void *a, const void *b) {
    const Dealt *x = a, *y = b;
    return x->tokens == y->tokens ? by_place(a, b) : x->tokens < y->tokens ? 1 : -1;
}

static int least_loaded(const int64_t *load, int ranks) {
    int least = 0;
    for (int r = 1; r < ranks; r++)
        if (load[r] < load[least]) least = r;
    return least;
}

/* The longest first, each to the rank with the least so far (Graham 1969). */
void deal(Dealt *examples, size_t count, int ranks, int64_t *load) {
    memset(load, 0, (size_t)ranks * sizeof *load);
    if (ranks > 1) qsort(examples, count, sizeof *examples, longest_first);
    for (size_t i = 0; i < count; i++) {
        examples[i].rank = least_loaded(load, ranks);
        load[examples[i].rank] += examples[i].tokens;
    }
    if (ranks > 1) qsort(examples, count, sizeof *examples, by_place);
}
