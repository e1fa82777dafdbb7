/* Operations recorded once and run again with one call. */
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cuda/cuda.h"

struct DeviceGraph {
    cudaGraphExec_t ready;
    const void *scratch; /* which the recorded kernels will use */
};

bool cuda_device_capture_begin(Device *dev, Error *err) {
    if (!cuda_may_wait(dev, "recording", err)) return false;
    /* Other threads' calls are no business of this recording. */
    if (!CUDA(cudaSetDevice(dev->cuda->index), err) ||
        !CUDA(cudaStreamBeginCapture(cuda_stream(dev), cudaStreamCaptureModeThreadLocal), err))
        return false;
    dev->cuda->recording = true;
    return true;
}

DeviceGraph *cuda_device_capture_end(Device *dev, Error *err) {
    cudaGraph_t graph = NULL;
    dev->cuda->recording = false;
    bool ok = CUDA(cudaStreamEndCapture(cuda_stream(dev), &graph), err) && CUDA(cudaSetDevice(dev->cuda->index), err);
    DeviceGraph *made = ok ? memory_new(1, sizeof *made, err) : NULL;
    if (made) made->scratch = dev->scratch;
    if (made && !CUDA(cudaGraphInstantiate(&made->ready, graph, 0), err)) {
        free(made);
        made = NULL;
    }
    if (graph) cudaGraphDestroy(graph);
    return made;
}

bool cuda_device_replay(Device *dev, DeviceGraph *graph, Error *err) {
    if (graph->scratch != dev->scratch)
        return fail(err, "scratch was reserved anew since these operations were recorded: record them again");
    return CUDA(cudaSetDevice(dev->cuda->index), err) && CUDA(cudaGraphLaunch(graph->ready, cuda_stream(dev)), err);
}

void cuda_device_graph_free(Device *dev, DeviceGraph *graph) {
    cudaSetDevice(dev->cuda->index);
    cudaGraphExecDestroy(graph->ready);
    free(graph);
}
