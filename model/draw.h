/* Weights drawn rather than read, for plans and benchmarks of models whose files are not there. */
#ifndef SEMOLLM_MODEL_DRAW_H
#define SEMOLLM_MODEL_DRAW_H

#include "kernels/kernels.h"

/* Ones, which norms' weights lie around. */
bool draw_ones(Device *dev, Tensor t, Error *err);

/* Fills `bytes` of zeroed device memory, as the device stores weights, with normal numbers of deviation 0.02. */
bool draw_weights(Device *dev, void *memory, size_t bytes, uint64_t seed, Error *err);

#endif
