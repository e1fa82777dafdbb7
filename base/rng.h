/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). Every number is a pure function of a key and a counter, so a dropout mask or
 * an order never depends on ranks, threads or what was drawn before, and CPU and GPU agree.
 *
 * The counter of everything drawn in training is {element / 4, place, sample, step} and the key the
 * run's seed; word element % 4 of the result is the element's. Places are listed below. */
#ifndef SEMOLLM_BASE_RNG_H
#define SEMOLLM_BASE_RNG_H

#include <stdint.h>

typedef struct Philox {
    uint32_t word[4];
} Philox;

/* Ten rounds over counter c0..c3 with the 64-bit key. */
Philox philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3);

/* A uniform in (0, 1): (word >> 8 + 0.5) / 2^24, never 0 or 1. */
float rng_uniform(uint32_t word);

/* Two standard normals from two words, Box-Muller. */
void rng_normal_pair(uint32_t a, uint32_t b, float *first, float *second);

/* Places in a run where random numbers are drawn. Layers add their number: PLACE_LORA + 8 * layer
 * + projection, in the order q k v o gate up down. */
enum {
    PLACE_SHUFFLE = 1,  /* order of samples; sample = 0, step = epoch */
    PLACE_SAMPLING = 2, /* sampling tokens; sample = sample id, step = position */
    PLACE_FEATURE_NOISE = 3,
    PLACE_ADAPTER_DROPOUT = 4,
    PLACE_BALANCE = 5,
    PLACE_SHARDS = 6,    /* order of shards; sample = pass, step = epoch */
    PLACE_INIT = 0x1000, /* initial weights: sample = tensor's number, step = 0 */
    PLACE_TEMPLATE = 0x2000,
    PLACE_RETRY = 0x3000, /* waits between tries: sample = who, step = try */
    PLACE_LORA = 0x10000,
};

/* A sequential reader of one counter stream {i, place, sample, step}, for host code. */
typedef struct Rng {
    uint64_t key;
    uint32_t place, sample, step, index;
    Philox block;
} Rng;

Rng rng_stream(uint64_t key, uint32_t place, uint32_t sample, uint32_t step);
uint32_t rng_next(Rng *rng);
uint32_t rng_below(Rng *rng, uint32_t bound); /* uniform in 0..bound-1, without bias; bound > 0 */

/* Fisher-Yates over 0..count-1 drawn from `rng`. */
void rng_permutation(Rng *rng, uint32_t *order, uint32_t count);

#endif
