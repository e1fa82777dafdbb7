/* Moments of the stream, to tell how long what lies between them took. */
#include "kernels/cuda/cuda.h"

bool cuda_mark(Device *dev, void **mark, Error *err) {
    cudaEvent_t event = NULL;
    if (!cuda_may_wait(dev, "timing operations", err) || !CUDA(cudaEventCreate(&event), err)) return false;
    *mark = event;
    return CUDA(cudaEventRecord(event, cuda_stream(dev)), err);
}

bool cuda_mark_seconds(void *from, void *to, double *seconds, Error *err) {
    float milliseconds;
    if (!CUDA(cudaEventElapsedTime(&milliseconds, from, to), err)) return false;
    *seconds = 1e-3 * (double)milliseconds;
    return true;
}

void cuda_mark_free(void *mark) {
    if (mark) cudaEventDestroy(mark);
}
