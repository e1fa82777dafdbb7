#include "model/device_choice.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INDEX_MAX = 1023 };

static bool parse_name(const char *name, DeviceKind *kind, int *index, Error *err) {
    *kind = DEVICE_CPU;
    *index = 0;
    if (!name || !strcmp(name, "cpu")) return true;
    *kind = DEVICE_CUDA;
    if (!strcmp(name, "cuda")) return true;
    const char *digits = strncmp(name, "cuda:", 5) ? "" : name + 5;
    size_t count = strspn(digits, "0123456789");
    *index = count && count < 5 ? atoi(digits) : INDEX_MAX + 1;
    if (!digits[count] && *index <= INDEX_MAX) return true;
    return fail_usage(err, "the device must be cpu, cuda or cuda:N, found \"%.40s\"", name);
}

bool device_choice_check(const DeviceChoice *choice, DeviceKind *kind, int *index, DType *dtype, Error *err) {
    const char *precision = choice->precision ? choice->precision : "auto";
    *dtype = DTYPE_F32;
    if (!parse_name(choice->name, kind, index, err)) return false;
    if (choice->threads < 0) return fail_usage(err, "the number of threads must not be negative");
    bool automatic = !strcmp(precision, "auto"), halves = !strcmp(precision, "bf16");
    if (!automatic && !halves && strcmp(precision, "fp32") != 0)
        return fail_usage(err, "the precision must be bf16 or fp32, found \"%.40s\"", precision);
    if (halves && *kind == DEVICE_CPU)
        return fail_usage(err, "the CPU computes in fp32: bf16 is a precision of the device cuda");
    if (halves || (automatic && *kind == DEVICE_CUDA)) *dtype = DTYPE_BF16;
    return true;
}

/* Each rank takes the GPU of its number on this machine; where the launcher shows it one alone, that. */
static bool choose_gpu(const DeviceChoice *choice, int *index, Error *err) {
    if (comm_size(choice->comm) == 1) return true;
    int rank = comm_local_rank(choice->comm), ranks = comm_local_size(choice->comm), count = device_cuda_count(err);
    if (strchr(choice->name, ':'))
        return fail_usage(err, "each of several ranks takes a GPU of its own: name the device cuda, not %s",
                          choice->name);
    if (!count) return false;
    *index = count == 1 ? 0 : rank;
    if (*index < count) return true;
    return fail(err, "%d ranks on this machine, which has %d GPUs: start one for each at most", ranks, count);
}

/* Each rank has its part of the machine's cores, or as many as its launcher has bound it to. */
static int threads_of(const DeviceChoice *choice) {
    if (choice->threads || comm_size(choice->comm) == 1) return (int)choice->threads;
    cpu_set_t set;
    int part = (int)sysconf(_SC_NPROCESSORS_ONLN) / comm_local_size(choice->comm);
    int bound = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (part > bound) part = bound;
    return part > 1 ? part : 1;
}

Device *device_choose(const DeviceChoice *choice, Error *err) {
    DeviceKind kind;
    int index;
    DType dtype;
    if (!device_choice_check(choice, &kind, &index, &dtype, err)) return NULL;
    if (kind == DEVICE_CPU) return device_open(kind, threads_of(choice), err);
    return choose_gpu(choice, &index, err) ? device_open_cuda(index, dtype, err) : NULL;
}

Device *device_choose_plan(const DeviceChoice *choice, Error *err) {
    DeviceKind kind;
    int index;
    DType dtype;
    if (!device_choice_check(choice, &kind, &index, &dtype, err)) return NULL;
    return device_open_plan(kind, dtype, err);
}
