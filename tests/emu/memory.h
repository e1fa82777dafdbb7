/* The device's memory and pinned host memory (memory.cc). */
#ifndef SEMOLLM_TESTS_EMU_MEMORY_H
#define SEMOLLM_TESTS_EMU_MEMORY_H

#include <stddef.h>

void *pool_take(size_t bytes);
bool pool_give(void *memory);
void pool_info(size_t *available, size_t *total);
void pool_open(void);  /* for a kernel or a copy */
void pool_close(void); /* out of the host's reach again, with EMU_GUARD=1 */
void pool_check(void); /* reports what was written between allocations */

void *pinned_take(size_t bytes);
bool pinned_give(void *memory);
bool is_pinned(const void *at);

#endif
