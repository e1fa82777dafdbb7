/* The checking build: kernels are compiled with -fsanitize=thread but linked with the functions below in place of
 * its runtime, so that every access arrives here with its address, size and program counter. Races are found by
 * a shadow of memory, and a warp's accesses of one instruction are gathered to requests and counted (counts.cc). */
#ifdef SEMOLLM_EMU_CHECK
#include "tests/emu/impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unordered_set>

/* ---- the shadow ---- */

/* Of two bytes. Epochs grow with every block barrier (block) and every full __syncwarp (warp) of the program. */
struct Shadow {
    uint32_t write_epoch, write_warp_epoch, read_epoch, read_warp_epoch;
    uint16_t writer, reader; /* threads of the block */
    uint8_t flags;
};

enum {
    READ_BY_LANES = 1,  /* by several lanes of the reader's warp in read_warp_epoch */
    READ_BY_WARPS = 2,  /* by several warps in read_epoch */
    READ_BY_BLOCKS = 4, /* by a block that ran before in this launch */
    COPY_PENDING = 8
};

enum { GRAIN = 2, PAGE = 4096 };

static struct {
    uint32_t epoch, launch_start, block_start, warp_epoch[MAX_WARPS];
    Shadow shared[SHARED_MOST / GRAIN];
    Shadow **pages; /* of the pool; null where untouched */
    char *pool;
    bool races;
    const EmuKernel *kernel;
} state = {};

/* What a block made visible by a fence and an atomic: all before `epoch`, and its thread's own. */
struct Release {
    uint32_t block_start, epoch;
    uint16_t thread;
};
static std::vector<Release> releases;
static struct {
    uint32_t epoch;
    uint16_t thread;
    bool done;
} acquired;
static bool fenced[MAX_THREADS];

static bool visible(uint32_t epoch, uint16_t thread, uint16_t me) {
    if (!acquired.done || !(acquired.epoch < state.epoch || acquired.thread == me)) return false;
    for (size_t i = releases.size(); i-- > 0;) {
        const Release *r = &releases[i];
        if (r->block_start > epoch) continue;
        return epoch < r->epoch || (epoch == r->epoch && thread == r->thread);
    }
    return false;
}

static bool ordered(uint16_t thread, uint32_t warp_epoch, uint16_t me) {
    return thread == me || (thread / WARP == me / WARP && warp_epoch < state.warp_epoch[me / WARP]);
}

/* Whether an access by `thread` at `epoch` may still be under way for `me`. */
static bool conflicts(uint32_t epoch, uint32_t warp_epoch, uint16_t thread, uint16_t me, bool global) {
    if (epoch == state.epoch) return !ordered(thread, warp_epoch, me);
    return global && epoch >= state.launch_start && epoch < state.block_start && !visible(epoch, thread, me);
}

/* Copies that a block never waited for end with it. */
static bool copy_pending(const Shadow *s) { return (s->flags & COPY_PENDING) && s->write_epoch >= state.block_start; }

static const char *read_conflict(const Shadow *s, uint16_t me, bool global) {
    if (copy_pending(s)) return "reads what a cp.async has not been waited for to write";
    return conflicts(s->write_epoch, s->write_warp_epoch, s->writer, me, global) ? "reads what another thread wrote"
                                                                                 : NULL;
}

static const char *write_conflict(const Shadow *s, uint16_t me, bool global) {
    if (copy_pending(s)) return "writes where a cp.async has not been waited for to write";
    if (conflicts(s->write_epoch, s->write_warp_epoch, s->writer, me, global))
        return "writes what another thread wrote";
    bool read_now = s->read_epoch == state.epoch;
    bool before = global && s->read_epoch >= state.launch_start && (s->flags & READ_BY_BLOCKS) && !acquired.done;
    bool lanes = (s->flags & READ_BY_LANES) && s->read_warp_epoch == state.warp_epoch[me / WARP];
    if (before || conflicts(s->read_epoch, s->read_warp_epoch, s->reader, me, global) ||
        (read_now && ((s->flags & READ_BY_WARPS) || lanes)))
        return "writes what another thread reads";
    return NULL;
}

static void note_read(Shadow *s, uint16_t me, bool global) {
    uint32_t now = state.warp_epoch[me / WARP];
    if (s->read_epoch == state.epoch) {
        if (s->reader / WARP != me / WARP) {
            s->flags |= READ_BY_WARPS;
        } else if (s->reader != me || s->read_warp_epoch < now) {
            s->flags = (uint8_t)(s->read_warp_epoch < now ? s->flags & ~READ_BY_LANES : s->flags | READ_BY_LANES);
        }
    } else {
        bool before = global && s->read_epoch >= state.launch_start &&
                      (s->read_epoch < state.block_start || (s->flags & READ_BY_BLOCKS));
        s->flags = (uint8_t)((s->flags & COPY_PENDING) | (before ? READ_BY_BLOCKS : 0));
    }
    s->read_epoch = state.epoch;
    s->read_warp_epoch = now;
    s->reader = me;
}

static void note_write(Shadow *s, uint16_t me) {
    s->write_epoch = state.epoch;
    s->write_warp_epoch = state.warp_epoch[me / WARP];
    s->writer = me;
    s->read_epoch = 0;
    s->flags = 0;
}

/* The source line of a program counter, where addr2line knows it. */
static void where_is(const void *pc, char *text, size_t room) {
    extern char __executable_start;
    char command[200], line[200] = "";
    snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%lx 2>/dev/null", (int)getpid(),
             (unsigned long)((const char *)pc - &__executable_start - 1));
    snprintf(text, room, "%p", pc);
    FILE *p = popen(command, "r");
    for (int i = 0; p && i < 4 && fgets(line, sizeof line, p); i++) {
        line[strcspn(line, "\n ")] = 0;
        const char *name = strrchr(line, '/');
        size_t used = i ? strlen(text) : 0;
        snprintf(text + used, room - used, "%s%s", i ? " < " : "", name ? name + 1 : line);
    }
    if (p) pclose(p);
}

/* Once for each program counter and kernel. */
static void complain(const char *what, const void *at, const char *space, const void *pc) {
    static std::unordered_set<uint64_t> seen;
    static int since_launch;
    if (emu_reports() == 0 && since_launch++ > 0) seen.clear();
    if (!seen.insert((uint64_t)pc * 31 + (uint64_t)(uintptr_t)what).second) return;
    char line[256];
    where_is(pc, line, sizeof line);
    (void)at;
    emu_report("race: %s in %s memory without a barrier between (%s)", what, space, line);
}

static Shadow *shadow_of(const char *at, bool global) {
    if (!global) return &state.shared[(size_t)(at - emu_worker->shared) / GRAIN];
    size_t offset = (size_t)(at - state.pool);
    Shadow **page = &state.pages[offset / PAGE];
    if (!*page) *page = (Shadow *)calloc(PAGE / GRAIN, sizeof(Shadow));
    return *page + offset % PAGE / GRAIN;
}

static void touch(const char *at, size_t bytes, bool write, bool global, const void *pc) {
    uint16_t me = (uint16_t)this_fiber()->index;
    for (const char *p = at; p < at + bytes; p += GRAIN) {
        Shadow *s = shadow_of(p, global);
        const char *what = write ? write_conflict(s, me, global) : read_conflict(s, me, global);
        if (what) complain(what, p, global ? "global" : "shared", pc);
        if (write)
            note_write(s, me);
        else
            note_read(s, me, global);
    }
}

/* ---- what the emulator tells ---- */

void check_launch(const EmuKernel *kernel) {
    if (!state.pages) {
        size_t bytes = emu_pool(&state.pool);
        state.pages = (Shadow **)calloc(bytes / PAGE + 1, sizeof *state.pages);
        state.races = !getenv("EMU_RACES") || atoi(getenv("EMU_RACES"));
    }
    state.kernel = kernel;
    state.launch_start = state.epoch + 1;
    releases.clear();
    count_launch(kernel);
}

void check_launch_end(void) { count_launch_end(); }

void check_block(void) {
    state.block_start = ++state.epoch;
    acquired.done = false;
    memset(fenced, 0, sizeof fenced);
}

void check_block_end(void) {
    for (int i = 0; i < emu_worker->warp_count; i++) count_converged(i);
}

void check_barrier(void) {
    state.epoch++;
    for (int i = 0; i < emu_worker->warp_count; i++) count_converged(i);
    count_barrier();
}

void check_converged(int warp) { count_converged(warp); }

void check_warp_barrier(int warp, uint32_t mask) {
    if (mask == emu_worker->warps[warp].present) state.warp_epoch[warp]++;
    count_warp_barrier();
}

void emu_fence(void) { fenced[this_fiber()->index] = true; }

/* With a fence before, releases what the block did; acquires what others released. */
void emu_atomic(const void *at, size_t bytes) {
    if (!emu_place) return;
    uint16_t me = (uint16_t)this_fiber()->index;
    if (fenced[me]) {
        if (releases.empty() || releases.back().block_start != state.block_start)
            releases.push_back({state.block_start, 0, 0});
        releases.back().epoch = state.epoch;
        releases.back().thread = me;
    }
    acquired = {state.epoch, me, true};
    count_access(at, bytes, true, true, __builtin_return_address(0));
}

static const char *memory_of(const char *at, bool *local) {
    const Fiber *f = this_fiber();
    const EmuKernel *k = state.kernel;
    extern char __executable_start, _end;
    *local = (at >= f->stack && at < f->stack + STACK_BYTES) || at == (const char *)&emu_place ||
             (at >= (char *)emu_worker->fibers && at < (char *)(emu_worker->fibers + MAX_THREADS)) ||
             (at >= (char *)k->state && at < (char *)k->state + k->state_bytes) ||
             (at >= &__executable_start && at < &_end);
    if (*local) return NULL;
    if (at >= emu_worker->shared && at < emu_worker->shared + SHARED_MOST) return "shared";
    return emu_in_pool(at) ? "global" : "host";
}

/* Known to lie where it may. */
static bool in_bounds(const char *at, size_t bytes, const char *space, const void *pc) {
    bool shared = space[0] == 's';
    if (shared ? at + bytes <= emu_worker->shared + emu_worker->shared_bytes : emu_allocated(at, bytes)) return true;
    static std::unordered_set<const void *> seen;
    if (emu_reports() == 0) seen.clear();
    if (seen.insert(pc).second) {
        char line[256];
        where_is(pc, line, sizeof line);
        emu_report("out of bounds: an access of %zu bytes to %s memory (%s)", bytes, space, line);
    }
    return false;
}

void check_access(const void *address, size_t bytes, bool write, const void *pc) {
    if (!emu_place) return;
    const char *at = (const char *)address;
    bool local;
    const char *space = memory_of(at, &local);
    if (local || !in_bounds(at, bytes, space, pc)) return;
    bool global = space[0] == 'g';
    if (state.races) touch(at, bytes, write, global, pc);
    count_access(at, bytes, write, global, pc);
}

void check_async_copy(const void *to_shared, const void *from, const void *pc) {
    if (from) check_access(from, 16, false, pc);
    check_access(to_shared, 16, true, (const char *)pc + 1); /* another instruction's, so to speak */
    for (int i = 0; i < 16; i += GRAIN) shadow_of((const char *)to_shared + i, false)->flags |= COPY_PENDING;
}

void check_copy_arrives(const Fiber *f, const AsyncCopy *copy) {
    for (int i = 0; i < 16; i += GRAIN) note_write(shadow_of(copy->to + i, false), (uint16_t)f->index);
}

/* Each element is read by the lane that receives it, whoever gave the row's address, and before the warp's next
 * barrier perhaps not yet read: nobody may overwrite it. */
void check_load_matrix(void *const *rows, int lanes, bool transposed, const void *pc) {
    const EmuPlace *kept = emu_place;
    Fiber *warp = &emu_worker->fibers[this_fiber()->warp * WARP];
    for (int l = 0; l < lanes && state.races; l++) {
        for (int c = 0; c < 8; c++) {
            emu_place = &warp[transposed ? 4 * c + l % 8 / 2 : 4 * (l % 8) + c / 2].place;
            touch((const char *)rows[l] + 2 * c, 2, false, false, pc);
            shadow_of((const char *)rows[l] + 2 * c, false)->flags |= READ_BY_LANES;
        }
    }
    emu_place = kept;
    count_load_matrix(rows, lanes);
}

void check_mma(void) { count_mma(); }

void emu_special(void) {
    if (emu_place) count_special();
}

/* ---- what the compiler calls ---- */

#define HERE __builtin_return_address(0)
#define ACCESSES(bytes)                                                                                                \
    extern "C" void __tsan_read##bytes(void *at) { check_access(at, bytes, false, HERE); }                             \
    extern "C" void __tsan_write##bytes(void *at) { check_access(at, bytes, true, HERE); }                             \
    extern "C" void __tsan_unaligned_read##bytes(void *at) { check_access(at, bytes, false, HERE); }                   \
    extern "C" void __tsan_unaligned_write##bytes(void *at) { check_access(at, bytes, true, HERE); }                   \
    extern "C" void __tsan_volatile_read##bytes(void *at) { check_access(at, bytes, false, HERE); }                    \
    extern "C" void __tsan_volatile_write##bytes(void *at) { check_access(at, bytes, true, HERE); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

extern "C" void __tsan_read_range(void *at, long bytes) { check_access(at, (size_t)bytes, false, HERE); }
extern "C" void __tsan_write_range(void *at, long bytes) { check_access(at, (size_t)bytes, true, HERE); }
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_vptr_read(void *) {}
extern "C" void __tsan_vptr_update(void *, void *) {}

/* emu_atomic has seen these. */
#define ATOMICS(bits, type)                                                                                            \
    extern "C" type __tsan_atomic##bits##_load(const volatile type *at, int) {                                         \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                                  \
    }                                                                                                                  \
    extern "C" type __tsan_atomic##bits##_exchange(volatile type *at, type value, int) {                               \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                                       \
    }                                                                                                                  \
    extern "C" type __tsan_atomic##bits##_fetch_add(volatile type *at, type value, int) {                              \
        return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                                        \
    }                                                                                                                  \
    extern "C" int __tsan_atomic##bits##_compare_exchange_strong(volatile type *at, type *expected, type value, int,   \
                                                                 int) {                                                \
        return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
    }
ATOMICS(32, int)
ATOMICS(64, long)

#endif
