/* Softmax of rows that an op left in host memory. */
#ifndef SEMOLLM_KERNELS_SOFTMAX_H
#define SEMOLLM_KERNELS_SOFTMAX_H

#include <stdint.h>

/* x becomes e^(x - the greatest x), by the calling thread. count > 0. */
void softmax_terms(float *x, int64_t count);

#endif
