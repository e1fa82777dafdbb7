/* What the checking build (CHECK=1) counted, by kernel. For C and C++. */
#ifndef SEMOLLM_TESTS_EMU_CHECK_H
#define SEMOLLM_TESTS_EMU_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One direction of global traffic. A warp's accesses of one instruction are one request; `requested` counts the
 * distinct 32-byte sectors of each request, `moved` those that a cache of EMU_CACHE KiB (1024) did not hold, and
 * `used` the bytes of the moved sectors that somebody wanted. */
typedef struct EmuTraffic {
    uint64_t requests, requested, moved, used;
} EmuTraffic;

typedef struct EmuCounts {
    char name[128];
    uint64_t launches, blocks, threads; /* summed over launches */
    EmuTraffic read, write;
    uint64_t shared_requests, wavefronts, least_wavefronts; /* of shared memory */
    uint64_t matrix_wavefronts, least_matrix_wavefronts;    /* of those: ldmatrix's and cp.async's */
    uint64_t mma, special, barriers, warp_barriers;
    uint64_t most_shared; /* bytes of shared memory asked for */
} EmuCounts;

/* Fills at most `room` rows, in order of first launch; returns how many kernels there are. */
int emu_counts(EmuCounts *rows, int room);
void emu_count(bool on); /* from now on, from nothing; at first nothing is counted */

#ifdef __cplusplus
}
#endif

#endif
