/* Kernels on a CPU. A block's threads are fibers of one worker, which runs one at a time; a fiber that must wait
 * for its warp or block picks, by the schedule, the next to run. Blocks are shared out over the cores. */
#include "tests/emu/impl.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__thread const EmuPlace *emu_place;
__thread Worker *emu_worker;

/* ---- schedules ---- */

enum Order { BY_WARPS, BY_WARPS_REVERSED, FORWARD, REVERSED, SHUFFLED };

static struct {
    Order order;
    uint64_t seed, launches;
    bool chosen;
} schedule;

extern "C" void emu_set_schedule(const char *name) {
    static const char *const names[] = {"warps", "warps-reversed", "forward", "reversed"};
    schedule.chosen = true;
    schedule.launches = 0;
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) {
            schedule.order = (Order)i;
            return;
        }
    if (strncmp(name, "shuffled", 8)) {
        fprintf(stderr,
                "emulator: EMU_SCHEDULE is \"%s\", none of warps, warps-reversed, forward, reversed, "
                "shuffled:SEED\n",
                name);
        exit(2);
    }
    schedule.order = SHUFFLED;
    schedule.seed = name[8] ? strtoull(name + 9, NULL, 10) : 1;
}

static uint64_t next_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool backwards(void) { return schedule.order == REVERSED || schedule.order == BY_WARPS_REVERSED; }

/* The nearest lane of `ready` past `lane` in the schedule's direction, or -1. */
static int lane_past(uint32_t ready, int lane) {
    uint32_t past = backwards() ? ready & ((1u << lane) - 1u) : ready & ~((2u << lane) - 1u);
    if (!past) return -1;
    return backwards() ? 31 - __builtin_clz(past) : __builtin_ctz(past);
}

static int first_lane(uint32_t ready) { return backwards() ? 31 - __builtin_clz(ready) : __builtin_ctz(ready); }

static Fiber *fiber_at(Worker *w, int warp, int lane) { return &w->fibers[warp * WARP + lane]; }

static Fiber *pick_at_random(Worker *w) {
    uint64_t draw = next_random(&w->random);
    int start = (int)(draw % (uint64_t)w->warp_count);
    for (int i = 0; i < w->warp_count; i++) {
        int warp = (start + i) % w->warp_count;
        uint32_t ready = w->warps[warp].ready;
        if (!ready) continue;
        int turn = (int)(draw >> 32) & 31;
        uint32_t turned = ready >> turn | (turn ? ready << (32 - turn) : 0u);
        return fiber_at(w, warp, (__builtin_ctz(turned) + turn) & 31);
    }
    return NULL;
}

/* Whose turn it is after (warp, lane); null where nobody can run. */
static Fiber *pick(Worker *w, int warp, int lane) {
    if (schedule.order == SHUFFLED) return pick_at_random(w);
    int next = lane_past(w->warps[warp].ready, lane);
    if (next >= 0) return fiber_at(w, warp, next);
    bool stay = schedule.order == BY_WARPS || schedule.order == BY_WARPS_REVERSED;
    if (stay && w->warps[warp].ready) return fiber_at(w, warp, first_lane(w->warps[warp].ready));
    int step = backwards() ? w->warp_count - 1 : 1;
    for (int i = 0; i < w->warp_count; i++) {
        warp = (warp + step) % w->warp_count;
        if (w->warps[warp].ready) return fiber_at(w, warp, first_lane(w->warps[warp].ready));
    }
    return NULL;
}

/* ---- fibers ---- */

/* Saves where it is in *save and goes on where `to` was saved. */
extern "C" void emu_switch(void **save, void *to);
#ifdef __x86_64__
asm(R"(
    .text
    .globl emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
    .section .note.GNU-stack, "", @progbits
    .text
)");
#else
#error "the emulator's switch between fibers is written for x86-64"
#endif

static void switch_to_fiber(void **save, void **asan_save, Fiber *to) {
    emu_place = &to->place;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(asan_save, to->stack, STACK_BYTES);
#else
    (void)asan_save;
#endif
    emu_switch(save, to->stack_pointer);
}

static void arrived_in_fiber(Fiber *self) {
#ifdef __SANITIZE_ADDRESS__
    Worker *w = emu_worker;
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self->asan_stack, &bottom, &bytes);
    if (!w->asan_bottom) w->asan_bottom = bottom, w->asan_bytes = bytes;
#else
    (void)self;
#endif
}

static void to_fiber(Fiber *self, Fiber *next) {
    if (self == next) return;
    switch_to_fiber(&self->stack_pointer, &self->asan_stack, next);
    arrived_in_fiber(self);
}

static void to_worker(Fiber *self) {
    Worker *w = emu_worker;
    emu_place = NULL;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&self->asan_stack, w->asan_bottom, w->asan_bytes);
#endif
    emu_switch(&self->stack_pointer, w->stack_pointer);
    arrived_in_fiber(self);
}

/* ---- what went wrong ---- */

static struct {
    pthread_mutex_t lock;
    int count;
    char last[512];
    bool quiet;
} reports = {PTHREAD_MUTEX_INITIALIZER, 0, "", false};

enum { REPORTS_SHOWN = 25 };

static void exit_with_reports(void) {
    if (!reports.count) return;
    fprintf(stderr, "emulator: %d fault%s\n", reports.count, reports.count == 1 ? "" : "s");
    fflush(NULL);
    _exit(99);
}

void emu_report(const char *format, ...) {
    char what[300];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    pthread_mutex_lock(&reports.lock);
    if (emu_place) {
        const EmuPlace *p = emu_place;
        snprintf(reports.last, sizeof reports.last, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s",
                 emu_worker->kernel->name, p->block.x, p->block.y, p->block.z, p->thread.x, p->thread.y, p->thread.z,
                 what);
    } else {
        snprintf(reports.last, sizeof reports.last, "%s", what);
    }
    static bool at_exit;
    if (!at_exit) atexit(exit_with_reports), at_exit = true;
    if (reports.count++ < REPORTS_SHOWN && !reports.quiet) fprintf(stderr, "emulator: %s\n", reports.last);
    pthread_mutex_unlock(&reports.lock);
    if (getenv("EMU_ABORT")) abort();
}

extern "C" int emu_reports(void) { return reports.count; }
extern "C" const char *emu_last_report(void) { return reports.last; }
extern "C" void emu_quiet(int quiet) { reports.quiet = quiet; }
extern "C" void emu_forget_reports(void) {
    reports.count = 0;
    reports.last[0] = 0;
}

/* Leaves the block for good: its other threads stay where they are. */
static void abandon(void) {
    emu_worker->abandoned = true;
    to_worker(this_fiber());
    abort(); /* an abandoned fiber starts anew */
}

void emu_trap(void) {
    emu_report("__trap()");
    abandon();
}

/* Nobody can run and not everybody is done. */
static void report_deadlock(Worker *w) {
    const Fiber *waiting = NULL, *other = NULL;
    for (int i = 0; i < w->threads; i++) {
        const Fiber *f = &w->fibers[i];
        bool gone = w->warps[f->warp].exited >> f->lane & 1u;
        if (!gone && (!waiting || f->waits_for != waiting->waits_for) && !waiting) waiting = f;
    }
    for (int i = 0; i < w->threads; i++) {
        const Fiber *f = &w->fibers[i];
        bool gone = w->warps[f->warp].exited >> f->lane & 1u;
        if (f != waiting && (gone || f->waits_for != waiting->waits_for)) {
            other = f;
            break;
        }
    }
    bool gone = other && (w->warps[other->warp].exited >> other->lane & 1u);
    emu_place = &waiting->place;
    if (!other)
        emu_report("divergent: waits in %s for threads that wait in another", waiting->waits_for);
    else
        emu_report("divergent: waits in %s while thread %d %s%s", waiting->waits_for, other->index,
                   gone ? "has returned" : "waits in ", gone ? "" : other->waits_for);
}

/* Runs others until this thread is ready again. */
static void yield(Fiber *self) {
    Worker *w = emu_worker;
    Fiber *next = pick(w, self->warp, self->lane);
    if (next) {
        to_fiber(self, next);
        return;
    }
    const EmuPlace *place = emu_place;
    report_deadlock(w);
    emu_place = place;
    abandon();
}

static void thread_exit(Fiber *self) {
    Worker *w = emu_worker;
    Warp *warp = &w->warps[self->warp];
    warp->ready &= ~(1u << self->lane);
    warp->exited |= 1u << self->lane;
    self->copies.clear();
    self->group_end.clear();
    if (++w->exited == w->threads)
        to_worker(self);
    else
        yield(self);
}

static void fiber_main(void) {
    Fiber *self = this_fiber();
    self->asan_stack = NULL;
    arrived_in_fiber(self);
    for (;;) {
        emu_worker->kernel->call(emu_worker->kernel->state);
        thread_exit(self);
    }
}

/* Fibers start on addresses of their own modulo the cache's ways, or all their frames fight for the same sets. */
static void fiber_prepare(Fiber *f) {
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK_BYTES);
    char *top = f->stack + STACK_BYTES - 64 - (f->index % 16) * 832;
    void **frame = (void **)((uintptr_t)top & ~(uintptr_t)63);
    *--frame = NULL; /* the frame above has no return address; keeps the stack aligned for a call */
    *--frame = (void *)fiber_main;
    for (int i = 0; i < 6; i++) *--frame = NULL;
    f->stack_pointer = frame;
    f->copies.clear();
    f->group_end.clear();
}

static Worker *worker_new(void) {
    Worker *w = new Worker();
    w->fibers = new Fiber[MAX_THREADS]();
    size_t page = 4096, stride = STACK_BYTES + page;
    char *stacks =
        (char *)mmap(NULL, stride * MAX_THREADS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t shared_room = SHARED_MOST + 4096;
    w->shared = (char *)mmap(NULL, shared_room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED || w->shared == MAP_FAILED) abort();
    for (int i = 0; i < MAX_THREADS; i++) {
        Fiber *f = &w->fibers[i];
        f->stack = stacks + (size_t)i * stride + page;
        if (mprotect(f->stack, STACK_BYTES, PROT_READ | PROT_WRITE)) abort();
        f->index = i;
        f->warp = i / WARP;
        f->lane = i % WARP;
        fiber_prepare(f);
    }
    return w;
}

/* ---- blocks ---- */

static void poison(char *at, size_t bytes) {
    for (size_t i = 0; i + 1 < bytes; i += 2) memcpy(at + i, &POISON, sizeof POISON);
}

static void worker_take(Worker *w, const EmuKernel *k) {
    w->kernel = k;
    w->threads = (int)(k->block.x * k->block.y * k->block.z);
    w->warp_count = (w->threads + WARP - 1) / WARP;
    w->shared_bytes = k->shared;
    ASAN_UNPOISON_MEMORY_REGION(w->shared, SHARED_MOST + 4096);
    ASAN_POISON_MEMORY_REGION(w->shared + k->shared, SHARED_MOST + 4096 - k->shared);
    for (int i = 0; i < w->threads; i++) {
        unsigned t = (unsigned)i;
        EmuPlace *p = &w->fibers[i].place;
        p->thread = {t % k->block.x, t / k->block.x % k->block.y, t / k->block.x / k->block.y};
        p->threads = k->block;
        p->blocks = k->grid;
    }
}

static bool run_block(Worker *w, uint64_t number) {
    const EmuKernel *k = w->kernel;
    uint3 block = {(unsigned)(number % k->grid.x), (unsigned)(number / k->grid.x % k->grid.y),
                   (unsigned)(number / k->grid.x / k->grid.y)};
    for (int i = 0; i < w->threads; i++) w->fibers[i].place.block = block;
    for (int i = 0; i < w->warp_count; i++) {
        int lanes = w->threads - i * WARP;
        uint32_t all = lanes >= WARP ? 0xffffffffu : (1u << lanes) - 1u;
        Warp *warp = &w->warps[i];
        warp->present = warp->ready = all;
        warp->exited = warp->at_barrier = warp->in_collective = 0;
    }
    w->arrived = w->exited = w->votes = 0;
    w->abandoned = false;
    w->random = schedule.seed ^ schedule.launches << 40 ^ number;
    poison(w->shared, w->shared_bytes);
#ifdef SEMOLLM_EMU_CHECK
    check_block();
#endif
    int last = w->threads - 1;
    Fiber *first = pick(w, backwards() ? 0 : last / WARP, backwards() ? 0 : last % WARP);
    switch_to_fiber(&w->stack_pointer, &w->asan_stack, first);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(w->asan_stack, NULL, NULL);
    w->asan_bottom = NULL;
#endif
#ifdef SEMOLLM_EMU_CHECK
    check_block_end();
#endif
    if (w->abandoned)
        for (int i = 0; i < MAX_THREADS; i++) fiber_prepare(&w->fibers[i]);
    return !w->abandoned;
}

/* ---- launches over the cores ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    const EmuKernel *kernel;
    uint64_t blocks, next, factor, offset; /* block i of a launch is number (i·factor + offset) mod blocks */
    bool failed;
    int helpers, busy;
    uint64_t turn;
} crew = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0, 1, 0, false, -1, 0, 0};

static void take_blocks(void) {
    if (!emu_worker) emu_worker = worker_new();
    worker_take(emu_worker, crew.kernel);
    for (;;) {
        uint64_t i = __atomic_fetch_add(&crew.next, 1, __ATOMIC_RELAXED);
        if (i >= crew.blocks || __atomic_load_n(&crew.failed, __ATOMIC_RELAXED)) return;
        uint64_t number = (uint64_t)(((unsigned __int128)i * crew.factor + crew.offset) % crew.blocks);
        if (!run_block(emu_worker, number)) __atomic_store_n(&crew.failed, true, __ATOMIC_RELAXED);
    }
}

static void *helper(void *unused) {
    (void)unused;
    uint64_t seen = 0;
    pthread_mutex_lock(&crew.lock);
    for (;;) {
        while (crew.turn == seen) pthread_cond_wait(&crew.work, &crew.lock);
        seen = crew.turn;
        pthread_mutex_unlock(&crew.lock);
        take_blocks();
        pthread_mutex_lock(&crew.lock);
        if (--crew.busy == 0) pthread_cond_signal(&crew.done);
    }
    return NULL;
}

static void hire(void) {
    const char *asked = getenv("EMU_WORKERS");
    int workers = asked ? atoi(asked) : (int)sysconf(_SC_NPROCESSORS_ONLN);
#ifdef SEMOLLM_EMU_CHECK
    workers = 1;
#endif
    crew.helpers = 0;
    for (int i = 1; i < workers && i < 16; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, helper, NULL)) break;
        pthread_detach(thread);
        crew.helpers++;
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void order_blocks(void) {
    crew.factor = 1;
    crew.offset = 0;
    if (backwards()) crew.factor = crew.blocks - 1, crew.offset = crew.blocks - 1;
    if (schedule.order == SHUFFLED) {
        uint64_t random = schedule.seed ^ schedule.launches;
        crew.offset = next_random(&random) % crew.blocks;
        do crew.factor = 1 + next_random(&random) % crew.blocks;
        while (common_divisor(crew.factor, crew.blocks) != 1);
    }
}

static bool launch_makes_sense(const EmuKernel *k) {
    uint64_t threads = (uint64_t)k->block.x * k->block.y * k->block.z;
    return threads && threads <= MAX_THREADS && k->block.z <= 64 && k->grid.x <= 0x7fffffffu && k->grid.y <= 65535 &&
           k->grid.z <= 65535 && k->grid.x && k->grid.y && k->grid.z;
}

cudaError_t emu_run(const EmuKernel *kernel) {
    if (!launch_makes_sense(kernel)) return cudaErrorInvalidConfiguration;
    if (!schedule.chosen) emu_set_schedule(getenv("EMU_SCHEDULE") ? getenv("EMU_SCHEDULE") : "warps");
    if (crew.helpers < 0) hire();
    schedule.launches++;
    crew.kernel = kernel;
    crew.blocks = (uint64_t)kernel->grid.x * kernel->grid.y * kernel->grid.z;
    crew.next = 0;
    crew.failed = false;
    order_blocks();
#ifdef SEMOLLM_EMU_CHECK
    check_launch(kernel);
#endif
    uint64_t threads = (uint64_t)kernel->block.x * kernel->block.y * kernel->block.z;
    bool together = crew.helpers && crew.blocks > 1 && crew.blocks * threads >= 512;
    if (together) {
        pthread_mutex_lock(&crew.lock);
        crew.busy = crew.helpers;
        crew.turn++;
        pthread_cond_broadcast(&crew.work);
        pthread_mutex_unlock(&crew.lock);
    }
    take_blocks();
    if (together) {
        pthread_mutex_lock(&crew.lock);
        while (crew.busy) pthread_cond_wait(&crew.done, &crew.lock);
        pthread_mutex_unlock(&crew.lock);
    }
#ifdef SEMOLLM_EMU_CHECK
    check_launch_end();
#endif
    return crew.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

/* ---- barriers ---- */

static void pass_barrier(Worker *w) {
    w->arrived = 0;
    w->counted = w->votes;
    w->votes = 0;
    for (int i = 0; i < w->warp_count; i++) {
        w->warps[i].ready |= w->warps[i].at_barrier;
        w->warps[i].at_barrier = 0;
    }
#ifdef SEMOLLM_EMU_CHECK
    check_barrier();
#endif
}

int emu_block_count(int predicate) {
    Worker *w = emu_worker;
    Fiber *self = this_fiber();
    Warp *warp = &w->warps[self->warp];
    self->waits_for = "__syncthreads";
    warp->ready &= ~(1u << self->lane);
    warp->at_barrier |= 1u << self->lane;
    if (predicate) w->votes++;
    if (++w->arrived == w->threads) pass_barrier(w);
    yield(self);
    return emu_worker->counted;
}

void emu_block_barrier(void) { emu_block_count(0); }

typedef void (*Complete)(Warp *warp, uint32_t mask);

static bool all_agree(const Warp *warp, uint32_t mask, Wait kind) {
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (warp->kind[lane] != kind || warp->mask[lane] != mask) return false;
    }
    return true;
}

/* Waits until all lanes of `mask` are here with an operand; the last to come completes the work for all. */
static void collective(Wait kind, const char *name, uint32_t mask, void *operand, Complete complete) {
    Fiber *self = this_fiber();
    Warp *warp = &emu_worker->warps[self->warp];
    uint32_t bit = 1u << self->lane;
    if (!(mask & bit) || (mask & ~warp->present) || (mask & warp->exited)) {
        emu_report("divergent: %s with mask %08x, of whose lanes %s", name, mask,
                   mask & warp->exited ? "some have returned" : "not all are there, or not the caller");
        abandon();
    }
    self->waits_for = name;
    warp->kind[self->lane] = kind;
    warp->mask[self->lane] = mask;
    warp->operand[self->lane] = operand;
    warp->in_collective |= bit;
    warp->ready &= ~bit;
    if ((warp->in_collective & mask) == mask) {
        if (!all_agree(warp, mask, kind)) {
            emu_report("divergent: %s while lanes of its mask %08x wait in something else", name, mask);
            abandon();
        }
        warp->in_collective &= ~mask;
        warp->ready |= mask;
#ifdef SEMOLLM_EMU_CHECK
        if (mask == warp->present) check_converged(self->warp);
#endif
        complete(warp, mask);
    }
    yield(self);
}

static void complete_sync(Warp *warp, uint32_t mask) {
    (void)warp, (void)mask;
#ifdef SEMOLLM_EMU_CHECK
    check_warp_barrier((int)(warp - emu_worker->warps), mask);
#endif
}

void emu_warp_barrier(unsigned mask) { collective(WAIT_SYNC, "__syncwarp", mask, NULL, complete_sync); }

#ifndef SEMOLLM_EMU_CHECK
void emu_fence(void) {}
void emu_atomic(const void *at, size_t bytes) { (void)at, (void)bytes; }
#endif

/* ---- shuffles and votes ---- */

struct ShuffleOperand {
    EmuShuffle how;
    uint64_t bits, result;
    unsigned operand;
    int width;
};

static int shuffle_source(const ShuffleOperand *o, int lane) {
    int start = lane & ~(o->width - 1), end = start + o->width, delta = (int)o->operand, from = lane;
    if (o->how == EMU_SHUFFLE_INDEX) from = start | (delta & (o->width - 1));
    if (o->how == EMU_SHUFFLE_UP) from = lane - delta >= start ? lane - delta : lane;
    if (o->how == EMU_SHUFFLE_DOWN) from = lane + delta < end ? lane + delta : lane;
    if (o->how == EMU_SHUFFLE_XOR) from = (lane ^ delta) < end ? lane ^ delta : lane;
    return from;
}

static void complete_shuffle(Warp *warp, uint32_t mask) {
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        ShuffleOperand *o = (ShuffleOperand *)warp->operand[lane];
        int from = shuffle_source(o, lane);
        o->result = mask >> from & 1u ? ((ShuffleOperand *)warp->operand[from])->bits : 0x7ff77ff77ff77ff7u;
    }
}

uint64_t emu_shuffle(EmuShuffle how, unsigned mask, uint64_t bits, unsigned operand, int width) {
    ShuffleOperand o = {how, bits, 0, operand, width};
    collective(WAIT_SHUFFLE, "__shfl_sync", mask, &o, complete_shuffle);
    return o.result;
}

struct BallotOperand {
    bool vote;
    unsigned result;
};

static void complete_ballot(Warp *warp, uint32_t mask) {
    unsigned votes = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (((BallotOperand *)warp->operand[lane])->vote) votes |= 1u << lane;
    }
    for (uint32_t rest = mask; rest; rest &= rest - 1)
        ((BallotOperand *)warp->operand[__builtin_ctz(rest)])->result = votes;
}

unsigned emu_ballot(unsigned mask, int predicate) {
    BallotOperand o = {predicate != 0, 0};
    collective(WAIT_BALLOT, "__ballot_sync", mask, &o, complete_ballot);
    return o.result;
}

/* ---- tensor cores ---- */

struct MatrixOperand {
    uint32_t *r;
    const void *row, *pc;
    int matrices;
    bool transposed;
};

static bool in_shared(const void *at, size_t bytes) {
    const Worker *w = emu_worker;
    const char *p = (const char *)at;
    return p >= w->shared && p + bytes <= w->shared + w->shared_bytes;
}

static bool row_is_good(const void *row, const char *what) {
    if ((uintptr_t)row % 16)
        emu_report("%s: an address that is no multiple of 16", what);
    else if (!in_shared(row, 16))
        emu_report("%s: outside the block's %zu bytes of shared memory", what, emu_worker->shared_bytes);
    else
        return true;
    return false;
}

/* Lane l receives elements 2·(l % 4), +1 of row l / 4; of column l / 4 where transposed. */
static void complete_load_matrix(Warp *warp, uint32_t mask) {
    (void)mask;
    const MatrixOperand *first = (const MatrixOperand *)warp->operand[0];
    void *rows[WARP];
    for (int l = 0; l < 8 * first->matrices; l++) rows[l] = (void *)((MatrixOperand *)warp->operand[l])->row;
#ifdef SEMOLLM_EMU_CHECK
    check_load_matrix(rows, 8 * first->matrices, first->transposed, first->pc);
#endif
    for (int m = 0; m < first->matrices; m++) {
        uint16_t element[8][8];
        for (int i = 0; i < 8; i++) memcpy(element[i], rows[8 * m + i], sizeof element[i]);
        for (int lane = 0; lane < WARP; lane++) {
            int a = lane / 4, b = 2 * (lane % 4);
            uint32_t low = first->transposed ? element[b][a] : element[a][b];
            uint32_t high = first->transposed ? element[b + 1][a] : element[a][b + 1];
            ((MatrixOperand *)warp->operand[lane])->r[m] = low | high << 16;
        }
    }
}

void emu_load_matrix(uint32_t *r, const void *row, int matrices, bool transposed) {
    MatrixOperand o = {r, row, __builtin_return_address(0), matrices, transposed};
    if (this_fiber()->lane < 8 * matrices && !row_is_good(row, "ldmatrix")) abandon();
    collective((Wait)(WAIT_LOAD_MATRIX), matrices == 4 ? "ldmatrix.x4" : "ldmatrix.x2", 0xffffffffu, &o,
               complete_load_matrix);
}

struct MmaOperand {
    float *d;
    const uint32_t *a, *b;
};

typedef float Row8 __attribute__((vector_size(32)));

static float low_half(uint32_t both) { return bits_float(both << 16); }
static float high_half(uint32_t both) { return bits_float(both & 0xffff0000u); }

/* PTX ISA, "Matrix fragments for mma.m16n8k16": g = lane / 4 and t = lane % 4. */
static void complete_mma(Warp *warp, uint32_t mask) {
    (void)mask;
    float a[16][16];
    Row8 b[16], d[16];
    for (int lane = 0; lane < WARP; lane++) {
        const MmaOperand *o = (const MmaOperand *)warp->operand[lane];
        int g = lane / 4, t = 2 * (lane % 4);
        for (int r = 0; r < 4; r++) {
            int row = g + 8 * (r & 1), column = t + 8 * (r >> 1);
            a[row][column] = low_half(o->a[r]), a[row][column + 1] = high_half(o->a[r]);
        }
        for (int r = 0; r < 2; r++) b[t + 8 * r][g] = low_half(o->b[r]), b[t + 8 * r + 1][g] = high_half(o->b[r]);
        d[g][t] = o->d[0], d[g][t + 1] = o->d[1], d[g + 8][t] = o->d[2], d[g + 8][t + 1] = o->d[3];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++) d[i] += a[i][k] * b[k];
    for (int lane = 0; lane < WARP; lane++) {
        const MmaOperand *o = (const MmaOperand *)warp->operand[lane];
        int g = lane / 4, t = 2 * (lane % 4);
        o->d[0] = d[g][t], o->d[1] = d[g][t + 1], o->d[2] = d[g + 8][t], o->d[3] = d[g + 8][t + 1];
    }
#ifdef SEMOLLM_EMU_CHECK
    check_mma();
#endif
}

void emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    MmaOperand o = {d, a, b};
    collective(WAIT_MMA, "mma", 0xffffffffu, &o, complete_mma);
}

/* ---- memory ---- */

char *emu_shared_memory(void) { return emu_worker->shared; }

static bool aligned16(const void *at, const char *what) {
    if ((uintptr_t)at % 16 == 0) return true;
    emu_report("%s: an address that is no multiple of 16", what);
    abandon();
    return false;
}

uint4 emu_load16(const void *from) {
    uint4 value;
    if (emu_place) aligned16(from, "a 16-byte load");
#ifdef SEMOLLM_EMU_CHECK
    check_access(from, 16, false, __builtin_return_address(0));
#endif
    memcpy(&value, from, sizeof value);
    return value;
}

void emu_store16(void *to, uint4 value) {
    if (emu_place) aligned16(to, "a 16-byte store");
#ifdef SEMOLLM_EMU_CHECK
    check_access(to, 16, true, __builtin_return_address(0));
#endif
    memcpy(to, &value, sizeof value);
}

/* The bytes arrive only when somebody waits for them; until then the target holds NaNs. */
void emu_copy_async(void *to_shared, const void *from, bool valid) {
    if (!row_is_good(to_shared, "cp.async")) abandon();
    if (valid) aligned16(from, "cp.async");
    if (valid && !emu_allocated(from, 16)) {
        emu_report("cp.async: reads outside the device's allocations");
        abandon();
    }
#ifdef SEMOLLM_EMU_CHECK
    check_async_copy(to_shared, valid ? from : NULL, __builtin_return_address(0));
#endif
    poison((char *)to_shared, 16);
    this_fiber()->copies.push_back({(char *)to_shared, valid ? (const char *)from : NULL});
}

void emu_copy_commit(void) { this_fiber()->group_end.push_back(this_fiber()->copies.size()); }

void emu_copy_wait(int pending) {
    Fiber *f = this_fiber();
    if (f->group_end.size() <= (size_t)pending) return;
    size_t groups = f->group_end.size() - (size_t)pending, count = f->group_end[groups - 1];
    for (size_t i = 0; i < count; i++) {
        const AsyncCopy *c = &f->copies[i];
#ifdef SEMOLLM_EMU_CHECK
        check_copy_arrives(f, c);
#endif
        if (c->from)
            memcpy(c->to, c->from, 16);
        else
            memset(c->to, 0, 16);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + (long)count);
    f->group_end.erase(f->group_end.begin(), f->group_end.begin() + (long)groups);
    for (size_t &end : f->group_end) end -= count;
}
