/* placeholder until the CUDA device stands */
#include "kernels/cuda/cuda.h"
