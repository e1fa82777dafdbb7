#include "model/device_choice.h"

#include <stdlib.h>
#include <string.h>

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

Device *device_choose(const DeviceChoice *choice, Error *err) {
    DeviceKind kind;
    int index;
    DType dtype;
    if (!device_choice_check(choice, &kind, &index, &dtype, err)) return NULL;
    return kind == DEVICE_CPU ? device_open(kind, (int)choice->threads, err) : device_open_cuda(index, dtype, err);
}

Device *device_choose_plan(const DeviceChoice *choice, Error *err) {
    DeviceKind kind;
    int index;
    DType dtype;
    if (!device_choice_check(choice, &kind, &index, &dtype, err)) return NULL;
    return device_open_plan(kind, dtype, err);
}
