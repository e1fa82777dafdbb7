#include <omp.h>
#include <stdio.h>
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

bool cpu_memory_info(size_t *free_bytes, size_t *total_bytes, Error *err) {
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) return fail(err, "/proc/meminfo: cannot be read, so this machine's memory is not known");
    char line[128];
    size_t kib;
    *free_bytes = *total_bytes = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemTotal: %zu", &kib) == 1) *total_bytes = kib * 1024;
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1) *free_bytes = kib * 1024;
    }
    fclose(file);
    return *total_bytes ? true : fail(err, "/proc/meminfo: does not say how much memory this machine has");
}
