/* The device's memory: a pool that is full of NaNs where allocated, watched in between, and out of the host's
 * reach with EMU_GUARD=1. Pinned host memory. */
#include "tests/emu/memory.h"
#include "tests/emu/impl.h"

#include <map>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 256, GUARD_BYTES = 256, POISON_MOST = 256 << 20 };
static const unsigned char GUARD_BYTE = 0xa5;
static const size_t DEFAULT_BYTES = (size_t)8 << 30;

struct Allocation {
    size_t asked, room; /* room: with the guard before and after */
};

static struct {
    char *base;
    size_t bytes, used;
    uint64_t version;                     /* grows with every change of `live` */
    std::map<uintptr_t, Allocation> live; /* by the address handed out */
    std::map<uintptr_t, size_t> free;     /* by address */
    std::map<uintptr_t, size_t> pinned;
    bool guarded, open;
    struct sigaction former;
} pool;

/* Says what a bad address was, then leaves it to whom it was left to before. */
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    char text[300];
    const char *at = (const char *)info->si_addr;
    bool inside = at >= pool.base && at < pool.base + pool.bytes;
    int length;
    if (emu_place)
        length = snprintf(text, sizeof text, "emulator: kernel %s, block %u, thread %u: bad address %p%s\n",
                          emu_worker->kernel->name, emu_place->block.x, emu_place->thread.x, info->si_addr,
                          inside ? " (device memory)" : " (or no room left on the thread's stack)");
    else
        length = snprintf(text, sizeof text, "emulator: host code %s address %p\n",
                          inside ? "reaches into device memory at" : "reaches bad", info->si_addr);
    if (write(STDERR_FILENO, text, (size_t)length) < 0) _exit(98);
    sigaction(signal, &pool.former, NULL);
}

static void catch_faults(void) {
    static char room[64 << 10];
    stack_t stack = {};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, NULL);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &pool.former);
}

static bool pool_made(void) {
    if (pool.base) return true;
    const char *asked = getenv("EMU_MEMORY"), *guard = getenv("EMU_GUARD");
    pool.bytes = asked ? (size_t)strtoull(asked, NULL, 10) << 20 : DEFAULT_BYTES;
    void *base = mmap(NULL, pool.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    pool.base = (char *)base;
    pool.free[(uintptr_t)base] = pool.bytes;
    pool.guarded = guard && atoi(guard);
    pool.open = true;
    ASAN_POISON_MEMORY_REGION(pool.base, pool.bytes);
    catch_faults();
    pool_close();
    return true;
}

void pool_open(void) {
    if (!pool.guarded || pool.open) return;
    if (mprotect(pool.base, pool.bytes, PROT_READ | PROT_WRITE)) abort();
    pool.open = true;
}

void pool_close(void) {
    if (!pool.guarded || !pool.open) return;
    if (mprotect(pool.base, pool.bytes, PROT_NONE)) abort();
    pool.open = false;
}

static void poison_memory(char *at, size_t bytes) {
    if (bytes > POISON_MOST) bytes = POISON_MOST;
    for (size_t i = 0; i < bytes && i < sizeof POISON; i++) at[i] = (char)(POISON >> 8 * i);
    for (size_t done = sizeof POISON; done < bytes; done *= 2)
        memcpy(at + done, at, done < bytes - done ? done : bytes - done);
}

#ifndef __SANITIZE_ADDRESS__
static void surround(char *at, const Allocation *a) {
    memset(at - GUARD_BYTES, GUARD_BYTE, GUARD_BYTES);
    memset(at + a->asked, GUARD_BYTE, a->room - GUARD_BYTES - a->asked);
}

#endif

/* Under the address sanitizer nothing can have written there unseen. */
static void check_guards(uintptr_t at, const Allocation *a) {
#ifdef __SANITIZE_ADDRESS__
    (void)at, (void)a;
#else
    const unsigned char *p = (const unsigned char *)at;
    const unsigned char *end = p - GUARD_BYTES + a->room;
    for (const unsigned char *q = p - GUARD_BYTES; q < end; q++) {
        if (q == p) q += a->asked;
        if (q == end || *q == GUARD_BYTE) continue;
        bool before = q < p;
        emu_report("something wrote %s an allocation of %zu bytes, %ld bytes off", before ? "before" : "past", a->asked,
                   (long)(before ? p - q : q - p - (long)a->asked));
        surround((char *)at, a);
        return;
    }
#endif
}

void pool_check(void) {
    if (!pool.base) return;
    pool_open();
    for (auto &entry : pool.live) check_guards(entry.first, &entry.second);
    pool_close();
}

void *pool_take(size_t bytes) {
    if (!pool_made() || bytes > pool.bytes) return NULL;
    size_t body = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, room = body + 2 * GUARD_BYTES;
    for (auto it = pool.free.begin(); it != pool.free.end(); ++it) {
        if (it->second < room) continue;
        uintptr_t start = it->first, rest = it->second - room;
        pool.free.erase(it);
        if (rest) pool.free[start + room] = rest;
        char *at = (char *)start + GUARD_BYTES;
        pool.live[(uintptr_t)at] = {bytes, room};
        pool.used += room;
        pool.version++;
        pool_open();
        ASAN_UNPOISON_MEMORY_REGION(at, bytes);
        poison_memory(at, bytes);
#ifndef __SANITIZE_ADDRESS__
        surround(at, &pool.live[(uintptr_t)at]);
#endif
        pool_close();
        return at;
    }
    return NULL;
}

bool pool_give(void *memory) {
    auto it = pool.live.find((uintptr_t)memory);
    if (it == pool.live.end()) return false;
    pool_open();
    check_guards(it->first, &it->second);
    poison_memory((char *)memory, it->second.asked);
    pool_close();
    ASAN_POISON_MEMORY_REGION(memory, it->second.asked);
    uintptr_t start = it->first - GUARD_BYTES, room = it->second.room;
    pool.used -= room;
    pool.version++;
    pool.live.erase(it);
    auto next = pool.free.lower_bound(start);
    if (next != pool.free.end() && start + room == next->first) {
        room += next->second;
        next = pool.free.erase(next);
    }
    if (next != pool.free.begin()) {
        auto before = std::prev(next);
        if (before->first + before->second == start) {
            before->second += room;
            return true;
        }
    }
    pool.free[start] = room;
    return true;
}

void pool_info(size_t *available, size_t *total) {
    if (!pool_made()) {
        *available = *total = 0;
        return;
    }
    *total = pool.bytes;
    *available = pool.bytes - pool.used;
}

bool emu_in_pool(const void *at) {
    const char *p = (const char *)at;
    return pool.base && p >= pool.base && p < pool.base + pool.bytes;
}

size_t emu_pool(char **base) {
    *base = pool_made() ? pool.base : NULL;
    return pool.bytes;
}

/* Kernels ask about the same few tensors over and over. */
bool emu_allocated(const void *at, size_t bytes) {
    enum { KEPT = 8 };
    static __thread struct { uintptr_t start, end; } kept[KEPT];
    static __thread uint64_t version;
    static __thread unsigned next;
    if (version != pool.version) {
        memset(kept, 0, sizeof kept);
        version = pool.version;
    }
    uintptr_t p = (uintptr_t)at;
    for (int i = 0; i < KEPT; i++)
        if (p >= kept[i].start && p + bytes <= kept[i].end) return true;
    auto it = pool.live.upper_bound(p);
    if (it == pool.live.begin()) return false;
    --it;
    uintptr_t end = it->first + it->second.asked;
    if (p + bytes > end) return false;
    kept[next++ % KEPT] = {it->first, end};
    return true;
}

/* ---- pinned host memory ---- */

void *pinned_take(size_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + (bytes ? 0 : 4096));
    if (memory) pool.pinned[(uintptr_t)memory] = bytes;
    return memory;
}

bool pinned_give(void *memory) {
    if (!pool.pinned.erase((uintptr_t)memory)) return false;
    free(memory);
    return true;
}

bool is_pinned(const void *at) {
    auto it = pool.pinned.upper_bound((uintptr_t)at);
    if (it == pool.pinned.begin()) return false;
    --it;
    return (uintptr_t)at < it->first + it->second;
}
