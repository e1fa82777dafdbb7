/* One arena per lifetime (frozen weights, gradients, activations, ...). A layout function takes
 * every slot it needs in order; run once while planning it measures and records the table, run
 * again over committed memory it hands out pointers. Taking never touches the heap after the plan,
 * so a step may lay its activations out anew for its own number of tokens.
 *
 *     Arena arena = {.name = "activations"};
 *     layout(&acts, &arena, max_tokens);            plan: all pointers null, arena.used = bytes
 *     arena.base = device_alloc(dev, arena.used, err); arena.size = arena.used;
 *     arena_reset(&arena); layout(&acts, &arena, tokens);     each step
 */
#ifndef SEMOLLM_BASE_ARENA_H
#define SEMOLLM_BASE_ARENA_H

#include <stdint.h>
#include <stdio.h>

#include "base/dtype.h"
#include "base/error.h"

enum { ARENA_ALIGNMENT = 256 };

typedef struct ArenaSlot {
    char name[72];
    DType dtype;
    int64_t rows, cols;
    size_t offset, bytes;
} ArenaSlot;

typedef struct Arena {
    const char *name;
    char *base;  /* null while planning */
    size_t size; /* bytes at base */
    size_t used;
    ArenaSlot *slots; /* the plan's table, filled while planning only */
    int slot_count, slot_capacity;
    bool failed; /* out of memory or of the planned size; sticky, see arena_check */
} Arena;

/* A slot of rows × cols elements, 256-byte aligned; null while planning or for a size of zero, so
 * that wrong use faults. Never fails on the spot: after a layout, ask arena_check. */
void *arena_take(Arena *arena, const char *name, DType dtype, int64_t rows, int64_t cols);

/* Whether everything taken since the last reset fitted; the error names the arena and sizes. */
bool arena_check(const Arena *arena, Error *err);

void arena_reset(Arena *arena);                  /* forget what was taken; the memory stays */
void arena_print(const Arena *arena, FILE *out); /* the plan: a line per slot and a total */
void arena_free(Arena *arena);                   /* the table; the memory is its owner's */

#endif
