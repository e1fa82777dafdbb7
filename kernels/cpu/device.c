#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"

void device_calm_idle_threads(char **argv) {
    static const char name[] = "OMP_WAIT_POLICY";
    if (getenv(name) || setenv(name, "passive", 0) != 0) return;
    execv("/proc/self/exe", argv); /* where that fails, the program goes on as it was */
}

int cpu_threads(int wanted) {
    int cores = omp_get_num_procs();
    return wanted <= 0 ? cores : wanted;
}

void cpu_enter(const Device *dev) {
    if (omp_get_max_threads() == dev->threads && !omp_get_dynamic()) return;
    omp_set_dynamic(0);
    omp_set_num_threads(dev->threads);
}

float *cpu_tile(const Device *dev) { return dev->tiles + (size_t)omp_get_thread_num() * TILE_FLOATS; }
