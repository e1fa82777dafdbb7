/* Shared by the emulator's files. */
#ifndef SEMOLLM_TESTS_EMU_IMPL_H
#define SEMOLLM_TESTS_EMU_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <vector>

#include <math.h>
#include <stdio.h>

extern "C" {
#include "base/error.h"
#include "kernels/cuda/cuda.h"
}
#include "tests/emu/emu.h"
#undef __noinline__ /* the C++ library means something else by it */

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

#ifdef __SANITIZE_ADDRESS__
enum { STACK_BYTES = 256 << 10 };
#else
enum { STACK_BYTES = 64 << 10 };
#endif
enum { WARP = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP };
enum { SHARED_MOST = 227 * 1024 }; /* of sm_90; sm_80 has 163 KiB, sm_89 99 */

/* NaN as a float and as a bf16, far out of range as an index. */
static const uint16_t POISON = 0x7ff7;

struct AsyncCopy {
    char *to;
    const char *from; /* null: zeros */
};

struct Fiber {
    EmuPlace place; /* first: emu_place points here */
    int warp, lane, index;
    const char *waits_for;
    void *stack_pointer;
    char *stack;
    void *asan_stack;
    std::vector<AsyncCopy> copies; /* not yet done; the first group_end[0] of them are the oldest group */
    std::vector<size_t> group_end;
};

enum Wait { WAIT_NONE, WAIT_SYNC, WAIT_SHUFFLE, WAIT_BALLOT, WAIT_LOAD_MATRIX, WAIT_MMA };

struct Warp {
    uint32_t present, exited, ready, at_barrier, in_collective;
    Wait kind[WARP];
    uint32_t mask[WARP];
    void *operand[WARP];
};

/* One block at a time. */
struct Worker {
    Fiber *fibers; /* MAX_THREADS */
    Warp warps[MAX_WARPS];
    int threads, warp_count, arrived, exited;
    int votes, counted; /* of a counting barrier: so far, and its outcome */
    bool abandoned;
    uint64_t random;
    char *shared;
    size_t shared_bytes;
    const EmuKernel *kernel;
    void *stack_pointer; /* of run_block */
    void *asan_stack;
    const void *asan_bottom;
    size_t asan_bytes;
};

extern __thread Worker *emu_worker;

static inline Fiber *this_fiber(void) { return (Fiber *)emu_place; }

/* Something a kernel or the host did wrong: a line on stderr that names kernel, block and thread. */
void emu_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs a launch to its end. */
cudaError_t emu_run(const EmuKernel *kernel);

/* Whether [at, at + bytes) lies within one allocation of the pool; `in_pool` whether it begins in the pool. */
bool emu_allocated(const void *at, size_t bytes);
bool emu_in_pool(const void *at);
size_t emu_pool(char **base); /* where it is; its size */

/* ---- the checking build (check.cc) ---- */

void check_launch(const EmuKernel *kernel);
void check_launch_end(void);
void check_block(void);
void check_block_end(void);
void check_barrier(void);                         /* the block is about to pass one */
void check_warp_barrier(int warp, uint32_t mask); /* its lanes are about to pass one */
void check_converged(int warp);                   /* all its lanes are in one collective */
void check_access(const void *at, size_t bytes, bool write, const void *pc);
void check_async_copy(const void *to_shared, const void *from, const void *pc);
void check_copy_arrives(const Fiber *f, const AsyncCopy *copy);
void check_load_matrix(void *const *rows, int lanes, bool transposed, const void *pc);
void check_mma(void);

/* Of the calling thread (counts.cc). */
void count_launch(const EmuKernel *kernel);
void count_launch_end(void);
void count_access(const void *at, size_t bytes, bool write, bool global, const void *pc);
void count_converged(int warp);
void count_load_matrix(void *const *rows, int lanes);
void count_mma(void);
void count_special(void);
void count_barrier(void);
void count_warp_barrier(void);

#endif
