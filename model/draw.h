/* Weights drawn rather than read, for plans and benchmarks of models whose files are not there. */
#ifndef SEMOLLM_MODEL_DRAW_H
#define SEMOLLM_MODEL_DRAW_H

#include "kernels/kernels.h"

/* Ones, which norms' weights lie around. */
bool draw_ones(Device *dev, Tensor t, Error *err);

/* Normal numbers of deviation 0.02, as the device stores weights: the same on every device, whatever t's place and
 * leading dimension. `number` tells a model's tensors apart. t holds zeros. */
bool draw_weights(Device *dev, Tensor t, uint64_t seed, int32_t number, Error *err);

#endif
