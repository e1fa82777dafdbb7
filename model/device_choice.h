/* Which device a user asks for, in words: the one place where they become one. */
#ifndef SEMOLLM_MODEL_DEVICE_CHOICE_H
#define SEMOLLM_MODEL_DEVICE_CHOICE_H

#include "base/options.h"
#include "kernels/kernels.h"

typedef struct DeviceChoice {
    const char *name;      /* "cpu", "cuda", "cuda:1"; null: cpu */
    const char *precision; /* "bf16", "fp32", "auto"; null: auto, what the device is made for */
    int64_t threads;       /* of the CPU; 0: one per core */
    Comm *comm;            /* of several ranks, who share out a machine's GPUs and cores; null: alone */
} DeviceChoice;

/* The table rows of a command that computes. */
#define DEVICE_OPTIONS(choice)                                                                                         \
    {"device", 0, OPTION_TEXT, &(choice).name, "NAME", "cpu, cuda or cuda:N (default: as the run says, else cpu)"},    \
        {"precision", 0, OPTION_TEXT, &(choice).precision, "NAME", "cuda: bf16 (default), or fp32 to debug with"}, {   \
        "threads", 0, OPTION_INT, &(choice).threads, "N", "threads to use (0: one per core)"                           \
    }

/* What the words mean; wrong ones, and such as do not go together, are usage errors. */
bool device_choice_check(const DeviceChoice *choice, DeviceKind *kind, int *index, DType *dtype, Error *err);

Device *device_choose(const DeviceChoice *choice, Error *err);

/* A planning device in its place. */
Device *device_choose_plan(const DeviceChoice *choice, Error *err);

#endif
