#include <omp.h>

#include "kernels/cpu/cpu.h"

int cpu_threads(int wanted) {
    int cores = omp_get_num_procs();
    return wanted <= 0 ? cores : wanted;
}

void cpu_enter(const Device *dev) {
    if (omp_get_max_threads() != dev->threads) omp_set_num_threads(dev->threads);
}

float *cpu_tile(const Device *dev) { return dev->tiles + (size_t)omp_get_thread_num() * TILE_FLOATS; }
