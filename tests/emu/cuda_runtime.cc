/* The CUDA runtime's calls over the emulator: streams are queues that run when somebody waits. */
#include "tests/emu/impl.h"
#include "tests/emu/memory.h"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef std::function<cudaError_t()> Work;

struct EmuGraph {
    std::vector<Work> work;
};

struct EmuStream {
    std::deque<Work> queue;
    uint64_t enqueued, done;
    EmuGraph *captured;
};

struct EmuEvent {
    EmuStream *stream;
    uint64_t place; /* in the stream: reached once `done` is at least that */
    std::shared_ptr<double> seconds;
    bool recorded;
};

static std::recursive_mutex lock;
static EmuStream null_stream;
static std::vector<EmuStream *> streams;
static cudaError_t sticky, last;

/* ---- failing on demand ---- */

enum { KINDS = 5, LOST = 4 };
static const char *const kind_name[KINDS] = {"call", "malloc", "launch", "copy", "lost"};
static struct {
    int calls[KINDS], at[KINDS];
    bool read;
} faults;

static int kind_of(const char *name) {
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(name, kind_name[i])) return i;
    fprintf(stderr, "emulator: \"%s\" is no kind of call: call, malloc, launch, copy or lost\n", name);
    exit(2);
}

extern "C" void emu_fail(const char *kind, int n) {
    int k = kind_of(kind);
    faults.read = true;
    faults.calls[k] = 0;
    faults.at[k] = n;
    if (k == LOST && !n) sticky = cudaSuccess;
}

extern "C" int emu_calls(const char *kind) { return faults.calls[kind_of(kind)]; }

static void read_faults(void) {
    faults.read = true;
    const char *asked = getenv("EMU_FAIL"), *colon = asked ? strchr(asked, ':') : NULL;
    if (!colon) return;
    char kind[16];
    snprintf(kind, sizeof kind, "%.*s", (int)(colon - asked), asked);
    faults.at[kind_of(kind)] = atoi(colon + 1);
}

static bool fails_now(int kind) { return ++faults.calls[kind] == faults.at[kind]; }

static cudaError_t answer(cudaError_t status) {
    if (status != cudaSuccess && status != cudaErrorNotReady) last = status;
    return status;
}

/* What every call begins with: whether it may go on. */
static cudaError_t enter(int kind, cudaError_t failure) {
    if (!faults.read) read_faults();
    if (sticky != cudaSuccess) return answer(sticky);
    if (fails_now(LOST)) return answer(sticky = cudaErrorECCUncorrectable);
    if (fails_now(0)) return answer(kind ? failure : cudaErrorUnknown);
    if (kind && fails_now(kind)) return answer(failure);
    return cudaSuccess;
}

#define ENTER(kind, failure)                                                                                           \
    std::lock_guard<std::recursive_mutex> held(lock);                                                                  \
    cudaError_t entered = enter(kind, failure);                                                                        \
    if (entered != cudaSuccess) return entered

enum { CALL, MALLOC, LAUNCH, COPY };

/* ---- streams ---- */

static EmuStream *stream_of(cudaStream_t stream) { return stream ? stream : &null_stream; }

static void step(EmuStream *s) {
    Work work = std::move(s->queue.front());
    s->queue.pop_front();
    pool_open();
    cudaError_t status = sticky == cudaSuccess ? work() : sticky;
    pool_close();
    s->done++;
    if (status != cudaSuccess) sticky = status;
}

static void run_until(EmuStream *s, uint64_t place) {
    while (s->done < place && !s->queue.empty()) step(s);
}

static cudaError_t enqueue(EmuStream *s, Work work) {
    if (s->captured) {
        s->captured->work.push_back(std::move(work));
        return cudaSuccess;
    }
    s->queue.push_back(std::move(work));
    s->enqueued++;
    static int eager = -1;
    if (eager < 0) eager = getenv("EMU_EAGER") != NULL;
    if (eager) run_until(s, s->enqueued);
    return answer(sticky);
}

static bool any_capture(void) {
    for (EmuStream *s : streams)
        if (s->captured) return true;
    return null_stream.captured != NULL;
}

static cudaError_t wait_all(EmuStream *s) {
    if (s->captured) return answer(cudaErrorStreamCaptureUnsupported);
    run_until(s, s->enqueued);
    pool_check();
    return answer(sticky);
}

static cudaError_t wait_everything(void) {
    for (EmuStream *s : streams) wait_all(s);
    return wait_all(&null_stream);
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    (void)flags;
    ENTER(CALL, cudaSuccess);
    *stream = new EmuStream();
    streams.push_back(*stream);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> held(lock);
    run_until(stream, stream->enqueued);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (long)i);
    delete stream->captured;
    delete stream;
    return answer(sticky);
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ENTER(CALL, cudaSuccess);
    return wait_all(stream_of(stream));
}

extern "C" cudaError_t cudaDeviceSynchronize(void) {
    ENTER(CALL, cudaSuccess);
    return wait_everything();
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream) {
    ENTER(CALL, cudaSuccess);
    EmuStream *s = stream_of(stream);
    if (s->queue.empty()) return answer(sticky);
    step(s); /* so that who polls gets there */
    return cudaErrorNotReady;
}

/* ---- events ---- */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    (void)flags;
    ENTER(CALL, cudaSuccess);
    *event = new EmuEvent();
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event) {
    std::lock_guard<std::recursive_mutex> held(lock);
    delete event;
    return cudaSuccess;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ENTER(CALL, cudaSuccess);
    EmuStream *s = stream_of(stream);
    std::shared_ptr<double> seconds = std::make_shared<double>(0.0);
    event->seconds = seconds;
    cudaError_t status = enqueue(s, [seconds] {
        *seconds = now();
        return cudaSuccess;
    });
    event->stream = s;
    event->place = s->enqueued;
    event->recorded = !s->captured;
    return status;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    (void)flags;
    ENTER(CALL, cudaSuccess);
    if (!event->recorded) return cudaSuccess;
    EmuStream *other = event->stream;
    uint64_t place = event->place;
    if (other == stream_of(stream)) return cudaSuccess;
    return enqueue(stream_of(stream), [other, place] {
        run_until(other, place);
        pool_open();
        return sticky;
    });
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    ENTER(CALL, cudaSuccess);
    if (event->recorded) run_until(event->stream, event->place);
    return answer(sticky);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event) {
    ENTER(CALL, cudaSuccess);
    if (!event->recorded || event->stream->done >= event->place) return answer(sticky);
    step(event->stream);
    return cudaErrorNotReady;
}

extern "C" cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    ENTER(CALL, cudaSuccess);
    if (!start->recorded || !end->recorded) return answer(cudaErrorInvalidValue);
    if (start->stream->done < start->place || end->stream->done < end->place) return cudaErrorNotReady;
    *milliseconds = (float)(1e3 * (*end->seconds - *start->seconds));
    return answer(sticky);
}

/* ---- graphs ---- */

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    (void)mode;
    ENTER(CALL, cudaSuccess);
    if (!stream || stream->captured) return answer(cudaErrorStreamCaptureUnsupported);
    stream->captured = new EmuGraph();
    return cudaSuccess;
}

/* A capture is over even where its end fails. */
extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    std::unique_ptr<EmuGraph> captured(stream ? stream->captured : NULL);
    if (stream) stream->captured = NULL;
    ENTER(CALL, cudaSuccess);
    if (!captured) return answer(cudaErrorStreamCaptureUnsupported);
    *graph = captured.release();
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    ENTER(CALL, cudaSuccess);
    *status = stream_of(stream)->captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
    (void)flags;
    ENTER(CALL, cudaSuccess);
    *exec = new EmuGraph(*graph);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    ENTER(LAUNCH, cudaErrorLaunchFailure);
    EmuGraph copy = *exec;
    return enqueue(stream_of(stream), [copy] {
        for (const Work &work : copy.work) {
            cudaError_t status = work();
            if (status != cudaSuccess) return status;
        }
        return cudaSuccess;
    });
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}

/* ---- launches ---- */

/* The arguments live as long as the launch may run, in a graph for good. */
struct HeldKernel {
    EmuKernel kernel;
    explicit HeldKernel(const EmuKernel *k) : kernel(*k) {}
    HeldKernel(const HeldKernel &) = delete;
    HeldKernel &operator=(const HeldKernel &) = delete;
    ~HeldKernel() { kernel.release(kernel.state); }
};

extern "C" cudaError_t emu_enqueue(const EmuKernel *kernel, cudaStream_t stream) {
    std::shared_ptr<HeldKernel> k = std::make_shared<HeldKernel>(kernel);
    ENTER(LAUNCH, cudaErrorLaunchOutOfResources);
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (kernel->shared > (size_t)most || kernel->block.x * kernel->block.y * kernel->block.z > MAX_THREADS)
        return answer(cudaErrorInvalidConfiguration);
    return enqueue(stream_of(stream), [k] { return emu_run(&k->kernel); });
}

extern "C" cudaError_t emu_enqueue_host(void (*call)(void *state), const void *state, size_t bytes,
                                        cudaStream_t stream) {
    ENTER(LAUNCH, cudaErrorLaunchOutOfResources);
    std::vector<char> copy((const char *)state, (const char *)state + bytes);
    return enqueue(stream_of(stream), [call, copy]() mutable {
        call(copy.data());
        return cudaSuccess;
    });
}

extern "C" bool emu_submit(Device *dev, Error *err, const EmuKernel *kernel) {
    cudaError_t status = emu_enqueue(kernel, cuda_stream(dev));
    if (status == cudaSuccess) return true;
    cuda_ok(status, "cudaLaunchKernel", err);
    return fail_in(err, "kernel %s, %u×%u×%u blocks of %u×%u×%u threads with %zu bytes of shared memory", kernel->name,
                   kernel->grid.x, kernel->grid.y, kernel->grid.z, kernel->block.x, kernel->block.y, kernel->block.z,
                   kernel->shared);
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
    (void)kernel, (void)attribute, (void)value;
    ENTER(CALL, cudaSuccess);
    return cudaSuccess;
}

extern "C" cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads,
                                                                     size_t shared) {
    (void)kernel;
    ENTER(CALL, cudaSuccess);
    int by_threads = 2048 / threads, by_shared = shared ? (int)(SHARED_MOST / shared) : 32;
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return cudaSuccess;
}

/* ---- memory ---- */

extern "C" cudaError_t cudaMalloc(void **memory, size_t bytes) {
    ENTER(MALLOC, cudaErrorMemoryAllocation);
    if (any_capture()) return answer(cudaErrorStreamCaptureUnsupported);
    *memory = bytes ? pool_take(bytes) : NULL;
    return *memory || !bytes ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}

/* As on a GPU it waits for everything, since something may still use the memory. */
extern "C" cudaError_t cudaFree(void *memory) {
    std::lock_guard<std::recursive_mutex> held(lock);
    if (any_capture()) return answer(cudaErrorStreamCaptureUnsupported);
    wait_everything();
    if (memory && !pool_give(memory)) {
        emu_report("cudaFree of what cudaMalloc did not give: %p", memory);
        return answer(cudaErrorInvalidDevicePointer);
    }
    return answer(sticky);
}

extern "C" cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags) {
    (void)flags;
    ENTER(MALLOC, cudaErrorMemoryAllocation);
    *memory = pinned_take(bytes);
    return *memory ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}

extern "C" cudaError_t cudaMallocHost(void **memory, size_t bytes) { return cudaHostAlloc(memory, bytes, 0); }

extern "C" cudaError_t cudaFreeHost(void *memory) {
    std::lock_guard<std::recursive_mutex> held(lock);
    wait_everything();
    return !memory || pinned_give(memory) ? answer(sticky) : answer(cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    ENTER(CALL, cudaSuccess);
    pool_info(available, total);
    return cudaSuccess;
}

static bool range_is_good(const void *at, size_t bytes, bool device, const char *what) {
    if (device ? emu_allocated(at, bytes) : !emu_in_pool(at)) return true;
    emu_report("%s: %p is %s memory, or %zu bytes from there are not all allocated", what, at,
               device ? "no device" : "device", bytes);
    return false;
}

static enum cudaMemcpyKind kind_from(const void *to, const void *from) {
    if (emu_in_pool(to)) return emu_in_pool(from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
    return emu_in_pool(from) ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, EmuStream *s) {
    if (!bytes) return cudaSuccess;
    if (kind == cudaMemcpyDefault) kind = kind_from(to, from);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!range_is_good(to, bytes, to_device, "a copy's target") ||
        !range_is_good(from, bytes, from_device, "a copy's source"))
        return answer(cudaErrorInvalidValue);
    bool pageable = (!to_device && !is_pinned(to)) || (!from_device && !is_pinned(from));
    if (pageable && s->captured) return answer(cudaErrorStreamCaptureUnsupported);
    if (!from_device && pageable) { /* read before the call returns */
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        return enqueue(s, [to, staged] {
            memcpy(to, staged.data(), staged.size());
            return cudaSuccess;
        });
    }
    cudaError_t status = enqueue(s, [to, from, bytes] {
        memmove(to, from, bytes);
        return cudaSuccess;
    });
    return !to_device && pageable ? wait_all(s) : status;
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                                       cudaStream_t stream) {
    ENTER(COPY, cudaErrorUnknown);
    return copy(to, from, bytes, kind, stream_of(stream));
}

extern "C" cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    ENTER(COPY, cudaErrorUnknown);
    wait_everything();
    cudaError_t status = copy(to, from, bytes, kind, &null_stream);
    return status == cudaSuccess ? wait_all(&null_stream) : status;
}

extern "C" cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                         size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
    ENTER(COPY, cudaErrorUnknown);
    for (size_t r = 0; r < height; r++) {
        cudaError_t status =
            copy((char *)to + r * to_pitch, (const char *)from + r * from_pitch, width, kind, stream_of(stream));
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
    ENTER(COPY, cudaErrorUnknown);
    if (!bytes) return cudaSuccess;
    if (!range_is_good(memory, bytes, true, "a fill's target")) return answer(cudaErrorInvalidValue);
    return enqueue(stream_of(stream), [memory, value, bytes] {
        memset(memory, value, bytes);
        return cudaSuccess;
    });
}

extern "C" cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
    cudaError_t status = cudaMemsetAsync(memory, value, bytes, NULL);
    return status == cudaSuccess ? cudaStreamSynchronize(NULL) : status;
}

/* ---- the device ---- */

extern "C" cudaError_t cudaGetDeviceCount(int *count) {
    ENTER(CALL, cudaSuccess);
    *count = getenv("EMU_NO_DEVICE") ? 0 : 1;
    return *count ? cudaSuccess : answer(cudaErrorNoDevice);
}

extern "C" cudaError_t cudaGetDevice(int *device) {
    ENTER(CALL, cudaSuccess);
    *device = 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaSetDevice(int device) {
    ENTER(CALL, cudaSuccess);
    return device == 0 ? cudaSuccess : answer(cudaErrorInvalidDevice);
}

extern "C" cudaError_t cudaSetDeviceFlags(unsigned flags) {
    (void)flags;
    ENTER(CALL, cudaSuccess);
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceReset(void) {
    ENTER(CALL, cudaSuccess);
    return wait_everything();
}

static int arch(void) {
    const char *asked = getenv("EMU_ARCH");
    return asked ? atoi(asked) : 90;
}

/* Gaming and inference GPUs (sm_86, sm_89) have less than their generation's large ones. */
static int shared_optin(void) { return (arch() >= 90 ? 227 : arch() == 80 ? 163 : 99) * 1024; }

extern "C" cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device) {
    ENTER(CALL, cudaSuccess);
    if (device) return answer(cudaErrorInvalidDevice);
    *prop = cudaDeviceProp();
    size_t available;
    snprintf(prop->name, sizeof prop->name, "emulated sm_%d", arch());
    pool_info(&available, &prop->totalGlobalMem);
    prop->major = arch() / 10, prop->minor = arch() % 10;
    prop->sharedMemPerBlock = 48 * 1024;
    prop->sharedMemPerBlockOptin = (size_t)shared_optin();
    prop->sharedMemPerMultiprocessor = (size_t)shared_optin() + 1024;
    prop->totalConstMem = 64 * 1024;
    prop->regsPerBlock = prop->regsPerMultiprocessor = 65536;
    prop->warpSize = WARP;
    prop->maxThreadsPerBlock = MAX_THREADS;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->maxBlocksPerMultiProcessor = 32;
    prop->maxGridSize[0] = 0x7fffffff, prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = MAX_THREADS, prop->maxThreadsDim[2] = 64;
    prop->multiProcessorCount = 4;
    prop->l2CacheSize = 4 << 20;
    prop->memoryBusWidth = 128;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    ENTER(CALL, cudaSuccess);
    if (device) return answer(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = MAX_THREADS;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = 48 * 1024;
        break;
    case cudaDevAttrWarpSize:
        *value = WARP;
        break;
    case cudaDevAttrClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = 4;
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = 128;
        break;
    case cudaDevAttrL2CacheSize:
        *value = 4 << 20;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = 2048;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = arch() / 10;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = arch() % 10;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = shared_optin() + 1024;
        break;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = 65536;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = shared_optin();
        break;
    default:
        return answer(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

/* ---- errors ---- */

extern "C" cudaError_t cudaGetLastError(void) {
    std::lock_guard<std::recursive_mutex> held(lock);
    cudaError_t status = last;
    last = sticky;
    return status;
}

extern "C" cudaError_t cudaPeekAtLastError(void) { return last; }

extern "C" const char *cudaGetErrorString(cudaError_t status) {
    switch (status) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidDevicePointer:
        return "invalid device pointer";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorECCUncorrectable:
        return "uncorrectable ECC error encountered";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorLaunchOutOfResources:
        return "too many resources requested for launch";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    default:
        return "unknown error";
    }
}

extern "C" const char *cudaGetErrorName(cudaError_t status) { return cudaGetErrorString(status); }
