/* The checking build's counting: a warp's accesses of one instruction become requests; requests to global memory
 * become sectors of 32 bytes, behind a small cache, and requests to shared memory wavefronts over its 32 banks. */
#ifdef SEMOLLM_EMU_CHECK
#include "tests/emu/check.h"
#include "tests/emu/impl.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unordered_map>

static std::vector<EmuCounts *> kernels;
static EmuCounts *current;
static bool counting;

/* ---- the cache between requests and memory ---- */

enum { SECTOR = 32 };

struct Line {
    uint32_t read, written; /* bytes asked for since it came */
    bool fetched;
    uint64_t stamp;
};

/* A sector stays until as many others have come after it was last used as the cache has room for. */
static struct {
    std::unordered_map<uintptr_t, Line> lines;
    uint64_t clock, room;
} cache;

static void leave(const Line *line) {
    if (line->fetched) current->read.moved++, current->read.used += (uint64_t)__builtin_popcount(line->read);
    if (line->written) current->write.moved++, current->write.used += (uint64_t)__builtin_popcount(line->written);
}

static void sector(uintptr_t number, uint32_t bytes, bool write) {
    auto found = cache.lines.find(number);
    bool held = found != cache.lines.end() && cache.clock - found->second.stamp <= cache.room;
    if (!held) {
        if (found != cache.lines.end()) leave(&found->second);
        cache.clock++;
        found = cache.lines.insert_or_assign(number, Line{0, 0, false, 0}).first;
    }
    Line *line = &found->second;
    line->stamp = cache.clock;
    if (write) {
        line->written |= bytes;
    } else {
        if (!line->written) line->fetched = true;
        line->read |= bytes;
    }
}

static void cache_empty(void) {
    for (auto &entry : cache.lines) leave(&entry.second);
    cache.lines.clear();
}

/* ---- requests ---- */

struct Request {
    uint32_t lanes;
    uintptr_t at[WARP];
};

/* Of one program counter and warp, since the warp's lanes were last together. */
struct Site {
    const void *pc;
    size_t bytes;
    bool write, global;
    uint32_t times[WARP];
    std::vector<Request> requests;
};

/* The sites of each warp; `recent` finds most of them without the table. */
enum { RECENT = 256 };
static struct {
    std::unordered_map<const void *, Site> sites;
    Site *recent[RECENT];
    bool any;
} warps[MAX_WARPS];

static Site *site_of(int warp, const void *pc) {
    Site **recent = &warps[warp].recent[(uintptr_t)pc % RECENT];
    if (!*recent || (*recent)->pc != pc) {
        *recent = &warps[warp].sites[pc];
        (*recent)->pc = pc;
    }
    return *recent;
}

static void count_global(const Site *site, const Request *r) {
    EmuTraffic *traffic = site->write ? &current->write : &current->read;
    std::pair<uintptr_t, uint32_t> touched[WARP * 9];
    int count = 0;
    for (uint32_t rest = r->lanes; rest; rest &= rest - 1) {
        uintptr_t at = r->at[__builtin_ctz(rest)], end = at + site->bytes;
        while (at < end && count < WARP * 9) {
            uintptr_t number = at / SECTOR, stop = std::min(end, (number + 1) * SECTOR);
            uint32_t length = (uint32_t)(stop - at), mask = length == SECTOR ? ~0u : (1u << length) - 1u;
            mask <<= at % SECTOR;
            if (count && touched[count - 1].first == number)
                touched[count - 1].second |= mask;
            else
                touched[count++] = {number, mask};
            at = stop;
        }
    }
    std::sort(touched, touched + count);
    traffic->requests++;
    for (int i = 0; i < count; i++) {
        if (!i || touched[i].first != touched[i - 1].first) traffic->requested++;
        sector(touched[i].first, touched[i].second, site->write);
    }
}

/* The words of some lanes' accesses: how often the busiest of 32 banks is asked, and the least possible. */
static void wavefronts(const uintptr_t *at, int count, size_t bytes, uint64_t *ways, uint64_t *least) {
    uintptr_t words[WARP * 4];
    int total = 0, bank[32] = {0}, most = 0;
    for (int i = 0; i < count; i++)
        for (uintptr_t w = at[i] / 4; w <= (at[i] + bytes - 1) / 4 && total < WARP * 4; w++) words[total++] = w;
    if (!total) return;
    std::sort(words, words + total);
    int distinct = (int)(std::unique(words, words + total) - words);
    for (int i = 0; i < distinct; i++) most = std::max(most, ++bank[words[i] % 32]);
    *ways += (uint64_t)most;
    *least += (uint64_t)(distinct + 31) / 32;
}

/* 8-byte accesses go half a warp at a time, 16-byte ones a quarter. */
static void count_shared(const Site *site, const Request *r) {
    int step = site->bytes <= 4 ? 32 : site->bytes <= 8 ? 16 : 8;
    uint64_t ways = 0, least = 0;
    for (int first = 0; first < WARP; first += step) {
        uintptr_t at[WARP];
        int count = 0;
        for (int l = first; l < first + step; l++)
            if (r->lanes >> l & 1u) at[count++] = r->at[l];
        wavefronts(at, count, site->bytes, &ways, &least);
    }
    current->shared_requests++;
    current->wavefronts += ways;
    current->least_wavefronts += least;
}

void count_access(const void *at, size_t bytes, bool write, bool global, const void *pc) {
    if (!counting) return;
    const Fiber *f = this_fiber();
    Site *site = site_of(f->warp, pc);
    warps[f->warp].any = true;
    site->bytes = bytes;
    site->write = write;
    site->global = global;
    uint32_t time = site->times[f->lane]++;
    if (time >= site->requests.size()) site->requests.push_back(Request{0, {0}});
    Request *r = &site->requests[time];
    r->lanes |= 1u << f->lane;
    r->at[f->lane] = (uintptr_t)at;
}

static void count_site(Site *site) {
    if (site->requests.empty()) return;
    for (const Request &r : site->requests) {
        if (site->global)
            count_global(site, &r);
        else
            count_shared(site, &r);
    }
    site->requests.clear();
    memset(site->times, 0, sizeof site->times);
}

/* All lanes are at one place: what they did since they last were is complete. */
void count_converged(int number) {
    auto *warp = &warps[number];
    if (!warp->any) return;
    warp->any = false;
    for (bool write : {false, true}) /* what is read in a stretch and then written in place was fetched */
        for (auto &entry : warp->sites)
            if (entry.second.write == write) count_site(&entry.second);
}

/* A matrix's eight rows of 16 bytes are one wavefront at best. */
void count_load_matrix(void *const *rows, int lanes) {
    if (!counting) return;
    for (int first = 0; first < lanes; first += 8) {
        uintptr_t at[8];
        for (int i = 0; i < 8; i++) at[i] = (uintptr_t)rows[first + i];
        uint64_t ways = 0, least = 0;
        wavefronts(at, 8, 16, &ways, &least);
        current->wavefronts += ways, current->matrix_wavefronts += ways;
        current->least_wavefronts += least, current->least_matrix_wavefronts += least;
    }
    current->shared_requests++;
}

void count_mma(void) { current->mma++; }
void count_special(void) { current->special++; }
void count_barrier(void) { current->barriers++; }
void count_warp_barrier(void) { current->warp_barriers++; }

/* ---- launches ---- */

void count_launch(const EmuKernel *k) {
    if (!cache.room)
        cache.room = (getenv("EMU_CACHE") ? strtoull(getenv("EMU_CACHE"), NULL, 10) : 1024) * 1024 / SECTOR;
    current = NULL;
    for (EmuCounts *c : kernels)
        if (!strncmp(c->name, k->name, sizeof c->name - 1)) current = c;
    if (!current) {
        current = new EmuCounts();
        snprintf(current->name, sizeof current->name, "%s", k->name);
        kernels.push_back(current);
    }
    uint64_t blocks = (uint64_t)k->grid.x * k->grid.y * k->grid.z;
    current->launches++;
    current->blocks += blocks;
    current->threads += blocks * k->block.x * k->block.y * k->block.z;
    current->most_shared = std::max(current->most_shared, (uint64_t)k->shared);
    for (auto &warp : warps) {
        warp.sites.clear();
        memset(warp.recent, 0, sizeof warp.recent);
        warp.any = false;
    }
}

void count_launch_end(void) { cache_empty(); }

extern "C" int emu_counts(EmuCounts *rows, int room) {
    for (int i = 0; i < room && i < (int)kernels.size(); i++) rows[i] = *kernels[(size_t)i];
    return (int)kernels.size();
}

extern "C" void emu_count(bool on) {
    counting = on;
    for (EmuCounts *c : kernels) delete c;
    kernels.clear();
}

#endif
