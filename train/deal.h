/* Who computes what of a step: its examples dealt to ranks, balanced by their tokens. */
#ifndef SEMOLLM_TRAIN_DEAL_H
#define SEMOLLM_TRAIN_DEAL_H

#include <stddef.h>
#include <stdint.h>

typedef struct Dealt {
    int64_t tokens;
    size_t place; /* in the step */
    int rank;     /* whose it is */
} Dealt;

/* Sets the rank of each of `count` examples, which stand in order of their places. A pure function: every rank
 * comes to the same. No rank gets more than 4/3 of the tokens that the fullest must have. load[ranks] is room. */
void deal(Dealt *examples, size_t count, int ranks, int64_t *load);

#endif
