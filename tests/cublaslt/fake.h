/* A stand-in for cuBLASLt on the emulated device: what kernels/cuda/gemm.c asks of it, and knobs. */
#ifndef SEMOLLM_TESTS_CUBLASLT_FAKE_H
#define SEMOLLM_TESTS_CUBLASLT_FAKE_H

#include <stdbool.h>

/* Its three algorithms, in the order in which it guesses; the second is the fastest. */
enum { FAKE_FIRST = 0x10, FAKE_FASTEST, FAKE_LAST };

typedef struct Fake {
    int guesses, products; /* calls so far */
    int live;              /* descriptors not destroyed */
    int refused;           /* an algorithm that runs nothing */
    bool clueless;         /* it has no algorithm for anything */
    bool damaged;          /* it takes no algorithm from a table */
} Fake;

extern Fake fake;

#endif
