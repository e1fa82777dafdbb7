#include "base/arena.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void record(Arena *arena, const char *name, DType dtype, int64_t rows, int64_t cols, size_t bytes) {
    if (arena->slot_count == arena->slot_capacity) {
        int capacity = arena->slot_capacity ? 2 * arena->slot_capacity : 64;
        ArenaSlot *slots = realloc(arena->slots, (size_t)capacity * sizeof *slots);
        if (!slots) {
            arena->failed = true;
            return;
        }
        arena->slots = slots;
        arena->slot_capacity = capacity;
    }
    ArenaSlot *slot = &arena->slots[arena->slot_count++];
    *slot = (ArenaSlot){.dtype = dtype, .rows = rows, .cols = cols, .offset = arena->used, .bytes = bytes};
    snprintf(slot->name, sizeof slot->name, "%s", name);
}

void *arena_take(Arena *arena, const char *name, DType dtype, int64_t rows, int64_t cols) {
    size_t elements, bytes;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow((size_t)rows, (size_t)cols, &elements) ||
        __builtin_mul_overflow(elements, dtype_size(dtype), &bytes) || bytes > SIZE_MAX / 2 - arena->used) {
        arena->failed = true;
        return NULL;
    }
    bytes = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (!arena->base) {
        record(arena, name, dtype, rows, cols, bytes);
        arena->used += bytes;
        return NULL;
    }
    if (bytes > arena->size - arena->used) {
        arena->failed = true;
        return NULL;
    }
    void *slot = bytes ? arena->base + arena->used : NULL;
    arena->used += bytes;
    return slot;
}

bool arena_check(const Arena *arena, Error *err) {
    if (!arena->failed) return true;
    return fail(err, "the %s arena ran over its plan of %zu bytes: a batch is larger than the one planned for",
                arena->name, arena->size);
}

void arena_reset(Arena *arena) {
    arena->used = 0;
    arena->failed = false;
}

void arena_print(const Arena *arena, FILE *out) {
    for (int i = 0; i < arena->slot_count; i++) {
        const ArenaSlot *slot = &arena->slots[i];
        fprintf(out, "  %-56s %-4s [%" PRId64 ", %" PRId64 "] %10.1f KiB\n", slot->name, dtype_name(slot->dtype),
                slot->rows, slot->cols, (double)slot->bytes / 1024.0);
    }
    size_t bytes = arena->base ? arena->size : arena->used;
    fprintf(out, "%-58s %.1f MiB\n", arena->name, (double)bytes / (1024.0 * 1024.0));
}

void arena_free(Arena *arena) {
    free(arena->slots);
    *arena = (Arena){.name = arena->name};
}
