/* Machines that can be planned for: files of configs/machines. */
#ifndef SEMOLLM_TRAIN_ESTIMATE_MACHINE_H
#define SEMOLLM_TRAIN_ESTIMATE_MACHINE_H

#include "base/base.h"

typedef struct Machine {
    char *name, *source; /* source: where its figures come from */
    double memory_gib;   /* that a program can have */
    double copy_tb_s, matmul_tflops, gemm_share, stream_share;
    double attention_tflops, attention_backward_tflops; /* causal */
    double *attention_bias_tflops; /* with a relative bias, WavLM's; null in files that hold one rate for both */
    double convolution_tflops;
    double kernel_us;         /* the shortest kernel */
    double bus_gb_s;          /* of an all-reduce */
    double *block_shared_kib; /* of a block's shared memory at most; null in files that do not say */
} Machine;

/* `name`: a path, or NAME of the first there is: what gpu-check has measured on this machine
 * (~/.cache/semollm/machines/NAME.yaml), configs/machines/NAME.yaml here or beside the program. `path` (to be
 * freed) tells which. */
Machine *machine_read(const char *name, char **path, Error *err);
double machine_attention_bias(const Machine *machine); /* attention_bias_tflops, or what stands for it */
void machine_free(Machine *machine);

#endif
