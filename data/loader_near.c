#include "data/loader_near.h"

#include <stdlib.h>
#include <string.h>

enum { FRESH_MOST = 2 };

bool near_open(Near *near, const Shards *shards, Error *err) {
    *near = (Near){.shards = shards, .room = shards_room(shards)};
    near->states = memory_new(shards_files(shards), sizeof *near->states, err);
    return near->states != NULL;
}

void near_close(Near *near) {
    free(near->states);
    *near = (Near){0};
}

void near_start(Near *near, const uint32_t *indexes, size_t count) {
    near->indexes = indexes;
    near->count = count;
    near->first = near->end = near->fresh = 0;
    near->bytes = 0;
    memset(near->states, 0, shards_files(near->shards) * sizeof *near->states);
}

static uint32_t file_at(const Near *near, size_t position) {
    return shards_file_of(near->shards, near->indexes[position]);
}

bool near_next(Near *near, uint32_t *file) {
    for (; near->end < near->count; near->end++) {
        *file = file_at(near, near->end);
        if (near->states[*file].positions == 0) break;
        near->states[*file].positions++;
    }
    if (near->end == near->count) return false;
    if (near->first == near->end) return true; /* else nothing would ever go on */
    return near->fresh < FRESH_MOST && near->bytes + shards_file_bytes(near->shards, *file) <= near->room;
}

void near_brought(Near *near) {
    uint32_t file = file_at(near, near->end++);
    near->states[file] = (NearShard){.positions = 1};
    near->bytes += shards_file_bytes(near->shards, file);
    near->fresh++;
}

void near_reach(Near *near, size_t position) {
    NearShard *state = &near->states[file_at(near, position)];
    if (!state->reached) near->fresh--;
    state->reached = true;
}

void near_leave(Near *near, size_t position) {
    uint32_t file = file_at(near, position);
    near->first = position + 1;
    if (--near->states[file].positions > 0) return;
    near->bytes -= shards_file_bytes(near->shards, file);
    near->states[file] = (NearShard){0};
}

void near_keep(const Near *near) {
    for (size_t i = 0; i < shards_files(near->shards); i++)
        if (near->states[i].positions > 0) shards_keep(near->shards, i);
}
